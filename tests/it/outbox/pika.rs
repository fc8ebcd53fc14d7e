//! The consumer of the guide with a relay.

use busbar::testbed::rabbitmq::RabbitBroker;

use super::env::RunningRelay;
use crate::kit::events::{add_consumer, append, ledger, pending};
use crate::kit::pika::{CONSUMER, PikaConsumer, program};
use crate::kit::wait::eventually;

/// Events of the test.
const EVENTS: u32 = 500;
const AGGREGATES: u32 = 9;

#[test]
fn the_consumer_of_the_guide_has_ten_lines() {
    let program = program();
    let lines = program.lines().filter(|line| !line.trim().is_empty()).count();
    assert!(lines <= 10, "{lines} lines:\n{program}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_consumer_of_the_guide_gets_every_event_once_and_in_order() {
    let (broker, folder) = (RabbitBroker::start().await.unwrap(), tempfile::tempdir().unwrap());
    let ledger = ledger(&format!("sqlite:{}", folder.path().join("ledger.db").display())).await;
    add_consumer(&ledger, CONSUMER).await;
    let running = RunningRelay::start(&ledger, &broker);
    // The queue exists once something was published.
    append(&ledger, 0, 1, AGGREGATES).await;
    eventually("the queue exists", async || pending(&ledger).await == 0).await;

    let consumer = PikaConsumer::start(&broker, folder.path());
    append(&ledger, 1, EVENTS, AGGREGATES).await;
    consumer.expect_all(EVENTS, AGGREGATES).await;
    running.end().await;
}
