//! Run history: starts, ends, skips, streaks and the deletion of a job.

use super::OpenLedger;
use super::fixtures::{at, books, commit, count, cursor_key, page, row, run_id, state, take, take_named};
use crate::domain::cursor::CursorState;
use crate::domain::key::ObjectKey;
use crate::domain::run_failure::{FailingPartition, RunFailure};
use crate::domain::run_reason::RunReason;
use crate::ledger::error::LedgerError;
use crate::ledger::runs::{JobHistory, RunCounts, RunEnd, RunResult, RunStart, RunTrigger};
use crate::ledger::sources::{Erasure, ExistingJobs, KeptRows};
use crate::ledger::store::Ledger;

fn run_start(n: u128, slot: Option<i64>) -> RunStart {
    let trigger = if slot.is_some() { RunTrigger::Schedule } else { RunTrigger::Manual };
    RunStart {
        id: run_id(n),
        job: books(),
        trigger,
        slot: slot.map(at),
        dry_run: false,
        events: Vec::new(),
        at: at(50),
    }
}

/// Starts a run for the slot `seconds`, at that time.
async fn start(ledger: &dyn Ledger, n: u128, seconds: i64) {
    let lease = take_named(ledger, "runs", "me", at(seconds)).await;
    let run = RunStart { at: at(seconds), ..run_start(n, Some(seconds)) };
    assert!(ledger.start_run(&run, &lease).await.unwrap());
}

fn failure() -> RunFailure {
    let partitions = vec![FailingPartition::new("acc-1", "ProviderError")];
    RunFailure {
        http_status: Some(503),
        detail: Some("received text/html".into()),
        cut_short: true,
        failing: 7,
        partitions,
        slow: 2,
        resync: Some("may".into()),
    }
}

async fn finish(ledger: &dyn Ledger, n: u128, result: RunResult, fetched: u64, seconds: i64) {
    let end = RunEnd {
        id: run_id(n),
        job: books(),
        result,
        reason: (result == RunResult::Failed).then_some(RunReason::ProviderError),
        failure: if result == RunResult::Failed { failure() } else { RunFailure::default() },
        counts: RunCounts { fetched, ..RunCounts::default() },
        partitions: Vec::new(),
        resync: None,
        events: Vec::new(),
        at: at(seconds),
    };
    ledger.finish_run(&end).await.unwrap();
}

pub(crate) async fn streaks_count_provider_outcomes_and_survive_a_restart(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let outcomes = [
        (RunResult::Succeeded, 5),
        (RunResult::Failed, 0),
        (RunResult::Cancelled, 0),
        (RunResult::Failed, 0),
        (RunResult::Skipped, 0),
    ];
    for (n, (result, fetched)) in (1_u32..).zip(outcomes) {
        start(&*ledger, n.into(), i64::from(n) * 10).await;
        finish(&*ledger, n.into(), result, fetched, i64::from(n) * 10 + 1).await;
    }
    ledger.close().await;
    let ledger = store.writer().await;
    let history = ledger.job_history(&books(), 3, at(1_000)).await.unwrap();
    assert_eq!((history.failure_streak, history.empty_streak), (2, 0));
    assert_eq!((history.last_success, history.last_slot), (Some(at(11)), Some(at(50))));
    let results: Vec<_> = history.last.iter().map(|r| r.result.unwrap()).collect();
    assert_eq!(results, [RunResult::Skipped, RunResult::Failed, RunResult::Cancelled]);
    assert_eq!(history.last[1].reason, Some(RunReason::ProviderError));
    assert_eq!((&history.last[1].failure, &history.last[2].failure), (&failure(), &RunFailure::default()));

    for n in 6..8_u32 {
        start(&*ledger, n.into(), 100 + i64::from(n)).await;
        finish(&*ledger, n.into(), RunResult::Succeeded, 0, 101).await;
    }
    let history = ledger.job_history(&books(), 3, at(1_000)).await.unwrap();
    assert_eq!((history.failure_streak, history.empty_streak), (0, 2));
}

