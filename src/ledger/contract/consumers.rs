//! Consumers and their keys.

use std::sync::Arc;
use std::time::Duration;

use super::OpenLedger;
use super::delivery_fixtures::{append, create, event, key, new_consumer, numbers, pending, query};
use super::fixtures::{at, take_named};
use crate::domain::event::{EventType, OutboxEvent};
use crate::ledger::delivery::{CreateOutcome, NewConsumer, RemovedConsumer, RenameOutcome};
use crate::ledger::error::LedgerError;
use crate::ledger::store::Ledger;

pub(crate) async fn a_consumer_is_found_by_its_name_and_by_its_key(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let scoped = NewConsumer {
        namespaces: Some(vec!["team".into(), "other".into()]),
        event_types: vec!["fetch.failed".into()],
        ..new_consumer("ops")
    };
    let ops = create(&*ledger, &scoped).await;
    assert_eq!((ops.name.as_str(), ops.created, ops.created_by.as_str()), ("ops", at(0), "ann"));
    assert_eq!((&ops.namespaces, &ops.event_types), (&scoped.namespaces, &scoped.event_types));
    let none = create(&*ledger, &NewConsumer { namespaces: Some(Vec::new()), ..new_consumer("none") }).await;
    assert_eq!(none.namespaces, Some(Vec::new()), "no namespace is not all of them");
    assert_eq!(create(&*ledger, &new_consumer("all")).await.namespaces, None);
    assert_eq!(ledger.create_consumer(&scoped, at(1)).await.unwrap(), CreateOutcome::Exists);
    let names: Vec<_> = ledger.list_consumers().await.unwrap().into_iter().map(|consumer| consumer.name).collect();
    assert_eq!(names, ["all", "none", "ops"]);
    let again = store.writer().await;
    assert_eq!(again.consumer("ops").await.unwrap(), Some(ops.clone()));
    assert_eq!(again.consumer("op").await.unwrap(), None);
    let stored = again.consumer_key("ops1").await.unwrap().unwrap();
    assert_eq!((stored.consumer, stored.hash, stored.expires), (ops, key("ops", 1).hash, None));
    assert_eq!(again.consumer_key("ops").await.unwrap(), None);
}

pub(crate) async fn a_rotated_key_works_for_the_overlap_and_a_still_older_one_does_not(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let ops = create(&*ledger, &new_consumer("ops")).await;
    let hour = Duration::from_hours(1);
    let expires = async |key_id: &str| ledger.consumer_key(key_id).await.unwrap().map(|key| key.expires);
    let rotated = ledger.rotate_key("ops", &key("ops", 2), hour, at(10)).await.unwrap().unwrap();
    assert!(rotated.version > ops.version);
    assert_eq!(expires("ops1").await, Some(Some(at(3_610))));
    assert_eq!(expires("ops2").await, Some(None));
    let again = ledger.rotate_key("ops", &key("ops", 2), hour, at(20)).await.unwrap();
    assert_eq!(again, Some(rotated), "the same key again changes nothing");
    assert_eq!(expires("ops2").await, Some(None));
    ledger.rotate_key("ops", &key("ops", 3), hour, at(30)).await.unwrap().unwrap();
    assert_eq!(expires("ops1").await, None);
    assert_eq!(expires("ops2").await, Some(Some(at(3_630))));
    ledger.rotate_key("ops", &key("ops", 4), Duration::ZERO, at(40)).await.unwrap().unwrap();
    for dead in ["ops2", "ops3"] {
        assert_eq!(expires(dead).await, None, "{dead}");
    }
    assert_eq!(expires("ops4").await, Some(None));
    assert_eq!(ledger.rotate_key("other", &key("other", 1), hour, at(50)).await.unwrap(), None);
}

