//! What a job's status says while the ledger fails: values in, values out.

use super::decide::JobStep;
use super::ledger_state::LedgerState;
use super::tests::{at, inputs, job, succeeded};
use crate::api::v1alpha1::SyncJob;
use crate::api::v1alpha1::common::TriState;
use crate::api::v1alpha1::reasons::{ConditionType, Reason};
use crate::api::v1alpha1::sync_job::SyncJobStatus;
use crate::cluster::resource::HasStatus as _;
use crate::controllers::conditions::status_of;
use crate::domain::conditions::ConditionStatus;
use crate::domain::write_fault::WriteFault;
use crate::work::pool::JobView;

#[test]
fn while_the_ledger_cannot_be_written_no_run_starts_and_ready_says_so() {
    let job = job();
    let mut observed = inputs(&job, succeeded(0));
    let working = at(&job, None, &observed, 10).status.unwrap();
    observed.ledger = LedgerState::Unwritable(WriteFault::Full);
    let waiting = at(&job, Some(&working), &observed, 70);
    assert!(waiting.steps.is_empty(), "a run is due");
    let status = waiting.status.unwrap();
    for (type_, expected) in [(ConditionType::Ready, "False"), (ConditionType::Reconciling, "True")] {
        let condition = status.conditions.iter().find(|c| c.type_ == type_.as_str()).unwrap();
        assert_eq!((&*condition.status, &*condition.reason), (expected, Reason::LedgerUnavailable.as_str()));
        assert!(condition.message.contains("disk full") && condition.message.contains("free or enlarge the volume"));
    }
    assert!(SyncJob::is_urgent(Some(&working), &status));
    observed.ledger = LedgerState::Working;
    let again = at(&job, Some(&status), &observed, 71);
    assert!(matches!(again.steps[..], [JobStep::Start { .. }]));
    let conditions = again.status.unwrap().conditions;
    assert_eq!(status_of(&conditions, ConditionType::Ready), ConditionStatus::True);
    assert_eq!(status_of(&conditions, ConditionType::Reconciling), ConditionStatus::Unknown, "absent");
}

#[test]
fn a_job_whose_runs_cannot_be_read_keeps_the_rest_of_its_status() {
    let job = job();
    let mut observed = inputs(&job, succeeded(0));
    let known = at(&job, None, &observed, 10).status.unwrap();
    observed.ledger = LedgerState::Unreadable(WriteFault::CannotOpen);
    observed.runs = JobView::default();
    let blind = at(&job, Some(&known), &observed, 70);
    assert!(blind.steps.is_empty());
    let status = blind.status.unwrap();
    assert_eq!(status_of(&status.conditions, ConditionType::Ready), ConditionStatus::False);
    let fresh = status.conditions.iter().find(|c| c.type_ == "Fresh").unwrap();
    assert_eq!((&*fresh.status, &*fresh.reason), ("Unknown", Reason::LedgerUnavailable.as_str()));
    assert_eq!(status.fresh, Some(TriState::Unknown));
    let rest = |status: SyncJobStatus| SyncJobStatus { conditions: Vec::new(), fresh: None, ..status };
    assert_eq!(rest(status.clone()), rest(known));
    assert_eq!(at(&job, None, &observed, 70).status.unwrap().last_result, None, "a job that never had a status");
    observed.ledger = LedgerState::Working;
    observed.runs = succeeded(0);
    let again = at(&job, Some(&status), &observed, 71).status.unwrap();
    assert_eq!(again.fresh, Some(TriState::True), "judged again when the runs can be read");
}

#[test]
fn stale_data_is_still_stale_while_runs_cannot_be_read() {
    let job = job();
    let mut observed = inputs(&job, succeeded(0));
    let stale = at(&job, None, &observed, 200).status.unwrap();
    assert_eq!(stale.fresh, Some(TriState::False));
    observed.ledger = LedgerState::Unreadable(WriteFault::Io);
    observed.runs = JobView::default();
    let blind = at(&job, Some(&stale), &observed, 210);
    let status = blind.status.unwrap();
    assert_eq!(status.fresh, Some(TriState::False));
    assert_eq!(status_of(&status.conditions, ConditionType::Fresh), ConditionStatus::False);
    assert!(blind.events.is_empty());
}

#[test]
fn a_new_job_whose_runs_cannot_be_read_is_neither_fresh_nor_stale() {
    let job = job();
    let mut observed = inputs(&job, JobView::default());
    observed.ledger = LedgerState::Unreadable(WriteFault::Damaged);
    let status = at(&job, None, &observed, 7_200).status.unwrap();
    assert_eq!(status.fresh, Some(TriState::Unknown), "older than the limit, but its runs are unknown");
    assert_eq!(status_of(&status.conditions, ConditionType::Ready), ConditionStatus::False);
}
