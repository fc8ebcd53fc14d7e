//! The raw log of health checks: written from the probe driver into the ledger without ever blocking a probe.
//!
//! The probe driver pushes a result into a bounded queue. One task writes the queued results once a second in one
//! transaction and deletes expired ones. A failing ledger loses results, which are counted, but never a probe.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use prometheus::IntCounterVec;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::domain::clock_skew::SteadyClock;
use crate::ledger::{Ledger, LedgerError, ProbeResult, PruningLease};
use crate::metrics::{Metrics, MetricsError};

/// Results queued for the ledger: 10 000 connections at 30 s fill this in 50 s, longer than a write waits for the
/// ledger.
const QUEUE_CAPACITY: usize = 16_384;

/// The ledger's writer is shared, and each transaction is a flush to the disk: one a second is little for both.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);

/// Rows in one transaction: some ten milliseconds, which a page of a sync may have to wait.
const WRITE_BATCH: usize = 2_000;

/// The lease of the process that deletes expired rows.
const LEASE: &str = "probe-pruning";

/// Interval between deletions of expired rows; each deletes all of them, in as many batches as it takes.
const PRUNE_INTERVAL: Duration = Duration::from_secs(10);

/// Rows deleted in one transaction.
const PRUNE_BATCH: u32 = 2_000;

/// Delay between two batches, in which others can use the writer.
const PRUNE_DELAY: Duration = Duration::from_millis(100);

/// The queue of results to write to the ledger.
pub struct ProbeLog {
    queue: Mutex<VecDeque<ProbeResult>>,
    dropped: IntCounterVec,
}

impl ProbeLog {
    /// Queues a result, or counts it as dropped if the queue is full.
    pub(super) fn push(&self, result: ProbeResult) {
        let mut queue = self.queue();
        if queue.len() < QUEUE_CAPACITY {
            queue.push_back(result);
        } else {
            drop(queue);
            self.count_dropped(1);
        }
    }

    fn count_dropped(&self, results: usize) {
        self.dropped.with_label_values::<&str>(&[]).inc_by(results as u64);
    }

    fn queue(&self) -> MutexGuard<'_, VecDeque<ProbeResult>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes the queued results to the ledger and deletes expired ones.
pub struct ProbeLogWriter {
    log: Arc<ProbeLog>,
    ledger: Arc<dyn Ledger>,
    clock: Clock,
    retention: Duration,
    lease: PruningLease,
    written: IntCounterVec,
}

impl ProbeLogWriter {
    /// A log in `ledger`, whose results are deleted after `retention`, under a lease held as `holder`.
    pub fn new(
        ledger: Arc<dyn Ledger>,
        clock: Clock,
        retention: Duration,
        holder: &str,
        metrics: &Metrics,
    ) -> Result<Self, MetricsError> {
        let written =
            metrics.counter("busbar_probe_results_written_total", "Health checks written to the ledger's log.", &[])?;
        let dropped = metrics.counter(
            "busbar_probe_results_dropped_total",
            "Health checks missing from the ledger's log because the ledger was slow or failed.",
            &[],
        )?;
        // Exported from the start: an alert on an absent series would never fire.
        for series in [&written, &dropped] {
            series.with_label_values::<&str>(&[]);
        }
        let log = Arc::new(ProbeLog { queue: Mutex::default(), dropped });
        let lease = PruningLease::new(&ledger, clock, LEASE, holder);
        Ok(Self { log, ledger, clock, retention, lease, written })
    }

    /// The queue that the probe driver pushes results to.
    pub fn log(&self) -> Arc<ProbeLog> {
        Arc::clone(&self.log)
    }

    /// Runs until `stop` is cancelled; then writes the queued results.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut failing = false;
        let (mut prune_at, mut steady) = (self.clock.mono(), SteadyClock::default());
        loop {
            let next = self.clock.mono() + WRITE_INTERVAL;
            let stopped = tokio::select! {
                biased;
                () = stop.cancelled() => true,
                () = self.clock.sleep_until(next) => false,
            };
            let written = self.write_queued().await;
            if let Err(error) = &written
                && !failing
            {
                tracing::warn!(%error, "writing health checks to the ledger failed; probes go on, results are dropped");
            }
            if failing && written.is_ok() {
                tracing::info!("writing health checks to the ledger succeeded again");
            }
            failing = written.is_err();
            if stopped {
                self.lease.release().await;
                return;
            }
            let now = self.clock.now();
            if steady.observe(now) && !failing && now.mono >= prune_at {
                self.prune(now.wall, &stop).await;
                prune_at = self.clock.mono() + PRUNE_INTERVAL;
            }
        }
    }

