//! The interface of a ledger, whatever its engine.

use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::Timestamp;

use super::audit::{Audit, Usage};
use super::credentials::CredentialStore;
use super::dead_requests::DeadRequests;
use super::decisions::Decisions;
use super::delivery::{Consumers, Deliveries, RateBuckets, Webhooks};
use super::document::StoredDocument;
use super::epoch::EpochStore;
use super::error::{LedgerError, LedgerFuture};
use super::health::HealthReceiver;
use super::lease::{Lease, LeaseStore};
use super::outbox::Outbox;
use super::page::{PageCommit, PageCounts, PageOutcome};
use super::payouts::store::Payouts;
use super::probes::{ProbeResult, StoredProbe};
use super::queries::Queries;
use super::quotas::Quotas;
use super::raw::{DeadLetters, RawPayloads};
use super::record::{ReplaceIdentity, StoredTransaction, TransactionFilter};
use super::requests::RunRequests;
use super::runs::{JobHistory, RunEnd, RunStart};
use super::scores::Scores;
use super::sources::{Erasure, ExistingJobs, SourceAdoption};
use crate::domain::cursor::{CursorKey, CursorState};
use crate::domain::key::ObjectKey;
use crate::domain::run_reason::RunReason;

/// How to open a store.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Create it if missing and migrate its schema.
    Migrate,
    /// Write to it without migrating: an older schema is an error.
    Existing,
    /// Read only, while another process writes.
    ReadOnly,
}

