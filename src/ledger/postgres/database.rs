//! A ledger on one server: how it is opened.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::failure::OperationName;
use super::migrations;
use super::pool::Pool;
use super::server::Server;
use super::transaction::{Mode, settled, transaction};
use super::url::PostgresUrl;
use crate::domain::write_fault::WriteFault;
use crate::ledger::error::LedgerError;
use crate::ledger::store::OpenMode;

const OPEN: OperationName = OperationName("connecting to the server");

/// How often an operator that starts together with its database tries to connect, and the pause between.
const OPEN_ATTEMPTS: u32 = 20;
const OPEN_PAUSE: Duration = Duration::from_secs(1);

/// A ledger on a PostgreSQL server.
#[derive(Debug)]
pub(crate) struct PostgresLedger {
    server: Server,
}

impl PostgresLedger {
    /// Connects to the server and brings the schema to this version, or checks that it is.
    pub(crate) async fn open(url: &PostgresUrl, mode: OpenMode) -> Result<Self, LedgerError> {
        if url.is_unprotected() {
            tracing::warn!(
                server = %url,
                "ledger server not verified: an attacker on the network can read and change what is stored; \
                 set sslmode=verify-full and sslrootcert in --ledger"
            );
        }
        let (pool, events) = (Pool::new(url.clone(), mode), watch::Sender::new(0));
        let server = Server { pool, health: Arc::default(), events };
        let ledger = Self { server };
        ledger.connect(url, mode).await?;
        if mode == OpenMode::Migrate {
            migrations::run(&ledger.server).await?;
        } else if !migrations::is_current(&ledger.server).await? {
            return Err(LedgerError::SchemaOutdated);
        }
        Ok(ledger)
    }

    pub(super) const fn server(&self) -> &Server {
        &self.server
    }

    /// Makes the first connection. Only a server that cannot be reached is waited for, and only by an operator: a
    /// command line says at once what is wrong.
    async fn connect(&self, url: &PostgresUrl, mode: OpenMode) -> Result<(), LedgerError> {
        let attempts = if mode == OpenMode::Migrate { OPEN_ATTEMPTS } else { 1 };
        for attempt in 1.. {
            let connected = settled(
                &self.server,
                OPEN,
                transaction!(self, Mode::Read, OPEN, |tx| {
                    tx.fetch_optional(sqlx::query("SELECT 1")).await.map(drop)
                }),
            );
            let Err(error) = connected else { return Ok(()) };
            let is_unreachable = error.write_fault() == Some(WriteFault::Unreachable);
            if !is_unreachable || attempt >= attempts {
                return Err(connection_failed(url, error));
            }
            if attempt == 1 {
                tracing::warn!(server = %url, %error, "the ledger's server is not reachable; retrying");
            }
            tokio::time::sleep(OPEN_PAUSE).await;
        }
        Ok(())
    }

    /// Closes all connections after the transactions in progress.
    pub(super) async fn close_all(&self) {
        self.server.pool.close().await;
    }
}

fn connection_failed(url: &PostgresUrl, error: LedgerError) -> LedgerError {
    match error {
        LedgerError::Busy { source, .. } | LedgerError::Storage { source, .. } | LedgerError::Query { source, .. } => {
            LedgerError::Connect { server: url.to_string(), source }
        }
        error => error,
    }
}
