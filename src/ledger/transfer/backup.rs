//! The three uses of a copy: to a file, from a file, to another ledger.
//!
//! A backup is a ledger in an SQLite file, whatever the engine of its source: it can be read with `busbar ledger
//! transactions`, checked with any SQLite, and restored into either engine.

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::copy::{CopyEpoch, CopyOptions, copy};
use super::error::TransferError;
use super::summary::{Progress, TransferSummary};
use crate::ledger::error::LedgerError;
use crate::ledger::open::{EndpointRole, LedgerUrl, open, open_endpoint};
use crate::ledger::sqlite::transfer as sqlite_file;
use crate::ledger::store::OpenMode;

/// A file under a name of its own until it is complete. That name is removed in any case.
struct PartialFile {
    path: PathBuf,
}

impl PartialFile {
    /// An empty file beside `name`, readable by its owner only.
    fn beside(name: &Path) -> Result<Self, TransferError> {
        let file_name = name.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let path = name.with_file_name(format!(".{file_name}.partial-{}", uuid::Uuid::new_v4().simple()));
        let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        created.map_err(io(format!("creating a file beside {}", name.display())))?;
        Ok(Self { path })
    }

    fn url(&self) -> LedgerUrl {
        LedgerUrl::Sqlite(self.path.clone())
    }

    /// Flushes it and links it as `name`, in this order: a power failure leaves the whole file or none. Not a rename, which
    /// would replace what another backup has written there meanwhile.
    fn keep_as(self, name: &Path) -> Result<(), TransferError> {
        let what = || format!("writing {}", name.display());
        File::open(&self.path).and_then(|file| file.sync_all()).map_err(io(what()))?;
        match fs::hard_link(&self.path, name) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                return Err(TransferError::Exists(name.to_owned()));
            }
            // A file system without links.
            Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::Unsupported) => {
                if name.exists() {
                    return Err(TransferError::Exists(name.to_owned()));
                }
                fs::rename(&self.path, name).map_err(io(what()))?;
            }
            Err(error) => return Err(io(what())(error)),
        }
        drop(self);
        let folder = name.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(io(what()))
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        for suffix in ["", "-journal", "-wal", "-shm"] {
            let mut path = self.path.clone().into_os_string();
            path.push(suffix);
            // Most of them do not exist.
            let _ = fs::remove_file(path);
        }
    }
}

fn io(what: String) -> impl FnOnce(std::io::Error) -> TransferError {
    move |source| TransferError::Io { what, source }
}

