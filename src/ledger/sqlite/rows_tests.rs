//! What the page transaction does to the file: the journal's size, and the writes that it saves.

use super::fault_tests::dump;
use super::tests::new_ledger;
use crate::ledger::contract::{at, commit, count, row, state, take};
use crate::ledger::store::Ledger as _;

/// Largest journal: that of the pages after which it is moved to the file, and one transaction more.
const MOST_JOURNAL: u64 = 32 << 20;

#[tokio::test]
async fn the_journal_stays_small_however_many_pages_are_committed() {
    let (store, ledger) = new_ledger().await;
    let held = take(&ledger, "me", at(0)).await;
    let journal = store.path().with_extension("db-wal");
    let mut largest = 0;
    for page in 0..60_i64 {
        // In no order, so that each page touches most leaves of the index.
        let rows: Vec<_> = (0..500).map(|n| row(&format!("{:x}", (page * 500 + n) * 7_919 % 1_000_003), n)).collect();
        commit(&ledger, &held, &state(page, "2"), &rows).await.unwrap();
        largest = largest.max(std::fs::metadata(&journal).map_or(0, |file| file.len()));
    }
    assert_eq!(count(&ledger).await, 30_000);
    assert!(largest > 0 && largest < MOST_JOURNAL, "{largest} bytes");
    ledger.close().await;
}

#[tokio::test]
async fn a_page_read_again_changes_only_its_cursor() {
    let (store, ledger) = new_ledger().await;
    let held = take(&ledger, "me", at(0)).await;
    let rows: Vec<_> = (0..50).map(|n| row(&format!("k{n}"), n)).collect();
    commit(&ledger, &held, &state(0, "2"), &rows).await.unwrap();
    let without_cursor = || dump(&store).into_iter().filter(|line| !line.starts_with("sync_state")).collect::<Vec<_>>();
    let before = without_cursor();
    commit(&ledger, &held, &state(1, "2"), &rows).await.unwrap();
    assert_eq!(without_cursor(), before);
    ledger.close().await;
}
