//! Asks again what failed for good: after 1, 2 and 4 seconds, then it is parked for a person.
//!
//! Only the leader runs it, and what it writes stands on a lease of the ledger besides: a replica that was frozen and
//! replaced settles nothing when it wakes. What is retried only reads, so a retry that was made twice has done no harm. The
//! caller's licence profiles are judged again at each retry; the answer goes into the connection's cache, for whoever asks
//! next.
//!
//! Retries run side by side, few of each connection (`desk.rs`): a provider that does not answer delays its own only, and
//! the lease is renewed meanwhile. While the ledger cannot be written nothing is asked at all: a retry that is not counted
//! would be made again at once.

mod desk;
mod retry;
mod sweep;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use prometheus::{IntCounterVec, IntGaugeVec};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::domain::key::ObjectKey;
use crate::domain::time::Mono;
use crate::ledger::audit::{AuditEntry, AuditKind};
use crate::ledger::dead_requests::{DeadState, Settled};
use crate::ledger::sealed::Keyring;
use crate::ledger::{Lease, LeaseView, Ledger, LedgerError};
use crate::metrics::{Metrics, MetricsError};
use crate::provider::registry::{Change, Registry};
use desk::{Attempt, EACH, Flights, Unsettled};
use retry::{Retrier, WITHIN};
use sweep::Departed;

pub use sweep::{Declared, WhoIs};

/// The lease in the ledger.
const LEASE: &str = "dead-requests";
/// How long it is held without a renewal.
const LEASE_TTL: Duration = Duration::from_secs(15);
/// How often it is renewed, or looked at by who does not have it.
const RENEW_EVERY: Duration = Duration::from_secs(3);
/// How old the last renewal may be when a retry begins: it ends while the lease is still ours.
const FRESH: Duration = LEASE_TTL.saturating_sub(WITHIN);
/// How often the table is looked at although nobody rang: another replica keeps requests too.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Never at once: a due time in the past must not make it spin.
const LOOK_AT_MOST_EVERY: Duration = Duration::from_millis(20);
/// Taken from the table at once.
const BATCH: u32 = 64;
/// How often the old and the orphaned are removed.
const SWEEP_EVERY: Duration = Duration::from_hours(1);

/// The worker.
pub struct DeadRequestWorker {
    ledger: Arc<dyn Ledger>,
    retrier: Retrier,
    clock: Clock,
    who_is: WhoIs,
    departed: Departed,
    holder: String,
    bell: Arc<Notify>,
    kept: IntGaugeVec,
    retries: IntCounterVec,
    trouble: IntCounterVec,
}

impl DeadRequestWorker {
    /// One that holds its lease as `holder`, looks when `bell` rings, and asks `who_is` whether a connection still exists.
    pub fn new(
        ledger: Arc<dyn Ledger>,
        (registry, who_is): (Registry, WhoIs),
        keys: Keyring,
        (clock, metrics): (Clock, &Metrics),
        holder: &str,
        bell: Arc<Notify>,
    ) -> Result<Self, MetricsError> {
        let departed = Departed::default();
        registry.on_change({
            let (departed, bell) = (departed.clone(), Arc::clone(&bell));
            move |change| {
                if let Change::Removed(key) = change {
                    departed.add(key);
                    bell.notify_one();
                }
            }
        });
        Ok(Self {
            ledger,
            retrier: Retrier { registry, keys, clock },
            clock,
            who_is,
            departed,
            holder: holder.to_owned(),
            bell,
            kept: metrics.int_gauge(
                "busbar_dead_requests",
                "Provider calls that failed for good and wait for a retry (pending) or a person (parked).",
                &["state"],
            )?,
            retries: metrics.counter(
                "busbar_dead_request_retries_total",
                "Retries of failed provider calls, by what became of the request.",
                &["result"],
            )?,
            trouble: metrics.counter(
                "busbar_dead_request_ledger_failures_total",
                "Times that the retries of failed provider calls waited because the ledger failed.",
                &[],
            )?,
        })
    }

