//! The relay with a broker that refuses, loses and pauses on demand, over a real ledger.

mod consumer_changes;
mod outages;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::broker::{
    Broker, BrokerError, BrokerFuture, BrokerSession, Declaration, Message, Mismatch, Publisher, QueueDepth, Verdict,
};
use super::relay::{OutboxRelay, RelayDeps};
use super::topology::{QueueType, TopologyOptions};
use crate::clock::Clock;
use crate::domain::event::{EventType, OutboxEvent};
use crate::ledger::Ledger;
use crate::ledger::delivery::{NewConsumer, NewKey, PublishFailure};
use crate::ledger::faulty::FaultyLedger;
use crate::metrics::Metrics;
use crate::tasks::TaskGroup;

/// What a broker has, and how it behaves. Clones share it.
#[derive(Clone, Default)]
struct FakeBroker(Arc<FakeState>);

#[derive(Default)]
struct FakeState {
    /// Messages of each routing key's consumer, in the order in which they came.
    queues: Mutex<BTreeMap<String, Vec<(String, Uuid)>>>,
    is_down: AtomicBool,
    connections: AtomicU32,
    /// Consumers whose queue is full.
    full: Mutex<BTreeSet<String>>,
    /// Consumers whose queue confirms nothing.
    silent: Mutex<BTreeSet<String>>,
    /// Messages of queues that were renamed, by the queue's name.
    depths: Mutex<BTreeMap<String, u32>>,
    /// Whether queues may not be deleted.
    keeps_queues: AtomicBool,
    /// Every so many messages the connection is lost after the broker has the message; 0: never.
    lose_every: AtomicU32,
    /// Every so many messages one is returned; 0: never.
    return_every: AtomicU32,
    seen: AtomicU32,
    mismatches: Mutex<Vec<Mismatch>>,
    declared: Mutex<Vec<Declaration>>,
    deleted: Mutex<Vec<String>>,
}

impl FakeBroker {
    fn queue(&self, consumer: &str) -> Vec<(String, Uuid)> {
        self.0.queues.lock().unwrap().get(consumer).cloned().unwrap_or_default()
    }

    /// The events of a queue, each where it came first.
    fn firsts(&self, consumer: &str) -> Vec<(String, Uuid)> {
        let mut known = BTreeSet::new();
        self.queue(consumer).into_iter().filter(|(_, id)| known.insert(*id)).collect()
    }
}

impl Broker for FakeBroker {
    fn connect(&self) -> BrokerFuture<'_, Arc<dyn BrokerSession>> {
        Box::pin(async move {
            self.0.connections.fetch_add(1, Ordering::Relaxed);
            if self.0.is_down.load(Ordering::Relaxed) {
                return Err(BrokerError::Failed("connection refused".to_owned()));
            }
            let session = FakeSession { state: Arc::clone(&self.0), is_lost: Arc::default() };
            Ok(Arc::new(session) as Arc<dyn BrokerSession>)
        })
    }
}

struct FakeSession {
    state: Arc<FakeState>,
    is_lost: Arc<AtomicBool>,
}

impl BrokerSession for FakeSession {
    fn declare<'a>(&'a self, declarations: &'a [Declaration]) -> BrokerFuture<'a, Vec<Mismatch>> {
        Box::pin(async move {
            *self.state.declared.lock().unwrap() = declarations.to_vec();
            Ok(self.state.mismatches.lock().unwrap().clone())
        })
    }

    fn depth<'a>(&'a self, queue: &'a str) -> BrokerFuture<'a, Option<QueueDepth>> {
        Box::pin(async move {
            let messages = self.state.depths.lock().unwrap().get(queue).copied().unwrap_or_default();
            Ok(Some(QueueDepth { messages, consumers: 0 }))
        })
    }

    fn delete_queue<'a>(&'a self, queue: &'a str) -> BrokerFuture<'a, ()> {
        Box::pin(async move {
            if self.state.keeps_queues.load(Ordering::Relaxed) {
                return Err(BrokerError::Refused("ACCESS_REFUSED".to_owned()));
            }
            self.state.deleted.lock().unwrap().push(queue.to_owned());
            if let Some(consumer) = queue.strip_prefix("bank_notification_") {
                self.state.queues.lock().unwrap().remove(consumer);
            }
            Ok(())
        })
    }

    fn publisher<'a>(&'a self, _exchange: &'a str) -> BrokerFuture<'a, Box<dyn Publisher>> {
        Box::pin(async move {
            let publisher = FakePublisher { state: Arc::clone(&self.state), is_lost: Arc::clone(&self.is_lost) };
            Ok(Box::new(publisher) as Box<dyn Publisher>)
        })
    }

    fn is_blocked(&self) -> bool {
        false
    }

