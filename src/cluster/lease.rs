//! The leader lease: one replica reconciles, the others are warm.
//!
//! Failing to renew is not losing. While the API server is out of reach the holder stops reconciling at its renew
//! deadline and keeps its watches, probes and breakers; when the server is back and the lease still names us, work goes
//! on. Only seeing another holder is losing, and that ends the process: whatever it still believed is stale. What must
//! never happen twice does not rest on this lease but on the ledger's own, which is checked inside its transactions.

mod bell;
mod leadership;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::cluster::ApiError;
pub use crate::cluster::lease::leadership::{Leadership, Leave};
use crate::domain::lease::{LeaseView, Verdict, evaluate};
use crate::domain::time::Mono;

/// How long a silent holder keeps the lease: long enough for an API server's restart, short enough to notice a death.
pub const DURATION: Duration = Duration::from_secs(15);
/// How long a holder reconciles on without having renewed.
pub const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// How often the holder renews.
pub const RENEW_EVERY: Duration = Duration::from_secs(2);
/// How often a standby looks without being called: at an expiry and at a change it looks at once.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// After so long without trouble an outage counts as over, and the next one is told again.
const CALM: Duration = DURATION;
/// Longest wait for one answer: shorter than the renew deadline by several tries.
const TRY_TIMEOUT: Duration = Duration::from_secs(2);

/// The lease is not ours any more.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// Another replica holds it: this process must end.
    #[error("the leader lease was taken by {0}")]
    TakenBy(String),
}

/// Where the lease is and who we are.
#[derive(Clone, Debug)]
pub struct LeaseConfig {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Our name in it.
    pub identity: String,
}

/// Takes, renews and gives back the lease.
pub struct Elector {
    api: Api<Lease>,
    config: LeaseConfig,
    clock: Clock,
    leadership: Leadership,
    seen: Option<LeaseView>,
    /// When the last look failed, until all has been well for a while.
    troubled: Option<Mono>,
}

impl Elector {
    /// An elector that has not looked yet.
    pub fn new(client: Client, config: LeaseConfig, clock: Clock, leadership: Leadership) -> Self {
        let api = Api::namespaced(client, &config.namespace);
        Self { api, config, clock, leadership, seen: None, troubled: None }
    }

    /// Waits until the lease is ours; false if `stop` came first.
    pub async fn acquire(&mut self, stop: &CancellationToken) -> bool {
        let (api, name, bell) = (self.api.clone(), self.config.name.clone(), Notify::new());
        let mut listening = Box::pin(bell::listen(&api, &name, &bell));
        loop {
            if let Ok(true) = self.turn(false).await {
                tracing::info!(lease = %self.config.name, identity = %self.config.identity, "leading");
                return true;
            }
            tokio::select! {
                () = stop.cancelled() => return false,
                never = &mut listening => match never {},
                () = bell.notified() => {}
                () = self.clock.sleep_until(self.next_look()) => {}
            }
        }
    }

    /// When a standby looks at the latest: at the expiry too, so that a successor is not a turn late.
    fn next_look(&self) -> Mono {
        let now = self.clock.mono();
        let expiry = self.seen.as_ref().map(LeaseView::expires).filter(|expiry| *expiry > now);
        expiry.map_or(now + LOOK_EVERY, |expiry| expiry.min(now + LOOK_EVERY))
    }

