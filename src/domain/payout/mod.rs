//! Payouts from the decision to the proof: the states of each attempt, what each rests on, and the gate that lets a
//! payout be attempted once more only with proof that it was not executed. Pure and total.
//!
//! - [`state`], [`evidence`], [`bank_status`], [`outcome`]: the words.
//! - [`plan`], [`followed`], [`promises`], [`resolution`]: what is stored.
//! - [`input`], [`effect`], [`apply`](mod@apply): the state machine.
//! - [`gate`]: the only place that decides whether an attempt is allowed.

pub mod apply;
pub mod bank_status;
pub mod effect;
pub mod events;
pub mod evidence;
pub mod followed;
pub mod gate;
pub mod input;
mod ladder;
mod machine;
pub(crate) mod mutant;
pub mod outcome;
mod people;
pub mod plan;
pub mod promises;
mod proof;
mod report;
pub mod resend;
pub mod resolution;
pub mod state;
#[cfg(test)]
mod tests;
mod tick;

pub use self::apply::{apply, register};
pub use self::bank_status::BankStatus;
pub use self::effect::{Applied, Effect, PayoutRefusal, Refusal, Transition};
pub use self::events::{payout_aggregate, payout_events};
pub use self::evidence::{Evidence, EvidenceSource};
pub use self::followed::{Attempt, NewPayout, Payout, attempt_id};
pub use self::gate::{AttemptObstacle, EarlierAttempt, FollowedAttempt, Unresolved, UnresolvedReason, may_attempt};
pub use self::input::{BankReport, PayoutInput};
pub use self::outcome::OutcomeClass;
pub use self::plan::AttemptPlan;
pub use self::promises::{BankPromises, StuckPolicy, StuckRules};
pub use self::resend::may_resend;
pub use self::resolution::{ProposedResolution, Resolution};
pub use self::state::{AttemptState, HoldReason, PayoutState};
