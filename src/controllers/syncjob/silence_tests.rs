//! Jobs that were silent for long, and jobs whose clock was ahead: decisions on a real ledger file, and for any silence.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use uuid::Uuid;

use super::decide::{ConnectionView, JobInputs, JobStep, decide, requested_run};
use super::tests::inputs;
use crate::api::v1alpha1::SyncJob;
use crate::api::v1alpha1::common::{LocalRef, TriState};
use crate::api::v1alpha1::sync_job::{Retention, RetentionMode, RunResult as WireResult, SyncJobSpec, SyncJobStatus};
use crate::controllers::conditions::time;
use crate::domain::breaker::EffectiveState;
use crate::domain::key::ObjectKey;
use crate::domain::run_failure::RunFailure;
use crate::domain::run_reason::RunReason;
use crate::domain::time::{Mono, Now};
use crate::domain::window::WindowPosition;
use crate::ledger::runs::RunCounts;
use crate::ledger::{
    self, JobHistory, Ledger, LedgerUrl, OpenMode, RunEnd, RunId, RunRecord, RunResult, RunStart, RunTrigger,
};
use crate::resolve::{JobSchedule, JobSupport, OperatorOptions, SpecError, job_schedule};
use crate::settings::addresses::AddressRules;
use crate::work::pool::JobView;

const MINUTE: i64 = 60;
const HOUR: i64 = 3_600;
const WEEK: i64 = 7 * 24 * HOUR;
const YEAR: i64 = 365 * 24 * HOUR;

fn t(seconds: i64) -> Timestamp {
    let start: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
    start + SignedDuration::from_secs(seconds)
}

/// A job created at second zero.
fn job(change: impl FnOnce(&mut SyncJobSpec)) -> SyncJob {
    let mut spec = SyncJobSpec {
        connection_ref: LocalRef::to("bank"),
        stream: Some("transactions".into()),
        interval: Some("5m".into()),
        jitter_percent: Some(0),
        retention: Some(Retention { raw: None, mode: Some(RetentionMode::Off) }),
        ..SyncJobSpec::default()
    };
    change(&mut spec);
    let mut job = SyncJob::new("books", spec);
    job.metadata.namespace = Some("team".into());
    job.metadata.uid = Some("u".into());
    job.metadata.generation = Some(1);
    job.metadata.creation_timestamp = Some(time(t(0)));
    job
}

/// What the operator makes of the spec.
fn accepted(job: &SyncJob, now: Timestamp) -> Result<JobSchedule, SpecError> {
    job_schedule(
        &job.spec,
        OperatorOptions { has_key: false, addresses: &AddressRules::default(), jobs: JobSupport::default() },
        now,
    )
}

fn up() -> ConnectionView {
    ConnectionView {
        suspended: false,
        probed: true,
        effective: EffectiveState::Closed,
        next_trial: None,
        maintenance: WindowPosition::default(),
    }
}

fn view(history: JobHistory) -> JobView {
    JobView {
        last: history.last,
        failure_streak: history.failure_streak,
        empty_streak: history.empty_streak,
        last_success: history.last_success,
        last_slot: history.last_slot,
        ..JobView::default()
    }
}

/// A job, its ledger file, and an operator that may be down or have a wrong clock.
struct Simulation {
    job: SyncJob,
    ledger: Arc<dyn Ledger>,
    _dir: tempfile::TempDir,
    connection: ConnectionView,
    /// How runs end.
    result: RunResult,
    /// By how many seconds the operator's wall clock is ahead.
    ahead: i64,
    /// True time, in seconds.
    now: i64,
    status: Option<SyncJobStatus>,
    /// True start of each run.
    starts: Vec<i64>,
}

