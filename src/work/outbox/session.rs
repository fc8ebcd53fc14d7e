//! What the relay does while one connection to the broker lasts: it declares the topology, runs a lane for each consumer,
//! and looks at the queues.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::broker::{BrokerError, BrokerSession, QueueDepth};
use super::lane::{Lane, LaneEnd};
use super::shared::{ConsumerList, Relay};
use crate::domain::time::Mono;
use crate::ledger::delivery::Consumer;
use crate::ledger::{HeldLease, LedgerError};

/// Interval at which the state of the connection is looked at.
const TICK: Duration = Duration::from_secs(1);
/// Interval at which the queues are looked at.
const DEPTH_INTERVAL: Duration = Duration::from_secs(15);
/// Shortest time between two declarations because of returned messages.
const REDECLARE_INTERVAL: Duration = Duration::from_secs(5);
/// How long batches under way are waited for when the process stops.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// Why a session ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum SessionEnd {
    /// The process stops.
    Stopped,
    /// Another process relays.
    Fenced,
    /// The connection is of no use any more.
    Lost {
        /// Whether an event was published on it.
        was_useful: bool,
    },
}

/// One connection.
pub(super) struct Session<'a> {
    pub(super) relay: &'a Relay,
    pub(super) held: &'a HeldLease,
    pub(super) broker: Arc<dyn BrokerSession>,
}