pub(crate) async fn the_end_of_another_job_ends_no_run(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    start(&*ledger, 1, 10).await;
    let end = RunEnd {
        id: run_id(1),
        job: ObjectKey::new("team", "other"),
        result: RunResult::Failed,
        reason: None,
        failure: RunFailure::default(),
        counts: RunCounts::default(),
        partitions: Vec::new(),
        resync: None,
        events: Vec::new(),
        at: at(11),
    };
    ledger.finish_run(&end).await.unwrap();
    let last = ledger.job_history(&books(), 1, at(1_000)).await.unwrap().last;
    assert_eq!((last[0].id, last[0].result), (run_id(1), None));
}

pub(crate) async fn runs_of_all_jobs_are_listed_newest_first_for_people(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    for n in 1..4_u32 {
        start(&*ledger, n.into(), i64::from(n) * 10).await;
        let result = if n == 2 { RunResult::Failed } else { RunResult::Succeeded };
        finish(&*ledger, n.into(), result, 5, i64::from(n) * 10 + 1).await;
    }
    let lease = take_named(&*ledger, "other", "me", at(35)).await;
    let other = RunStart { id: run_id(9), job: ObjectKey::new("team", "other"), at: at(35), ..run_start(9, None) };
    assert!(ledger.start_run(&other, &lease).await.unwrap());
    let listed = async |namespace, job, limit| {
        let runs = ledger.newest_runs(namespace, job, limit).await.unwrap();
        runs.into_iter().map(|stored| (stored.job.name.to_string(), stored.run.id)).collect::<Vec<_>>()
    };
    let books = |n: u128| (books().name.to_string(), run_id(n));
    assert_eq!(listed(None, None, 3).await, [("other".to_owned(), run_id(9)), books(3), books(2)]);
    let job = super::books();
    assert_eq!(listed(Some(&job.namespace), Some(&job.name), 9).await, [books(3), books(2), books(1)]);
    assert!(listed(Some("nowhere"), None, 9).await.is_empty());
    let failed = ledger.newest_runs(None, Some(&job.name), 2).await.unwrap().remove(1).run;
    assert_eq!((failed.result, failed.failure), (Some(RunResult::Failed), failure()));
}

pub(crate) async fn an_unfinished_run_is_interrupted_when_the_next_starts(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    start(&*ledger, 1, 0).await;
    let held = take(&*ledger, "me", at(0)).await;
    commit(&*ledger, &held, &state(0, "2"), &[row("a", 1), row("b", 2)]).await.unwrap();
    start(&*ledger, 2, 60).await;
    // A late end of the first run has no effect.
    finish(&*ledger, 1, RunResult::Succeeded, 99, 61).await;
    let history = ledger.job_history(&books(), 10, at(1_000)).await.unwrap();
    let old = &history.last[1];
    assert_eq!((old.result, old.ended), (Some(RunResult::Interrupted), Some(at(60))));
    assert_eq!((old.counts.inserted, old.counts.pages), (2, 1), "its pages are counted with their rows");
    assert_eq!((history.last[0].result, history.failure_streak), (None, 0));
    assert_eq!(history.cursors, [(cursor_key("books", "").stream, CursorState { version: 1, ..state(0, "2") })]);
    assert_eq!(history.last_success, None);
}

pub(crate) async fn a_frozen_former_holder_cannot_interrupt_the_new_holders_run(store: &impl OpenLedger) {
    let (one, two) = (store.writer().await, store.writer().await);
    let frozen = take(&*one, "a", at(0)).await;
    let newer = take(&*two, "b", at(60)).await;
    assert!(two.start_run(&run_start(2, Some(10)), &newer).await.unwrap());
    let error = one.start_run(&run_start(1, Some(20)), &frozen).await.unwrap_err();
    assert!(matches!(error, LedgerError::Fenced { .. }), "{error}");
    one.skip_run(&run_start(3, Some(30)), RunReason::StartingDeadlineExceeded).await.unwrap();
    let history = two.job_history(&books(), 10, at(1_000)).await.unwrap();
    let seen: Vec<_> = history.last.iter().map(|run| (run.id, run.result)).collect();
    assert_eq!(seen, [(run_id(3), Some(RunResult::Skipped)), (run_id(2), None)], "the run continues");
    assert_eq!(history.last_slot, Some(at(30)));
}

