//! The ledger: whatever must survive the process. Rows, cursors, runs and leases.
//!
//! [`Ledger`] is the seam; [`sqlite`] is the embedded store behind it, and a server database joins without a change to
//! the callers. The trait speaks of pages, windows and leases, never of statements: what must be atomic is one method.
//! It never reads a clock (instants are arguments) and never sees an unmasked account or a raw provider body.
//!
//! The rule that all of it serves: rows and the cursor that says "these rows are in" move in one transaction, which
//! first proves that its writer still holds the lease ([`Lease::fence`]) and still knows the state
//! ([`CursorState::version`]). A killed, frozen or doubled process can then neither lose nor double a page.

use std::time::Duration;

use futures::future::BoxFuture;
use jiff::Timestamp;

pub mod audit;
pub mod credentials;
pub mod dead_requests;
pub mod document;
pub mod probes;
pub mod record;
pub mod runs;
pub mod sealed;
pub mod sqlite;
pub mod state;

pub use credentials::{CredentialStore, KeptCredential};
pub use document::{DocumentKind, DocumentRecord};
pub use probes::{ProbeResult, StoredProbe};
pub use record::{Booked, DeadLetter, Granularity, KeyQuality, RowStatus, TransactionRecord};
pub use runs::{JobHistory, RunEnd, RunId, RunRecord, RunResult, RunStart, RunTrigger, UnknownWord};
pub use state::{
    CursorState, JobKey, Lease, LeaseView, PageCommit, PageCounts, PageOutcome, StreamKey, Window, WindowKind,
};

use document::StoredDocument;
use record::{StoredTransaction, TransactionFilter};

use crate::domain::key::ObjectKey;

/// A call's result, boxed so that the trait stays object safe.
pub type Reply<'a, T> = BoxFuture<'a, Result<T, LedgerError>>;

