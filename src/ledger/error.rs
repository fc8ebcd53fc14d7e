//! Why a ledger call failed, and the future type of its calls.

use futures::future::BoxFuture;

/// A boxed ledger call: boxed so that the traits stay object safe.
pub type LedgerFuture<'a, T> = BoxFuture<'a, Result<T, LedgerError>>;

/// An error of an engine's driver. Opaque, so that callers depend on no driver.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct DriverError(Cause);

#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error(transparent)]
    Sqlx(sqlx::Error),
    #[error(transparent)]
    Migration(sqlx::migrate::MigrateError),
}

impl From<sqlx::Error> for DriverError {
    fn from(error: sqlx::Error) -> Self {
        Self(Cause::Sqlx(error))
    }
}

impl From<sqlx::migrate::MigrateError> for DriverError {
    fn from(error: sqlx::migrate::MigrateError) -> Self {
        Self(Cause::Migration(error))
    }
}

/// Why a ledger call failed. Messages name tables and files, never data.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The store could not be opened.
    #[error("cannot open ledger {path}: {source}; check --ledger and the file's permissions")]
    Open {
        /// Path of the file.
        path: String,
        /// The driver's error.
        source: DriverError,
    },
    /// The schema could not be migrated.
    #[error("ledger schema migration failed: {0}")]
    Migrate(DriverError),
    /// The schema is older than this version requires, and the open mode does not migrate.
    #[error("ledger schema is older than this version requires; run the migrations first")]
    SchemaOutdated,
    /// Another writer held the store longer than the busy timeout.
    #[error("ledger busy while {operation}: {source}")]
    Busy {
        /// The operation that failed.
        operation: &'static str,
        /// The driver's error.
        source: DriverError,
    },
    /// The disk is full, read-only or broken.
    #[error("ledger storage failed while {operation}: {source}; check the volume's free space and permissions")]
    Storage {
        /// The operation that failed.
        operation: &'static str,
        /// The driver's error.
        source: DriverError,
    },
    /// A statement failed for another reason.
    #[error("ledger query failed while {operation}: {source}")]
    Query {
        /// The operation that failed.
        operation: &'static str,
        /// The driver's error.
        source: DriverError,
    },
    /// Another holder has the lease: this writer must stop.
    #[error("lease {name} lost: another holder acquired it; this writer stops")]
    Fenced {
        /// The lease's name.
        name: String,
    },
    /// Another writer moved the cursor: this writer must stop.
    #[error("cursor version conflict: version is no longer {expected}, another run moved the cursor; this run stops")]
    VersionConflict {
        /// The version that this writer expected.
        expected: i64,
    },
    /// COMMIT failed and the cursor could not be read back, so it is unknown whether the page was committed. Load the
    /// cursor before the next write.
    #[error("commit outcome unknown: {source}; the cursor is reloaded before the next write")]
    CommitUnknown {
        /// The driver's error.
        source: DriverError,
    },
    /// A stored value has a form that this version cannot decode.
    #[error("ledger column {column} cannot be decoded: unknown value; the data is damaged or from a newer version")]
    Corrupt {
        /// The column.
        column: &'static str,
    },
}

impl LedgerError {
    /// Whether a retry of the same call may succeed without intervention.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Busy { .. } | Self::Storage { .. } | Self::CommitUnknown { .. })
    }
}
