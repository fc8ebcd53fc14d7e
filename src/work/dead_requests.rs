//! Asks again what failed for good: after 1, 2 and 4 seconds, then it is parked for a person.
//!
//! Only the leader runs it, and what it writes stands on a lease of the ledger besides: a replica that was frozen and
//! replaced settles nothing when it wakes. What is retried only reads, so a retry that was made twice has done no harm. The
//! caller's rights are judged again at each retry; the answer goes into the connection's cache, for whoever asks next.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use prometheus::{IntCounterVec, IntGaugeVec};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::domain::rights::Caller;
use crate::domain::time::Mono;
use crate::ledger::audit::{AuditEntry, AuditKind};
use crate::ledger::dead_requests::{DeadRequest, DeadState, Settled, seal_name};
use crate::ledger::sealed::Keyring;
use crate::ledger::{Lease, LeaseView, Ledger, LedgerError};
use crate::metrics::{Metrics, MetricsError};
use crate::provider::ask::{self, Ended, FailureKind, Manner};
use crate::provider::registry::Registry;

/// The lease in the ledger.
const LEASE: &str = "dead-requests";
/// How long it is held without a renewal.
const LEASE_TTL: Duration = Duration::from_secs(15);
/// How often it is renewed, or looked at by who does not have it.
const RENEW_EVERY: Duration = Duration::from_secs(5);
/// Retries of one request; the waits before them are 1, 2 and 4 s.
const TRIES: u32 = 3;
/// How often the table is looked at although nobody rang: another replica keeps requests too.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Retries at once, over all connections.
const AT_ONCE: usize = 8;
/// Taken from the table at once.
const BATCH: u32 = 64;
/// A retry must have ended by then.
const WITHIN: Duration = Duration::from_secs(10);
/// When to look again for a connection that is not here, or suspended.
const ABSENT: Duration = Duration::from_secs(30);
/// A request that cannot be tried for so long is parked.
const GIVE_UP: Duration = Duration::from_hours(24);
/// How long what was answered stays in the list.
const KEEP_DONE: Duration = Duration::from_hours(24);
/// How long what is parked waits for its person.
const KEEP_PARKED: Duration = Duration::from_hours(24 * 90);
/// How often the old is removed.
const PRUNE_EVERY: Duration = Duration::from_hours(1);

/// The worker.
pub struct DeadRequestWorker {
    ledger: Arc<dyn Ledger>,
    registry: Registry,
    keys: Keyring,
    clock: Clock,
    holder: String,
    bell: Arc<Notify>,
    kept: IntGaugeVec,
    retries: IntCounterVec,
}

impl DeadRequestWorker {
    /// One that holds its lease as `holder` and looks when `bell` rings.
    pub fn new(
        ledger: Arc<dyn Ledger>,
        registry: Registry,
        keys: Keyring,
        (clock, metrics): (Clock, &Metrics),
        holder: &str,
        bell: Arc<Notify>,
    ) -> Result<Self, MetricsError> {
        Ok(Self {
            ledger,
            registry,
            keys,
            clock,
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
        })
    }

    /// Works until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut seen: Option<(LeaseView, Mono)> = None;
        while !stop.is_cancelled() {
            match self.take(&mut seen).await {
                Some(lease) => {
                    self.hold(&lease, &stop).await;
                    self.ledger.release_lease(&lease).await.ok();
                }
                None => self.rest(RENEW_EVERY, &stop).await,
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
        let (mut renewed, mut prune_at) = (self.clock.mono(), self.clock.mono());
        while !stop.is_cancelled() {
            let now = self.clock.now();
            if now.mono.since(renewed) >= RENEW_EVERY {
                match self.ledger.renew_lease(lease, LEASE_TTL, now.wall).await {
                    Ok(true) => renewed = now.mono,
                    Ok(false) => return,
                    Err(error) => tracing::warn!(%error, "the lease of failed requests cannot be renewed"),
                }
            }
            if now.mono >= prune_at {
                prune_at = now.mono + PRUNE_EVERY;
                self.prune(now.wall).await;
            }
            match self.round(lease, stop).await {
                Ok(()) => {}
                Err(LedgerError::Fenced { .. }) => return,
                Err(error) => tracing::warn!(%error, "failed requests wait: the ledger is in trouble"),
            }
            self.rest(LOOK_EVERY, stop).await;
        }
    }

    /// Until the bell, the next due time, or `most`.
    async fn rest(&self, most: Duration, stop: &CancellationToken) {
        let due = self.ledger.next_dead_request().await.ok().flatten();
        let now = self.clock.now();
        let wait = due.map_or(most, |due| Duration::try_from(due.duration_since(now.wall)).unwrap_or_default());
        // Never at once: what is due and cannot be settled would spin.
        let until = now.mono + wait.clamp(Duration::from_millis(20), most);
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.bell.notified() => {}
            () = self.clock.sleep_until(until) => {}
        }
    }

