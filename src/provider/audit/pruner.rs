//! Deletes old audit entries, and the oldest calls and refusals when they take too much space.
//!
//! It runs beside the writer, never in its loop, and deletes in pieces: a transaction is short, and after each the
//! pruner leaves the ledger to others for as long as it took. One replica prunes, under a lease; every replica writes.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use prometheus::{IntCounterVec, IntGauge};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::domain::clock_skew::SteadyClock;
use crate::domain::time::Mono;
use crate::ledger::audit::AuditPruning;
use crate::ledger::{Ledger, LedgerError, PruningLease};
use crate::metrics::{Metrics, MetricsError};

/// The lease of the replica that prunes.
const LEASE: &str = "audit-pruning";
/// How often the size is checked and the clock is read: see [`SteadyClock`].
const CHECK_INTERVAL: Duration = Duration::from_mins(1);
/// How often entries are deleted by age.
const AGE_INTERVAL: Duration = Duration::from_hours(1);
/// Rows per transaction: some milliseconds, and more than the writer appends in one of its own, so that pruning is faster.
const PIECE: u32 = 1_000;
/// The shortest pause between two transactions.
const MIN_PAUSE: Duration = Duration::from_millis(20);

/// How much of the audit log is kept.
#[derive(Copy, Clone, Debug)]
pub struct AuditLimits {
    /// How long entries are kept.
    pub retention: Duration,
    /// Size of the entries of calls and refusals, in bytes; other entries are deleted by age alone.
    pub max_call_bytes: u64,
}

/// Deletes what is over the limits.
pub struct AuditPruner {
    ledger: Arc<dyn Ledger>,
    clock: Clock,
    limits: AuditLimits,
    lease: PruningLease,
    pruned: IntCounterVec,
    call_bytes: IntGauge,
    /// When the next warning may be logged.
    warn_at: Mono,
}

impl AuditPruner {
    /// A pruner with these limits that holds its lease as `holder`.
    ///
    /// # Errors
    /// If a metric is registered already.
    pub fn new(
        ledger: Arc<dyn Ledger>,
        clock: Clock,
        limits: AuditLimits,
        holder: &str,
        metrics: &Metrics,
    ) -> Result<Self, MetricsError> {
        let pruned = metrics.counter(
            "busbar_audit_pruned_total",
            "Audit entries deleted, by cause: age (--audit-retention), size (--audit-max-size; calls and refusals only).",
            &["cause"],
        )?;
        let call_bytes = metrics
            .int_gauge("busbar_audit_call_bytes", "Size of the audit entries of calls and refusals, in bytes.", &[])?
            .with_label_values::<&str>(&[]);
        let lease = PruningLease::new(&ledger, clock, LEASE, holder);
        Ok(Self { ledger, clock, limits, lease, pruned, call_bytes, warn_at: Mono::ZERO })
    }

    /// Prunes until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut steady = SteadyClock::default();
        let mut age_at = Mono::ZERO;
        loop {
            let now = self.clock.now();
            let by_age = steady.observe(now) && now.mono >= age_at;
            let before = by_age.then(|| self.oldest(now.wall)).flatten();
            match stop.run_until_cancelled(self.prune(before, now.wall)).await {
                None => break,
                Some(true) if by_age => age_at = now.mono + AGE_INTERVAL,
                // Another replica prunes, or the ledger fails: tried again at the next check.
                Some(_) => {}
            }
            let next = self.clock.mono() + CHECK_INTERVAL;
            if stop.run_until_cancelled(self.clock.sleep_until(next)).await.is_none() {
                break;
            }
        }
        self.lease.release().await;
    }

    /// The time before which entries are deleted.
    fn oldest(&self, now: Timestamp) -> Option<Timestamp> {
        let retention = SignedDuration::try_from(self.limits.retention).unwrap_or(SignedDuration::MAX);
        now.checked_sub(retention).ok()
    }

    /// Deletes piece by piece until nothing is over the limits; whether that is so. A replica without the lease deletes
    /// nothing.
    async fn prune(&mut self, before: Option<Timestamp>, now: Timestamp) -> bool {
        let pruning = AuditPruning { before, now, max_call_bytes: self.limits.max_call_bytes, max_rows: PIECE };
        let mut oversize = 0;
        let complete = loop {
            let began = self.clock.mono();
            let lease = self.lease.current().await;
            let result = match &lease {
                Ok(Some(lease)) => self.ledger.prune_audit(lease, pruning).await,
                Ok(None) => {
                    // The replica that prunes exports it.
                    self.call_bytes.set(0);
                    break false;
                }
                Err(error) => {
                    tracing::warn!(%error, "taking the audit-pruning lease failed; retrying at the next interval");
                    break false;
                }
            };
            let piece = match result {
                Ok(piece) => piece,
                Err(LedgerError::Fenced { .. }) => {
                    self.lease.lose();
                    break false;
                }
                Err(error) => {
                    tracing::warn!(%error, "pruning the audit log failed; retrying at the next interval");
                    break false;
                }
            };
            self.pruned.with_label_values(&["age"]).inc_by(piece.expired);
            self.pruned.with_label_values(&["size"]).inc_by(piece.oversize);
            self.call_bytes.set(i64::try_from(piece.call_bytes).unwrap_or(i64::MAX));
            oversize += piece.oversize;
            if !piece.more {
                break true;
            }
            let pause = self.clock.mono().since(began).max(MIN_PAUSE);
            self.clock.sleep_until(self.clock.mono() + pause).await;
        };
        let now = self.clock.mono();
        if oversize > 0 && now >= self.warn_at {
            self.warn_at = now + AGE_INTERVAL;
            tracing::warn!(
                entries = oversize,
                max_bytes = self.limits.max_call_bytes,
                "audit entries of calls exceed --audit-max-size: the oldest are deleted before their retention ends; \
                 raise --audit-max-size to keep them, busbar_audit_pruned_total counts them"
            );
        }
        complete
    }
}

#[cfg(test)]
mod tests;
