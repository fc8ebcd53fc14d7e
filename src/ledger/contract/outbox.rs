//! Stored events.

use std::sync::Arc;

use uuid::Uuid;

use super::OpenLedger;
use super::fixtures::{at, books, cursor_key, page, row, run_id, state, take, take_named};
use crate::domain::event::{ChangedRow, EventPosition, EventType, OutboxEvent, PageEvents, event_id};
use crate::domain::run_failure::RunFailure;
use crate::ledger::error::LedgerError;
use crate::ledger::outbox::EventFilter;
use crate::ledger::page::PageCommit;
use crate::ledger::runs::{RunCounts, RunEnd, RunResult, RunStart, RunTrigger};
use crate::ledger::store::Ledger;

pub(super) fn event(n: u128, namespace: &str, event_type: EventType) -> OutboxEvent {
    OutboxEvent {
        id: Uuid::from_u128(n),
        event_type,
        namespace: namespace.into(),
        aggregate: format!("syncjob/{namespace}/books"),
        payload: format!("{{\"n\":{n},\"text\":\"caf\u{e9}\"}}"),
        correlation_id: Uuid::from_u128(n / 10),
    }
}

/// One event for each row that changed.
#[derive(Debug)]
struct OneEach;

impl PageEvents for OneEach {
    fn events(&self, changed: &[ChangedRow<'_>]) -> Vec<OutboxEvent> {
        let one = |row: &ChangedRow<'_>| {
            let parts = [row.row.key().as_bytes(), row.row.hash().as_slice(), &row.revision.to_be_bytes()];
            let id = event_id(EventType::TransactionsIngested, "a", &parts);
            OutboxEvent { id, ..event(0, "team", EventType::TransactionsIngested) }
        };
        changed.iter().map(one).collect()
    }
}

async fn ids(ledger: &dyn Ledger, filter: &EventFilter) -> Vec<u128> {
    ledger.list_events(filter, 100).await.unwrap().iter().map(|event| event.id.as_u128()).collect()
}

