//! The raw log of health checks: from the probe driver into the ledger, beside the probes and never in their way.
//!
//! Whoever notes a result puts it into a bounded queue and is done. One task writes what has come, once a second in one
//! transaction, and drops what is too old. A ledger in trouble costs results, which are counted, never a probe.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::IntCounterVec;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::ledger::{Ledger, ProbeResult};
use crate::metrics::{Metrics, MetricsError};

/// Results that wait for the ledger: 10 000 connections at 30 s fill this in 50 s, longer than it waits for its turn.
const QUEUE: usize = 16_384;

/// The ledger's writer is everybody's, and each transaction is a flush to the disk: one a second is little for both.
const EVERY: Duration = Duration::from_secs(1);

/// Rows in one transaction: some ten milliseconds, which a page of a sync may have to wait.
const BATCH: usize = 2_000;

/// Old rows are looked for this often. What has become too old meanwhile is dropped in as many pieces as it takes.
const PRUNE_EVERY: Duration = Duration::from_secs(10);

/// Rows dropped in one transaction.
const PIECE: u32 = 2_000;

/// Between two pieces others get the writer.
const PAUSE: Duration = Duration::from_millis(100);

/// Where results wait for the ledger.
pub struct ProbeLog {
    queue: Mutex<VecDeque<ProbeResult>>,
    dropped: IntCounterVec,
}

impl ProbeLog {
    /// Notes a result, or counts it as dropped if too many wait.
    pub(super) fn note(&self, result: ProbeResult) {
        let mut queue = self.queue();
        if queue.len() < QUEUE {
            queue.push_back(result);
        } else {
            drop(queue);
            self.dropped(1);
        }
    }

    fn dropped(&self, results: usize) {
        self.dropped.with_label_values::<&str>(&[]).inc_by(results as u64);
    }

    fn queue(&self) -> MutexGuard<'_, VecDeque<ProbeResult>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes the log, and keeps it short.
pub struct ProbeKeeper {
    log: Arc<ProbeLog>,
    ledger: Arc<dyn Ledger>,
    clock: Clock,
    retention: Duration,
    written: IntCounterVec,
}

impl ProbeKeeper {
    /// A log in `ledger`, whose results are dropped after `retention`.
    pub fn new(
        ledger: Arc<dyn Ledger>,
        clock: Clock,
        retention: Duration,
        metrics: &Metrics,
    ) -> Result<Self, MetricsError> {
        let written =
            metrics.counter("busbar_probe_results_written_total", "Health checks written to the ledger's log.", &[])?;
        let dropped = metrics.counter(
            "busbar_probe_results_dropped_total",
            "Health checks missing in the ledger's log, because the ledger was slow or failed.",
            &[],
        )?;
        // Shown from the start: an alert on a series that is not there would never fire.
        for series in [&written, &dropped] {
            series.with_label_values::<&str>(&[]);
        }
        let log = Arc::new(ProbeLog { queue: Mutex::default(), dropped });
        Ok(Self { log, ledger, clock, retention, written })
    }

    /// Where the driver notes results.
    pub fn log(&self) -> Arc<ProbeLog> {
        Arc::clone(&self.log)
    }

    /// Runs until `stop` is cancelled; then writes what waits.
    pub async fn run(self, stop: CancellationToken) {
        let mut failing = false;
        let mut prune_at = self.clock.mono();
        loop {
            let next = self.clock.mono() + EVERY;
            let stopped = tokio::select! {
                biased;
                () = stop.cancelled() => true,
                () = self.clock.sleep_until(next) => false,
            };
            let written = self.write().await;
            if let Err(error) = &written
                && !failing
            {
                tracing::warn!(%error, "health checks cannot be written to the ledger; they go on without a log");
            }
            if failing && written.is_ok() {
                tracing::info!("health checks are written to the ledger again");
            }
            failing = written.is_err();
            if stopped {
                return;
            }
            if !failing && self.clock.mono() >= prune_at {
                self.prune(&stop).await;
                prune_at = self.clock.mono() + PRUNE_EVERY;
            }
        }
    }

