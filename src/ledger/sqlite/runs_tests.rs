//! Run history tests on a real file.

use super::page_tests::{TTL, at, cursor_key, lease, new_ledger, row, run_id};
use super::*;
use crate::ledger::runs::RunCounts;
use crate::ledger::{PageCommit, RunResult, RunTrigger, SyncWindow, WindowKind};

fn books() -> ObjectKey {
    ObjectKey::new("team", "books")
}

async fn start(ledger: &SqliteLedger, n: u128, seconds: i64) {
    let run = RunStart {
        id: run_id(n),
        job: books(),
        trigger: RunTrigger::Schedule,
        slot: Some(at(seconds)),
        dry_run: false,
        at: at(seconds),
    };
    let lease = ledger.acquire_lease("runs", "me", TTL, at(seconds), None).await.unwrap().unwrap();
    assert!(ledger.start_run(&run, &lease).await.unwrap());
}

async fn finish(ledger: &SqliteLedger, n: u128, result: RunResult, fetched: u64, seconds: i64) {
    let end = RunEnd {
        id: run_id(n),
        job: books(),
        result,
        reason: (result == RunResult::Failed).then_some("ProviderError"),
        counts: RunCounts { fetched, ..RunCounts::default() },
        at: at(seconds),
    };
    ledger.finish_run(&end).await.unwrap();
}

#[tokio::test]
async fn streaks_count_provider_outcomes_and_survive_a_restart() {
    let (_dir, path, ledger) = new_ledger().await;
    let outcomes = [
        (RunResult::Succeeded, 5),
        (RunResult::Failed, 0),
        (RunResult::Cancelled, 0),
        (RunResult::Failed, 0),
        (RunResult::Skipped, 0),
    ];
    for (n, (result, fetched)) in (1..).zip(outcomes) {
        start(&ledger, n, i64::try_from(n).unwrap() * 10).await;
        finish(&ledger, n, result, fetched, i64::try_from(n).unwrap() * 10 + 1).await;
    }
    ledger.close().await;
    let ledger = SqliteLedger::open(&path).await.unwrap();
    let history = ledger.job_history(&books(), 3, at(1_000)).await.unwrap();
    assert_eq!((history.failure_streak, history.empty_streak), (2, 0));
    assert_eq!((history.last_success, history.last_slot), (Some(at(11)), Some(at(50))));
    let results: Vec<_> = history.last.iter().map(|r| r.result.unwrap()).collect();
    assert_eq!(results, [RunResult::Skipped, RunResult::Failed, RunResult::Cancelled]);
    assert_eq!(history.last[1].reason.as_deref(), Some("ProviderError"));

    for n in 6..8 {
        start(&ledger, n, 100 + i64::try_from(n).unwrap()).await;
        finish(&ledger, n, RunResult::Succeeded, 0, 101).await;
    }
    let history = ledger.job_history(&books(), 3, at(1_000)).await.unwrap();
    assert_eq!((history.failure_streak, history.empty_streak), (0, 2));
}

#[tokio::test]
async fn an_unfinished_run_is_interrupted_when_the_next_starts() {
    let (_dir, _path, ledger) = new_ledger().await;
    start(&ledger, 1, 0).await;
    let held = lease(&ledger, "me", at(0)).await;
    let window = SyncWindow {
        kind: WindowKind::Incremental,
        from: "a".into(),
        to: "b".into(),
        page_no: 1,
        page_token: None,
        total: None,
        candidate_hwm: None,
        seen_tokens: Vec::new(),
        rows_in: 0,
        rows_dead: 0,
    };
    let page = PageCommit {
        cursor: &cursor_key("books", ""),
        lease: &held,
        run: run_id(1),
        state: &CursorState { window: Some(window), ..CursorState::default() },
        rows: &[row("a", 1), row("b", 2)],
        documents: &[],
        dead_letters: &[],
        fetched: 2,
        pages: 1,
        now: at(1),
    };
    ledger.commit_page(page).await.unwrap();
    start(&ledger, 2, 60).await;
    // A late end of the first run has no effect.
    finish(&ledger, 1, RunResult::Succeeded, 99, 61).await;
    let history = ledger.job_history(&books(), 10, at(1_000)).await.unwrap();
    let old = &history.last[1];
    assert_eq!((old.result, old.ended), (Some(RunResult::Interrupted), Some(at(60))));
    assert_eq!((old.counts.inserted, old.counts.pages), (2, 1), "its pages are counted with their rows");
    assert_eq!((history.last[0].result, history.failure_streak), (None, 0));
    assert_eq!(history.cursors.len(), 1);
    assert_eq!(history.last_success, None);
}

