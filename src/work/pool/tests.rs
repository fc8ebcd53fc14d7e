//! The pool over a scripted bank and a real ledger file.

mod endings;
mod fairness;
mod groups;
mod memory_decisions;
mod memory_delivery;
mod memory_events;
mod memory_ledger;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use tokio::sync::Notify;
use uuid::Uuid;

use super::*;
use crate::domain::run_reason::RunReason;
use crate::ledger::{self, LedgerUrl, OpenMode, RunId, RunResult, RunStart, RunTrigger};
use crate::sync::tests::{NOW, ScriptedBank, plan};
use crate::work::reconcile_queue::Kind;

struct Fixture {
    dir: tempfile::TempDir,
    ledger: Arc<dyn Ledger>,
    reconcile_queue: ReconcileQueue,
    clock: Clock,
    metrics: Metrics,
    pool: SyncPool,
}

fn options(holder: &str) -> PoolOptions {
    PoolOptions { concurrency: 1, lease_ttl: Duration::from_secs(3), ..PoolOptions::new(holder) }
}

async fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let ledger = ledger::open(&LedgerUrl::Sqlite(dir.path().join("ledger.db")), OpenMode::Migrate).await.unwrap();
    let (reconcile_queue, clock, metrics) =
        (ReconcileQueue::new(), Clock::starting_at(NOW.parse().unwrap()), Metrics::new());
    let pool = SyncPool::new(ledger.clone(), reconcile_queue.clone(), clock, &metrics, options("me")).unwrap();
    Fixture { dir, ledger, reconcile_queue, clock, metrics, pool }
}

/// A request for a slot of its own: a slot is served once.
fn run_request() -> RunRequest {
    static SLOTS: AtomicU64 = AtomicU64::new(0);
    let yesterday = NOW.parse::<Timestamp>().unwrap() - Duration::from_hours(24);
    let slot = yesterday + Duration::from_secs(SLOTS.fetch_add(1, Ordering::Relaxed));
    RunRequest { run: RunId(Uuid::new_v4()), trigger: RunTrigger::Schedule, slot: Some(slot) }
}

fn job(name: &str) -> Arc<SyncPlan> {
    let plan = plan(10);
    Arc::new(SyncPlan { job: plan.job.sibling(name), ..plan })
}

impl Fixture {
    async fn next_enqueued(&self) -> ObjectKey {
        let mut reconcile_queue = std::pin::pin!(self.reconcile_queue.subscribe(Kind::SyncJob, None));
        tokio::time::timeout(Duration::from_secs(20), reconcile_queue.next()).await.unwrap().unwrap()
    }

    async fn run(&self, plan: &Arc<SyncPlan>, bank: &Arc<ScriptedBank>) -> JobView {
        assert_eq!(self.pool.start(plan.clone(), bank.clone(), run_request()), StartOutcome::Accepted);
        assert_eq!(self.next_enqueued().await, plan.job);
        self.pool.view(&plan.job, 10).await.unwrap()
    }
}

/// A bank whose page `page` stalls until the `Notify` is notified.
fn stalling(count: usize, page: u64) -> (Arc<ScriptedBank>, Arc<Notify>) {
    let (bank, resume) = (Arc::new(ScriptedBank::with(count)), Arc::new(Notify::new()));
    bank.configure(|config| config.stall = Some((page, resume.clone())));
    (bank, resume)
}

