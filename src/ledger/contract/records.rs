//! Records of every kind: each is a row of its own table, compared before it is written.

use jiff::civil::date;

use super::OpenLedger;
use super::fixtures::{at, books, cursor_key, of_source, page, row, state, take};
use crate::domain::cursor::resync_job;
use crate::domain::document::{DocumentKind, DocumentRecord};
use crate::domain::record::{BookingTime, Granularity, KeyQuality};
use crate::domain::records::{
    AccountRecord, ArticleRecord, BalanceRecord, CanonicalRecord, CollateralRecord, ObservationRecord, QuoteRecord,
    RecordIdentity, TABLES,
};
use crate::domain::row_batch::{Cell, RowBatch};
use crate::ledger::error::LedgerError;
use crate::ledger::lease::Lease;
use crate::ledger::page::{PageCommit, PageCounts};
use crate::ledger::record::TransactionFilter;
use crate::ledger::sources::{ExistingJobs, SourceAdoption};
use crate::ledger::store::Ledger;

/// An amount with more digits than a float has.
const EXACT: &str = "12345678901234567.89";

fn identity(account_token: &str, key: &str) -> RecordIdentity {
    RecordIdentity { account_token: account_token.into(), key: key.into(), key_quality: KeyQuality::Provider }
}

fn time(second: i64) -> BookingTime {
    let (on, text) = (date(2026, 9, 2), "2026-09-02T10:00:00+01:00".to_owned());
    BookingTime { on, at: Some(at(second)), text, granularity: Granularity::Instant }
}

/// A balance of an account.
pub(super) fn balance(account_token: &str, key: &str, amount: &str) -> CanonicalRecord {
    CanonicalRecord::Balance(BalanceRecord {
        identity: identity(account_token, key),
        account: "****1234".into(),
        kind: Some("interimAvailable".into()),
        amount: amount.parse().unwrap(),
        amount_minor: 1,
        currency: "EUR".into(),
        time: Some(time(7)),
    })
}

/// A record of each kind; `text` is somewhere in each.
pub(super) fn of_each_kind(text: &str) -> Vec<CanonicalRecord> {
    let exact = || EXACT.parse().unwrap();
    vec![
        CanonicalRecord::Account(AccountRecord {
            identity: identity("t1", "a"),
            account: "****1234".into(),
            currency: Some("EUR".into()),
            name: Some(text.into()),
            holder: None,
            kind: None,
            status: None,
            institution: None,
        }),
        CanonicalRecord::Balance(BalanceRecord {
            identity: identity("t1", "a"),
            account: text.into(),
            kind: None,
            amount: exact(),
            amount_minor: i128::from(i64::MAX) * 1_000,
            currency: "EUR".into(),
            time: Some(time(7)),
        }),
        CanonicalRecord::Collateral(CollateralRecord {
            identity: identity("", "a"),
            kind: Some(text.into()),
            status: None,
            currency: Some("EUR".into()),
            value: Some(exact()),
            net_value: None,
            discounted_value: None,
            valued: None,
            body: r#"{"city":"Lagos","id":"a","size":7.50}"#.into(),
        }),
        CanonicalRecord::Quote(QuoteRecord {
            identity: identity("", "a"),
            symbol: "X".into(),
            name: Some(text.into()),
            currency: None,
            span: None,
            price: exact(),
            open: None,
            high: None,
            low: None,
            previous_close: None,
            volume: Some("9007199254740993".parse().unwrap()),
            time: Some(time(7)),
        }),
        CanonicalRecord::Observation(ObservationRecord {
            identity: identity("", "a"),
            series: text.into(),
            on: date(2026, 9, 1),
            value: Some(exact()),
            known_from: Some(date(2026, 9, 2)),
            known_to: None,
        }),
        CanonicalRecord::Article(ArticleRecord {
            identity: identity("", "a"),
            url: "https://news.example/a".into(),
            title: Some(text.into()),
            source: None,
            author: None,
            description: None,
            content: None,
            published: Some(time(7)),
        }),
    ]
}