    /// Writes what waits. A batch that cannot be written is lost and counted: the next one may be as heavy, and a
    /// ledger that refuses one for good would hold up the rest.
    async fn write(&self) -> Result<(), crate::ledger::LedgerError> {
        loop {
            let batch: Vec<ProbeResult> = {
                let mut queue = self.log.queue();
                let some = queue.len().min(BATCH);
                queue.drain(..some).collect()
            };
            if batch.is_empty() {
                return Ok(());
            }
            if let Err(error) = self.ledger.record_probes(&batch).await {
                self.log.dropped(batch.len());
                return Err(error);
            }
            self.written.with_label_values::<&str>(&[]).inc_by(batch.len() as u64);
            if batch.len() < BATCH {
                return Ok(());
            }
        }
    }

    async fn prune(&self, stop: &CancellationToken) {
        let Ok(before) = self.clock.now().wall.checked_sub(self.retention) else { return };
        loop {
            match self.ledger.prune_probes(before, PIECE).await {
                Ok(gone) if gone >= u64::from(PIECE) => {}
                Ok(_) => return,
                Err(error) => {
                    // Tried again soon; the log only grows meanwhile.
                    tracing::debug!(%error, "old health checks cannot be dropped");
                    return;
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.clock.sleep_until(self.clock.mono() + PAUSE) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::key::ObjectKey;
    use crate::ledger::sqlite::SqliteLedger;

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

    async fn keeper(dir: &tempfile::TempDir) -> (ProbeKeeper, Arc<SqliteLedger>, Metrics) {
        let ledger = Arc::new(SqliteLedger::open(dir.path().join("ledger.db")).await.unwrap());
        let (clock, metrics) = (Clock::system(), Metrics::new());
        let keeper = ProbeKeeper::new(ledger.clone(), clock, Duration::from_hours(24), &metrics).unwrap();
        (keeper, ledger, metrics)
    }

    fn count(metrics: &Metrics, what: &str) -> String {
        let name = format!("busbar_probe_results_{what}_total ");
        let text = metrics.render().unwrap();
        text.lines().find_map(|line| line.strip_prefix(&name).map(str::to_owned)).unwrap()
    }

    #[tokio::test]
    async fn what_waits_is_written_at_the_end_too_and_what_is_too_old_goes() {
        let dir = tempfile::tempdir().unwrap();
        let (keeper, ledger, metrics) = keeper(&dir).await;
        let (log, clock) = (keeper.log(), keeper.clock);
        let old: Vec<_> = (0..4_100).map(|_| result(clock, Duration::from_hours(25))).collect();
        ledger.record_probes(&old).await.unwrap();
        log.note(result(clock, Duration::ZERO));
        keeper.write().await.unwrap();
        keeper.prune(&CancellationToken::new()).await;
        let bank = ObjectKey::new("team", "bank");
        assert_eq!(ledger.last_probes(&bank, 9_999).await.unwrap().len(), 1);
        for _ in 0..3_000 {
            log.note(result(clock, Duration::ZERO));
        }
        let stop = CancellationToken::new();
        stop.cancel();
        keeper.run(stop).await;
        assert_eq!(ledger.last_probes(&bank, 9_999).await.unwrap().len(), 3_001);
        assert_eq!((count(&metrics, "written"), count(&metrics, "dropped")), ("3001".into(), "0".into()));
    }

    #[tokio::test]
    async fn what_the_ledger_cannot_take_is_counted_and_never_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let (keeper, ledger, metrics) = keeper(&dir).await;
        let (log, clock) = (keeper.log(), keeper.clock);
        for _ in 0..QUEUE + 7 {
            log.note(result(clock, Duration::ZERO));
        }
        assert_eq!(count(&metrics, "dropped"), "7");
        ledger.close().await;
        assert!(keeper.write().await.is_err());
        assert_eq!(count(&metrics, "dropped"), (7 + BATCH).to_string());
        assert_eq!(log.queue().len(), QUEUE - BATCH, "the rest waits for a better time");
    }
}