pub(crate) async fn a_slot_or_a_request_is_served_once(store: &impl OpenLedger) {
    let (ledger, other) = (store.writer().await, store.writer().await);
    let lease = take(&*ledger, "b", at(0)).await;
    for (n, slot) in [(1, Some(10)), (2, None)] {
        assert!(ledger.start_run(&run_start(n, slot), &lease).await.unwrap());
        finish(&*ledger, n, RunResult::Succeeded, 1, 51).await;
    }
    // The same slot under another id, the slot before, and the same request again.
    for again in [run_start(3, Some(10)), run_start(4, Some(9)), run_start(2, None)] {
        assert!(!other.start_run(&again, &lease).await.unwrap());
    }
    ledger.skip_run(&run_start(5, Some(10)), RunReason::StartingDeadlineExceeded).await.unwrap();
    assert_eq!(ledger.job_history(&books(), 10, at(1_000)).await.unwrap().last.len(), 2);
    assert!(ledger.start_run(&run_start(6, Some(11)), &lease).await.unwrap());
}

pub(crate) async fn old_runs_are_pruned(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    for n in 1..=230_u32 {
        start(&*ledger, n.into(), n.into()).await;
        finish(&*ledger, n.into(), RunResult::Succeeded, 1, n.into()).await;
    }
    let runs = ledger.job_history(&books(), 1000, at(1_000)).await.unwrap().last;
    assert_eq!((runs.len(), runs[0].id, runs[199].id), (200, run_id(230), run_id(31)));

    // Neither the end of a run nor a skipped slot deletes: they are recorded without a lease.
    start(&*ledger, 231, 231).await;
    let stored = async || ledger.job_history(&books(), 1000, at(1_000)).await.unwrap().last.len();
    assert_eq!(stored().await, 200);
    for n in 232..240_u32 {
        let skipped = run_start(n.into(), Some(n.into()));
        ledger.skip_run(&skipped, RunReason::StartingDeadlineExceeded).await.unwrap();
    }
    finish(&*ledger, 231, RunResult::Succeeded, 1, 241).await;
    assert_eq!(stored().await, 208);
    start(&*ledger, 240, 240).await;
    assert_eq!(stored().await, 200);
}

pub(crate) async fn a_deleted_job_leaves_the_rows_that_another_job_reads(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    start(&*ledger, 1, 0).await;
    let held = take(&*ledger, "me", at(0)).await;
    for key in [cursor_key("books", ""), cursor_key("other", ""), cursor_key("books", "two")] {
        ledger.commit_page(page(&key, &held, &CursorState::default(), &[row("a", 1)])).await.unwrap();
    }
    assert_eq!(count(&*ledger).await, 2, "two jobs share the rows of one stream");
    let existing = ExistingJobs::from(["other".into()]);
    let erased = ledger.delete_job(&books(), &existing, &held).await.unwrap();
    let kept = KeptRows { stream: cursor_key("books", "").stream, readers: vec!["other".to_owned()] };
    assert_eq!(erased, Erasure { rows: 1, dead_letters: 0, runs: 1, kept: vec![kept] });
    assert_eq!(ledger.job_history(&books(), 10, at(1_000)).await.unwrap(), JobHistory::default());
    assert_eq!(ledger.load_cursor(&cursor_key("books", "")).await.unwrap(), None);
    assert_eq!(count(&*ledger).await, 1, "the other job's rows are kept");
    let none = ExistingJobs::new();
    ledger.delete_job(&ObjectKey::new("team", "other"), &none, &held).await.unwrap();
    assert_eq!(count(&*ledger).await, 0);
    // Of a job that is gone, not even the cursor stays: it would hide what must be read again.
    for job in ["gone", "books"] {
        ledger.commit_page(page(&cursor_key(job, ""), &held, &CursorState::default(), &[row("a", 1)])).await.unwrap();
    }
    assert_eq!(ledger.delete_job(&books(), &none, &held).await.unwrap().rows, 1);
    assert_eq!((count(&*ledger).await, ledger.load_cursor(&cursor_key("gone", "")).await.unwrap()), (0, None));
}

pub(crate) async fn a_frozen_former_holder_cannot_delete_a_job(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let frozen = take(&*ledger, "a", at(0)).await;
    let newer = take(&*ledger, "b", at(60)).await;
    commit(&*ledger, &newer, &state(0, "2"), &[row("a", 1)]).await.unwrap();
    let error = ledger.delete_job(&books(), &ExistingJobs::new(), &frozen).await.unwrap_err();
    assert!(matches!(error, LedgerError::Fenced { .. }), "{error}");
    assert_eq!(count(&*ledger).await, 1);
}
