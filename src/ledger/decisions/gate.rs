//! What the gate of further attempts sees of a payout: its decisions, and how it stands if it is followed.

use super::outcome::verdict;
use super::stored::StoredDecision;
use crate::domain::decision::EarlierAttempt;
use crate::domain::payout::Payout;

/// The attempts of a payout. One whose decision is past its retention is there all the same, if the payout is followed.
pub(crate) fn earlier_attempts(decisions: &[StoredDecision], payout: Option<&Payout>) -> Vec<EarlierAttempt> {
    let mut attempts: Vec<EarlierAttempt> = decisions.iter().map(StoredDecision::attempt).collect();
    for followed in payout.into_iter().flat_map(Payout::earlier_attempts) {
        match attempts.iter_mut().find(|attempt| attempt.attempt_no == followed.attempt_no) {
            Some(attempt) => attempt.followed = followed.followed,
            None => attempts.push(followed),
        }
    }
    attempts
}

/// Whether the payout of the attempt is known not to have been made: what the gate asks of it.
pub(crate) fn is_proven(attempt: &EarlierAttempt) -> bool {
    verdict(attempt).is_none()
}