/// Commits records as the next version of the cursor of `books`.
pub(super) async fn commit_records(
    ledger: &dyn Ledger,
    lease: &Lease,
    version: i64,
    records: &[CanonicalRecord],
) -> Result<PageCounts, LedgerError> {
    let (key, state) = (cursor_key("books", ""), state(version, "2"));
    let commit = PageCommit { records, now: at(10 + version), ..page(&key, lease, &state, &[]) };
    Ok(ledger.commit_page(commit).await?.counts)
}

/// The records of all kinds in the store, without those that were withdrawn.
async fn total(ledger: &dyn Ledger) -> u64 {
    let mut total = 0;
    for table in &TABLES {
        total += ledger.count_records(table, &TransactionFilter::default()).await.unwrap();
    }
    total
}

fn counts(inserted: u64, updated: u64, unchanged: u64) -> PageCounts {
    PageCounts { inserted, updated, unchanged }
}

pub(crate) async fn a_record_of_each_kind_is_read_back_and_written_only_when_it_changes(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let held = take(&*ledger, "me", at(0)).await;
    let first = of_each_kind("one");
    assert_eq!(first.len(), TABLES.len(), "one of each kind");
    let expected = [("one", counts(6, 0, 0)), ("one", counts(0, 0, 6)), ("two", counts(0, 6, 0))];
    for (version, (text, expected)) in (0..).zip(expected) {
        let found = commit_records(&*ledger, &held, version, &of_each_kind(text)).await.unwrap();
        assert_eq!(found, expected, "{text}");
    }
    let batches = RowBatch::of_records(&of_each_kind("two"));
    for (table, batch) in TABLES.iter().zip(&batches) {
        let stored = ledger.newest_records(table, &TransactionFilter::default(), 10).await.unwrap();
        assert_eq!(stored.len(), 1, "{}", table.name);
        let (stored, expected) = (&stored[0], batch.row(0).unwrap());
        let row = stored.record.row(0).unwrap();
        assert_eq!((row.key(), row.account_token()), (expected.key(), expected.account_token()));
        assert_eq!(row.cells().collect::<Vec<_>>(), expected.cells().collect::<Vec<_>>(), "{}", table.name);
        assert_eq!((stored.revision, stored.created, stored.updated), (2, at(10), at(12)), "{}", table.name);
        assert_eq!((stored.namespace.as_str(), stored.connection.as_str()), ("team", "bank-a"));
    }
}

pub(crate) async fn an_unchanged_record_keeps_the_time_of_its_last_change(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let held = take(&*ledger, "me", at(0)).await;
    for version in 0..3 {
        commit_records(&*ledger, &held, version, &[balance("t1", "a", "7.0")]).await.unwrap();
    }
    // Spelled differently, it is the same.
    let again = commit_records(&*ledger, &held, 3, &[balance("t1", "a", "7.00")]).await.unwrap();
    assert_eq!(again, counts(0, 0, 1));
    let stored = ledger.newest_records(&TABLES[1], &TransactionFilter::default(), 10).await.unwrap();
    assert_eq!((stored[0].revision, stored[0].updated), (1, at(10)));
    assert_eq!(stored[0].record.row(0).unwrap().get("amount"), Cell::Text("7.0"), "as it was written first");
}

pub(crate) async fn keys_of_two_accounts_are_two_records(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let held = take(&*ledger, "me", at(0)).await;
    let records = [balance("t1", "a", "1"), balance("t2", "a", "2"), balance("t1", "A", "3")];
    assert_eq!(commit_records(&*ledger, &held, 0, &records).await.unwrap(), counts(3, 0, 0));
    assert_eq!(commit_records(&*ledger, &held, 1, &records).await.unwrap(), counts(0, 0, 3));
}

