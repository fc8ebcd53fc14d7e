//! The events of a job's status. Pure.
//!
//! An event says that something happened, so it needs more than a status that differs: a new object shows the runs of an
//! earlier one of its name, whose ledger was kept, and a status may have been lost.

use jiff::Timestamp;

use crate::api::v1alpha1::common::TriState;
use crate::api::v1alpha1::reasons::{ConditionType, EventReason, Reason};
use crate::api::v1alpha1::sync_job::{RunResult, SyncJobStatus};
use crate::cluster::events::EventDraft;
use crate::controllers::conditions::{message_of, reason_of};
use crate::controllers::syncjob::{failure, status};
use crate::work::pool::JobView;

/// A change of a job's status.
pub(super) struct Transition<'a> {
    /// The status so far.
    pub(super) previous: Option<&'a SyncJobStatus>,
    /// The status to write.
    pub(super) new: &'a SyncJobStatus,
    /// The runs that it was computed from.
    pub(super) runs: &'a JobView,
    /// Number of partitions.
    pub(super) partitions: usize,
    /// When the job was created.
    pub(super) created: Timestamp,
    /// Whether a slot of the schedule was missed.
    pub(super) missed: bool,
}

impl Transition<'_> {
    /// The status so far, if this or an earlier process has written one for this object and it was not lost.
    fn known(&self) -> Option<&SyncJobStatus> {
        self.previous.filter(|status| status.observed_generation.is_some_and(|generation| generation >= 0))
    }

    /// Whether the last run ended since the status so far: a run of this process, or one that an earlier process did not
    /// live to report. Not one of an earlier object of this name.
    fn has_ended_a_run(&self) -> bool {
        let Some(last) = status::last_ended(self.runs) else { return false };
        let own = self.runs.last_outcome.as_ref().is_some_and(|outcome| outcome.id == last.id);
        own || (self.known().is_some() && last.started >= self.created)
    }
}

/// The events of a change.
pub(super) fn events(change: &Transition<'_>) -> Vec<EventDraft> {
    let Transition { previous, new, runs, partitions, missed, .. } = *change;
    let mut events = Vec::new();
    if new.last_result != previous.and_then(|old| old.last_result) && change.has_ended_a_run() {
        match new.last_result {
            Some(RunResult::Succeeded) => {
                events
                    .push(EventDraft::normal(EventReason::SyncSucceeded, "sync succeeded; next run at the next slot"));
            }
            Some(RunResult::Failed) => {
                let message = failure::event(runs, partitions);
                events.push(EventDraft::warning(EventReason::SyncFailed, message));
            }
            _ => {}
        }
    }
    let is_incomplete = |status: &SyncJobStatus| {
        reason_of(&status.conditions, ConditionType::Fresh) == Some(Reason::ListIncomplete.as_str())
    };
    let cut_short = is_incomplete(new) && change.known().is_some_and(|old| !is_incomplete(old));
    let is_stale = new.fresh == Some(TriState::False) && !is_incomplete(new);
    if cut_short || (is_stale && change.known().is_some_and(|old| old.fresh != new.fresh)) {
        let reason = if cut_short { EventReason::SyncIncomplete } else { EventReason::StalenessExceeded };
        let message = message_of(&new.conditions, ConditionType::Fresh).unwrap_or_default();
        events.push(EventDraft::warning(reason, message));
    }
    if missed {
        events.push(EventDraft::warning(
            EventReason::SyncMissed,
            "missed a scheduled run (spec.startingDeadline exceeded); next run at the next slot",
        ));
    }
    events
}
