//! What became of a commit of a payout.

use super::stored::StoredPayout;
use crate::domain::canonical::Hash;
use crate::ledger::decisions::stored::EntryPosition;

/// What became of a commit of a payout. Only the first is stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PayoutOutcome {
    /// It is stored, now or by an earlier commit of the same.
    Stored {
        /// The place of its entry in the chain.
        position: EntryPosition,
        /// The place of the decision that was stored with it.
        decision: Option<EntryPosition>,
        /// The payout's version now.
        version: u64,
    },
    /// The payout was registered before, for the same request.
    Replayed(Box<StoredPayout>),
    /// The payout was registered before, for another request.
    Conflict {
        /// The hash of that request.
        stored: Hash,
    },
    /// The `Idempotency-Key` was used for another payout of the namespace.
    KeyReused {
        /// That payout.
        payout_id: String,
    },
    /// Another act came first: apply this one to what is stored now. `None`: the payout is not stored.
    Changed(Option<Box<StoredPayout>>),
    /// The lease is lost: another replica follows payouts.
    Fenced,
    /// The commit contradicts what is stored: a defect of the caller.
    Invalid(&'static str),
    /// Not every open payout is under review yet, so that payouts cannot be resumed.
    NotReviewed,
}
