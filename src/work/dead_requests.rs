//! Retries dead requests after 1, 2 and 4 seconds, then parks them for a manual decision.
//!
//! Only the leader runs it, and its writes are fenced by a lease in the ledger: a replica that was frozen and replaced
//! writes nothing when it resumes. Only reads are retried, so a retry that is made twice does no harm. The caller's
//! licence profiles are evaluated again at each retry; the answer is stored in the connection's cache.
//!
//! Retries run concurrently, few of each connection and with a fair share for each (`in_flight.rs`): a provider that does
//! not answer delays its own retries only, and the lease is renewed meanwhile. While the ledger cannot be written nothing
//! is retried: a retry that is not counted would be repeated at once.

mod audit;
mod in_flight;
mod prune;
pub mod reason;
mod retry;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use prometheus::{IntCounterVec, IntGaugeVec};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::domain::clock_skew::SteadyClock;
use crate::domain::key::ObjectKey;
use crate::domain::time::Mono;
use crate::ledger::dead_requests::{DeadRequestState, RetryOutcome};
use crate::ledger::encryption::Keyring;
use crate::ledger::{HeldLease, Lease, LeaseHolder, LeaseOptions, LeaseStore, Ledger, LedgerError, TakeOutcome};
use crate::metrics::{Metrics, MetricsError};
use crate::notify::KeyQueue;
use crate::provider::registry::Registry;
use in_flight::{FinishedRetry, InFlight, MAX_PER_CONNECTION, PendingWrites};
use prune::Orphans;
use retry::{RETRY_DEADLINE, Retrier};

pub use prune::{ConnectionLookup, Presence};

/// Name of the lease in the ledger.
const LEASE: &str = "dead-requests";
/// How long the lease is valid without a renewal.
const LEASE_TTL: Duration = Duration::from_secs(15);
/// Interval at which other replicas try to take the lease.
const TAKE_INTERVAL: Duration = Duration::from_secs(3);
/// Longest time between two polls of the ledger without a notification: other replicas store requests too.
const MAX_POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Shortest time between two polls: a due time in the past must not make the loop spin.
const MIN_POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Due requests read at a time, in addition to those of connections with retries in flight, which come first in the order
/// in which they are read as long as they are due.
const BATCH: usize = 64;
/// Interval between removals of expired and orphaned requests.
const PRUNE_INTERVAL: Duration = Duration::from_hours(1);
/// The same while the wall clock is not known to be right, so that nothing is removed by age.
const UNSTEADY_PRUNE_INTERVAL: Duration = Duration::from_mins(1);

/// What the worker depends on.
pub struct DeadRequestDeps {
    /// Where dead requests are stored.
    pub ledger: Arc<dyn Ledger>,
    /// The connections that retries are sent through.
    pub registry: Registry,
    /// Whether a connection's object still exists.
    pub lookup: ConnectionLookup,
    /// The keys that stored parameters are encrypted with.
    pub keys: Keyring,
    /// Source of time.
    pub clock: Clock,
    /// Notified when a request was stored or replayed.
    pub wakeup: Arc<Notify>,
}

/// Retries dead requests while it holds its lease.
pub struct DeadRequestWorker {
    ledger: Arc<dyn Ledger>,
    retrier: Retrier,
    clock: Clock,
    lookup: ConnectionLookup,
    /// Removed connections, whose requests are to be removed.
    removals: Arc<KeyQueue<ObjectKey>>,
    holder: String,
    wakeup: Arc<Notify>,
    stored: IntGaugeVec,
    retries: IntCounterVec,
    ledger_failures: IntCounterVec,
}

