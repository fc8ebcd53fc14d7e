//! What is deleted and when, on a real ledger.

use uuid::Uuid;

use super::*;
use crate::domain::event::{EventType, OutboxEvent};
use crate::domain::payout::BankReport;
use crate::ledger::contract::fixtures::{at, cursor_key, page, state, take};
use crate::ledger::contract::{decision_fixtures, delivery_fixtures, payout_fixtures};
use crate::ledger::delivery::{BucketCharge, NewWebhook, ReplayMark};
use crate::ledger::outbox::EventFilter;
use crate::ledger::raw::{RawMode, RawPayload};
use crate::ledger::{self, LedgerUrl, OpenMode, PageCommit};

fn event(n: u128) -> OutboxEvent {
    OutboxEvent {
        id: Uuid::from_u128(n),
        event_type: EventType::FetchStarted,
        namespace: "team".into(),
        aggregate: "syncjob/team/books".into(),
        payload: "{}".into(),
        correlation_id: Uuid::from_u128(1),
    }
}

fn periods(events: Duration) -> RetentionPeriods {
    RetentionPeriods { events, decisions: Duration::from_hours(9_600) }
}

fn raw(n: u128, expires: Timestamp) -> RawPayload {
    RawPayload {
        id: Uuid::from_u128(n),
        mode: RawMode::Masked,
        body: "{}".into(),
        sha256: [1; 32],
        size: 2,
        request: "{}".into(),
        window: "w".into(),
        page_no: 1,
        expires,
    }
}

#[tokio::test]
async fn expired_rows_are_deleted_in_pieces_and_others_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = ledger::open(&LedgerUrl::Sqlite(dir.path().join("l.db")), OpenMode::Migrate).await.unwrap();
    let (clock, metrics) = (Clock::system(), Metrics::new());
    let now = clock.now().wall;
    let old = before(now, Duration::from_hours(2));
    let events: Vec<_> = (0..2_500).map(event).collect();
    ledger.append_events(&events, old).await.unwrap();
    ledger.append_events(&[event(9_999)], now).await.unwrap();
    let (key, lease) = (cursor_key("books", ""), take(&*ledger, "me", now).await);
    for n in 0..120_i64 {
        let (state, expires) = (state(n, "t"), if n < 110 { old } else { now + Duration::from_hours(1) });
        let raw = raw(u128::try_from(n).unwrap() + 1, expires);
        ledger.commit_page(PageCommit { raw: Some(&raw), ..page(&key, &lease, &state, &[]) }).await.unwrap();
    }
    let mut pruner =
        RetentionPruner::new(ledger.clone(), clock, periods(Duration::from_hours(1)), "me", &metrics).unwrap();
    assert!(pruner.round(now).await.unwrap());
    assert_eq!(ledger.raw_usage().await.unwrap().payloads, 10);
    let left = ledger.list_events(&EventFilter::default(), 10).await.unwrap();
    assert_eq!(left.iter().map(|event| event.id).collect::<Vec<_>>(), [Uuid::from_u128(9_999)]);
    assert_eq!((pruner.raw_payloads.get(), pruner.raw_bytes.get(), pruner.events.get()), (10, 20, 1));
    assert_eq!(ledger.load_raw(Uuid::from_u128(1), now).await.unwrap(), None);
    assert!(ledger.load_raw(Uuid::from_u128(115), now).await.unwrap().is_some());

    let mut other =
        RetentionPruner::new(ledger.clone(), clock, periods(Duration::ZERO), "other", &Metrics::new()).unwrap();
    assert!(!other.round(now).await.unwrap(), "another replica holds the lease");
    assert_eq!(ledger.outbox_usage().await.unwrap().events, 1);
}

