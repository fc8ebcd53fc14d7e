//! Why a copy of a ledger failed. Nothing of it is left then.

use std::path::PathBuf;

use jiff::Timestamp;

use crate::ledger::error::LedgerError;

/// Why a copy of a ledger failed.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The source or the target failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The target holds rows.
    #[error(
        "ledger not empty: table {table} has rows; nothing was written. Name a new file or an empty database, and point \
         --ledger of the operator at it"
    )]
    NotEmpty {
        /// The first table with rows.
        table: String,
    },
    /// The source was written by a newer version.
    #[error("ledger of a newer version: {what} unknown to this version; use the version of Busbar that wrote it")]
    Newer {
        /// What is unknown.
        what: String,
    },
    /// The target differs from the source after the copy.
    #[error("copy of table {table} differs from the source; nothing was written. Check the disk, and report this")]
    Differs {
        /// The table.
        table: String,
    },
    /// A process writes to the source.
    #[error(
        "ledger in use: {holder} holds the lease {lease} until {until}; scale the operator to 0 replicas, or wait until \
         then if it was killed"
    )]
    InUse {
        /// The lease.
        lease: String,
        /// Its holder.
        holder: String,
        /// When it expires.
        until: Timestamp,
    },
    /// The file of a backup is there already.
    #[error("{} exists; backups are not overwritten, choose another name", .0.display())]
    Exists(PathBuf),
    /// The file is not a ledger.
    #[error("{} is not a ledger of Busbar; name a file that `busbar ledger backup` wrote", .0.display())]
    NotALedger(PathBuf),
    /// The file of a backup is damaged.
    #[error("{} is damaged: {finding}; use another backup", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the engine's check found first.
        finding: String,
    },
    /// Source and target are the same ledger.
    #[error("source and target are the same ledger; name another one")]
    SameLedger,
    /// A file could not be created, flushed or renamed.
    #[error("{what}: {source}")]
    Io {
        /// The operation.
        what: String,
        /// The cause.
        source: std::io::Error,
    },
}
