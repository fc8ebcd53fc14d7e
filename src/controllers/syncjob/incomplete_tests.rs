//! Fresh of a job whose list was read to a point that is not known to be its end.

use super::tests::{at, inputs, job, run, t};
use crate::api::v1alpha1::reasons::{ConditionType, EventReason};
use crate::api::v1alpha1::sync_job::SyncJobStatus;
use crate::controllers::conditions::reason_of;
use crate::domain::run_failure::RunFailure;
use crate::domain::run_reason::RunReason;
use crate::ledger::{RunRecord, RunResult};
use crate::work::pool::JobView;

fn incomplete(reason: RunReason, seconds: i64) -> RunRecord {
    let failure = RunFailure { cut_short: reason.cuts_list_short(), ..RunFailure::default() };
    RunRecord { reason: Some(reason), failure, ..run(Some(RunResult::Incomplete), seconds) }
}

/// The reason of Fresh with these runs, newest first, and the status.
fn fresh(previous: Option<&SyncJobStatus>, last: Vec<RunRecord>, seconds: i64) -> (String, SyncJobStatus) {
    let job = job();
    let history = JobView { last, last_success: Some(t(0)), ..JobView::default() };
    let status = at(&job, previous, &inputs(&job, history), seconds).status.unwrap();
    (reason_of(&status.conditions, ConditionType::Fresh).unwrap().to_owned(), status)
}

#[test]
fn a_list_that_was_cut_short_stays_incomplete_until_a_run_is_complete() {
    let succeeded = |seconds| run(Some(RunResult::Succeeded), seconds);
    let cut_short = incomplete(RunReason::TotalNotReached, 30);
    let (reason, short) = fresh(None, vec![cut_short.clone(), succeeded(0)], 31);
    assert_eq!(reason, "ListIncomplete");
    // More than are read from the ledger, and none of them says so.
    let failed: Vec<_> = (0..20).rev().map(|n| run(Some(RunResult::Failed), 40 + n)).collect();
    assert_eq!(fresh(Some(&short), failed.clone(), 60).0, "ListIncomplete");
    assert_eq!(fresh(None, failed, 60).0, "WithinStaleness");
    let dry = RunRecord { dry_run: true, ..succeeded(40) };
    assert_eq!(fresh(Some(&short), vec![dry, cut_short.clone()], 60).0, "ListIncomplete", "it read one page");
    for other in [RunResult::Cancelled, RunResult::Interrupted, RunResult::Skipped] {
        let stopped = run(Some(other), 40);
        assert_eq!(fresh(Some(&short), vec![stopped, cut_short.clone()], 60).0, "ListIncomplete", "{other}");
    }
    assert_eq!(fresh(Some(&short), vec![succeeded(50), cut_short], 60).0, "WithinStaleness");
    // The next run continues there.
    let capped = incomplete(RunReason::PageCapReached, 30);
    assert_eq!(fresh(None, vec![capped, succeeded(0)], 31).0, "WithinStaleness");
}

#[test]
fn a_list_that_is_cut_short_again_is_one_event() {
    let job = job();
    let view = |seconds| JobView {
        last: vec![incomplete(RunReason::EndOfData, seconds)],
        last_success: Some(t(0)),
        ..JobView::default()
    };
    let before = at(&job, None, &inputs(&job, JobView { last_success: Some(t(0)), ..JobView::default() }), 10);
    let (mut status, mut events) = (before.status, Vec::new());
    for seconds in [20, 40, 60] {
        let decision = at(&job, status.as_ref(), &inputs(&job, view(seconds)), seconds + 1);
        events.extend(decision.events.into_iter().map(|event| event.reason));
        status = decision.status;
    }
    assert_eq!(events, [EventReason::SyncIncomplete]);
}
