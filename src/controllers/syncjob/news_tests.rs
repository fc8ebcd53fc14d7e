//! What is news of a job: the result of a requested run at once, and no event of what did not happen.

use std::time::Duration;

use super::tests::{at, failed, inputs, job, mono, run, succeeded, t};
use crate::api::REQUESTED_AT;
use crate::api::v1alpha1::SyncJob;
use crate::api::v1alpha1::reasons::EventReason;
use crate::api::v1alpha1::sync_job::{RunTrigger as WireTrigger, SyncJobStatus};
use crate::cluster::resource::HasStatus as _;
use crate::cluster::status::{Timing, timing};
use crate::controllers::conditions::time;
use crate::domain::run_reason::RunReason;
use crate::ledger::{RunId, RunRecord, RunResult, RunTrigger};
use crate::sync::RunReport;
use crate::work::pool::{JobView, RunOutcome};

fn requesting(request: &str) -> SyncJob {
    let mut job = job();
    job.metadata.annotations = Some([(REQUESTED_AT.to_owned(), request.to_owned())].into());
    job
}

/// The run of `request`, which succeeded without anything new.
fn requested_run(request: &str, at: i64) -> RunRecord {
    RunRecord {
        id: RunId::of_request("u", request),
        trigger: RunTrigger::Manual,
        slot: None,
        ..run(Some(RunResult::Succeeded), at)
    }
}

/// The runs, newest first.
fn runs(last: Vec<RunRecord>) -> JobView {
    JobView { last, ..succeeded(0) }
}

fn quiet(at: i64) -> RunRecord {
    run(Some(RunResult::Succeeded), at)
}

fn requests(status: &SyncJobStatus) -> Vec<(WireTrigger, Option<&str>, i32)> {
    status.history.iter().map(|entry| (entry.trigger, entry.requested_at.as_deref(), entry.count)).collect()
}

#[test]
fn the_end_of_a_requested_run_is_written_at_once_under_its_own_request() {
    let job = requesting("r1");
    let before = at(&job, None, &inputs(&job, runs(vec![quiet(0)])), 10).status.unwrap();
    let ended = at(&job, Some(&before), &inputs(&job, runs(vec![requested_run("r1", 11), quiet(0)])), 12);
    let status = ended.status.unwrap();
    assert_eq!(requests(&status), [(WireTrigger::Request, Some("r1"), 1), (WireTrigger::Schedule, None, 1)]);
    assert!(SyncJob::is_urgent(Some(&before), &status));
    assert_eq!(
        timing::<SyncJob>(Some(&before), &status, Some(Duration::ZERO)),
        Timing::Now,
        "right after another write"
    );
    // It stays a result of its own when scheduled runs with the same outcome follow, and is news once.
    let later = runs(vec![quiet(120), quiet(60), requested_run("r1", 11), quiet(0)]);
    let later = at(&job, Some(&status), &inputs(&job, later), 121).status.unwrap();
    assert_eq!(
        requests(&later),
        [(WireTrigger::Schedule, None, 2), (WireTrigger::Request, Some("r1"), 1), (WireTrigger::Schedule, None, 1)]
    );
    assert!(!SyncJob::is_urgent(Some(&status), &later));
    assert_eq!(SyncJob::transition_fields(&status), SyncJob::transition_fields(&later));
}

#[test]
fn a_run_keeps_its_request_when_another_replaces_the_annotation() {
    let first = requesting("r1");
    let runs_of_first = runs(vec![requested_run("r1", 11), quiet(0)]);
    let idle = at(&first, None, &inputs(&first, runs(vec![quiet(0)])), 10).status.unwrap();
    let acknowledged = SyncJobStatus { last_handled_reconcile_at: Some("r1".into()), ..idle };
    let second = requesting("r2");
    let seen = at(&second, Some(&acknowledged), &inputs(&second, runs_of_first.clone()), 12).status.unwrap();
    assert_eq!(seen.history[0].requested_at.as_deref(), Some("r1"), "not the request that waits");
    assert_eq!(seen.last_handled_reconcile_at.as_deref(), Some("r1"), "its run is not stored yet");
    let both = runs([vec![requested_run("r2", 20)], runs_of_first.last].concat());
    let seen = at(&second, Some(&seen), &inputs(&second, both), 21).status.unwrap();
    assert_eq!(seen.last_handled_reconcile_at.as_deref(), Some("r2"));
    let named: Vec<_> = seen.history.iter().map(|entry| entry.requested_at.as_deref()).collect();
    assert_eq!(named, [Some("r2"), Some("r1"), None]);
}

