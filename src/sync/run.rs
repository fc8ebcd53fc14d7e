//! One run: all partitions in order, until the run's timeout or cancellation.
//!
//! A failed partition does not prevent the others from being read, unless the reason affects all of them.

use super::context::{RunContext, RunTotals};
use super::report::{RunError, RunReport, failure_of, result_of};
use super::walk::Walk;
use crate::domain::run_failure::{FailingPartition, MAX_NAMED_PARTITIONS, RunFailure};
use crate::domain::run_reason::RunReason;
use crate::ledger::RunResult;
use crate::settings::sync_plan::{Partition, SyncPlan};

/// Runs `plan` once. Errors are part of the report.
pub async fn run(plan: &SyncPlan, cx: RunContext<'_>) -> RunReport {
    let deadline = cx.clock.mono() + plan.run_timeout;
    let mut totals = RunTotals::default();
    let mut errors: Vec<PartitionError> = Vec::new();
    let token_key = match cx.account_tokens.key(cx.ledger, cx.lease, cx.clock.now().wall).await {
        Ok(key) => key,
        Err(error) => {
            tracing::warn!(%error, job = %plan.job, "sync failed: no key for account tokens");
            let report = RunReport::from_error(&error.reason().into());
            cx.metrics.run_ended(&plan.job, &report);
            return report;
        }
    };
    for (index, partition) in plan.partitions.iter().enumerate() {
        if let Err(error) = Walk::new(plan, partition, &cx, &token_key, deadline).run(&mut totals).await {
            let common = affects_all_partitions(error.reason);
            if error.reason.cuts_list_short() && !plan.dry_run {
                cx.metrics.walk_cut_short(&plan.job);
            }
            errors.push(PartitionError { index, error });
            if common {
                break;
            }
        }
    }
    let report = build_report(plan, &totals, &errors);
    cx.metrics.run_ended(&plan.job, &report);
    report
}

/// Whether the next partition would fail for the same reason.
const fn affects_all_partitions(reason: RunReason) -> bool {
    matches!(
        reason,
        RunReason::StopRequested
            | RunReason::LeaseLost
            | RunReason::RunTimeout
            | RunReason::LedgerUnavailable
            | RunReason::CircuitOpen
            | RunReason::ConnectionSuspended
            | RunReason::ConnectionInvalid
            | RunReason::AuthenticationFailed
            | RunReason::RateLimited
    )
}

/// The error of one partition.
struct PartitionError {
    /// Its place in the plan.
    index: usize,
    error: RunError,
}

fn build_report(plan: &SyncPlan, totals: &RunTotals, errors: &[PartitionError]) -> RunReport {
    let result = |error: &RunError| match error.reason {
        // Timed out after progress: the next run continues from there.
        RunReason::RunTimeout if totals.counts.pages > 0 => RunResult::Incomplete,
        reason => result_of(reason),
    };
    // The most severe error determines the result; cancellation comes first, because it hides the others.
    let rank = |failed: &&PartitionError| match result(&failed.error) {
        RunResult::Cancelled => 0,
        RunResult::Failed => 1,
        _ => 2,
    };
    let failed: Vec<&PartitionError> = errors.iter().filter(|e| result(&e.error) == RunResult::Failed).collect();
    let worst = errors.iter().min_by_key(rank).map(|failed| &failed.error);
    let failure = worst.map(failure_of).unwrap_or_default();
    let failing = failing_partitions(plan, &failed);
    let result = worst.map_or(RunResult::Succeeded, result);
    RunReport {
        result,
        reason: worst.map(|error| error.reason),
        http_status: worst.and_then(|error| error.http_status),
        failure: RunFailure {
            failing: count(failing.len()),
            partitions: failing.into_iter().take(MAX_NAMED_PARTITIONS).collect(),
            cut_short: !plan.dry_run && errors.iter().any(|failed| failed.error.reason.cuts_list_short()),
            ..failure
        },
        counts: totals.counts,
        duplicates: totals.duplicates,
        retry_in: worst.and_then(|error| error.retry_in),
        partitions: count(plan.partitions.len()),
        failing: count(errors.len()),
        empty: result == RunResult::Succeeded && totals.counts.fetched == 0,
    }
}

/// The partitions that failed, and those that were not read because of a failure that is common to all.
fn failing_partitions(plan: &SyncPlan, failed: &[&PartitionError]) -> Vec<FailingPartition> {
    let failing = |partition: &Partition, reason: RunReason| FailingPartition::new(&partition.name, reason.as_str());
    let read = failed.iter().filter_map(|failed| {
        let partition = plan.partitions.get(failed.index)?;
        Some(failing(partition, failed.error.reason))
    });
    let common = failed.last().filter(|failed| affects_all_partitions(failed.error.reason));
    let unread = common.iter().flat_map(|common| {
        let rest = plan.partitions.iter().skip(common.index + 1);
        rest.map(move |partition| failing(partition, common.error.reason))
    });
    read.chain(unread).collect()
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
