//! Decisions on payouts as processes see them: killed while they are made, audited offline, made again elsewhere.

mod determinism;
mod env;
mod explain;
mod kill;
mod late_choices;
mod random_pairs;
mod restored;
mod tampered;
