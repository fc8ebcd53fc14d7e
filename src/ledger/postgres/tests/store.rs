//! A database on a throw-away server.

use std::sync::Arc;

use tokio::sync::OnceCell;

use crate::ledger::contract::OpenLedger;
use crate::ledger::error::LedgerError;
use crate::ledger::open::{LedgerUrl, open};
use crate::ledger::store::{Ledger, OpenMode};
use crate::testbed::postgres::PostgresServer;

/// A database of its own on the server that all tests of the process share.
pub(super) struct PostgresStore {
    pub(super) url: String,
    server: &'static PostgresServer,
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        self.server.drop_database(&self.url);
    }
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

/// A new database on the shared server, with the schema and without rows: a copy, which is made faster than a
/// migration.
pub(super) async fn migrated_url() -> String {
    static TEMPLATE: OnceCell<String> = OnceCell::const_new();
    let server = PostgresServer::shared().await.unwrap();
    let template = TEMPLATE
        .get_or_init(async || {
            let url = server.create_database().await.unwrap();
            open_url(&url, OpenMode::Migrate).await.unwrap().close().await;
            database(&url).to_owned()
        })
        .await;
    server.create_database_with(&format!("TEMPLATE {template}")).await.unwrap()
}

impl OpenLedger for PostgresStore {
    async fn create() -> Self {
        Self { url: migrated_url().await, server: PostgresServer::shared().await.unwrap() }
    }

    async fn open(&self, mode: OpenMode) -> Result<Arc<dyn Ledger>, LedgerError> {
        // Few connections each: all tests share the server's.
        open_url(&format!("{}&max_connections=4", self.url), mode).await
    }
}
