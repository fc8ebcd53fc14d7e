//! The page transaction: rows, dead letters and cursor, complete or absent.

use std::task::Poll;

use super::OpenLedger;
use super::fixtures::{at, commit, count, cursor_key, page, row, state, take};
use crate::domain::document::{DocumentKind, DocumentRecord};
use crate::domain::record::{BookingTime, DeadLetter, Granularity, KeyQuality, RowStatus, TransactionRecord};
use crate::domain::rejection_reason::RejectionReason;
use crate::ledger::error::LedgerError;
use crate::ledger::page::{PageCommit, PageCounts};
use crate::ledger::record::TransactionFilter;

fn letter(fingerprint: &str) -> DeadLetter {
    DeadLetter {
        reason: RejectionReason::AmountMissing,
        path: "/amount".into(),
        sample: "{}".into(),
        fingerprint: fingerprint.into(),
        index: 0,
        page_no: 1,
    }
}

pub(crate) async fn every_field_is_read_back_unchanged(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let held = take(&*ledger, "me", at(0)).await;
    let bare = row("bare", -250);
    let full = TransactionRecord {
        key_quality: KeyQuality::Derived,
        booked: BookingTime {
            on: jiff::civil::date(2026, 9, 2),
            at: Some(at(7)),
            text: "2026-09-02T10:00:00+01:00".into(),
            granularity: Granularity::Instant,
        },
        amount: "123456789012345678.12345678".parse().unwrap(),
        amount_minor: i128::from(i64::MAX) * 1_000,
        status: RowStatus::Pending,
        counterparty: Some("Ünïcode – \u{1f3e6}".into()),
        narration: Some(String::new()),
        category: Some("bills".into()),
        ..row("full", 0)
    };
    commit(&*ledger, &held, &state(0, "2"), &[bare.clone(), full.clone()]).await.unwrap();
    let rows = ledger.list_transactions(&TransactionFilter::default(), 10).await.unwrap();
    assert_eq!(rows.iter().map(|row| &row.record).collect::<Vec<_>>(), [&full, &bare]);
    let stored = &rows[1];
    assert_eq!(
        (stored.namespace.as_str(), stored.connection.as_str(), stored.partition.as_str()),
        ("team", "bank-a", "")
    );
    assert_eq!((stored.revision, stored.created, stored.updated), (1, at(1), at(1)));
    assert_eq!(stored.record.amount.to_string(), "-2.50", "the scale is kept");
}

pub(crate) async fn a_repeated_page_writes_nothing_and_an_edit_updates_one_row(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let held = take(&*ledger, "me", at(0)).await;
    let many: Vec<_> = (0..123).map(|n| row(&format!("k{n}"), n)).collect();
    commit(&*ledger, &held, &state(0, "2"), &many).await.unwrap();
    let again = commit(&*ledger, &held, &state(1, "2"), &many).await.unwrap();
    assert_eq!(again.counts, PageCounts { inserted: 0, updated: 0, unchanged: 123 });
    let mut edited = many.clone();
    edited[77].amount_minor += 1;
    let edit = commit(&*ledger, &held, &state(2, "2"), &edited).await.unwrap();
    assert_eq!(edit.counts, PageCounts { inserted: 0, updated: 1, unchanged: 122 });
    let rows = ledger.list_transactions(&TransactionFilter::default(), 500).await.unwrap();
    assert_eq!(rows.iter().filter(|r| r.revision == 2).count(), 1);
}

