//! Whether a job's data is within its maximum staleness. Pure.

use jiff::Timestamp;

use crate::api::v1alpha1::common::TriState;
use crate::api::v1alpha1::reasons::{ConditionType, Reason};
use crate::controllers::conditions::Conditions;
use crate::controllers::syncjob::failure;
use crate::domain::clock_skew::after;
use crate::domain::conditions::ConditionStatus;
use crate::resolve::Cadence;
use crate::work::pool::JobView;

/// What freshness is judged by.
pub(super) struct FreshnessInputs<'a> {
    /// When the job was created.
    pub(super) created: Timestamp,
    /// Its cadence, with the staleness limit.
    pub(super) cadence: &'a Cadence,
    /// Its runs.
    pub(super) history: &'a JobView,
    /// Number of its partitions.
    pub(super) partitions: usize,
    /// The time.
    pub(super) now: Timestamp,
}

/// Sets Fresh. Its message says why the last run did not succeed, whatever its status is: data within the limit becomes
/// stale if the cause lasts.
pub(super) fn judge(conditions: &mut Conditions, inputs: &FreshnessInputs<'_>) -> TriState {
    let FreshnessInputs { created, cadence, history, partitions, now } = *inputs;
    let is_stale = now >= after(history.last_success.unwrap_or(created), cadence.max_staleness);
    let (tri, status, reason, state) = match (history.last_success, is_stale) {
        (Some(_), false) => (
            TriState::True,
            ConditionStatus::True,
            Reason::WithinStaleness,
            "last successful run is within spec.sla.maxStaleness",
        ),
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
    let mut message = failure::with_last_run(state, history, partitions);
    if is_stale && message == state {
        message.push_str("; see status.lastResult and status.history");
    }
    conditions.set(ConditionType::Fresh, status, reason, message);
    tri
}
