//! The embedded ledger: one SQLite file, one writer, a few readers.
//!
//! Writes go through a pool of a single connection and `BEGIN IMMEDIATE`, so that two tasks never meet a lock half way
//! and the order of commits is the order of calls. The journal is a WAL, flushed at each commit
//! (`synchronous=FULL`): a page that was reported as committed survives a power cut. Readers use connections of their
//! own, which cannot write, and never wait for the writer.

use std::path::Path;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use sqlx::migrate::Migrator;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions as _, Sqlite, Transaction};

use super::document::StoredDocument;
use super::record::{StoredTransaction, TransactionFilter};
use super::{
    CursorState, JobHistory, JobKey, Lease, LeaseView, Ledger, LedgerError, PageCommit, PageOutcome, ProbeResult,
    Reply, RunEnd, RunStart, StoredProbe,
};
use crate::domain::key::ObjectKey;

mod audit;
mod codec;
mod credentials;
mod dead_removal;
mod dead_requests;
#[cfg(test)]
mod dead_requests_tests;
mod documents;
mod forget;
mod lease;
mod page;
#[cfg(test)]
mod page_tests;
mod probes;
mod read;
mod runs;
#[cfg(test)]
mod runs_tests;
mod state;
mod upsert;

use codec::Step;

/// How long a writer waits for another process (a backup, the CLI) to let go of the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a caller waits for its turn at the one writer; longer than the busy time, or a slow disk looks like a fault.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(30);
/// Status, the CLI and metrics read; more would only hold memory.
const READERS: u32 = 4;

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

/// What opening may do to the file.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Create it if missing and bring its schema up to date.
    Migrate,
    /// Write to it, but leave its schema alone: an older schema is an error.
    Existing,
    /// Read only, beside a process that writes.
    ReadOnly,
}

/// A ledger in one SQLite file.
#[derive(Debug)]
pub struct SqliteLedger {
    /// One connection; in [`OpenMode::ReadOnly`] one that cannot write.
    writer: SqlitePool,
    readers: SqlitePool,
}

impl SqliteLedger {
    /// Opens the file for writing, creates it if missing, and migrates.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, LedgerError> {
        Self::open_as(path, OpenMode::Migrate).await
    }

    /// Opens the file for reading while another process writes.
    pub async fn open_read_only(path: impl AsRef<Path>) -> Result<Self, LedgerError> {
        Self::open_as(path, OpenMode::ReadOnly).await
    }

    /// Opens the file as `mode` tells.
    pub async fn open_as(path: impl AsRef<Path>, mode: OpenMode) -> Result<Self, LedgerError> {
        let path = path.as_ref();
        let open = |source| LedgerError::Open { path: path.display().to_string(), source };
        let base = SqliteConnectOptions::new()
            .filename(path)
            .busy_timeout(BUSY_TIMEOUT)
            .foreign_keys(true)
            .pragma("trusted_schema", "OFF")
            // A line per statement, without a message of its own, is nothing that a log of ours should hold.
            .disable_statement_logging();
        let reading = base.clone().read_only(true);
        let writing = match mode {
            OpenMode::ReadOnly => reading.clone(),
            OpenMode::Migrate | OpenMode::Existing => base
                .create_if_missing(mode == OpenMode::Migrate)
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Full),
        };
        // Never closed for idling or age: the connection holds the prepared statements.
        let pool = |size| {
            SqlitePoolOptions::new()
                .max_connections(size)
                .idle_timeout(None)
                .max_lifetime(None)
                .test_before_acquire(false)
                .acquire_timeout(ACQUIRE_TIMEOUT)
        };
        let writer = pool(1).connect_with(writing).await.map_err(open)?;
        if mode == OpenMode::Migrate {
            migrator().run(&writer).await?;
        } else if !schema_is_current(&writer).await? {
            writer.close().await;
            return Err(LedgerError::SchemaBehind);
        }
        let readers = pool(READERS).connect_with(reading).await.map_err(open)?;
        Ok(Self { writer, readers })
    }

    async fn begin(&self, step: Step) -> Result<Transaction<'static, Sqlite>, LedgerError> {
        self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(|e| step.failed(e))
    }

    async fn reader(&self, step: Step) -> Result<sqlx::pool::PoolConnection<Sqlite>, LedgerError> {
        self.readers.acquire().await.map_err(|e| step.failed(e))
    }

    /// Runs `work` in one write transaction; an error rolls it back.
    async fn write<T, W>(&self, step: Step, work: W) -> Result<T, LedgerError>
    where
        W: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, LedgerError>> + Send,
    {
        let mut tx = self.begin(step).await?;
        match work(&mut tx).await {
            Ok(value) => {
                tx.commit().await.map_err(|e| step.failed(e))?;
                Ok(value)
            }
            Err(error) => {
                // The first error is the one to tell; a failed rollback leaves nothing behind either.
                tx.rollback().await.ok();
                Err(error)
            }
        }
    }
}

