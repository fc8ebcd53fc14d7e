//! The operator as it is started in production publishes events, across kills, and says what differs in the broker.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use busbar::clock::Clock;
use busbar::domain::event::{EventType, OutboxEvent};
use busbar::ledger::delivery::{NewConsumer, NewKey};
use busbar::ledger::{Ledger, LedgerUrl, OpenMode, open};
use busbar::testbed::postgres::PostgresServer;
use busbar::testbed::rabbitmq::RabbitBroker;
use futures::StreamExt as _;
use lapin::options::{BasicConsumeOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use uuid::Uuid;

use crate::cluster::namespace::TestNs;
use crate::cluster::operator::Operator;
use crate::kit::wait::{eventually, within};

const QUEUE: &str = "bank_notification_ops";
/// Events between two kills.
const EVENTS: u32 = 1_500;
const AGGREGATES: u32 = 40;
const KILLS: u32 = 3;
const PATIENCE: Duration = Duration::from_mins(3);

async fn append(ledger: &Arc<dyn Ledger>, from: u32, to: u32) {
    let event = |n: u32| OutboxEvent {
        id: Uuid::from_u128(u128::from(n) + 1),
        event_type: EventType::FetchFailed,
        namespace: "team".to_owned(),
        aggregate: format!("syncjob/team/job{}", n % AGGREGATES),
        payload: format!("{{\"n\":{n}}}"),
        correlation_id: Uuid::nil(),
    };
    let all: Vec<OutboxEvent> = (from..to).map(event).collect();
    for batch in all.chunks(250) {
        ledger.append_events(batch, Clock::system().now().wall).await.unwrap();
    }
}

async fn pending(ledger: &Arc<dyn Ledger>) -> u64 {
    ledger.delivery_usage().await.unwrap().iter().map(|usage| usage.pending).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_is_killed_publishes_every_event_and_names_what_differs() {
    let ns = TestNs::new("outbox").await;
    let broker = RabbitBroker::start().await.unwrap();
    let database = PostgresServer::shared().await.unwrap().create_database().await.unwrap();
    // A queue of that name is there already, without any limit.
    let connection = Connection::connect(&broker.url(), ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(QUEUE.into(), options, FieldTable::default()).await.unwrap();

    let flags = [format!("--ledger={database}"), format!("--amqp={}", broker.url())];
    let mut operator = Operator::ready(&ns, &flags.each_ref().map(String::as_str)).await;
    let url: LedgerUrl = database.parse().unwrap();
    let ledger = open(&url, OpenMode::Existing).await.unwrap();
    let consumer = NewConsumer {
        name: "ops".to_owned(),
        namespaces: None,
        event_types: Vec::new(),
        created_by: "test".to_owned(),
        key: NewKey { key_id: "id".to_owned(), hash: "not a hash".to_owned() },
        history_from: None,
        events: Vec::new(),
    };
    ledger.create_consumer(&consumer, Clock::system().now().wall).await.unwrap();

    for kill in 0..KILLS {
        append(&ledger, kill * EVENTS, (kill + 1) * EVENTS).await;
        let before = pending(&ledger).await;
        within(PATIENCE, "the relay is at work", async || before == 0 || pending(&ledger).await < before).await;
        operator.kill9();
        operator.restart().await;
    }
    within(PATIENCE, "all events are published", async || match pending(&ledger).await {
        0 => Ok(()),
        left => Err(format!("{left} deliveries are pending")),
    })
    .await;
    eventually("the difference is in /readyz, and the operator is ready", async || {
        let (status, text) = operator.get("/readyz").await;
        if status == 200 && text.contains("[!] event topology differs from the broker's: queue bank_notification_ops") {
            return Ok(());
        }
        Err(text)
    })
    .await;
    assert_eq!(operator.metric("busbar_outbox_broker_up", &[]).await, Some(1.0));

    let waiting = {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(QUEUE.into(), options, FieldTable::default()).await.unwrap().message_count()
    };
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let mut messages = channel.basic_consume(QUEUE.into(), "e2e".into(), options, FieldTable::default()).await.unwrap();
    let (mut seen, mut last) = (BTreeSet::new(), vec![None::<u64>; AGGREGATES as usize]);
    for _ in 0..waiting {
        let next = tokio::time::timeout(Duration::from_secs(20), messages.next()).await;
        let Ok(Some(Ok(delivery))) = next else { panic!("{} of {waiting} messages came", seen.len()) };
        let body: serde_json::Value = serde_json::from_slice(&delivery.data).unwrap();
        let n = body["payload"]["n"].as_u64().unwrap();
        if seen.insert(n) {
            let slot = usize::try_from(n % u64::from(AGGREGATES)).unwrap();
            assert!(last[slot].is_none_or(|before| before < n), "event {n} came after a later one of its aggregate");
            last[slot] = Some(n);
        }
    }
    assert_eq!(u32::try_from(seen.len()).unwrap(), KILLS * EVENTS, "none is missing");
    ledger.close().await;
    operator.finish(&ns).await;
    PostgresServer::shared().await.unwrap().drop_database(&database);
}
