//! One SQLite file: how it is opened, and the one writer and few readers of it.

use std::path::Path;
use std::time::Duration;

use futures::future::BoxFuture;
use sqlx::migrate::Migrator;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions as _, Sqlite, Transaction};

use super::codec::OperationName;
use crate::ledger::error::LedgerError;
use crate::ledger::store::OpenMode;

/// How long a writer waits for another process (a backup, the CLI) to release the file lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a caller waits for the writer connection; longer than the busy timeout, or a slow disk looks like a fault.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(30);
/// Readers are status, the CLI and metrics; more connections would only use memory.
const READERS: u32 = 4;

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

/// A ledger in one SQLite file.
#[derive(Debug)]
pub(crate) struct SqliteLedger {
    /// One connection; read-only in [`OpenMode::ReadOnly`].
    pub(super) writer: SqlitePool,
    pub(super) readers: SqlitePool,
}

impl SqliteLedger {
    /// Opens the file in the given mode.
    pub(crate) async fn open(path: &Path, mode: OpenMode) -> Result<Self, LedgerError> {
        let open = |source: sqlx::Error| LedgerError::Open { path: path.display().to_string(), source: source.into() };
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
            migrator().run(&writer).await.map_err(|error| LedgerError::Migrate(error.into()))?;
        } else if !schema_is_current(&writer).await? {
            writer.close().await;
            return Err(LedgerError::SchemaOutdated);
        }
        let readers = pool(READERS).connect_with(read_options).await.map_err(open)?;
        Ok(Self { writer, readers })
    }

    pub(super) async fn begin(&self, operation: OperationName) -> Result<Transaction<'static, Sqlite>, LedgerError> {
        self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(|e| operation.failed(e))
    }

    pub(super) async fn reader(
        &self,
        operation: OperationName,
    ) -> Result<sqlx::pool::PoolConnection<Sqlite>, LedgerError> {
        self.readers.acquire().await.map_err(|e| operation.failed(e))
    }

    /// Runs `work` in one write transaction; an error rolls it back.
    pub(super) async fn write<T, W>(&self, operation: OperationName, work: W) -> Result<T, LedgerError>
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
