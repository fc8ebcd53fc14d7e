//! Threads that own connections, and the queue of their jobs.
//!
//! SQLite blocks, so it runs on threads of its own. A thread opens its connection with its first job and opens another
//! whenever the last job left it in doubt: after any error of SQLite, with a transaction still open, after a panic. So no
//! fault outlives its cause. A job whose caller has gone before it was begun is dropped.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::connection::{ConnectOptions, Connection, MissingFile};
use crate::clock::Clock;
use crate::ledger::error::{DriverError, LedgerError};

/// Jobs that wait in the queue; further callers wait for a place. Each holds a copy of what it writes.
const QUEUE: usize = 64;

type Job = Box<dyn FnOnce(&mut Slot) + Send>;

/// Threads with a connection each, and one queue.
#[derive(Debug)]
pub(super) struct Workers {
    /// `None` once closed.
    queue: Mutex<Option<mpsc::Sender<Job>>>,
    /// One for each thread, cancelled when it has ended.
    ended: Vec<CancellationToken>,
    clock: Clock,
}

impl Workers {
    /// Starts `count` threads that open their connections with `options`.
    pub(super) fn start(name: &str, count: usize, options: &ConnectOptions) -> std::io::Result<Self> {
        let (queue, jobs) = mpsc::channel::<Job>(QUEUE);
        let jobs = Arc::new(Mutex::new(jobs));
        let mut ended = Vec::with_capacity(count);
        for _ in 0..count {
            let token = CancellationToken::new();
            let (jobs, slot, guard) = (Arc::clone(&jobs), Slot::new(options.clone()), token.clone().drop_guard());
            std::thread::Builder::new().name(name.to_owned()).spawn(move || {
                serve(&jobs, slot);
                drop(guard);
            })?;
            ended.push(token);
        }
        Ok(Self { queue: Mutex::new(Some(queue)), ended, clock: Clock::system() })
    }

    /// Runs `work` on one of the threads. Jobs begin in the order of the calls.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&mut Slot) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let closed = || LedgerError::Query { operation, source: DriverError::closed() };
        let queue = self.queue().clone().ok_or_else(closed)?;
        let (reply, answer) = oneshot::channel();
        let (clock, submitted) = (self.clock, self.clock.mono());
        let job: Job = Box::new(move |slot| {
            if !reply.is_closed() {
                slot.waited = clock.mono().since(submitted);
                let _ = reply.send(work(slot));
            }
        });
        queue.send(job).await.map_err(|_| closed())?;
        drop(queue);
        answer.await.unwrap_or_else(|_| Err(LedgerError::Query { operation, source: DriverError::panicked() }))
    }

    /// Ends the threads after the jobs in the queue, and waits for that. Later jobs fail.
    pub(super) async fn close(&self) {
        self.queue().take();
        for ended in &self.ended {
            ended.cancelled().await;
        }
    }

    fn queue(&self) -> std::sync::MutexGuard<'_, Option<mpsc::Sender<Job>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn serve(jobs: &Mutex<mpsc::Receiver<Job>>, mut slot: Slot) {
    loop {
        // One idle thread waits in the queue, the others for the lock.
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
        let Some(job) = job else { return };
        // The panic's message is printed by the hook; the caller gets an error.
        if std::panic::catch_unwind(AssertUnwindSafe(|| job(&mut slot))).is_err() {
            slot.connection = None;
        }
        slot.discard_if_in_doubt();
    }
}

/// A thread's connection.
pub(super) struct Slot {
    options: ConnectOptions,
    connection: Option<Connection>,
    /// How long the job waited in the queue.
    waited: Duration,
}

impl Slot {
    fn new(options: ConnectOptions) -> Self {
        Self { options, connection: None, waited: Duration::ZERO }
    }

    /// The connection, opened if necessary. A missing file is not created: what is lost must not look empty.
    pub(super) fn connection(&mut self) -> Result<&Connection, rusqlite::Error> {
        self.open(MissingFile::Fail)
    }

    /// The connection, opened if necessary.
    pub(super) fn open(&mut self, missing: MissingFile) -> Result<&Connection, rusqlite::Error> {
        self.discard_if_in_doubt();
        // Callers that already waited in the queue do not wait as long again for a lock: they would add up.
        let busy_timeout = self.options.busy_timeout.saturating_sub(self.waited);
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(&ConnectOptions { busy_timeout, ..self.options.clone() }, missing)?,
        };
        connection.set_busy_timeout(busy_timeout)?;
        Ok(self.connection.insert(connection))
    }

    /// Whether the last transaction is committed and changed rows.
    pub(super) fn has_written(&self) -> bool {
        self.connection.as_ref().is_some_and(Connection::has_written)
    }

    /// Whether the last transaction is committed, and there may be something to publish.
    pub(super) fn has_stored_events(&self) -> bool {
        self.connection.as_ref().is_some_and(Connection::has_stored_events)
    }

    fn discard_if_in_doubt(&mut self) {
        if self.connection.as_ref().is_some_and(|connection| !connection.is_usable()) {
            // Closing it rolls back whatever is still open.
            self.connection = None;
        }
    }
}
