//! Queries on stored rows, and changes of their identity.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::OpenLedger;
use super::fixtures::{at, commit, cursor_key, page, row, state, take};
use crate::domain::document::{DocumentKind, DocumentRecord};
use crate::domain::record::{DeadLetter, Granularity, KeyQuality, TransactionRecord};
use crate::domain::rejection_reason::RejectionReason;
use crate::ledger::page::PageCommit;
use crate::ledger::record::{RowIdentity, StoredTransaction, TransactionFilter};

pub(crate) async fn transactions_are_listed_newest_first_within_a_day(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let held = take(&*ledger, "me", at(0)).await;
    let booked = |key: &str, seconds: i64| {
        let mut record = row(key, 1);
        record.booked.at = Some(at(seconds));
        record.booked.granularity = Granularity::Instant;
        record
    };
    commit(&*ledger, &held, &state(0, "2"), &[booked("new", 9), booked("old", 3), booked("mid", 6)]).await.unwrap();
    let rows = ledger.list_transactions(&TransactionFilter::default(), 2).await.unwrap();
    assert_eq!(rows.iter().map(|r| r.record.key.as_str()).collect::<Vec<_>>(), ["new", "mid"]);
}

pub(crate) async fn a_filter_selects_by_stream_and_by_day(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let held = take(&*ledger, "me", at(0)).await;
    commit(&*ledger, &held, &state(0, "2"), &[row("a", 1)]).await.unwrap();
    let (day, all) = (jiff::civil::date(2026, 9, 1), TransactionFilter::default());
    let text = |text: &str| Some(text.to_owned());
    for (filter, expected) in [
        (TransactionFilter { namespace: text("team"), ..all.clone() }, 1),
        (TransactionFilter { namespace: text("other"), ..all.clone() }, 0),
        (TransactionFilter { connection: text("bank-a"), ..all.clone() }, 1),
        (TransactionFilter { connection: text("bank-b"), ..all.clone() }, 0),
        (TransactionFilter { stream: text("transactions"), ..all.clone() }, 1),
        (TransactionFilter { stream: text("balances"), ..all.clone() }, 0),
        (TransactionFilter { partition: text(""), ..all.clone() }, 1),
        (TransactionFilter { partition: text("two"), ..all.clone() }, 0),
        (TransactionFilter { from: Some(day), to: Some(day), ..all.clone() }, 1),
        (TransactionFilter { from: day.tomorrow().ok(), ..all.clone() }, 0),
        (TransactionFilter { to: day.yesterday().ok(), ..all.clone() }, 0),
    ] {
        assert_eq!(ledger.count_transactions(&filter).await.unwrap(), expected, "{filter:?}");
        assert_eq!(ledger.list_transactions(&filter, 9).await.unwrap().len() as u64, expected, "{filter:?}");
    }
}

pub(crate) async fn documents_are_listed_in_insertion_order(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let held = take(&*ledger, "me", at(0)).await;
    let documents = ["z", "a", "m"].map(|key| DocumentRecord {
        kind: DocumentKind::Document,
        key: key.into(),
        key_quality: KeyQuality::Derived,
        body: "{}".into(),
    });
    let (key, state) = (cursor_key("books", ""), state(0, "2"));
    let commit = PageCommit { documents: &documents, ..page(&key, &held, &state, &[]) };
    ledger.commit_page(commit).await.unwrap();
    let listed = ledger.list_documents(&TransactionFilter::default(), 2).await.unwrap();
    assert_eq!(listed.iter().map(|stored| stored.record.key.as_str()).collect::<Vec<_>>(), ["z", "a"]);
    let other = TransactionFilter { stream: Some("balances".into()), ..TransactionFilter::default() };
    assert!(ledger.list_documents(&other, 9).await.unwrap().is_empty());
}