impl Simulation {
    async fn new(job: SyncJob) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let url = LedgerUrl::Sqlite(dir.path().join("ledger.db"));
        let ledger = ledger::open(&url, OpenMode::Migrate).await.unwrap();
        Self {
            job,
            ledger,
            _dir: dir,
            connection: up(),
            result: RunResult::Succeeded,
            ahead: 0,
            now: 0,
            status: None,
            starts: Vec::new(),
        }
    }

    fn clock(&self) -> Now {
        let mono = Mono::ZERO + Duration::from_secs(self.now.unsigned_abs());
        Now { mono, wall: t(self.now + self.ahead) }
    }

    /// Reconciles until nothing is due, each run ending at once; returns the delay until the next reconcile.
    async fn reconcile(&mut self) -> i64 {
        let (key, now) = (ObjectKey::new("team", "books"), self.clock());
        for _ in 0..10 {
            let history = self.ledger.job_history(&key, 20, now.wall).await.unwrap();
            let (schedule, connection) = (accepted(&self.job, now.wall), Some(self.connection.clone()));
            let inputs = JobInputs { schedule, connection, ..inputs(&self.job, view(history)) };
            let decision = decide(&self.job, self.status.as_ref(), &inputs, now);
            self.status = decision.status;
            let Some(step) = decision.steps.first() else {
                return i64::try_from(decision.requeue_after.as_secs()).unwrap().max(1);
            };
            let start = |trigger, slot| RunStart {
                id: RunId(Uuid::new_v4()),
                job: key.clone(),
                trigger,
                slot,
                dry_run: false,
                events: Vec::new(),
                at: now.wall,
            };
            match step.clone() {
                JobStep::Start { trigger, slot } => {
                    let ttl = Duration::from_secs(15);
                    let lease = self.ledger.acquire_lease("sync/team/books", "me", ttl, now.wall, None).await.unwrap();
                    let (lease, mut run) = (lease.acquired().unwrap(), start(trigger, slot));
                    run.id = requested_run(&self.job).filter(|_| trigger == RunTrigger::Manual).unwrap_or(run.id);
                    assert!(self.ledger.start_run(&run, &lease).await.unwrap(), "the slot of {run:?} is new");
                    let (id, job, counts) = (run.id, run.job.clone(), RunCounts::default());
                    let reason = (self.result == RunResult::Failed).then_some(RunReason::ProviderError);
                    let failure = RunFailure::default();
                    let end = RunEnd {
                        id,
                        job,
                        result: self.result,
                        reason,
                        failure,
                        counts,
                        partitions: Vec::new(),
                        resync: None,
                        events: Vec::new(),
                        at: now.wall,
                    };
                    self.ledger.finish_run(&end).await.unwrap();
                    self.starts.push(self.now);
                }
                JobStep::Skip { slot } => {
                    let skipped = start(RunTrigger::Schedule, Some(slot));
                    self.ledger.skip_run(&skipped, RunReason::StartingDeadlineExceeded).await.unwrap();
                }
                _ => panic!("no run is active, and nothing is requested"),
            }
        }
        panic!("runs without end: {:?}", self.starts);
    }

    /// Lets the operator work until `end`.
    async fn run_until(&mut self, end: i64) {
        while self.now < end {
            let delay = self.reconcile().await;
            self.now = (self.now + delay).min(end);
        }
    }

    /// Starts at or after `from`.
    fn since(&self, from: i64) -> Vec<i64> {
        self.starts.iter().copied().filter(|at| *at >= from).collect()
    }

    fn status(&self) -> &SyncJobStatus {
        self.status.as_ref().unwrap()
    }
}

/// What keeps a job silent.
#[derive(Copy, Clone, Debug)]
enum Silence {
    Suspended,
    ConnectionSuspended,
    Maintenance,
    CircuitOpen,
    Failing,
    Down,
}

const SILENCES: [Silence; 6] = [
    Silence::Suspended,
    Silence::ConnectionSuspended,
    Silence::Maintenance,
    Silence::CircuitOpen,
    Silence::Failing,
    Silence::Down,
];

fn every_five_minutes() -> [SyncJob; 2] {
    [job(|_| {}), job(|spec| (spec.interval, spec.schedule) = (None, Some("*/5 * * * *".into())))]
}

