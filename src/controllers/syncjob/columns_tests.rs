//! How old the columns of a job may be, and how often its status is written: values in, values out.

use std::time::Duration;

use uuid::Uuid;

use super::decide::JobStep;
use super::tests::{at, failed, inputs, job, mono, run, succeeded, t};
use crate::api::v1alpha1::SyncJob;
use crate::api::v1alpha1::reasons::{ConditionType, EventReason};
use crate::cluster::status::{Timing, timing};
use crate::controllers::conditions::message_of;
use crate::domain::run_failure::{FailingPartition, RunFailure};
use crate::domain::run_reason::RunReason;
use crate::ledger::{RunId, RunResult, RunTrigger};
use crate::work::pool::{ActiveRun, JobView};

fn active(since: i64) -> ActiveRun {
    ActiveRun {
        id: RunId(Uuid::max()),
        trigger: RunTrigger::Schedule,
        since: t(since),
        since_mono: mono(since),
        queued: false,
        stopping: false,
    }
}

#[test]
fn the_columns_of_a_job_are_at_most_a_minute_old() {
    let job = job();
    let first = at(&job, None, &inputs(&job, succeeded(0)), 10).status.unwrap();
    let second = at(&job, Some(&first), &inputs(&job, succeeded(60)), 70).status.unwrap();
    assert_ne!(first.last_successful_time, second.last_successful_time);
    let due = |since| timing::<SyncJob>(Some(&first), &second, Some(Duration::from_secs(since)));
    assert_eq!((due(50), due(60)), (Timing::After(Duration::from_secs(10)), Timing::Now));
    assert_eq!(timing::<SyncJob>(Some(&second), &second, Some(Duration::from_hours(1))), Timing::Unchanged);
}

#[test]
fn a_short_run_changes_the_status_once_at_its_end() {
    let job = job();
    let before = at(&job, None, &inputs(&job, succeeded(0)), 10).status.unwrap();
    let starting = at(&job, Some(&before), &inputs(&job, succeeded(0)), 60);
    assert!(matches!(starting.steps[..], [JobStep::Start { .. }]));
    assert_eq!(starting.status.as_ref(), Some(&before), "nothing to write at the start");
    assert!(starting.requeue_after <= Duration::from_secs(30), "a long run shows itself");
    let running = JobView { active: Some(active(60)), last_slot: Some(t(60)), ..succeeded(0) };
    assert_eq!(at(&job, Some(&before), &inputs(&job, running.clone()), 75).status.unwrap(), before);
    let long = at(&job, Some(&before), &inputs(&job, running), 95).status.unwrap();
    assert!(long.active_run.is_some() && long.next_schedule_time > before.next_schedule_time);
    // Its end is in the ledger a moment before the pool forgets it.
    let mut ending = JobView { active: Some(active(60)), ..succeeded(60) };
    ending.last[0].id = RunId(Uuid::max());
    let ended = at(&job, Some(&before), &inputs(&job, ending), 61).status.unwrap();
    assert!(ended.next_schedule_time > before.next_schedule_time);
    assert!(ended.last_successful_time > before.last_successful_time);
}

#[test]
fn a_changed_schedule_shows_at_once_although_a_run_is_active() {
    let mut job = job();
    let before = at(&job, None, &inputs(&job, succeeded(0)), 10).status.unwrap();
    job.metadata.generation = Some(2);
    job.spec.interval = Some("6h".into());
    let running = JobView { active: Some(active(20)), ..succeeded(0) };
    let after = at(&job, Some(&before), &inputs(&job, running), 21).status.unwrap();
    assert!(after.next_schedule_time > before.next_schedule_time);
}

#[test]
fn failing_partitions_are_counted_and_the_first_are_named() {
    let job = job();
    let mut history = failed(60, 1);
    history.last[0].reason = Some(RunReason::NotFound);
    history.last[0].failure = RunFailure {
        http_status: Some(404),
        detail: None,
        failing: 6,
        partitions: ["a", "b", "c", "d", "e"].map(|name| FailingPartition::new(name, "NotFound")).into(),
        ..RunFailure::default()
    };
    let mut observed = inputs(&job, history);
    observed.partitions = 8;
    let idle = at(&job, None, &inputs(&job, JobView::default()), 0).status.unwrap();
    let decision = at(&job, Some(&idle), &observed, 61);
    let status = decision.status.unwrap();
    let partitions = status.partitions.as_ref().unwrap();
    assert_eq!((partitions.total, partitions.failing), (8, 6));
    assert_eq!(partitions.failing_names, ["a", "b", "c", "d", "e"]);
    let cause = "NotFound (HTTP 404); 6 of 8 partitions failed: a, b, c, d, e and 1 more";
    let event = decision.events.iter().find(|event| event.reason == EventReason::SyncFailed).unwrap();
    let fresh = message_of(&status.conditions, ConditionType::Fresh).unwrap();
    for text in [&*event.message, fresh] {
        assert!(text.contains(cause) && text.contains("correct spec.parameters or spec.partitions"), "{text}");
    }

    let mut recovered = succeeded(120);
    recovered.last.push(run(Some(RunResult::Failed), 60));
    let mut observed = inputs(&job, recovered);
    observed.partitions = 8;
    let status = at(&job, Some(&status), &observed, 121).status.unwrap();
    let partitions = status.partitions.unwrap();
    assert_eq!((partitions.failing, partitions.failing_names.len()), (0, 0));
    let fresh = message_of(&status.conditions, ConditionType::Fresh).unwrap();
    assert_eq!(fresh, "last successful run is within spec.sla.maxStaleness");
}

#[test]
fn a_stopped_run_after_a_failed_one_keeps_the_cause() {
    let job = job();
    let mut history = failed(60, 1);
    history.last.insert(0, run(Some(RunResult::Cancelled), 90));
    let status = at(&job, None, &inputs(&job, history), 91).status.unwrap();
    assert_eq!(status.partitions.unwrap().failing, 1);
    let fresh = message_of(&status.conditions, ConditionType::Fresh).unwrap();
    assert!(fresh.contains("last run failed: ProviderError"), "{fresh}");
}
