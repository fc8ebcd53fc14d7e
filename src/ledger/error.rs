//! Why a ledger call failed, and the future type of its calls.

use futures::future::BoxFuture;

pub use crate::domain::write_fault::WriteFault;

/// A boxed ledger call: boxed so that the traits stay object safe.
pub type LedgerFuture<'a, T> = BoxFuture<'a, Result<T, LedgerError>>;

/// An error of an engine's driver. Opaque, so that callers depend on no driver.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct DriverError(Cause);

#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error(transparent)]
    Sqlite(rusqlite::Error),
    #[error("migration {0} was applied with another content; use the version of Busbar that wrote this ledger")]
    MigrationChanged(i64),
    #[error("migration {0} was interrupted; restore the ledger from a backup")]
    MigrationIncomplete(i64),
    #[error("starting a thread failed: {0}")]
    Thread(std::io::Error),
    #[error("the ledger is closed")]
    Closed,
    #[error("the operation panicked; report this bug with the log")]
    Panicked,
    #[error(transparent)]
    Server(ServerFailure),
}

/// What a database server, or the connection to it, answered: a text without data of rows, and what it means.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct ServerFailure {
    pub(super) text: String,
    pub(super) fault: Option<WriteFault>,
    /// Whether the server undid the transaction because of another one: the same transaction may succeed next.
    pub(super) is_conflict: bool,
    /// Whether the connection is gone, so that nothing is known about a statement that was sent.
    pub(super) is_connection: bool,
}

impl From<ServerFailure> for DriverError {
    fn from(failure: ServerFailure) -> Self {
        Self(Cause::Server(failure))
    }
}

impl From<rusqlite::Error> for DriverError {
    fn from(error: rusqlite::Error) -> Self {
        Self(Cause::Sqlite(error))
    }
}

impl DriverError {
    /// A thread could not be started.
    pub(super) const fn thread(source: std::io::Error) -> Self {
        Self(Cause::Thread(source))
    }

    /// A migration that was applied with another content.
    pub(super) const fn migration_changed(version: i64) -> Self {
        Self(Cause::MigrationChanged(version))
    }

    /// A migration that is recorded as not complete.
    pub(super) const fn migration_incomplete(version: i64) -> Self {
        Self(Cause::MigrationIncomplete(version))
    }

    /// A call after [`close`](super::store::Ledger::close).
    pub(super) const fn closed() -> Self {
        Self(Cause::Closed)
    }

    /// An operation that panicked.
    pub(super) const fn panicked() -> Self {
        Self(Cause::Panicked)
    }

    fn write_fault(&self) -> Option<WriteFault> {
        match &self.0 {
            Cause::Sqlite(error) => write_fault(error),
            Cause::Server(failure) => failure.fault,
            _ => None,
        }
    }

    fn server(&self) -> Option<&ServerFailure> {
        match &self.0 {
            Cause::Server(failure) => Some(failure),
            _ => None,
        }
    }
}

/// The fault of the store behind a driver error; `None` if the statement is to blame.
fn write_fault(error: &rusqlite::Error) -> Option<WriteFault> {
    use rusqlite::ErrorCode as Code;
    let error = error.sqlite_error()?;
    if error.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE {
        // The index of the journal could not be enlarged: on a full volume this is the first to fail.
        return Some(WriteFault::Full);
    }
    Some(match error.code {
        Code::DiskFull => WriteFault::Full,
        Code::ReadOnly => WriteFault::ReadOnly,
        Code::SystemIoFailure | Code::NoLargeFileSupport => WriteFault::Io,
        Code::CannotOpen | Code::PermissionDenied => WriteFault::CannotOpen,
        Code::DatabaseCorrupt | Code::NotADatabase => WriteFault::Damaged,
        Code::DatabaseBusy | Code::DatabaseLocked | Code::FileLockingProtocolFailed | Code::OperationInterrupted => {
            WriteFault::Locked
        }
        Code::OutOfMemory => WriteFault::OutOfMemory,
        _ => return None,
    })
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
    /// The URL of the ledger has a password.
    #[error(
        "--ledger must not contain a password: arguments are shown in process lists and manifests; remove it and set \
         --ledger-password-file"
    )]
    PasswordInUrl,
    /// The database server could not be connected to.
    #[error("cannot connect to ledger {server}: {source}; check --ledger, its credentials and the database server")]
    Connect {
        /// Host, port and database.
        server: String,
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
    #[error("ledger storage failed while {operation}: {source}{}", storage_remedy(.source))]
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

/// What to do about a storage error: that of its fault, or what every volume needs.
fn storage_remedy(source: &DriverError) -> String {
    match source.server().and(source.write_fault()) {
        Some(fault) => format!("; {}", fault.remedy()),
        None => "; check the volume's free space and permissions".to_owned(),
    }
}

impl LedgerError {
    /// The error of `operation` for a driver error.
    pub(super) fn failed(operation: &'static str, source: rusqlite::Error) -> Self {
        let fault = write_fault(&source);
        let source = source.into();
        match fault {
            Some(WriteFault::Locked) => Self::Busy { operation, source },
            Some(_) => Self::Storage { operation, source },
            None => Self::Query { operation, source },
        }
    }

    /// The error of `operation` for an answer of a database server.
    pub(super) fn server(operation: &'static str, failure: ServerFailure) -> Self {
        let fault = failure.fault;
        let source = failure.into();
        match fault {
            Some(WriteFault::Locked | WriteFault::TimedOut) => Self::Busy { operation, source },
            Some(_) => Self::Storage { operation, source },
            None => Self::Query { operation, source },
        }
    }

    /// The answer of a database server behind this error.
    pub(super) fn server_failure(&self) -> Option<&ServerFailure> {
        match self {
            Self::Busy { source, .. }
            | Self::Connect { source, .. }
            | Self::Storage { source, .. }
            | Self::Query { source, .. }
            | Self::CommitUnknown { source } => source.server(),
            _ => None,
        }
    }

    /// The fault of the store that this error shows, if it does.
    pub fn write_fault(&self) -> Option<WriteFault> {
        match self {
            Self::Busy { source, .. } => Some(source.write_fault().unwrap_or(WriteFault::Locked)),
            Self::Open { source, .. }
            | Self::Connect { source, .. }
            | Self::Storage { source, .. }
            | Self::Query { source, .. }
            | Self::CommitUnknown { source } => source.write_fault(),
            _ => None,
        }
    }

    /// Whether a retry of the same call may succeed without intervention.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Busy { .. } | Self::Storage { .. } | Self::CommitUnknown { .. })
    }
}