pub(crate) async fn documents_and_dead_letters_are_listed_newest_first_for_people(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let held = take(&*ledger, "me", at(0)).await;
    let document = |key: &str| DocumentRecord {
        kind: DocumentKind::Document,
        key: key.into(),
        key_quality: KeyQuality::Derived,
        body: "{}".into(),
    };
    let letter = |fingerprint: &str, path: &str| DeadLetter {
        reason: RejectionReason::TimeMissing,
        path: path.into(),
        sample: "{id: string}".into(),
        fingerprint: fingerprint.into(),
        index: 0,
        page_no: 0,
    };
    let (key, first, second) = (cursor_key("books", ""), state(0, "2"), state(1, "3"));
    let (documents, letters) = ([document("a"), document("b")], [letter("x", "/date"), letter("y", "")]);
    let one =
        PageCommit { documents: &documents, dead_letters: &letters, now: at(10), ..page(&key, &held, &first, &[]) };
    ledger.commit_page(one).await.unwrap();
    let changed = [DocumentRecord { body: r#"{"n":1}"#.into(), ..document("a") }];
    let again = [letter("x", "/date")];
    let two = PageCommit { documents: &changed, dead_letters: &again, now: at(20), ..page(&key, &held, &second, &[]) };
    ledger.commit_page(two).await.unwrap();

    let all = TransactionFilter::default();
    let listed = ledger.newest_documents(&all, 9).await.unwrap();
    assert_eq!(listed.iter().map(|stored| stored.record.key.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    let listed = ledger.newest_dead_letters(&all, 9).await.unwrap();
    let shown: Vec<_> = listed.iter().map(|stored| (&*stored.reason, &*stored.path, stored.seen)).collect();
    assert_eq!(shown, [("TimeMissing", "/date", 2), ("TimeMissing", "", 1)]);
    assert_eq!((listed[0].first, listed[0].last, &*listed[0].sample), (at(10), at(20), "{id: string}"));
    let other = TransactionFilter { stream: Some("balances".into()), ..all };
    assert!(ledger.newest_dead_letters(&other, 9).await.unwrap().is_empty());
    assert_eq!(ledger.newest_documents(&TransactionFilter::default(), 1).await.unwrap().len(), 1);
}

pub(crate) async fn identities_are_replaced_in_pieces_and_a_duplicate_is_merged(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let held = take(&*ledger, "me", at(0)).await;
    let old = |key: &str, minor| TransactionRecord { account_token: "old".into(), ..row(key, minor) };
    let rows = [
        old("a", 1),
        old("b", 2),
        row("kept", 3),
        old("c", 4),
        TransactionRecord { account_token: "new".into(), ..row("c", 5) },
    ];
    commit(&*ledger, &held, &state(0, "2"), &rows).await.unwrap();
    let replace = |record: &TransactionRecord| {
        let is_old = record.account_token == "old";
        is_old.then(|| RowIdentity { account_token: "new".into(), record_key: format!("{}'", record.key) })
    };
    let mut pieces = 0;
    let mut after = Some(0);
    while let Some(row) = after {
        after = ledger.replace_identities(&held, row, 2, Arc::new(replace)).await.unwrap();
        pieces += 1;
    }
    assert_eq!(pieces, 4, "two rows at a time, and none after the last");
    let identities = async || {
        let stored = ledger.list_transactions(&TransactionFilter::default(), 10).await.unwrap();
        let identity = |row: StoredTransaction| (row.record.account_token, row.record.key, row.record.amount_minor);
        stored.into_iter().map(identity).collect::<BTreeSet<_>>()
    };
    let expected = [("new", "a'", 1), ("new", "b'", 2), ("t1", "kept", 3), ("new", "c'", 4), ("new", "c", 5)];
    assert_eq!(
        identities().await,
        expected.map(|(token, key, minor)| (token.to_owned(), key.to_owned(), minor)).into()
    );

    let same = |record: &TransactionRecord| {
        let id = record.key.trim_end_matches('\'').to_owned();
        Some(RowIdentity { account_token: record.account_token.clone(), record_key: id })
    };
    ledger.replace_identities(&held, 0, 100, Arc::new(same)).await.unwrap();
    assert_eq!(identities().await.len(), 4, "c and c' are one row");
    assert_eq!(ledger.replace_identities(&held, i64::MAX, 100, Arc::new(same)).await.unwrap(), None);
}
