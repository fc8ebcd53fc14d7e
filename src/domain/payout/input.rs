//! What happens to a payout. Pure.

use jiff::Timestamp;

use super::bank_status::BankStatus;
use super::evidence::Evidence;
use super::outcome::OutcomeClass;
use super::plan::AttemptPlan;
use super::resolution::Resolution;

/// What happens to a payout. The list is closed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PayoutInput {
    /// The next attempt is decided: it is stored if the gate allows it.
    Attempt(Box<AttemptPlan>),
    /// The bank or the submitter says something of an attempt.
    Report {
        /// The attempt.
        attempt_no: u32,
        /// What is said.
        report: BankReport,
        /// By whom.
        evidence: Evidence,
    },
    /// The submitter asks whether it may send an attempt once more, with the same key and body.
    RequestResend {
        /// The attempt.
        attempt_no: u32,
        /// The submitter.
        evidence: Evidence,
        /// What the attempt's connection leads to now: see [`BankPromises::target`](super::BankPromises::target).
        target: String,
    },
    /// A person asks for an inquiry now.
    RequestInquiry {
        /// The attempt.
        attempt_no: u32,
        /// The person.
        evidence: Evidence,
    },
    /// A person asks for a recall now.
    RequestRecall {
        /// The attempt.
        attempt_no: u32,
        /// The person.
        evidence: Evidence,
    },
    /// A person accepts the risk that the next attempt is a duplicate. Two different people are needed.
    AcceptDuplicateRisk {
        /// The person: `evidence.subject`.
        evidence: Evidence,
    },
    /// A person says what became of an attempt. A state that says "not executed" needs two different people.
    Resolve {
        /// The attempt.
        attempt_no: u32,
        /// What became of it.
        resolution: Resolution,
        /// The person, and the hash or the reference of the bank's message.
        evidence: Evidence,
    },
    /// A person releases the payout: it is not frozen any more.
    Resume {
        /// The person.
        evidence: Evidence,
    },
    /// The next attempt was proposed and not decided: it costs more than the route allows without a person.
    CostsMore,
    /// Time passed.
    Tick,
    /// The ledger was restored with loss: every open attempt is held.
    RestoreWithLoss,
}

/// What is said of an attempt.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum BankReport {
    /// The submitter sent it.
    Submitted,
    /// The bank acknowledged it.
    Ack,
    /// The bank did not answer the submitter (time-out, 5xx).
    Silence,
    /// The submitter certainly did not send it, and will not.
    NotSent,
    /// A status, in answer to an inquiry or pushed by the bank.
    Status(BankStatus),
    /// The bank does not know it (404).
    NotFound,
    /// The bank did not answer the inquiry.
    InquirySilence,
    /// The bank accepted the recall.
    CancelAccepted {
        /// Whether it says that the money is back, or never left.
        funds_back: bool,
    },
    /// The bank refused the recall (RJCR).
    CancelRefused,
    /// The bank has not decided on the recall (PDCR).
    CancelPending,
    /// The bank did not answer the recall.
    CancelSilence,
    /// The bank confirmed the execution.
    Confirmation,
    /// The account's statement has no debit for it.
    StatementWithoutDebit {
        /// The statement is complete up to here.
        through: Timestamp,
    },
}

impl BankReport {
    /// Whether it says that the payout was not executed, or came back: what another attempt may rest on.
    pub const fn denies_execution(self) -> bool {
        use BankStatus::{Cancelled, NeverReceived, Open, Rejected, Returned, Settled};
        match self {
            Self::Status(Rejected | Cancelled | Returned | NeverReceived)
            | Self::NotSent
            | Self::NotFound
            | Self::CancelAccepted { .. }
            | Self::StatementWithoutDebit { .. } => true,
            Self::Status(Settled | Open)
            | Self::Submitted
            | Self::Ack
            | Self::Silence
            | Self::InquirySilence
            | Self::CancelRefused
            | Self::CancelPending
            | Self::CancelSilence
            | Self::Confirmation => false,
        }
    }

    /// What an outcome that the submitter reports says of the attempt; `None`: nothing of its execution.
    pub const fn from_outcome(class: OutcomeClass) -> Option<Self> {
        Some(match class {
            OutcomeClass::Success => Self::Confirmation,
            OutcomeClass::BankFailure | OutcomeClass::Timeout => Self::Silence,
            OutcomeClass::Pending => Self::Ack,
            OutcomeClass::NotSent => Self::NotSent,
            OutcomeClass::Rejected => Self::Status(BankStatus::Rejected),
            OutcomeClass::Throttle | OutcomeClass::CustomerFault => return None,
        })
    }
}