#[tokio::test]
async fn whatever_kept_a_job_silent_for_a_week_one_run_catches_up() {
    for silence in SILENCES {
        for job in every_five_minutes() {
            let mut sim = Simulation::new(job).await;
            sim.run_until(30 * MINUTE).await;
            let end = sim.now + WEEK + 2 * MINUTE;
            match silence {
                Silence::Suspended => sim.job.spec.suspend = true,
                Silence::ConnectionSuspended => sim.connection.suspended = true,
                Silence::Maintenance => sim.connection.maintenance = WindowPosition::Inside { until: t(end) },
                Silence::CircuitOpen => sim.connection.effective = EffectiveState::Open,
                Silence::Failing => sim.result = RunResult::Failed,
                Silence::Down => sim.now = end,
            }
            sim.run_until(end).await;
            sim.job.spec.suspend = false;
            (sim.connection, sim.result) = (up(), RunResult::Succeeded);
            let end = sim.now;
            // A failing job waits for its retry, at most six hours, and makes no further run for the slots it waited.
            while sim.since(end).is_empty() {
                assert!(sim.now <= end + 6 * HOUR, "{silence:?}: no catch-up");
                sim.now += sim.reconcile().await;
            }
            sim.run_until(sim.now + 31 * MINUTE).await;
            let starts = sim.since(end);
            let gaps: Vec<_> = starts.windows(2).map(|pair| pair[1] - pair[0]).collect();
            // The first gap ends at the next slot; from then on the schedule goes on as before.
            assert!(gaps[0] > 0 && gaps[0] <= 5 * MINUTE, "{silence:?}: {gaps:?}");
            assert!(gaps[1..].iter().all(|gap| *gap == 5 * MINUTE), "{silence:?}: {gaps:?}");
        }
    }
}

#[tokio::test]
async fn a_request_after_a_long_silence_is_the_catch_up() {
    for job in every_five_minutes() {
        let mut sim = Simulation::new(job).await;
        sim.run_until(30 * MINUTE).await;
        sim.now += WEEK;
        let from = sim.now;
        sim.job.metadata.annotations = Some([("reconcile.fluxcd.io/requestedAt".to_owned(), "x".to_owned())].into());
        sim.reconcile().await;
        assert_eq!(sim.since(from), [from], "one run, not another one for the schedule");
    }
}

#[tokio::test]
async fn after_a_clock_that_was_ahead_the_schedule_goes_on_and_nothing_hides_it() {
    for ahead in [HOUR, YEAR] {
        for job in every_five_minutes() {
            let mut sim = Simulation::new(job).await;
            sim.run_until(30 * MINUTE).await;
            sim.ahead = ahead;
            sim.run_until(50 * MINUTE).await;
            let last_wrong = *sim.starts.last().unwrap();
            assert!(last_wrong >= 30 * MINUTE, "it ran while the clock was wrong");
            // Right again, and from now on the provider fails.
            (sim.ahead, sim.result) = (0, RunResult::Failed);
            let right = sim.now;
            sim.run_until(right + 5 * MINUTE + 1).await;
            assert_eq!(sim.since(right).len(), 1, "one run within the interval: {:?}", sim.since(right));
            let status = sim.status();
            assert_eq!(status.last_result, Some(WireResult::Failed), "not the run of the future");
            assert_eq!(status.history[0].result, WireResult::Failed);
            let latest = t(sim.now + 5);
            let times = [&status.last_schedule_time, &status.last_successful_time].map(|time| time.as_ref().unwrap().0);
            assert!(times.iter().all(|at| *at <= latest), "{times:?}");
            assert!(status.history.iter().all(|run| run.start_time.0 <= latest));
            assert!(status.next_retry_time.as_ref().is_some_and(|at| at.0 <= t(sim.now + 5 * MINUTE)));
            assert_eq!(status.fresh, Some(TriState::True), "the last success counts from when the clock was right");
            sim.run_until(right + 15 * MINUTE).await;
            sim.reconcile().await;
            assert_eq!(sim.status().fresh, Some(TriState::False), "three intervals later at the latest");
        }
    }
}

