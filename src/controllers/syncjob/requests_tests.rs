//! What is asked of a job beside its schedule: resyncs, runs over HTTP, and what a due run does to an active one.

use std::time::Duration;

use uuid::Uuid;

use super::decide::{JobInputs, JobStep};
use super::requests::{Closing, PendingResync, RequestedWork};
use super::tests::{at, failed, inputs, job, mono, run, succeeded, t};
use crate::api::v1alpha1::SyncJob;
use crate::api::v1alpha1::reasons::{ConditionType, EventReason, Reason};
use crate::api::v1alpha1::sync_job::{ConcurrencyPolicy, RunTrigger as WireTrigger, SyncJobStatus};
use crate::cluster::resource::HasStatus as _;
use crate::controllers::conditions::reason_of;
use crate::domain::run_reason::RunReason;
use crate::ledger::requests::RequestState;
use crate::ledger::{PartitionStreak, RunId, RunRecord, RunResult, RunTrigger};
use crate::settings::sync_plan::ResyncPlan;
use crate::work::pool::{ActiveRun, JobView, ResyncAttempts, RunRequest};

fn resync() -> PendingResync {
    let plan = ResyncPlan { id: "may".into(), from: t(-7_200), to: t(-3_600), partitions: Vec::new() };
    PendingResync { plan, run: None }
}

fn asked(job: &SyncJob, runs: JobView) -> JobInputs {
    let requested = RequestedWork { resync: Some(resync()), ..RequestedWork::default() };
    JobInputs { requested, ..inputs(job, runs) }
}

fn active(trigger: RunTrigger, since: i64) -> ActiveRun {
    let id = RunId(Uuid::from_u128(77));
    ActiveRun { id, trigger, since: t(since), since_mono: mono(since), queued: false, stopping: false }
}

fn running(trigger: RunTrigger, since: i64) -> JobView {
    JobView { active: Some(active(trigger, since)), ..succeeded(0) }
}

fn steps(job: &SyncJob, inputs: &JobInputs, seconds: i64) -> Vec<JobStep> {
    at(job, None, inputs, seconds).steps
}

fn resync_run(result: Option<RunResult>, at: i64) -> RunRecord {
    RunRecord { trigger: RunTrigger::Resync, slot: None, ..run(result, at) }
}

#[test]
fn a_resync_runs_between_two_runs_of_the_schedule_and_not_instead_of_one() {
    let job = job();
    assert_eq!(steps(&job, &asked(&job, succeeded(0)), 10), [JobStep::StartResync(resync())]);
    let due = steps(&job, &asked(&job, succeeded(0)), 60);
    assert!(matches!(due[..], [JobStep::Start { trigger: RunTrigger::Schedule, .. }]), "{due:?}");
    assert_eq!(steps(&job, &asked(&job, running(RunTrigger::Schedule, 5)), 10), [], "a run is active");
    assert_eq!(steps(&job, &asked(&job, failed(0, 1)), 10), [], "the provider fails");
}

#[test]
fn a_resync_changes_neither_what_is_due_nor_the_last_result() {
    let job = job();
    for result in [Some(RunResult::Failed), Some(RunResult::Cancelled), Some(RunResult::Succeeded), None] {
        let mut view = succeeded(0);
        view.last.insert(0, resync_run(result, 70));
        let due = at(&job, None, &inputs(&job, view.clone()), 75);
        assert!(matches!(due.steps[..], [JobStep::Start { slot: Some(_), .. }]), "{result:?} {:?}", due.steps);
        let status = due.status.unwrap();
        assert_eq!(
            status.last_result.map(crate::api::v1alpha1::sync_job::status::RunResult::as_str),
            Some("Succeeded"),
            "{result:?}"
        );
        let idle = at(&job, None, &inputs(&job, JobView { last_slot: Some(t(60)), ..view }), 75);
        assert_eq!(idle.steps, [], "{result:?}: no catch-up of a resync");
    }
}

#[test]
fn a_failed_resync_is_tried_again_with_growing_pauses() {
    let job = job();
    let attempts = |failures| JobView {
        resync: Some(ResyncAttempts { id: "may".into(), failures, last: mono(10) }),
        ..succeeded(0)
    };
    for (failures, pause) in [(1, 60), (2, 120), (3, 240)] {
        let view = || JobView { last_slot: Some(t(600)), ..attempts(failures) };
        let early = at(&job, None, &asked(&job, view()), 10 + pause - 1);
        assert_eq!(early.steps, [], "{failures}");
        assert!(early.requeue_after <= Duration::from_secs(1), "{:?}", early.requeue_after);
        assert_eq!(steps(&job, &asked(&job, view()), 10 + pause), [JobStep::StartResync(resync())], "{failures}");
    }
    let other =
        JobView { resync: Some(ResyncAttempts { id: "june".into(), failures: 9, last: mono(10) }), ..succeeded(0) };
    assert_eq!(steps(&job, &asked(&job, other), 11), [JobStep::StartResync(resync())], "another request");
}