#[tokio::test]
async fn the_end_of_a_run_enqueues_the_job_and_its_state_is_complete() {
    let fixture = fixture().await;
    let (plan, bank) = (job("books"), Arc::new(ScriptedBank::with(25)));
    let view = fixture.run(&plan, &bank).await;
    assert_eq!((view.active, view.failure_streak, view.last.len()), (None, 0, 1));
    assert_eq!((view.last[0].result, view.last[0].counts.inserted), (Some(RunResult::Succeeded), 25));
    assert_eq!(view.cursor_preview.as_deref(), Some("2026-09-10"));
    assert!(view.last_success.is_some() && view.last_slot.is_some());
    assert!(view.last_outcome.unwrap().recorded);
    let text = fixture.metrics.render().unwrap();
    for line in [
        r#"busbar_sync_runs_total{namespace="team",result="Succeeded",syncjob="books"} 1"#,
        r#"busbar_sync_records_total{namespace="team",op="inserted",syncjob="books"} 25"#,
        r#"busbar_sync_failure_streak{namespace="team",syncjob="books"} 0"#,
        r#"busbar_sync_pages_total{namespace="team",syncjob="books"} 3"#,
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    fixture.pool.forget(&plan.job);
    assert!(!fixture.metrics.render().unwrap().contains("books"), "its series are removed with it");
}

#[tokio::test]
async fn one_run_per_job_and_other_jobs_are_queued() {
    let fixture = fixture().await;
    let (slow, resume) = stalling(25, 2);
    let (first, second) = (job("first"), job("second"));
    let one = run_request();
    assert_eq!(fixture.pool.start(first.clone(), slow.clone(), one), StartOutcome::Accepted);
    assert_eq!(fixture.pool.start(first.clone(), slow.clone(), run_request()), StartOutcome::AlreadyActive(one.run));
    assert_eq!(
        fixture.pool.start(second.clone(), Arc::new(ScriptedBank::with(5)), run_request()),
        StartOutcome::Accepted
    );
    while fixture.pool.active(&first.job).unwrap().queued && fixture.pool.active(&second.job).unwrap().queued {
        tokio::task::yield_now().await;
    }
    let waiting = if fixture.pool.active(&first.job).unwrap().queued { &first } else { &second };
    assert_eq!(waiting.job, second.job, "first in, first out");
    resume.notify_one();
    // In either order: while the first waits for its bank, the second has its place.
    let mut ended = [fixture.next_enqueued().await, fixture.next_enqueued().await];
    ended.sort();
    assert_eq!(ended, [first.job.clone(), second.job.clone()]);
    assert_eq!(fixture.pool.view(&second.job, 1).await.unwrap().last[0].result, Some(RunResult::Succeeded));
}

#[tokio::test]
async fn a_requested_run_is_queued_until_its_start_is_stored_and_enqueues_its_job_then() {
    let fixture = fixture().await;
    let plan = job("books");
    let (name, ttl, now) = ("sync/team/books", Duration::from_secs(2), fixture.clock.now().wall);
    // Left by a process that was killed: the run waits until it expires.
    let _left = fixture.ledger.acquire_lease(name, "killed", ttl, now, None).await.unwrap().acquired().unwrap();
    let (bank, resume) = stalling(5, 1);
    let request = RunRequest { trigger: RunTrigger::Manual, slot: None, ..run_request() };
    fixture.pool.start(plan.clone(), bank, request);
    tokio::task::yield_now().await;
    assert!(fixture.pool.active(&plan.job).unwrap().queued);
    assert_eq!(fixture.pool.view(&plan.job, 1).await.unwrap().last, [], "a crash now leaves no trace of it");
    assert_eq!(fixture.next_enqueued().await, plan.job);
    let view = fixture.pool.view(&plan.job, 1).await.unwrap();
    assert_eq!((view.last[0].id, view.last[0].ended), (request.run, None), "stored, and in progress");
    assert!(!view.active.unwrap().queued);
    resume.notify_one();
    assert_eq!(fixture.next_enqueued().await, plan.job);
    assert_eq!(fixture.pool.view(&plan.job, 1).await.unwrap().last[0].result, Some(RunResult::Succeeded));
}

#[tokio::test]
async fn a_cancelled_run_ends_between_pages_and_the_next_resumes() {
    let fixture = fixture().await;
    let (bank, _resume) = stalling(45, 4);
    let plan = job("books");
    assert!(!fixture.pool.cancel(&plan.job));
    fixture.pool.start(plan.clone(), bank.clone(), run_request());
    let all = crate::ledger::record::TransactionFilter::default();
    while fixture.ledger.count_transactions(&all).await.unwrap() < 30 {
        tokio::task::yield_now().await;
    }
    assert!(fixture.pool.cancel(&plan.job));
    assert_eq!(fixture.next_enqueued().await, plan.job);
    let view = fixture.pool.view(&plan.job, 10).await.unwrap();
    assert_eq!((view.last[0].result, view.last[0].counts.inserted), (Some(RunResult::Cancelled), 30));
    assert_eq!(view.last[0].reason, Some(RunReason::StopRequested));
    bank.configure(|config| config.stall = None);
    let view = fixture.run(&plan, &bank).await;
    assert_eq!((view.last[0].result, view.last[0].counts.inserted), (Some(RunResult::Succeeded), 15));
}

#[tokio::test]
async fn the_failure_streak_survives_a_restart_and_includes_panics() {
    let fixture = fixture().await;
    let plan = job("books");
    let bank = Arc::new(ScriptedBank::with(5));
    bank.configure(|config| config.override_response = Some(Box::new(|_, _| panic!("a fault, on purpose"))));
    let view = fixture.run(&plan, &bank).await;
    let last = &view.last[0];
    assert_eq!((last.result, last.reason), (Some(RunResult::Failed), Some(RunReason::InternalError)));
    let broken = Arc::new(ScriptedBank::with(5));
    broken.configure(|config| {
        config.override_response = Some(Box::new(|_, _| Ok(crate::sync::tests::response(500, "provider's own text"))));
    });
    assert_eq!(fixture.run(&plan, &broken).await.failure_streak, 2);
    fixture.pool.close().await;
    assert_eq!(fixture.pool.start(plan.clone(), broken.clone(), run_request()), StartOutcome::Closed);
    fixture.ledger.close().await;

    let ledger =
        ledger::open(&LedgerUrl::Sqlite(fixture.dir.path().join("ledger.db")), OpenMode::Migrate).await.unwrap();
    let metrics = Metrics::new();
    let pool = SyncPool::new(ledger, ReconcileQueue::new(), fixture.clock, &metrics, options("me")).unwrap();
    let view = pool.view(&plan.job, 10).await.unwrap();
    assert_eq!((view.failure_streak, view.last.len(), view.last_outcome), (2, 2, None));
    assert!(metrics.render().unwrap().contains("busbar_sync_failure_streak"));
}

#[tokio::test]
async fn a_job_run_by_another_process_is_skipped_and_its_stale_lease_taken_over() {
    let fixture = fixture().await;
    let (plan, bank) = (job("books"), Arc::new(ScriptedBank::with(5)));
    let (name, ttl) = ("sync/team/books", Duration::from_secs(3));
    let other = fixture
        .ledger
        .acquire_lease(name, "other", ttl, fixture.clock.now().wall, None)
        .await
        .unwrap()
        .acquired()
        .unwrap();
    let theirs = RunStart {
        id: run_request().run,
        job: plan.job.clone(),
        trigger: RunTrigger::Manual,
        slot: None,
        dry_run: false,
        events: Vec::new(),
        at: fixture.clock.now().wall,
    };
    assert!(fixture.ledger.start_run(&theirs, &other).await.unwrap());
    let renewing = tokio::spawn({
        let (ledger, clock, other) = (fixture.ledger.clone(), fixture.clock, other.clone());
        async move {
            loop {
                ledger.renew_lease(&other, ttl, clock.now().wall).await.unwrap();
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    });
    let view = fixture.run(&plan, &bank).await;
    let outcome = view.last_outcome.unwrap();
    assert_eq!((outcome.report.result, outcome.report.reason), (RunResult::Skipped, Some(RunReason::LeaseHeld)));
    assert_eq!((view.last.len(), view.last[0].ended), (1, None), "the other process's run is unchanged");
    renewing.abort();

    let view = fixture.run(&plan, &bank).await;
    assert_eq!(view.last[0].result, Some(RunResult::Succeeded));
    assert_eq!(view.last[1].result, Some(RunResult::Interrupted));
}

#[tokio::test]
async fn a_slot_served_by_another_process_is_not_served_again() {
    let fixture = fixture().await;
    let (plan, bank, request) = (job("books"), Arc::new(ScriptedBank::with(5)), run_request());
    for wanted in [RunResult::Succeeded, RunResult::Skipped] {
        // As of a process that was frozen between its decision and the start.
        let request = RunRequest { run: RunId(Uuid::new_v4()), ..request };
        assert_eq!(fixture.pool.start(plan.clone(), bank.clone(), request), StartOutcome::Accepted);
        assert_eq!(fixture.next_enqueued().await, plan.job);
        let view = fixture.pool.view(&plan.job, 10).await.unwrap();
        assert_eq!(view.last_outcome.unwrap().report.result, wanted);
        assert_eq!((view.last.len(), view.last[0].result), (1, Some(RunResult::Succeeded)));
    }
}

#[tokio::test]
async fn closing_stops_running_and_queued_runs() {
    let fixture = fixture().await;
    let (slow, _resume) = stalling(25, 2);
    for name in ["a", "b", "c"] {
        fixture.pool.start(job(name), slow.clone(), run_request());
    }
    tokio::time::timeout(Duration::from_secs(20), fixture.pool.close()).await.unwrap();
    for name in ["a", "b", "c"] {
        let view = fixture.pool.view(&job(name).job, 1).await.unwrap();
        assert_eq!(view.active, None);
        assert_eq!(view.last_outcome.unwrap().report.result, RunResult::Cancelled);
    }
}

#[tokio::test]
async fn a_job_is_purged_only_while_idle_and_then_starts_from_the_beginning() {
    let fixture = fixture().await;
    let plan = job("books");
    let (bank, _resume) = stalling(45, 4);
    assert_eq!(fixture.pool.start(plan.clone(), bank.clone(), run_request()), StartOutcome::Accepted);
    let all = crate::ledger::record::TransactionFilter::default();
    while fixture.ledger.count_transactions(&all).await.unwrap() < 30 {
        tokio::task::yield_now().await;
    }
    let none = crate::ledger::ExistingJobs::new();
    assert_eq!(fixture.pool.purge(&plan.job, &none).await.unwrap(), None, "a run is active: it is cancelled");
    assert_eq!(fixture.next_enqueued().await, plan.job);
    assert_eq!(fixture.ledger.count_transactions(&all).await.unwrap(), 30);

    // Another process runs it.
    let (name, now) = (state::lease_name(&plan.job), fixture.clock.now().wall);
    let theirs = fixture
        .ledger
        .acquire_lease(&name, "other", Duration::from_mins(1), now, None)
        .await
        .unwrap()
        .acquired()
        .unwrap();
    assert_eq!(fixture.pool.purge(&plan.job, &none).await.unwrap(), None);
    fixture.ledger.release_lease(&theirs).await.unwrap();

    for (rows, runs) in [(30, 1), (0, 0)] {
        let erasure = fixture.pool.purge(&plan.job, &none).await.unwrap().expect("idempotent");
        assert_eq!((erasure.rows, erasure.runs, erasure.kept), (rows, runs, vec![]));
        assert_eq!(fixture.ledger.count_transactions(&all).await.unwrap(), 0);
        let view = fixture.pool.view(&plan.job, 10).await.unwrap();
        assert_eq!((view.last.len(), view.cursor_preview), (0, None));
    }
    let again = fixture.run(&plan, &Arc::new(ScriptedBank::with(25))).await;
    assert_eq!(again.last[0].counts.inserted, 25);
}