    fn is_open(&self) -> bool {
        !self.is_lost.load(Ordering::Relaxed) && !self.state.is_down.load(Ordering::Relaxed)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

struct FakePublisher {
    state: Arc<FakeState>,
    is_lost: Arc<AtomicBool>,
}

impl FakePublisher {
    fn take(&self, message: &Message) -> Verdict {
        let is_nth = |every: &AtomicU32, n: u32| {
            let every = every.load(Ordering::Relaxed);
            every > 0 && n.is_multiple_of(every)
        };
        if self.is_lost.load(Ordering::Relaxed) || self.state.is_down.load(Ordering::Relaxed) {
            return Err(PublishFailure::ConnectionLost);
        }
        let consumer = message.routing_key.rsplit('.').next().unwrap_or_default().to_owned();
        if self.state.full.lock().unwrap().contains(&consumer) {
            return Err(PublishFailure::Nacked);
        }
        if self.state.silent.lock().unwrap().contains(&consumer) {
            return Err(PublishFailure::TimedOut);
        }
        let n = self.state.seen.fetch_add(1, Ordering::Relaxed) + 1;
        if is_nth(&self.state.return_every, n) {
            return Err(PublishFailure::Returned);
        }
        let body: serde_json::Value = serde_json::from_slice(&message.body).unwrap();
        let aggregate = body["aggregate"].as_str().unwrap().to_owned();
        self.state.queues.lock().unwrap().entry(consumer).or_default().push((aggregate, message.id));
        if is_nth(&self.state.lose_every, n) {
            // Between publish and confirm.
            self.is_lost.store(true, Ordering::Relaxed);
            return Err(PublishFailure::ConnectionLost);
        }
        Ok(())
    }
}

impl Publisher for FakePublisher {
    fn publish<'a>(&'a self, messages: &'a [Message]) -> BoxFuture<'a, Vec<Verdict>> {
        Box::pin(async move { messages.iter().map(|message| self.take(message)).collect() })
    }
}

fn event(aggregate: u32, n: u32) -> OutboxEvent {
    OutboxEvent {
        id: Uuid::from_u128((u128::from(aggregate) << 32) | u128::from(n)),
        event_type: EventType::FetchFailed,
        namespace: "team".to_owned(),
        aggregate: format!("syncjob/team/job{aggregate}"),
        payload: format!("{{\"n\":{n}}}"),
        correlation_id: Uuid::nil(),
    }
}

async fn add_consumer(ledger: &Arc<dyn Ledger>, name: &str) {
    let consumer = NewConsumer {
        name: name.to_owned(),
        namespaces: None,
        event_types: Vec::new(),
        created_by: "test".to_owned(),
        key: NewKey { key_id: format!("key{name}"), hash: "hash".to_owned() },
        history_from: None,
        events: Vec::new(),
    };
    ledger.create_consumer(&consumer, Timestamp::UNIX_EPOCH).await.unwrap();
}

async fn append(ledger: &Arc<dyn Ledger>, aggregates: u32, each: u32) {
    for n in 0..each {
        let events: Vec<_> = (0..aggregates).map(|aggregate| event(aggregate, n)).collect();
        ledger.append_events(&events, Timestamp::UNIX_EPOCH).await.unwrap();
    }
}

/// A relay over the ledger and the broker, until it is dropped.
struct Running {
    metrics: Metrics,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    fn start(ledger: &Arc<dyn Ledger>, broker: &FakeBroker) -> Self {
        Self::with(ledger, broker, Clock::system())
    }

    fn with(ledger: &Arc<dyn Ledger>, broker: &FakeBroker, clock: Clock) -> Self {
        let (metrics, stop) = (Metrics::new(), CancellationToken::new());
        let topology = TopologyOptions {
            domain: "bank".to_owned(),
            message_ttl: Duration::from_hours(24),
            max_length: 100_000,
            queue_type: QueueType::Quorum,
        };
        let deps = RelayDeps {
            broker: Arc::new(broker.clone()),
            clock,
            host: "fake".to_owned(),
            ledger: Arc::clone(ledger),
            tasks: TaskGroup::default(),
            topology,
        };
        let relay = OutboxRelay::new(deps, "replica", &metrics).unwrap();
        let task = tokio::spawn(relay.run(stop.clone()));
        Self { metrics, stop, task }
    }

    fn shows(&self, line: &str) -> bool {
        self.metrics.render().unwrap().lines().any(|each| each == line)
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

/// Waits until `is_so`, within a bound that no machine needs.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    for _ in 0..6_000 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what}");
}

async fn pending(ledger: &Arc<dyn Ledger>) -> u64 {
    ledger.delivery_usage().await.unwrap().iter().map(|usage| usage.pending).sum()
}

/// Each event of `aggregates` came, and those of one aggregate in their order.
fn assert_complete(broker: &FakeBroker, consumer: &str, aggregates: u32, each: u32) {
    let firsts = broker.firsts(consumer);
    for aggregate in 0..aggregates {
        let name = format!("syncjob/team/job{aggregate}");
        let came: Vec<Uuid> = firsts.iter().filter(|(of, _)| *of == name).map(|(_, id)| *id).collect();
        let expected: Vec<Uuid> = (0..each).map(|n| event(aggregate, n).id).collect();
        assert_eq!(came, expected, "{consumer} {name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_reaches_every_consumer_in_order_whatever_is_lost() {
    let (disk, broker) = (FaultyLedger::new().await, FakeBroker::default());
    add_consumer(&disk.ledger, "ops").await;
    add_consumer(&disk.ledger, "audit").await;
    broker.0.lose_every.store(7, Ordering::Relaxed);
    broker.0.return_every.store(11, Ordering::Relaxed);
    let running = Running::start(&disk.ledger, &broker);
    append(&disk.ledger, 7, 12).await;
    until("some are published", async || broker.queue("ops").len() > 20).await;
    broker.0.lose_every.store(0, Ordering::Relaxed);
    broker.0.return_every.store(0, Ordering::Relaxed);
    until("all are published", async || pending(&disk.ledger).await == 0).await;
    for consumer in ["ops", "audit"] {
        assert_complete(&broker, consumer, 7, 12);
    }
    assert!(broker.0.connections.load(Ordering::Relaxed) > 1, "a connection was lost");
    running.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_down_fails_no_write_and_loses_nothing() {
    let (disk, broker) = (FaultyLedger::new().await, FakeBroker::default());
    add_consumer(&disk.ledger, "ops").await;
    broker.0.is_down.store(true, Ordering::Relaxed);
    let running = Running::start(&disk.ledger, &broker);
    append(&disk.ledger, 3, 5).await;
    until("it is tried", async || broker.0.connections.load(Ordering::Relaxed) > 1).await;
    assert_eq!(pending(&disk.ledger).await, 15);
    assert!(running.shows("busbar_outbox_broker_up 0"));
    broker.0.is_down.store(false, Ordering::Relaxed);
    until("all are published", async || pending(&disk.ledger).await == 0).await;
    assert_complete(&broker, "ops", 3, 5);
    running.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_whose_queue_is_full_delays_no_other() {
    let (disk, broker) = (FaultyLedger::new().await, FakeBroker::default());
    add_consumer(&disk.ledger, "full").await;
    add_consumer(&disk.ledger, "ops").await;
    broker.0.full.lock().unwrap().insert("full".to_owned());
    let running = Running::start(&disk.ledger, &broker);
    append(&disk.ledger, 4, 4).await;
    until("the other one has all", async || broker.queue("ops").len() == 16).await;
    assert!(broker.queue("full").is_empty(), "not lost, not taken");
    broker.0.full.lock().unwrap().clear();
    until("all are published", async || pending(&disk.ledger).await == 0).await;
    assert_complete(&broker, "full", 4, 4);
    running.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topology_that_differs_is_reported_and_published_to() {
    let (disk, broker) = (FaultyLedger::new().await, FakeBroker::default());
    add_consumer(&disk.ledger, "ops").await;
    let mismatch = Mismatch { subject: "queue x".to_owned(), cause: "PRECONDITION_FAILED".to_owned() };
    broker.0.mismatches.lock().unwrap().push(mismatch);
    let running = Running::start(&disk.ledger, &broker);
    append(&disk.ledger, 1, 3).await;
    until("all are published", async || pending(&disk.ledger).await == 0).await;
    assert!(running.shows("busbar_outbox_topology_mismatches 1"));
    running.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consumers_are_added_and_removed_while_the_relay_runs() {
    let (disk, broker) = (FaultyLedger::new().await, FakeBroker::default());
    add_consumer(&disk.ledger, "first").await;
    let running = Running::start(&disk.ledger, &broker);
    append(&disk.ledger, 2, 2).await;
    until("the first one has all", async || broker.queue("first").len() == 4).await;
    add_consumer(&disk.ledger, "later").await;
    disk.ledger.append_events(&[event(9, 9)], Timestamp::UNIX_EPOCH).await.unwrap();
    until("the later one has its event", async || broker.queue("later").len() == 1).await;
    disk.ledger.remove_consumer("first", Timestamp::UNIX_EPOCH).await.unwrap();
    until("its queues are deleted", async || broker.0.deleted.lock().unwrap().len() == 2).await;
    assert_eq!(*broker.0.deleted.lock().unwrap(), ["bank_notification_first", "bank_notification_first_DLQ"]);
    running.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_that_fails_while_events_are_published_repeats_none() {
    let (disk, broker) = (FaultyLedger::new().await, FakeBroker::default());
    add_consumer(&disk.ledger, "ops").await;
    append(&disk.ledger, 3, 4).await;
    let running = Running::start(&disk.ledger, &broker);
    until("the relay holds its lease", async || broker.0.connections.load(Ordering::Relaxed) > 0).await;
    disk.fail_writes();
    until("something is published", async || !broker.queue("ops").is_empty() || pending(&disk.ledger).await == 0).await;
    disk.recover();
    until("all are published", async || pending(&disk.ledger).await == 0).await;
    assert_eq!(broker.queue("ops").len(), 12, "recorded once the ledger works, and published once");
    assert_complete(&broker, "ops", 3, 4);
    running.end().await;
}
