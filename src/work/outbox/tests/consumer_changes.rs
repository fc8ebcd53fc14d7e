//! Consumers that are removed, renamed and created anew, also while no replica relays.

use std::sync::atomic::Ordering;

use jiff::Timestamp;

use super::{FakeBroker, Running, add_consumer, append, event, pending, until};
use crate::ledger::faulty::FaultyLedger;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_consumer_of_a_removed_name_gets_nothing_of_what_was_published_before() {
    let (disk, broker) = (FaultyLedger::new().await, FakeBroker::default());
    add_consumer(&disk.ledger, "ops").await;
    let running = Running::start(&disk.ledger, &broker);
    append(&disk.ledger, 1, 3).await;
    until("the first one has its events", async || broker.queue("ops").len() == 3).await;
    running.end().await;
    // No replica relays now: none has seen both of them.
    disk.ledger.remove_consumer("ops", Timestamp::UNIX_EPOCH).await.unwrap();
    add_consumer(&disk.ledger, "ops").await;
    disk.ledger.append_events(&[event(9, 9)], Timestamp::UNIX_EPOCH).await.unwrap();
    let running = Running::start(&disk.ledger, &broker);
    until("the second one has its event", async || pending(&disk.ledger).await == 0).await;
    let ids: Vec<_> = broker.queue("ops").into_iter().map(|(_, id)| id).collect();
    assert_eq!(ids, [event(9, 9).id], "nothing of the first one");
    assert!(disk.ledger.retired_names().await.unwrap().is_empty(), "deleted once: the queue is the second one's now");
    running.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_may_not_be_deleted_stops_no_publishing() {
    let (disk, broker) = (FaultyLedger::new().await, FakeBroker::default());
    for name in ["gone", "ops"] {
        add_consumer(&disk.ledger, name).await;
    }
    disk.ledger.remove_consumer("gone", Timestamp::UNIX_EPOCH).await.unwrap();
    broker.0.keeps_queues.store(true, Ordering::Relaxed);
    append(&disk.ledger, 1, 2).await;
    let running = Running::start(&disk.ledger, &broker);
    until("all are published", async || broker.queue("ops").len() == 2).await;
    assert_eq!(disk.ledger.retired_names().await.unwrap().len(), 1, "tried again with the next connection");
    running.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_dead_letters_of_a_former_name_have_a_queue_while_its_queue_has_messages() {
    let (disk, broker) = (FaultyLedger::new().await, FakeBroker::default());
    add_consumer(&disk.ledger, "ops").await;
    disk.ledger.rename_consumer("ops", "new", Timestamp::UNIX_EPOCH).await.unwrap();
    broker.0.depths.lock().unwrap().insert("bank_notification_ops".to_owned(), 5);
    let running = Running::start(&disk.ledger, &broker);
    append(&disk.ledger, 1, 1).await;
    until("it gets its events under the new name", async || broker.queue("new").len() == 1).await;
    assert!(broker.0.deleted.lock().unwrap().is_empty(), "what it rejects of the old queue must go somewhere");
    running.end().await;
    broker.0.depths.lock().unwrap().clear();
    let running = Running::start(&disk.ledger, &broker);
    until("both are deleted once they are empty", async || broker.0.deleted.lock().unwrap().len() == 2).await;
    running.end().await;
}
