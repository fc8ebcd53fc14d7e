//! What one connection's runs cost those of another: the real pool in paused time, over a ledger in memory.

use std::sync::OnceLock;

use futures::FutureExt as _;
use futures::future::BoxFuture;

use super::memory_ledger::MemoryLedger;
use super::*;
use crate::domain::time::Mono;
use crate::ledger::LeaseStore as _;
use crate::provider::call::{CallError, Request, Response};
use crate::sync::Fetch;

const MS: Duration = Duration::from_millis(1);
/// A bank that does not answer, as seen by a call without a time limit.
const HUNG: Duration = Duration::from_hours(100);
/// What a good bank needs for an answer.
const GOOD: Duration = Duration::from_millis(200);
/// Made once: the profiles are parsed for each.
static PLAN: OnceLock<SyncPlan> = OnceLock::new();
/// The slots of the pool, as by default.
const SLOTS: usize = 8;

/// A bank that answers after a delay. It stands for everything that a call may wait for: the bank, quota, a retry.
struct TimedFetch {
    bank: ScriptedBank,
    delay: Duration,
    clock: Clock,
    /// When the first request was sent.
    first: OnceLock<Mono>,
}

impl Fetch for TimedFetch {
    fn fetch(&self, request: Request) -> BoxFuture<'_, Result<Response, CallError>> {
        async move {
            self.first.get_or_init(|| self.clock.mono());
            self.clock.sleep_until(self.clock.mono() + self.delay).await;
            self.bank.fetch(request).await
        }
        .boxed()
    }
}

struct FairnessEnv {
    pool: SyncPool,
    clock: Clock,
    ledger: Arc<MemoryLedger>,
    queue: ReconcileQueue,
}

/// The runs of one connection that were asked for at one moment.
struct Runs {
    asked: Mono,
    fetches: Vec<Arc<TimedFetch>>,
}

impl Runs {
    /// How long each waited until its first request was sent; `None` for those that have sent none.
    fn lateness(&self) -> Vec<Option<Duration>> {
        self.fetches.iter().map(|fetch| fetch.first.get().map(|first| first.since(self.asked))).collect()
    }

    fn worst(&self) -> Duration {
        self.lateness().into_iter().map(|late| late.expect("all have begun")).max().unwrap()
    }

    fn mean(&self) -> Duration {
        let all: Duration = self.lateness().into_iter().map(|late| late.expect("all have begun")).sum();
        all / u32::try_from(self.fetches.len()).unwrap()
    }
}

fn env(slots: usize) -> FairnessEnv {
    let clock = Clock::starting_at(NOW.parse().unwrap());
    let (ledger, queue) = (MemoryLedger::new(clock, 5 * MS), ReconcileQueue::new());
    let options = PoolOptions { concurrency: slots, ..PoolOptions::new("me") };
    let pool = SyncPool::new(ledger.clone(), queue.clone(), clock, &Metrics::new(), options).unwrap();
    FairnessEnv { pool, clock, ledger, queue }
}

impl FairnessEnv {
    /// Starts `count` jobs of `namespace/connection`, whose provider answers after `delay`.
    fn start(&self, namespace: &str, connection: &str, count: usize, delay: Duration) -> Runs {
        let asked = self.clock.mono();
        let start = |n| {
            let fetch =
                Arc::new(TimedFetch { bank: ScriptedBank::with(3), delay, clock: self.clock, first: OnceLock::new() });
            let job = ObjectKey::new(namespace, format!("{connection}-{n}"));
            let plan = SyncPlan { job, connection: connection.to_owned(), ..PLAN.get_or_init(|| plan(10)).clone() };
            assert_eq!(self.pool.start(Arc::new(plan), fetch.clone(), run_request()), StartOutcome::Accepted);
            fetch
        };
        Runs { asked, fetches: (0..count).map(start).collect() }
    }

    async fn sleep(&self, time: Duration) {
        self.clock.sleep_until(self.clock.mono() + time).await;
    }

    /// Waits until `count` runs have ended.
    async fn ended(&self, count: usize) {
        let mut ended = std::pin::pin!(self.queue.subscribe(Kind::SyncJob, None));
        for _ in 0..count {
            tokio::time::timeout(Duration::from_hours(1), ended.next()).await.expect("a run that ends").unwrap();
        }
    }
}

/// The lateness of a good bank's runs beside those that `hung` starts.
async fn good_beside(hung: impl FnOnce(&FairnessEnv)) -> Runs {
    let env = env(SLOTS);
    hung(&env);
    let good = env.start("team", "good", 4 * SLOTS, GOOD);
    env.ended(4 * SLOTS).await;
    good
}

