//! One run: every partition in turn, within the run's time, until it is asked to stop.
//!
//! A partition that fails does not keep the others from being read, unless the reason concerns them all.

use std::fmt;

use tokio_util::sync::CancellationToken;

use super::fetch::Fetch;
use super::metrics::SyncMetrics;
use super::plan::SyncPlan;
use super::report::{RunReason, RunReport, Stop};
use super::walk::{Tally, Walk};
use crate::clock::Clock;
use crate::ledger::{Lease, Ledger, RunId, RunResult};

/// All that a run needs beside its plan.
#[derive(Clone, Copy)]
pub struct RunContext<'a> {
    /// Where rows and cursors go.
    pub ledger: &'a dyn Ledger,
    /// Where they come from.
    pub fetch: &'a dyn Fetch,
    /// The right to write, held by the caller.
    pub lease: &'a Lease,
    /// Now.
    pub clock: Clock,
    /// The numbers.
    pub metrics: &'a SyncMetrics,
    /// The run's correlation id.
    pub run: RunId,
    /// Asks the run to stop at the next page boundary; a fetch in flight is given up, a commit never.
    pub cancel: &'a CancellationToken,
}

impl fmt::Debug for RunContext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunContext").field("run", &self.run).field("lease", &self.lease).finish_non_exhaustive()
    }
}

/// Runs `plan` once. Never fails: how it ended is the report.
pub async fn run(plan: &SyncPlan, cx: RunContext<'_>) -> RunReport {
    let deadline = cx.clock.mono() + plan.run_timeout;
    let mut tally = Tally::default();
    let mut stops: Vec<Stop> = Vec::new();
    for partition in &plan.partitions {
        if let Err(stop) = Walk::new(plan, partition, &cx, deadline).run(&mut tally).await {
            stops.push(stop);
            if concerns_all(stop.reason) {
                break;
            }
        }
    }
    let report = conclude(plan, &tally, &stops);
    cx.metrics.run_ended(&plan.job, &report);
    report
}

/// Whether the next partition would meet the same end.
const fn concerns_all(reason: RunReason) -> bool {
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

fn conclude(plan: &SyncPlan, tally: &Tally, stops: &[Stop]) -> RunReport {
    let result = |stop: &Stop| match stop.reason {
        // Out of time with something to show for it: the next run goes on from there.
        RunReason::RunTimeout if tally.counts.pages > 0 => RunResult::Incomplete,
        reason => reason.result(),
    };
    // The gravest end names the run; a stop that was asked for comes before all, because it hides the rest.
    let rank = |stop: &&Stop| match result(stop) {
        RunResult::Cancelled => 0,
        RunResult::Failed => 1,
        _ => 2,
    };
    let worst = stops.iter().min_by_key(rank);
    let result = worst.map_or(RunResult::Succeeded, result);
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    RunReport {
        result,
        reason: worst.map(|stop| stop.reason),
        http_status: worst.and_then(|stop| stop.http_status),
        counts: tally.counts,
        duplicates: tally.duplicates,
        retry_in: worst.and_then(|stop| stop.retry_in),
        partitions: count(plan.partitions.len()),
        failing: count(stops.len()),
        empty: result == RunResult::Succeeded && tally.counts.fetched == 0,
        short_of_total: tally.short_of_total,
    }
}
