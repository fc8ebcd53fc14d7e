//! The operator as it is started in production publishes every event, whatever happens to the broker, to the connections
//! and to itself, and says what differs in the broker.
//!
//! `OUTBOX_EVENTS` and `OUTBOX_SEED` choose the number of events and the seed of the points at which faults come.

use std::sync::Arc;
use std::time::Duration;

use busbar::ledger::Ledger;
use busbar::testbed::postgres::PostgresServer;
use busbar::testbed::rabbitmq::RabbitBroker;
use busbar::testbed::shown::show;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::cluster::namespace::TestNs;
use crate::cluster::operator::Operator;
use crate::kit::events::{add_consumer, append, connect, drain, faults, ledger, pending, topology};
use crate::kit::pika::{CONSUMER, PikaConsumer};
use crate::kit::wait::{eventually, within};

const CONSUMERS: [&str; 3] = ["ops", "ledger-team", "audit"];
/// Aggregates: more than a read of the relay has.
const AGGREGATES: u32 = 300;
/// Events of each fault: three deliveries each, in a build without optimisation.
const EVENTS: u32 = 2_000;
/// How long the last events may take, on a machine that compiles at the same time.
const PATIENCE: Duration = Duration::from_mins(3);

/// What happens while events are stored.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Fault {
    Nothing,
    OperatorKilled,
    BrokerStopped,
    BrokerCrashed,
    BrokerPaused,
    DiskFull,
    ConnectionsCut,
}

/// Each of them, some of them twice and next to others.
const FAULTS: [Fault; 10] = [
    Fault::Nothing,
    Fault::OperatorKilled,
    Fault::BrokerCrashed,
    Fault::ConnectionsCut,
    Fault::DiskFull,
    Fault::OperatorKilled,
    Fault::BrokerPaused,
    Fault::BrokerStopped,
    Fault::ConnectionsCut,
    Fault::OperatorKilled,
];

#[expect(clippy::disallowed_methods, reason = "number and seed of a soak test are set by environment variables")]
fn variable<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

/// Waits until some of what is pending is published, between one delivery and all: the fault meets the relay at work.
async fn until_at_work(ledger: &Arc<dyn Ledger>, rng: &mut StdRng) {
    let before = pending(ledger).await;
    let left = rng.random_range(0..before.max(1));
    within(PATIENCE, "the relay is at work", async || before == 0 || pending(ledger).await <= left).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_reaches_every_queue_in_order_whatever_fails() {
    let seed = variable("OUTBOX_SEED").unwrap_or_else(rand::random::<u64>);
    let events = variable("OUTBOX_EVENTS").unwrap_or(EVENTS * 10);
    let mut rng = StdRng::seed_from_u64(seed);
    let ns = TestNs::new("outbox").await;
    let broker = RabbitBroker::start().await.unwrap();
    let database = PostgresServer::shared().await.unwrap().create_database().await.unwrap();
    // Queues with room for every event and its repetitions, which nothing reads before the end: what happens to a full
    // queue is shown in `tests/it/outbox/topology.rs`.
    let room = "--amqp-max-length=1000000".to_owned();
    let flags = [format!("--ledger={database}"), format!("--amqp={}", broker.url()), room];
    let mut operator = Operator::ready(&ns, &flags.each_ref().map(String::as_str)).await;
    let ledger = ledger(&database).await;
    for consumer in CONSUMERS {
        add_consumer(&ledger, consumer).await;
    }

    let each = events / u32::try_from(FAULTS.len()).unwrap();
    show(format_args!("outbox: {} events, seed {seed}; to reproduce: OUTBOX_SEED={seed}", each * 10));
    let mut stored = 0;
    for fault in FAULTS {
        // Half of the events before the fault, so that some are under way; half while it lasts.
        append(&ledger, stored, stored + each / 2, AGGREGATES).await;
        until_at_work(&ledger, &mut rng).await;
        let (from, to) = (stored + each / 2, stored + each);
        match fault {
            Fault::Nothing => {}
            Fault::OperatorKilled => operator.kill9(),
            Fault::BrokerStopped => broker.stop().unwrap(),
            Fault::BrokerCrashed => broker.crash().unwrap(),
            Fault::BrokerPaused => broker.pause().unwrap(),
            Fault::DiskFull => broker.set_disk_alarm(true).unwrap(),
            Fault::ConnectionsCut => broker.cut_connections().unwrap(),
        }
        append(&ledger, from, to, AGGREGATES).await;
        match fault {
            Fault::Nothing | Fault::ConnectionsCut => {}
            Fault::OperatorKilled => operator.restart_in_pod().await,
            Fault::BrokerStopped | Fault::BrokerCrashed => broker.start_again().await.unwrap(),
            Fault::BrokerPaused => broker.resume().unwrap(),
            Fault::DiskFull => broker.set_disk_alarm(false).unwrap(),
        }
        stored = to;
    }
    // In the soak there are more of them.
    within(PATIENCE * (each / EVENTS).max(1), "all events are published", async || match pending(&ledger).await {
        0 => Ok(()),
        left => Err(format!("{left} deliveries are pending; log:\n{}", operator.log_tail())),
    })
    .await;
    assert_eq!(operator.metric("busbar_outbox_broker_up", &[]).await, Some(1.0));
    operator.finish(&ns).await;

    // One queue is read by the program of the guide.
    let folder = tempfile::tempdir().unwrap();
    PikaConsumer::start(&broker, folder.path()).expect_all(stored, AGGREGATES).await;
    for consumer in CONSUMERS.into_iter().filter(|consumer| *consumer != CONSUMER) {
        let messages = drain(&broker, &topology().queue(consumer)).await;
        show(format_args!("{consumer}: {stored} events, {} messages", messages.len()));
        assert_eq!(faults(&messages, stored, AGGREGATES), Vec::<String>::new(), "{consumer}; seed {seed}");
        assert!(messages.iter().all(|message| message.delivery_mode == Some(2)), "persistent");
    }
    ledger.close().await;
    PostgresServer::shared().await.unwrap().drop_database(&database);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_with_other_limits_is_named_by_an_operator_that_is_ready() {
    let ns = TestNs::new("topology").await;
    let broker = RabbitBroker::start().await.unwrap();
    // A queue of that name is there already, without any limit.
    let queue = topology().queue("ops");
    let channel = connect(&broker).await.create_channel().await.unwrap();
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.as_str().into(), options, FieldTable::default()).await.unwrap();
    let database = PostgresServer::shared().await.unwrap().create_database().await.unwrap();
    let flags = [format!("--ledger={database}"), format!("--amqp={}", broker.url())];
    let operator = Operator::ready(&ns, &flags.each_ref().map(String::as_str)).await;
    let ledger = ledger(&database).await;
    add_consumer(&ledger, "ops").await;
    append(&ledger, 0, 100, 10).await;

    eventually("the difference is in /readyz, and the operator is ready", async || {
        let (status, text) = operator.get("/readyz").await;
        let note = format!("[!] event topology differs from the broker's: queue {queue}");
        if status == 200 && text.contains(&note) { Ok(()) } else { Err(text) }
    })
    .await;
    eventually("all events are published", async || pending(&ledger).await == 0).await;
    operator.finish(&ns).await;
    let messages = drain(&broker, &queue).await;
    assert_eq!(faults(&messages, 100, 10), Vec::<String>::new());
    ledger.close().await;
    PostgresServer::shared().await.unwrap().drop_database(&database);
}
