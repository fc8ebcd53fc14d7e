//! When a job runs and its status: values in, values out.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::decide::{ConnectionView, JobInputs, JobStep, decide, requested_run};
use super::ledger_state::LedgerState;
use super::requests::RequestedWork;
use crate::api::v1alpha1::SyncJob;
use crate::api::v1alpha1::common::{LocalRef, TriState};
use crate::api::v1alpha1::reasons::{ConditionType, EventReason};
use crate::api::v1alpha1::sync_job::{Retention, RetentionMode, RunResult as WireResult, SyncJobSpec, SyncJobStatus};
use crate::cluster::resource::HasStatus as _;
use crate::controllers::Decision;
use crate::controllers::conditions::{from_api, status_of};
use crate::domain::breaker::EffectiveState;
use crate::domain::conditions::{ConditionStatus, check_invariants};
use crate::domain::run_failure::RunFailure;
use crate::domain::run_reason::RunReason;
use crate::domain::sla::SlaLimits;
use crate::domain::time::{Mono, Now};
use crate::domain::window::WindowPosition;
use crate::ledger::runs::RunCounts;
use crate::ledger::{RunId, RunRecord, RunResult, RunTrigger};
use crate::resolve::{JobSchedule, JobSupport, OperatorOptions, SpecError, job_schedule};
use crate::settings::addresses::AddressRules;
use crate::work::pool::{ActiveRun, JobView};

pub(super) fn t(seconds: i64) -> Timestamp {
    let start: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
    start + SignedDuration::from_secs(seconds)
}

/// The monotonic clock at second zero of the wall clock shows a week.
pub(super) fn mono(seconds: i64) -> Mono {
    Mono::ZERO + Duration::from_secs((604_800 + seconds).unsigned_abs())
}

pub(super) fn job() -> SyncJob {
    let spec = SyncJobSpec {
        connection_ref: LocalRef::to("bank"),
        stream: Some("transactions".into()),
        interval: Some("60s".into()),
        jitter_percent: Some(0),
        retention: Some(Retention { raw: None, mode: Some(RetentionMode::Off) }),
        ..SyncJobSpec::default()
    };
    let mut job = SyncJob::new("j", spec);
    job.metadata.namespace = Some("ns".into());
    job.metadata.uid = Some("u".into());
    job.metadata.generation = Some(1);
    job.metadata.creation_timestamp = Some(crate::controllers::conditions::time(t(0)));
    job
}

pub(super) fn run(result: Option<RunResult>, at: i64) -> RunRecord {
    RunRecord {
        id: RunId(Uuid::from_u128(u128::from(at.unsigned_abs()))),
        trigger: RunTrigger::Schedule,
        slot: Some(t(at)),
        dry_run: false,
        started: t(at),
        ended: result.map(|_| t(at)),
        result,
        reason: (result == Some(RunResult::Failed)).then_some(RunReason::ProviderError),
        failure: RunFailure::default(),
        counts: RunCounts::default(),
    }
}

/// What the operator makes of the spec, with or without an encryption key.
fn schedule(job: &SyncJob, has_key: bool) -> Result<JobSchedule, SpecError> {
    job_schedule(
        &job.spec,
        OperatorOptions { has_key, addresses: &AddressRules::default(), jobs: JobSupport::default() },
        t(0),
    )
}

pub(super) fn inputs(job: &SyncJob, runs: JobView) -> JobInputs {
    JobInputs {
        schedule: schedule(job, false),
        connection: Some(ConnectionView {
            suspended: false,
            probed: true,
            effective: EffectiveState::Closed,
            next_trial: None,
            maintenance: WindowPosition::default(),
        }),
        runs,
        partitions: 1,
        unused_fields: Vec::new(),
        ledger: LedgerState::Working,
        requested: RequestedWork::default(),
        sla: SlaLimits::default(),
        lost: Vec::new(),
    }
}

pub(super) fn at(
    job: &SyncJob,
    previous: Option<&SyncJobStatus>,
    inputs: &JobInputs,
    seconds: i64,
) -> Decision<SyncJobStatus, JobStep> {
    let decision = decide(job, previous, inputs, Now { mono: mono(seconds), wall: t(seconds) });
    let conditions: Vec<_> = decision.status.as_ref().unwrap().conditions.iter().map(from_api).collect();
    check_invariants(&conditions).unwrap();
    decision
}

