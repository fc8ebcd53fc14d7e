//! Dead letters of a real broker: what a consumer rejects is listed, purged and replayed.

use std::sync::Arc;

use busbar::provider::event_queues::{DeadCount, DeadSelection, EventQueues as _, QueueError};
use busbar::testbed::rabbitmq::RabbitBroker;
use busbar::work::outbox::{AmqpBroker, AmqpQueues, BrokerCredentials};
use lapin::options::{BasicGetOptions, BasicNackOptions};
use uuid::Uuid;

use super::env::RunningRelay;
use crate::kit::events::{add_consumer, append, connect, drain, ledger, pending, topology};
use crate::kit::wait::eventually;

fn queues(broker: &RabbitBroker) -> AmqpQueues {
    let amqp = AmqpBroker::new(broker.url().parse().unwrap(), BrokerCredentials::default(), "busbar-test");
    AmqpQueues::new(Arc::new(amqp), topology())
}

/// Rejects `count` messages of a queue, as a consumer that cannot handle them.
async fn reject(broker: &RabbitBroker, queue: &str, count: usize) {
    let connection = connect(broker).await;
    let channel = connection.create_channel().await.unwrap();
    for _ in 0..count {
        let got = channel.basic_get(queue.into(), BasicGetOptions::default()).await.unwrap().unwrap();
        let options = BasicNackOptions { requeue: false, ..BasicNackOptions::default() };
        channel.basic_nack(got.delivery_tag, options).await.unwrap();
    }
    connection.close(200, "OK".into()).await.unwrap();
}

fn count(count: u64) -> Vec<DeadCount> {
    vec![DeadCount { event_type: "fetch.failed".to_owned(), count }]
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_messages_are_listed_replayed_and_purged() {
    let (broker, folder) = (RabbitBroker::start().await.unwrap(), tempfile::tempdir().unwrap());
    let ledger = ledger(&format!("sqlite:{}", folder.path().join("ledger.db").display())).await;
    add_consumer(&ledger, "ops").await;
    let running = RunningRelay::start(&ledger, &broker);
    append(&ledger, 0, 5, 1).await;
    eventually("the events are published", async || pending(&ledger).await == 0).await;
    let (queue, queues) = (topology().queue("ops"), queues(&broker));
    reject(&broker, &queue, 3).await;

    let all = DeadSelection { event_types: Vec::new(), limit: 100 };
    let listed = eventually("three dead letters", async || {
        let listed = queues.list_dead("ops", &all).await.unwrap();
        (listed.len() == 3).then_some(listed)
    })
    .await;
    let ids: Vec<Option<Uuid>> = listed.iter().map(|dead| dead.event_id).collect();
    assert_eq!(ids, [1, 2, 3].map(|n| Some(Uuid::from_u128(n))), "oldest first");
    assert!(listed.iter().all(|dead| dead.reason == "rejected" && dead.event_type == "fetch.failed"), "{listed:?}");
    assert!(listed.iter().all(|dead| dead.dead_at.is_some()), "{listed:?}");
    assert_eq!(queues.list_dead("ops", &all).await.unwrap().len(), 3, "looking changes nothing");

    let others = DeadSelection { event_types: vec!["fetch.started".to_owned()], limit: 100 };
    assert!(queues.purge_dead("ops", &others).await.unwrap().is_empty());
    let one = DeadSelection { event_types: vec!["fetch.failed".to_owned()], limit: 1 };
    assert_eq!(queues.replay_dead("ops", &one).await.unwrap(), count(1));
    assert_eq!(queues.purge_dead("ops", &all).await.unwrap(), count(2));
    assert!(queues.list_dead("ops", &all).await.unwrap().is_empty());
    running.end().await;

    let mut left: Vec<Uuid> = drain(&broker, &queue).await.iter().map(|message| message.message_id).collect();
    left.sort();
    assert_eq!(left, [1, 4, 5].map(Uuid::from_u128), "the replayed one is back, with its ID");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dead_letters_of_a_broker_that_is_down_are_unavailable() {
    let broker = RabbitBroker::start().await.unwrap();
    let queues = queues(&broker);
    let all = DeadSelection { event_types: Vec::new(), limit: 100 };
    let unknown = queues.list_dead("unknown", &all).await;
    assert!(matches!(unknown, Err(QueueError::Unavailable(_))), "{unknown:?}");
    broker.stop().unwrap();
    assert!(matches!(queues.purge_dead("ops", &all).await, Err(QueueError::Unavailable(_))));
}
