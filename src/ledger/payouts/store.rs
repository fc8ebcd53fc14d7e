//! The interface of payouts.

use std::sync::Arc;

use futures::FutureExt as _;
use jiff::Timestamp;
use uuid::Uuid;

use super::commit::PayoutCommit;
use super::stored::{DuePayout, PayoutCounts, PayoutFilter, PayoutPage, StoredPayout, TimelineRow};
use crate::ledger::decisions::entry::{DecisionBatch, NewEntry};
use crate::ledger::decisions::outcome::EntryOutcome;
use crate::ledger::decisions::store::Decisions;
use crate::ledger::error::LedgerFuture;
use crate::ledger::lease::Lease;

/// Access to payouts. They are written by [`commit_decisions`](Decisions::commit_decisions), in groups with decisions.
pub trait Payouts: Decisions + Sync {
    /// Commits one act, in a transaction of its own: see
    /// [`commit_decisions`](crate::ledger::decisions::Decisions::commit_decisions). The outcome is
    /// [`Payout`](EntryOutcome::Payout), or what the gate says.
    ///
    /// # Errors
    /// Nothing is known to be stored; commit the same again.
    fn commit_payout(&self, commit: PayoutCommit) -> LedgerFuture<'_, EntryOutcome> {
        let entries = vec![NewEntry::Payout(Box::new(commit))];
        let committed = self.commit_decisions(Arc::new(DecisionBatch { entries }));
        async move { Ok(committed.await?.pop().unwrap_or(EntryOutcome::NotFound)) }.boxed()
    }

    /// The payout.
    fn payout<'a>(&'a self, namespace: &'a str, payout_id: &'a str) -> LedgerFuture<'a, Option<StoredPayout>>;

    /// The payout with this attempt, by the attempt's ID or by that of its decision.
    fn payout_by_attempt(&self, id: Uuid) -> LedgerFuture<'_, Option<StoredPayout>>;

    /// What happened to a payout, oldest first: at most `limit` rows of entries with a number above `after_seq`, and all
    /// rows of the last of them.
    fn payout_timeline<'a>(
        &'a self,
        namespace: &'a str,
        payout_id: &'a str,
        after_seq: u64,
        limit: u32,
    ) -> LedgerFuture<'a, Vec<TimelineRow>>;

    /// At most `limit` matching payouts that were registered before the one with the number `before`, newest first.
    fn list_payouts<'a>(
        &'a self,
        filter: &'a PayoutFilter,
        before: Option<u64>,
        limit: u32,
    ) -> LedgerFuture<'a, PayoutPage>;

    /// At most `limit` payouts that something is to be done about at `now`, the longest due first; those after `after`, if
    /// given. Reads an index alone.
    fn due_payouts<'a>(
        &'a self,
        now: Timestamp,
        after: Option<&'a DuePayout>,
        limit: u32,
    ) -> LedgerFuture<'a, Vec<DuePayout>>;

    /// When something is to be done next about any payout; `None`: never.
    fn next_payout_due(&self) -> LedgerFuture<'_, Option<Timestamp>>;

    /// How many payouts and attempts are not final.
    fn payout_counts(&self) -> LedgerFuture<'_, PayoutCounts>;

    /// At most `limit` payouts that were not put under review since newer entries of the ledger were lost: all that were not
    /// executed then. None if no entries were lost. See [`hold_open_payouts`](super::restore::hold_open_payouts).
    fn unreviewed_payouts(&self, limit: u32) -> LedgerFuture<'_, Vec<StoredPayout>>;

    /// Whether no payout is registered and none is decided, because newer entries of the ledger were lost: until
    /// [`NewEntry::ResumePayouts`].
    fn payouts_suspended(&self) -> LedgerFuture<'_, bool>;

    /// Deletes at most `limit` payouts that are final and did not change since `before`, with their attempts and their
    /// timeline; returns the number deleted. What is open is never deleted.
    ///
    /// # Errors
    /// [`Fenced`](crate::ledger::error::LedgerError::Fenced): another process prunes; nothing is deleted.
    fn prune_payouts<'a>(&'a self, lease: &'a Lease, before: Timestamp, limit: u32) -> LedgerFuture<'a, u64>;
}