    /// Works until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut seen: Option<(LeaseView, Mono)> = None;
        while !stop.is_cancelled() {
            if let Some(lease) = self.take(&mut seen).await {
                self.hold(&lease, &stop).await;
                // They are the next holder's to count.
                self.kept.reset();
                self.ledger.release_lease(&lease).await.ok();
            }
            // Whatever is due is due for the holder: there is nothing to hurry for.
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.clock.sleep_until(self.clock.mono() + RENEW_EVERY) => {}
            }
        }
    }

    /// Takes the lease, if it is free or its holder has not renewed it for its whole time.
    async fn take(&self, seen: &mut Option<(LeaseView, Mono)>) -> Option<Lease> {
        let now = self.clock.now();
        let stale = seen.as_ref().filter(|(_, since)| now.mono.since(*since) > LEASE_TTL).map(|(view, _)| view.clone());
        match self.ledger.acquire_lease(LEASE, &self.holder, LEASE_TTL, now.wall, stale).await {
            Ok(Ok(lease)) => Some(lease),
            Ok(Err(view)) => {
                if seen.as_ref().is_none_or(|(known, _)| *known != view) {
                    *seen = Some((view, now.mono));
                }
                None
            }
            Err(error) => {
                tracing::warn!(%error, "failed requests wait: the ledger is in trouble");
                None
            }
        }
    }

    /// Works while the lease is held.
    async fn hold(&self, lease: &Lease, stop: &CancellationToken) {
        // Renewed at once: from then on it is known how old it is.
        let (mut renewed, mut renew_at, mut sweep_at) = (self.clock.mono(), self.clock.mono(), self.clock.mono());
        let (mut flights, mut unsettled) = (Flights::default(), Unsettled::default());
        loop {
            let now = self.clock.now();
            if now.mono >= renew_at {
                renew_at = now.mono + RENEW_EVERY;
                match self.ledger.renew_lease(lease, LEASE_TTL, now.wall).await {
                    Ok(true) => renewed = now.mono,
                    Ok(false) => return,
                    Err(error) => tracing::warn!(%error, "the lease of failed requests cannot be renewed"),
                }
            }
            let mut wake = self.clock.mono() + LOOK_EVERY;
            if let Some(until) = unsettled.paused(self.clock.mono()) {
                wake = until;
            } else {
                let round = async {
                    self.write_down(lease, &mut unsettled).await?;
                    if self.clock.mono().since(renewed) < FRESH {
                        self.begin(&mut flights).await?;
                    }
                    self.sweep(lease, &mut sweep_at).await?;
                    self.count().await?;
                    self.next_look().await
                };
                match round.await {
                    Ok(next) => {
                        wake = next;
                        unsettled.well();
                    }
                    Err(LedgerError::Fenced { .. }) => return,
                    Err(error) => {
                        tracing::warn!(%error, "failed requests wait: the ledger is in trouble");
                        self.trouble.with_label_values::<&str>(&[]).inc();
                        unsettled.failed(self.clock.mono());
                        wake = unsettled.paused(self.clock.mono()).unwrap_or(wake);
                    }
                }
            }
            tokio::select! {
                // A retry that is dropped was not settled: it is due again, for whoever leads then.
                () = stop.cancelled() => return,
                attempt = flights.next() => unsettled.attempts.push(attempt),
                () = self.bell.notified() => {}
                () = self.clock.sleep_until(wake.min(renew_at)) => {}
            }
        }
    }

    /// Writes down what has ended. What cannot be written stays.
    async fn write_down(&self, lease: &Lease, unsettled: &mut Unsettled) -> Result<(), LedgerError> {
        while let Some(Attempt { dead, settled }) = unsettled.attempts.last() {
            let id = dead.request.id;
            if self.ledger.settle_dead_request(lease, id, settled, self.clock.now().wall).await? {
                let result = match settled {
                    Settled::Done => "done",
                    Settled::Again { .. } => "again",
                    Settled::Parked { .. } => "parked",
                    Settled::Later { .. } => "later",
                };
                self.retries.with_label_values(&[result]).inc();
                if let Settled::Parked { reason, .. } = settled {
                    let connection = &dead.request.connection;
                    tracing::warn!(
                        namespace = %connection.namespace, name = %connection.name, operation = dead.request.operation,
                        reason, %id, "dlq_failed: a request is parked; POST /api/dead-requests/{{id}}/replay asks again"
                    );
                }
            }
            unsettled.attempts.pop();
        }
        Ok(())
    }

    /// Begins with what is due, as far as there is room.
    async fn begin<'a>(&'a self, flights: &mut Flights<'a>) -> Result<(), LedgerError> {
        let each = u32::try_from(EACH).unwrap_or(u32::MAX);
        for dead in self.ledger.due_dead_requests(self.clock.now().wall, BATCH, each).await? {
            if flights.has_room(&dead) {
                let retry = dead.clone();
                flights.start(&dead, async move {
                    let settled = self.retrier.retry(&retry).await;
                    Attempt { dead: retry, settled }
                });
            }
        }
        Ok(())
    }

    /// When to look again: what is due and has no room yet is begun when something ends.
    async fn next_look(&self) -> Result<Mono, LedgerError> {
        let now = self.clock.now();
        let next = self.ledger.next_dead_request(now.wall).await?;
        let wait = next.map_or(LOOK_EVERY, |at| Duration::try_from(at.duration_since(now.wall)).unwrap_or_default());
        Ok(now.mono + wait.clamp(LOOK_AT_MOST_EVERY, LOOK_EVERY))
    }

    async fn count(&self) -> Result<(), LedgerError> {
        let counts = self.ledger.count_dead_requests().await?;
        for (state, count) in [(DeadState::Pending, counts.pending), (DeadState::Parked, counts.parked)] {
            self.kept.with_label_values(&[state.as_str()]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        Ok(())
    }

    async fn sweep(&self, lease: &Lease, sweep_at: &mut Mono) -> Result<(), LedgerError> {
        let now = self.clock.now();
        let departed = self.departed.take();
        if departed.is_none() && now.mono < *sweep_at {
            return Ok(());
        }
        let seen = departed.unwrap_or_default();
        let swept = sweep::orphans(&*self.ledger, &self.who_is, lease, &seen, now.wall).await;
        if swept.is_err() {
            self.put_back(&seen);
        }
        swept?;
        if now.mono >= *sweep_at {
            sweep::old(&*self.ledger, now.wall).await?;
            *sweep_at = now.mono + SWEEP_EVERY;
        }
        Ok(())
    }

    fn put_back(&self, departed: &BTreeSet<ObjectKey>) {
        for key in departed {
            self.departed.add(key);
        }
    }
}

/// What the audit says of the operator's own acts on failed requests.
fn entry(at: Timestamp, action: &str, connection: &ObjectKey, reason: &str) -> AuditEntry {
    AuditEntry {
        at,
        kind: AuditKind::DeadRequest,
        action: action.to_owned(),
        subject: "busbar".to_owned(),
        rights_profile: None,
        allowed: true,
        namespace: connection.namespace.to_string(),
        connection: connection.name.to_string(),
        provider: None,
        purpose: None,
        reason: Some(reason.to_owned()),
        request_id: None,
    }
}
