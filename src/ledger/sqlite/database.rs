//! One SQLite file: how it is opened, and the one writer and few readers of it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::codec::OperationName;
use super::connection::{ConnectOptions, MissingFile, Mode, Transaction};
use super::migrations;
use super::worker::{Slot, Workers};
use crate::ledger::error::{DriverError, LedgerError};
use crate::ledger::health::HealthTracker;
use crate::ledger::store::OpenMode;

/// How long a writer waits for another process (a backup, the CLI) to release the file lock, its time in the queue
/// included.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Readers are status, the CLI and metrics; more connections would only use memory.
const READERS: usize = 4;

const OPEN: OperationName = OperationName("opening the file");

/// A ledger in one SQLite file.
#[derive(Debug)]
pub(crate) struct SqliteLedger {
    /// One connection; read-only in [`OpenMode::ReadOnly`].
    pub(super) writer: Workers,
    pub(super) readers: Workers,
    pub(super) health: Arc<HealthTracker>,
    /// Counts the commits after which there may be something to publish.
    pub(super) events: Arc<watch::Sender<u64>>,
    /// The faults of the writer's steps.
    #[cfg(test)]
    pub(super) faults: Arc<super::faults::Faults>,
    /// The faults of the readers' steps.
    #[cfg(test)]
    pub(super) read_faults: Arc<super::faults::Faults>,
}

impl SqliteLedger {
    /// Opens the file in the given mode.
    pub(crate) async fn open(path: &Path, mode: OpenMode) -> Result<Self, LedgerError> {
        Self::open_with(path, mode, BUSY_TIMEOUT).await
    }

    /// Opens the file, with a busy timeout.
    pub(super) async fn open_with(path: &Path, mode: OpenMode, busy_timeout: Duration) -> Result<Self, LedgerError> {
        let failed = {
            let path = path.display().to_string();
            move |source| LedgerError::Open { path: path.clone(), source }
        };
        let write_options = ConnectOptions {
            path: path.to_owned(),
            read_only: mode == OpenMode::ReadOnly,
            busy_timeout,
            #[cfg(test)]
            faults: Arc::default(),
        };
        let read_options = ConnectOptions {
            read_only: true,
            #[cfg(test)]
            faults: Arc::default(),
            ..write_options.clone()
        };
        let start = |name, count, options: &ConnectOptions| {
            Workers::start(name, count, options).map_err(|source| failed(DriverError::thread(source)))
        };
        let ledger = Self {
            writer: start("ledger-writer", 1, &write_options)?,
            readers: start("ledger-reader", READERS, &read_options)?,
            health: Arc::default(),
            events: Arc::new(watch::Sender::new(0)),
            #[cfg(test)]
            faults: Arc::clone(&write_options.faults),
            #[cfg(test)]
            read_faults: Arc::clone(&read_options.faults),
        };
        let prepared = ledger.writer.run(OPEN.0, move |slot| prepare(slot, mode, failed)).await;
        if let Err(error) = prepared {
            ledger.close_all().await;
            return Err(error);
        }
        Ok(ledger)
    }

    /// Runs `work` in one write transaction on the writer's thread; an error rolls it back.
    pub(super) async fn write<T, W>(&self, operation: OperationName, work: W) -> Result<T, LedgerError>
    where
        T: Send + 'static,
        W: FnOnce(&Transaction<'_>) -> Result<T, LedgerError> + Send + 'static,
    {
        self.write_with(operation, move |slot| {
            let connection = slot.connection().map_err(|e| operation.failed(e))?;
            connection.transaction(Mode::Write, operation, work).map_err(|error| error.into_error(operation))
        })
        .await
    }

    /// Runs `work`, which writes, on the writer's thread, and records whether the file can be written.
    pub(super) async fn write_with<T, W>(&self, operation: OperationName, work: W) -> Result<T, LedgerError>
    where
        T: Send + 'static,
        W: FnOnce(&mut Slot) -> Result<T, LedgerError> + Send + 'static,
    {
        let (health, events) = (Arc::clone(&self.health), Arc::clone(&self.events));
        self.writer
            .run(operation.0, move |slot| {
                let outcome = work(slot);
                // Here and not in the caller, who may have gone. A success that changed nothing shows nothing: a full
                // volume has room for it, and the health would change at each pruning that finds nothing to delete.
                if outcome.is_err() || slot.has_written() {
                    health.record(&outcome);
                }
                if slot.has_stored_events() {
                    events.send_modify(|count| *count = count.wrapping_add(1));
                }
                outcome
            })
            .await
    }

    /// Runs `work` in one read transaction: its statements see one snapshot.
    pub(super) async fn read<T, W>(&self, operation: OperationName, work: W) -> Result<T, LedgerError>
    where
        T: Send + 'static,
        W: FnOnce(&Transaction<'_>) -> Result<T, LedgerError> + Send + 'static,
    {
        self.readers.run(operation.0, move |slot| read(slot, operation, work)).await
    }

    /// Like [`Self::read`], after the writes that were begun before.
    pub(super) async fn read_in_order<T, W>(&self, operation: OperationName, work: W) -> Result<T, LedgerError>
    where
        T: Send + 'static,
        W: FnOnce(&Transaction<'_>) -> Result<T, LedgerError> + Send + 'static,
    {
        self.writer.run(operation.0, move |slot| read(slot, operation, work)).await
    }

    /// Closes all connections after the operations in flight.
    pub(super) async fn close_all(&self) {
        // The writer last: the last connection to the file empties the journal, and only a writer can.
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// Runs `work` in one read transaction of the thread's connection.
pub(super) fn read<T>(
    slot: &mut Slot,
    operation: OperationName,
    work: impl FnOnce(&Transaction<'_>) -> Result<T, LedgerError>,
) -> Result<T, LedgerError> {
    let connection = slot.connection().map_err(|e| operation.failed(e))?;
    connection.transaction(Mode::Read, operation, work).map_err(|error| error.into_error(operation))
}

/// Opens the writer's connection for the first time and brings the schema to this version, or checks that it is.
fn prepare(
    slot: &mut Slot,
    mode: OpenMode,
    failed: impl FnOnce(DriverError) -> LedgerError,
) -> Result<(), LedgerError> {
    let missing = if mode == OpenMode::Migrate { MissingFile::Create } else { MissingFile::Fail };
    let connection = slot.open(missing).map_err(|source| failed(source.into()))?;
    if mode == OpenMode::Migrate {
        migrations::run(connection)
    } else if migrations::is_current(connection)? {
        Ok(())
    } else {
        Err(LedgerError::SchemaOutdated)
    }
}
