//! The relay: one replica publishes, under a lease in the ledger of its own, on one connection to the broker.
//!
//! The breaker of the broker is its connection: while it cannot be used nothing is read from the ledger and nothing is
//! tried, except one connection attempt after each delay, which grows until a connection has published something.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::broker::Broker;
use super::housekeeping;
use super::metrics::RelayMetrics;
use super::session::{Session, SessionEnd};
use super::shared::{ConsumerList, PAGES, Relay};
use super::topology::{TopologyOptions, TopologyStatus};
use crate::clock::Clock;
use crate::domain::backoff::Backoff;
use crate::ledger::{HeldLease, LeaseHolder, LeaseOptions, LeaseStore, Ledger, TakeOutcome};
use crate::metrics::{Metrics, MetricsError};
use crate::tasks::TaskGroup;

/// Name of the lease in the ledger.
const LEASE: &str = "outbox-relay";
/// How long the lease is valid without a renewal: longer than the broker may take for a batch.
const LEASE_TTL: Duration = Duration::from_secs(30);
/// Interval at which the lease is tried for.
const TAKE_INTERVAL: Duration = Duration::from_secs(3);
/// Delay between two connections that were of no use.
const RECONNECT: Backoff = Backoff { base: Duration::from_millis(500), max: Duration::from_secs(10) };
/// The shortest delay: full jitter may come to nothing.
const MIN_RECONNECT: Duration = Duration::from_millis(100);
/// What the relay needs.
pub struct RelayDeps {
    /// The broker.
    pub broker: Arc<dyn Broker>,
    /// The clock.
    pub clock: Clock,
    /// Where the broker is, for logs.
    pub host: String,
    /// The ledger.
    pub ledger: Arc<dyn Ledger>,
    /// Where a lease that is dropped is released.
    pub tasks: TaskGroup,
    /// Names and limits of the queues.
    pub topology: TopologyOptions,
}

/// Publishes while it holds its lease.
pub struct OutboxRelay {
    relay: Relay,
    host: String,
    holder: String,
    tasks: TaskGroup,
}

impl OutboxRelay {
    /// A relay that holds its lease as `holder`. Registers its metrics.
    pub fn new(deps: RelayDeps, holder: &str, metrics: &Metrics) -> Result<Self, MetricsError> {
        let RelayDeps { broker, clock, host, ledger, tasks, topology } = deps;
        let metrics = RelayMetrics::new(metrics)?;
        let status = TopologyStatus::new(metrics.topology_mismatches());
        let relay = Relay { broker, clock, ledger, metrics, pages: Semaphore::new(PAGES), status, topology };
        Ok(Self { relay, host, holder: holder.to_owned(), tasks })
    }

    /// Whether the broker's topology is the declared one.
    pub fn topology_status(&self) -> TopologyStatus {
        self.relay.status.clone()
    }

    /// Runs until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        let clock = self.relay.clock;
        let options = LeaseOptions {
            name: LEASE.to_owned(),
            holder: self.holder.clone(),
            ttl: LEASE_TTL,
            tasks: self.tasks.clone(),
        };
        let store = Arc::clone(&self.relay.ledger) as Arc<dyn LeaseStore>;
        let mut holder = LeaseHolder::new(store, clock, options);
        while !stop.is_cancelled() {
            match holder.take().await {
                Ok(TakeOutcome::Taken(held)) => {
                    tokio::select! {
                        () = held.lost() => {}
                        () = self.run_leased(&held, &stop) => {}
                    }
                    self.relay.metrics.connected(false, false);
                    self.relay.metrics.forget_depths();
                    self.relay.metrics.usage(&[], clock.now().wall);
                    held.release().await;
                }
                Ok(TakeOutcome::HeldByOther { .. }) => {}
                Err(error) => tracing::warn!(%error, "taking the outbox lease failed; events are published later"),
            }
            let next = clock.mono() + TAKE_INTERVAL;
            if stop.run_until_cancelled(clock.sleep_until(next)).await.is_none() {
                return;
            }
        }
    }

    /// Relays under the lease, until `stop` or until its fence is refused.
    async fn run_leased(&self, held: &HeldLease, stop: &CancellationToken) {
        let (consumers, list) = watch::channel(None);
        tokio::select! {
            () = housekeeping::run(&self.relay, held, &consumers) => {}
            () = self.connections(held, list, stop) => {}
        }
    }

    /// One connection after the other, as long as there are consumers.
    async fn connections(
        &self,
        held: &HeldLease,
        mut consumers: watch::Receiver<ConsumerList>,
        stop: &CancellationToken,
    ) {
        let mut failures: u32 = 0;
        loop {
            let some = consumers.wait_for(|list| list.as_ref().is_some_and(|list| !list.is_empty()));
            // The list has a sender as long as this runs.
            if !matches!(stop.run_until_cancelled(some).await, Some(Ok(_))) {
                return;
            }
            match stop.run_until_cancelled(self.relay.broker.connect()).await {
                None => return,
                Some(Err(error)) => {
                    failures = failures.saturating_add(1);
                    tracing::warn!(
                        broker = self.host,
                        %error,
                        failures,
                        "connecting to the message broker failed; events wait in the ledger; retrying with backoff"
                    );
                }
                Some(Ok(broker)) => {
                    tracing::info!(broker = self.host, "connected to the message broker");
                    let session = Session { relay: &self.relay, held, broker };
                    let end = session.run(&mut consumers, stop).await;
                    self.relay.metrics.connected(false, false);
                    self.relay.metrics.forget_depths();
                    match end {
                        SessionEnd::Stopped | SessionEnd::Fenced => return,
                        SessionEnd::Lost { was_useful } => {
                            failures = if was_useful { 1 } else { failures.saturating_add(1) };
                            tracing::warn!(
                                broker = self.host,
                                "connection to the message broker lost; events wait in the ledger; reconnecting"
                            );
                        }
                    }
                }
            }
            let delay = RECONNECT.delay(failures.saturating_sub(1), rand::random()).max(MIN_RECONNECT);
            let next = self.relay.clock.mono() + delay;
            if stop.run_until_cancelled(self.relay.clock.sleep_until(next)).await.is_none() {
                return;
            }
        }
    }
}