pub(super) fn succeeded(at: i64) -> JobView {
    JobView {
        last: vec![run(Some(RunResult::Succeeded), at)],
        last_slot: Some(t(at)),
        last_success: Some(t(at)),
        ..JobView::default()
    }
}

pub(super) fn failed(at: i64, streak: u32) -> JobView {
    JobView {
        last: vec![run(Some(RunResult::Failed), at)],
        last_slot: Some(t(at)),
        failure_streak: streak,
        ..JobView::default()
    }
}

#[test]
fn a_new_job_runs_at_once_and_then_on_its_interval() {
    let job = job();
    let first = at(&job, None, &inputs(&job, JobView::default()), 0);
    assert!(matches!(first.steps[..], [JobStep::Start { trigger: RunTrigger::Schedule, .. }]), "{:?}", first.steps);
    let waiting = at(&job, None, &inputs(&job, succeeded(0)), 10);
    assert_eq!((waiting.steps, waiting.requeue_after), (Vec::new(), Duration::from_secs(50)));
    let due = at(&job, None, &inputs(&job, succeeded(0)), 60);
    assert!(matches!(due.steps[..], [JobStep::Start { .. }]));
}

#[test]
fn no_run_is_started_while_another_is_active() {
    let job = job();
    let active = ActiveRun {
        id: RunId(Uuid::nil()),
        trigger: RunTrigger::Schedule,
        since: t(60),
        since_mono: mono(60),
        queued: false,
        stopping: false,
    };
    let busy = JobView { active: Some(active), ..succeeded(0) };
    assert!(at(&job, None, &inputs(&job, busy.clone()), 70).steps.is_empty());
    let shown = |s: i64| at(&job, None, &inputs(&job, busy.clone()), s).status.unwrap().active_run.is_some();
    assert!(!shown(70) && shown(90), "a run appears in the status after half a minute");
}

#[test]
fn no_run_is_started_while_the_circuit_is_open() {
    let job = job();
    let mut open = inputs(&job, succeeded(0));
    let connection = |effective, probed, next_trial| {
        Some(ConnectionView { suspended: false, probed, effective, next_trial, maintenance: WindowPosition::default() })
    };
    for (view, starts) in [
        (connection(EffectiveState::Open, true, Some(t(0))), false),
        (connection(EffectiveState::HalfOpen, true, None), false),
        (connection(EffectiveState::ForcedOpen, true, None), false),
        (connection(EffectiveState::Open, false, Some(t(300))), false),
        (connection(EffectiveState::Open, false, Some(t(90))), true),
        (connection(EffectiveState::Shadow, true, None), true),
    ] {
        open.connection = view.clone();
        assert_eq!(!at(&job, None, &open, 100).steps.is_empty(), starts, "{view:?}");
    }
}

#[test]
fn a_failing_job_runs_by_its_retry_backoff_not_by_its_schedule() {
    let job = job();
    // Retry interval = the interval, 60 s; the third failure waits 240 s.
    let streak = inputs(&job, failed(100, 3));
    assert!(at(&job, None, &streak, 300).steps.is_empty());
    assert!(matches!(at(&job, None, &streak, 340).steps[..], [JobStep::Start { .. }]));
}

#[test]
fn an_interrupted_or_cancelled_run_is_caught_up_at_once() {
    let job = job();
    for result in [None, Some(RunResult::Interrupted), Some(RunResult::Cancelled)] {
        let interrupted = JobView { last: vec![run(result, 60)], ..succeeded(60) };
        let steps = at(&job, None, &inputs(&job, interrupted), 65).steps;
        assert!(matches!(steps[..], [JobStep::Start { trigger: RunTrigger::CatchUp, .. }]), "{result:?}: {steps:?}");
    }
}