/// An older program must run on a newer schema (migrations only add), so unknown newer ones are no error.
fn migrator() -> Migrator {
    let mut migrator = Migrator { migrations: MIGRATIONS.migrations.clone(), ..Migrator::DEFAULT };
    migrator.set_ignore_missing(true);
    migrator
}

async fn schema_is_current(pool: &SqlitePool) -> Result<bool, LedgerError> {
    let step = Step("reading the schema's version");
    let table: Option<i64> = sqlx::query_scalar("SELECT 1 FROM sqlite_schema WHERE name = '_sqlx_migrations'")
        .fetch_optional(pool)
        .await
        .map_err(|e| step.failed(e))?;
    if table.is_none() {
        return Ok(false);
    }
    let newest: Option<i64> = sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations WHERE success")
        .fetch_one(pool)
        .await
        .map_err(|e| step.failed(e))?;
    Ok(newest >= MIGRATIONS.iter().map(|m| m.version).max())
}

impl Ledger for SqliteLedger {
    fn acquire_lease<'a>(
        &'a self,
        name: &'a str,
        holder: &'a str,
        ttl: Duration,
        now: Timestamp,
        stale: Option<LeaseView>,
    ) -> Reply<'a, Result<Lease, LeaseView>> {
        self.lease_acquire(name, holder, ttl, now, stale).boxed()
    }

    fn renew_lease<'a>(&'a self, lease: &'a Lease, ttl: Duration, now: Timestamp) -> Reply<'a, bool> {
        self.lease_renew(lease, ttl, now).boxed()
    }

    fn release_lease<'a>(&'a self, lease: &'a Lease) -> Reply<'a, ()> {
        self.lease_release(lease).boxed()
    }

    fn load_state<'a>(&'a self, job: &'a JobKey) -> Reply<'a, Option<CursorState>> {
        self.state_load(job).boxed()
    }

    fn commit_page<'a>(&'a self, page: PageCommit<'a>) -> Reply<'a, PageOutcome> {
        self.page_commit(page).boxed()
    }

    fn start_run<'a>(&'a self, run: &'a RunStart, lease: &'a Lease) -> Reply<'a, bool> {
        self.run_start(run, lease).boxed()
    }

    fn skip_run<'a>(&'a self, run: &'a RunStart, reason: &'static str) -> Reply<'a, ()> {
        self.run_skip(run, reason).boxed()
    }

    fn finish_run<'a>(&'a self, end: &'a RunEnd) -> Reply<'a, ()> {
        self.run_finish(end).boxed()
    }

    fn job_history<'a>(&'a self, job: &'a ObjectKey, limit: u32) -> Reply<'a, JobHistory> {
        self.history(job, limit).boxed()
    }

    fn forget_job<'a>(&'a self, job: &'a ObjectKey) -> Reply<'a, ()> {
        self.forget(job).boxed()
    }

    fn list_documents<'a>(&'a self, filter: &'a TransactionFilter, limit: u32) -> Reply<'a, Vec<StoredDocument>> {
        self.documents(filter, limit).boxed()
    }

    fn list_transactions<'a>(&'a self, filter: &'a TransactionFilter, limit: u32) -> Reply<'a, Vec<StoredTransaction>> {
        self.transactions(filter, limit).boxed()
    }

    fn count_transactions<'a>(&'a self, filter: &'a TransactionFilter) -> Reply<'a, u64> {
        self.transaction_count(filter).boxed()
    }

    fn count_dead_letters<'a>(&'a self, filter: &'a TransactionFilter) -> Reply<'a, u64> {
        self.dead_letter_count(filter).boxed()
    }

    fn record_probes<'a>(&'a self, results: &'a [ProbeResult]) -> Reply<'a, ()> {
        self.probes_record(results).boxed()
    }

    fn prune_probes(&self, before: Timestamp, limit: u32) -> Reply<'_, u64> {
        self.probes_prune(before, limit).boxed()
    }

    fn last_probes<'a>(&'a self, connection: &'a ObjectKey, limit: u32) -> Reply<'a, Vec<StoredProbe>> {
        self.probes_last(connection, limit).boxed()
    }

    fn ping(&self) -> Reply<'_, ()> {
        // Takes and drops the write lock: a full or read-only disk shows at the next real write, a stuck writer here.
        async {
            let step = Step("checking that it takes writes");
            self.begin(step).await?.rollback().await.map_err(|e| step.failed(e))
        }
        .boxed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async {
            self.readers.close().await;
            self.writer.close().await;
        }
        .boxed()
    }
}
