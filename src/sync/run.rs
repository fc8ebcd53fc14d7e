//! One run: all partitions in order, until the run's timeout or cancellation.
//!
//! A failed partition does not prevent the others from being read, unless the reason affects all of them.

use std::time::Duration;

use super::context::{RunContext, RunTotals};
use super::partitions;
use super::report::{PartitionOutcome, RunError, RunReport, failure_of, result_of};
use super::walk::Walk;
use crate::domain::run_failure::{self, FailingPartition, MAX_NAMED_PARTITIONS, RunFailure};
use crate::domain::run_reason::RunReason;
use crate::ledger::RunResult;
use crate::settings::sync_plan::{Partition, SyncPlan};

/// Runs `plan` once. Errors are part of the report.
pub async fn run(plan: &SyncPlan, cx: RunContext<'_>) -> RunReport {
    let deadline = cx.clock.mono() + plan.run_timeout;
    let partitioned = match partitions::of_run(plan, &cx).await {
        Ok(partitioned) => partitioned,
        Err(error) => {
            let report = RunReport::from_error(&error);
            cx.metrics.run_ended(&plan.job, &report);
            return report;
        }
    };
    let plan = &*partitioned;
    let mut totals = RunTotals::default();
    let mut errors: Vec<PartitionError> = Vec::new();
    let mut walked: Vec<WalkedPartition> = Vec::new();
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
        let (fetched, fetch_time) = (totals.counts.fetched, totals.fetch_time);
        let ended = Walk::new(plan, partition, &cx, &token_key, deadline).run(&mut totals).await;
        let fetched = totals.counts.fetched.saturating_sub(fetched);
        walked.push(WalkedPartition { index, fetched, fetch_time: totals.fetch_time.saturating_sub(fetch_time) });
        if let Err(error) = ended {
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
    let mut report = build_report(plan, &totals, &errors, &walked);
    let is_silent = report.result == RunResult::Succeeded && report.failure.detail.is_none();
    if let Some(note) = partitions::note(plan).or(totals.note).filter(|_| is_silent) {
        report.failure.detail = Some(run_failure::detail(&note));
    }
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

/// What one partition of a run read.
struct WalkedPartition {
    /// Its place in the plan.
    index: usize,
    fetched: u64,
    fetch_time: Duration,
}

fn build_report(
    plan: &SyncPlan,
    totals: &RunTotals,
    errors: &[PartitionError],
    walked: &[WalkedPartition],
) -> RunReport {
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
    let partition_outcomes = outcomes(plan, errors, walked, &result);
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
        partition_outcomes,
    }
}

/// How each partition ended: those that were read, and those that were not because of a failure that is common to all.
fn outcomes(
    plan: &SyncPlan,
    errors: &[PartitionError],
    walked: &[WalkedPartition],
    result: &impl Fn(&RunError) -> RunResult,
) -> Vec<PartitionOutcome> {
    let outcome = |index: usize, error: Option<&RunError>| {
        // In the order of the plan, both lists.
        let read = walked.binary_search_by_key(&index, |walked| walked.index).ok().and_then(|at| walked.get(at));
        let result = error.map_or(RunResult::Succeeded, result);
        let name = plan.partitions.get(index)?.name.clone();
        matches!(result, RunResult::Succeeded | RunResult::Failed | RunResult::Incomplete).then(|| PartitionOutcome {
            name,
            result,
            reason: error.map(|error| error.reason),
            http_status: error.and_then(|error| error.http_status),
            fetched: read.map_or(0, |read| read.fetched),
            fetch_time: read.map_or(Duration::ZERO, |read| read.fetch_time),
        })
    };
    let error_of = |index| {
        let at = errors.binary_search_by_key(&index, |failed: &PartitionError| failed.index).ok()?;
        errors.get(at).map(|failed| &failed.error)
    };
    let read = walked.iter().filter_map(|walked| outcome(walked.index, error_of(walked.index)));
    let common = errors.last().filter(|last| affects_all_partitions(last.error.reason));
    let unread = common.into_iter().flat_map(|common| {
        let first_unread = common.index + 1;
        (first_unread..plan.partitions.len()).map(|index| (index, &common.error))
    });
    read.chain(unread.filter_map(|(index, error)| outcome(index, Some(error)))).collect()
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
