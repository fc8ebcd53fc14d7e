//! Nothing is lost and nothing overtakes, whatever happens to the broker, to the connections and to the process.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use busbar::ledger::Ledger;
use busbar::testbed::postgres::PostgresServer;
use busbar::testbed::rabbitmq::RabbitBroker;
use busbar::testbed::shown::show;
use busbar::work::outbox::TopologyOptions;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use super::env::{RunningRelay, add_consumer, append, drain, faults, ledger, pending, relay, topology};
use super::pika::{CONSUMER, PikaConsumer};
use crate::kit::wait::{eventually, within};

/// The argument of the child process: the ledger and the broker, separated by `|`.
const CHILD: &str = "BUSBAR_TEST_OUTBOX_RELAY";
const CONSUMERS: [&str; 3] = ["ops", "ledger-team", "audit"];
/// Aggregates: more than a read of the relay has.
const AGGREGATES: u32 = 300;
/// Events of each fault: three deliveries each, in a build without optimisation. `OUTBOX_EVENTS` sets another number for
/// all of them.
const EVENTS: u32 = 2_000;
/// How long the last events may take, on a machine that compiles at the same time.
const PATIENCE: Duration = Duration::from_mins(3);

/// Queues with room for every event and its repetitions, which nothing reads before the end: what happens to a full queue
/// is shown in `topology.rs`.
fn roomy() -> TopologyOptions {
    TopologyOptions { max_length: 1_000_000, ..topology() }
}

/// What happens while events are stored.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Fault {
    Nothing,
    ProcessKilled,
    BrokerStopped,
    BrokerCrashed,
    BrokerPaused,
    DiskFull,
    ConnectionsCut,
}

/// Each of them, some of them twice and next to others.
const FAULTS: [Fault; 10] = [
    Fault::Nothing,
    Fault::ProcessKilled,
    Fault::BrokerCrashed,
    Fault::ConnectionsCut,
    Fault::DiskFull,
    Fault::ProcessKilled,
    Fault::BrokerPaused,
    Fault::BrokerStopped,
    Fault::ConnectionsCut,
    Fault::ProcessKilled,
];

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the child process of the test below"]
#[expect(clippy::disallowed_methods, reason = "how the parent passes arguments to this process")]
async fn a_child_process_that_relays_until_it_is_killed() {
    let Ok(argument) = std::env::var(CHILD) else { return };
    let (url, broker) = argument.split_once('|').unwrap();
    let (relay, _metrics) = relay(&ledger(url).await, broker, roomy());
    relay.run(CancellationToken::new()).await;
}

fn start_child(ledger: &str, broker: &RabbitBroker) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "outbox::chaos::a_child_process_that_relays_until_it_is_killed", "--ignored"])
        .env(CHILD, format!("{ledger}|{}", broker.url()))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

#[expect(clippy::disallowed_methods, reason = "the number of events of a soak test is set by an environment variable")]
fn events_of_each_fault() -> u32 {
    let all = std::env::var("OUTBOX_EVENTS").ok().and_then(|text| text.parse::<u32>().ok());
    all.map_or(EVENTS, |all| all / u32::try_from(FAULTS.len()).unwrap())
}

/// The relay has something of what was stored: the fault meets it at work.
async fn until_at_work(ledger: &Arc<dyn Ledger>) {
    let before = pending(ledger).await;
    within(PATIENCE, "the relay is at work", async || before == 0 || pending(ledger).await < before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_reaches_every_queue_in_order_whatever_fails() {
    let broker = RabbitBroker::start().await.unwrap();
    let url = PostgresServer::shared().await.unwrap().create_database().await.unwrap();
    let ledger = ledger(&url).await;
    for consumer in CONSUMERS {
        add_consumer(&ledger, consumer).await;
    }
    let mut child = start_child(&url, &broker);
    let each = events_of_each_fault();
    let mut stored = 0;
    for fault in FAULTS {
        // Half of the events before the fault, so that some are under way; half while it lasts.
        append(&ledger, stored, stored + each / 2, AGGREGATES).await;
        until_at_work(&ledger).await;
        let (from, to) = (stored + each / 2, stored + each);
        match fault {
            Fault::Nothing => append(&ledger, from, to, AGGREGATES).await,
            Fault::ProcessKilled => {
                child.kill().await.unwrap();
                append(&ledger, from, to, AGGREGATES).await;
                child = start_child(&url, &broker);
            }
            Fault::BrokerStopped => {
                broker.stop().unwrap();
                append(&ledger, from, to, AGGREGATES).await;
                broker.start_again().await.unwrap();
            }
            Fault::BrokerCrashed => {
                broker.crash().unwrap();
                append(&ledger, from, to, AGGREGATES).await;
                broker.start_again().await.unwrap();
            }
            Fault::BrokerPaused => {
                broker.pause().unwrap();
                append(&ledger, from, to, AGGREGATES).await;
                broker.resume().unwrap();
            }
            Fault::DiskFull => {
                broker.set_disk_alarm(true).unwrap();
                append(&ledger, from, to, AGGREGATES).await;
                broker.set_disk_alarm(false).unwrap();
            }
            Fault::ConnectionsCut => {
                broker.cut_connections().unwrap();
                append(&ledger, from, to, AGGREGATES).await;
            }
        }
        stored = to;
    }
    // In the soak there are more of them.
    within(PATIENCE * (each / EVENTS).max(1), "all events are published", async || match pending(&ledger).await {
        0 => Ok(()),
        left => Err(format!("{left} deliveries are pending")),
    })
    .await;
    child.kill().await.unwrap();

    // One queue is read by the program of the guide.
    let folder = tempfile::tempdir().unwrap();
    PikaConsumer::start(&broker, folder.path()).expect_all(stored, AGGREGATES).await;
    for consumer in CONSUMERS.into_iter().filter(|consumer| *consumer != CONSUMER) {
        let messages = drain(&broker, &topology().queue(consumer)).await;
        show(format_args!("{consumer}: {stored} events, {} messages", messages.len()));
        assert_eq!(faults(&messages, stored, AGGREGATES), Vec::<String>::new(), "{consumer}");
        assert!(messages.iter().all(|message| message.delivery_mode == Some(2)), "persistent");
    }
    ledger.close().await;
    PostgresServer::shared().await.unwrap().drop_database(&url);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_waits_for_no_broker_that_answers_nothing() {
    let broker = RabbitBroker::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger(&format!("sqlite:{}", folder.path().join("ledger.db").display())).await;
    add_consumer(&ledger, "ops").await;
    let running = RunningRelay::start(&ledger, &broker);
    append(&ledger, 0, 10, 2).await;
    eventually("the first events are published", async || pending(&ledger).await == 0).await;
    broker.pause().unwrap();
    append(&ledger, 10, 60, 2).await;
    assert_eq!(pending(&ledger).await, 50, "a broker that answers nothing delays no write, and loses nothing");
    broker.resume().unwrap();
    within(PATIENCE, "all are published", async || pending(&ledger).await == 0).await;
    running.end().await;
    let messages = drain(&broker, &topology().queue("ops")).await;
    assert_eq!(faults(&messages, 60, 2), Vec::<String>::new());
}
