//! A bounded pool of connections.
//!
//! A connection is given back only after a transaction that ended well; any other is closed, whatever it was doing: the
//! server undoes what is open. So a caller that goes away in the middle leaves nothing behind but, at most, a COMMIT
//! that is under way.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::{Connection as _, PgConnection};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::failure::{OperationName, failure, timed_out};
use super::url::PostgresUrl;
use crate::ledger::error::{DriverError, LedgerError, ServerFailure};
use crate::ledger::store::OpenMode;

/// How long a connection may take to come about, with TLS and authentication.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an operation waits for a connection of the pool.
const CHECKOUT_TIMEOUT: Duration = Duration::from_secs(15);

/// Settings of each connection. A statement and a wait for a lock end by themselves; so does a transaction whose
/// process was frozen, before its lock on a lease keeps the next holder waiting. Statements find rows by indexes, also
/// while a table is still small or was never analysed: a plan that was made then is kept. An acknowledged COMMIT
/// survives a power failure.
const SETTINGS: &str = "SELECT set_config('statement_timeout', '30000', false), set_config('lock_timeout', '10000', false), \
     set_config('idle_in_transaction_session_timeout', '10000', false), set_config('enable_seqscan', 'off', false), \
     set_config('jit', 'off', false), set_config('search_path', 'public', false), \
     set_config('client_min_messages', 'warning', false), \
     set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' \
     ELSE current_setting('synchronous_commit') END, false)";
/// The same for a handle that only reads.
const READ_ONLY: &str = "SELECT set_config('default_transaction_read_only', 'on', false)";

/// Connections to one server.
#[derive(Debug)]
pub(super) struct Pool {
    url: PostgresUrl,
    mode: OpenMode,
    permits: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<PgConnection>>>,
}

impl Pool {
    pub(super) fn new(url: PostgresUrl, mode: OpenMode) -> Self {
        let permits = Arc::new(Semaphore::new(url.max_connections()));
        Self { url, mode, permits, idle: Arc::default() }
    }

    /// A connection: an idle one, or a new one.
    pub(super) async fn checkout(&self, operation: OperationName) -> Result<Checkout, LedgerError> {
        let free = tokio::time::timeout(CHECKOUT_TIMEOUT, Arc::clone(&self.permits).acquire_owned());
        let permit = match free.await {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) => return Err(LedgerError::Query { operation: operation.0, source: DriverError::closed() }),
            Err(_) => {
                let failure = timed_out("all connections of the pool were busy");
                return Err(LedgerError::server(operation.0, ServerFailure { is_connection: false, ..failure }));
            }
        };
        let idle = idle(&self.idle).pop();
        let is_reused = idle.is_some();
        let connection = match idle {
            Some(connection) => connection,
            None => self.connect().await.map_err(|failure| LedgerError::server(operation.0, failure))?,
        };
        Ok(Checkout { connection: Some(connection), is_reused, idle: Arc::clone(&self.idle), _permit: permit })
    }

    /// A new connection, outside the pool's bound.
    pub(super) async fn connect(&self) -> Result<PgConnection, ServerFailure> {
        // The password's file is read each time: it may have been replaced.
        let options = self.url.connect_options().await?;
        let connect = async {
            let mut connection = PgConnection::connect_with(&options).await?;
            sqlx::raw_sql(SETTINGS).execute(&mut connection).await?;
            if self.mode == OpenMode::ReadOnly {
                sqlx::raw_sql(READ_ONLY).execute(&mut connection).await?;
            }
            Ok(connection)
        };
        match tokio::time::timeout(CONNECT_TIMEOUT, connect).await {
            Ok(connected) => connected.map_err(|error| failure(&error)),
            Err(_) => Err(ServerFailure {
                fault: Some(crate::domain::write_fault::WriteFault::Unreachable),
                ..timed_out("the connection did not come about in time")
            }),
        }
    }

    /// Closes the connections that are not in use.
    pub(super) fn discard_idle(&self) {
        idle(&self.idle).clear();
    }

    /// Closes all connections after the transactions in progress; later checkouts fail.
    pub(super) async fn close(&self) {
        // With all permits no transaction is in progress.
        let all = u32::try_from(self.url.max_connections()).unwrap_or(u32::MAX);
        let in_progress = self.permits.acquire_many(all).await;
        self.permits.close();
        drop(in_progress);
        let connections = std::mem::take(&mut *idle(&self.idle));
        for connection in connections {
            // Tells the server; a server that does not listen notices the end by itself.
            let _ = tokio::time::timeout(Duration::from_secs(1), connection.close()).await;
        }
    }
}

fn idle(idle: &Mutex<Vec<PgConnection>>) -> MutexGuard<'_, Vec<PgConnection>> {
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A connection in use; closed on drop, unless it is given back.
pub(super) struct Checkout {
    connection: Option<PgConnection>,
    is_reused: bool,
    idle: Arc<Mutex<Vec<PgConnection>>>,
    _permit: OwnedSemaphorePermit,
}

impl Checkout {
    /// Whether it was used before, so that the server may have closed it meanwhile.
    pub(super) const fn is_reused(&self) -> bool {
        self.is_reused
    }

    /// The connection.
    pub(super) fn connection(&mut self) -> Option<&mut PgConnection> {
        self.connection.as_mut()
    }

    /// Gives the connection back for the next transaction.
    pub(super) fn give_back(&mut self) {
        if let Some(connection) = self.connection.take() {
            idle(&self.idle).push(connection);
        }
    }
}
