//! One run: all partitions in order, until the run's timeout or cancellation.
//!
//! A failed partition does not prevent the others from being read, unless the reason affects all of them.

use super::context::{RunContext, RunTotals};
use super::report::{RunError, RunReport, result_of};
use super::walk::Walk;
use crate::domain::run_reason::RunReason;
use crate::ledger::RunResult;
use crate::settings::sync_plan::SyncPlan;

/// Runs `plan` once. Errors are part of the report.
pub async fn run(plan: &SyncPlan, cx: RunContext<'_>) -> RunReport {
    let deadline = cx.clock.mono() + plan.run_timeout;
    let mut totals = RunTotals::default();
    let mut errors: Vec<RunError> = Vec::new();
    let token_key = match cx.account_tokens.key(cx.ledger, cx.clock.now().wall).await {
        Ok(key) => key,
        Err(error) => {
            tracing::warn!(%error, job = %plan.job, "sync failed: no key for account tokens");
            let report = RunReport::from_error(error.reason().into());
            cx.metrics.run_ended(&plan.job, &report);
            return report;
        }
    };
    for partition in &plan.partitions {
        if let Err(error) = Walk::new(plan, partition, &cx, &token_key, deadline).run(&mut totals).await {
            errors.push(error);
            if affects_all_partitions(error.reason) {
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

fn build_report(plan: &SyncPlan, totals: &RunTotals, errors: &[RunError]) -> RunReport {
    let result = |error: &RunError| match error.reason {
        // Timed out after progress: the next run continues from there.
        RunReason::RunTimeout if totals.counts.pages > 0 => RunResult::Incomplete,
        reason => result_of(reason),
    };
    // The most severe error determines the result; cancellation comes first, because it hides the others.
    let rank = |error: &&RunError| match result(error) {
        RunResult::Cancelled => 0,
        RunResult::Failed => 1,
        _ => 2,
    };
    let worst = errors.iter().min_by_key(rank);
    let result = worst.map_or(RunResult::Succeeded, result);
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    RunReport {
        result,
        reason: worst.map(|error| error.reason),
        http_status: worst.and_then(|error| error.http_status),
        counts: totals.counts,
        duplicates: totals.duplicates,
        retry_in: worst.and_then(|error| error.retry_in),
        partitions: count(plan.partitions.len()),
        failing: count(errors.len()),
        empty: result == RunResult::Succeeded && totals.counts.fetched == 0,
        short_of_total: totals.short_of_total,
    }
}