/// The durable store. Every method is atomic: it takes effect entirely or not at all. An error does not outlive its cause:
/// when the store accepts writes again, the next call succeeds.
pub trait Ledger:
    LeaseStore
    + CredentialStore
    + Audit
    + Usage
    + DeadRequests
    + Quotas
    + Queries
    + EpochStore
    + RawPayloads
    + DeadLetters
    + Outbox
    + RunRequests
    + Decisions
    + Payouts
    + Consumers
    + Deliveries
    + Webhooks
    + RateBuckets
    + Scores
    + Send
    + Sync
    + 'static
{
    /// A job's cursor in a partition; `None` before its first page.
    fn load_cursor<'a>(&'a self, key: &'a CursorKey) -> LedgerFuture<'a, Option<CursorState>>;

    /// The page transaction: checks fence and version, upserts rows whose content changed, stores the dead letters,
    /// advances the cursor and the run's counters.
    ///
    /// # Errors
    /// [`Fenced`](super::error::LedgerError::Fenced) and
    /// [`VersionConflict`](super::error::LedgerError::VersionConflict) mean that another process writes: stop. After any
    /// other error nothing of the page is committed.
    fn commit_page<'a>(&'a self, page: PageCommit<'a>) -> LedgerFuture<'a, PageOutcome> {
        let expected = page.state.version;
        let committed = self.commit_pages(vec![page]);
        async move { committed.await?.pop().ok_or(LedgerError::VersionConflict { expected }) }.boxed()
    }

    /// The page transaction of consecutive pages of one cursor: all of them are committed, or none. Each page expects the
    /// version that the one before it leaves. Returns the outcome of each.
    ///
    /// # Errors
    /// As of [`commit_page`](Self::commit_page).
    fn commit_pages<'a>(&'a self, pages: Vec<PageCommit<'a>>) -> LedgerFuture<'a, Vec<PageOutcome>>;

    /// What [`commit_page`](Self::commit_page) would change. Nothing is committed.
    ///
    /// # Errors
    /// As of the commit.
    fn preview_page<'a>(&'a self, page: PageCommit<'a>) -> LedgerFuture<'a, PageCounts>;

    /// Records the start of a run if `lease` still holds; unfinished runs of the job become
    /// [`Interrupted`](super::runs::RunResult::Interrupted), and the oldest ended runs are deleted. `false`, and nothing
    /// is written, if the run or its slot was recorded before.
    ///
    /// # Errors
    /// [`Fenced`](super::error::LedgerError::Fenced): another process runs the job; its run is not touched.
    fn start_run<'a>(&'a self, run: &'a RunStart, lease: &'a Lease) -> LedgerFuture<'a, bool>;

    /// Records that the slot of `run` was skipped, for `reason`. A slot recorded before and a run in progress are not
    /// touched, and nothing is deleted, so no lease is required.
    fn skip_run<'a>(&'a self, run: &'a RunStart, reason: RunReason) -> LedgerFuture<'a, ()>;

    /// Records the end of a run and updates the job's streaks. A second end of the same run has no effect; nothing is
    /// deleted, so no lease is required.
    fn finish_run<'a>(&'a self, end: &'a RunEnd) -> LedgerFuture<'a, ()>;

    /// The job's last `limit` runs (in the order of their starts, newest first), streaks and cursors. Instants that are
    /// ahead of `now` ([`clock_skew`](crate::domain::clock_skew)) are corrected, also in the store where it can be
    /// written.
    fn job_history<'a>(&'a self, job: &'a ObjectKey, limit: u32, now: Timestamp) -> LedgerFuture<'a, JobHistory>;

    /// Whether the resync `id` of the job was completed, however long ago.
    fn is_resync_done<'a>(&'a self, job: &'a ObjectKey, id: &'a str) -> LedgerFuture<'a, bool>;

    /// Moves the rows and cursors that versions without sources stored for the stream to the source of `adoption`, if all
    /// of them belong to it; `false` if there are none, or rows of other sources among them.
    ///
    /// # Errors
    /// [`Fenced`](super::error::LedgerError::Fenced): another process runs the job; nothing is moved.
    fn adopt_source<'a>(&'a self, adoption: &'a SourceAdoption<'a>) -> LedgerFuture<'a, bool>;

    /// Deletes a job's cursors and runs, and the rows of the sources that it reads, if `lease` still holds. Kept are the
    /// rows that another of the `existing` jobs of its namespace has a cursor for.
    ///
    /// # Errors
    /// [`Fenced`](super::error::LedgerError::Fenced): another process runs the job; nothing is deleted.
    fn delete_job<'a>(
        &'a self,
        job: &'a ObjectKey,
        existing: &'a ExistingJobs,
        lease: &'a Lease,
    ) -> LedgerFuture<'a, Erasure>;

    /// Matching transactions, newest booking first.
    fn list_transactions<'a>(
        &'a self,
        filter: &'a TransactionFilter,
        limit: u32,
    ) -> LedgerFuture<'a, Vec<StoredTransaction>>;

    /// Documents of the matching streams, in insertion order, without those that the provider withdrew. The filter's days
    /// are ignored.
    fn list_documents<'a>(&'a self, filter: &'a TransactionFilter, limit: u32)
    -> LedgerFuture<'a, Vec<StoredDocument>>;

    /// Gives the first `limit` transactions after the row `after` (0: from the first) the identities that `replace` has
    /// for them; a row that has such an identity already is replaced. Returns the last row, or `None` after all of them.
    ///
    /// # Errors
    /// [`Fenced`](super::error::LedgerError::Fenced): another process runs the job; no row is changed.
    fn replace_identities<'a>(
        &'a self,
        lease: &'a Lease,
        after: i64,
        limit: u32,
        replace: ReplaceIdentity,
    ) -> LedgerFuture<'a, Option<i64>>;

    /// The number of matching transactions.
    fn count_transactions<'a>(&'a self, filter: &'a TransactionFilter) -> LedgerFuture<'a, u64>;

    /// The number of matching unresolved dead letters.
    fn count_dead_letters<'a>(&'a self, filter: &'a TransactionFilter) -> LedgerFuture<'a, u64>;

    /// Appends health check results, in the given order.
    fn record_probes<'a>(&'a self, results: &'a [ProbeResult]) -> LedgerFuture<'a, ()>;

    /// Deletes at most `limit` health check results that ended before `before`, and the oldest ones that ended later
    /// than `now`; returns the number deleted.
    ///
    /// # Errors
    /// [`Fenced`](super::error::LedgerError::Fenced): another process prunes; nothing is deleted.
    fn prune_probes<'a>(
        &'a self,
        lease: &'a Lease,
        before: Timestamp,
        limit: u32,
        now: Timestamp,
    ) -> LedgerFuture<'a, u64>;

    /// The last `limit` health check results of a connection, newest first.
    fn last_probes<'a>(&'a self, connection: &'a ObjectKey, limit: u32) -> LedgerFuture<'a, Vec<StoredProbe>>;

    /// Checks that the store accepts writes, by writing.
    fn ping(&self) -> LedgerFuture<'_, ()>;

    /// Whether the store accepts writes, as the last write of this process found it.
    fn health(&self) -> HealthReceiver;

    /// Closes all connections after the operations in flight; later calls fail.
    fn close(&self) -> BoxFuture<'_, ()>;
}
