//! Deletes what is past its retention: raw payloads, resolved dead letters, events with their deliveries, closed run
//! requests, decisions, and payouts whose fate is known; deliveries of consumers that were removed, webhooks that cannot
//! come again, and rate limits that are not used.
//!
//! In pieces, each a short transaction, after which the ledger is left to others for as long as the piece took. One
//! replica deletes, under a lease of the ledger whose fence each piece checks. Nothing is deleted while the wall clock is
//! not known to be right: a clock that is ahead would delete everything.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use prometheus::{IntCounter, IntCounterVec, IntGauge};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::domain::clock_skew::SteadyClock;
use crate::domain::time::Mono;
use crate::ledger::{Lease, Ledger, LedgerError, PruningLease};
use crate::metrics::{Metrics, MetricsError};

/// The lease of the replica that deletes.
const LEASE: &str = "retention";
/// How often the clock is read: see [`SteadyClock`].
const CHECK_INTERVAL: Duration = Duration::from_mins(1);
/// How often rows are deleted.
const PRUNE_INTERVAL: Duration = Duration::from_mins(10);
/// Raw payloads per transaction: they are large.
const RAW_PIECE: u32 = 50;
/// Other rows per transaction.
const PIECE: u32 = 1_000;
/// The shortest pause between two transactions.
const MIN_PAUSE: Duration = Duration::from_millis(20);
/// How long resolved dead letters and closed run requests are kept: as long as raw payloads by default.
const RESOLVED_RETENTION: Duration = Duration::from_hours(720);

/// What is deleted.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Expired {
    RawPayload,
    DeadLetter,
    Event,
    RunRequest,
    Decision,
    Payout,
    Delivery,
    Webhook,
    RateLimit,
}

impl Expired {
    const ALL: [Self; 9] = [
        Self::RawPayload,
        Self::DeadLetter,
        Self::Event,
        Self::RunRequest,
        Self::Decision,
        Self::Payout,
        Self::Delivery,
        Self::Webhook,
        Self::RateLimit,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::RawPayload => "raw_payload",
            Self::DeadLetter => "dead_letter",
            Self::Event => "event",
            Self::RunRequest => "run_request",
            Self::Decision => "decision",
            Self::Payout => "payout",
            Self::Delivery => "delivery",
            Self::Webhook => "webhook",
            Self::RateLimit => "rate_limit",
        }
    }

    const fn piece(self) -> u32 {
        match self {
            Self::RawPayload => RAW_PIECE,
            Self::DeadLetter
            | Self::Event
            | Self::RunRequest
            | Self::Decision
            | Self::Payout
            | Self::Delivery
            | Self::Webhook
            | Self::RateLimit => PIECE,
        }
    }
}

/// How long rows are kept, where a flag says so.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct RetentionPeriods {
    /// Events.
    pub events: Duration,
    /// Decisions and what belongs to them, and payouts whose fate is known.
    pub decisions: Duration,
}

/// Deletes what is past its retention.
pub struct RetentionPruner {
    ledger: Arc<dyn Ledger>,
    clock: Clock,
    periods: RetentionPeriods,
    lease: PruningLease,
    pruned: IntCounterVec,
    failures: IntCounter,
    raw_payloads: IntGauge,
    raw_bytes: IntGauge,
    events: IntGauge,
    oldest_event: IntGauge,
}

impl RetentionPruner {
    /// A pruner that keeps rows for their `periods` and holds its lease as `holder`.
    ///
    /// # Errors
    /// If a metric is registered already.
    pub fn new(
        ledger: Arc<dyn Ledger>,
        clock: Clock,
        periods: RetentionPeriods,
        holder: &str,
        metrics: &Metrics,
    ) -> Result<Self, MetricsError> {
        let gauge = |name, help| metrics.int_gauge(name, help, &[]).map(|all| all.with_label_values::<&str>(&[]));
        let pruned = metrics.counter_from_zero(
            "busbar_retention_pruned_total",
            "Rows deleted at the end of their retention, by kind: raw_payload, dead_letter, event, run_request, decision, \
             payout, delivery (of a removed consumer), webhook, rate_limit.",
            ["kind"],
            Expired::ALL.map(|kind| [kind.as_str()]),
        )?;
        let failures = metrics
            .counter(
                "busbar_retention_failures_total",
                "Failures to delete rows at the end of their retention; retried after a minute.",
                &[],
            )?
            .with_label_values::<&str>(&[]);
        let raw_payloads = gauge("busbar_raw_payloads", "Raw payloads stored. 0 on replicas that do not delete them.")?;
        let raw_bytes = gauge(
            "busbar_raw_payload_bytes",
            "Size of the raw payloads as stored, in bytes. 0 on replicas that do not delete them.",
        )?;
        let events = gauge("busbar_outbox_events", "Events stored. 0 on replicas that do not delete them.")?;
        let oldest_event = gauge(
            "busbar_outbox_oldest_timestamp_seconds",
            "Time of the oldest event that is stored. 0 without events, and on replicas that do not delete them.",
        )?;
        let lease = PruningLease::new(&ledger, clock, LEASE, holder);
        Ok(Self { ledger, clock, periods, lease, pruned, failures, raw_payloads, raw_bytes, events, oldest_event })
    }

