//! Choice of the bank for a payout: filter, then lowest cost, highest success, highest score, name. Pure and total.
//!
//! - [`payout`], [`candidate`], [`rules`], [`rates`]: what is asked, of which banks, by which rules.
//! - `exclusion`: why a bank cannot take the payout at all; always before cost.
//! - [`fee`](mod@fee), [`cost`](mod@cost): what it costs, in exact decimals.
//! - [`evaluation`]: the choice, with a reason for every candidate.
//! - [`change`](mod@change): what a change of the active bank is.

pub mod candidate;
pub mod change;
pub mod cost;
pub mod evaluation;
mod exclusion;
pub mod fee;
pub mod payout;
pub mod rates;
pub mod reason;
pub mod rules;
#[cfg(test)]
mod tests;

pub use self::candidate::{Candidate, CandidateHealth, Tier, UNKNOWN_SUCCESS};
pub use self::change::{RouteChange, change};
pub use self::cost::{Cost, CostModel};
pub use self::evaluation::{CandidateStanding, Evaluation, Incumbent, StandingState, evaluate};
pub use self::fee::{Fee, fee};
pub use self::payout::Payout;
pub use self::rates::Rates;
pub use self::reason::CandidateReason;
pub use self::rules::{Adjustment, AdjustmentScope, Hysteresis, Pin, RouteRules};