/// Writes a backup of the ledger `from` to the file `to`, beside processes that use the ledger.
///
/// # Errors
/// If the file exists, or anything fails; no file is left then.
pub async fn backup(
    from: &LedgerUrl,
    to: &Path,
    progress: &mut (dyn FnMut(Progress<'_>) + Send),
) -> Result<TransferSummary, TransferError> {
    if to.exists() {
        return Err(TransferError::Exists(to.to_owned()));
    }
    let partial = PartialFile::beside(to)?;
    create(&partial.url()).await?;
    let options = CopyOptions { epoch: CopyEpoch::Behind, unused_at: None };
    let ends = Ends { from: from.clone(), to: partial.url(), role: EndpointRole::NewFile };
    let summary = ends.copy(options, progress).await?;
    sqlite_file::finish(&partial.path)?;
    verify(&partial.path)?;
    partial.keep_as(to)?;
    Ok(summary)
}

/// Restores the backup in the file `from` into the empty ledger `to`. Leading with the result is refused while the leader
/// lease is ahead of it, unless `accept_loss` says that what was written after the backup is given up.
///
/// # Errors
/// If the target is not empty, the backup is damaged or of a newer version, or anything fails; nothing is written then.
pub async fn restore(
    from: &Path,
    to: &LedgerUrl,
    accept_loss: bool,
    progress: &mut (dyn FnMut(Progress<'_>) + Send),
) -> Result<TransferSummary, TransferError> {
    fs::metadata(from).map_err(io(format!("reading {}", from.display())))?;
    verify(from)?;
    let options = CopyOptions { epoch: CopyEpoch::Restored { accept_loss }, unused_at: None };
    transfer(&LedgerUrl::Sqlite(from.to_owned()), to, options, progress).await
}

/// Copies the ledger `from` into the empty ledger `to`, of whichever engines. No process may use `from`: what it writes
/// during the copy and later would be lost.
///
/// # Errors
/// As [`restore`]; and if a lease of `from` is held at `now`.
pub async fn migrate(
    from: &LedgerUrl,
    to: &LedgerUrl,
    now: Timestamp,
    progress: &mut (dyn FnMut(Progress<'_>) + Send),
) -> Result<TransferSummary, TransferError> {
    let options = CopyOptions { epoch: CopyEpoch::Same, unused_at: Some(now) };
    transfer(from, to, options, progress).await
}

async fn transfer(
    from: &LedgerUrl,
    to: &LedgerUrl,
    options: CopyOptions,
    progress: &mut (dyn FnMut(Progress<'_>) + Send),
) -> Result<TransferSummary, TransferError> {
    if same(from, to) {
        return Err(TransferError::SameLedger);
    }
    let (from, _older) = current(from).await?;
    create(to).await?;
    Ends { from, to: to.clone(), role: EndpointRole::Target }.copy(options, progress).await
}

/// Creates the ledger if it is missing, and its schema.
async fn create(url: &LedgerUrl) -> Result<(), LedgerError> {
    open(url, OpenMode::Migrate).await?.close().await;
    Ok(())
}

/// The two ledgers of a copy.
struct Ends {
    from: LedgerUrl,
    to: LedgerUrl,
    role: EndpointRole,
}

impl Ends {
    async fn copy(
        self,
        options: CopyOptions,
        progress: &mut (dyn FnMut(Progress<'_>) + Send),
    ) -> Result<TransferSummary, TransferError> {
        let mut source = open_endpoint(&self.from, EndpointRole::Source).await?;
        let mut target = open_endpoint(&self.to, self.role).await?;
        let copied = copy(&mut *source, &mut *target, options, progress).await;
        let closed = target.close().await;
        source.close().await?;
        let summary = copied?;
        closed?;
        Ok(summary)
    }
}

/// The source in the schema of this version: an older file is copied and the copy migrated, so that the file stays as it is.
async fn current(from: &LedgerUrl) -> Result<(LedgerUrl, Option<PartialFile>), TransferError> {
    match (open(from, OpenMode::ReadOnly).await, from) {
        (Ok(ledger), _) => {
            ledger.close().await;
            Ok((from.clone(), None))
        }
        (Err(LedgerError::SchemaOutdated), LedgerUrl::Sqlite(path)) => {
            if !sqlite_file::is_ledger(path)? {
                return Err(TransferError::NotALedger(path.clone()));
            }
            let copy = PartialFile::beside(path)?;
            sqlite_file::duplicate(path, &copy.path)?;
            create(&copy.url()).await?;
            Ok((copy.url(), Some(copy)))
        }
        (Err(error), _) => Err(error.into()),
    }
}

fn verify(path: &Path) -> Result<(), TransferError> {
    match sqlite_file::first_damage(path)? {
        Some(finding) => Err(TransferError::Damaged { path: path.to_owned(), finding }),
        None => Ok(()),
    }
}

fn same(one: &LedgerUrl, other: &LedgerUrl) -> bool {
    let canonical = |url: &LedgerUrl| url.file().and_then(|path| fs::canonicalize(path).ok());
    one == other || canonical(one).is_some_and(|path| canonical(other) == Some(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_backups_to_one_name_the_first_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let name = dir.path().join("backup.db");
        let (first, second) = (PartialFile::beside(&name).unwrap(), PartialFile::beside(&name).unwrap());
        fs::write(&first.path, "first").unwrap();
        first.keep_as(&name).unwrap();
        let refused = second.keep_as(&name);
        assert!(matches!(refused, Err(TransferError::Exists(_))), "{refused:?}");
        assert_eq!(fs::read_to_string(&name).unwrap(), "first");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no partial file is left");
    }
}
