//! Whether a job's data is within its maximum staleness. Pure.

use jiff::Timestamp;

use crate::api::v1alpha1::common::TriState;
use crate::api::v1alpha1::reasons::{ConditionType, Reason};
use crate::api::v1alpha1::sync_job::SyncJobStatus;
use crate::controllers::conditions::{Conditions, reason_of};
use crate::controllers::syncjob::{due, failure};
use crate::domain::clock_skew::after;
use crate::domain::conditions::ConditionStatus;
use crate::domain::sla::SlaLimits;
use crate::ledger::{RunRecord, RunResult};
use crate::resolve::Cadence;
use crate::work::pool::JobView;

/// What the message of Fresh says once a failure streak has reached its threshold.
pub(super) const FAILURE_STREAK: &str = "; consecutive failures reached spec.sla.failureStreak";
/// The same for runs without a record.
pub(super) const EMPTY_STREAK: &str =
    "; consecutive runs without a record reached spec.sla.emptyStreak: check the account at the provider";

/// The same for a run with a slow partition.
pub(super) const SLOW_FETCH: &str = "; fetch slower than spec.sla.fetchDuration";

/// What freshness is judged by.
pub(super) struct FreshnessInputs<'a> {
    /// When the job was created.
    pub(super) created: Timestamp,
    /// Its cadence, with the staleness limit.
    pub(super) cadence: &'a Cadence,
    /// Its runs.
    pub(super) history: &'a JobView,
    /// The status so far.
    pub(super) previous: Option<&'a SyncJobStatus>,
    /// Number of its partitions.
    pub(super) partitions: usize,
    /// Its thresholds.
    pub(super) sla: &'a SlaLimits,
    /// The time.
    pub(super) now: Timestamp,
}

/// Sets Fresh. Its message says why the last run did not succeed, whatever its status is: data within the limit becomes
/// stale if the cause lasts.
pub(super) fn judge(conditions: &mut Conditions, inputs: &FreshnessInputs<'_>) -> TriState {
    let FreshnessInputs { created, cadence, history, previous, partitions, sla, now } = *inputs;
    let failing = history.worst_failure_streak(partitions) >= sla.failure_streak;
    let empty = !failing && history.worst_empty_streak(partitions) >= sla.empty_streak;
    let is_stale = now >= after(history.last_success.unwrap_or(created), cadence.max_staleness);
    let (tri, status, reason, state) = match (history.last_success, is_stale) {
        _ if is_cut_short(history, previous) => (
            TriState::False,
            ConditionStatus::False,
            Reason::ListIncomplete,
            "data is incomplete: the end of the provider's list was not reached or is unknown; the next complete run ends this",
        ),
        (Some(_), false) => {
            let reason = match (failing, empty) {
                (true, _) => Reason::FailureStreak,
                (false, true) => Reason::EmptyStreak,
                (false, false) => Reason::WithinStaleness,
            };
            (TriState::True, ConditionStatus::True, reason, "last successful run is within spec.sla.maxStaleness")
        }
        (None, false) => {
            (TriState::Unknown, ConditionStatus::Unknown, Reason::NeverSucceeded, "no run has succeeded yet")
        }
        (Some(_), true) => (
            TriState::False,
            ConditionStatus::False,
            Reason::StalenessExceeded,
            "data is stale: no successful run within spec.sla.maxStaleness",
        ),
        (None, true) => {
            (TriState::False, ConditionStatus::False, Reason::NeverSucceeded, "data is stale: no run has succeeded yet")
        }
    };
    let streak = match (failing, empty) {
        (true, _) => FAILURE_STREAK,
        (false, true) => EMPTY_STREAK,
        (false, false) => "",
    };
    let slow = if is_slow(history) { SLOW_FETCH } else { "" };
    let state = &format!("{state}{streak}{slow}");
    let mut message = failure::with_last_run(state, history, partitions);
    if is_stale && message == *state {
        message.push_str("; see status.lastResult and status.history");
    }
    conditions.set(ConditionType::Fresh, status, reason, message);
    tri
}

/// Whether the requests of a partition took too long in the last run that fetched anything.
pub(super) fn is_slow(history: &JobView) -> bool {
    slow_partitions(history) > 0
}

/// How many partitions were slow in that run.
pub(super) fn slow_partitions(history: &JobView) -> u32 {
    let fetched =
        |run: &&RunRecord| matches!(run.result, Some(RunResult::Succeeded | RunResult::Failed | RunResult::Incomplete));
    let last = history.last.iter().filter(|run| due::counts(run)).find(fetched);
    last.map_or(0, |run| run.failure.slow)
}

/// Whether records may be missing: the provider's list was not read to its end, and no run has succeeded since. Other
/// failed or stopped runs change nothing about that, however many there are.
fn is_cut_short(history: &JobView, previous: Option<&SyncJobStatus>) -> bool {
    let says = |run: &RunRecord| match run.result {
        _ if run.dry_run || !due::counts(run) => None,
        Some(RunResult::Succeeded) => Some(false),
        _ => run.failure.cut_short.then_some(true),
    };
    let was_cut_short = || {
        let reason = previous.and_then(|status| reason_of(&status.conditions, ConditionType::Fresh));
        reason == Some(Reason::ListIncomplete.as_str())
    };
    history.last.iter().find_map(says).unwrap_or_else(was_cut_short)
}
