//! The error of an act that the state of a payout does not allow.

use crate::domain::payout::{Payout, Refusal};
use crate::gateway::error_code::ErrorCode;
use crate::gateway::problem::Problem;

/// The error of a refused act: the gate's is that of a decision.
pub(crate) fn refused(text: String, payout: &Payout, refusal: &Refusal) -> Problem {
    match refusal {
        Refusal::Gate(unresolved) => Problem::new(ErrorCode::AttemptUnresolved, text)
            .with("attempt_no", unresolved.attempt_no)
            .with("reason", unresolved.why.as_str()),
        Refusal::Payout { reason } => Problem::new(ErrorCode::PayoutRefused, text)
            .with("payout_id", &*payout.payout_id)
            .with("state", payout.state().as_str())
            .with("reason", reason.as_str()),
    }
}