#[test]
fn a_resync_that_failed_elsewhere_has_its_pauses_too() {
    let job = job();
    for (failures, pause) in [(1, 60), (2, 120)] {
        let view = || {
            let mut view = JobView { last_slot: Some(t(6_000)), ..succeeded(0) };
            (0..failures).for_each(|n| view.last.insert(0, resync_run(Some(RunResult::Failed), 1_000 + n)));
            view
        };
        let ended = view().last[0].ended.unwrap().duration_since(t(0)).as_secs();
        assert_eq!(steps(&job, &asked(&job, view()), ended + pause - 1), [], "{failures}");
        assert_eq!(steps(&job, &asked(&job, view()), ended + pause), [JobStep::StartResync(resync())], "{failures}");
        let mut done = view();
        done.last.insert(0, resync_run(Some(RunResult::Succeeded), 1_010));
        assert_eq!(steps(&job, &asked(&job, done), 1_020), [JobStep::StartResync(resync())], "{failures}");
    }
}

#[test]
fn another_resync_starts_at_once_however_often_the_last_one_failed_before_a_restart() {
    let job = job();
    let failed_as = |id: Option<&str>, n: i64| {
        let mut run = resync_run(Some(RunResult::Failed), 1_000 + n);
        run.failure.resync = id.map(str::to_owned);
        run
    };
    let view = |ids: &[Option<&str>]| {
        let mut view = JobView { last_slot: Some(t(60_000)), ..succeeded(0) };
        (0..).zip(ids).for_each(|(n, id)| view.last.insert(0, failed_as(*id, n)));
        view
    };
    let started = |ids: &[Option<&str>], at| !steps(&job, &asked(&job, view(ids)), at).is_empty();
    assert!(started(&[Some("april"); 5], 1_010), "another request");
    // Its own failures delay it, with those of others between them, and so do those of a version that stored no ID.
    for ids in [&[Some("may"); 3][..], &[Some("may"), Some("april"), Some("may"), Some("may")], &[None; 3]] {
        let last = 999 + i64::try_from(ids.len()).unwrap();
        assert_eq!((started(ids, last + 239), started(ids, last + 240)), (false, true), "{ids:?}");
    }
}

#[test]
fn a_resync_yields_to_a_due_run_once_it_had_its_turn() {
    for policy in [ConcurrencyPolicy::Forbid, ConcurrencyPolicy::Replace] {
        let mut job = job();
        job.spec.concurrency_policy = policy;
        let view = running(RunTrigger::Resync, 50);
        let early = at(&job, None, &asked(&job, view.clone()), 65);
        assert_eq!(early.steps, [], "{policy:?}");
        assert!(early.requeue_after <= Duration::from_secs(45), "looked at when its turn ends: {early:?}");
        assert_eq!(steps(&job, &asked(&job, view.clone()), 110), [JobStep::Stop], "{policy:?}");
        let not_due = JobView { last_slot: Some(t(120)), ..view };
        assert_eq!(steps(&job, &asked(&job, not_due), 150), [], "{policy:?}: nothing is due");
    }
}

#[test]
fn replace_stops_the_active_run_for_a_slot_that_came_since() {
    let mut job = job();
    let view = running(RunTrigger::Schedule, 30);
    assert_eq!(steps(&job, &inputs(&job, view.clone()), 61), [], "Forbid");
    job.spec.concurrency_policy = ConcurrencyPolicy::Replace;
    assert_eq!(steps(&job, &inputs(&job, view.clone()), 61), [JobStep::Stop]);
    assert_eq!(steps(&job, &inputs(&job, view.clone()), 59), [], "before the slot");
    let woken = at(&job, None, &inputs(&job, view.clone()), 31).requeue_after;
    assert!(woken <= Duration::from_secs(29), "{woken:?}");
    // The run that serves the slot is not replaced by itself, queued or not.
    assert_eq!(steps(&job, &inputs(&job, running(RunTrigger::Schedule, 60)), 62), []);
    let queued = ActiveRun { queued: true, ..active(RunTrigger::Schedule, 30) };
    let in_queue = JobView { active: Some(queued), ..view.clone() };
    assert_eq!(steps(&job, &inputs(&job, in_queue), 61), [], "a queued run keeps its place");
    let stopping = ActiveRun { stopping: true, ..active(RunTrigger::Schedule, 30) };
    assert_eq!(steps(&job, &inputs(&job, JobView { active: Some(stopping), ..view }), 61), [], "once");
}