#[tokio::test]
async fn decisions_past_their_retention_become_a_checkpoint_in_whole_days() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = ledger::open(&LedgerUrl::Sqlite(dir.path().join("l.db")), OpenMode::Migrate).await.unwrap();
    let (clock, hour) = (Clock::system(), |hours: i64| at(hours * 3_600));
    for (payout, hours) in [("first day", 0), ("next day", 20)] {
        decision_fixtures::decide(&*ledger, &decision_fixtures::decision(payout, "a", hours * 3_600)).await;
    }
    let month = 24 * 30;
    let periods = RetentionPeriods { events: Duration::from_hours(1), decisions: Duration::from_hours(24 * 30) };
    let metrics = Metrics::new();
    let mut pruner = RetentionPruner::new(ledger.clone(), clock, periods, "me", &metrics).unwrap();
    for (now, deleted) in [(hour(month + 1), 0), (hour(month + 24), 1), (hour(month + 30), 0), (hour(month + 48), 1)] {
        let before = ledger.chain_head().await.unwrap().base_seq;
        assert!(pruner.round(now).await.unwrap());
        assert_eq!(ledger.chain_head().await.unwrap().base_seq - before, deleted, "{now}");
    }
    assert_eq!(pruner.pruned.with_label_values(&["decision"]).get(), 2);
    assert_eq!(decision_fixtures::verify(&*ledger).await, 2, "a checkpoint for each time");
}

#[tokio::test]
async fn payouts_are_deleted_once_their_fate_is_known_for_as_long_as_decisions_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = ledger::open(&LedgerUrl::Sqlite(dir.path().join("l.db")), OpenMode::Migrate).await.unwrap();
    let paid = payout_fixtures::registered(&*ledger, "paid", 0).await;
    payout_fixtures::report(&*ledger, &paid, 1, BankReport::Confirmation, 3_600).await;
    payout_fixtures::registered(&*ledger, "open", 0).await;
    let periods = RetentionPeriods { events: Duration::from_hours(1), decisions: Duration::from_hours(24 * 30) };
    let metrics = Metrics::new();
    let mut pruner = RetentionPruner::new(ledger.clone(), Clock::system(), periods, "me", &metrics).unwrap();
    for (hours, deleted) in [(24 * 30, 0), (24 * 30 + 2, 1), (24 * 300, 0)] {
        let before = pruner.pruned.with_label_values(&["payout"]).get();
        assert!(pruner.round(at(hours * 3_600)).await.unwrap());
        assert_eq!(pruner.pruned.with_label_values(&["payout"]).get() - before, deleted, "{hours}");
    }
    assert_eq!(ledger.payout("pay", "paid").await.unwrap(), None);
    assert!(ledger.payout("pay", "open").await.unwrap().is_some());
}

#[tokio::test]
async fn what_no_consumer_and_no_window_needs_any_more_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = ledger::open(&LedgerUrl::Sqlite(dir.path().join("l.db")), OpenMode::Migrate).await.unwrap();
    for name in ["gone", "kept"] {
        delivery_fixtures::create(&*ledger, &delivery_fixtures::new_consumer(name)).await;
    }
    let kept = ledger.consumer("kept").await.unwrap().unwrap();
    let events: Vec<_> = (0..1_200).map(event).collect();
    ledger.append_events(&events, at(0)).await.unwrap();
    ledger.remove_consumer("gone", at(1)).await.unwrap().unwrap();
    let connection = crate::domain::key::ObjectKey::new("team", "bank-a");
    let webhook = |content: u8, expires: i64| NewWebhook {
        connection: connection.clone(),
        correlation_id: Uuid::from_u128(1),
        replay: Some(ReplayMark { digest: [content; 32], expires: at(expires) }),
    };
    ledger.accept_webhooks(&[webhook(1, 5), webhook(2, 5_000)], at(0)).await.unwrap();
    let charge =
        |key: &str, tokens| BucketCharge { key: key.to_owned(), tokens, interval: Duration::from_secs(10), burst: 500 };
    ledger.charge_buckets(&[charge("full", 1), charge("used", 400)], at(0)).await.unwrap();
    let metrics = Metrics::new();
    let mut pruner =
        RetentionPruner::new(ledger.clone(), Clock::system(), periods(Duration::from_hours(1)), "me", &metrics)
            .unwrap();
    assert!(pruner.round(at(60)).await.unwrap());
    let deleted = |kind: &str| pruner.pruned.with_label_values(&[kind]).get();
    assert_eq!((deleted("delivery"), deleted("webhook"), deleted("rate_limit")), (1_200, 1, 1));
    assert_eq!(delivery_fixtures::numbers(&*ledger, kept.id).await.len(), 1_200);
    assert_eq!(ledger.open_webhooks(10).await.unwrap().len(), 1);
    assert!(pruner.round(at(7_200)).await.unwrap());
    assert!(delivery_fixtures::numbers(&*ledger, kept.id).await.is_empty(), "they go with their events");
}