pub(crate) async fn a_rename_keeps_keys_and_deliveries_and_the_old_name(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let ops = create(&*ledger, &new_consumer("ops")).await;
    create(&*ledger, &new_consumer("taken")).await;
    append(&*ledger, 1..=2, "a").await;
    assert_eq!(ledger.rename_consumer("ops", "taken", at(5)).await.unwrap(), RenameOutcome::Exists);
    assert_eq!(ledger.rename_consumer("none", "new", at(5)).await.unwrap(), RenameOutcome::NotFound);
    let RenameOutcome::Renamed(renamed) = ledger.rename_consumer("ops", "new", at(5)).await.unwrap() else {
        panic!("the name is free")
    };
    assert_eq!((renamed.id, renamed.previous_name.as_deref()), (ops.id, Some("ops")));
    assert_eq!(ledger.consumer("new").await.unwrap(), Some(renamed.clone()));
    assert_eq!(ledger.consumer_key("ops1").await.unwrap().unwrap().consumer, renamed);
    assert_eq!(pending(&*ledger, &query(ops.id)).await, [1, 2]);
    let other = NewConsumer { key: key("ops", 9), ..new_consumer("ops") };
    let exists = ledger.create_consumer(&other, at(6)).await.unwrap();
    assert_eq!(exists, CreateOutcome::Exists, "the queue of that name may hold messages of the renamed one");
    assert_eq!(ledger.rename_consumer("taken", "ops", at(6)).await.unwrap(), RenameOutcome::Exists);
    assert!(ledger.retired_names().await.unwrap().is_empty());
    assert!(matches!(ledger.rename_consumer("new", "ops", at(7)).await.unwrap(), RenameOutcome::Renamed(_)), "its own");
    assert!(ledger.retired_names().await.unwrap().is_empty(), "both names are its own");
    assert!(matches!(ledger.rename_consumer("ops", "third", at(8)).await.unwrap(), RenameOutcome::Renamed(_)));
    let retired: Vec<_> = ledger.retired_names().await.unwrap().into_iter().map(|retired| retired.name).collect();
    assert_eq!(retired, ["new"], "the one before the former one");
    assert_eq!(ledger.list_consumers().await.unwrap().len(), 2);
}

pub(crate) async fn a_removed_name_is_retired_until_its_queues_are_gone(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let former = take_named(&*ledger, "outbox", "a", at(0)).await;
    let lease = take_named(&*ledger, "outbox", "b", at(60)).await;
    let gone = create(&*ledger, &new_consumer("gone")).await;
    ledger.remove_consumer("gone", at(61)).await.unwrap();
    let again = create(&*ledger, &NewConsumer { key: key("gone", 9), ..new_consumer("gone") }).await;
    ledger.prune_deliveries(&lease, 10).await.unwrap();
    let retired = ledger.retired_names().await.unwrap();
    assert_eq!(retired.iter().map(|each| (each.id, each.name.as_str())).collect::<Vec<_>>(), [(gone.id, "gone")]);
    let fenced = ledger.forget_names(&former, &[gone.id], at(62)).await;
    assert!(matches!(fenced, Err(LedgerError::Fenced { .. })), "{fenced:?}");
    ledger.forget_names(&lease, &[gone.id, again.id], at(62)).await.unwrap();
    assert!(ledger.retired_names().await.unwrap().is_empty());
    assert_eq!(ledger.consumer("gone").await.unwrap().map(|found| found.id), Some(again.id), "only removed ones");
    ledger.prune_deliveries(&lease, 10).await.unwrap();
}

pub(crate) async fn a_removed_consumer_gets_nothing_and_its_rows_are_pruned(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let lease = take_named(&*ledger, "retention", "a", at(0)).await;
    let (gone, kept) = (create(&*ledger, &new_consumer("gone")).await, create(&*ledger, &new_consumer("kept")).await);
    append(&*ledger, 1..=3, "a").await;
    let removed = ledger.remove_consumer("gone", at(5)).await.unwrap();
    assert_eq!(removed, Some(RemovedConsumer { id: gone.id, cancelled: 3 }));
    assert_eq!(ledger.remove_consumer("gone", at(6)).await.unwrap(), None);
    append(&*ledger, 4..=4, "a").await;
    assert!(pending(&*ledger, &query(gone.id)).await.is_empty());
    assert!(numbers(&*ledger, gone.id).await.is_empty());
    assert_eq!(ledger.consumer_key("gone1").await.unwrap(), None);
    let usage: Vec<_> = ledger.delivery_usage().await.unwrap().into_iter().map(|usage| usage.consumer).collect();
    assert_eq!(usage, ["kept"]);
    let again = create(&*ledger, &new_consumer("gone")).await;
    append(&*ledger, 5..=5, "a").await;
    assert_eq!(ledger.prune_deliveries(&lease, 2).await.unwrap(), 2);
    assert_eq!(ledger.prune_deliveries(&lease, 2).await.unwrap(), 1);
    assert_eq!(ledger.prune_deliveries(&lease, 2).await.unwrap(), 0);
    assert_eq!(numbers(&*ledger, again.id).await, [5], "the name was free, the deliveries are its own");
    assert_eq!(numbers(&*ledger, kept.id).await, [1, 2, 3, 4, 5]);
    let next = take_named(&*ledger, "retention", "b", at(60)).await;
    let fenced = ledger.prune_deliveries(&lease, 2).await;
    assert!(matches!(fenced, Err(LedgerError::Fenced { .. })), "{fenced:?}");
    ledger.prune_deliveries(&next, 2).await.unwrap();
}

