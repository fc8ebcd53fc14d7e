//! What a job's status says while the ledger fails. Pure.

use std::time::Duration;

use crate::api::v1alpha1::common::TriState;
use crate::api::v1alpha1::reasons::{ConditionType, Reason};
use crate::api::v1alpha1::sync_job::SyncJobStatus;
use crate::controllers::Decision;
use crate::controllers::conditions::Conditions;
use crate::domain::conditions::ConditionStatus;
use crate::domain::write_fault::WriteFault;

/// Requeue delay of a job whose runs cannot be read. A change of the ledger's health enqueues it sooner.
const RECHECK: Duration = Duration::from_secs(10);

/// The state of the ledger, as it concerns a job.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum LedgerState {
    /// It is read and written.
    #[default]
    Working,
    /// It is read, but not written: no run is started.
    Unwritable(WriteFault),
    /// The job's runs cannot be read.
    Unreadable(WriteFault),
}

impl LedgerState {
    /// Whether a run can be recorded.
    pub fn is_writable(self) -> bool {
        self == Self::Working
    }

    /// Reports the fault, if there is one: Ready is False with Reconciling, because it ends without a change of the spec.
    pub(super) fn set_ready(self, conditions: &mut Conditions, working: String) {
        let (what, fault) = match self {
            Self::Working => {
                conditions.set(ConditionType::Ready, true, Reason::Accepted, working);
                return;
            }
            Self::Unwritable(fault) => ("written", fault),
            Self::Unreadable(fault) => ("read", fault),
        };
        let (cause, remedy) = (fault.as_str(), fault.remedy());
        let message = format!("ledger cannot be {what}: {cause}; runs start when it can; {remedy}");
        conditions.set(ConditionType::Ready, false, Reason::LedgerUnavailable, message.clone());
        conditions.set(ConditionType::Reconciling, true, Reason::LedgerUnavailable, message);
    }
}

/// The decision for a job whose runs cannot be read: its status stays as it was, but for the conditions of readiness and
/// freshness. Data that was stale is stale still: no run was recorded meanwhile.
pub(super) fn unreadable<Step>(
    previous: Option<&SyncJobStatus>,
    generation: i64,
    state: LedgerState,
    mut conditions: Conditions,
) -> Decision<SyncJobStatus, Step> {
    state.set_ready(&mut conditions, String::new());
    let was = previous.cloned().unwrap_or_default();
    let mut fresh = was.fresh;
    if fresh != Some(TriState::False) {
        let message = "freshness cannot be judged: the job's runs cannot be read from the ledger; see condition Ready";
        conditions.set(ConditionType::Fresh, ConditionStatus::Unknown, Reason::LedgerUnavailable, message);
        fresh = Some(TriState::Unknown);
    }
    let mut new = conditions.merged(&was.conditions);
    let kept = was.conditions.iter().filter(|c| new.iter().all(|n| n.type_ != c.type_));
    let kept: Vec<_> = kept.filter(|c| c.type_ != ConditionType::Stalled.as_str()).cloned().collect();
    new.extend(kept);
    // All of one generation, as in every status.
    for condition in &mut new {
        condition.observed_generation = Some(generation);
    }
    let status = SyncJobStatus { observed_generation: Some(generation), conditions: new, fresh, ..was };
    Decision { status: Some(status), steps: Vec::new(), events: Vec::new(), requeue_after: RECHECK }
}
