//! Deliveries: made with their events, read in order, recorded by one relay.

use std::sync::Arc;

use super::OpenLedger;
use super::delivery_fixtures::{
    append, create, deliveries, event, failed, new_consumer, numbers, pending, query, record, seq,
};
use super::fixtures::{at, books, cursor_key, page, row, run_id, state, take, take_named};
use crate::domain::event::{ChangedRow, EventType, OutboxEvent, PageEvents};
use crate::domain::run_failure::RunFailure;
use crate::ledger::delivery::{DeliveryUsage, NewConsumer, PendingQuery, PublishOutcome, PublishResult, PublishStatus};
use crate::ledger::error::LedgerError;
use crate::ledger::page::PageCommit;
use crate::ledger::runs::{RunCounts, RunEnd, RunResult, RunStart, RunTrigger};

/// One event for each page with changes.
#[derive(Debug)]
struct OnePerPage;

impl PageEvents for OnePerPage {
    fn events(&self, changed: &[ChangedRow<'_>]) -> Vec<OutboxEvent> {
        vec![event(100 + changed.len() as u128, "page")]
    }
}

pub(crate) async fn a_delivery_is_made_with_its_event_or_not_at_all(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let (a, b) = (create(&*ledger, &new_consumer("a")).await, create(&*ledger, &new_consumer("b")).await);
    append(&*ledger, 1..=3, "x").await;
    append(&*ledger, 1..=4, "x").await;
    for consumer in [&a, &b] {
        assert_eq!(numbers(&*ledger, consumer.id).await, [1, 2, 3, 4], "one that is stored makes none");
    }
    let held = take(&*ledger, "me", at(0)).await;
    let (key, events) = (cursor_key("books", ""), Arc::new(OnePerPage) as Arc<dyn PageEvents>);
    let outdated = state(9, "2");
    let rows = [row("a", 1)];
    let refused = PageCommit { events: Some(&events), ..page(&key, &held, &outdated, &rows) };
    ledger.commit_page(refused).await.unwrap_err();
    assert_eq!(numbers(&*ledger, a.id).await.len(), 4);
    let first = &deliveries(&*ledger, a.id).await[0];
    assert_eq!((first.event.id.as_u128(), first.event.aggregate.as_str(), first.consumer_id), (1, "x", a.id));
    assert_eq!((first.publish, first.publish_tries, first.published), (PublishStatus::Pending, 0, None));
    assert_eq!((first.next_try, first.delivered, first.deliver_tries), (None, None, 0));
}

pub(crate) async fn a_consumer_gets_the_events_of_its_namespaces_and_types(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let scoped = |name: &str, namespaces: &[&str], types: &[&str]| NewConsumer {
        namespaces: Some(namespaces.iter().map(|&namespace| namespace.to_owned()).collect()),
        event_types: types.iter().map(|&one| one.to_owned()).collect(),
        ..new_consumer(name)
    };
    let team = create(&*ledger, &scoped("team", &["team"], &[])).await;
    let both = create(&*ledger, &scoped("both", &["te", "eam", "other", "team"], &["fetch.failed"])).await;
    let none = create(&*ledger, &scoped("none", &[], &[])).await;
    let prefix = create(&*ledger, &scoped("prefix", &["te", "am", "tea", "team-2"], &["fetch", "failed"])).await;
    let of =
        |n, namespace: &str, event_type| OutboxEvent { namespace: namespace.to_owned(), event_type, ..event(n, "a") };
    let events = [
        of(1, "team", EventType::FetchStarted),
        of(2, "team", EventType::FetchFailed),
        of(3, "other", EventType::FetchFailed),
        of(4, "other", EventType::FetchStarted),
    ];
    ledger.append_events(&events, at(1)).await.unwrap();
    assert_eq!(numbers(&*ledger, team.id).await, [1, 2]);
    assert_eq!(numbers(&*ledger, both.id).await, [2, 3]);
    assert!(numbers(&*ledger, none.id).await.is_empty());
    assert!(numbers(&*ledger, prefix.id).await.is_empty(), "a part of a name is another name");
}

pub(crate) async fn every_way_of_storing_an_event_makes_its_deliveries(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let ops = create(&*ledger, &new_consumer("ops")).await;
    let held = take(&*ledger, "me", at(0)).await;
    let start = RunStart {
        id: run_id(1),
        job: books(),
        trigger: RunTrigger::Schedule,
        slot: Some(at(0)),
        dry_run: false,
        events: vec![event(1, "run")],
        at: at(1),
    };
    assert!(ledger.start_run(&start, &held).await.unwrap());
    let (key, events) = (cursor_key("books", ""), Arc::new(OnePerPage) as Arc<dyn PageEvents>);
    let (first, rows) = (state(0, "2"), [row("a", 1), row("b", 2)]);
    ledger.commit_page(PageCommit { events: Some(&events), ..page(&key, &held, &first, &rows) }).await.unwrap();
    let end = RunEnd {
        id: run_id(1),
        job: books(),
        result: RunResult::Succeeded,
        reason: None,
        failure: RunFailure::default(),
        counts: RunCounts::default(),
        partitions: Vec::new(),
        resync: None,
        events: vec![event(3, "run")],
        at: at(3),
    };
    ledger.finish_run(&end).await.unwrap();
    append(&*ledger, 4..=4, "route").await;
    assert_eq!(numbers(&*ledger, ops.id).await, [1, 102, 3, 4]);
}

pub(crate) async fn a_delivery_that_waits_holds_back_its_aggregate_alone(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let lease = take_named(&*ledger, "outbox", "a", at(0)).await;
    let (ops, other) = (create(&*ledger, &new_consumer("ops")).await, create(&*ledger, &new_consumer("other")).await);
    append(&*ledger, 1..=3, "a").await;
    append(&*ledger, 4..=5, "b").await;
    record(&*ledger, &lease, ops.id, 1, failed(150)).await;
    record(&*ledger, &lease, ops.id, 5, failed(150)).await;
    assert_eq!(pending(&*ledger, &query(ops.id)).await, [4], "5 waits, and 2 and 3 wait for 1");
    assert_eq!(pending(&*ledger, &query(other.id)).await, [1, 2, 3, 4, 5], "another consumer waits for nothing");
    let later = PendingQuery { now: at(150), ..query(ops.id) };
    let page = ledger.pending_deliveries(&later).await.unwrap();
    let tries: Vec<_> = page.deliveries.iter().map(|d| (d.event.id.as_u128(), d.tries)).collect();
    assert_eq!(tries, [(1, 1), (2, 0), (3, 0), (4, 0), (5, 1)]);
    let waiting = &deliveries(&*ledger, ops.id).await[0];
    assert_eq!((waiting.failure.as_deref(), waiting.next_try), (Some("nacked"), Some(at(150))));
}

pub(crate) async fn pending_deliveries_are_read_by_aggregate_in_turns(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let ops = create(&*ledger, &new_consumer("ops")).await;
    append(&*ledger, 1..=40, "a").await;
    append(&*ledger, 41..=42, "b").await;
    append(&*ledger, 43..=43, "c").await;
    append(&*ledger, 44..=44, "a").await;
    let mut turn = PendingQuery { limit: 2, per_aggregate: 3, ..query(ops.id) };
    let first = ledger.pending_deliveries(&turn).await.unwrap();
    let ids: Vec<_> = first.deliveries.iter().map(|delivery| delivery.event.id.as_u128()).collect();
    assert_eq!(ids, [1, 2, 3, 41, 42], "a long queue of one aggregate delays no other");
    assert_eq!(first.next.as_deref(), Some("b"));
    turn.after = first.next;
    let second = ledger.pending_deliveries(&turn).await.unwrap();
    assert_eq!(second.deliveries.iter().map(|d| d.event.id.as_u128()).collect::<Vec<_>>(), [43]);
    assert_eq!(second.next, None);
    turn.after = Some("c".into());
    assert!(pending(&*ledger, &turn).await.is_empty());
}

pub(crate) async fn a_try_is_recorded_once_and_only_by_the_holder_of_the_lease(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let former = take_named(&*ledger, "outbox", "a", at(0)).await;
    let lease = take_named(&*ledger, "outbox", "b", at(60)).await;
    let ops = create(&*ledger, &new_consumer("ops")).await;
    append(&*ledger, 1..=2, "a").await;
    let seq = seq(&*ledger, 1).await;
    let result = PublishResult { consumer_id: ops.id, seq, outcome: PublishOutcome::Published };
    let fenced = ledger.record_publishes(&former, &[result], at(70)).await;
    assert!(matches!(fenced, Err(LedgerError::Fenced { .. })), "{fenced:?}");
    assert_eq!(pending(&*ledger, &query(ops.id)).await, [1, 2]);
    record(&*ledger, &lease, ops.id, 1, failed(80)).await;
    let unknown = PublishResult { seq: seq + 1_000, ..result };
    ledger.record_publishes(&lease, &[result, unknown], at(80)).await.unwrap();
    // A result that was on its way when the answer to the first was lost.
    ledger.record_publishes(&lease, &[result], at(90)).await.unwrap();
    record(&*ledger, &lease, ops.id, 1, failed(500)).await;
    assert_eq!(pending(&*ledger, &query(ops.id)).await, [2]);
    let published = &deliveries(&*ledger, ops.id).await[0];
    assert_eq!((published.publish, published.publish_tries), (PublishStatus::Published, 2));
    assert_eq!((published.published, published.deliver_tries), (Some(at(80)), 1));
    assert_eq!((&published.failure, published.next_try), (&None, None));
}

pub(crate) async fn deliveries_go_with_their_events(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let lease = take_named(&*ledger, "retention", "a", at(0)).await;
    let ops = create(&*ledger, &new_consumer("ops")).await;
    append(&*ledger, 1..=3, "a").await;
    append(&*ledger, 60..=60, "a").await;
    assert_eq!(ledger.prune_events(&lease, at(50), 10, at(100)).await.unwrap(), 3);
    assert_eq!(numbers(&*ledger, ops.id).await, [60]);
    assert_eq!(ledger.delivery_usage().await.unwrap()[0].pending, 1);
}

pub(crate) async fn usage_counts_what_is_pending_and_what_fails(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let lease = take_named(&*ledger, "outbox", "a", at(0)).await;
    let (ops, idle) = (create(&*ledger, &new_consumer("ops")).await, create(&*ledger, &new_consumer("idle")).await);
    append(&*ledger, 1..=1, "a").await;
    append(&*ledger, 2..=2, "b").await;
    append(&*ledger, 3..=3, "c").await;
    for n in 1..=3 {
        record(&*ledger, &lease, idle.id, n, PublishOutcome::Published).await;
    }
    record(&*ledger, &lease, ops.id, 1, PublishOutcome::Published).await;
    record(&*ledger, &lease, ops.id, 2, failed(500)).await;
    let expected = |consumer: &crate::ledger::delivery::Consumer, pending, failing, oldest| DeliveryUsage {
        consumer_id: consumer.id,
        consumer: consumer.name.clone(),
        pending,
        failing,
        oldest_pending: oldest,
    };
    let usage = ledger.delivery_usage().await.unwrap();
    assert_eq!(usage, [expected(&idle, 0, 0, None), expected(&ops, 2, 1, Some(at(2)))]);
}

pub(crate) async fn a_reader_is_told_of_events_once_they_are_committed(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let mut signal = ledger.events_appended();
    create(&*ledger, &new_consumer("ops")).await;
    assert!(!signal.has_changed().unwrap(), "no event");
    append(&*ledger, 1..=1, "a").await;
    assert!(signal.has_changed().unwrap());
    signal.mark_unchanged();
    append(&*ledger, 1..=1, "a").await;
    assert!(!signal.has_changed().unwrap(), "stored before");
    append(&*ledger, 2..=3, "a").await;
    assert!(signal.has_changed().unwrap());
}