pub(crate) async fn a_page_of_several_kinds_counts_all_of_them(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let held = take(&*ledger, "me", at(0)).await;
    let (key, rows, records) = (cursor_key("books", ""), [row("a", 1), row("b", 2)], of_each_kind("one"));
    let documents = [DocumentRecord {
        kind: DocumentKind::Document,
        key: "a".into(),
        key_quality: KeyQuality::Provider,
        body: "{}".into(),
    }];
    for (version, expected) in [(0, counts(9, 0, 0)), (1, counts(0, 0, 9))] {
        let state = state(version, "2");
        let commit = PageCommit { documents: &documents, records: &records, ..page(&key, &held, &state, &rows) };
        assert_eq!(ledger.commit_page(commit).await.unwrap().counts, expected);
    }
}

pub(crate) async fn texts_that_an_engine_cannot_store_are_repaired_and_large_ones_are_kept(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let held = take(&*ledger, "me", at(0)).await;
    let large = "x".repeat(255 * 1024);
    let article = |key: &str, title: &str| {
        let CanonicalRecord::Article(article) = of_each_kind(title).remove(5) else { unreachable!("the sixth kind") };
        CanonicalRecord::Article(ArticleRecord { identity: identity("", key), ..article })
    };
    let mut nul = row("nul", 1);
    nul.narration = Some("a\0b".into());
    let (key, first, rows) = (cursor_key("books", ""), state(0, "2"), [nul]);
    let records = [article("nul", "a\0b"), article("large", &large), article("wide", "\u{1f3e6}\u{202e}'\"\\\n")];
    let commit = PageCommit { records: &records, ..page(&key, &held, &first, &rows) };
    assert_eq!(ledger.commit_page(commit).await.unwrap().counts, counts(4, 0, 0));
    let stored = ledger.newest_records(&TABLES[5], &TransactionFilter::default(), 10).await.unwrap();
    let title = |key: &str| {
        let row = stored.iter().find_map(|stored| stored.record.row(0).filter(|row| row.key() == key)).unwrap();
        row.get("title").as_text().unwrap().to_owned()
    };
    assert_eq!((title("nul"), title("large")), ("a\u{fffd}b".to_owned(), large));
    assert_eq!(title("wide"), "\u{1f3e6}\u{202e}'\"\\\n");
    let narration =
        ledger.list_transactions(&TransactionFilter::default(), 1).await.unwrap()[0].record.narration.clone();
    assert_eq!(narration.as_deref(), Some("a\u{fffd}b"));
    let second = state(1, "2");
    let again = PageCommit { records: &records, ..page(&key, &held, &second, &rows) };
    assert_eq!(ledger.commit_page(again).await.unwrap().counts, counts(0, 0, 4));
}

pub(crate) async fn records_are_listed_by_stream_and_last_change(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let held = take(&*ledger, "me", at(0)).await;
    commit_records(&*ledger, &held, 0, &[balance("t1", "a", "1"), balance("t1", "b", "2")]).await.unwrap();
    commit_records(&*ledger, &held, 1, &[balance("t1", "a", "3")]).await.unwrap();
    let named = |stream: &str| TransactionFilter { stream: Some(stream.into()), ..TransactionFilter::default() };
    let listed = ledger.newest_records(&TABLES[1], &named("transactions"), 9).await.unwrap();
    let keys: Vec<_> = listed.iter().map(|stored| stored.record.row(0).unwrap().key()).collect();
    assert_eq!(keys, ["a", "b"]);
    assert_eq!(ledger.newest_records(&TABLES[1], &named("transactions"), 1).await.unwrap().len(), 1);
    assert!(ledger.newest_records(&TABLES[1], &named("others"), 9).await.unwrap().is_empty());
    assert_eq!(ledger.count_records(&TABLES[1], &named("transactions")).await.unwrap(), 2);
    assert_eq!(ledger.count_records(&TABLES[0], &named("transactions")).await.unwrap(), 0);
}

