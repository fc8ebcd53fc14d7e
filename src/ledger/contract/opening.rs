//! Opening, reopening and closing a store.

use super::OpenLedger;
use super::fixtures::{TTL, at, books, commit, count, cursor_key, row, state, take};
use crate::domain::cursor::CursorState;
use crate::ledger::record::TransactionFilter;
use crate::ledger::store::OpenMode;

pub(crate) async fn a_committed_page_is_read_after_reopening(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let held = take(&*ledger, "me", at(0)).await;
    let done = commit(&*ledger, &held, &state(0, "2"), &[row("a", 100), row("b", -250)]).await.unwrap();
    assert_eq!((done.version, done.counts.inserted), (1, 2));
    ledger.close().await;

    let ledger = store.writer().await;
    let loaded = ledger.load_cursor(&cursor_key("books", "")).await.unwrap().unwrap();
    assert_eq!(loaded, CursorState { version: 1, ..state(0, "2") });
    assert_eq!(count(&*ledger).await, 2);
}

pub(crate) async fn a_read_only_handle_sees_committed_rows_and_cannot_write(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let held = take(&*ledger, "me", at(0)).await;
    let reader = store.open(OpenMode::ReadOnly).await.unwrap();
    commit(&*ledger, &held, &state(0, "2"), &[row("a", 1)]).await.unwrap();
    assert_eq!(count(&*reader).await, 1);
    assert!(reader.release_lease(&held).await.is_err());
    assert!(reader.acquire_lease("x", "y", TTL, at(0), None).await.is_err());
    assert!(commit(&*reader, &held, &state(1, "3"), &[row("b", 1)]).await.is_err());
    assert!(reader.delete_job(&books(), &crate::ledger::ExistingJobs::new(), &held).await.is_err());
    assert_eq!(count(&*ledger).await, 1);
    assert!(ledger.renew_lease(&held, TTL, at(1)).await.unwrap(), "nothing was changed");
}

pub(crate) async fn an_existing_store_is_opened_without_migrating(store: &impl OpenLedger) {
    store.writer().await.close().await;
    let ledger = store.open(OpenMode::Existing).await.unwrap();
    ledger.ping().await.unwrap();
    let held = take(&*ledger, "me", at(0)).await;
    commit(&*ledger, &held, &state(0, "2"), &[row("a", 1)]).await.unwrap();
}

pub(crate) async fn a_closed_handle_fails(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    ledger.close().await;
    assert!(ledger.ping().await.is_err());
    assert!(ledger.count_transactions(&TransactionFilter::default()).await.is_err());
}
