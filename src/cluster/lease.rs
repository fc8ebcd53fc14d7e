//! The leader lease: one replica reconciles, the others are warm standbys.
//!
//! A failed renewal does not lose the lease. While the API server is unreachable the leader stops reconciling at its
//! renew deadline and keeps its watches, probes and breakers; when the API server is back and the lease still names
//! this replica, reconciling continues. Only observing another holder loses the lease, and that ends the process,
//! because its state is stale. Operations that must never run twice do not rely on this lease but on the ledger's own,
//! which is checked inside its transactions.

mod epoch;
mod leadership;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::cluster::lease::epoch::epoch_of;
pub use crate::cluster::lease::epoch::{EPOCH_ANNOTATION, EpochGuard, RaiseOutcome};
pub use crate::cluster::lease::leadership::{Leadership, RENEW_DEADLINE, WritePermit};
use crate::cluster::{ApiError, call_within};
use crate::domain::lease::{LeaseDecision, ObservedLease, evaluate};
use crate::domain::time::Mono;

/// How long a lease stays valid without a renewal: long enough for an API server's restart, short enough for failover.
pub const LEASE_DURATION: Duration = Duration::from_secs(15);
/// How often the leader renews.
pub const RENEW_INTERVAL: Duration = Duration::from_secs(2);
/// How often a standby reads the lease if nothing else triggers a read: it also reads at an expiry and at each change.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// An outage is over after this long without a failure; a later failure is logged as a new outage.
const OUTAGE_OVER_AFTER: Duration = LEASE_DURATION;
/// Timeout of one request: several attempts fit into the renew deadline.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// This replica lost the lease.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// Another replica holds it: this process must end.
    #[error("leader lease lost: now held by {0}")]
    HeldBy(String),
    /// The ledger was exchanged for one that is behind: this process must end.
    #[error("leader lease given up: the ledger is behind the epoch in the lease; see /readyz after the restart")]
    LedgerBehind,
}

/// Which lease, and under which identity.
#[derive(Clone, Debug)]
pub struct LeaseConfig {
    /// The lease's namespace.
    pub namespace: String,
    /// The lease's name.
    pub name: String,
    /// This replica's holder identity.
    pub identity: String,
}

/// Acquires, renews and releases the lease.
pub struct LeaderElector {
    api: Api<Lease>,
    config: LeaseConfig,
    clock: Clock,
    leadership: Leadership,
    observed: Option<ObservedLease>,
    /// The annotations of the lease, kept when it is written.
    annotations: BTreeMap<String, String>,
    guard: Option<Arc<dyn EpochGuard>>,
    /// The ledger's epoch that this replica leads with; `None` until it is raised.
    epoch: Option<i64>,
    /// When a request last failed; `None` once the outage is over.
    last_failure: Option<Mono>,
}

impl LeaderElector {
    /// An elector that has not read the lease yet.
    pub fn new(client: Client, config: LeaseConfig, clock: Clock, leadership: Leadership) -> Self {
        let api = Api::namespaced(client, &config.namespace);
        Self {
            api,
            config,
            clock,
            leadership,
            observed: None,
            annotations: BTreeMap::new(),
            guard: None,
            epoch: None,
            last_failure: None,
        }
    }

    /// The same, leading only with a ledger that `guard` admits.
    #[must_use]
    pub fn with_epoch(self, guard: Arc<dyn EpochGuard>) -> Self {
        Self { guard: Some(guard), ..self }
    }

    /// Waits until this replica holds the lease; returns false if `stop` is cancelled first.
    pub async fn acquire(&mut self, stop: &CancellationToken) -> bool {
        let (api, name, changed) = (self.api.clone(), self.config.name.clone(), Notify::new());
        let mut watching = Box::pin(watch::notify_changes(&api, &name, &changed));
        loop {
            if let Ok(true) = self.tick(false).await
                && self.begin_epoch().await
            {
                let (lease, identity) = (&self.config.name, &self.config.identity);
                tracing::info!(%lease, %identity, "acquired the leader lease; leading");
                return true;
            }
            tokio::select! {
                () = stop.cancelled() => return false,
                never = &mut watching => match never {},
                () = changed.notified() => {}
                () = self.clock.sleep_until(self.next_poll()) => {}
            }
        }
    }

    /// When a standby reads the lease at the latest: at its expiry too, so that failover does not wait for the next
    /// poll.
    fn next_poll(&self) -> Mono {
        let now = self.clock.mono();
        let expiry = self.observed.as_ref().map(ObservedLease::expires).filter(|expiry| *expiry > now);
        expiry.map_or(now + POLL_INTERVAL, |expiry| expiry.min(now + POLL_INTERVAL))
    }