#[test]
fn a_request_starts_one_run_at_once() {
    let mut job = job();
    job.metadata.annotations = Some([("reconcile.fluxcd.io/requestedAt".to_owned(), "x".to_owned())].into());
    let first = at(&job, None, &inputs(&job, succeeded(0)), 10);
    assert_eq!(first.steps, [JobStep::Start { trigger: RunTrigger::Manual, slot: None }]);
    let pending = first.status.unwrap();
    let id = requested_run(&job).unwrap();
    let active = |queued| ActiveRun {
        id,
        trigger: RunTrigger::Manual,
        since: t(10),
        since_mono: mono(10),
        queued,
        stopping: false,
    };
    let queued = JobView { active: Some(active(true)), ..succeeded(0) };
    let waiting = at(&job, Some(&pending), &inputs(&job, queued), 11);
    assert_eq!(waiting.steps, [], "once");
    let mut begun = succeeded(0);
    begun.last.insert(0, RunRecord { id, trigger: RunTrigger::Manual, slot: None, ..run(None, 10) });
    let of_a_job = JobView { active: Some(active(false)), ..succeeded(0) };
    for stored in [begun, of_a_job] {
        let handled = at(&job, Some(&pending), &inputs(&job, stored), 12).status.unwrap();
        assert_eq!(handled.last_handled_reconcile_at.as_deref(), Some("x"));
        assert!(SyncJob::is_urgent(Some(&pending), &handled), "its client waits for it");
        assert!(at(&job, Some(&handled), &inputs(&job, succeeded(0)), 13).steps.is_empty(), "once");
    }
    // Until then it is not acknowledged: a process that ends while the run is queued leaves no trace of it, and the next
    // one starts it again.
    let waiting = waiting.status.unwrap();
    assert_eq!((&pending.last_handled_reconcile_at, &waiting.last_handled_reconcile_at), (&None, &None));
    let restarted = at(&job, Some(&waiting), &inputs(&job, succeeded(0)), 14);
    assert_eq!(restarted.steps, [JobStep::Start { trigger: RunTrigger::Manual, slot: None }]);
}

#[test]
fn suspension_of_job_or_connection_stops_the_run_and_starts_none() {
    let mut suspended = job();
    suspended.spec.suspend = true;
    let active = ActiveRun {
        id: RunId(Uuid::nil()),
        trigger: RunTrigger::Schedule,
        since: t(0),
        since_mono: mono(0),
        queued: false,
        stopping: false,
    };
    let busy = JobView { active: Some(active), ..JobView::default() };
    assert_eq!(at(&suspended, None, &inputs(&suspended, busy), 5).steps, [JobStep::Stop]);
    assert!(at(&suspended, None, &inputs(&suspended, JobView::default()), 100).steps.is_empty());
    let job = job();
    let mut inputs = inputs(&job, JobView::default());
    inputs.connection.as_mut().unwrap().suspended = true;
    assert!(at(&job, None, &inputs, 100).steps.is_empty());
}

#[test]
fn no_run_starts_before_the_end_of_a_maintenance_window() {
    let job = job();
    let mut inputs = inputs(&job, JobView::default());
    inputs.connection.as_mut().unwrap().maintenance = WindowPosition::Inside { until: t(130) };
    let within = at(&job, None, &inputs, 100);
    assert_eq!((within.steps, within.requeue_after), (vec![], Duration::from_secs(30)));
    inputs.connection.as_mut().unwrap().maintenance = WindowPosition::Outside { until: Some(t(86_400)) };
    assert!(matches!(at(&job, None, &inputs, 130).steps[..], [JobStep::Start { .. }]));
}

#[test]
fn data_is_stale_after_three_intervals_and_one_event_reports_it() {
    let job = job();
    let fresh = at(&job, None, &inputs(&job, succeeded(0)), 179).status.unwrap();
    assert_eq!(fresh.fresh, Some(TriState::True));
    let stale = at(&job, Some(&fresh), &inputs(&job, succeeded(0)), 180);
    let status = stale.status.unwrap();
    assert_eq!(status.fresh, Some(TriState::False));
    assert!(SyncJob::is_urgent(Some(&fresh), &status));
    assert!(stale.events.iter().any(|event| event.reason == EventReason::StalenessExceeded));
    let still = at(&job, Some(&status), &inputs(&job, succeeded(0)), 200);
    assert!(still.events.iter().all(|event| event.reason != EventReason::StalenessExceeded));
}

