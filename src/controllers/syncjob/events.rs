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
use crate::controllers::syncjob::{failure, freshness, status};
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
    events.extend(thresholds(change));
    if missed {
        events.push(EventDraft::warning(
            EventReason::SyncMissed,
            "missed a scheduled run (spec.startingDeadline exceeded); next run at the next slot",
        ));
    }
    events
}

/// The events of a schema that drifted, of streaks that reached their thresholds, and of a resync that was completed.
fn thresholds(change: &Transition<'_>) -> Vec<EventDraft> {
    let Transition { new, runs, partitions, .. } = *change;
    let Some(old) = change.known() else { return Vec::new() };
    let mut events = Vec::new();
    let drifted = message(new, ConditionType::SchemaDrifted);
    if !drifted.is_empty() && message(old, ConditionType::SchemaDrifted).is_empty() {
        events.push(EventDraft::warning(EventReason::SchemaDrifted, drifted));
    }
    let reached = |note: &str| {
        message(new, ConditionType::Fresh).contains(note) && !message(old, ConditionType::Fresh).contains(note)
    };
    if reached(freshness::FAILURE_STREAK) {
        let message =
            format!("consecutive failures reached spec.sla.failureStreak; {}", failure::event(runs, partitions));
        events.push(EventDraft::warning(EventReason::FailureStreakReached, message));
    }
    if reached(freshness::EMPTY_STREAK) {
        let message = "consecutive runs without a record reached spec.sla.emptyStreak; runs go on; check whether the account \
                       is still connected at the provider, and spec.parameters";
        events.push(EventDraft::warning(EventReason::EmptyStreakReached, message));
    }
    if reached(freshness::SLOW_FETCH) {
        let slow = freshness::slow_partitions(runs);
        let of = if partitions > 1 { format!(" of {slow} of {partitions} partitions") } else { String::new() };
        let message = format!(
            "fetch slower than spec.sla.fetchDuration: the requests{of} took longer in the last run; runs go on; check the \
             provider's latency, or raise spec.sla.fetchDuration"
        );
        events.push(EventDraft::warning(EventReason::FetchDurationExceeded, message));
    }
    if new.last_handled_resync_id.is_some() && new.last_handled_resync_id != old.last_handled_resync_id {
        let message = "resync completed: the range was read again; the cursor is unchanged; see status.history";
        events.push(EventDraft::normal(EventReason::ResyncCompleted, message));
    }
    events
}

/// The message of a condition; empty without it.
fn message(status: &SyncJobStatus, condition: ConditionType) -> &str {
    message_of(&status.conditions, condition).unwrap_or_default()
}