    /// Asks once for everything that is due.
    async fn round(&self, lease: &Lease, stop: &CancellationToken) -> Result<(), LedgerError> {
        let due = self.ledger.due_dead_requests(self.clock.now().wall, BATCH).await?;
        let retries = futures::stream::iter(due).map(|dead| self.retry(lease, dead)).buffer_unordered(AT_ONCE);
        let mut retries = std::pin::pin!(retries);
        loop {
            // A retry that is dropped was not settled: it is due again, for whoever leads then.
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                end = retries.next() => match end {
                    Some(end) => end?,
                    None => break,
                },
            }
        }
        let counts = self.ledger.count_dead_requests().await?;
        for (state, count) in [(DeadState::Pending, counts.pending), (DeadState::Parked, counts.parked)] {
            self.kept.with_label_values(&[state.as_str()]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        Ok(())
    }

    async fn retry(&self, lease: &Lease, dead: DeadRequest) -> Result<(), LedgerError> {
        let settled = self.settle(&dead).await;
        let result = match &settled {
            Settled::Done => "done",
            Settled::Again { .. } => "again",
            Settled::Parked { .. } => "parked",
            Settled::Later { .. } => "later",
        };
        let id = dead.request.id;
        if self.ledger.settle_dead_request(lease, id, &settled, self.clock.now().wall).await? {
            self.retries.with_label_values(&[result]).inc();
            if let Settled::Parked { reason, .. } = &settled {
                let connection = &dead.request.connection;
                tracing::warn!(
                    namespace = %connection.namespace, name = %connection.name, operation = dead.request.operation,
                    reason, %id, "dlq_failed: a request is parked; POST /api/dead-requests/{{id}}/replay asks again"
                );
            }
        }
        Ok(())
    }

    /// Asks once more; what is to become of the request.
    async fn settle(&self, dead: &DeadRequest) -> Settled {
        let kept = &dead.request;
        let now = self.clock.now().wall;
        let Some(live) = self.registry.get(&kept.connection) else { return self.later(dead, "connection_absent") };
        let settings = live.settings();
        if settings.suspended() {
            return self.later(dead, "suspended");
        }
        let Some((parameters, caller)) = self.open(dead) else { return self.parked(dead, "unreadable", None) };
        let Ok(operation) = ask::operation(&settings, &kept.operation) else {
            return self.parked(dead, "operation_not_found", None);
        };
        // Its class may have changed under a profile of the user's.
        if !ask::may_be_repeated(operation) {
            return self.parked(dead, "not_repeatable", None);
        }
        let manner = Manner { caller: Some(Arc::new(caller)), within: Some(WITHIN), hasty: true };
        let Ok(request) = ask::request(&settings, &kept.operation, operation, &parameters, manner) else {
            return self.parked(dead, "invalid_parameter", None);
        };
        match ask::ask(&live, request, || self.clock.now().wall).await {
            // A stale answer is what the failed call would have got too.
            Ended::Good(answer) if answer.meta.stale => self.again(dead, "stale", None, None),
            // The provider answered; that it has no such item is an answer.
            Ended::Good(_) | Ended::NotFound(_) | Ended::Refused(_) => Settled::Done,
            Ended::Denied(_) => self.parked(dead, "rights_denied", None),
            Ended::Failed(failure) if failure.kind == FailureKind::Suspended => self.later(dead, failure.code),
            Ended::Failed(failure) if !failure.again => self.parked(dead, failure.code, failure.status),
            Ended::Failed(failure) => {
                let until = failure.retry_in.and_then(|wait| after(now, wait));
                self.again(dead, failure.code, failure.status, until)
            }
        }
    }

    /// Parameters and caller.
    fn open(&self, dead: &DeadRequest) -> Option<(BTreeMap<String, String>, Caller)> {
        let kept = &dead.request;
        let parameters = if kept.sealed {
            let opened = self.keys.open_sealed(&seal_name(&kept.connection, kept.id), &kept.parameters).ok()?;
            serde_json::from_slice(&opened).ok()?
        } else {
            serde_json::from_slice(&kept.parameters).ok()?
        };
        Some((parameters, serde_json::from_str(&kept.caller).ok()?))
    }

    /// The next try, twice as far away as the last, or the end. A provider that asks for a longer pause gets it.
    fn again(&self, dead: &DeadRequest, code: &str, status: Option<u16>, not_before: Option<Timestamp>) -> Settled {
        let tried = dead.tries + 1;
        if tried >= TRIES {
            return self.parked(dead, code, status);
        }
        let now = self.clock.now().wall;
        let next = after(now, Duration::from_secs(1 << tried)).unwrap_or(now);
        Settled::Again { next: not_before.map_or(next, |at| at.max(next)), reason: code.to_owned(), status }
    }

    fn later(&self, dead: &DeadRequest, code: &str) -> Settled {
        let now = self.clock.now().wall;
        if after(dead.request.at, GIVE_UP).is_some_and(|end| now >= end) {
            return self.parked(dead, code, None);
        }
        Settled::Later { next: after(now, ABSENT).unwrap_or(now) }
    }

    fn parked(&self, dead: &DeadRequest, code: &str, status: Option<u16>) -> Settled {
        let kept = &dead.request;
        let audit = AuditEntry {
            at: self.clock.now().wall,
            kind: AuditKind::DeadRequest,
            action: "dlq_failed".to_owned(),
            subject: "busbar".to_owned(),
            rights_profile: None,
            allowed: true,
            namespace: kept.connection.namespace.to_string(),
            connection: kept.connection.name.to_string(),
            provider: Some(kept.provider.clone()),
            purpose: None,
            reason: Some(code.to_owned()),
            request_id: kept.request_id,
        };
        Settled::Parked { reason: code.to_owned(), status, audit: Box::new(audit) }
    }

    async fn prune(&self, now: Timestamp) {
        let before = |keep| SignedDuration::try_from(keep).ok().and_then(|keep| now.checked_sub(keep).ok());
        if let (Some(done), Some(parked)) = (before(KEEP_DONE), before(KEEP_PARKED))
            && let Err(error) = self.ledger.prune_dead_requests(done, parked).await
        {
            tracing::warn!(%error, "old failed requests stay for now");
        }
    }
}

fn after(now: Timestamp, wait: Duration) -> Option<Timestamp> {
    now.checked_add(SignedDuration::try_from(wait).ok()?).ok()
}
