//! Writes audit entries to the ledger: a bounded queue, and one writer that commits them in batches.
//!
//! A call does not wait for the disk. When the queue is full (the ledger has failed for a while), entries are dropped,
//! counted and logged as errors: the operator keeps serving when it cannot write the audit log, and memory stays
//! bounded. No namespace can fill the queue for the others: each has a fair share of it. Refusals do not enter the queue
//! one by one: equal ones are one row ([`refusals`]), so that a caller without rights neither fills the log nor displaces
//! the entries of others. [`pruner`] keeps the log's size bounded.

pub mod pruner;
pub mod refusals;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::{IntCounter, IntCounterVec};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::clock::Clock;
use crate::domain::fair_shares::{FairLimits, FairShares, WhenFull};
use crate::domain::key::ObjectKey;
use crate::domain::log_limit::LogLimit;
use crate::domain::time::Mono;
use crate::ledger::Ledger;
use crate::ledger::audit::{AuditBatch, AuditEntry, AuditKind};
use crate::metrics::{Metrics, MetricsError};
use crate::provider::audit::refusals::RefusalLog;

/// Queue capacity in entries: a few megabytes, seconds of the busiest gateway. A full queue is exceeded by the fair shares
/// of those that have less than theirs.
const QUEUE_LIMITS: FairLimits =
    FairLimits { total: 8_192, per_namespace: 6_144, per_connection: 4_096, when_full: WhenFull::FairShares };
/// Entries per transaction: a flush to disk costs as much as some hundred rows.
const BATCH_SIZE: usize = 256;
/// How long a batch waits for more entries: the flush is the cost, not the row.
const BATCH_DELAY: Duration = Duration::from_millis(20);
/// The label for errors without a row of their own.
const ERRORS: &str = "errors";
/// Delay after a failed write.
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// The sending half of the queue. Clones share it.
#[derive(Clone)]
pub struct AuditQueue {
    sender: mpsc::UnboundedSender<AuditEntry>,
    shares: Arc<Mutex<FairShares>>,
    refusals: Arc<PendingRefusals>,
    clock: Clock,
    lines: Arc<Mutex<LogLimit<()>>>,
    dropped: IntCounter,
    omitted: IntCounterVec,
}

/// Moves entries from the queue to the ledger.
pub struct AuditWriter {
    receiver: mpsc::UnboundedReceiver<AuditEntry>,
    shares: Arc<Mutex<FairShares>>,
    refusals: Arc<PendingRefusals>,
    ledger: Arc<dyn Ledger>,
    clock: Clock,
    dropped: IntCounter,
    /// This process, in the ledger.
    writer: Uuid,
    /// Batches so far.
    batches: u64,
}

/// The refusals and errors that are not written yet.
struct PendingRefusals {
    refusals: Mutex<RefusalLog>,
    /// Requests that were allowed and ended with an error: they have rows of their own.
    errors: Mutex<RefusalLog>,
    /// Notified when a row was opened.
    opened: Notify,
}

impl Default for PendingRefusals {
    fn default() -> Self {
        Self { refusals: Mutex::default(), errors: Mutex::new(RefusalLog::of_errors()), opened: Notify::new() }
    }
}

