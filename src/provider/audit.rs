//! Writes audit entries to the ledger: a bounded queue, and one writer that commits them in batches.
//!
//! A call does not wait for the disk. When the queue is full (the ledger has failed for a while), entries are dropped,
//! counted and logged as errors: the operator keeps serving when it cannot write the audit log, and memory stays
//! bounded.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use prometheus::IntCounter;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::ledger::Ledger;
use crate::ledger::audit::AuditEntry;
use crate::metrics::{Metrics, MetricsError};

/// Queue capacity in entries: a few megabytes, seconds of the busiest gateway.
const QUEUE_CAPACITY: usize = 8_192;
/// Entries per transaction: a flush to disk costs as much as some hundred rows.
const BATCH_SIZE: usize = 256;
/// How long a batch waits for more entries: the flush is the cost, not the row.
const BATCH_DELAY: Duration = Duration::from_millis(20);
/// Delay after a failed write.
const RETRY_DELAY: Duration = Duration::from_millis(500);
/// How often old entries are removed.
const PRUNE_INTERVAL: Duration = Duration::from_hours(1);

/// The sending half of the queue. Clones share it.
#[derive(Clone)]
pub struct AuditQueue {
    sender: mpsc::Sender<AuditEntry>,
    dropped: IntCounter,
}

/// Moves entries from the queue to the ledger.
pub struct AuditWriter {
    receiver: mpsc::Receiver<AuditEntry>,
    ledger: Arc<dyn Ledger>,
    clock: Clock,
    retention: Duration,
    dropped: IntCounter,
}

/// A queue and its writer. Entries older than `retention` are removed.
///
/// # Errors
/// If the metric is registered already.
pub fn audit_channel(
    ledger: Arc<dyn Ledger>,
    clock: Clock,
    retention: Duration,
    metrics: &Metrics,
) -> Result<(AuditQueue, AuditWriter), MetricsError> {
    let (sender, receiver) = mpsc::channel(QUEUE_CAPACITY);
    let dropped = metrics
        .counter("busbar_audit_dropped_total", "Audit entries that could not be written.", &[])?
        .with_label_values::<&str>(&[]);
    let queue = AuditQueue { sender, dropped: dropped.clone() };
    Ok((queue, AuditWriter { receiver, ledger, clock, retention, dropped }))
}

impl AuditQueue {
    /// Enqueues an entry; never waits.
    pub fn enqueue(&self, entry: AuditEntry) {
        if let Err(error) = self.sender.try_send(entry) {
            self.dropped.inc();
            let (mpsc::error::TrySendError::Full(entry) | mpsc::error::TrySendError::Closed(entry)) = error;
            tracing::error!(
                namespace = entry.namespace,
                name = entry.connection,
                action = entry.action,
                subject = entry.subject,
                allowed = entry.allowed,
                "audit entry dropped: the queue is full or closed"
            );
        }
    }
}

impl AuditWriter {
    /// Writes entries until `stop`, then drains the queue.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH_SIZE);
        let mut prune_at = self.clock.mono();
        loop {
            tokio::select! {
                biased;
                received = self.receiver.recv_many(&mut batch, BATCH_SIZE) => {
                    if received == 0 {
                        return;
                    }
                    if batch.len() < BATCH_SIZE {
                        tokio::time::sleep(BATCH_DELAY).await;
                        while batch.len() < BATCH_SIZE && let Ok(entry) = self.receiver.try_recv() {
                            batch.push(entry);
                        }
                    }
                    self.write(&mut batch, &stop).await;
                }
                () = stop.cancelled() => break,
                () = self.clock.sleep_until(prune_at) => {
                    prune_at = self.clock.mono() + PRUNE_INTERVAL;
                    self.prune().await;
                }
            }
        }
        self.receiver.close();
        while let Ok(entry) = self.receiver.try_recv() {
            batch.push(entry);
        }
        if !batch.is_empty() {
            self.write(&mut batch, &stop).await;
        }
    }

    async fn write(&self, batch: &mut Vec<AuditEntry>, stop: &CancellationToken) {
        loop {
            match self.ledger.append_audit(batch).await {
                Ok(()) => break,
                // Retried until it succeeds: meanwhile the queue fills, and entries that do not fit are counted there.
                Err(error) if error.is_transient() && !stop.is_cancelled() => {
                    tracing::warn!(%error, "audit write failed; retrying");
                    tokio::time::sleep(RETRY_DELAY).await;
                }
                Err(error) => {
                    tracing::error!(%error, entries = batch.len(), "audit write failed; entries dropped");
                    self.dropped.inc_by(batch.len() as u64);
                    break;
                }
            }
        }
        batch.clear();
    }

    async fn prune(&self) {
        let retention = SignedDuration::try_from(self.retention).unwrap_or(SignedDuration::MAX);
        let Ok(before) = self.clock.now().wall.checked_sub(retention) else { return };
        if let Err(error) = self.ledger.prune_audit(before).await {
            tracing::warn!(%error, "pruning the audit log failed; retrying at the next interval");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::audit::AuditKind;
    use crate::ledger::{self, LedgerUrl, OpenMode};

    #[tokio::test]
    async fn entries_are_written_in_order_and_the_queue_is_drained_at_stop() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = ledger::open(&LedgerUrl::Sqlite(dir.path().join("l.db")), OpenMode::Migrate).await.unwrap();
        let (stop, retention) = (CancellationToken::new(), Duration::from_hours(24));
        let (queue, writer) = audit_channel(ledger.clone(), Clock::system(), retention, &Metrics::new()).unwrap();
        let writing = tokio::spawn(writer.run(stop.clone()));
        for n in 0..600 {
            queue.enqueue(AuditEntry {
                at: Clock::system().now().wall,
                kind: AuditKind::Call,
                action: n.to_string(),
                subject: "ann".into(),
                rights_profile: Some("analysts".into()),
                allowed: true,
                namespace: "ns".into(),
                connection: "fmp".into(),
                provider: None,
                purpose: None,
                reason: None,
                request_id: None,
            });
        }
        stop.cancel();
        writing.await.unwrap();
        let all = ledger.list_audit(None, None, 1_000).await.unwrap();
        assert_eq!(all.len(), 600);
        assert!(all.iter().rev().enumerate().all(|(n, stored)| stored.entry.action == n.to_string()));
    }
}