#[tokio::test]
async fn a_clock_that_is_set_back_an_hour_delays_nothing() {
    for job in every_five_minutes() {
        let mut sim = Simulation::new(job).await;
        sim.run_until(2 * HOUR).await;
        sim.ahead = -HOUR;
        let from = sim.now;
        sim.run_until(from + HOUR).await;
        let gaps: Vec<_> = sim.since(from - 5 * MINUTE).windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.len() >= 11 && gaps.iter().all(|gap| *gap <= 10 * MINUTE), "{gaps:?}");
    }
}

#[tokio::test]
async fn an_object_created_in_the_future_runs_on_schedule() {
    for mut job in every_five_minutes() {
        job.metadata.creation_timestamp = Some(time(t(YEAR)));
        let mut sim = Simulation::new(job).await;
        sim.result = RunResult::Failed;
        sim.run_until(5 * MINUTE + 1).await;
        assert!(!sim.starts.is_empty());
        sim.run_until(16 * MINUTE).await;
        sim.reconcile().await;
        assert_eq!(sim.status().fresh, Some(TriState::False), "never succeeded within three intervals");
    }
}

/// A schedule of a job, as its spec says it.
fn schedule() -> impl Strategy<Value = SyncJob> {
    let cron = prop::sample::select(vec!["* * * * *", "*/7 * * * *", "0 6 * * *", "30 */5 * * 1-5", "0 0 1 * *"]);
    prop_oneof![
        (10u32..1_000_000, 0i32..=100).prop_map(|(seconds, jitter)| job(|spec| {
            spec.interval = Some(format!("{}s", seconds.min(99_999)).into());
            spec.jitter_percent = Some(jitter);
        })),
        (cron, 0i32..=100).prop_map(|(line, jitter)| job(|spec| {
            (spec.interval, spec.schedule) = (None, Some(line.into()));
            spec.jitter_percent = Some(jitter);
        })),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// For any schedule, any silence, any streak of failures before it, and any delay between the decision and the start
    /// of the run: at most one run is started until another slot or retry comes.
    #[test]
    fn at_most_one_run_is_started_back_to_back(
        job in schedule(), last in prop::option::of(0i64..10_000_000), streak in 0u32..20,
        silence in prop_oneof![0i64..200, 0i64..100_000, 0i64..50_000_000], queued in 0i64..100_000,
        succeeds in any::<bool>(),
    ) {
        let record = |at: i64, result: RunResult, slot: Option<Timestamp>| RunRecord {
            id: RunId(Uuid::from_u128(at.unsigned_abs().into())),
            trigger: RunTrigger::Schedule,
            slot,
            dry_run: false,
            started: t(at),
            ended: Some(t(at)),
            result: Some(result),
            reason: None,
            failure: RunFailure::default(),
            counts: RunCounts::default(),
        };
        let mut runs = JobView::default();
        if let Some(at) = last {
            let result = if streak > 0 { RunResult::Failed } else { RunResult::Succeeded };
            runs.last = vec![record(at, result, Some(t(at)))];
            runs.last_slot = Some(t(at));
            runs.failure_streak = streak;
        }
        let (mut now, mut starts) = (last.unwrap_or(0) + silence, 0);
        for _ in 0..5 {
            let clock = Now { mono: Mono::ZERO + Duration::from_secs(now.unsigned_abs()), wall: t(now) };
            let schedule = accepted(&job, clock.wall);
            let inputs = JobInputs { schedule, connection: Some(up()), ..inputs(&job, runs.clone()) };
            match decide(&job, None, &inputs, clock).steps.first() {
                None => break,
                Some(JobStep::Start { slot, .. }) => {
                    starts += 1;
                    // It starts when there is room in the pool, and ends at once.
                    now += queued;
                    let result = if succeeds { RunResult::Succeeded } else { RunResult::Failed };
                    runs.last.insert(0, record(now, result, *slot));
                    runs.last_slot = runs.last_slot.max(*slot);
                    runs.failure_streak = if succeeds { 0 } else { runs.failure_streak + 1 };
                }
                Some(JobStep::Skip { slot }) => runs.last_slot = Some(*slot),
                Some(_) => prop_assert!(false, "no run is active, and nothing is requested"),
            }
        }
        prop_assert!(starts <= 1, "{} runs", starts);
    }
}
