//! The embedded ledger: one SQLite file, one writer, a few readers.
//!
//! Writes go through a pool of a single connection and `BEGIN IMMEDIATE`, so that no transaction fails on a lock
//! upgrade and commits happen in call order. The journal is a WAL, flushed at each commit (`synchronous=FULL`): a page
//! reported as committed survives a power failure. Readers use separate read-only connections and never wait for the
//! writer.

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
    CursorKey, CursorState, JobHistory, Lease, Ledger, LedgerError, LedgerFuture, PageCommit, PageOutcome, ProbeResult,
    RunEnd, RunStart, StoredLease, StoredProbe,
};
use crate::domain::key::ObjectKey;

mod audit;
mod clock_skew;
#[cfg(test)]
mod clock_skew_tests;
mod codec;
mod credentials;
mod cursor;
mod dead_requests;
mod delete_job;
mod documents;
mod lease;
mod page;
#[cfg(test)]
mod page_tests;
mod probes;
mod read;
mod runs;
#[cfg(test)]
mod runs_tests;
mod upsert;

use codec::OperationName;

/// How long a writer waits for another process (a backup, the CLI) to release the file lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a caller waits for the writer connection; longer than the busy timeout, or a slow disk looks like a fault.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(30);
/// Readers are status, the CLI and metrics; more connections would only use memory.
const READERS: u32 = 4;

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

/// How to open the file.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Create it if missing and migrate its schema.
    Migrate,
    /// Write to it without migrating: an older schema is an error.
    Existing,
    /// Read only, while another process writes.
    ReadOnly,
}

/// A ledger in one SQLite file.
#[derive(Debug)]
pub struct SqliteLedger {
    /// One connection; read-only in [`OpenMode::ReadOnly`].
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

    /// Opens the file in the given mode.
    pub async fn open_as(path: impl AsRef<Path>, mode: OpenMode) -> Result<Self, LedgerError> {
        let path = path.as_ref();
        let open = |source| LedgerError::Open { path: path.display().to_string(), source };
        let base = SqliteConnectOptions::new()
            .filename(path)
            .busy_timeout(BUSY_TIMEOUT)
            .foreign_keys(true)
            .pragma("trusted_schema", "OFF")
            // Not needed: errors carry the operation, and statements must not fill the log.
            .disable_statement_logging();
        let read_options = base.clone().read_only(true);
        let write_options = match mode {
            OpenMode::ReadOnly => read_options.clone(),
            OpenMode::Migrate | OpenMode::Existing => base
                .create_if_missing(mode == OpenMode::Migrate)
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Full),
        };
        // Never closed for idleness or age: a connection caches prepared statements.
        let pool = |size| {
            SqlitePoolOptions::new()
                .max_connections(size)
                .idle_timeout(None)
                .max_lifetime(None)
                .test_before_acquire(false)
                .acquire_timeout(ACQUIRE_TIMEOUT)
        };
        let writer = pool(1).connect_with(write_options).await.map_err(open)?;
        if mode == OpenMode::Migrate {
            migrator().run(&writer).await?;
        } else if !schema_is_current(&writer).await? {
            writer.close().await;
            return Err(LedgerError::SchemaOutdated);
        }
        let readers = pool(READERS).connect_with(read_options).await.map_err(open)?;
        Ok(Self { writer, readers })
    }

    async fn begin(&self, operation: OperationName) -> Result<Transaction<'static, Sqlite>, LedgerError> {
        self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(|e| operation.failed(e))
    }

    async fn reader(&self, operation: OperationName) -> Result<sqlx::pool::PoolConnection<Sqlite>, LedgerError> {
        self.readers.acquire().await.map_err(|e| operation.failed(e))
    }

    /// Runs `work` in one write transaction; an error rolls it back.
    async fn write<T, W>(&self, operation: OperationName, work: W) -> Result<T, LedgerError>
    where
        W: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, LedgerError>> + Send,
    {
        let mut tx = self.begin(operation).await?;
        match work(&mut tx).await {
            Ok(value) => {
                tx.commit().await.map_err(|e| operation.failed(e))?;
                Ok(value)
            }
            Err(error) => {
                // The first error is the one to report; a failed rollback leaves nothing behind either.
                tx.rollback().await.ok();
                Err(error)
            }
        }
    }
}

/// An older version must run on a newer schema (migrations only add), so unknown migrations are not an error.
fn migrator() -> Migrator {
    let mut migrator = Migrator { migrations: MIGRATIONS.migrations.clone(), ..Migrator::DEFAULT };
    migrator.set_ignore_missing(true);
    migrator
}

