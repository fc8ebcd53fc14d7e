//! The pool over a scripted bank and a real ledger file.

use std::sync::atomic::{AtomicU64, Ordering};

use futures::StreamExt;
use tokio::sync::Notify;
use uuid::Uuid;

use super::*;
use crate::ledger::sqlite::SqliteLedger;
use crate::ledger::{RunResult, RunStart};
use crate::sync::RunReason;
use crate::sync::tests::{Bank, NOW, plan};
use crate::work::poke::Kind;

struct House {
    dir: tempfile::TempDir,
    ledger: Arc<SqliteLedger>,
    pokes: Pokes,
    clock: Clock,
    metrics: Metrics,
    pool: SyncPool,
}

fn options(holder: &str) -> PoolOptions {
    PoolOptions { concurrency: 1, lease_ttl: Duration::from_secs(3), ..PoolOptions::new(holder) }
}

async fn house() -> House {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Arc::new(SqliteLedger::open(dir.path().join("ledger.db")).await.unwrap());
    let (pokes, clock, metrics) = (Pokes::new(), Clock::starting_at(NOW.parse().unwrap()), Metrics::new());
    let pool = SyncPool::new(ledger.clone(), pokes.clone(), clock, &metrics, options("me")).unwrap();
    House { dir, ledger, pokes, clock, metrics, pool }
}

/// An order for a slot of its own: a slot is served once.
fn order() -> Order {
    static SLOTS: AtomicU64 = AtomicU64::new(0);
    let slot = NOW.parse::<Timestamp>().unwrap() + Duration::from_secs(SLOTS.fetch_add(1, Ordering::Relaxed));
    Order { run: RunId(Uuid::new_v4()), trigger: RunTrigger::Schedule, slot: Some(slot) }
}

fn job(name: &str) -> Arc<SyncPlan> {
    let plan = plan(10);
    Arc::new(SyncPlan { job: plan.job.sibling(name), ..plan })
}

impl House {
    async fn poked(&self) -> ObjectKey {
        let mut pokes = std::pin::pin!(self.pokes.subscribe(Kind::SyncJob, None));
        tokio::time::timeout(Duration::from_secs(20), pokes.next()).await.unwrap().unwrap()
    }

    async fn run(&self, plan: &Arc<SyncPlan>, bank: &Arc<Bank>) -> JobView {
        assert_eq!(self.pool.start(plan.clone(), bank.clone(), order()), Started::Accepted);
        assert_eq!(self.poked().await, plan.job);
        self.pool.view(&plan.job, 10).await.unwrap()
    }
}

/// A bank whose page `page` waits for the bell.
fn stalling(count: usize, page: u64) -> (Arc<Bank>, Arc<Notify>) {
    let (bank, bell) = (Arc::new(Bank::with(count)), Arc::new(Notify::new()));
    bank.configure(|config| config.stall = Some((page, bell.clone())));
    (bank, bell)
}

