//! The ledger: durable storage for rows, cursors, runs, leases, dead requests and the audit log.
//!
//! [`Ledger`] is the interface, [`sqlite`] the embedded implementation; a server database can be added without a change
//! to callers. Methods are pages, windows and leases, never statements: each atomic unit is one method. The ledger
//! never reads a clock (instants are arguments) and never receives an unmasked account number or a raw provider body.
//!
//! Invariant: rows and the cursor that covers them are written in one transaction, which first checks that the writer
//! still holds the lease ([`Lease::fence`]) and expects the stored version ([`CursorState::version`]). A killed, frozen
//! or duplicated process can then neither lose nor duplicate a page.

use std::time::Duration;

use futures::future::BoxFuture;
use jiff::Timestamp;

pub mod audit;
pub mod credentials;
pub mod cursor;
pub mod dead_requests;
pub mod document;
pub mod encryption;
pub mod error;
pub mod lease;
pub mod page;
pub mod probes;
pub mod record;
pub mod runs;
pub mod sqlite;

pub use credentials::{CredentialStore, StoredCredential};
pub use cursor::{CursorKey, CursorState, StreamKey, SyncWindow, WindowKind};
pub use document::{DocumentKind, DocumentRecord};
pub use error::{LedgerError, LedgerFuture};
pub use lease::{Lease, StoredLease};
pub use page::{PageCommit, PageCounts, PageOutcome};
pub use probes::{ProbeResult, StoredProbe};
pub use record::{BookingTime, DeadLetter, Granularity, KeyQuality, RowStatus, TransactionRecord};
pub use runs::{JobHistory, RunEnd, RunId, RunRecord, RunResult, RunStart, RunTrigger, UnknownValue};

use document::StoredDocument;
use record::{StoredTransaction, TransactionFilter};

use crate::domain::key::ObjectKey;

/// The durable store. Every method is atomic: it takes effect entirely or not at all.
pub trait Ledger:
    CredentialStore + audit::Audit + audit::Usage + dead_requests::DeadRequests + Send + Sync + 'static
{
    /// Acquires the lease `name` for `holder` if it is free, expired, already held by `holder`, or still equal to
    /// `stale`. The caller passes as `stale` a lease that it has observed unchanged for the whole TTL on its own
    /// monotonic clock, so that a wall clock set back cannot keep a dead holder's lease alive. Each success increments
    /// the fence. The inner `Err` is the current holder's lease.
    ///
    /// All holders of a lease use about the same TTL: an expiry further ahead than `ttl` was written by a wrong clock
    /// and is shortened to `ttl` from now, in the store too.
    fn acquire_lease<'a>(
        &'a self,
        name: &'a str,
        holder: &'a str,
        ttl: Duration,
        now: Timestamp,
        stale: Option<StoredLease>,
    ) -> LedgerFuture<'a, Result<Lease, StoredLease>>;

    /// Extends a lease; `false` if another holder has acquired it.
    fn renew_lease<'a>(&'a self, lease: &'a Lease, ttl: Duration, now: Timestamp) -> LedgerFuture<'a, bool>;

    /// Releases a lease, so that the next holder need not wait for its expiry. No effect if the lease was lost.
    fn release_lease<'a>(&'a self, lease: &'a Lease) -> LedgerFuture<'a, ()>;

    /// A job's cursor in a partition; `None` before its first page.
    fn load_cursor<'a>(&'a self, key: &'a CursorKey) -> LedgerFuture<'a, Option<CursorState>>;

    /// The page transaction: checks fence and version, upserts rows whose content changed, stores the dead letters,
    /// advances the cursor and the run's counters.
    ///
    /// # Errors
    /// [`LedgerError::Fenced`] and [`LedgerError::VersionConflict`] mean that another process writes: stop. After any
    /// other error nothing of the page is committed.
    fn commit_page<'a>(&'a self, page: PageCommit<'a>) -> LedgerFuture<'a, PageOutcome>;

    /// Records the start of a run if `lease` still holds; unfinished runs of the job become
    /// [`RunResult::Interrupted`]. `false`, and nothing is written, if the run or its slot was recorded before.
    ///
    /// # Errors
    /// [`LedgerError::Fenced`]: another process runs the job; its run is not touched.
    fn start_run<'a>(&'a self, run: &'a RunStart, lease: &'a Lease) -> LedgerFuture<'a, bool>;

    /// Records that the slot of `run` was skipped, for `reason`. A slot recorded before and a run in progress are not
    /// touched, so no lease is required.
    fn skip_run<'a>(&'a self, run: &'a RunStart, reason: &'static str) -> LedgerFuture<'a, ()>;

    /// Records the end of a run and updates the job's streaks. A second end of the same run has no effect.
    fn finish_run<'a>(&'a self, end: &'a RunEnd) -> LedgerFuture<'a, ()>;

    /// The job's last `limit` runs (in the order of their starts, newest first), streaks and cursors. Instants that are
    /// ahead of `now` ([`clock_skew`](crate::domain::clock_skew)) are corrected, also in the store where it can be
    /// written.
    fn job_history<'a>(&'a self, job: &'a ObjectKey, limit: u32, now: Timestamp) -> LedgerFuture<'a, JobHistory>;

    /// Deletes a job's cursors and runs, and the rows of streams that no other job reads.
    fn delete_job<'a>(&'a self, job: &'a ObjectKey) -> LedgerFuture<'a, ()>;

    /// Matching transactions, newest booking first.
    fn list_transactions<'a>(
        &'a self,
        filter: &'a TransactionFilter,
        limit: u32,
    ) -> LedgerFuture<'a, Vec<StoredTransaction>>;

    /// Documents of the matching streams, in insertion order. The filter's days are ignored.
    fn list_documents<'a>(&'a self, filter: &'a TransactionFilter, limit: u32)
    -> LedgerFuture<'a, Vec<StoredDocument>>;

    /// The number of matching transactions.
    fn count_transactions<'a>(&'a self, filter: &'a TransactionFilter) -> LedgerFuture<'a, u64>;

    /// The number of matching unresolved dead letters.
    fn count_dead_letters<'a>(&'a self, filter: &'a TransactionFilter) -> LedgerFuture<'a, u64>;

    /// Appends health check results, in the given order.
    fn record_probes<'a>(&'a self, results: &'a [ProbeResult]) -> LedgerFuture<'a, ()>;

    /// Deletes at most `limit` health check results that ended before `before`, and the oldest ones that ended later
    /// than `now`; returns the number deleted.
    fn prune_probes(&self, before: Timestamp, limit: u32, now: Timestamp) -> LedgerFuture<'_, u64>;

    /// The last `limit` health check results of a connection, newest first.
    fn last_probes<'a>(&'a self, connection: &'a ObjectKey, limit: u32) -> LedgerFuture<'a, Vec<StoredProbe>>;

    /// Checks that the store answers and accepts writes.
    fn ping(&self) -> LedgerFuture<'_, ()>;

    /// Closes all connections after the operations in flight; later calls fail.
    fn close(&self) -> BoxFuture<'_, ()>;
}
