//! A throw-away ledger: a SQLite file in a folder of its own, deleted with it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::error::SyncError;
use super::process::SyncProcess;
use crate::ledger::credentials::StoredCredential;
use crate::ledger::{self, Lease, LeaseHolder, LeaseOptions, LeaseStore, Ledger, LedgerUrl, OpenMode, TakeOutcome};
use crate::sync::account_tokens::stored_key;

/// Validity of a lease in a ledger that no other process knows.
const LEASE_TTL: Duration = Duration::from_hours(1);

/// A folder that is deleted when this is dropped.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left holds masked rows only; the system empties its temporary folder.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// An empty ledger that is deleted when this is dropped.
pub(super) struct ScratchLedger {
    pub(super) ledger: Arc<dyn Ledger>,
    _folder: Folder,
}

impl ScratchLedger {
    /// Creates it, readable by this user only.
    pub(super) async fn create() -> Result<Self, SyncError> {
        let path = std::env::temp_dir().join(format!("busbar-{}", uuid::Uuid::new_v4().simple()));
        create_private(&path)
            .map_err(|source| SyncError::Io { what: format!("creating {}", path.display()), source })?;
        let folder = Folder(path);
        let url = LedgerUrl::Sqlite(folder.0.join("ledger.db"));
        Ok(Self { ledger: ledger::open(&url, OpenMode::Migrate).await?, _folder: folder })
    }

    /// A lease of it.
    pub(super) async fn lease(&self, process: &SyncProcess) -> Result<Lease, SyncError> {
        let options = LeaseOptions {
            name: "plan".to_owned(),
            holder: process.identity.clone(),
            ttl: LEASE_TTL,
            tasks: process.tasks.effects.clone(),
        };
        let store = Arc::clone(&self.ledger) as Arc<dyn LeaseStore>;
        match LeaseHolder::new(store, process.clock, options).take().await? {
            TakeOutcome::Taken(held) => Ok(held.into_lease()),
            // No other process knows this ledger.
            TakeOutcome::HeldByOther { .. } => Err(SyncError::Lost),
        }
    }

    /// Takes over the key of account tokens, so that the same record has the same identity in both ledgers.
    pub(super) async fn share_tokens(&self, process: &SyncProcess, with: &dyn Ledger) -> Result<(), SyncError> {
        let place = stored_key();
        if let Some(stored) = with.load_credential(&place).await? {
            let copy = StoredCredential { version: 0, ..stored };
            self.ledger.store_credential(&place, &copy, process.clock.now().wall).await?;
        }
        Ok(())
    }
}

fn create_private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().mode(0o700).create(path)
}
