//! Windows that take effect as a whole: staged page by page, merged by the last one, dropped by a restart.

use super::OpenLedger;
use super::closing::statuses;
use super::fixtures::{at, books, count, cursor_key, page, row, state, take};
use super::records::balance;
use crate::domain::cursor::CursorState;
use crate::domain::record::TransactionRecord;
use crate::domain::records::{RemovedKey, TABLES};
use crate::ledger::error::LedgerError;
use crate::ledger::lease::Lease;
use crate::ledger::page::{CommitScope, PageCommit, PageCounts, PageOutcome};
use crate::ledger::record::TransactionFilter;
use crate::ledger::sources::ExistingJobs;
use crate::ledger::store::{Ledger, OpenMode};

/// Commits the next page of the job `books`, whose window is open unless the page merges it.
async fn commit(
    ledger: &dyn Ledger,
    lease: &Lease,
    scope: CommitScope,
    rows: &[TransactionRecord],
    removed: &[&str],
) -> Result<PageOutcome, LedgerError> {
    let key = cursor_key("books", "");
    let version = ledger.load_cursor(&key).await?.map_or(0, |state| state.version);
    let open = state(version, "2");
    let state = if scope == CommitScope::Merge { CursorState { window: None, ..open } } else { open };
    let removed: Vec<RemovedKey> =
        removed.iter().map(|key| RemovedKey { account_token: None, key: (*key).to_owned() }).collect();
    ledger.commit_page(PageCommit { scope, removed: &removed, ..page(&key, lease, &state, rows) }).await
}

async fn amounts(ledger: &dyn Ledger) -> Vec<(String, i128)> {
    let rows = ledger.list_transactions(&TransactionFilter::default(), 10_000).await.unwrap();
    let mut found: Vec<_> = rows.into_iter().map(|row| (row.record.key, row.record.amount_minor)).collect();
    found.sort();
    found
}

fn named(found: &[(&str, i128)]) -> Vec<(String, i128)> {
    found.iter().map(|(key, minor)| ((*key).to_owned(), *minor)).collect()
}

fn counts(inserted: u64, updated: u64, unchanged: u64) -> PageCounts {
    PageCounts { inserted, updated, unchanged }
}

pub(crate) async fn a_window_takes_effect_with_its_last_page(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let held = take(&*ledger, "me", at(0)).await;
    let (first, second, last) = ([row("a", 1), row("b", 2)], [row("c", 3)], [row("d", 4)]);
    let staged = commit(&*ledger, &held, CommitScope::StageFirst, &first, &[]).await.unwrap();
    assert_eq!((staged.counts, staged.version), (counts(0, 0, 0), 1));
    ledger.close().await;
    // Staged durably: another process goes on with the window.
    let ledger = store.open(OpenMode::Existing).await.unwrap();
    commit(&*ledger, &held, CommitScope::StageNext, &second, &[]).await.unwrap();
    assert_eq!(count(&*ledger).await, 0);
    let merged = commit(&*ledger, &held, CommitScope::Merge, &last, &[]).await.unwrap();
    assert_eq!((merged.counts, merged.version), (counts(4, 0, 0), 3));
    assert_eq!(amounts(&*ledger).await, named(&[("a", 1), ("b", 2), ("c", 3), ("d", 4)]));
    // The next window stages anew: nothing of this one is merged again.
    commit(&*ledger, &held, CommitScope::StageFirst, &[row("a", 9)], &[]).await.unwrap();
    let next = commit(&*ledger, &held, CommitScope::Merge, &[row("b", 2)], &[]).await.unwrap();
    assert_eq!(next.counts, counts(0, 1, 1));
}