async fn schema_is_current(pool: &SqlitePool) -> Result<bool, LedgerError> {
    let operation = OperationName("reading the schema version");
    let table: Option<i64> = sqlx::query_scalar("SELECT 1 FROM sqlite_schema WHERE name = '_sqlx_migrations'")
        .fetch_optional(pool)
        .await
        .map_err(|e| operation.failed(e))?;
    if table.is_none() {
        return Ok(false);
    }
    let newest: Option<i64> = sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations WHERE success")
        .fetch_one(pool)
        .await
        .map_err(|e| operation.failed(e))?;
    Ok(newest >= MIGRATIONS.iter().map(|m| m.version).max())
}

impl Ledger for SqliteLedger {
    fn acquire_lease<'a>(
        &'a self,
        name: &'a str,
        holder: &'a str,
        ttl: Duration,
        now: Timestamp,
        stale: Option<StoredLease>,
    ) -> LedgerFuture<'a, Result<Lease, StoredLease>> {
        self.lease_acquire(name, holder, ttl, now, stale).boxed()
    }

    fn renew_lease<'a>(&'a self, lease: &'a Lease, ttl: Duration, now: Timestamp) -> LedgerFuture<'a, bool> {
        self.lease_renew(lease, ttl, now).boxed()
    }

    fn release_lease<'a>(&'a self, lease: &'a Lease) -> LedgerFuture<'a, ()> {
        self.lease_release(lease).boxed()
    }

    fn load_cursor<'a>(&'a self, key: &'a CursorKey) -> LedgerFuture<'a, Option<CursorState>> {
        self.cursor_load(key).boxed()
    }

    fn commit_page<'a>(&'a self, page: PageCommit<'a>) -> LedgerFuture<'a, PageOutcome> {
        self.page_commit(page).boxed()
    }

    fn start_run<'a>(&'a self, run: &'a RunStart, lease: &'a Lease) -> LedgerFuture<'a, bool> {
        self.run_start(run, lease).boxed()
    }

    fn skip_run<'a>(&'a self, run: &'a RunStart, reason: &'static str) -> LedgerFuture<'a, ()> {
        self.run_skip(run, reason).boxed()
    }

    fn finish_run<'a>(&'a self, end: &'a RunEnd) -> LedgerFuture<'a, ()> {
        self.run_finish(end).boxed()
    }

    fn job_history<'a>(&'a self, job: &'a ObjectKey, limit: u32, now: Timestamp) -> LedgerFuture<'a, JobHistory> {
        self.job_history_load(job, limit, now).boxed()
    }

    fn delete_job<'a>(&'a self, job: &'a ObjectKey) -> LedgerFuture<'a, ()> {
        self.job_delete(job).boxed()
    }

    fn list_documents<'a>(
        &'a self,
        filter: &'a TransactionFilter,
        limit: u32,
    ) -> LedgerFuture<'a, Vec<StoredDocument>> {
        self.documents(filter, limit).boxed()
    }

    fn list_transactions<'a>(
        &'a self,
        filter: &'a TransactionFilter,
        limit: u32,
    ) -> LedgerFuture<'a, Vec<StoredTransaction>> {
        self.transactions(filter, limit).boxed()
    }

    fn count_transactions<'a>(&'a self, filter: &'a TransactionFilter) -> LedgerFuture<'a, u64> {
        self.transaction_count(filter).boxed()
    }

    fn count_dead_letters<'a>(&'a self, filter: &'a TransactionFilter) -> LedgerFuture<'a, u64> {
        self.dead_letter_count(filter).boxed()
    }

    fn record_probes<'a>(&'a self, results: &'a [ProbeResult]) -> LedgerFuture<'a, ()> {
        self.probes_record(results).boxed()
    }

    fn prune_probes(&self, before: Timestamp, limit: u32, now: Timestamp) -> LedgerFuture<'_, u64> {
        self.probes_prune(before, limit, now).boxed()
    }

    fn last_probes<'a>(&'a self, connection: &'a ObjectKey, limit: u32) -> LedgerFuture<'a, Vec<StoredProbe>> {
        self.probes_last(connection, limit).boxed()
    }

    fn ping(&self) -> LedgerFuture<'_, ()> {
        // Acquires and releases the write lock: detects a stuck writer; a full disk shows at the next real write.
        async {
            let operation = OperationName("checking that it accepts writes");
            self.begin(operation).await?.rollback().await.map_err(|e| operation.failed(e))
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
