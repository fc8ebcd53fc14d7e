//! Rows that are replaced or withdrawn: they stay, and say so.

use std::sync::{Arc, Mutex};

use super::OpenLedger;
use super::fixtures::{at, cursor_key, page, row, state, take};
use super::records::{balance, commit_records};
use crate::domain::document::{DocumentKind, DocumentRecord};
use crate::domain::event::{ChangedRow, OutboxEvent, PageEvents};
use crate::domain::record::{KeyQuality, RowStatus, TransactionRecord};
use crate::domain::records::{PendingSnapshot, RemovedKey, TABLES};
use crate::domain::row_batch::DOCUMENTS;
use crate::ledger::lease::Lease;
use crate::ledger::page::{PageCommit, PageCounts};
use crate::ledger::record::TransactionFilter;
use crate::ledger::store::Ledger;

fn pending(key: &str, minor: i64) -> TransactionRecord {
    TransactionRecord { status: RowStatus::Pending, ..row(key, minor) }
}

fn replacing(key: &str, replaced: &str) -> TransactionRecord {
    TransactionRecord { supersedes: Some(replaced.into()), ..row(key, 5) }
}

/// Key and status of each transaction, in the order of the keys.
pub(super) async fn statuses(ledger: &dyn Ledger) -> Vec<String> {
    let rows = ledger.list_transactions(&TransactionFilter::default(), 10_000).await.unwrap();
    let mut found: Vec<_> =
        rows.iter().map(|row| format!("{} {}", row.record.key, row.record.status.as_str())).collect();
    found.sort();
    found
}

fn counts(inserted: u64, updated: u64, unchanged: u64) -> PageCounts {
    PageCounts { inserted, updated, unchanged }
}

/// Commits rows as the next version of the cursor of `books`.
async fn commit(ledger: &dyn Ledger, lease: &Lease, version: i64, rows: &[TransactionRecord]) -> PageCounts {
    let (key, state) = (cursor_key("books", ""), state(version, "2"));
    ledger.commit_page(page(&key, lease, &state, rows)).await.unwrap().counts
}

/// Commits that records were withdrawn.
async fn withdraw(ledger: &dyn Ledger, lease: &Lease, version: i64, removed: &[RemovedKey]) -> PageCounts {
    let (key, state) = (cursor_key("books", ""), state(version, "2"));
    let commit = PageCommit { removed, now: at(30), ..page(&key, lease, &state, &[]) };
    ledger.commit_page(commit).await.unwrap().counts
}

fn key_of(account_token: Option<&str>, key: &str) -> RemovedKey {
    RemovedKey { account_token: account_token.map(str::to_owned), key: key.to_owned() }
}

pub(crate) async fn a_booked_row_closes_the_pending_one_that_it_names(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let held = take(&*ledger, "me", at(0)).await;
    let elsewhere = TransactionRecord { account_token: "t2".into(), ..pending("p", 1) };
    commit(&*ledger, &held, 0, &[pending("p", 1), pending("q", 1), elsewhere]).await;
    assert_eq!(commit(&*ledger, &held, 1, &[replacing("b", "p")]).await, counts(1, 1, 0));
    assert_eq!(statuses(&*ledger).await, ["b booked", "p pending", "p superseded", "q pending"]);
    // Again, with the pending one still listed, before or after: nothing changes.
    for (version, rows) in (2..).zip([[replacing("b", "p"), pending("p", 1)], [pending("p", 2), replacing("b", "p")]]) {
        assert_eq!(commit(&*ledger, &held, version, &rows).await, counts(0, 0, 2));
    }
    // Both new on one page, in either order; one that names what was never stored; one that names a booked row.
    let rows = [pending("r", 1), replacing("c", "r"), replacing("d", "s"), pending("s", 1), replacing("e", "never")];
    assert_eq!(commit(&*ledger, &held, 4, &rows).await, counts(5, 2, 0));
    assert_eq!(commit(&*ledger, &held, 5, &[replacing("f", "b")]).await, counts(1, 0, 0));
    let found = statuses(&*ledger).await;
    assert_eq!(
        found.iter().filter(|row| row.ends_with("superseded")).collect::<Vec<_>>(),
        ["p superseded", "r superseded", "s superseded"]
    );
    let rows = ledger.list_transactions(&TransactionFilter::default(), 20).await.unwrap();
    let stored = rows.iter().find(|row| row.record.key == "b").unwrap();
    assert_eq!(stored.record.supersedes.as_deref(), Some("p"));
    let closed = rows.iter().find(|row| row.record.key == "p" && row.record.account_token == "t1").unwrap();
    assert_eq!((closed.revision, closed.record.amount_minor), (2, 1));
    // Booked on one page, pending on a later one; of another account it stays pending.
    commit(&*ledger, &held, 6, &[replacing("g", "late")]).await;
    let elsewhere = TransactionRecord { account_token: "t2".into(), ..pending("late", 1) };
    assert_eq!(commit(&*ledger, &held, 7, &[pending("late", 1), elsewhere]).await, counts(2, 1, 0));
    let found = statuses(&*ledger).await;
    assert!(["late pending", "late superseded"].iter().all(|row| found.contains(&(*row).to_owned())), "{found:?}");
}

