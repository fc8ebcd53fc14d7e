//! When a job runs and what its status says: values in, values out.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::decide::{ConnectionView, Observed, Step, decide};
use super::plan::{self, cadence};
use crate::api::v1alpha1::SyncJob;
use crate::api::v1alpha1::common::{LocalRef, Tri};
use crate::api::v1alpha1::reasons::{ConditionType, EventReason, Reason};
use crate::api::v1alpha1::sync_job::{Retention, RetentionMode, RunResult as WireResult, SyncJobSpec, SyncJobStatus};
use crate::cluster::status::Reported as _;
use crate::controllers::Decision;
use crate::controllers::conditions::{read, status_of};
use crate::domain::breaker::Effective;
use crate::domain::conditions::{Status, check_invariants};
use crate::domain::key::ObjectKey;
use crate::domain::time::{Mono, Now};
use crate::domain::window::Place;
use crate::ledger::runs::RunCounts;
use crate::ledger::{RunId, RunRecord, RunResult, RunTrigger};
use crate::provider::profile::{Environment, Profile};
use crate::provider::settings::{Draft, Settings};
use crate::work::pool::{ActiveRun, JobView};

fn t(seconds: i64) -> Timestamp {
    let start: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
    start + SignedDuration::from_secs(seconds)
}

fn job() -> SyncJob {
    let spec = SyncJobSpec {
        connection_ref: LocalRef::to("bank"),
        stream: Some("transactions".into()),
        interval: Some("60s".into()),
        jitter_percent: Some(0),
        retention: Some(Retention { raw: None, mode: RetentionMode::Off }),
        ..SyncJobSpec::default()
    };
    let mut job = SyncJob::new("j", spec);
    job.metadata.namespace = Some("ns".into());
    job.metadata.uid = Some("u".into());
    job.metadata.generation = Some(1);
    job.metadata.creation_timestamp = Some(crate::controllers::conditions::time(t(0)));
    job
}

fn run(result: Option<RunResult>, at: i64) -> RunRecord {
    RunRecord {
        id: RunId(Uuid::from_u128(u128::from(at.unsigned_abs()))),
        trigger: RunTrigger::Schedule,
        slot: Some(t(at)),
        dry_run: false,
        started: t(at),
        ended: result.map(|_| t(at)),
        result,
        reason: (result == Some(RunResult::Failed)).then(|| "ProviderError".to_owned()),
        counts: RunCounts::default(),
    }
}

fn seen(job: &SyncJob, runs: JobView) -> Observed {
    Observed {
        cadence: cadence(&job.spec, t(0)),
        connection: Some(ConnectionView {
            suspended: false,
            probed: true,
            effective: Effective::Closed,
            next_trial: None,
            maintenance: Place::default(),
        }),
        runs,
        partitions: 1,
        unread: Vec::new(),
    }
}

fn at(job: &SyncJob, previous: Option<&SyncJobStatus>, seen: &Observed, seconds: i64) -> Decision<SyncJobStatus, Step> {
    let decision = decide(job, previous, seen, Now { mono: Mono::ZERO, wall: t(seconds) });
    let conditions: Vec<_> = decision.status.as_ref().unwrap().conditions.iter().map(read).collect();
    check_invariants(&conditions).unwrap();
    decision
}

fn succeeded(at: i64) -> JobView {
    JobView {
        last: vec![run(Some(RunResult::Succeeded), at)],
        last_slot: Some(t(at)),
        last_success: Some(t(at)),
        ..JobView::default()
    }
}

fn failed(at: i64, streak: u32) -> JobView {
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
    let first = at(&job, None, &seen(&job, JobView::default()), 0);
    assert!(matches!(first.steps[..], [Step::Start { trigger: RunTrigger::Schedule, .. }]), "{:?}", first.steps);
    let waiting = at(&job, None, &seen(&job, succeeded(0)), 10);
    assert_eq!((waiting.steps, waiting.next), (Vec::new(), Duration::from_secs(50)));
    let due = at(&job, None, &seen(&job, succeeded(0)), 60);
    assert!(matches!(due.steps[..], [Step::Start { .. }]));
}

