//! A broker that is away for a day, and a queue of it that confirms nothing.

use std::sync::atomic::Ordering;

use jiff::{SignedDuration, Timestamp};

use super::{FakeBroker, Running, add_consumer, append, assert_complete, event, pending, until};
use crate::clock::Clock;
use crate::ledger::faulty::FaultyLedger;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_day_without_a_broker_loses_nothing_and_the_series_says_so() {
    let (disk, broker) = (FaultyLedger::new().await, FakeBroker::default());
    let (clock, step) = Clock::steppable(Timestamp::UNIX_EPOCH);
    add_consumer(&disk.ledger, "ops").await;
    broker.0.is_down.store(true, Ordering::Relaxed);
    let running = Running::with(&disk.ledger, &broker, clock);
    until("the broker is tried", async || broker.0.connections.load(Ordering::Relaxed) > 0).await;
    for hour in 0..24 {
        let events: Vec<_> = (0..5).map(|aggregate| event(aggregate, hour)).collect();
        disk.ledger.append_events(&events, clock.now().wall).await.unwrap();
        step(SignedDuration::from_hours(1));
    }
    until("the age of what waits is shown", async || {
        let text = running.metrics.render().unwrap();
        let age = text.lines().find_map(|line| {
            line.strip_prefix("busbar_outbox_oldest_pending_seconds{consumer=\"ops\"} ")?.parse::<u64>().ok()
        });
        age.is_some_and(|age| age >= 86_400) && running.shows("busbar_outbox_pending{consumer=\"ops\"} 120")
    })
    .await;
    assert_eq!(pending(&disk.ledger).await, 120, "one row for each event, however often the broker was tried");
    broker.0.is_down.store(false, Ordering::Relaxed);
    until("all are published", async || pending(&disk.ledger).await == 0).await;
    assert_complete(&broker, "ops", 5, 24);
    running.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_confirms_nothing_costs_the_others_no_connection() {
    let (disk, broker) = (FaultyLedger::new().await, FakeBroker::default());
    for name in ["silent", "ops"] {
        add_consumer(&disk.ledger, name).await;
    }
    broker.0.silent.lock().unwrap().insert("silent".to_owned());
    let running = Running::start(&disk.ledger, &broker);
    append(&disk.ledger, 4, 4).await;
    until("the other one has all", async || broker.queue("ops").len() == 16).await;
    until("the silent one is tried again", async || {
        let text = running.metrics.render().unwrap();
        let tried = "busbar_outbox_publish_failures_total{consumer=\"silent\",reason=\"timed_out\"} ";
        text.lines().find_map(|line| line.strip_prefix(tried)?.parse::<u64>().ok()).is_some_and(|tries| tries > 4)
    })
    .await;
    assert_eq!(broker.0.connections.load(Ordering::Relaxed), 1, "the connection serves the others");
    broker.0.silent.lock().unwrap().clear();
    until("all are published", async || pending(&disk.ledger).await == 0).await;
    assert_complete(&broker, "silent", 4, 4);
    running.end().await;
}