pub(crate) async fn the_values_of_a_field_are_distinct_ordered_and_of_one_job(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let held = take(&*ledger, "me", at(0)).await;
    let mut records = of_each_kind("one");
    records.extend([balance("t1", "b", "1"), balance("t1", "c", "1")]);
    let (key, first) = (cursor_key("books", ""), state(0, "2"));
    let documents = ["z", "y"].map(|id| DocumentRecord {
        kind: DocumentKind::Document,
        key: id.into(),
        key_quality: KeyQuality::Provider,
        body: format!(r#"{{"place":"{id}-1","size":7}}"#),
    });
    let commit = PageCommit { documents: &documents, records: &records, ..page(&key, &held, &first, &[]) };
    ledger.commit_page(commit).await.unwrap();
    let values = async |job: &str, field: &str, limit| {
        ledger.partition_values(&books().sibling(job), field, limit).await.unwrap()
    };
    assert_eq!(values("books", "id", 10).await, ["a", "b", "c", "y", "z"]);
    assert_eq!(values("books", "key", 2).await, ["a", "b"]);
    assert_eq!(values("books", "symbol", 10).await, ["X"], "a column");
    assert_eq!(values("books", "place", 10).await, ["y-1", "z-1"], "a member of a document");
    assert_eq!(values("books", "city", 10).await, ["Lagos"], "a member of a collateral");
    for unknown in ["no_such", "'; DROP TABLE quotes; --", "body"] {
        assert!(values("books", unknown, 10).await.is_empty(), "{unknown}");
    }
    assert!(values("other", "id", 10).await.is_empty(), "another job's");
}

pub(crate) async fn a_deleted_job_takes_the_records_of_every_kind_with_it(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let held = take(&*ledger, "me", at(0)).await;
    commit_records(&*ledger, &held, 0, &of_each_kind("one")).await.unwrap();
    // Another cursor of the same job, for its resyncs, makes no other reader of it.
    let (resync, first) = (cursor_key(&resync_job("books"), ""), state(0, "2"));
    ledger.commit_page(page(&resync, &held, &first, &[row("a", 1)])).await.unwrap();
    let shared = cursor_key("other", "");
    ledger.commit_page(page(&shared, &held, &first, &[])).await.unwrap();
    let kept = ledger.delete_job(&books(), &ExistingJobs::from(["other".into()]), &held).await.unwrap();
    assert_eq!((kept.rows, kept.kept.len(), kept.kept[0].readers.clone()), (0, 1, vec!["other".to_owned()]));
    assert_eq!(ledger.load_cursor(&resync).await.unwrap(), None);
    assert_eq!(total(&*ledger).await, 6);
    let erasure = ledger.delete_job(&books().sibling("other"), &ExistingJobs::new(), &held).await.unwrap();
    assert_eq!((erasure.rows, total(&*ledger).await), (7, 0));
}

pub(crate) async fn records_of_every_kind_are_merged_into_their_source(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let held = take(&*ledger, "me", at(0)).await;
    let own = of_source("books", "s1");
    let first = state(0, "2");
    let older = of_each_kind("older");
    ledger.commit_page(PageCommit { records: &older, ..page(&own, &held, &first, &[]) }).await.unwrap();
    commit_records(&*ledger, &held, 0, &of_each_kind("newer")).await.unwrap();
    assert_eq!(total(&*ledger).await, 12);
    let adoption = SourceAdoption { cursor: &own, source_hashes: ["h".into(), String::new()], lease: &held };
    assert!(ledger.adopt_source(&adoption).await.unwrap());
    assert_eq!(total(&*ledger).await, 6, "each once");
    let articles = ledger.newest_records(&TABLES[5], &TransactionFilter::default(), 9).await.unwrap();
    assert_eq!(articles[0].record.row(0).unwrap().get("title"), Cell::Text("newer"));
}