impl Session<'_> {
    /// Publishes until the connection is lost, or the relay must end.
    pub(super) async fn run(
        &self,
        consumers: &mut watch::Receiver<ConsumerList>,
        stop: &CancellationToken,
    ) -> SessionEnd {
        let was_useful = AtomicBool::new(false);
        let lost = || SessionEnd::Lost { was_useful: was_useful.load(Ordering::Relaxed) };
        loop {
            let current = consumers.borrow_and_update().clone().unwrap_or_default();
            if let Err(error) = self.prepare(&current).await {
                tracing::warn!(%error, "declaring the event topology failed; reconnecting with backoff");
                return lost();
            }
            match self.generation(&current, consumers, &was_useful, stop).await {
                LaneEnd::Stopped if stop.is_cancelled() => {
                    self.broker.close().await;
                    return SessionEnd::Stopped;
                }
                LaneEnd::Stopped => {}
                LaneEnd::Fenced => return SessionEnd::Fenced,
                LaneEnd::Lost => return lost(),
            }
        }
    }

    /// Makes the broker's queues those of these consumers.
    async fn prepare(&self, consumers: &[Consumer]) -> Result<(), BrokerError> {
        // First: a new consumer of such a name must not read what was published for the former one.
        self.delete_retired_queues().await?;
        self.declare(consumers).await?;
        self.delete_former_queues(consumers).await
    }

    /// Publishes to these consumers until they change, or the topology is to be declared again.
    async fn generation(
        &self,
        current: &[Consumer],
        consumers: &mut watch::Receiver<ConsumerList>,
        was_useful: &AtomicBool,
        stop: &CancellationToken,
    ) -> LaneEnd {
        let (ends, redeclare) = (stop.child_token(), Notify::new());
        let mut running: FuturesUnordered<BoxFuture<'_, LaneEnd>> = FuturesUnordered::new();
        running.push(Box::pin(self.watch_depths(current, ends.clone())));
        for consumer in current {
            let lane = Lane {
                relay: self.relay,
                held: self.held,
                session: &*self.broker,
                consumer,
                redeclare: &redeclare,
                was_useful,
            };
            running.push(Box::pin(lane.run(ends.clone())));
        }
        let clock = self.relay.clock;
        let (mut tick, mut declare_at) = (Mono::ZERO, Mono::MAX);
        let declare_from = clock.mono() + REDECLARE_INTERVAL;
        loop {
            tokio::select! {
                end = running.next() => match end {
                    Some(LaneEnd::Stopped) => {}
                    Some(end) => return end,
                    None => return LaneEnd::Stopped,
                },
                () = stop.cancelled() => {
                    let drained = async { while running.next().await.is_some() {} };
                    // What is published and not recorded then is published again, with the same ID.
                    drop(tokio::time::timeout(STOP_GRACE, drained).await);
                    return LaneEnd::Stopped;
                }
                Ok(()) = consumers.changed(), if !ends.is_cancelled() => {
                    // Read by the next generation.
                    consumers.mark_changed();
                    ends.cancel();
                }
                () = redeclare.notified(), if !ends.is_cancelled() => declare_at = declare_from,
                () = clock.sleep_until(tick) => {
                    tick = clock.mono() + TICK;
                    self.relay.metrics.connected(self.broker.is_open(), self.broker.is_blocked());
                    if !self.broker.is_open() {
                        return LaneEnd::Lost;
                    }
                    if clock.mono() >= declare_at {
                        ends.cancel();
                    }
                }
            }
        }
    }

    /// Declares the topology. What differs is reported, and ends nothing.
    async fn declare(&self, consumers: &[Consumer]) -> Result<(), BrokerError> {
        let names = consumers.iter().map(|consumer| consumer.name.as_str());
        let mismatches = self.broker.declare(&self.relay.topology.declarations(names)).await?;
        if self.relay.status.set(mismatches) {
            if let Some(warning) = self.relay.status.warning() {
                tracing::warn!("{warning}");
            } else {
                tracing::info!("the event topology of the broker is the declared one");
            }
        }
        Ok(())
    }

    /// Deletes the queues of names that no consumer has any more, with what they hold. The ledger knows them until that is done,
    /// whichever replica relays and however long the broker was down.
    async fn delete_retired_queues(&self) -> Result<(), BrokerError> {
        let (relay, topology) = (self.relay, &self.relay.topology);
        let unknown = |error: LedgerError| BrokerError::Failed(error.to_string());
        let mut gone = Vec::new();
        for retired in relay.ledger.retired_names().await.map_err(unknown)? {
            let queue = self.broker.delete_queue(&topology.queue(&retired.name)).await;
            let dead = self.broker.delete_queue(&topology.dead_queue(&retired.name)).await;
            match queue.and(dead) {
                Ok(()) => {
                    tracing::info!(consumer = retired.name, "queues of a removed consumer deleted");
                    gone.push(retired.id);
                }
                Err(BrokerError::Refused(cause)) => tracing::warn!(
                    consumer = retired.name,
                    cause,
                    "deleting the queues of a removed consumer refused by the broker; delete them there: a new consumer of \
                     that name would read what they hold; retrying with the next connection"
                ),
                Err(error) => return Err(error),
            }
        }
        if gone.is_empty() {
            return Ok(());
        }
        // Before anything is published: the queues of a new consumer of the name must not be deleted later.
        relay.ledger.forget_names(self.held.lease(), &gone, relay.clock.now().wall).await.map_err(unknown)
    }

    /// Deletes the queues of the former names of renamed consumers, once both are empty and unused: what is left in the queue
    /// is the consumer's to read, and what it rejects of that goes to the dead-letter queue.
    async fn delete_former_queues(&self, consumers: &[Consumer]) -> Result<(), BrokerError> {
        let topology = &self.relay.topology;
        let is_name = |name: &str| consumers.iter().any(|consumer| consumer.name == name);
        let former = consumers.iter().filter_map(|consumer| consumer.previous_name.as_deref());
        for name in former.filter(|name| !is_name(name)) {
            let queues = [topology.queue(name), topology.dead_queue(name)];
            let is_used = |depth: QueueDepth| depth.messages > 0 || depth.consumers > 0;
            let [queue, dead] = [self.broker.depth(&queues[0]).await?, self.broker.depth(&queues[1]).await?];
            if queue.is_some_and(is_used) || dead.is_some_and(is_used) {
                continue;
            }
            for (queue, _) in queues.iter().zip([queue, dead]).filter(|(_, depth)| depth.is_some()) {
                match self.broker.delete_queue(queue).await {
                    Ok(()) => {}
                    Err(BrokerError::Refused(cause)) => {
                        tracing::warn!(queue, cause, "deleting the queue of a renamed consumer refused by the broker");
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Shows how full the queues are, until `stop` is cancelled.
    async fn watch_depths(&self, consumers: &[Consumer], stop: CancellationToken) -> LaneEnd {
        let topology = &self.relay.topology;
        self.relay.metrics.forget_depths();
        loop {
            // A blocked connection sends nothing, so it would answer nothing.
            for consumer in consumers.iter().filter(|_| !self.broker.is_blocked()) {
                let queue = self.broker.depth(&topology.queue(&consumer.name)).await;
                let dead = self.broker.depth(&topology.dead_queue(&consumer.name)).await;
                match (queue, dead) {
                    (Ok(queue), Ok(dead)) => self.relay.metrics.depth(&consumer.name, queue, dead),
                    (Err(error), _) | (_, Err(error)) => {
                        tracing::debug!(consumer = consumer.name, %error, "reading the depth of a queue failed");
                        break;
                    }
                }
            }
            let next = self.relay.clock.mono() + DEPTH_INTERVAL;
            if stop.run_until_cancelled(self.relay.clock.sleep_until(next)).await.is_none() {
                return LaneEnd::Stopped;
            }
        }
    }
}