impl DeadRequestWorker {
    /// A worker that holds its lease as `holder`.
    pub fn new(deps: DeadRequestDeps, holder: &str, metrics: &Metrics) -> Result<Self, MetricsError> {
        let DeadRequestDeps { ledger, registry, lookup, keys, clock, wakeup } = deps;
        let removals = registry.subscribe_removals();
        Ok(Self {
            ledger,
            retrier: Retrier { registry, keys, clock },
            clock,
            lookup,
            removals,
            holder: holder.to_owned(),
            wakeup,
            stored: metrics.int_gauge(
                "busbar_dead_requests",
                "Provider calls that failed and wait for a retry (pending) or a manual decision (parked).",
                &["state"],
            )?,
            retries: metrics.counter_from_zero(
                "busbar_dead_request_retries_total",
                "Retries of failed provider calls, by outcome: done, again, later, parked.",
                ["result"],
                [["done"], ["again"], ["later"], ["parked"]],
            )?,
            ledger_failures: metrics.counter(
                "busbar_dead_request_ledger_failures_total",
                "Ledger failures that delayed the retries of failed provider calls.",
                &[],
            )?,
        })
    }

    /// Runs until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        let options = LeaseOptions {
            name: LEASE.to_owned(),
            holder: self.holder.clone(),
            ttl: LEASE_TTL,
            tasks: self.retrier.registry.tasks().clone(),
        };
        let mut holder = LeaseHolder::new(Arc::clone(&self.ledger) as Arc<dyn LeaseStore>, self.clock, options);
        while !stop.is_cancelled() {
            match holder.take().await {
                Ok(TakeOutcome::Taken(held)) => {
                    tokio::select! {
                        () = held.lost() => {}
                        () = self.run_leased(&held, &stop) => {}
                    }
                    // The next holder exports these gauges.
                    self.stored.reset();
                    held.release().await;
                }
                Ok(TakeOutcome::HeldByOther { .. }) => {}
                Err(error) => tracing::warn!(%error, "taking the dead-requests lease failed; retries are delayed"),
            }
            // Only the holder retries, so this replica need not wake earlier.
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.clock.sleep_until(self.clock.mono() + TAKE_INTERVAL) => {}
            }
        }
    }

    /// Retries dead requests under the lease, until `stop` or until its fence is refused.
    async fn run_leased(&self, held: &HeldLease, stop: &CancellationToken) {
        let (lease, mut prune_at) = (held.lease(), self.clock.mono());
        let (mut in_flight, mut pending) = (InFlight::default(), PendingWrites::default());
        let mut steady = SteadyClock::default();
        loop {
            let mut wake = self.clock.mono() + MAX_POLL_INTERVAL;
            if let Some(until) = pending.backing_off(self.clock.mono()) {
                wake = until;
            } else {
                let round = async {
                    self.write_outcomes(lease, &mut pending).await?;
                    // A retry that starts now ends while the lease is still held.
                    if held.remaining() > RETRY_DEADLINE {
                        self.start_due(&mut in_flight).await?;
                    }
                    self.prune(lease, steady.observe(self.clock.now()), &mut prune_at).await?;
                    self.update_gauges().await?;
                    self.next_poll().await
                };
                match round.await {
                    Ok(next) => {
                        wake = next;
                        pending.record_success();
                    }
                    Err(LedgerError::Fenced { .. }) => return,
                    Err(error) => {
                        tracing::warn!(%error, "reading or writing dead requests failed; retrying with backoff");
                        self.ledger_failures.with_label_values::<&str>(&[]).inc();
                        pending.record_failure(self.clock.mono());
                        wake = pending.backing_off(self.clock.mono()).unwrap_or(wake);
                    }
                }
            }
            tokio::select! {
                // A dropped retry has no outcome in the ledger: it stays due, for the next leader. One that has ended
                // would be repeated without being counted.
                () = stop.cancelled() => {
                    if let Err(error) = self.write_outcomes(lease, &mut pending).await {
                        tracing::warn!(%error, "writing the outcomes of retries failed; they are repeated");
                    }
                    return;
                }
                finished = in_flight.next() => pending.finished.push(finished),
                () = self.wakeup.notified() => {}
                () = self.removals.wait() => {}
                () = self.clock.sleep_until(wake) => {}
            }
        }
    }

    /// Writes the outcomes of finished retries. Those that cannot be written stay pending.
    async fn write_outcomes(&self, lease: &Lease, pending: &mut PendingWrites) -> Result<(), LedgerError> {
        while let Some(FinishedRetry { dead, outcome }) = pending.finished.last() {
            let id = dead.request.id;
            if self.ledger.settle_dead_request(lease, id, outcome, self.clock.now().wall).await? {
                let result = match outcome {
                    RetryOutcome::Done => "done",
                    RetryOutcome::Retry { .. } => "again",
                    RetryOutcome::Parked { .. } => "parked",
                    RetryOutcome::Postponed { .. } => "later",
                };
                self.retries.with_label_values(&[result]).inc();
                if let RetryOutcome::Parked { reason, .. } = outcome {
                    let connection = &dead.request.connection;
                    tracing::warn!(
                        namespace = %connection.namespace, name = %connection.name, operation = dead.request.operation,
                        reason, %id, "dlq_failed: dead request parked; replay it with POST /api/dead-requests/{{id}}/replay"
                    );
                }
            }
            pending.finished.pop();
        }
        Ok(())
    }

    /// Starts the due retries, within the limits.
    async fn start_due<'a>(&'a self, in_flight: &mut InFlight<'a>) -> Result<(), LedgerError> {
        let per_connection = u32::try_from(MAX_PER_CONNECTION).unwrap_or(u32::MAX);
        let limit = BATCH.saturating_add(in_flight.connections().saturating_mul(MAX_PER_CONNECTION));
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        for dead in self.ledger.due_dead_requests(self.clock.now().wall, limit, per_connection).await? {
            if in_flight.has_room(&dead) {
                let retry = dead.clone();
                in_flight.start(&dead, async move {
                    let outcome = self.retrier.retry(&retry).await;
                    FinishedRetry { dead: retry, outcome }
                });
            }
        }
        Ok(())
    }

    /// When to poll again: a due retry that exceeds the limits starts when another ends.
    async fn next_poll(&self) -> Result<Mono, LedgerError> {
        let now = self.clock.now();
        let next = self.ledger.next_dead_request(now.wall).await?;
        let wait =
            next.map_or(MAX_POLL_INTERVAL, |at| Duration::try_from(at.duration_since(now.wall)).unwrap_or_default());
        Ok(now.mono + wait.clamp(MIN_POLL_INTERVAL, MAX_POLL_INTERVAL))
    }

    async fn update_gauges(&self) -> Result<(), LedgerError> {
        let counts = self.ledger.count_dead_requests().await?;
        for (state, count) in [(DeadRequestState::Pending, counts.pending), (DeadRequestState::Parked, counts.parked)] {
            self.stored.with_label_values(&[state.as_str()]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        Ok(())
    }

    /// Removes the requests of deleted connections and, if the clock is `steady`, those that are old.
    async fn prune(&self, lease: &Lease, steady: bool, prune_at: &mut Mono) -> Result<(), LedgerError> {
        let now = self.clock.now();
        let deleted: BTreeSet<ObjectKey> = std::iter::from_fn(|| self.removals.try_take()).collect();
        if deleted.is_empty() && now.mono < *prune_at {
            return Ok(());
        }
        let aged_at = steady.then_some(now.wall);
        let orphans = Orphans { lookup: &self.lookup, deleted: &deleted, aged_at };
        let removed = orphans.remove(&*self.ledger, lease, now.wall).await;
        if removed.is_err() {
            for key in &deleted {
                self.removals.add(key);
            }
        }
        removed?;
        if now.mono >= *prune_at {
            if steady {
                prune::remove_expired(&*self.ledger, lease, now.wall).await?;
                prune::remove_past_quotas(&*self.ledger, lease, now.wall).await?;
            }
            *prune_at = now.mono + if steady { PRUNE_INTERVAL } else { UNSTEADY_PRUNE_INTERVAL };
        }
        Ok(())
    }
}