#[test]
fn the_first_failure_and_the_recovery_are_events() {
    let job = job();
    let ok = at(&job, None, &inputs(&job, succeeded(0)), 10).status.unwrap();
    let failing = at(&job, Some(&ok), &inputs(&job, failed(60, 1)), 61);
    assert!(
        failing
            .events
            .iter()
            .any(|event| event.reason == EventReason::SyncFailed && event.message.contains("ProviderError"))
    );
    let status = failing.status.unwrap();
    assert_eq!((status.last_result, status.failure_streak), (Some(WireResult::Failed), Some(1)));
    assert_eq!(
        status_of(&status.conditions, ConditionType::Ready),
        ConditionStatus::True,
        "an outage does not affect Ready"
    );
    let back = at(&job, Some(&status), &inputs(&job, succeeded(120)), 121);
    assert!(back.events.iter().any(|event| event.reason == EventReason::SyncSucceeded));
}

#[test]
fn ride_along_fields_are_not_transitions() {
    let job = job();
    let one = at(&job, None, &inputs(&job, succeeded(0)), 10).status.unwrap();
    let mut more = succeeded(60);
    more.last.push(run(Some(RunResult::Succeeded), 0));
    more.cursor_preview = Some("2026-03-01".into());
    let two = at(&job, Some(&one), &inputs(&job, more), 70).status.unwrap();
    assert_ne!(one, two);
    assert_eq!(SyncJob::transition_fields(&one), SyncJob::transition_fields(&two));
    assert_eq!((two.history.len(), two.history[0].count), (1, 2), "equal neighbours are one entry");
}

#[test]
fn a_slot_missed_by_more_than_its_deadline_is_skipped() {
    let mut job = job();
    job.spec.interval = None;
    job.spec.schedule = Some("0 12 * * *".into());
    job.spec.starting_deadline = Some("10m".into());
    let late = at(&job, None, &inputs(&job, succeeded(-86_400)), 3600);
    assert_eq!(late.steps, [JobStep::Skip { slot: t(0) }]);
    let on_time = at(&job, None, &inputs(&job, succeeded(-86_400)), 300);
    assert!(matches!(on_time.steps[..], [JobStep::Start { .. }]));
}

/// Steps, and reason and message of the condition, of a job with this retention mode.
fn with_retention(mode: Option<RetentionMode>, has_key: bool, type_: ConditionType) -> (usize, String, String) {
    let mut job = job();
    job.spec.retention = Some(Retention { raw: None, mode });
    let mut observed = inputs(&job, JobView::default());
    observed.schedule = schedule(&job, has_key);
    let decision = at(&job, None, &observed, 60);
    let conditions = decision.status.unwrap().conditions;
    let condition = conditions.iter().find(|c| c.type_ == type_.as_str() && c.status == "True").unwrap();
    (decision.steps.len(), condition.reason.clone(), condition.message.clone())
}

#[test]
fn unset_retention_runs_without_a_key_and_ready_says_off() {
    let (steps, reason, message) = with_retention(None, false, ConditionType::Ready);
    assert_eq!((steps, &*reason), (1, "Accepted"));
    assert!(message.contains("raw payloads are not stored: spec.retention.mode defaults to Off"), "{message}");
}

#[test]
fn unset_retention_runs_with_a_key_and_ready_says_encrypted() {
    let (steps, reason, message) = with_retention(None, true, ConditionType::Ready);
    assert_eq!((steps, &*reason), (1, "Accepted"));
    assert!(message.contains("raw payloads are stored encrypted: spec.retention.mode defaults"), "{message}");
}

#[test]
fn explicit_encrypted_without_a_key_is_stalled_and_starts_nothing() {
    let (steps, reason, message) = with_retention(Some(RetentionMode::Encrypted), false, ConditionType::Stalled);
    assert_eq!((steps, &*reason), (0, "KeyMissing"));
    assert!(message.contains("--key-secret") && message.contains("spec.retention.mode"), "{message}");
}

#[test]
fn an_explicit_mode_adds_nothing_to_ready() {
    let (_, _, message) = with_retention(Some(RetentionMode::Off), false, ConditionType::Ready);
    assert_eq!(message, "spec accepted; runs on schedule");
}