    /// Deletes until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let (mut steady, mut prune_at) = (SteadyClock::default(), Mono::ZERO);
        loop {
            let now = self.clock.now();
            if steady.observe(now) && now.mono >= prune_at {
                match stop.run_until_cancelled(self.round(now.wall)).await {
                    None => break,
                    Some(Ok(true)) => prune_at = now.mono + PRUNE_INTERVAL,
                    // Another replica deletes.
                    Some(Ok(false)) => self.reset_gauges(),
                    Some(Err(error)) => {
                        self.failures.inc();
                        tracing::warn!(%error, "deleting expired rows failed; retrying in a minute");
                    }
                }
            }
            let next = self.clock.mono() + CHECK_INTERVAL;
            if stop.run_until_cancelled(self.clock.sleep_until(next)).await.is_none() {
                break;
            }
        }
        self.lease.release().await;
    }

    /// Deletes everything that is expired at `now`; `false` without the lease.
    async fn round(&mut self, now: Timestamp) -> Result<bool, LedgerError> {
        for kind in Expired::ALL {
            loop {
                let began = self.clock.mono();
                let Some(lease) = self.lease.current().await? else { return Ok(false) };
                let deleted = match self.prune(kind, &lease, now).await {
                    Ok(deleted) => deleted,
                    Err(LedgerError::Fenced { .. }) => {
                        self.lease.lose();
                        return Ok(false);
                    }
                    Err(error) => return Err(error),
                };
                self.pruned.with_label_values(&[kind.as_str()]).inc_by(deleted);
                if deleted < u64::from(kind.piece()) {
                    break;
                }
                let pause = self.clock.mono().since(began).max(MIN_PAUSE);
                self.clock.sleep_until(self.clock.mono() + pause).await;
            }
        }
        self.update_gauges().await?;
        Ok(true)
    }

    /// Deletes one piece.
    async fn prune(&self, kind: Expired, lease: &Lease, now: Timestamp) -> Result<u64, LedgerError> {
        let (ledger, piece) = (&self.ledger, kind.piece());
        match kind {
            Expired::RawPayload => ledger.prune_raw(lease, now, piece).await,
            Expired::DeadLetter => ledger.prune_dead_letters(lease, before(now, RESOLVED_RETENTION), piece).await,
            Expired::Event => ledger.prune_events(lease, before(now, self.periods.events), piece, now).await,
            Expired::RunRequest => ledger.prune_requests(lease, before(now, RESOLVED_RETENTION), piece).await,
            // In whole days: each piece adds a checkpoint to the chain.
            Expired::Decision => {
                let before = day_start(before(now, self.periods.decisions));
                ledger.checkpoint_decisions(lease, before, piece, now).await
            }
            Expired::Payout => ledger.prune_payouts(lease, before(now, self.periods.decisions), piece).await,
            Expired::Delivery => ledger.prune_deliveries(lease, piece).await,
            Expired::Webhook => ledger.prune_webhooks(lease, piece, now).await,
            Expired::RateLimit => ledger.prune_buckets(lease, piece, now).await,
        }
    }

    async fn update_gauges(&self) -> Result<(), LedgerError> {
        let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let raw = self.ledger.raw_usage().await?;
        self.raw_payloads.set(number(raw.payloads));
        self.raw_bytes.set(number(raw.bytes));
        let outbox = self.ledger.outbox_usage().await?;
        self.events.set(number(outbox.events));
        self.oldest_event.set(outbox.oldest.map_or(0, Timestamp::as_second));
        Ok(())
    }

    fn reset_gauges(&self) {
        for gauge in [&self.raw_payloads, &self.raw_bytes, &self.events, &self.oldest_event] {
            gauge.set(0);
        }
    }
}

fn before(now: Timestamp, retention: Duration) -> Timestamp {
    let retention = SignedDuration::try_from(retention).unwrap_or(SignedDuration::MAX);
    now.checked_sub(retention).unwrap_or(Timestamp::MIN)
}

/// The beginning of its day, in UTC.
fn day_start(at: Timestamp) -> Timestamp {
    let seconds = at.as_second();
    Timestamp::from_second(seconds - seconds.rem_euclid(86_400)).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests;