#[tokio::test]
async fn the_end_of_a_run_pokes_and_everything_is_there_to_be_seen() {
    let house = house().await;
    let (plan, bank) = (job("books"), Arc::new(Bank::with(25)));
    let view = house.run(&plan, &bank).await;
    assert_eq!((view.active, view.failure_streak, view.last.len()), (None, 0, 1));
    assert_eq!((view.last[0].result, view.last[0].counts.inserted), (Some(RunResult::Succeeded), 25));
    assert_eq!(view.cursor_preview.as_deref(), Some("2026-09-10"));
    assert!(view.last_success.is_some() && view.last_slot.is_some());
    assert!(view.last_outcome.unwrap().recorded);
    let text = house.metrics.render().unwrap();
    for line in [
        r#"busbar_sync_runs_total{namespace="team",result="Succeeded",syncjob="books"} 1"#,
        r#"busbar_sync_records_total{namespace="team",op="inserted",syncjob="books"} 25"#,
        r#"busbar_sync_failure_streak{namespace="team",syncjob="books"} 0"#,
        r#"busbar_sync_pages_total{namespace="team",syncjob="books"} 3"#,
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    house.pool.forget(&plan.job);
    assert!(!house.metrics.render().unwrap().contains("books"), "its series vanish with it");
}

#[tokio::test]
async fn one_run_per_job_and_the_rest_waits_its_turn() {
    let house = house().await;
    let (slow, bell) = stalling(25, 2);
    let (first, second) = (job("first"), job("second"));
    let one = order();
    assert_eq!(house.pool.start(first.clone(), slow.clone(), one), Started::Accepted);
    assert_eq!(house.pool.start(first.clone(), slow.clone(), order()), Started::AlreadyActive(one.run));
    assert_eq!(house.pool.start(second.clone(), Arc::new(Bank::with(5)), order()), Started::Accepted);
    while house.pool.active(&first.job).unwrap().queued && house.pool.active(&second.job).unwrap().queued {
        tokio::task::yield_now().await;
    }
    let waiting = if house.pool.active(&first.job).unwrap().queued { &first } else { &second };
    assert_eq!(waiting.job, second.job, "first come, first served");
    bell.notify_one();
    assert_eq!(house.poked().await, first.job);
    assert_eq!(house.poked().await, second.job);
    assert_eq!(house.pool.view(&second.job, 1).await.unwrap().last[0].result, Some(RunResult::Succeeded));
}

#[tokio::test]
async fn a_cancelled_run_ends_between_pages_and_the_next_goes_on() {
    let house = house().await;
    let (bank, _bell) = stalling(45, 4);
    let plan = job("books");
    assert!(!house.pool.cancel(&plan.job));
    house.pool.start(plan.clone(), bank.clone(), order());
    let all = crate::ledger::record::TransactionFilter::default();
    while house.ledger.count_transactions(&all).await.unwrap() < 30 {
        tokio::task::yield_now().await;
    }
    assert!(house.pool.cancel(&plan.job));
    assert_eq!(house.poked().await, plan.job);
    let view = house.pool.view(&plan.job, 10).await.unwrap();
    assert_eq!((view.last[0].result, view.last[0].counts.inserted), (Some(RunResult::Cancelled), 30));
    assert_eq!(view.last[0].reason.as_deref(), Some("StopRequested"));
    bank.configure(|config| config.stall = None);
    let view = house.run(&plan, &bank).await;
    assert_eq!((view.last[0].result, view.last[0].counts.inserted), (Some(RunResult::Succeeded), 15));
}

#[tokio::test]
async fn failures_are_counted_over_a_restart_and_a_panic_is_one_of_them() {
    let house = house().await;
    let plan = job("books");
    let bank = Arc::new(Bank::with(5));
    bank.configure(|config| config.trick = Some(Box::new(|_, _| panic!("a fault, on purpose"))));
    let view = house.run(&plan, &bank).await;
    let last = &view.last[0];
    assert_eq!((last.result, last.reason.as_deref()), (Some(RunResult::Failed), Some("InternalError")));
    let broken = Arc::new(Bank::with(5));
    broken.configure(|config| {
        config.trick = Some(Box::new(|_, _| Ok(crate::sync::tests::answer(500, "provider's own text"))));
    });
    assert_eq!(house.run(&plan, &broken).await.failure_streak, 2);
    house.pool.close().await;
    assert_eq!(house.pool.start(plan.clone(), broken.clone(), order()), Started::Closed);
    house.ledger.close().await;

    let ledger = Arc::new(SqliteLedger::open(house.dir.path().join("ledger.db")).await.unwrap());
    let metrics = Metrics::new();
    let pool = SyncPool::new(ledger, Pokes::new(), house.clock, &metrics, options("me")).unwrap();
    let view = pool.view(&plan.job, 10).await.unwrap();
    assert_eq!((view.failure_streak, view.last.len(), view.last_outcome), (2, 2, None));
    assert!(metrics.render().unwrap().contains("busbar_sync_failure_streak"));
}

#[tokio::test]
async fn a_job_that_another_process_runs_is_skipped_and_its_leftover_lease_taken() {
    let house = house().await;
    let (plan, bank) = (job("books"), Arc::new(Bank::with(5)));
    let (name, ttl) = ("sync/team/books", Duration::from_secs(3));
    let other = house.ledger.acquire_lease(name, "other", ttl, house.clock.now().wall, None).await.unwrap().unwrap();
    let theirs = RunStart {
        id: order().run,
        job: plan.job.clone(),
        trigger: RunTrigger::Manual,
        slot: None,
        dry_run: false,
        at: house.clock.now().wall,
    };
    assert!(house.ledger.start_run(&theirs, &other).await.unwrap());
    let renewing = tokio::spawn({
        let (ledger, clock, other) = (house.ledger.clone(), house.clock, other.clone());
        async move {
            loop {
                ledger.renew_lease(&other, ttl, clock.now().wall).await.unwrap();
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    });
    let view = house.run(&plan, &bank).await;
    let outcome = view.last_outcome.unwrap();
    assert_eq!((outcome.report.result, outcome.report.reason), (RunResult::Skipped, Some(RunReason::LeaseHeld)));
    assert_eq!((view.last.len(), view.last[0].ended), (1, None), "the other's run is left alone");
    renewing.abort();

    let view = house.run(&plan, &bank).await;
    assert_eq!(view.last[0].result, Some(RunResult::Succeeded));
    assert_eq!(view.last[1].result, Some(RunResult::Interrupted));
}

#[tokio::test]
async fn a_slot_that_another_process_has_served_is_not_served_again() {
    let house = house().await;
    let (plan, bank, order) = (job("books"), Arc::new(Bank::with(5)), order());
    for wanted in [RunResult::Succeeded, RunResult::Skipped] {
        // As of a process that was frozen between its decision and the start.
        let order = Order { run: RunId(Uuid::new_v4()), ..order };
        assert_eq!(house.pool.start(plan.clone(), bank.clone(), order), Started::Accepted);
        assert_eq!(house.poked().await, plan.job);
        let view = house.pool.view(&plan.job, 10).await.unwrap();
        assert_eq!(view.last_outcome.unwrap().report.result, wanted);
        assert_eq!((view.last.len(), view.last[0].result), (1, Some(RunResult::Succeeded)));
    }
}

#[tokio::test]
async fn closing_stops_runs_under_way_and_those_that_wait() {
    let house = house().await;
    let (slow, _bell) = stalling(25, 2);
    for name in ["a", "b", "c"] {
        house.pool.start(job(name), slow.clone(), order());
    }
    tokio::time::timeout(Duration::from_secs(20), house.pool.close()).await.unwrap();
    for name in ["a", "b", "c"] {
        let view = house.pool.view(&job(name).job, 1).await.unwrap();
        assert_eq!(view.active, None);
        assert_eq!(view.last_outcome.unwrap().report.result, RunResult::Cancelled);
    }
}

#[tokio::test]
async fn a_job_is_erased_only_while_nobody_runs_it_and_begins_at_the_beginning_afterwards() {
    let house = house().await;
    let plan = job("books");
    let (bank, _bell) = stalling(45, 4);
    assert_eq!(house.pool.start(plan.clone(), bank.clone(), order()), Started::Accepted);
    let all = crate::ledger::record::TransactionFilter::default();
    while house.ledger.count_transactions(&all).await.unwrap() < 30 {
        tokio::task::yield_now().await;
    }
    assert!(!house.pool.erase(&plan.job).await.unwrap(), "a run is under way: it is asked to stop");
    assert_eq!(house.poked().await, plan.job);
    assert_eq!(house.ledger.count_transactions(&all).await.unwrap(), 30);

    // Another process runs it.
    let (name, now) = (attempt::lease_name(&plan.job), house.clock.now().wall);
    let theirs = house.ledger.acquire_lease(&name, "other", Duration::from_mins(1), now, None).await.unwrap().unwrap();
    assert!(!house.pool.erase(&plan.job).await.unwrap());
    house.ledger.release_lease(&theirs).await.unwrap();

    for _ in 0..2 {
        assert!(house.pool.erase(&plan.job).await.unwrap(), "and again without harm");
        assert_eq!(house.ledger.count_transactions(&all).await.unwrap(), 0);
        let view = house.pool.view(&plan.job, 10).await.unwrap();
        assert_eq!((view.last.len(), view.cursor_preview), (0, None));
    }
    let again = house.run(&plan, &Arc::new(Bank::with(25))).await;
    assert_eq!(again.last[0].counts.inserted, 25);
}
