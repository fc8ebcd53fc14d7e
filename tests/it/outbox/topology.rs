//! Queues and bindings of a real broker that are gone, or other than declared.

use std::sync::Arc;
use std::time::Duration;

use busbar::ledger::Ledger;
use busbar::testbed::rabbitmq::RabbitBroker;
use busbar::work::outbox::TopologyOptions;
use lapin::options::QueueDeleteOptions;
use lapin::types::FieldTable;

use super::env::RunningRelay;
use crate::kit::events::{add_consumer, append, connect, drain, faults, ledger, pending, topology};
use crate::kit::wait::{eventually, real_pause};

async fn sqlite(folder: &tempfile::TempDir) -> Arc<dyn Ledger> {
    ledger(&format!("sqlite:{}", folder.path().join("ledger.db").display())).await
}

/// Whether events of the consumer failed for this reason.
fn failed(running: &RunningRelay, reason: &str) -> bool {
    let start = format!("busbar_outbox_publish_failures_total{{consumer=\"ops\",reason=\"{reason}\"}} ");
    let text = running.metrics.render().unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(&start));
    value.is_some_and(|value| value != "0")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_no_queue_takes_is_not_published() {
    let (broker, folder) = (RabbitBroker::start().await.unwrap(), tempfile::tempdir().unwrap());
    let ledger = sqlite(&folder).await;
    add_consumer(&ledger, "ops").await;
    let running = RunningRelay::start(&ledger, &broker);
    append(&ledger, 0, 4, 2).await;
    eventually("the first events are published", async || pending(&ledger).await == 0).await;
    // The broker takes it, returns it and confirms it: that is a failure, and the binding is made again.
    let connection = connect(&broker).await;
    let channel = connection.create_channel().await.unwrap();
    let (queue, exchange) = (topology().queue("ops"), topology().exchange());
    channel
        .queue_unbind(queue.as_str().into(), exchange.as_str().into(), "bank.*.ops".into(), FieldTable::default())
        .await
        .unwrap();
    append(&ledger, 4, 8, 2).await;
    eventually("they are returned", async || failed(&running, "returned")).await;
    eventually("they are published after all", async || pending(&ledger).await == 0).await;
    running.end().await;
    assert_eq!(faults(&drain(&broker, &queue).await, 8, 2), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_with_other_arguments_is_reported_and_published_to() {
    let (broker, folder) = (RabbitBroker::start().await.unwrap(), tempfile::tempdir().unwrap());
    let ledger = sqlite(&folder).await;
    add_consumer(&ledger, "ops").await;
    let shorter = TopologyOptions { max_length: 50, ..topology() };
    let first = RunningRelay::with(&ledger, &broker, shorter);
    append(&ledger, 0, 4, 2).await;
    eventually("the first events are published", async || pending(&ledger).await == 0).await;
    assert_eq!(first.status.warning(), None);
    first.end().await;

    let second = RunningRelay::start(&ledger, &broker);
    append(&ledger, 4, 8, 2).await;
    eventually("the others too", async || pending(&ledger).await == 0).await;
    let warning = second.status.warning().unwrap();
    assert!(warning.contains("queue bank_notification_ops") && warning.contains("x-max-length"), "{warning}");
    let text = second.metrics.render().unwrap();
    assert!(text.lines().any(|line| line == "busbar_outbox_topology_mismatches 2"), "both queues have the limit");
    second.end().await;

    // What was said to do helps.
    let connection = connect(&broker).await;
    let channel = connection.create_channel().await.unwrap();
    assert_eq!(faults(&drain(&broker, &topology().queue("ops")).await, 8, 2), Vec::<String>::new());
    for queue in [topology().queue("ops"), topology().dead_queue("ops")] {
        channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
    }
    let third = RunningRelay::start(&ledger, &broker);
    append(&ledger, 8, 9, 2).await;
    eventually("the last one too", async || pending(&ledger).await == 0).await;
    assert_eq!(third.status.warning(), None);
    third.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_keeps_later_events_in_the_ledger() {
    let (broker, folder) = (RabbitBroker::start().await.unwrap(), tempfile::tempdir().unwrap());
    let ledger = sqlite(&folder).await;
    add_consumer(&ledger, "ops").await;
    let options = TopologyOptions { max_length: 20, ..topology() };
    let running = RunningRelay::with(&ledger, &broker, options);
    append(&ledger, 0, 60, 3).await;
    eventually("the queue is full", async || failed(&running, "nacked")).await;
    let mut messages = Vec::new();
    for _ in 0..600 {
        messages.extend(drain(&broker, &topology().queue("ops")).await);
        if pending(&ledger).await == 0 {
            break;
        }
        real_pause(Duration::from_millis(200)).await;
    }
    messages.extend(drain(&broker, &topology().queue("ops")).await);
    assert_eq!(faults(&messages, 60, 3), Vec::<String>::new(), "the oldest were not pushed out");
    assert!(drain(&broker, &topology().dead_queue("ops")).await.is_empty(), "nor are any of them dead letters");
    running.end().await;
}