pub(crate) async fn a_restarted_window_drops_what_it_had_staged(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let held = take(&*ledger, "me", at(0)).await;
    commit(&*ledger, &held, CommitScope::StageFirst, &[row("gone", 1)], &["other"]).await.unwrap();
    commit(&*ledger, &held, CommitScope::StageFirst, &[row("a", 1)], &[]).await.unwrap();
    commit(&*ledger, &held, CommitScope::Merge, &[], &[]).await.unwrap();
    assert_eq!(amounts(&*ledger).await, named(&[("a", 1)]));
    // A discarded window leaves nothing for the next merge.
    commit(&*ledger, &held, CommitScope::StageFirst, &[row("b", 1)], &["a"]).await.unwrap();
    commit(&*ledger, &held, CommitScope::Discard, &[], &[]).await.unwrap();
    let merged = commit(&*ledger, &held, CommitScope::Merge, &[row("c", 1)], &[]).await.unwrap();
    assert_eq!(merged.counts, counts(1, 0, 0));
    assert_eq!(statuses(&*ledger).await, ["a booked", "c booked"]);
    // So does a window that ends page by page, after its profile changed.
    commit(&*ledger, &held, CommitScope::StageFirst, &[row("d", 1)], &[]).await.unwrap();
    let key = cursor_key("books", "");
    let version = ledger.load_cursor(&key).await.unwrap().unwrap().version;
    let ended = CursorState { window: None, ..state(version, "2") };
    ledger.commit_page(page(&key, &held, &ended, &[row("e", 1)])).await.unwrap();
    commit(&*ledger, &held, CommitScope::Merge, &[], &[]).await.unwrap();
    assert_eq!(statuses(&*ledger).await, ["a booked", "c booked", "e booked"]);
}

pub(crate) async fn a_key_of_several_pages_counts_once_with_its_last_content(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let held = take(&*ledger, "me", at(0)).await;
    commit(&*ledger, &held, CommitScope::Page, &[row("known", 1)], &[]).await.unwrap();
    let other = TransactionRecord { account_token: "t2".into(), ..row("a", 7) };
    commit(&*ledger, &held, CommitScope::StageFirst, &[row("a", 1), other, row("known", 2)], &[]).await.unwrap();
    commit(&*ledger, &held, CommitScope::StageNext, &[row("a", 2)], &[]).await.unwrap();
    let merged = commit(&*ledger, &held, CommitScope::Merge, &[row("a", 3), row("known", 1)], &[]).await.unwrap();
    assert_eq!(merged.counts, counts(2, 0, 1));
    assert_eq!(amounts(&*ledger).await, named(&[("a", 3), ("a", 7), ("known", 1)]));
}

pub(crate) async fn what_a_window_withdraws_after_it_listed_it_never_takes_effect(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let held = take(&*ledger, "me", at(0)).await;
    commit(&*ledger, &held, CommitScope::Page, &[row("stored", 1), row("back", 1)], &[]).await.unwrap();
    // Added and withdrawn; withdrawn and added again; both on one page; withdrawn although stored.
    commit(&*ledger, &held, CommitScope::StageFirst, &[row("x", 1), row("y", 1)], &["back", "z"]).await.unwrap();
    commit(&*ledger, &held, CommitScope::StageNext, &[row("z", 2), row("back", 2)], &["x", "stored"]).await.unwrap();
    let merged = commit(&*ledger, &held, CommitScope::Merge, &[row("both", 1)], &["both", "unknown"]).await.unwrap();
    assert_eq!(merged.counts, counts(2, 2, 0), "y and z; back, and stored");
    assert_eq!(statuses(&*ledger).await, ["back booked", "stored superseded", "y booked", "z booked"]);
    a_row_keeps_the_mark_of_another_account(&*ledger, &held).await;
}

pub(crate) async fn a_window_of_many_rows_is_merged_in_pieces(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let held = take(&*ledger, "me", at(0)).await;
    let many: Vec<_> = (0..2_100).map(|n| row(&format!("k{n}"), n)).collect();
    commit(&*ledger, &held, CommitScope::Page, &many[..100], &[]).await.unwrap();
    commit(&*ledger, &held, CommitScope::StageFirst, &many[..1_200], &[]).await.unwrap();
    let removed: Vec<String> = (0..50).map(|n| format!("k{n}")).collect();
    let removed: Vec<&str> = removed.iter().map(String::as_str).collect();
    let merged = commit(&*ledger, &held, CommitScope::Merge, &many[1_200..], &removed).await.unwrap();
    assert_eq!(merged.counts, counts(2_000, 50, 50));
    assert_eq!(count(&*ledger).await, 2_100);
    let again = commit(&*ledger, &held, CommitScope::StageFirst, &many, &[]).await.unwrap();
    assert_eq!(again.counts, counts(0, 0, 0));
    let merged = commit(&*ledger, &held, CommitScope::Merge, &[], &[]).await.unwrap();
    assert_eq!(merged.counts, counts(0, 50, 2_050), "those that were withdrawn are back");
}

