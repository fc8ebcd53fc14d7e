//! The sources of a stream: their rows stay apart, and what was stored before there were sources is adopted.

use super::OpenLedger;
use super::fixtures::{at, books, count, cursor_key, of_source, page, row, take};
use crate::domain::cursor::{CursorKey, CursorState};
use crate::ledger::lease::Lease;
use crate::ledger::record::TransactionFilter;
use crate::ledger::sources::{ExistingJobs, SourceAdoption};
use crate::ledger::store::Ledger;

/// Commits a row of this amount under the ID `a`, of a source with this hash.
async fn commit(ledger: &dyn Ledger, lease: &Lease, key: &CursorKey, source_hash: &str, minor: i64) {
    let stored = ledger.load_cursor(key).await.unwrap().unwrap_or_default();
    let state = CursorState { spec_hash: format!("{source_hash}.p"), ..stored };
    ledger.commit_page(page(key, lease, &state, &[row("a", minor)])).await.unwrap();
}

/// Has `job` adopt what is there for the source `s1`.
async fn adopt(ledger: &dyn Ledger, lease: &Lease, job: &str) -> bool {
    let (cursor, source_hashes) = (of_source(job, "s1"), ["keyed".to_owned(), "plain".to_owned()]);
    ledger.adopt_source(&SourceAdoption { cursor: &cursor, source_hashes, lease }).await.unwrap()
}

async fn amounts(ledger: &dyn Ledger) -> Vec<(i128, u32)> {
    let rows = ledger.list_transactions(&TransactionFilter::default(), 10).await.unwrap();
    let mut found: Vec<_> = rows.iter().map(|row| (row.record.amount_minor, row.revision)).collect();
    found.sort_unstable();
    found
}

pub(crate) async fn rows_of_two_sources_with_equal_ids_stay_apart(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let held = take(&*ledger, "me", at(0)).await;
    for (source, minor) in [("s1", 1), ("s2", 2)] {
        commit(&*ledger, &held, &of_source("books", source), source, minor).await;
    }
    assert_eq!(amounts(&*ledger).await, [(1, 1), (2, 1)]);
    let named = |stream: &str| TransactionFilter { stream: Some(stream.to_owned()), ..TransactionFilter::default() };
    assert_eq!(ledger.count_transactions(&named("transactions")).await.unwrap(), 2, "both are of the stream");
    assert_eq!(ledger.count_transactions(&named("transaction")).await.unwrap(), 0);
    let cursors = ledger.job_history(&books(), 10, at(1)).await.unwrap().cursors;
    assert_eq!(cursors.len(), 1, "the former source of a job is none of its partitions");
}

pub(crate) async fn the_only_rows_of_a_stream_become_those_of_its_source(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let held = take(&*ledger, "me", at(0)).await;
    assert!(!adopt(&*ledger, &held, "books").await, "there are none");
    // By the job itself, whatever its path was; by another job of the same source; by each form of its hash.
    for (reader, hash) in [("books", "moved"), ("other", "keyed"), ("other", "plain")] {
        commit(&*ledger, &held, &cursor_key(reader, ""), hash, 7).await;
        assert!(adopt(&*ledger, &held, "books").await, "{reader} {hash}");
        assert_eq!(amounts(&*ledger).await, [(7, 1)]);
        assert_eq!(ledger.load_cursor(&cursor_key(reader, "")).await.unwrap(), None);
        let cursor = ledger.load_cursor(&of_source(reader, "s1")).await.unwrap().unwrap();
        assert_eq!(cursor.spec_hash, format!("{hash}.p"), "it goes on from there");
        assert!(!adopt(&*ledger, &held, "books").await, "once");
        for job in ["books", "other"] {
            ledger.delete_job(&books().sibling(job), &ExistingJobs::new(), &held).await.unwrap();
        }
        assert_eq!(count(&*ledger).await, 0);
    }
}

pub(crate) async fn mixed_rows_of_several_sources_are_not_adopted(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let held = take(&*ledger, "me", at(0)).await;
    commit(&*ledger, &held, &cursor_key("other", ""), "theirs", 1).await;
    assert!(!adopt(&*ledger, &held, "books").await, "rows of another source");
    commit(&*ledger, &held, &cursor_key("books", ""), "keyed", 2).await;
    assert!(!adopt(&*ledger, &held, "books").await, "rows of two sources");
    assert_eq!(amounts(&*ledger).await, [(2, 2)]);
    assert!(ledger.load_cursor(&cursor_key("other", "")).await.unwrap().is_some());
    // The job reads its source anew; where it is there is what its status shows.
    let own = of_source("books", "s1");
    commit(&*ledger, &held, &own, "keyed", 2).await;
    let cursors = ledger.job_history(&books(), 10, at(1)).await.unwrap().cursors;
    assert_eq!(cursors.iter().map(|(stream, _)| stream).collect::<Vec<_>>(), [&own.stream]);
}

pub(crate) async fn rows_of_an_older_version_are_merged_into_their_source(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let held = take(&*ledger, "me", at(0)).await;
    commit(&*ledger, &held, &of_source("books", "s1"), "keyed", 1).await;
    // A version without sources ran in between, and read the same source again.
    commit(&*ledger, &held, &cursor_key("books", ""), "keyed", 2).await;
    assert!(adopt(&*ledger, &held, "books").await);
    assert_eq!(amounts(&*ledger).await, [(2, 1)], "the later one, once");
    commit(&*ledger, &held, &cursor_key("books", ""), "theirs", 3).await;
    assert!(!adopt(&*ledger, &held, "books").await, "another source of the same job");
    assert_eq!(amounts(&*ledger).await, [(2, 1), (3, 1)]);
}