fn run_start(n: u128, slot: Option<i64>) -> RunStart {
    let trigger = if slot.is_some() { RunTrigger::Schedule } else { RunTrigger::Manual };
    RunStart { id: run_id(n), job: books(), trigger, slot: slot.map(at), dry_run: false, at: at(50) }
}

#[tokio::test]
async fn a_frozen_former_holder_cannot_interrupt_the_new_holders_run() {
    let (_dir, _path, ledger) = new_ledger().await;
    let frozen = ledger.acquire_lease("books", "a", TTL, at(0), None).await.unwrap().unwrap();
    let newer = ledger.acquire_lease("books", "b", TTL, at(60), None).await.unwrap().unwrap();
    assert!(ledger.start_run(&run_start(2, Some(10)), &newer).await.unwrap());
    let error = ledger.start_run(&run_start(1, Some(20)), &frozen).await.unwrap_err();
    assert!(matches!(error, LedgerError::Fenced { .. }), "{error}");
    ledger.skip_run(&run_start(3, Some(30)), "StartingDeadlineExceeded").await.unwrap();
    let history = ledger.job_history(&books(), 10, at(1_000)).await.unwrap();
    let seen: Vec<_> = history.last.iter().map(|run| (run.id, run.result)).collect();
    assert_eq!(seen, [(run_id(3), Some(RunResult::Skipped)), (run_id(2), None)], "the run continues");
    assert_eq!(history.last_slot, Some(at(30)));
}

#[tokio::test]
async fn a_slot_or_a_request_is_served_once() {
    let (_dir, _path, ledger) = new_ledger().await;
    let lease = ledger.acquire_lease("books", "b", TTL, at(0), None).await.unwrap().unwrap();
    for (n, slot) in [(1, Some(10)), (2, None)] {
        assert!(ledger.start_run(&run_start(n, slot), &lease).await.unwrap());
        finish(&ledger, n, RunResult::Succeeded, 1, 51).await;
    }
    // The same slot under another id, the slot before, and the same request again.
    for again in [run_start(3, Some(10)), run_start(4, Some(9)), run_start(2, None)] {
        assert!(!ledger.start_run(&again, &lease).await.unwrap());
    }
    ledger.skip_run(&run_start(5, Some(10)), "StartingDeadlineExceeded").await.unwrap();
    assert_eq!(ledger.job_history(&books(), 10, at(1_000)).await.unwrap().last.len(), 2);
    assert!(ledger.start_run(&run_start(6, Some(11)), &lease).await.unwrap());
}

#[tokio::test]
async fn old_runs_are_pruned_and_a_deleted_job_leaves_nothing() {
    let (_dir, _path, ledger) = new_ledger().await;
    for n in 1..=230u32 {
        start(&ledger, n.into(), n.into()).await;
        finish(&ledger, n.into(), RunResult::Succeeded, 1, n.into()).await;
    }
    assert_eq!(ledger.job_history(&books(), 1000, at(1_000)).await.unwrap().last.len(), 200);
    let held = lease(&ledger, "me", at(0)).await;
    for (key, version) in [(cursor_key("books", ""), 0), (cursor_key("other", ""), 0), (cursor_key("books", "two"), 0)]
    {
        let page = PageCommit {
            cursor: &key,
            lease: &held,
            run: run_id(1),
            state: &CursorState { version, ..CursorState::default() },
            rows: &[row("a", 1)],
            documents: &[],
            dead_letters: &[],
            fetched: 1,
            pages: 1,
            now: at(1),
        };
        ledger.commit_page(page).await.unwrap();
    }
    let all = TransactionFilter::default();
    assert_eq!(ledger.count_transactions(&all).await.unwrap(), 2, "two jobs share the rows of one stream");
    ledger.delete_job(&books()).await.unwrap();
    assert_eq!(ledger.job_history(&books(), 10, at(1_000)).await.unwrap(), JobHistory::default());
    assert_eq!(ledger.count_transactions(&all).await.unwrap(), 1, "the other job's rows are kept");
    ledger.delete_job(&ObjectKey::new("team", "other")).await.unwrap();
    assert_eq!(ledger.count_transactions(&all).await.unwrap(), 0);
}
