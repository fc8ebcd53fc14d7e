//! `/api/treasury/payouts`: payouts that are followed from the decision to the proof.
//!
//! The handlers check form and rights and print results; what becomes of a payout is
//! [`domain::payout`](crate::domain::payout)'s to say, and [`crate::routing::payouts`] stores it. `target` reads the path and
//! holds the rights, [`view`] prints payouts.

pub mod acts;
pub mod attempts;
mod bank_words;
pub mod confirmations;
pub(super) mod errors;
pub mod read;
pub mod register;
pub mod resume;
mod target;
pub mod view;
