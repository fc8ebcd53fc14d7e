//! Streaks of partitions, and resyncs.

use super::OpenLedger;
use super::fixtures::{at, books, run_id, take_named};
use crate::domain::run_failure::RunFailure;
use crate::domain::run_reason::RunReason;
use crate::ledger::runs::{
    PartitionEnd, PartitionStreak, ResyncEnd, RunCounts, RunEnd, RunResult, RunStart, RunTrigger,
};
use crate::ledger::sources::ExistingJobs;
use crate::ledger::store::Ledger;

/// One run from start to end.
async fn run(ledger: &dyn Ledger, n: u128, trigger: RunTrigger, end: RunEnd) {
    let lease = take_named(ledger, "runs", "me", end.at).await;
    let (id, job) = (run_id(n), books());
    let start = RunStart { id, job, trigger, slot: None, dry_run: false, events: Vec::new(), at: end.at };
    assert!(ledger.start_run(&start, &lease).await.unwrap());
    ledger.finish_run(&RunEnd { id, ..end }).await.unwrap();
}

fn end(result: RunResult, partitions: Vec<PartitionEnd>, seconds: i64) -> RunEnd {
    RunEnd {
        id: run_id(0),
        job: books(),
        result,
        reason: (result == RunResult::Failed).then_some(RunReason::ProviderError),
        failure: RunFailure::default(),
        counts: RunCounts { fetched: 1, ..RunCounts::default() },
        partitions,
        resync: None,
        events: Vec::new(),
        at: at(seconds),
    }
}

fn good(name: &str) -> PartitionEnd {
    PartitionEnd { name: name.into(), failed: false, empty: false }
}

fn bad(name: &str) -> PartitionEnd {
    PartitionEnd { failed: true, ..good(name) }
}

fn empty(name: &str) -> PartitionEnd {
    PartitionEnd { empty: true, ..good(name) }
}

fn streak(name: &str, failure_streak: u32, empty_streak: u32) -> PartitionStreak {
    PartitionStreak { name: name.into(), failure_streak, empty_streak }
}

pub(crate) async fn the_streak_of_each_partition_is_counted_and_survives_a_restart(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let runs = [
        vec![good("a"), bad("b"), empty("c")],
        // Another failed, so the job has failed twice and each of them once.
        vec![bad("a"), good("b"), empty("c")],
        // A partition that fails says nothing about whether it has records; one that was not read keeps its streak.
        vec![bad("a"), bad("c")],
    ];
    for (n, partitions) in (1_u32..).zip(runs) {
        run(&*ledger, n.into(), RunTrigger::Schedule, end(RunResult::Failed, partitions, i64::from(n) * 10)).await;
    }
    ledger.close().await;
    let ledger = store.writer().await;
    let history = ledger.job_history(&books(), 0, at(1_000)).await.unwrap();
    assert_eq!(history.partitions, [streak("a", 2, 0), streak("c", 1, 2)], "the longest first; none without a streak");
    assert_eq!(history.failure_streak, 3);
    run(&*ledger, 4, RunTrigger::Retry, end(RunResult::Succeeded, vec![good("a"), good("b"), good("c")], 40)).await;
    assert!(ledger.job_history(&books(), 0, at(1_000)).await.unwrap().partitions.is_empty(), "a good run resets all");
}

pub(crate) async fn a_removed_partition_loses_its_streak_with_the_next_good_run(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let streaks = async || ledger.job_history(&books(), 0, at(1_000)).await.unwrap().partitions;
    run(&*ledger, 1, RunTrigger::Schedule, end(RunResult::Failed, vec![bad("a"), bad("b")], 10)).await;
    // Runs that may have read only some of the partitions.
    run(&*ledger, 2, RunTrigger::Schedule, end(RunResult::Failed, vec![bad("a")], 20)).await;
    run(&*ledger, 3, RunTrigger::Schedule, end(RunResult::Incomplete, vec![empty("a")], 30)).await;
    let resync = Some(ResyncEnd { id: "may".into(), done: true });
    let resync = RunEnd { resync, ..end(RunResult::Succeeded, vec![good("a")], 40) };
    run(&*ledger, 4, RunTrigger::Resync, resync).await;
    assert_eq!(streaks().await, [streak("b", 1, 0), streak("a", 0, 1)]);
    run(&*ledger, 5, RunTrigger::Schedule, end(RunResult::Succeeded, vec![empty("a")], 50)).await;
    assert_eq!(streaks().await, [streak("a", 0, 2)], "b is no partition of the job any more");
}