pub(crate) async fn a_pending_row_that_is_booked_under_its_own_id_is_updated(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let held = take(&*ledger, "me", at(0)).await;
    commit(&*ledger, &held, 0, &[pending("p", 1)]).await;
    assert_eq!(commit(&*ledger, &held, 1, &[row("p", 1)]).await, counts(0, 1, 0));
    assert_eq!(statuses(&*ledger).await, ["p booked"]);
}

pub(crate) async fn pending_rows_that_are_no_longer_listed_are_closed(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let held = take(&*ledger, "me", at(0)).await;
    let elsewhere = TransactionRecord { account_token: "t2".into(), ..pending("z", 1) };
    commit(&*ledger, &held, 0, &[pending("p", 1), pending("q", 1), row("b", 1), elsewhere]).await;
    let snapshot = |keys: &[&str]| PendingSnapshot {
        account_token: "t1".into(),
        keys: keys.iter().map(|key| (*key).to_owned()).collect(),
    };
    let key = cursor_key("books", "");
    for (version, keys, rows, expected) in [
        (1, &["q"][..], vec![pending("q", 1)], counts(0, 1, 1)),
        (2, &["q"], vec![pending("q", 1)], counts(0, 0, 1)),
        (3, &["n"], vec![pending("n", 1)], counts(1, 1, 0)),
        (4, &[], vec![], counts(0, 1, 0)),
        // Listed again: it is pending again.
        (5, &["p"], vec![pending("p", 1)], counts(0, 1, 0)),
    ] {
        let (state, snapshot) = (state(version, "2"), snapshot(keys));
        let commit = PageCommit { pending: Some(&snapshot), ..page(&key, &held, &state, &rows) };
        assert_eq!(ledger.commit_page(commit).await.unwrap().counts, expected, "{version}");
    }
    assert_eq!(statuses(&*ledger).await, ["b booked", "n superseded", "p pending", "q superseded", "z pending"]);
}

pub(crate) async fn a_withdrawn_transaction_stays_and_comes_back_when_it_is_sent_again(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let held = take(&*ledger, "me", at(0)).await;
    let other = TransactionRecord { account_token: "t2".into(), ..row("a", 1) };
    commit(&*ledger, &held, 0, &[row("a", 1), pending("p", 1), row("b", 1), other]).await;
    let removed = [key_of(Some("t1"), "a"), key_of(None, "p"), key_of(None, "never"), key_of(Some("t3"), "b")];
    assert_eq!(withdraw(&*ledger, &held, 1, &removed).await, counts(0, 2, 0));
    assert_eq!(statuses(&*ledger).await, ["a booked", "a superseded", "b booked", "p superseded"]);
    assert_eq!(withdraw(&*ledger, &held, 2, &removed).await, counts(0, 0, 0), "once");
    // The same content as before, and a pending one as pending.
    assert_eq!(commit(&*ledger, &held, 3, &[row("a", 1), pending("p", 1)]).await, counts(0, 2, 0));
    assert_eq!(statuses(&*ledger).await, ["a booked", "a booked", "b booked", "p pending"]);
    assert_eq!(commit(&*ledger, &held, 4, &[row("a", 1), pending("p", 1)]).await, counts(0, 0, 2));
    assert_eq!(withdraw(&*ledger, &held, 5, &[key_of(None, "a")]).await, counts(0, 2, 0), "of any account");
}