#[test]
fn no_run_is_started_beside_another() {
    let job = job();
    let active = ActiveRun {
        id: RunId(Uuid::nil()),
        trigger: RunTrigger::Schedule,
        since: t(60),
        queued: false,
        stopping: false,
    };
    let busy = JobView { active: Some(active), ..succeeded(0) };
    assert!(at(&job, None, &seen(&job, busy.clone()), 70).steps.is_empty());
    let shown = |s: i64| at(&job, None, &seen(&job, busy.clone()), s).status.unwrap().active_run.is_some();
    assert!(!shown(70) && shown(90), "a run is shown once it has taken half a minute");
}

#[test]
fn while_the_circuit_keeps_calls_away_no_run_is_started() {
    let job = job();
    let mut open = seen(&job, succeeded(0));
    let connection = |effective, probed, next_trial| {
        Some(ConnectionView { suspended: false, probed, effective, next_trial, maintenance: Place::default() })
    };
    for (view, starts) in [
        (connection(Effective::Open, true, Some(t(0))), false),
        (connection(Effective::HalfOpen, true, None), false),
        (connection(Effective::ForcedOpen, true, None), false),
        (connection(Effective::Open, false, Some(t(300))), false),
        (connection(Effective::Open, false, Some(t(90))), true),
        (connection(Effective::Shadow, true, None), true),
    ] {
        open.connection = view.clone();
        assert_eq!(!at(&job, None, &open, 100).steps.is_empty(), starts, "{view:?}");
    }
}

#[test]
fn a_failing_job_is_paced_by_doubling_retries_not_by_its_schedule() {
    let job = job();
    // Retry interval = the interval, 60 s; the third failure waits 240 s.
    let streak = seen(&job, failed(100, 3));
    assert!(at(&job, None, &streak, 300).steps.is_empty());
    assert!(matches!(at(&job, None, &streak, 340).steps[..], [Step::Start { .. }]));
}

#[test]
fn a_run_that_died_or_was_stopped_is_made_up_for_at_once() {
    let job = job();
    for result in [None, Some(RunResult::Interrupted), Some(RunResult::Cancelled)] {
        let died = JobView { last: vec![run(result, 60)], ..succeeded(60) };
        let steps = at(&job, None, &seen(&job, died), 65).steps;
        assert!(matches!(steps[..], [Step::Start { trigger: RunTrigger::CatchUp, .. }]), "{result:?}: {steps:?}");
    }
}

#[test]
fn a_request_runs_now_and_once() {
    let mut job = job();
    job.metadata.annotations = Some([("reconcile.fluxcd.io/requestedAt".to_owned(), "x".to_owned())].into());
    let first = at(&job, None, &seen(&job, succeeded(0)), 10);
    assert_eq!(first.steps, [Step::Start { trigger: RunTrigger::Manual, slot: None }]);
    let handled = first.status.unwrap();
    assert_eq!(handled.last_handled_reconcile_at.as_deref(), Some("x"));
    assert!(at(&job, Some(&handled), &seen(&job, succeeded(0)), 11).steps.is_empty());
}

#[test]
fn a_suspended_job_or_connection_stops_the_run_and_starts_none() {
    let mut suspended = job();
    suspended.spec.suspend = true;
    let active = ActiveRun {
        id: RunId(Uuid::nil()),
        trigger: RunTrigger::Schedule,
        since: t(0),
        queued: false,
        stopping: false,
    };
    let busy = JobView { active: Some(active), ..JobView::default() };
    assert_eq!(at(&suspended, None, &seen(&suspended, busy), 5).steps, [Step::Stop]);
    assert!(at(&suspended, None, &seen(&suspended, JobView::default()), 100).steps.is_empty());
    let job = job();
    let mut seen = seen(&job, JobView::default());
    seen.connection.as_mut().unwrap().suspended = true;
    assert!(at(&job, None, &seen, 100).steps.is_empty());
}

#[test]
fn a_maintenance_window_of_the_connection_stops_the_run_and_starts_none_before_it_ends() {
    let job = job();
    let mut seen = seen(&job, JobView::default());
    seen.connection.as_mut().unwrap().maintenance = Place::Inside { until: t(130) };
    let within = at(&job, None, &seen, 100);
    assert_eq!((within.steps, within.next), (vec![], Duration::from_secs(30)));
    seen.connection.as_mut().unwrap().maintenance = Place::Outside { until: Some(t(86_400)) };
    assert!(matches!(at(&job, None, &seen, 130).steps[..], [Step::Start { .. }]));
}