pub(crate) async fn a_resync_counts_for_no_streak_and_its_id_is_kept_for_ever(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    run(&*ledger, 1, RunTrigger::Schedule, end(RunResult::Succeeded, vec![good("a")], 10)).await;
    let resync = |id: &str, done, result, seconds| RunEnd {
        resync: Some(ResyncEnd { id: id.into(), done }),
        counts: RunCounts::default(),
        ..end(result, vec![bad("a")], seconds)
    };
    run(&*ledger, 2, RunTrigger::Resync, resync("may", false, RunResult::Failed, 20)).await;
    let history = ledger.job_history(&books(), 1, at(1_000)).await.unwrap();
    assert_eq!((history.failure_streak, history.partitions.len(), history.last_resync), (0, 0, None));
    assert_eq!((history.last[0].trigger, history.last_success), (RunTrigger::Resync, Some(at(10))));
    assert!(!ledger.is_resync_done(&books(), "may").await.unwrap());
    for (n, id) in [(3, "may"), (4, "june")] {
        run(&*ledger, n, RunTrigger::Resync, resync(id, true, RunResult::Succeeded, 20 + i64::try_from(n).unwrap()))
            .await;
    }
    // More runs than are kept.
    for n in 10..230_u32 {
        run(&*ledger, n.into(), RunTrigger::Manual, end(RunResult::Succeeded, Vec::new(), i64::from(n) * 10)).await;
    }
    let history = ledger.job_history(&books(), 1_000, at(10_000)).await.unwrap();
    assert!(history.last.iter().all(|run| run.trigger == RunTrigger::Manual), "the resyncs are pruned");
    assert_eq!((history.last_resync.as_deref(), history.empty_streak), (Some("june"), 0));
    for (id, done) in [("may", true), ("june", true), ("July", false), ("MAY", false)] {
        assert_eq!(ledger.is_resync_done(&books(), id).await.unwrap(), done, "{id}");
    }
    assert!(!ledger.is_resync_done(&books().sibling("other"), "may").await.unwrap());
}

pub(crate) async fn a_deleted_job_takes_its_streaks_and_resyncs_with_it(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    run(&*ledger, 1, RunTrigger::Schedule, end(RunResult::Failed, vec![bad("a")], 10)).await;
    let done = RunEnd {
        resync: Some(ResyncEnd { id: "may".into(), done: true }),
        ..end(RunResult::Succeeded, Vec::new(), 20)
    };
    run(&*ledger, 2, RunTrigger::Resync, done).await;
    let lease = take_named(&*ledger, "runs", "me", at(30)).await;
    ledger.delete_job(&books(), &ExistingJobs::default(), &lease).await.unwrap();
    let history = ledger.job_history(&books(), 10, at(1_000)).await.unwrap();
    assert_eq!((history.partitions.len(), history.last_resync), (0, None));
    assert!(!ledger.is_resync_done(&books(), "may").await.unwrap());
}

/// Versions before this one cannot read a run with another cause than the first four.
pub(crate) async fn every_trigger_is_read_back(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    for (n, trigger) in (1_u32..).zip(RunTrigger::ALL) {
        run(&*ledger, n.into(), trigger, end(RunResult::Succeeded, Vec::new(), i64::from(n) * 10)).await;
    }
    let history = ledger.job_history(&books(), 10, at(1_000)).await.unwrap();
    let read: Vec<_> = history.last.iter().rev().map(|run| run.trigger).collect();
    assert_eq!(read, RunTrigger::ALL);
}
