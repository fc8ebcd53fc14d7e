//! A ledger whose operations fail on demand, for tests of what uses it.

use std::sync::Arc;

use super::sqlite::database::SqliteLedger;
use super::store::{Ledger, OpenMode};

/// A ledger in a folder of its own. Works until it is told to fail.
pub(crate) struct FaultyLedger {
    pub(crate) ledger: Arc<dyn Ledger>,
    engine: Arc<SqliteLedger>,
    _folder: tempfile::TempDir,
}

impl FaultyLedger {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let engine = Arc::new(SqliteLedger::open(&folder.path().join("ledger.db"), OpenMode::Migrate).await.unwrap());
        Self { ledger: Arc::clone(&engine) as Arc<dyn Ledger>, engine, _folder: folder }
    }

    /// From now on each write fails as on a full disk.
    pub(crate) fn fail_writes(&self) {
        self.engine.fail_writes(rusqlite::ffi::SQLITE_FULL);
    }

    /// From now on each read fails as of a lost disk.
    pub(crate) fn fail_reads(&self) {
        self.engine.fail_reads(rusqlite::ffi::SQLITE_IOERR_READ);
    }

    /// From now on this payout cannot be read.
    pub(crate) async fn damage_payout(&self, payout_id: &str) {
        self.engine.damage_payout(payout_id).await.unwrap();
    }

    /// The disk is good again.
    pub(crate) fn recover(&self) {
        self.engine.recover();
    }
}