    /// Renews until `stop` is cancelled, then releases the lease once the last write made under it has completed.
    ///
    /// # Errors
    /// If another replica holds the lease.
    pub async fn hold(&mut self, stop: &CancellationToken) -> Result<(), LeaseError> {
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(RENEW_INTERVAL) => {}
            }
            if let Err(error) = self.renew().await {
                self.leadership.record_renewal(None);
                return Err(error);
            }
        }
        self.leadership.resign().await;
        self.release().await;
        Ok(())
    }

    /// Raises the ledger's epoch and writes it to the lease, which this replica has just acquired. `false`: the ledger is
    /// behind, and the lease is released.
    async fn begin_epoch(&mut self) -> bool {
        self.epoch = None;
        match self.raise_epoch().await {
            Err(LeaseError::LedgerBehind) => {
                self.leadership.record_renewal(None);
                self.release().await;
                false
            }
            // Written now: until then the lease does not protect what this leader writes to the ledger.
            _ => self.epoch.is_none() || self.tick(true).await.is_ok(),
        }
    }

    async fn renew(&mut self) -> Result<(), LeaseError> {
        self.tick(true).await?;
        self.raise_epoch().await
    }

    /// Raises the ledger's epoch if this replica has not done so since it leads.
    async fn raise_epoch(&mut self) -> Result<(), LeaseError> {
        let Some(guard) = self.guard.as_ref().filter(|_| self.epoch.is_none()) else { return Ok(()) };
        match guard.raise(epoch_of(&self.annotations)).await {
            RaiseOutcome::Raised(epoch) => self.epoch = Some(epoch),
            RaiseOutcome::Behind => return Err(LeaseError::LedgerBehind),
            RaiseOutcome::Failed => {}
        }
        Ok(())
    }

    /// Whether this replica, which does not lead, may do what `decision` says.
    async fn may_lead(&self, decision: LeaseDecision) -> bool {
        let Some(guard) = &self.guard else { return true };
        match decision {
            LeaseDecision::Acquire | LeaseDecision::Renew => guard.admits(epoch_of(&self.annotations)).await,
            LeaseDecision::Wait { .. } | LeaseDecision::Lost => {
                guard.stands_by();
                true
            }
        }
    }

    /// Reads the lease and acquires or renews it. Returns whether this replica holds it now, as far as it knows.
    async fn tick(&mut self, holding: bool) -> Result<bool, LeaseError> {
        let started = self.clock.mono();
        match self.try_acquire_or_renew(holding, started).await {
            Ok(held) => {
                // Not at the first success: while requests fail intermittently, every second one would be logged.
                if self.last_failure.is_some_and(|last| started.since(last) >= OUTAGE_OVER_AFTER) {
                    self.last_failure = None;
                    tracing::info!("leader lease requests succeed again");
                }
                if held {
                    self.leadership.record_renewal(Some(started));
                }
                Ok(held)
            }
            Err(TickError::Lost(holder)) => Err(LeaseError::HeldBy(holder)),
            // Another replica wrote first, or the response was lost: the next tick reads the current state.
            Err(TickError::Api(error)) if error.is_conflict() => Ok(holding),
            Err(TickError::Api(error)) => {
                if self.last_failure.replace(self.clock.mono()).is_none() {
                    tracing::warn!(%error, "leader lease request failed; retrying");
                }
                Ok(holding)
            }
        }
    }

    async fn try_acquire_or_renew(&mut self, holding: bool, now: Mono) -> Result<bool, TickError> {
        let found = with_timeout(self.api.get_opt(&self.config.name)).await?;
        self.observe(found.as_ref(), now);
        let decision = evaluate(self.observed.as_ref(), &self.config.identity, holding, now);
        if !holding && !self.may_lead(decision).await {
            return Ok(false);
        }
        match decision {
            LeaseDecision::Acquire => {
                let resource_version = self.observed.as_ref().map(|o| o.resource_version.clone());
                let transitions = self.observed.as_ref().map_or(0, |o| o.transitions.saturating_add(1));
                let lease = self.lease_object(transitions, resource_version.clone(), true);
                let written = match resource_version {
                    None => with_timeout(self.api.create(&PostParams::default(), &lease)).await?,
                    Some(_) => {
                        with_timeout(self.api.replace(&self.config.name, &PostParams::default(), &lease)).await?
                    }
                };
                self.observe(Some(&written), now);
                Ok(true)
            }
            LeaseDecision::Renew => {
                let transitions = self.observed.as_ref().map_or(0, |o| o.transitions);
                let resource_version = self.observed.as_ref().map(|o| o.resource_version.clone());
                let mut lease = self.lease_object(transitions, resource_version, true);
                if let (Some(spec), Some(old)) = (&mut lease.spec, found.and_then(|l| l.spec)) {
                    spec.acquire_time = old.acquire_time;
                }
                let written = with_timeout(self.api.replace(&self.config.name, &PostParams::default(), &lease)).await?;
                self.observe(Some(&written), now);
                Ok(true)
            }
            LeaseDecision::Wait { .. } => Ok(false),
            LeaseDecision::Lost => {
                let holder = self.observed.as_ref().and_then(ObservedLease::current_holder).unwrap_or_default();
                Err(TickError::Lost(holder.to_owned()))
            }
        }
    }

    /// Releases the lease, so that a standby acquires it at once.
    async fn release(&mut self) {
        match self.try_release().await {
            Ok(true) => tracing::info!("leader lease released"),
            Ok(false) => tracing::info!("leader lease not released: this replica no longer holds it"),
            Err(error) => {
                tracing::warn!(%error, "leader lease could not be released; a standby acquires it when it expires");
            }
        }
    }

    /// Returns whether this replica still held the lease.
    async fn try_release(&mut self) -> Result<bool, ApiError> {
        let mut retried = false;
        loop {
            let Some(held) =
                self.observed.as_ref().filter(|o| o.current_holder() == Some(self.config.identity.as_str()))
            else {
                return Ok(false);
            };
            let lease = self.lease_object(held.transitions, Some(held.resource_version.clone()), false);
            match with_timeout(self.api.replace(&self.config.name, &PostParams::default(), &lease)).await {
                Ok(_) => return Ok(true),
                // Our last renewal may have succeeded although its response was lost, or the Lease was edited.
                Err(error) if error.is_conflict() && !retried => {
                    let found = with_timeout(self.api.get_opt(&self.config.name)).await?;
                    self.observe(found.as_ref(), self.clock.mono());
                    retried = true;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn observe(&mut self, found: Option<&Lease>, now: Mono) {
        let Some(lease) = found else {
            self.observed = None;
            self.annotations.clear();
            return;
        };
        self.annotations = lease.metadata.annotations.clone().unwrap_or_default();
        let spec = lease.spec.clone().unwrap_or_default();
        let seconds = u64::try_from(spec.lease_duration_seconds.unwrap_or(0)).unwrap_or(0);
        let fresh = ObservedLease {
            holder: spec.holder_identity,
            renew_observed_at: now,
            duration: Duration::from_secs(seconds),
            transitions: spec.lease_transitions.unwrap_or(0),
            resource_version: lease.metadata.resource_version.clone().unwrap_or_default(),
        };
        self.observed = Some(match self.observed.take() {
            Some(observed) => observed.refreshed(fresh),
            None => fresh,
        });
    }

    fn lease_object(&self, transitions: i32, resource_version: Option<String>, held: bool) -> Lease {
        let now = MicroTime(micros(self.clock.now().wall));
        let mut annotations = self.annotations.clone();
        if let Some(epoch) = self.epoch {
            annotations.insert(EPOCH_ANNOTATION.to_owned(), epoch.to_string());
        }
        let seconds = if held { i32::try_from(LEASE_DURATION.as_secs()).unwrap_or(15) } else { 1 };
        Lease {
            metadata: ObjectMeta {
                name: Some(self.config.name.clone()),
                namespace: Some(self.config.namespace.clone()),
                resource_version,
                annotations: Some(annotations).filter(|annotations| !annotations.is_empty()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(if held { self.config.identity.clone() } else { String::new() }),
                lease_duration_seconds: Some(seconds),
                acquire_time: Some(now.clone()),
                renew_time: Some(now),
                lease_transitions: Some(transitions),
                ..LeaseSpec::default()
            }),
        }
    }
}

enum TickError {
    Lost(String),
    Api(ApiError),
}

impl From<ApiError> for TickError {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

async fn with_timeout<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, ApiError> {
    call_within(REQUEST_TIMEOUT, request).await
}

/// Truncated to microseconds, as the API server stores it; otherwise our own lease would look changed.
fn micros(at: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at)
}

#[cfg(test)]
mod tests;
