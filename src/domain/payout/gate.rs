//! Whether a payout may be attempted once more, and whether an attempt may be sent once more: only with proof that no
//! earlier one was executed. The only place that decides it. Pure and total.
//!
//! A payout whose fate is unknown is never sent again. Proof is a state of the followed attempt that says "not
//! executed", which rests on evidence; for an attempt that is not followed it is the caller's own outcome `not_sent` or
//! `rejected`, unless a later outcome contradicts it. The expiry of a decision is none: it does not say whether the
//! payout was sent.

use super::mutant;
use super::outcome::OutcomeClass;
use super::state::AttemptState;
use crate::domain::closed_list::closed_list;

/// An attempt that was decided earlier.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EarlierAttempt {
    /// Its number.
    pub attempt_no: u32,
    /// Its outcomes, in the order of their receipt.
    pub outcomes: Vec<OutcomeClass>,
    /// How it stands, if its payout is followed. Then the outcomes are inputs of its state.
    pub followed: Option<FollowedAttempt>,
}

/// How an attempt of a followed payout stands.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct FollowedAttempt {
    /// Whether its payout is frozen.
    pub frozen: bool,
    /// The attempt for which two people accepted the risk that it is a duplicate of this one.
    pub risk_accepted_for: Option<u32>,
    /// Its state.
    pub state: AttemptState,
}

/// An attempt that is not allowed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("attempt {attempt_no} {why}")]
pub struct Unresolved {
    /// The attempt that stands in the way; the requested one if its number is wrong.
    pub attempt_no: u32,
    /// Why.
    pub why: UnresolvedReason,
}

/// Why an attempt is not allowed.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum UnresolvedReason {
    /// Its number does not follow the last one.
    #[error("does not follow the last one; request attempt_no {expected}")]
    OutOfOrder {
        /// The number that follows.
        expected: u32,
    },
    /// There is no outcome.
    #[error("has no outcome; report not_sent or rejected for it once that is certain")]
    NoOutcome,
    /// There is an outcome, and it is no proof.
    #[error("may have been executed (outcome {last}); report not_sent or rejected for it once that is certain")]
    NoProof {
        /// The last outcome.
        last: OutcomeClass,
    },
    /// There was a proof, and a later outcome contradicts it.
    #[error("has contradictory outcomes ({contradiction} after not_sent or rejected); resolve it with the bank")]
    Contradicted {
        /// The later outcome.
        contradiction: OutcomeClass,
    },
    /// It was executed.
    #[error("was executed (outcome success); the payout must not be sent again")]
    Executed,
    /// It is followed, and its fate is open.
    #[error("is {state} and may have been executed; see the payout's timeline, or resolve it with the bank's evidence")]
    Open {
        /// Its state.
        state: AttemptState,
    },
    /// Its payout is frozen.
    #[error("belongs to a frozen payout; settle the duplicate with the banks, then resume the payout")]
    Frozen,
}

closed_list!(
    "obstacle of an attempt",
    /// Why an attempt is not allowed, without its details.
    AttemptObstacle {
        OutOfOrder = "out_of_order": "The number of the attempt does not follow the last one." => "Request attempt_no 1 first, and then each number once.",
        NoOutcome = "no_outcome": "An earlier attempt has no outcome; the expiry of its decision is none." => "Report not_sent or rejected for it once that is certain.",
        NoProof = "no_proof": "An earlier attempt may have been executed." => "Report not_sent or rejected for it once that is certain.",
        Contradicted = "contradicted": "An earlier attempt has an outcome that contradicts an earlier `not_sent` or `rejected`." => "Resolve it with the bank, and report `not_sent` or `rejected` again, with a later `at` or none, once that is certain.",
        Executed = "executed": "An earlier attempt succeeded." => "Do not send the payout again.",
        Open = "open": "An earlier attempt is followed, and whether it was executed is not known yet." => "Wait for the event payout.rerouted, or resolve the payout with the bank's evidence.",
        Frozen = "frozen": "The payout was, or may have been, paid twice." => "Settle the duplicate with the banks, then resume the payout.",
    }
);

impl UnresolvedReason {
    /// The reason without its details.
    pub const fn obstacle(self) -> AttemptObstacle {
        match self {
            Self::OutOfOrder { .. } => AttemptObstacle::OutOfOrder,
            Self::NoOutcome => AttemptObstacle::NoOutcome,
            Self::NoProof { .. } => AttemptObstacle::NoProof,
            Self::Contradicted { .. } => AttemptObstacle::Contradicted,
            Self::Executed => AttemptObstacle::Executed,
            Self::Open { .. } => AttemptObstacle::Open,
            Self::Frozen => AttemptObstacle::Frozen,
        }
    }

    /// The reason as written in answers.
    pub const fn as_str(self) -> &'static str {
        self.obstacle().as_str()
    }
}

/// Whether attempt `attempt_no` may be made after the `earlier` ones, in any order.
///
/// # Errors
/// The first earlier attempt, by number, that may have been executed, or the number if it does not follow the last one.
pub fn may_attempt(attempt_no: u32, earlier: &[EarlierAttempt]) -> Result<(), Unresolved> {
    let unresolved = earlier.iter().filter_map(|attempt| Some((attempt.attempt_no, obstacle(attempt_no, attempt)?)));
    let first = unresolved.min_by_key(|(number, _)| *number);
    let last = earlier.iter().map(|attempt| attempt.attempt_no).max().unwrap_or_default();
    let expected = last.saturating_add(1);
    if attempt_no != expected {
        return Err(Unresolved { attempt_no, why: UnresolvedReason::OutOfOrder { expected } });
    }
    first.map_or(Ok(()), |(attempt_no, why)| Err(Unresolved { attempt_no, why }))
}

/// Why there is no proof that an earlier attempt was not executed, when attempt `wanted` is to be made.
fn obstacle(wanted: u32, attempt: &EarlierAttempt) -> Option<UnresolvedReason> {
    let Some(followed) = attempt.followed else { return obstacle_of_outcomes(&attempt.outcomes) };
    if followed.frozen {
        return Some(UnresolvedReason::Frozen);
    }
    // The submitter's word that the payout was executed closes the gate even before it reaches the state.
    if followed.state == AttemptState::Confirmed || attempt.outcomes.contains(&OutcomeClass::Success) {
        return Some(UnresolvedReason::Executed);
    }
    let is_allowed = followed.state.is_not_executed()
        || followed.risk_accepted_for == Some(wanted)
        || mutant::is_time_out_proof(followed.state);
    (!is_allowed).then_some(UnresolvedReason::Open { state: followed.state })
}

/// Why the outcomes of an attempt are no proof that it was not executed.
fn obstacle_of_outcomes(outcomes: &[OutcomeClass]) -> Option<UnresolvedReason> {
    if outcomes.contains(&OutcomeClass::Success) {
        return Some(UnresolvedReason::Executed);
    }
    let Some(&last) = outcomes.last() else { return Some(UnresolvedReason::NoOutcome) };
    let Some(proof) = outcomes.iter().rposition(|outcome| outcome.is_proof()) else {
        return Some(UnresolvedReason::NoProof { last });
    };
    let contradiction = outcomes.iter().skip(proof).find(|outcome| outcome.contradicts());
    contradiction.map(|&contradiction| UnresolvedReason::Contradicted { contradiction })
}