pub(crate) async fn events_are_listed_once_and_in_their_order(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let all: Vec<_> = (1..=5).map(|n| event(n, "team", EventType::FetchStarted)).collect();
    assert_eq!(ledger.append_events(&all[..3], at(1)).await.unwrap(), 3);
    assert_eq!(ledger.append_events(&all, at(2)).await.unwrap(), 2, "one that is stored is skipped");
    let mut filter = EventFilter::default();
    let mut read = Vec::new();
    loop {
        let page = ledger.list_events(&filter, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        filter.after = last.position;
        read.extend(page);
    }
    assert_eq!(read.iter().map(|event| event.id.as_u128()).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    let (first, expected) = (&read[0], &all[0]);
    assert_eq!((&first.payload, &first.aggregate), (&expected.payload, &expected.aggregate));
    assert_eq!((first.created, first.correlation_id), (at(1), expected.correlation_id));
    assert_eq!(read[3].created, at(2));
    let usage = ledger.outbox_usage().await.unwrap();
    assert_eq!((usage.events, usage.oldest), (5, Some(at(1))));
}

pub(crate) async fn events_are_filtered_by_what_they_say(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let of = |n, namespace, event_type| event(n, namespace, event_type);
    ledger.append_events(&[of(1, "team", EventType::FetchStarted)], at(1)).await.unwrap();
    ledger.append_events(&[of(2, "other", EventType::FetchFailed)], at(2)).await.unwrap();
    ledger.append_events(&[of(11, "team", EventType::FetchFailed)], at(3)).await.unwrap();
    let record = OutboxEvent { aggregate: "syncjob/team/books/ab".into(), ..of(12, "team", EventType::FetchStarted) };
    ledger.append_events(&[record], at(4)).await.unwrap();
    let mine = EventFilter { namespace: Some("team".into()), ..EventFilter::default() };
    assert_eq!(ids(&*ledger, &mine).await, [1, 11, 12]);
    let failed = EventFilter { types: vec!["fetch.failed".into(), "none".into()], ..EventFilter::default() };
    assert_eq!(ids(&*ledger, &failed).await, [2, 11]);
    let below = EventFilter { aggregate: Some("syncjob/team/books".into()), ..EventFilter::default() };
    assert_eq!(ids(&*ledger, &below).await, [1, 11, 12]);
    let book = EventFilter { aggregate: Some("syncjob/team/book".into()), ..EventFilter::default() };
    assert!(ids(&*ledger, &book).await.is_empty(), "not a prefix of a name");
    let correlated = EventFilter { correlation_id: Some(Uuid::from_u128(1)), ..EventFilter::default() };
    assert_eq!(ids(&*ledger, &correlated).await, [11, 12]);
    let between = EventFilter { from: Some(at(2)), to: Some(at(4)), ..EventFilter::default() };
    assert_eq!(ids(&*ledger, &between).await, [2, 11]);
}

pub(crate) async fn a_pages_events_are_stored_with_it_or_not_at_all(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let held = take(&*ledger, "me", at(0)).await;
    let (key, events) = (cursor_key("books", ""), Arc::new(OneEach) as Arc<dyn PageEvents>);
    let rows = [row("a", 1), row("b", 2)];
    for version in 0..2 {
        let state = state(version, "2");
        let commit = PageCommit { events: Some(&events), ..page(&key, &held, &state, &rows) };
        ledger.commit_page(commit).await.unwrap();
        assert_eq!(ledger.outbox_usage().await.unwrap().events, 2, "a page that is read again causes none");
    }
    let changed = [row("a", 3)];
    let outdated = state(9, "2");
    let refused = PageCommit { events: Some(&events), ..page(&key, &held, &outdated, &changed) };
    ledger.commit_page(refused).await.unwrap_err();
    assert_eq!(ledger.outbox_usage().await.unwrap().events, 2);
    let next = state(2, "2");
    for (version, rows) in [(2, &changed[..]), (3, &rows[..1])] {
        let state = crate::domain::cursor::CursorState { version, ..next.clone() };
        let commit = PageCommit { events: Some(&events), ..page(&key, &held, &state, rows) };
        ledger.commit_page(commit).await.unwrap();
    }
    assert_eq!(ledger.outbox_usage().await.unwrap().events, 4, "the same content again is another version");
}

pub(crate) async fn a_runs_events_are_stored_with_its_start_and_its_end(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let held = take(&*ledger, "me", at(0)).await;
    let start = RunStart {
        id: run_id(1),
        job: books(),
        trigger: RunTrigger::Schedule,
        slot: Some(at(5)),
        dry_run: false,
        events: vec![event(1, "team", EventType::FetchStarted)],
        at: at(5),
    };
    assert!(ledger.start_run(&start, &held).await.unwrap());
    let repeated = RunStart { id: run_id(2), events: vec![event(2, "team", EventType::FetchStarted)], ..start };
    assert!(!ledger.start_run(&repeated, &held).await.unwrap(), "the slot is served");
    let end = RunEnd {
        id: run_id(1),
        job: books(),
        result: RunResult::Failed,
        reason: None,
        failure: RunFailure::default(),
        counts: RunCounts::default(),
        partitions: Vec::new(),
        resync: None,
        events: vec![event(3, "team", EventType::FetchFailed)],
        at: at(9),
    };
    ledger.finish_run(&end).await.unwrap();
    let again = RunEnd { events: vec![event(4, "team", EventType::FetchCompleted)], ..end };
    ledger.finish_run(&again).await.unwrap();
    let stored = ledger.list_events(&EventFilter::default(), 10).await.unwrap();
    let stored: Vec<_> = stored.iter().map(|event| (event.id.as_u128(), event.created)).collect();
    assert_eq!(stored, [(1, at(5)), (3, at(9))]);
}

pub(crate) async fn old_events_are_pruned_in_pieces_by_the_holder_of_the_lease(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let former = take_named(&*ledger, "retention", "a", at(0)).await;
    let lease = take_named(&*ledger, "retention", "b", at(60)).await;
    let all: Vec<_> = (1..=5).map(|n| event(n, "team", EventType::FetchStarted)).collect();
    ledger.append_events(&all[..4], at(1)).await.unwrap();
    ledger.append_events(&all[4..], at(100)).await.unwrap();
    let fenced = ledger.prune_events(&former, at(50), 10, at(200)).await;
    assert!(matches!(fenced, Err(LedgerError::Fenced { .. })), "{fenced:?}");
    assert_eq!(ledger.prune_events(&lease, at(50), 3, at(200)).await.unwrap(), 3);
    assert_eq!(ids(&*ledger, &EventFilter::default()).await, [4, 5], "the oldest first");
    assert_eq!(ledger.prune_events(&lease, at(50), 3, at(200)).await.unwrap(), 1);
    assert_eq!(ledger.prune_events(&lease, at(50), 3, at(200)).await.unwrap(), 0);
    let after = EventFilter { after: EventPosition::default(), ..EventFilter::default() };
    assert_eq!(ids(&*ledger, &after).await, [5]);
}

pub(crate) async fn a_reader_that_goes_on_misses_no_event_of_concurrent_writers(store: &impl OpenLedger) {
    let writers = [store.writer().await, store.writer().await, store.writer().await];
    let reader = store.writer().await;
    let written = async {
        let write = |(place, ledger): (usize, &Arc<dyn Ledger>)| {
            let ledger = Arc::clone(ledger);
            async move {
                for n in 0..30_u128 {
                    let events: Vec<_> = (0..20_u128)
                        .map(|k| event(place as u128 * 10_000 + n * 100 + k + 1, "team", EventType::FetchStarted))
                        .collect();
                    ledger.append_events(&events, at(1)).await.unwrap();
                }
            }
        };
        futures::future::join_all(writers.iter().enumerate().map(write)).await;
    };
    let (mut written, mut is_written) = (std::pin::pin!(written), false);
    let (mut filter, mut seen) = (EventFilter::default(), std::collections::BTreeSet::new());
    loop {
        let page = tokio::select! {
            page = reader.list_events(&filter, 7) => page.unwrap(),
            () = &mut written, if !is_written => {
                is_written = true;
                continue;
            }
        };
        match page.last() {
            Some(last) => filter.after = last.position,
            None if is_written => break,
            None => tokio::task::yield_now().await,
        }
        for event in page {
            assert!(seen.insert(event.id), "read twice");
        }
    }
    assert_eq!(seen.len(), 3 * 30 * 20);
}

pub(crate) async fn an_event_of_the_future_is_pruned_with_one_that_follows_it(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let lease = take_named(&*ledger, "retention", "a", at(0)).await;
    for (n, second) in [(1, 0), (2, 400_000), (3, 20), (4, 400_000), (5, 40)] {
        ledger.append_events(&[event(n, "team", EventType::FetchStarted)], at(second)).await.unwrap();
    }
    assert_eq!(ledger.prune_events(&lease, at(10), 10, at(50)).await.unwrap(), 1);
    assert_eq!(ids(&*ledger, &EventFilter::default()).await, [2, 3, 4, 5], "kept, as the clock said");
    assert_eq!(ledger.prune_events(&lease, at(30), 10, at(50)).await.unwrap(), 2);
    assert_eq!(ids(&*ledger, &EventFilter::default()).await, [4, 5]);
}