#[test]
fn data_turns_stale_after_three_intervals_and_says_so_once() {
    let job = job();
    let fresh = at(&job, None, &seen(&job, succeeded(0)), 179).status.unwrap();
    assert_eq!(fresh.fresh, Some(Tri::True));
    let stale = at(&job, Some(&fresh), &seen(&job, succeeded(0)), 180);
    let status = stale.status.unwrap();
    assert_eq!(status.fresh, Some(Tri::False));
    assert!(SyncJob::is_worse(Some(&fresh), &status));
    assert!(stale.notes.iter().any(|n| n.reason == EventReason::StalenessExceeded));
    let still = at(&job, Some(&status), &seen(&job, succeeded(0)), 200);
    assert!(still.notes.iter().all(|n| n.reason != EventReason::StalenessExceeded));
}

#[test]
fn a_first_failure_and_the_recovery_are_told() {
    let job = job();
    let ok = at(&job, None, &seen(&job, succeeded(0)), 10).status.unwrap();
    let failing = at(&job, Some(&ok), &seen(&job, failed(60, 1)), 61);
    assert!(failing.notes.iter().any(|n| n.reason == EventReason::SyncFailed && n.message.contains("ProviderError")));
    let status = failing.status.unwrap();
    assert_eq!((status.last_result, status.failure_streak), (Some(WireResult::Failed), Some(1)));
    assert_eq!(status_of(&status.conditions, ConditionType::Ready), Status::True, "an outage is not the spec's fault");
    let back = at(&job, Some(&status), &seen(&job, succeeded(120)), 121);
    assert!(back.notes.iter().any(|n| n.reason == EventReason::SyncSucceeded));
}

#[test]
fn ride_along_fields_are_no_transition() {
    let job = job();
    let one = at(&job, None, &seen(&job, succeeded(0)), 10).status.unwrap();
    let mut more = succeeded(60);
    more.last.push(run(Some(RunResult::Succeeded), 0));
    more.cursor_preview = Some("2026-03-01".into());
    let two = at(&job, Some(&one), &seen(&job, more), 70).status.unwrap();
    assert_ne!(one, two);
    assert_eq!(SyncJob::transitions(&one), SyncJob::transitions(&two));
    assert_eq!((two.history.len(), two.history[0].count), (1, 2), "equal neighbours are one entry");
}

#[test]
fn a_slot_of_a_cron_line_missed_by_more_than_its_deadline_is_skipped_and_told() {
    let mut job = job();
    job.spec.interval = None;
    job.spec.schedule = Some("0 12 * * *".into());
    job.spec.starting_deadline = Some("10m".into());
    let late = at(&job, None, &seen(&job, succeeded(-86_400)), 3600);
    assert_eq!(late.steps, [Step::Skip { slot: t(0) }]);
    let on_time = at(&job, None, &seen(&job, succeeded(-86_400)), 300);
    assert!(matches!(on_time.steps[..], [Step::Start { .. }]));
}

#[test]
fn what_cannot_be_honoured_is_stalled() {
    let mut job = job();
    job.spec.retention = None;
    let problem = plan::refuse_unimplemented(&job.spec).unwrap_err();
    assert_eq!((problem.reason, problem.waiting), (Reason::NotImplemented, false));
    let mut observed = seen(&job, JobView::default());
    observed.cadence = Err(problem);
    let decision = at(&job, None, &observed, 10);
    assert!(decision.steps.is_empty());
    assert_eq!(status_of(&decision.status.unwrap().conditions, ConditionType::Stalled), Status::True);
}

#[test]
fn a_stream_that_no_sync_runs_yet_stalls_its_job_with_the_name_of_the_feature() {
    let text = "id: x\ntitle: X\nbaseURL: {sandbox: 'https://x.example'}\nbreaker: Api\nhealthCheck: {path: /}\nstreams:\n  rows: {record: document, path: /r, records: [/a], key: /id, commitScope: Window, pagination: {kind: linkHeader, link: {kind: follow}}}\n";
    let profile = Arc::new(Profile::parse("x.yaml", text).unwrap());
    let connection = Settings::resolve(Draft::new(profile, Environment::Sandbox)).unwrap();
    let mut job = job();
    job.spec.stream = Some("rows".into());
    let problem = plan::sync(&ObjectKey::new("team", "rows"), &job.spec, &connection).unwrap_err();
    assert_eq!((problem.reason, problem.waiting), (Reason::NotImplemented, false));
    assert_eq!(
        problem.message,
        "spec.stream \"rows\" needs what this version of Busbar cannot sync: pagination.kind: linkHeader, commitScope: Window; choose another stream"
    );
}