#[test]
fn replace_stops_the_active_run_for_a_request_too_but_not_against_the_backoff() {
    let mut job = job();
    job.spec.concurrency_policy = ConcurrencyPolicy::Replace;
    let requested = RequestedWork { run: Some(RunId(Uuid::from_u128(5))), ..RequestedWork::default() };
    let view = running(RunTrigger::Schedule, 30);
    let with_request = JobInputs { requested, ..inputs(&job, view) };
    assert_eq!(steps(&job, &with_request, 35), [JobStep::Stop]);
    let failing = JobView { active: Some(active(RunTrigger::Retry, 190)), ..failed(100, 2) };
    assert_eq!(steps(&job, &inputs(&job, failing), 200), [], "the retry itself");
}

#[test]
fn a_run_over_http_starts_under_its_own_id_and_requests_are_closed() {
    let job = job();
    let id = RunId(Uuid::from_u128(5));
    let closing = Closing { id: Uuid::from_u128(6), state: RequestState::Done, outcome: "Succeeded" };
    let requested = RequestedWork { run: Some(id), closings: vec![closing.clone()], ..RequestedWork::default() };
    let inputs = JobInputs { requested, ..inputs(&job, succeeded(0)) };
    assert_eq!(
        steps(&job, &inputs, 5),
        [JobStep::StartRequested { run: id, trigger: RunTrigger::Manual }, JobStep::Close(closing.clone())]
    );
    let by_webhook = RequestedWork { run: Some(id), is_webhook: true, ..RequestedWork::default() };
    let hooked = JobInputs { requested: by_webhook, ..inputs.clone() };
    assert_eq!(steps(&job, &hooked, 5), [JobStep::StartRequested { run: id, trigger: RunTrigger::Webhook }]);
    let mut suspended = job;
    suspended.spec.suspend = true;
    assert_eq!(steps(&suspended, &inputs, 5), [JobStep::Close(closing)], "no run of a suspended job");
}

#[test]
fn a_run_whose_job_was_lost_is_recorded_before_anything_else_starts() {
    let job = job();
    let lost = RunRequest { run: RunId(Uuid::from_u128(9)), trigger: RunTrigger::Schedule, slot: None };
    let inputs = JobInputs { lost: vec![lost], ..inputs(&job, succeeded(0)) };
    let decision = at(&job, None, &inputs, 60);
    assert_eq!(decision.steps, [JobStep::RecordLost(lost)]);
    assert!(decision.requeue_after <= Duration::from_secs(5));
}

/// The reasons of the events of a change from `before`, and the status after it.
fn change(job: &SyncJob, before: &SyncJobStatus, view: JobView, now: i64) -> (Vec<EventReason>, SyncJobStatus) {
    let decision = at(job, Some(before), &inputs(job, view), now);
    (decision.events.iter().map(|event| event.reason).collect(), decision.status.unwrap())
}

#[test]
fn a_streak_that_reaches_its_threshold_is_one_event_and_the_reason_of_fresh() {
    let mut job = job();
    job.spec.interval = Some("1h".into());
    let failing = |streak| JobView { last_success: Some(t(0)), ..failed(100, streak) };
    let (_, before) =
        change(&job, &SyncJobStatus { observed_generation: Some(1), ..SyncJobStatus::default() }, failing(4), 101);
    assert_eq!(reason_of(&before.conditions, ConditionType::Fresh), Some(Reason::WithinStaleness.as_str()));
    let (events, reached) = change(&job, &before, failing(5), 102);
    assert_eq!(events, [EventReason::FailureStreakReached]);
    assert_eq!(reason_of(&reached.conditions, ConditionType::Fresh), Some(Reason::FailureStreak.as_str()));
    assert_ne!(SyncJob::transition_fields(&before), SyncJob::transition_fields(&reached), "it is written");
    assert_eq!(change(&job, &reached, failing(6), 103).0, [], "once");
    let empty = JobView { empty_streak: 3, ..succeeded(100) };
    let (events, quiet) = change(&job, &reached, empty, 104);
    assert!(events.contains(&EventReason::EmptyStreakReached), "{events:?}");
    assert_eq!(reason_of(&quiet.conditions, ConditionType::Fresh), Some(Reason::EmptyStreak.as_str()));
}

