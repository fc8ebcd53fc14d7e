//! What became of an entry.

use uuid::Uuid;

use super::proposal::{ProposalState, StoredProposal};
use super::stored::{EntryPosition, StoredDecision};
use crate::domain::decision::{AttemptObstacle, DayUsage, EarlierAttempt, Hash, OutcomeClass, Unresolved, may_attempt};
use crate::ledger::payouts::outcome::PayoutOutcome;
use crate::ledger::payouts::stored::StoredPayout;

/// Outcomes of a decision: each report, each further attempt and each replay reads them. Beyond it only one that changes
/// whether the payout may be attempted again is stored.
pub const MAX_OUTCOMES: usize = 256;

/// What became of an entry. Only the first two, and [`PayoutOutcome::Stored`], are stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EntryOutcome {
    /// It is stored, now or by an earlier commit of the same entry.
    Stored(EntryPosition),
    /// The outcome is stored.
    OutcomeStored {
        /// Its place.
        position: EntryPosition,
        /// The decision, without its outcomes.
        decision: Box<StoredDecision>,
        /// Its outcomes before this one, in the order of their receipt.
        earlier: Vec<OutcomeClass>,
        /// It was stored by an earlier commit.
        repeated: bool,
        /// What is stored is equal even in its time and caller: it may be this entry, of a commit whose answer was lost.
        is_equal: bool,
    },
    /// The attempt was decided before, for the same request.
    Replayed(Box<StoredDecision>),
    /// The attempt was decided before, for another request.
    Conflict {
        /// The hash of that request.
        stored: Hash,
    },
    /// An earlier attempt is not known to have failed.
    Unresolved(Unresolved),
    /// The bank's daily limit does not admit it.
    LimitReached(DayUsage),
    /// The decision to override has been replaced.
    Superseded {
        /// By this one.
        by: Uuid,
    },
    /// What it refers to is not stored.
    NotFound,
    /// The decision has as many outcomes as are accepted, and this one changes nothing.
    OutcomesFull,
    /// The namespace has as many adjustments as are accepted.
    TooManyAdjustments,
    /// Another proposal of the route is pending.
    ProposalPending(Box<StoredProposal>),
    /// The proposal is settled.
    ProposalSettled(ProposalState),
    /// What became of a followed payout.
    Payout(PayoutOutcome),
    /// The payout of a decision is followed: its next attempt is to be stored with it ([`NewEntry::Attempt`]).
    ///
    /// [`NewEntry::Attempt`]: super::entry::NewEntry::Attempt
    Followed(Box<StoredPayout>),
    /// Newer entries of the ledger were lost, and no person has resumed payouts since.
    PayoutsSuspended,
}

/// What stands in the way of the next attempt; `None`: the payout of this one is known not to have been made.
pub(crate) fn verdict(attempt: &EarlierAttempt) -> Option<AttemptObstacle> {
    let next = may_attempt(attempt.attempt_no.saturating_add(1), std::slice::from_ref(attempt));
    next.err().map(|unresolved| unresolved.why.obstacle())
}