    /// Writes the queued results. A batch that cannot be written is dropped and counted: a batch that always fails
    /// would otherwise block the rest.
    async fn write_queued(&self) -> Result<(), LedgerError> {
        loop {
            let batch: Vec<ProbeResult> = {
                let mut queue = self.log.queue();
                let count = queue.len().min(WRITE_BATCH);
                queue.drain(..count).collect()
            };
            if batch.is_empty() {
                return Ok(());
            }
            if let Err(error) = self.ledger.record_probes(&batch).await {
                self.log.count_dropped(batch.len());
                return Err(error);
            }
            self.written.with_label_values::<&str>(&[]).inc_by(batch.len() as u64);
            if batch.len() < WRITE_BATCH {
                return Ok(());
            }
        }
    }

    /// Deletes the expired results, unless another process does.
    async fn prune(&mut self, now: Timestamp, stop: &CancellationToken) {
        let Ok(before) = now.checked_sub(self.retention) else { return };
        loop {
            let result = match self.lease.current().await {
                Ok(Some(lease)) => self.ledger.prune_probes(&lease, before, PRUNE_BATCH, now).await,
                Ok(None) => return,
                Err(error) => Err(error),
            };
            match result {
                Ok(deleted) if deleted >= u64::from(PRUNE_BATCH) => {}
                Ok(_) => return,
                Err(LedgerError::Fenced { .. }) => return self.lease.lose(),
                Err(error) => {
                    // Retried at the next interval; the log only grows meanwhile.
                    tracing::debug!(%error, "deleting expired health checks failed; retrying at the next interval");
                    return;
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.clock.sleep_until(self.clock.mono() + PRUNE_DELAY) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::key::ObjectKey;
    use crate::ledger::{self, LedgerUrl, OpenMode};

    fn result(clock: Clock, age: Duration) -> ProbeResult {
        ProbeResult {
            connection: ObjectKey::new("team", "bank"),
            at: clock.now().wall.checked_sub(age).unwrap(),
            elapsed: Duration::from_millis(3),
            success: true,
            slow: false,
            status: Some(200),
            error: None,
        }
    }

    async fn log_writer(dir: &tempfile::TempDir) -> (ProbeLogWriter, Arc<dyn Ledger>, Metrics) {
        let ledger = ledger::open(&LedgerUrl::Sqlite(dir.path().join("ledger.db")), OpenMode::Migrate).await.unwrap();
        let (clock, metrics) = (Clock::system(), Metrics::new());
        let writer = ProbeLogWriter::new(ledger.clone(), clock, Duration::from_hours(24), "me", &metrics).unwrap();
        (writer, ledger, metrics)
    }

    fn count(metrics: &Metrics, what: &str) -> String {
        let name = format!("busbar_probe_results_{what}_total ");
        let text = metrics.render().unwrap();
        text.lines().find_map(|line| line.strip_prefix(&name).map(str::to_owned)).unwrap()
    }

    #[tokio::test]
    async fn queued_results_are_written_at_shutdown_and_expired_ones_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let (mut writer, ledger, metrics) = log_writer(&dir).await;
        let (log, clock) = (writer.log(), writer.clock);
        let old: Vec<_> = (0..4_100).map(|_| result(clock, Duration::from_hours(25))).collect();
        ledger.record_probes(&old).await.unwrap();
        log.push(result(clock, Duration::ZERO));
        writer.write_queued().await.unwrap();
        writer.prune(clock.now().wall, &CancellationToken::new()).await;
        let bank = ObjectKey::new("team", "bank");
        assert_eq!(ledger.last_probes(&bank, 9_999).await.unwrap().len(), 1);
        for _ in 0..3_000 {
            log.push(result(clock, Duration::ZERO));
        }
        let stop = CancellationToken::new();
        stop.cancel();
        writer.run(stop).await;
        assert_eq!(ledger.last_probes(&bank, 9_999).await.unwrap().len(), 3_001);
        assert_eq!((count(&metrics, "written"), count(&metrics, "dropped")), ("3001".into(), "0".into()));
    }

    #[tokio::test]
    async fn results_the_ledger_rejects_are_dropped_and_counted() {
        let dir = tempfile::tempdir().unwrap();
        let (writer, ledger, metrics) = log_writer(&dir).await;
        let (log, clock) = (writer.log(), writer.clock);
        for _ in 0..QUEUE_CAPACITY + 7 {
            log.push(result(clock, Duration::ZERO));
        }
        assert_eq!(count(&metrics, "dropped"), "7");
        ledger.close().await;
        assert!(writer.write_queued().await.is_err());
        assert_eq!(count(&metrics, "dropped"), (7 + WRITE_BATCH).to_string());
        assert_eq!(log.queue().len(), QUEUE_CAPACITY - WRITE_BATCH, "the rest stays queued");
    }
}
