//! Events in a ledger, and what the queues of a broker hold of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use busbar::clock::Clock;
use busbar::domain::event::{EventType, OutboxEvent};
use busbar::ledger::delivery::{NewConsumer, NewKey};
use busbar::ledger::{Ledger, LedgerUrl, OpenMode, open};
use busbar::testbed::rabbitmq::RabbitBroker;
use busbar::work::outbox::{QueueType, TopologyOptions};
use futures::StreamExt as _;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, QueueDeclareOptions};
use lapin::protocol::constants::REPLY_SUCCESS;
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use uuid::Uuid;

/// Names and limits of the tests' queues.
pub(crate) fn topology() -> TopologyOptions {
    TopologyOptions {
        domain: "bank".to_owned(),
        message_ttl: Duration::from_hours(24),
        max_length: 100_000,
        queue_type: QueueType::Quorum,
    }
}

pub(crate) async fn ledger(url: &str) -> Arc<dyn Ledger> {
    let url: LedgerUrl = url.parse().unwrap();
    open(&url, OpenMode::Migrate).await.unwrap()
}

pub(crate) async fn add_consumer(ledger: &Arc<dyn Ledger>, name: &str) {
    let consumer = NewConsumer {
        name: name.to_owned(),
        namespaces: None,
        event_types: Vec::new(),
        created_by: "test".to_owned(),
        key: NewKey { key_id: format!("id{name}"), hash: "not a hash".to_owned() },
        history_from: None,
        events: Vec::new(),
    };
    ledger.create_consumer(&consumer, Clock::system().now().wall).await.unwrap();
}

/// The aggregate of the `n`th event.
pub(crate) fn aggregate(n: u32, aggregates: u32) -> String {
    format!("syncjob/team/job{}", n % aggregates)
}

/// Appends events `from..to`, in batches.
pub(crate) async fn append(ledger: &Arc<dyn Ledger>, from: u32, to: u32, aggregates: u32) {
    let all: Vec<OutboxEvent> = (from..to)
        .map(|n| OutboxEvent {
            id: Uuid::from_u128(u128::from(n) + 1),
            event_type: EventType::FetchFailed,
            namespace: "team".to_owned(),
            aggregate: aggregate(n, aggregates),
            payload: format!("{{\"n\":{n}}}"),
            correlation_id: Uuid::from_u128(7),
        })
        .collect();
    for batch in all.chunks(250) {
        ledger.append_events(batch, Clock::system().now().wall).await.unwrap();
    }
}

/// How many deliveries are not published.
pub(crate) async fn pending(ledger: &Arc<dyn Ledger>) -> u64 {
    ledger.delivery_usage().await.unwrap().iter().map(|usage| usage.pending).sum()
}

/// A message of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) message_id: Uuid,
    pub(crate) event_type: String,
    pub(crate) delivery_mode: Option<u8>,
    pub(crate) routing_key: String,
    pub(crate) body: serde_json::Value,
}

pub(crate) async fn connect(broker: &RabbitBroker) -> Connection {
    Connection::connect(&broker.url(), ConnectionProperties::default()).await.unwrap()
}

/// Takes all messages of a queue, in their order.
pub(crate) async fn drain(broker: &RabbitBroker, queue: &str) -> Vec<Received> {
    let connection = connect(broker).await;
    let channel = connection.create_channel().await.unwrap();
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let waiting = channel.queue_declare(queue.into(), options, FieldTable::default()).await.unwrap().message_count();
    // What comes beyond that is not acknowledged, and goes back into the queue. The others are acknowledged now and then: a
    // quorum queue sends at most 2 000 that are not.
    let options = BasicConsumeOptions::default();
    let mut consumer =
        channel.basic_consume(queue.into(), "drain".into(), options, FieldTable::default()).await.unwrap();
    let (mut all, mut last) = (Vec::new(), None);
    for _ in 0..waiting {
        let next = tokio::time::timeout(Duration::from_secs(20), consumer.next()).await;
        let Ok(Some(Ok(delivery))) = next else { panic!("{queue}: {} of {waiting} messages came", all.len()) };
        let text = |value: &Option<lapin::types::ShortString>| {
            value.as_ref().map(|text| text.as_str().to_owned()).unwrap_or_default()
        };
        last = Some(delivery.delivery_tag);
        if all.len() % 500 == 499 {
            channel.basic_ack(delivery.delivery_tag, BasicAckOptions { multiple: true }).await.unwrap();
            last = None;
        }
        all.push(Received {
            message_id: text(delivery.properties.message_id()).parse().unwrap(),
            event_type: text(delivery.properties.kind()),
            delivery_mode: *delivery.properties.delivery_mode(),
            routing_key: delivery.routing_key.as_str().to_owned(),
            body: serde_json::from_slice(&delivery.data).unwrap(),
        });
    }
    if let Some(tag) = last {
        channel.basic_ack(tag, BasicAckOptions { multiple: true }).await.unwrap();
    }
    connection.close(REPLY_SUCCESS, "OK".into()).await.unwrap();
    all
}

/// What is wrong with the messages of a queue that events `0..events` were published to: an event is missing, or one of an
/// aggregate came first before one that was stored before it. Repetitions with the same ID are right.
pub(crate) fn faults(messages: &[Received], events: u32, aggregates: u32) -> Vec<String> {
    let (mut last, mut seen, mut wrong): (BTreeMap<String, u64>, Vec<bool>, Vec<String>) =
        (BTreeMap::new(), vec![false; usize::try_from(events).unwrap()], Vec::new());
    for message in messages {
        let n = message.body["payload"]["n"].as_u64().unwrap();
        let of = message.body["aggregate"].as_str().unwrap().to_owned();
        if message.message_id != Uuid::from_u128(u128::from(n) + 1) {
            wrong.push(format!("event {n} has the message ID {}", message.message_id));
        }
        let slot = &mut seen[usize::try_from(n).unwrap()];
        if !std::mem::replace(slot, true) {
            let expected = last.get(&of).map_or(n % u64::from(aggregates), |before| before + u64::from(aggregates));
            if n != expected {
                wrong.push(format!("{of}: event {n} came first, and not {expected}"));
            }
            last.insert(of, n);
        }
    }
    let missing = seen.iter().filter(|came| !**came).count();
    if missing > 0 {
        wrong.push(format!("{missing} events are missing"));
    }
    wrong
}
