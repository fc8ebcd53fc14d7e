//! A database on a throw-away server.

use std::sync::Arc;

use crate::ledger::contract::OpenLedger;
use crate::ledger::error::LedgerError;
use crate::ledger::open::{LedgerUrl, open};
use crate::ledger::store::{Ledger, OpenMode};
use crate::testbed::postgres::PostgresServer;

/// A database of its own on the server that all tests of the process share.
pub(super) struct PostgresStore {
    pub(super) url: String,
}

impl PostgresStore {
    /// The database's name.
    pub(super) fn database(&self) -> &str {
        database(&self.url)
    }
}

/// The name of the database in a URL of a throw-away server.
pub(super) fn database(url: &str) -> &str {
    url.rsplit_once('/').filter(|_| !url.contains('?')).map_or_else(
        || url.split_once("@/").and_then(|(_, rest)| rest.split('?').next()).expect("a database"),
        |(_, name)| name,
    )
}

/// Opens a handle on a database.
pub(super) async fn open_url(url: &str, mode: OpenMode) -> Result<Arc<dyn Ledger>, LedgerError> {
    open(&url.parse::<LedgerUrl>().unwrap(), mode).await
}

impl OpenLedger for PostgresStore {
    async fn create() -> Self {
        let server = PostgresServer::shared().await.unwrap();
        Self { url: server.create_database().await.unwrap() }
    }

    async fn open(&self, mode: OpenMode) -> Result<Arc<dyn Ledger>, LedgerError> {
        // Few connections each: all tests share the server's.
        open_url(&format!("{}&max_connections=4", self.url), mode).await
    }
}