async fn a_row_keeps_the_mark_of_another_account(ledger: &dyn Ledger, lease: &Lease) {
    let other = TransactionRecord { account_token: "t2".into(), ..row("mark", 1) };
    commit(ledger, lease, CommitScope::Page, &[row("mark", 1), other.clone()], &[]).await.unwrap();
    let key = cursor_key("books", "");
    let version = ledger.load_cursor(&key).await.unwrap().unwrap().version;
    let (state, removed) = (state(version, "2"), [RemovedKey { account_token: Some("t1".into()), key: "mark".into() }]);
    let first = PageCommit { scope: CommitScope::StageFirst, removed: &removed, ..page(&key, lease, &state, &[]) };
    ledger.commit_page(first).await.unwrap();
    let merged = commit(ledger, lease, CommitScope::Merge, &[other], &[]).await.unwrap();
    assert_eq!(merged.counts, counts(0, 1, 1), "the row of the account that was named is withdrawn");
}

pub(crate) async fn a_merge_after_the_loss_of_the_lease_or_of_the_version_changes_nothing(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let frozen = take(&*ledger, "me", at(0)).await;
    commit(&*ledger, &frozen, CommitScope::StageFirst, &[row("a", 1)], &[]).await.unwrap();
    let newer = take(&*ledger, "other", at(60)).await;
    for scope in [CommitScope::StageFirst, CommitScope::StageNext, CommitScope::Merge, CommitScope::Discard] {
        let refused = commit(&*ledger, &frozen, scope, &[row("b", 1)], &["a"]).await;
        assert!(matches!(refused, Err(LedgerError::Fenced { .. })), "{scope:?}");
    }
    let (key, stale) = (cursor_key("books", ""), CursorState { window: None, ..state(0, "2") });
    let merge = PageCommit { scope: CommitScope::Merge, ..page(&key, &newer, &stale, &[]) };
    assert!(matches!(ledger.commit_page(merge).await, Err(LedgerError::VersionConflict { .. })));
    assert_eq!(count(&*ledger).await, 0);
    let merged = commit(&*ledger, &newer, CommitScope::Merge, &[], &[]).await.unwrap();
    assert_eq!(merged.counts, counts(1, 0, 0), "what was staged is still there");
}

pub(crate) async fn two_jobs_stage_apart_and_a_deleted_job_takes_its_own(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let held = take(&*ledger, "me", at(0)).await;
    commit(&*ledger, &held, CommitScope::StageFirst, &[row("a", 1)], &[]).await.unwrap();
    let (other, first) = (cursor_key("other", ""), state(0, "2"));
    let records = [balance("t1", "b", "1")];
    let stage = PageCommit { scope: CommitScope::StageFirst, records: &records, ..page(&other, &held, &first, &[]) };
    ledger.commit_page(stage).await.unwrap();
    ledger.delete_job(&books(), &ExistingJobs::from(["other".into()]), &held).await.unwrap();
    let ended = CursorState { window: None, ..state(1, "2") };
    let merge = PageCommit { scope: CommitScope::Merge, ..page(&other, &held, &ended, &[]) };
    assert_eq!(ledger.commit_page(merge).await.unwrap().counts, counts(1, 0, 0));
    assert_eq!(ledger.count_records(&TABLES[1], &TransactionFilter::default()).await.unwrap(), 1);
    assert_eq!(count(&*ledger).await, 0);
}

/// Commits a page of the window of another job, with a row of its own, a record, and one that is withdrawn.
pub(super) async fn make(ledger: &dyn Ledger, lease: &Lease, scope: CommitScope) -> Result<(), LedgerError> {
    let key = cursor_key("windowed", "");
    let version = i64::from(scope != CommitScope::StageFirst);
    let (state, rows, records) = (state(version, "2"), [row("b", 7), row("w", 8)], [balance("t1", "w", "1")]);
    let removed = [RemovedKey { account_token: None, key: "a".into() }];
    let commit = PageCommit { scope, records: &records, removed: &removed, ..page(&key, lease, &state, &rows) };
    ledger.commit_page(commit).await.map(drop)
}