pub(crate) async fn a_repeated_document_writes_nothing_and_an_edit_updates_it(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let held = take(&*ledger, "me", at(0)).await;
    let key = cursor_key("books", "");
    let document = |body: &str| DocumentRecord {
        kind: DocumentKind::Collateral,
        key: "c1".into(),
        key_quality: KeyQuality::Provider,
        body: body.into(),
    };
    let expected = [(1, 0, 0), (0, 0, 1), (0, 1, 0)];
    for (version, (body, counts)) in (0..).zip(["{}", "{}", r#"{"a":1}"#].into_iter().zip(expected)) {
        let (documents, state) = ([document(body)], state(version, "2"));
        let commit = PageCommit { documents: &documents, ..page(&key, &held, &state, &[]) };
        let PageCounts { inserted, updated, unchanged } = ledger.commit_page(commit).await.unwrap().counts;
        assert_eq!((inserted, updated, unchanged), counts, "{body}");
    }
    let stored = ledger.list_documents(&TransactionFilter::default(), 10).await.unwrap();
    assert_eq!((stored.len(), stored[0].revision, &stored[0].record), (1, 2, &document(r#"{"a":1}"#)));
    assert_eq!((stored[0].stream.as_str(), stored[0].created), ("transactions", at(1)));
}

pub(crate) async fn equal_content_is_unchanged_whatever_its_spelling(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let held = take(&*ledger, "me", at(0)).await;
    let key = cursor_key("books", "");
    let timed = |text: &str| BookingTime { at: Some(at(7)), text: text.into(), ..row("a", 700).booked };
    let spelled = |amount: &str, time: &str| TransactionRecord {
        amount: amount.parse().unwrap(),
        booked: timed(time),
        ..row("a", 700)
    };
    let document = |body: &str| DocumentRecord {
        kind: DocumentKind::Document,
        key: "d".into(),
        key_quality: KeyQuality::Provider,
        body: body.into(),
    };
    let (first, offset) = ("2026-09-01T10:00:00Z", "2026-09-01T11:00:00.000+01:00");
    for (version, (amount, time, body, changed)) in (0..).zip([
        ("7.0", first, r#"{"a":7.0,"b":"7.0"}"#, (2, 0)),
        ("7.00", first, r#"{"a":7.00,"b":"7.0"}"#, (0, 0)),
        ("7", offset, r#"{"a":0.7e1,"b":"7.0"}"#, (0, 0)),
        ("7.000000000000", first, r#"{"a":7,"b":"7.0"}"#, (0, 0)),
        ("70", first, r#"{"a":7,"b":"7.00"}"#, (0, 2)),
    ]) {
        let (documents, rows, state) = ([document(body)], [spelled(amount, time)], state(version, "2"));
        let commit = PageCommit { documents: &documents, ..page(&key, &held, &state, &rows) };
        let PageCounts { inserted, updated, .. } = ledger.commit_page(commit).await.unwrap().counts;
        assert_eq!((inserted, updated), changed, "{amount} {time} {body}");
    }
    // Without an instant, the text says all there is.
    let at_ten = |text: &str| TransactionRecord {
        booked: BookingTime { text: text.into(), ..row("b", 1).booked },
        ..row("b", 1)
    };
    for (version, text, updated) in [(5, "2026-09-01 10:00", 0), (6, "2026-09-01 11:00", 1)] {
        let counts = commit(&*ledger, &held, &state(version, "2"), &[at_ten(text)]).await.unwrap().counts;
        assert_eq!(counts.updated, updated, "{text}");
    }
}

pub(crate) async fn a_document_keeps_its_row_when_its_derived_key_changes(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let held = take(&*ledger, "me", at(0)).await;
    let key = cursor_key("books", "");
    let mut document = DocumentRecord {
        kind: DocumentKind::Document,
        key: String::new(),
        key_quality: KeyQuality::Derived,
        body: r#"{"a":7.00}"#.into(),
    };
    let new = format!("~{}-0", document.derived_key_base());
    document.key.clone_from(&new);
    let former = DocumentRecord { key: document.former_derived_key().unwrap(), ..document.clone() };
    for (version, stored, inserted) in [(0, former, 1), (1, document.clone(), 0), (2, document, 0)] {
        let (documents, state) = ([stored], state(version, "2"));
        let commit = PageCommit { documents: &documents, ..page(&key, &held, &state, &[]) };
        assert_eq!(ledger.commit_page(commit).await.unwrap().counts.inserted, inserted, "{version}");
    }
    let stored = ledger.list_documents(&TransactionFilter::default(), 10).await.unwrap();
    assert_eq!((stored.len(), stored[0].record.key.as_str(), stored[0].revision), (1, new.as_str(), 1));
}

pub(crate) async fn ids_are_case_sensitive_and_scoped_to_the_account(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let held = take(&*ledger, "me", at(0)).await;
    let other = TransactionRecord { account_token: "t2".into(), ..row("a", 1) };
    commit(&*ledger, &held, &state(0, "2"), &[row("a", 1), row("A", 1), other]).await.unwrap();
    assert_eq!(count(&*ledger).await, 3);
}

pub(crate) async fn an_old_fence_cannot_write(store: &impl OpenLedger) {
    let (one, two) = (store.writer().await, store.writer().await);
    let frozen = take(&*one, "one", at(0)).await;
    let newer = take(&*two, "two", at(15)).await;
    let error = commit(&*one, &frozen, &state(0, "2"), &[row("a", 1)]).await.unwrap_err();
    assert!(matches!(error, LedgerError::Fenced { .. }) && !error.is_transient(), "{error}");
    assert_eq!(count(&*one).await, 0);
    commit(&*two, &newer, &state(0, "2"), &[row("a", 1)]).await.unwrap();
}

pub(crate) async fn a_stale_cursor_version_rejects_the_page(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let held = take(&*ledger, "me", at(0)).await;
    for stale in [1, 7] {
        let error = commit(&*ledger, &held, &state(stale, "9"), &[row("x", 1)]).await.unwrap_err();
        assert!(matches!(error, LedgerError::VersionConflict { .. }), "no cursor yet, version {stale}: {error}");
    }
    commit(&*ledger, &held, &state(0, "2"), &[row("a", 1)]).await.unwrap();
    for stale in [0, 2] {
        let error = commit(&*ledger, &held, &state(stale, "9"), &[row("x", 1)]).await.unwrap_err();
        assert!(matches!(error, LedgerError::VersionConflict { expected } if expected == stale), "{error}");
    }
    assert_eq!(count(&*ledger).await, 1);
}

pub(crate) async fn a_page_of_another_process_rejects_the_version_it_replaced(store: &impl OpenLedger) {
    let (one, two) = (store.writer().await, store.writer().await);
    let held = take(&*one, "me", at(0)).await;
    commit(&*one, &held, &state(0, "2"), &[row("a", 1)]).await.unwrap();
    let error = commit(&*two, &held, &state(0, "2"), &[row("b", 1)]).await.unwrap_err();
    assert!(matches!(error, LedgerError::VersionConflict { .. }), "{error}");
    assert_eq!(two.load_cursor(&cursor_key("books", "")).await.unwrap().unwrap().version, 1);
    commit(&*two, &held, &state(1, "3"), &[row("b", 1)]).await.unwrap();
    assert_eq!(count(&*one).await, 2);
}

pub(crate) async fn a_rejected_page_leaves_nothing(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let held = take(&*ledger, "me", at(0)).await;
    let (key, stale, letters) = (cursor_key("books", ""), state(3, "9"), [letter("f1")]);
    let rows = [row("a", 1)];
    let commit = PageCommit { dead_letters: &letters, ..page(&key, &held, &stale, &rows) };
    ledger.commit_page(commit).await.unwrap_err();
    assert_eq!(ledger.load_cursor(&key).await.unwrap(), None);
    let all = TransactionFilter::default();
    assert_eq!((count(&*ledger).await, ledger.count_dead_letters(&all).await.unwrap()), (0, 0));
}

pub(crate) async fn pages_of_one_commit_are_stored_in_their_order_or_none_of_them(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let held = take(&*ledger, "me", at(0)).await;
    let key = cursor_key("books", "");
    let (first, second, third, wrong) = (state(0, "2"), state(1, "3"), state(2, "4"), state(7, "5"));
    let (rows, more, letters) = ([row("a", 1), row("b", 1)], [row("b", 2), row("c", 1)], [letter("f")]);
    let pages = |last| {
        vec![
            page(&key, &held, &first, &rows),
            PageCommit { dead_letters: &letters, ..page(&key, &held, &second, &more) },
            page(&key, &held, last, &[]),
        ]
    };
    let all = TransactionFilter::default();
    // The third page is refused: nothing of the two before it is there.
    let refused = ledger.commit_pages(pages(&wrong)).await.unwrap_err();
    assert!(matches!(refused, LedgerError::VersionConflict { expected: 7 }), "{refused:?}");
    assert_eq!(ledger.load_cursor(&key).await.unwrap(), None);
    assert_eq!((count(&*ledger).await, ledger.count_dead_letters(&all).await.unwrap()), (0, 0));
    let outcomes = ledger.commit_pages(pages(&third)).await.unwrap();
    let versions: Vec<_> = outcomes.iter().map(|outcome| outcome.version).collect();
    assert_eq!(versions, [1, 2, 3]);
    let counts: Vec<_> = outcomes.iter().map(|o| (o.counts.inserted, o.counts.updated)).collect();
    assert_eq!(counts, [(2, 0), (1, 1), (0, 0)], "a record of two pages has the content of the later one");
    let stored = ledger.load_cursor(&key).await.unwrap().unwrap();
    assert_eq!((stored.version, stored.window), (3, third.window.clone()));
    assert_eq!((count(&*ledger).await, ledger.count_dead_letters(&all).await.unwrap()), (3, 1));
    // Once: the same pages again are a conflict, and so are pages of another writer.
    let again = ledger.commit_pages(pages(&third)).await.unwrap_err();
    assert!(matches!(again, LedgerError::VersionConflict { expected: 0 }), "{again:?}");
    assert!(ledger.commit_pages(Vec::new()).await.unwrap().is_empty());
}

pub(crate) async fn a_rejected_record_read_again_is_one_dead_letter(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let held = take(&*ledger, "me", at(0)).await;
    let (key, dead_letters) = (cursor_key("books", ""), [letter("f1"), letter("f2")]);
    for version in 0..3 {
        let state = state(version, "2");
        let commit = PageCommit { dead_letters: &dead_letters, fetched: 2, ..page(&key, &held, &state, &[]) };
        ledger.commit_page(commit).await.unwrap();
    }
    assert_eq!(ledger.count_dead_letters(&TransactionFilter::default()).await.unwrap(), 2);
}

/// The commit's future is dropped after any number of steps: page and cursor are committed together or not at all.
pub(crate) async fn a_commit_dropped_at_any_step_is_complete_or_absent(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let held = take(&*ledger, "me", at(0)).await;
    for steps in 1..40_u32 {
        // Another partition each time, with another number of rows.
        let key = cursor_key("books", &steps.to_string());
        let rows: Vec<_> = (0..=i64::from(steps * 37 % 160)).map(|n| row(&format!("k{n}"), n)).collect();
        let first = state(0, "2");
        let mut commit = ledger.commit_page(page(&key, &held, &first, &rows));
        // Polled only on wake-up, so that each poll is one step.
        let mut left = steps;
        futures::future::poll_fn(|cx| {
            let ended = commit.as_mut().poll(cx).is_ready();
            left = left.saturating_sub(1);
            if ended || left == 0 { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        drop(commit);
        let version = ledger.load_cursor(&key).await.unwrap().map_or(0, |state| state.version);
        // The next writer continues from the stored version.
        let resumed = ledger.commit_page(page(&key, &held, &state(version, "3"), &rows)).await.unwrap();
        let expected = rows.len() as u64;
        assert_eq!(resumed.counts.inserted, if version == 0 { expected } else { 0 }, "{steps} steps");
        let filter = TransactionFilter { partition: Some(steps.to_string()), ..TransactionFilter::default() };
        assert_eq!(ledger.count_transactions(&filter).await.unwrap(), expected, "{steps} steps");
    }
}