pub(crate) async fn every_change_of_a_consumer_or_a_key_raises_the_version(store: &impl OpenLedger) {
    let (ledger, replica) = (store.writer().await, store.writer().await);
    let mut last = replica.consumers_version().await.unwrap();
    let mut raised = async || {
        let version = replica.consumers_version().await.unwrap();
        std::mem::replace(&mut last, version) < version
    };
    create(&*ledger, &new_consumer("ops")).await;
    assert!(raised().await);
    ledger.rotate_key("ops", &key("ops", 2), Duration::ZERO, at(1)).await.unwrap();
    assert!(raised().await);
    ledger.rename_consumer("ops", "new", at(2)).await.unwrap();
    assert!(raised().await);
    append(&*ledger, 1..=1, "a").await;
    assert!(!raised().await, "an event changes no consumer");
    ledger.remove_consumer("new", at(3)).await.unwrap();
    assert!(raised().await);
}

pub(crate) async fn a_new_consumer_gets_no_history_unless_it_asks_for_it(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let lease = take_named(&*ledger, "outbox", "a", at(0)).await;
    let other = create(&*ledger, &new_consumer("other")).await;
    for n in 1..=5 {
        append(&*ledger, n..=n, "a").await;
    }
    let told = OutboxEvent { event_type: EventType::ConsumerCreated, ..event(50, "consumer/ops") };
    let ops = create(&*ledger, &NewConsumer { events: vec![told], ..new_consumer("ops") }).await;
    append(&*ledger, 6..=6, "a").await;
    assert_eq!(ledger.fill_history(&lease, 10).await.unwrap(), 0);
    assert_eq!(numbers(&*ledger, ops.id).await, [6], "not of itself either");
    assert_eq!(numbers(&*ledger, other.id).await, [1, 2, 3, 4, 5, 50, 6]);
    let since = NewConsumer { history_from: Some(at(3)), ..new_consumer("since") };
    let since = create(&*ledger, &since).await;
    let failed =
        NewConsumer { event_types: vec!["fetch.failed".into()], history_from: Some(at(0)), ..new_consumer("failed") };
    let failed = create(&*ledger, &failed).await;
    while ledger.fill_history(&lease, 2).await.unwrap() > 0 {}
    // The event of the consumer was stored at its creation, at 0.
    assert_eq!(numbers(&*ledger, since.id).await, [3, 4, 5, 6]);
    assert!(numbers(&*ledger, failed.id).await.is_empty(), "history is filtered as well");
}

pub(crate) async fn history_is_filled_before_anything_is_published(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let former = take_named(&*ledger, "outbox", "a", at(0)).await;
    let lease = take_named(&*ledger, "outbox", "b", at(60)).await;
    append(&*ledger, 1..=3, "a").await;
    let late = create(&*ledger, &NewConsumer { history_from: Some(at(0)), ..new_consumer("late") }).await;
    append(&*ledger, 4..=4, "a").await;
    assert!(pending(&*ledger, &query(late.id)).await.is_empty(), "the newest must not overtake the others");
    let fenced = ledger.fill_history(&former, 2).await;
    assert!(matches!(fenced, Err(LedgerError::Fenced { .. })), "{fenced:?}");
    assert_eq!(ledger.fill_history(&lease, 2).await.unwrap(), 2);
    assert!(pending(&*ledger, &query(late.id)).await.is_empty());
    while ledger.fill_history(&lease, 2).await.unwrap() > 0 {}
    assert_eq!(pending(&*ledger, &query(late.id)).await, [1, 2, 3, 4]);
}

pub(crate) async fn a_history_of_several_pieces_misses_no_event_of_concurrent_writers(store: &impl OpenLedger) {
    let writers = [store.writer().await, store.writer().await];
    let ledger = store.writer().await;
    let lease = take_named(&*ledger, "outbox", "a", at(0)).await;
    let write = |(place, writer): (usize, &Arc<dyn Ledger>)| {
        let (writer, base) = (Arc::clone(writer), place as u128 * 1_000);
        async move {
            for n in 1..=60_u128 {
                writer.append_events(&[event(base + n, "a"), event(base + 100 + n, "b")], at(1)).await.unwrap();
            }
        }
    };
    let written = futures::future::join_all(writers.iter().enumerate().map(write));
    let created = async {
        while ledger.outbox_usage().await.unwrap().events < 20 {
            tokio::task::yield_now().await;
        }
        let late = create(&*ledger, &NewConsumer { history_from: Some(at(0)), ..new_consumer("late") }).await;
        ledger.fill_history(&lease, 7).await.unwrap();
        late
    };
    let (_, late) = futures::future::join(written, created).await;
    while ledger.fill_history(&lease, 7).await.unwrap() > 0 {}
    let mut found = numbers(&*ledger, late.id).await;
    found.sort_unstable();
    let each = |base: u128| (1..=60).flat_map(move |n| [base + n, base + 100 + n]);
    let mut expected: Vec<u128> = each(0).chain(each(1_000)).collect();
    expected.sort_unstable();
    assert_eq!(found, expected);
}
