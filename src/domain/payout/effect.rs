//! What follows from an input: what is to be stored, called and told. Pure.

use super::evidence::Evidence;
use super::followed::Payout;
use super::gate::Unresolved;
use super::state::{AttemptState, HoldReason};
use crate::domain::closed_list::closed_list;
use crate::domain::event::EventType;

/// What becomes of a payout by an input.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Applied {
    /// The payout then. Equal to the one before if nothing changed.
    pub payout: Payout,
    /// What is to be done once the payout is stored, and never before.
    pub effects: Vec<Effect>,
    /// The changes of state, for the timeline, in order.
    pub transitions: Vec<Transition>,
    /// Why the input was refused; `None`: it was not. A refused input changes nothing.
    pub refused: Option<Refusal>,
}

/// Something to be done once the payout is stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Ask the bank for the status of this attempt.
    Inquire {
        /// The attempt.
        attempt_no: u32,
    },
    /// Ask the bank to cancel this attempt, with [`recall_key`](super::followed::Attempt::recall_key).
    Recall {
        /// The attempt.
        attempt_no: u32,
    },
    /// Decide the next attempt: the last one is proven not to have been executed.
    ProposeReroute {
        /// The number of the attempt to decide.
        attempt_no: u32,
    },
    /// No attempt is allowed any more.
    Freeze,
    /// Page a person at once.
    Page {
        /// Why.
        reason: HoldReason,
    },
    /// Store this event in the outbox, in the payout's own transaction.
    Emit(EventType),
    /// Append the acts of people to the audit, in the payout's own transaction.
    Audit,
}

/// A change of an attempt, for the timeline.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transition {
    /// The attempt.
    pub attempt_no: u32,
    /// Its state before.
    pub from: AttemptState,
    /// Its state now; the same as `from` for evidence that did not change it.
    pub to: AttemptState,
    /// What the change rests on.
    pub evidence: Evidence,
    /// Why it is held, in the state `manual_review`.
    pub hold: Option<HoldReason>,
}

/// Why an input was refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// The gate refuses the attempt.
    #[error(transparent)]
    Gate(#[from] Unresolved),
    /// There is another reason.
    #[error("{reason}: {}", .reason.meaning())]
    Payout {
        /// The reason.
        reason: PayoutRefusal,
    },
}

closed_list!(
    "refusal of an act on a payout",
    /// Why an act on a payout is refused.
    PayoutRefusal {
        UnknownAttempt = "unknown_attempt": "The payout has no attempt of that number." => "Read the payout and name one of its attempts.",
        AlreadyFinal = "already_final": "The fate of the attempt is known." => "None.",
        NotStuck = "not_stuck": "An attempt is on its way, and it is not late." => "Wait until the payout is stuck or held.",
        RecallSent = "recall_sent": "The bank was asked to cancel the attempt." => "Do not send; wait for the bank's answer.",
        Frozen = "frozen": "The payout was, or may have been, paid twice." => "Settle the duplicate with the banks, then resume the payout.",
        NotFrozen = "not_frozen": "The payout is neither frozen nor held as a whole." => "None.",
        NoInquiry = "no_inquiry": "The bank offers no status inquiry." => "Ask the bank, and resolve the payout with its evidence.",
        NoRecall = "no_recall": "The bank offers no recall." => "Ask the bank, and resolve the payout with its evidence.",
        AboveLimit = "above_limit": "The amount is above the limit up to which people may accept the risk of a duplicate." => "Resolve the payout with the bank's evidence.",
        Executed = "executed": "An attempt was executed; a further one would be a duplicate." => "Do not send the payout again.",
        NothingOpen = "nothing_open": "Every attempt is proven not to have been executed." => "Decide the next attempt; no acceptance is needed.",
        SameSubject = "same_subject": "The same person did it before; a second person is needed." => "Let another person do it.",
        NoSubject = "no_subject": "The act has no person." => "Call with a token of a person.",
        NoEvidence = "no_evidence": "The resolution names no message of the bank." => "Give the reference or the hash of the bank's message.",
        WindowOver = "window_over": "The bank may have forgotten the idempotency key: sending again would be a new payment." => "Do not send; wait for the inquiry.",
        EndpointChanged = "endpoint_changed": "The connection of the attempt leads to another endpoint or account than when it was decided, or it does not run." => "Do not send; restore the connection, or wait for the inquiry.",
        NoWindow = "no_window": "The bank does not deduplicate by idempotency key." => "Do not send; wait for the inquiry.",
    }
);
