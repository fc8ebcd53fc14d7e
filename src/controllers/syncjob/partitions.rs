//! The partitions of a job: those of its spec, and those that come from the records of another job.

use crate::settings::sync_plan::SyncPlan;
use crate::work::pool::JobView;

/// How many partitions the job has. Those from another job are known once a run has read them: each has a cursor then.
pub(super) fn count(plan: &SyncPlan, runs: &JobView) -> usize {
    let known = usize::try_from(runs.partitions).unwrap_or(usize::MAX);
    if plan.partitions_from.is_some() { known.max(plan.partitions.len()) } else { plan.partitions.len() }
}