pub(crate) async fn a_withdrawn_record_of_another_kind_is_marked_and_no_longer_counted(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let held = take(&*ledger, "me", at(0)).await;
    let records = [balance("t1", "a", "1"), balance("t1", "b", "2")];
    commit_records(&*ledger, &held, 0, &records).await.unwrap();
    let document = DocumentRecord {
        kind: DocumentKind::Document,
        key: "a".into(),
        key_quality: KeyQuality::Provider,
        body: "{}".into(),
    };
    let (key, second) = (cursor_key("books", ""), state(1, "2"));
    let documents = [document];
    ledger.commit_page(PageCommit { documents: &documents, ..page(&key, &held, &second, &[]) }).await.unwrap();
    assert_eq!(withdraw(&*ledger, &held, 2, &[key_of(None, "a")]).await, counts(0, 2, 0));
    let all = TransactionFilter::default();
    for (table, left) in [(&TABLES[1], 1), (&DOCUMENTS, 0)] {
        assert_eq!(ledger.count_records(table, &all).await.unwrap(), left, "{}", table.name);
    }
    let stored = ledger.newest_records(&TABLES[1], &all, 9).await.unwrap();
    assert_eq!(stored.iter().filter_map(|row| row.deleted).collect::<Vec<_>>(), [at(30)], "it is still there");
    assert_eq!(commit_records(&*ledger, &held, 3, &records).await.unwrap(), counts(0, 1, 1), "it is back");
    assert_eq!(ledger.count_records(&TABLES[1], &all).await.unwrap(), 2);
}

/// Notes what changed.
#[derive(Debug, Default)]
struct Noted(Mutex<Vec<String>>);

impl PageEvents for Noted {
    fn events(&self, changed: &[ChangedRow<'_>]) -> Vec<OutboxEvent> {
        let lines = changed.iter().map(|changed| {
            let (row, status) = (changed.row, changed.row.get("status").as_text().unwrap_or("-"));
            let (table, key, change) = (row.table().name, row.key(), changed.change.as_str());
            format!("{table} {key} {change} {} {status}", changed.revision)
        });
        self.0.lock().unwrap().extend(lines);
        Vec::new()
    }
}

pub(crate) async fn events_are_made_of_the_rows_that_changed_and_of_no_other(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let held = take(&*ledger, "me", at(0)).await;
    let noted = Arc::new(Noted::default());
    let events: Arc<dyn PageEvents> = Arc::clone(&noted) as _;
    let key = cursor_key("books", "");
    let commit = async |version: i64, rows: &[TransactionRecord], removed: &[RemovedKey]| {
        let state = state(version, "2");
        let commit = PageCommit { removed, events: Some(&events), ..page(&key, &held, &state, rows) };
        ledger.commit_page(commit).await.map(drop)
    };
    let taken = || std::mem::take(&mut *noted.0.lock().unwrap());
    commit(0, &[row("a", 1), pending("p", 1)], &[]).await.unwrap();
    assert_eq!(taken(), ["transactions a inserted 1 booked", "transactions p inserted 1 pending"]);
    commit(1, &[row("a", 1), pending("p", 1)], &[]).await.unwrap();
    assert!(taken().is_empty(), "nothing changed");
    commit(2, &[row("a", 2), replacing("b", "p")], &[key_of(None, "a")]).await.unwrap();
    assert_eq!(
        taken(),
        [
            "transactions a updated 2 booked",
            "transactions b inserted 1 booked",
            "transactions p updated 2 superseded",
            "transactions a removed 3 superseded"
        ]
    );
    commit(7, &[row("c", 1)], &[]).await.unwrap_err();
    assert!(taken().is_empty(), "a page that is refused has no events");
}