#[test]
fn a_fetch_that_becomes_slow_is_one_event_until_it_was_fast_again() {
    let mut job = job();
    job.spec.interval = Some("1h".into());
    let slow = |at: i64, partitions: u32| {
        let mut view = succeeded(at);
        view.last[0].failure.slow = partitions;
        view
    };
    let known = SyncJobStatus { observed_generation: Some(1), ..SyncJobStatus::default() };
    let (events, fast) = change(&job, &known, slow(0, 0), 1);
    assert!(!events.contains(&EventReason::FetchDurationExceeded), "{events:?}");
    let (events, first) = change(&job, &fast, slow(100, 1), 101);
    assert_eq!(events, [EventReason::FetchDurationExceeded]);
    assert_ne!(SyncJob::transition_fields(&fast), SyncJob::transition_fields(&first), "it is written");
    assert_eq!(first.fresh, fast.fresh, "the data is complete");
    // A run that was stopped, and a resync, say nothing about it.
    let mut stopped = slow(100, 1);
    stopped.last.insert(0, run(Some(RunResult::Cancelled), 150));
    stopped.last.insert(0, resync_run(Some(RunResult::Succeeded), 160));
    assert_eq!(change(&job, &first, stopped, 161).0, [], "once");
    assert_eq!(change(&job, &first, slow(200, 1), 201).0, [], "once");
    let (events, recovered) = change(&job, &first, slow(300, 0), 301);
    assert_eq!(events, []);
    let inputs = JobInputs { partitions: 3, ..inputs(&job, slow(400, 2)) };
    let again = at(&job, Some(&recovered), &inputs, 401).events;
    assert_eq!(again.len(), 1);
    assert!(again[0].message.contains("2 of 3 partitions"), "{}", again[0].message);
    // A run that failed can have been slow too.
    let mut timed_out = failed(500, 1);
    timed_out.last[0].failure.slow = 1;
    let (events, _) = change(&job, &recovered, timed_out, 501);
    assert!(events.contains(&EventReason::FetchDurationExceeded), "{events:?}");
}

#[test]
fn the_streak_of_one_partition_counts_although_others_are_read() {
    let mut job = job();
    job.spec.interval = Some("1h".into());
    let streak = PartitionStreak { name: "a".into(), failure_streak: 5, empty_streak: 0 };
    // Others failed in between, so the job itself has failed more often than any of its partitions.
    let view = |streaks: Vec<PartitionStreak>| JobView { streaks, last_success: Some(t(0)), ..failed(100, 9) };
    let reason = |streaks| {
        let inputs = JobInputs { partitions: 2, ..inputs(&job, view(streaks)) };
        let status = at(&job, None, &inputs, 101).status.unwrap();
        reason_of(&status.conditions, ConditionType::Fresh).unwrap().to_owned()
    };
    assert_eq!(reason(vec![streak.clone()]), "FailureStreak");
    assert_eq!(reason(vec![PartitionStreak { failure_streak: 4, ..streak }]), "WithinStaleness");
}

#[test]
fn a_drifted_schema_and_a_completed_resync_are_events() {
    let job = job();
    let good = at(&job, None, &inputs(&job, succeeded(0)), 10).status.unwrap();
    let mut drifted = failed(60, 1);
    drifted.last[0].reason = Some(RunReason::SchemaDrifted);
    let (events, status) = change(&job, &good, drifted.clone(), 61);
    assert!(events.contains(&EventReason::SchemaDrifted), "{events:?}");
    assert!(!change(&job, &status, drifted, 62).0.contains(&EventReason::SchemaDrifted), "once");

    let mut done = JobView { last_resync: Some("may".into()), ..succeeded(0) };
    done.last.insert(0, resync_run(Some(RunResult::Succeeded), 20));
    let (events, status) = change(&job, &good, done.clone(), 21);
    assert_eq!(events, [EventReason::ResyncCompleted]);
    assert_eq!(status.last_handled_resync_id.as_deref(), Some("may"));
    assert_eq!(status.history[0].trigger, WireTrigger::Resync);
    assert!(SyncJob::is_urgent(Some(&good), &status), "a client waits for it");
    assert_eq!(change(&job, &status, done, 22).0, [], "once");
}