    /// Renews until `stop`, then gives the lease back, once the last write made under it has been answered.
    ///
    /// # Errors
    /// If another replica holds the lease.
    pub async fn hold(&mut self, stop: &CancellationToken) -> Result<(), LeaseError> {
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(RENEW_EVERY) => {}
            }
            if let Err(error) = self.turn(true).await {
                self.leadership.note(None);
                return Err(error);
            }
        }
        self.leadership.resign().await;
        self.give_back().await;
        Ok(())
    }

    /// One look and what follows from it. Answers whether we hold the lease now, as far as we know.
    async fn turn(&mut self, holding: bool) -> Result<bool, LeaseError> {
        let begun = self.clock.mono();
        let result = self.look_and_act(holding, begun).await;
        match result {
            Ok(held) => {
                // Not at the first answer: in showers of refusals every second one would be news.
                if self.troubled.is_some_and(|last| begun.since(last) >= CALM) {
                    self.troubled = None;
                    tracing::info!("the leader lease can be reached again");
                }
                if held {
                    self.leadership.note(Some(begun));
                }
                Ok(held)
            }
            Err(Trouble::Lost(holder)) => Err(LeaseError::TakenBy(holder)),
            // Somebody was faster, or the answer is lost: the next turn reads what is true.
            Err(Trouble::Api(error)) if error.is_conflict() => Ok(holding),
            Err(Trouble::Api(error)) => {
                if self.troubled.replace(self.clock.mono()).is_none() {
                    tracing::warn!(%error, "the leader lease cannot be reached");
                }
                Ok(holding)
            }
        }
    }

    async fn look_and_act(&mut self, holding: bool, now: Mono) -> Result<bool, Trouble> {
        let found = quick(self.api.get_opt(&self.config.name)).await?;
        self.observe(found.as_ref(), now);
        match evaluate(self.seen.as_ref(), &self.config.identity, holding, now) {
            Verdict::Acquire => {
                let resource_version = self.seen.as_ref().map(|s| s.resource_version.clone());
                let transitions = self.seen.as_ref().map_or(0, |s| s.transitions.saturating_add(1));
                let lease = self.lease(transitions, resource_version.clone(), true);
                let written = match resource_version {
                    None => quick(self.api.create(&PostParams::default(), &lease)).await?,
                    Some(_) => quick(self.api.replace(&self.config.name, &PostParams::default(), &lease)).await?,
                };
                self.observe(Some(&written), now);
                Ok(true)
            }
            Verdict::Renew => {
                let transitions = self.seen.as_ref().map_or(0, |s| s.transitions);
                let resource_version = self.seen.as_ref().map(|s| s.resource_version.clone());
                let mut lease = self.lease(transitions, resource_version, true);
                if let (Some(spec), Some(old)) = (&mut lease.spec, found.and_then(|l| l.spec)) {
                    spec.acquire_time = old.acquire_time;
                }
                let written = quick(self.api.replace(&self.config.name, &PostParams::default(), &lease)).await?;
                self.observe(Some(&written), now);
                Ok(true)
            }
            Verdict::Wait { .. } => Ok(false),
            Verdict::Lost => {
                let holder = self.seen.as_ref().and_then(LeaseView::held_by).unwrap_or_default();
                Err(Trouble::Lost(holder.to_owned()))
            }
        }
    }

    /// Gives the lease back, so that a standby takes it at once.
    async fn give_back(&mut self) {
        match self.try_give_back().await {
            Ok(true) => tracing::info!("the leader lease was given back"),
            Ok(false) => tracing::info!("the leader lease is not ours to give back"),
            Err(error) => tracing::warn!(%error, "the leader lease could not be given back; it expires by itself"),
        }
    }

    /// Answers whether the lease was still ours.
    async fn try_give_back(&mut self) -> Result<bool, ApiError> {
        let mut looked = false;
        loop {
            let Some(seen) = self.seen.as_ref().filter(|s| s.held_by() == Some(self.config.identity.as_str())) else {
                return Ok(false);
            };
            let lease = self.lease(seen.transitions, Some(seen.resource_version.clone()), false);
            match quick(self.api.replace(&self.config.name, &PostParams::default(), &lease)).await {
                Ok(_) => return Ok(true),
                // Our last renewal may have been done although its answer was lost, or somebody has put a label on it.
                Err(error) if error.is_conflict() && !looked => {
                    let found = quick(self.api.get_opt(&self.config.name)).await?;
                    self.observe(found.as_ref(), self.clock.mono());
                    looked = true;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn observe(&mut self, found: Option<&Lease>, now: Mono) {
        let Some(lease) = found else {
            self.seen = None;
            return;
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let seconds = u64::try_from(spec.lease_duration_seconds.unwrap_or(0)).unwrap_or(0);
        let fresh = LeaseView {
            holder: spec.holder_identity,
            renew_observed_at: now,
            duration: Duration::from_secs(seconds),
            transitions: spec.lease_transitions.unwrap_or(0),
            resource_version: lease.metadata.resource_version.clone().unwrap_or_default(),
        };
        self.seen = Some(match self.seen.take() {
            Some(seen) => seen.seen_again(fresh),
            None => fresh,
        });
    }

    fn lease(&self, transitions: i32, resource_version: Option<String>, held: bool) -> Lease {
        let now = MicroTime(micros(self.clock.now().wall));
        let seconds = if held { i32::try_from(DURATION.as_secs()).unwrap_or(15) } else { 1 };
        Lease {
            metadata: ObjectMeta {
                name: Some(self.config.name.clone()),
                namespace: Some(self.config.namespace.clone()),
                resource_version,
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

enum Trouble {
    Lost(String),
    Api(ApiError),
}

impl From<ApiError> for Trouble {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

async fn quick<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, ApiError> {
    match tokio::time::timeout(TRY_TIMEOUT, request).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(ApiError::Timeout),
    }
}

/// The API server keeps microseconds; what it would cut off must not make our own lease look changed.
fn micros(at: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at)
}

#[cfg(test)]
mod tests;