/// The reasons of the events of one decision.
fn events(job: &SyncJob, previous: Option<&SyncJobStatus>, runs: JobView, now: i64) -> Vec<EventReason> {
    at(job, previous, &inputs(job, runs), now).events.iter().map(|event| event.reason).collect()
}

/// `runs`, the last of which ended in this process.
fn in_this_process(runs: JobView) -> JobView {
    let report = RunReport::from_error(&RunReason::ProviderError.into());
    let outcome = RunOutcome { id: runs.last[0].id, at: mono(0), report, recorded: true };
    JobView { last_outcome: Some(outcome), ..runs }
}

/// The status that the API server gives an object, and one that was lost.
fn blank() -> SyncJobStatus {
    SyncJobStatus { observed_generation: Some(-1), ..SyncJobStatus::default() }
}

#[test]
fn a_new_object_reports_no_run_of_an_earlier_one_of_its_name() {
    let mut job = job();
    job.metadata.creation_timestamp = Some(time(t(100)));
    for previous in [None, Some(blank())] {
        for runs in [succeeded(60), failed(60, 1)] {
            assert_eq!(events(&job, previous.as_ref(), runs, 101), []);
        }
    }
    // The ledger could not be read when its first status was written.
    let unread = SyncJobStatus { observed_generation: Some(1), ..SyncJobStatus::default() };
    assert_eq!(events(&job, Some(&unread), succeeded(60), 101), []);
    // The data is as old as it is, which is no news of this object either.
    assert_eq!(events(&job, None, succeeded(-1_000), 101), []);
}

#[test]
fn a_slot_before_the_object_existed_is_no_missed_run() {
    let mut job = job();
    job.spec.interval = None;
    (job.spec.schedule, job.spec.starting_deadline) = (Some("0 * * * *".into()), Some("1m".into()));
    let at_noon = JobView { last_slot: Some(t(0)), ..succeeded(0) };
    assert_eq!(events(&job, None, at_noon.clone(), 5_400), [EventReason::SyncMissed]);
    job.metadata.creation_timestamp = Some(time(t(5_000)));
    assert_eq!(events(&job, None, at_noon, 5_400), []);
}

#[test]
fn a_lost_status_or_a_restart_repeats_no_event() {
    let job = job();
    let reported = at(&job, None, &inputs(&job, succeeded(0)), 10).status.unwrap();
    assert_eq!(events(&job, Some(&reported), succeeded(0), 20), [], "a restart");
    for lost in [None, Some(blank())] {
        assert_eq!(events(&job, lost.as_ref(), succeeded(0), 20), []);
        assert_eq!(events(&job, lost.as_ref(), succeeded(0), 1_000), [], "stale since long ago");
    }
}

#[test]
fn a_run_that_ended_and_was_not_reported_is_news_to_this_and_to_the_next_process() {
    let job = job();
    let idle = at(&job, None, &inputs(&job, JobView::default()), 0).status.unwrap();
    assert_eq!(events(&job, Some(&idle), succeeded(0), 5), [EventReason::SyncSucceeded], "after a crash");
    assert_eq!(events(&job, Some(&idle), in_this_process(failed(0, 1)), 5), [EventReason::SyncFailed]);
    assert_eq!(events(&job, None, in_this_process(succeeded(0)), 5), [EventReason::SyncSucceeded], "no status yet");
}