#[track_caller]
fn assert_like_alone(alone: &Runs, beside: &Runs) {
    for (alone, beside) in [(alone.worst(), beside.worst()), (alone.mean(), beside.mean())] {
        assert!(beside * 10 <= alone * 12, "{beside:?}, alone {alone:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hung_bank_does_not_delay_the_runs_of_another() {
    let alone = good_beside(|_| {}).await;
    assert!(alone.worst() >= 3 * GOOD, "four times as many jobs as slots: {:?}", alone.worst());
    let beside = good_beside(|env| drop(env.start("team", "hung", 4 * SLOTS, HUNG))).await;
    assert_like_alone(&alone, &beside);
}

#[tokio::test(start_paused = true)]
async fn a_hundred_hung_banks_do_not_delay_the_runs_of_another() {
    let alone = good_beside(|_| {}).await;
    for namespace in ["team", "other"] {
        let beside = good_beside(|env| {
            for n in 0..100 {
                env.start(namespace, &format!("hung-{n}"), SLOTS, HUNG);
            }
        });
        let beside = beside.await;
        // In a namespace of its own it has its share of the runs in progress; in a crowded one, one at a time at least.
        if namespace == "other" {
            assert_like_alone(&alone, &beside);
        } else {
            assert_eq!(beside.lateness()[0], Some(Duration::ZERO));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_waits_for_one_run_of_each_other_connection() {
    let env = env(1);
    let busy = env.start("team", "busy", 300, 10 * MS);
    env.sleep(5 * MS).await;
    let other = env.start("team", "other", 1, GOOD);
    env.ended(301).await;
    assert!(other.worst() <= 10 * MS, "{:?}", other.worst());
    assert!(busy.worst() >= Duration::from_secs(1), "{:?}", busy.worst());
}

#[tokio::test(start_paused = true)]
async fn a_namespace_with_many_connections_has_one_turn() {
    let env = env(1);
    for n in 0..300 {
        env.start("crowded", &format!("bank-{n}"), 2, 10 * MS);
    }
    env.sleep(20 * MS).await;
    let other = env.start("team", "bank", 3, 10 * MS);
    env.ended(603).await;
    assert!(other.lateness()[0].unwrap() <= 20 * MS, "{:?}", other.lateness());
    assert!(other.worst() <= 200 * MS, "{:?}", other.lateness());
}

#[tokio::test(start_paused = true)]
async fn a_run_that_waits_holds_no_slot() {
    let env = env(1);
    let waiting = env.start("team", "waiting", 1, HUNG);
    env.sleep(MS).await;
    assert!(waiting.lateness()[0].is_some());
    let other = env.start("team", "other", 1, GOOD);
    env.ended(1).await;
    assert_eq!(other.worst(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_waits_for_a_lease_holds_no_slot() {
    let env = env(1);
    let job = ObjectKey::new("team", "first-0");
    let (now, ttl) = (env.clock.now().wall, Duration::from_hours(1));
    env.ledger.leases.acquire_lease(&state::lease_name(&job), "dead process", ttl, now, None).await.unwrap();
    let first = env.start("team", "first", 1, GOOD);
    env.sleep(MS).await;
    let other = env.start("team", "other", 1, GOOD);
    env.ended(1).await;
    assert_eq!(other.worst(), Duration::ZERO);
    assert_eq!(first.lateness(), [None], "its lease is still that of the other process");
    env.ended(1).await;
    assert!(first.lateness()[0].is_some());
}

#[tokio::test(start_paused = true)]
async fn no_more_runs_work_at_a_time_than_there_are_slots() {
    let env = env(3);
    for n in 0..50 {
        env.start("team", &format!("bank-{n}"), 4, Duration::ZERO);
    }
    env.ended(200).await;
    assert_eq!(env.ledger.most_writing(), 3);
    let slots = &env.pool.shared.slots;
    assert_eq!((slots.queued(), slots.working(), slots.waiting()), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn runs_that_are_stopped_while_they_wait_leave_nothing_behind() {
    let env = env(2);
    let runs = env.start("team", "hung", 100, HUNG);
    env.sleep(MS).await;
    assert_eq!(runs.lateness().iter().flatten().count(), 2);
    env.pool.close().await;
    let slots = &env.pool.shared.slots;
    assert_eq!((slots.working(), slots.waiting()), (0, 0));
}
