//! The way of an audit entry into the ledger: a bounded queue, and one writer that commits many at once.
//!
//! A call does not wait for a disk. When the queue is full (the ledger has been in trouble for a while), entries are
//! dropped, counted and said aloud: an operator that stops serving because it cannot write about it helps nobody, and
//! memory must not grow with the trouble.

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

/// Entries that may wait: some megabytes, seconds of the busiest gateway.
const QUEUE: usize = 8_192;
/// Entries of one transaction: a flush to disk costs as much as some hundred rows.
const BATCH: usize = 256;
/// How long an entry waits for company: the writer's flush is the cost, not the row.
const GATHER: Duration = Duration::from_millis(20);
/// Pause after a failed write.
const PAUSE: Duration = Duration::from_millis(500);
/// How often old entries are removed.
const PRUNE_EVERY: Duration = Duration::from_hours(1);

/// Where entries are put. Cloning shares it.
#[derive(Clone)]
pub struct AuditQueue {
    sender: mpsc::Sender<AuditEntry>,
    dropped: IntCounter,
}

/// Takes entries out of the queue and into the ledger.
pub struct AuditWriter {
    receiver: mpsc::Receiver<AuditEntry>,
    ledger: Arc<dyn Ledger>,
    clock: Clock,
    keep: Duration,
    dropped: IntCounter,
}

/// A queue and its writer. Entries older than `keep` are removed.
pub fn audit(
    ledger: Arc<dyn Ledger>,
    clock: Clock,
    keep: Duration,
    metrics: &Metrics,
) -> Result<(AuditQueue, AuditWriter), MetricsError> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let dropped = metrics
        .counter("busbar_audit_dropped_total", "Audit entries that could not be written.", &[])?
        .with_label_values::<&str>(&[]);
    let queue = AuditQueue { sender, dropped: dropped.clone() };
    Ok((queue, AuditWriter { receiver, ledger, clock, keep, dropped }))
}

impl AuditQueue {
    /// Puts one in; never waits.
    pub fn put(&self, entry: AuditEntry) {
        if let Err(error) = self.sender.try_send(entry) {
            self.dropped.inc();
            let (mpsc::error::TrySendError::Full(entry) | mpsc::error::TrySendError::Closed(entry)) = error;
            tracing::error!(
                namespace = entry.namespace,
                name = entry.connection,
                action = entry.action,
                subject = entry.subject,
                allowed = entry.allowed,
                "an audit entry could not be kept in the ledger"
            );
        }
    }
}

impl AuditWriter {
    /// Writes until `stop`, then what is still in the queue.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH);
        let mut prune_at = self.clock.mono();
        loop {
            tokio::select! {
                biased;
                taken = self.receiver.recv_many(&mut batch, BATCH) => {
                    if taken == 0 {
                        return;
                    }
                    if batch.len() < BATCH {
                        tokio::time::sleep(GATHER).await;
                        while batch.len() < BATCH && let Ok(entry) = self.receiver.try_recv() {
                            batch.push(entry);
                        }
                    }
                    self.write(&mut batch, &stop).await;
                }
                () = stop.cancelled() => break,
                () = self.clock.sleep_until(prune_at) => {
                    prune_at = self.clock.mono() + PRUNE_EVERY;
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
                // Tried until it works: meanwhile the queue fills, and what does not fit is counted there.
                Err(error) if error.is_transient() && !stop.is_cancelled() => {
                    tracing::warn!(%error, "the audit cannot be written; trying again");
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => {
                    tracing::error!(%error, entries = batch.len(), "audit entries are lost");
                    self.dropped.inc_by(batch.len() as u64);
                    break;
                }
            }
        }
        batch.clear();
    }

    async fn prune(&self) {
        let keep = SignedDuration::try_from(self.keep).unwrap_or(SignedDuration::MAX);
        let Ok(before) = self.clock.now().wall.checked_sub(keep) else { return };
        if let Err(error) = self.ledger.prune_audit(before).await {
            tracing::warn!(%error, "old entries of the audit stay for now");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::audit::{Audit as _, AuditKind};
    use crate::ledger::sqlite::SqliteLedger;

    #[tokio::test]
    async fn entries_arrive_in_order_and_the_last_ones_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Arc::new(SqliteLedger::open(dir.path().join("l.db")).await.unwrap());
        let (stop, keep) = (CancellationToken::new(), Duration::from_hours(24));
        let (queue, writer) = audit(ledger.clone(), Clock::system(), keep, &Metrics::new()).unwrap();
        let writing = tokio::spawn(writer.run(stop.clone()));
        for n in 0..600 {
            queue.put(AuditEntry {
                at: Clock::system().now().wall,
                kind: AuditKind::Call,
                action: n.to_string(),
                subject: "ann".into(),
                rights_profile: Some("desk".into()),
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