/// The durable store. Every method is atomic: it happened entirely, or not at all.
pub trait Ledger:
    CredentialStore + audit::Audit + audit::Usage + dead_requests::DeadRequests + Send + Sync + 'static
{
    /// Takes the lease `name` for `holder` if it is free, expired, already `holder`'s, or still exactly `stale` (which
    /// the caller has watched unchanged for the lease's whole time on its own monotonic clock, so that a wall clock
    /// set back cannot keep a dead holder alive). Each success raises the fence. `Err(view)` inside: who holds it.
    fn acquire_lease<'a>(
        &'a self,
        name: &'a str,
        holder: &'a str,
        ttl: Duration,
        now: Timestamp,
        stale: Option<LeaseView>,
    ) -> Reply<'a, Result<Lease, LeaseView>>;

    /// Extends a lease; `false` when another has taken it since.
    fn renew_lease<'a>(&'a self, lease: &'a Lease, ttl: Duration, now: Timestamp) -> Reply<'a, bool>;

    /// Gives a lease back, so that the next holder need not wait. A lease lost meanwhile is left alone.
    fn release_lease<'a>(&'a self, lease: &'a Lease) -> Reply<'a, ()>;

    /// Where a job stands in a partition; `None` before its first page.
    fn load_state<'a>(&'a self, job: &'a JobKey) -> Reply<'a, Option<CursorState>>;

    /// The page transaction: proves fence and version, upserts rows whose content changed, keeps the dead letters,
    /// moves the cursor and the run's counters.
    ///
    /// # Errors
    /// [`LedgerError::Fenced`] and [`LedgerError::StateMoved`] mean that another writes: stop. After any other error
    /// nothing of the page is in.
    fn commit_page<'a>(&'a self, page: PageCommit<'a>) -> Reply<'a, PageOutcome>;

    /// Notes that a run began, if `lease` still holds; runs of the job that never ended become
    /// [`RunResult::Interrupted`]. `false`, and nothing is noted, if the run or its slot is known already: somebody was
    /// here before.
    ///
    /// # Errors
    /// [`LedgerError::Fenced`]: another runs the job, and its run is left alone.
    fn start_run<'a>(&'a self, run: &'a RunStart, lease: &'a Lease) -> Reply<'a, bool>;

    /// Notes that the slot of `run` passed without a run, for `reason`. A slot that is known already is left alone, and
    /// so is a run under way: this needs no lease.
    fn skip_run<'a>(&'a self, run: &'a RunStart, reason: &'static str) -> Reply<'a, ()>;

    /// Notes how a run ended and moves the job's streaks. A second end of the same run changes nothing.
    fn finish_run<'a>(&'a self, end: &'a RunEnd) -> Reply<'a, ()>;

    /// The job's last `limit` runs (newest first), streaks and cursors.
    fn job_history<'a>(&'a self, job: &'a ObjectKey, limit: u32) -> Reply<'a, JobHistory>;

    /// Removes a job's cursors and runs, and the rows of streams that no other job reads.
    fn forget_job<'a>(&'a self, job: &'a ObjectKey) -> Reply<'a, ()>;

    /// Transactions that match, newest booking first.
    fn list_transactions<'a>(&'a self, filter: &'a TransactionFilter, limit: u32) -> Reply<'a, Vec<StoredTransaction>>;

    /// Documents of the streams that match, in the order in which they were first seen. Days do not narrow them.
    fn list_documents<'a>(&'a self, filter: &'a TransactionFilter, limit: u32) -> Reply<'a, Vec<StoredDocument>>;

    /// How many transactions match.
    fn count_transactions<'a>(&'a self, filter: &'a TransactionFilter) -> Reply<'a, u64>;

    /// How many unresolved dead letters match.
    fn count_dead_letters<'a>(&'a self, filter: &'a TransactionFilter) -> Reply<'a, u64>;

    /// Appends health checks to their log, in the order given.
    fn record_probes<'a>(&'a self, results: &'a [ProbeResult]) -> Reply<'a, ()>;

    /// Drops health checks that ended before `before`, at most `limit` of them, and tells how many went.
    fn prune_probes(&self, before: Timestamp, limit: u32) -> Reply<'_, u64>;

    /// The last `limit` health checks of a connection, newest first.
    fn last_probes<'a>(&'a self, connection: &'a ObjectKey, limit: u32) -> Reply<'a, Vec<StoredProbe>>;

    /// Whether the store answers and takes writes.
    fn ping(&self) -> Reply<'_, ()>;

    /// Ends all connections after the work in flight; later calls fail.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// Why the ledger could not do as asked. Texts hold names of tables and files, never data.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The store could not be opened.
    #[error("cannot open the ledger at {path}: {source}")]
    Open {
        /// The file asked for.
        path: String,
        /// What the driver said.
        source: sqlx::Error,
    },
    /// The schema could not be brought up to date.
    #[error("cannot migrate the ledger's schema: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// The schema is older than this program, and migrating was not asked for.
    #[error("the ledger's schema is older than this program needs: run the migrations first")]
    SchemaBehind,
    /// Another writer held the store for too long.
    #[error("the ledger was busy while {step}: {source}")]
    Busy {
        /// What was being done.
        step: &'static str,
        /// What the driver said.
        source: sqlx::Error,
    },
    /// The disk is full, read-only or broken.
    #[error("the ledger's storage failed while {step}: {source}")]
    Storage {
        /// What was being done.
        step: &'static str,
        /// What the driver said.
        source: sqlx::Error,
    },
    /// A statement failed for another reason.
    #[error("the ledger failed while {step}: {source}")]
    Query {
        /// What was being done.
        step: &'static str,
        /// What the driver said.
        source: sqlx::Error,
    },
    /// Another holder has the lease: this writer must stop.
    #[error("lease {name} has passed to another holder")]
    Fenced {
        /// The lease's name.
        name: String,
    },
    /// Another writer moved the cursor: this writer must stop.
    #[error("the cursor moved under this run (its version is no longer {expected})")]
    StateMoved {
        /// The version that this writer knew.
        expected: i64,
    },
    /// COMMIT failed and the state could not be read again, so it is not known whether the page is in. Read the state
    /// before anything else.
    #[error("the outcome of a commit is unknown: {source}")]
    CommitUnknown {
        /// What the driver said.
        source: sqlx::Error,
    },
    /// A stored value has a form that this program does not know.
    #[error("the ledger's column {column} holds a value that this program does not understand")]
    Corrupt {
        /// Which column.
        column: &'static str,
    },
}

impl LedgerError {
    /// Whether the same call may succeed later without anybody's doing.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Busy { .. } | Self::Storage { .. } | Self::CommitUnknown { .. })
    }
}