impl PendingRefusals {
    fn logs(&self) -> [MutexGuard<'_, RefusalLog>; 2] {
        [&self.refusals, &self.errors].map(|log| log.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn next_due(&self) -> Option<Mono> {
        self.logs().iter().filter_map(|log| log.next_due()).min()
    }

    fn take_due(&self, now: Mono) -> Vec<AuditEntry> {
        self.logs().iter_mut().flat_map(|log| log.take_due(now)).collect()
    }

    fn take_all(&self) -> Vec<AuditEntry> {
        self.logs().iter_mut().flat_map(|log| log.take_all()).collect()
    }
}

/// A queue and its writer.
///
/// # Errors
/// If a metric is registered already.
pub fn audit_channel(
    ledger: Arc<dyn Ledger>,
    clock: Clock,
    metrics: &Metrics,
) -> Result<(AuditQueue, AuditWriter), MetricsError> {
    // Bounded by the shares.
    let (sender, receiver) = mpsc::unbounded_channel();
    let shares = Arc::new(Mutex::new(FairShares::new(QUEUE_LIMITS)));
    let dropped = metrics
        .counter("busbar_audit_dropped_total", "Audit entries that could not be written.", &[])?
        .with_label_values::<&str>(&[]);
    let omitted = metrics.counter_from_zero(
        "busbar_audit_refusals_omitted_total",
        "Refusals without an audit row of their own, by the limit on rows that was reached: caller, namespace, total; errors: \
         requests that were allowed and ended with an error.",
        ["limit"],
        [["caller"], ["namespace"], ["total"], [ERRORS]],
    )?;
    let refusals = Arc::<PendingRefusals>::default();
    let lines = Arc::new(Mutex::new(LogLimit::new(1)));
    let writer = Uuid::new_v4();
    let queue = AuditQueue {
        sender,
        shares: Arc::clone(&shares),
        refusals: Arc::clone(&refusals),
        clock,
        lines,
        dropped: dropped.clone(),
        omitted,
    };
    Ok((queue, AuditWriter { receiver, shares, refusals, ledger, clock, dropped, writer, batches: 0 }))
}

/// The connection by which an entry is counted in the queue.
fn connection(entry: &AuditEntry) -> ObjectKey {
    ObjectKey::new(entry.namespace.as_str(), entry.connection.as_str())
}

impl AuditQueue {
    /// Enqueues an entry; never waits.
    pub fn enqueue(&self, entry: AuditEntry) {
        let is_refusal = match entry.kind {
            AuditKind::Call | AuditKind::Consumer => !entry.allowed,
            AuditKind::Request => true,
            AuditKind::DeadRequest | AuditKind::Sync => false,
        };
        if is_refusal && !self.sender.is_closed() {
            return self.record_refusal(entry);
        }
        if let Err(entry) = self.try_enqueue(entry) {
            self.dropped.inc();
            let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(omitted) = lines.admit((), self.clock.mono()) else { return };
            tracing::error!(
                namespace = entry.namespace,
                name = entry.connection,
                action = entry.action,
                subject = entry.subject,
                allowed = entry.allowed,
                omitted,
                "audit entry dropped: the queue is full or closed"
            );
        }
    }

    /// Returns the entry if the queue is closed, or full for its connection.
    fn try_enqueue(&self, entry: AuditEntry) -> Result<(), Box<AuditEntry>> {
        let key = connection(&entry);
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        if !shares.admits(&key) {
            return Err(Box::new(entry));
        }
        self.sender.send(entry).map_err(|mpsc::error::SendError(entry)| Box::new(entry))?;
        shares.add(&key);
        Ok(())
    }

    fn record_refusal(&self, refusal: AuditEntry) {
        let is_error = refusal.allowed;
        let log = if is_error { &self.refusals.errors } else { &self.refusals.refusals };
        let (result, opened) = {
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            let result = log.record(refusal, self.clock.mono());
            (result, log.take_opened())
        };
        if opened {
            self.refusals.opened.notify_one();
        }
        if let Err(limit) = result {
            self.omitted.with_label_values(&[if is_error { ERRORS } else { limit.as_str() }]).inc();
        }
    }
}

impl AuditWriter {
    /// Writes entries until `stop`, then drains the queue.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH_SIZE);
        loop {
            let due = self.refusals.next_due().unwrap_or(Mono::MAX);
            tokio::select! {
                biased;
                received = self.receiver.recv_many(&mut batch, BATCH_SIZE) => {
                    if received == 0 {
                        break;
                    }
                    if batch.len() < BATCH_SIZE {
                        tokio::time::sleep(BATCH_DELAY).await;
                        while batch.len() < BATCH_SIZE && let Ok(entry) = self.receiver.try_recv() {
                            batch.push(entry);
                        }
                    }
                    let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
                    for entry in &batch {
                        shares.remove(&connection(entry));
                    }
                }
                () = stop.cancelled() => break,
                () = self.refusals.opened.notified() => continue,
                () = self.clock.sleep_until(due) => {}
            }
            batch.append(&mut self.refusals.take_due(self.clock.mono()));
            self.write(&mut batch, &stop).await;
        }
        self.receiver.close();
        while let Ok(entry) = self.receiver.try_recv() {
            batch.push(entry);
        }
        batch.append(&mut self.refusals.take_all());
        batch.sort_by_key(|entry| entry.at);
        self.write(&mut batch, &stop).await;
    }

    async fn write(&mut self, batch: &mut Vec<AuditEntry>, stop: &CancellationToken) {
        self.batches += 1;
        let (writer, number, at) = (self.writer, self.batches, self.clock.now().wall);
        while !batch.is_empty() {
            // Under the same number as before: a batch whose COMMIT lost its answer is stored once.
            match self.ledger.append_audit_batch(AuditBatch { writer, number, at, entries: batch }).await {
                Ok(()) => break,
                // Retried until it succeeds: meanwhile the queue fills, and entries that do not fit are counted there.
                Err(error) if error.is_transient() && !stop.is_cancelled() => {
                    tracing::warn!(%error, "audit write failed; retrying");
                    tokio::time::sleep(RETRY_DELAY).await;
                }
                Err(error) => {
                    tracing::error!(%error, entries = batch.len(), "audit write failed; entries dropped");
                    self.dropped.inc_by(batch.iter().map(AuditEntry::count).sum());
                    break;
                }
            }
        }
        batch.clear();
    }
}

#[cfg(test)]
mod tests;
