//! The interface of the audit.

use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

use super::adjustment::RouteAdjustment;
use super::entry::DecisionBatch;
use super::outcome::EntryOutcome;
use super::proposal::{ProposalFilter, StoredProposal};
use super::stored::{ChainEnds, ChainEntry, DecisionFilter, DecisionPage, LimitDay, StoredDecision};
use crate::domain::decision::{AttemptKey, DayUsage, Hash};
use crate::ledger::error::LedgerFuture;
use crate::ledger::lease::Lease;

/// Access to decisions and to what belongs to them. One chain for each ledger: replicas append in turn.
pub trait Decisions {
    /// Appends the entries of a batch in one transaction, in their order; the result has one outcome for each. A batch that
    /// is committed again, because the answer was lost, stores nothing twice: each of its entries that is stored keeps its
    /// place.
    ///
    /// # Errors
    /// Nothing of the batch is known to be stored; commit it again.
    fn commit_decisions(&self, batch: Arc<DecisionBatch>) -> LedgerFuture<'_, Vec<EntryOutcome>>;

    /// The decision with this ID.
    fn decision(&self, id: Uuid) -> LedgerFuture<'_, Option<StoredDecision>>;

    /// The decision of an attempt.
    fn decision_by_key<'a>(&'a self, key: &'a AttemptKey) -> LedgerFuture<'a, Option<StoredDecision>>;

    /// The decisions of a payout, by attempt.
    fn attempts<'a>(&'a self, namespace: &'a str, payout_id: &'a str) -> LedgerFuture<'a, Vec<StoredDecision>>;

    /// At most `limit` matching decisions with a number below `before`, newest first.
    fn list_decisions<'a>(
        &'a self,
        filter: &'a DecisionFilter,
        before: Option<u64>,
        limit: u32,
    ) -> LedgerFuture<'a, DecisionPage>;

    /// The canonical bytes of a snapshot that a stored decision names.
    fn snapshot(&self, id: Hash) -> LedgerFuture<'_, Option<Vec<u8>>>;

    /// What is used of daily limits, in the order of `days`.
    fn day_usages<'a>(&'a self, days: &'a [LimitDay]) -> LedgerFuture<'a, Vec<DayUsage>>;

    /// The adjustments in effect at `now`, in the order of their IDs.
    fn adjustments<'a>(&'a self, namespace: Option<&'a str>, now: Timestamp) -> LedgerFuture<'a, Vec<RouteAdjustment>>;

    /// Matching proposals, newest first.
    fn proposals<'a>(&'a self, filter: &'a ProposalFilter) -> LedgerFuture<'a, Vec<StoredProposal>>;

    /// At most `limit` entries with a number above `after_seq`, in the order of the chain.
    fn chain(&self, after_seq: u64, limit: u32) -> LedgerFuture<'_, Vec<ChainEntry>>;

    /// The ends of the chain.
    fn chain_head(&self) -> LedgerFuture<'_, ChainEnds>;

    /// Deletes at most `limit` entries from the beginning of the chain that are older than `before`, or of a time after `now`
    /// with an older one behind them, and appends a checkpoint that names the last of them, in one transaction; with them go
    /// the snapshots that no entry names any more, the counters of daily limits, expired adjustments and proposals, and scores
    /// of that age. Returns the number of entries deleted. Nothing is deleted while only checkpoints are that old.
    ///
    /// # Errors
    /// [`Fenced`](crate::ledger::error::LedgerError::Fenced): another process prunes; nothing is deleted.
    fn checkpoint_decisions<'a>(
        &'a self,
        lease: &'a Lease,
        before: Timestamp,
        limit: u32,
        now: Timestamp,
    ) -> LedgerFuture<'a, u64>;
}
