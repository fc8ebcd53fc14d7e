//! What is deleted and when, on a real ledger.

use uuid::Uuid;

use super::*;
use crate::domain::event::{EventType, OutboxEvent};
use crate::ledger::contract::fixtures::{cursor_key, page, state, take};
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
    let mut pruner = RetentionPruner::new(ledger.clone(), clock, Duration::from_hours(1), "me", &metrics).unwrap();
    assert!(pruner.round(now).await.unwrap());
    assert_eq!(ledger.raw_usage().await.unwrap().payloads, 10);
    let left = ledger.list_events(&EventFilter::default(), 10).await.unwrap();
    assert_eq!(left.iter().map(|event| event.id).collect::<Vec<_>>(), [Uuid::from_u128(9_999)]);
    assert_eq!((pruner.raw_payloads.get(), pruner.raw_bytes.get(), pruner.events.get()), (10, 20, 1));
    assert_eq!(ledger.load_raw(Uuid::from_u128(1), now).await.unwrap(), None);
    assert!(ledger.load_raw(Uuid::from_u128(115), now).await.unwrap().is_some());

    let mut other = RetentionPruner::new(ledger.clone(), clock, Duration::ZERO, "other", &Metrics::new()).unwrap();
    assert!(!other.round(now).await.unwrap(), "another replica holds the lease");
    assert_eq!(ledger.outbox_usage().await.unwrap().events, 1);
}
