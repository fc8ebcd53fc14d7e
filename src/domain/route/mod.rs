//! Choice of the bank for a payout: filter, then lowest cost, highest success, highest score, name. Pure and total.
//!
//! - [`payout`], [`candidate`], [`rules`], [`rates`]: what is asked, of which banks, by which rules.
//! - [`prediction`]: what is predicted of a bank, and what that changes.
//! - `expectation`, `assessment`, `standing`: what is expected of a bank, what it costs then, and where it stands.
//! - `exclusion`: why a bank cannot take the payout at all; always before cost.
//! - [`fee`](mod@fee), [`cost`](mod@cost): what it costs, in exact decimals.
//! - [`connection_state`]: what the state of a candidate's connection means.
//! - [`choice`]: the choice; [`evaluation`]: its result, with a reason for every candidate.
//! - [`change`](mod@change): what a change of the active bank is.

mod assessment;
pub mod candidate;
pub mod change;
pub mod choice;
pub mod connection_state;
pub mod cost;
pub mod evaluation;
mod exclusion;
mod expectation;
pub mod fee;
pub mod payout;
pub mod prediction;
pub mod rates;
pub mod reason;
pub mod route_match;
pub mod rules;
mod standing;
#[cfg(test)]
mod tests;

pub use self::assessment::{Considered, EvaluationInput};
pub use self::candidate::{Candidate, CandidateHealth, Tier, UNKNOWN_SUCCESS};
pub use self::change::{RouteChange, change, failover_reason};
pub use self::choice::{evaluate, evaluate_considered};
pub use self::connection_state::ConnectionState;
pub use self::cost::{Cost, CostModel};
pub use self::evaluation::{CandidateStanding, Evaluation, Incumbent, IneffectivePin, Proposal, StandingState};
pub use self::fee::{Fee, fee};
pub use self::payout::Payout;
pub use self::prediction::{CandidatePrediction, ForecastUse};
pub use self::rates::{PairRate, Rates};
pub use self::reason::CandidateReason;
pub use self::route_match::RouteMatch;
pub use self::rules::{Adjustment, AdjustmentScope, Approval, Hysteresis, Pin, PinSource, RouteMode, RouteRules};
