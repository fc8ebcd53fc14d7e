//! What the end of a run is stored with: streaks of its partitions, thresholds that it exceeded, and its events.

use std::collections::HashMap;
use std::time::Duration;

use super::partition_gauges::PartitionValues;
use super::state::{PoolState, RunRequest};
use crate::domain::run_failure::{FailingPartition, RunFailure};
use crate::ledger::{JobHistory, PartitionStreak, ResyncEnd, RunEnd, RunResult};
use crate::settings::sync_plan::SyncPlan;
use crate::sync::RunReport;
use crate::sync::events::RunEvents;
use crate::sync::report::PartitionOutcome;

/// Most partitions with events of their own in one run; beyond it, one event speaks for the job.
const MAX_PARTITION_EVENTS: usize = 256;

/// The thresholds of `spec.sla` that a run exceeded. Names of partitions are masked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Exceeded {
    /// Partitions that have now failed in `sla.failureStreak` consecutive runs or more.
    pub(super) failing: Vec<String>,
    /// Partitions that have had no record in `sla.emptyStreak` consecutive runs.
    pub(super) empty: Vec<String>,
    /// Partitions whose requests took longer than `sla.fetchDuration`.
    pub(super) slow: Vec<String>,
}

/// The end of a run, and what it exceeded.
pub(super) struct Ending {
    pub(super) end: RunEnd,
    pub(super) exceeded: Exceeded,
    /// The partitions after the run; none for a resync.
    pub(super) partitions: Vec<PartitionValues>,
}

/// One partition after a run.
struct Judged<'a> {
    outcome: &'a PartitionOutcome,
    streak: PartitionStreak,
}

/// Computes the end of the run from its report and from the streaks so far.
pub(super) async fn of(shared: &PoolState, plan: &SyncPlan, request: RunRequest, report: &RunReport) -> Ending {
    let now = shared.clock.now().wall;
    // Read under the run's lease: no other process changes it meanwhile. A ledger that fails here fails below too.
    let history = shared.ledger.job_history(&plan.job, 0, now).await.unwrap_or_default();
    let judged = judge(&history, &report.partition_outcomes);
    let resync = plan.resync.as_ref().map(|resync| ResyncEnd { id: resync.id.clone(), done: is_done(report) });
    // A resync reads an old range: what it finds says nothing about the job's streaks.
    let counted = resync.is_none();
    let exceeded = if counted { exceeded(plan, &judged) } else { Exceeded::default() };
    let failure = RunFailure {
        slow: u32::try_from(exceeded.slow.len()).unwrap_or(u32::MAX),
        resync: plan.resync.as_ref().map(|resync| resync.id.clone()),
        ..report.failure.clone()
    };
    let end = RunEnd {
        id: request.run,
        job: plan.job.clone(),
        result: report.result,
        reason: report.reason,
        failure,
        counts: report.counts,
        partitions: judged.iter().map(|judged| judged.outcome.end()).collect(),
        resync,
        events: events(plan, request, report, &judged, &history),
        at: now,
    };
    let values =
        |judged: &Judged<'_>| PartitionValues { streak: judged.streak.clone(), fetch_time: judged.outcome.fetch_time };
    let partitions = if counted { judged.iter().map(values).collect() } else { Vec::new() };
    Ending { end, exceeded, partitions }
}

/// Whether a resync is served: its range was read to the end, or to a point that the provider does not go beyond.
fn is_done(report: &RunReport) -> bool {
    match report.result {
        RunResult::Succeeded => true,
        RunResult::Incomplete => report.failure.cut_short,
        RunResult::Failed | RunResult::Cancelled | RunResult::Skipped | RunResult::Interrupted => false,
    }
}

fn judge<'a>(history: &JobHistory, outcomes: &'a [PartitionOutcome]) -> Vec<Judged<'a>> {
    let stored: HashMap<&str, &PartitionStreak> =
        history.partitions.iter().map(|streak| (streak.name.as_str(), streak)).collect();
    let judged = |outcome: &'a PartitionOutcome| {
        let before = stored.get(outcome.name.as_str()).copied().cloned().unwrap_or_default();
        Judged { outcome, streak: before.after(&outcome.end()) }
    };
    outcomes.iter().map(judged).collect()
}

fn exceeded(plan: &SyncPlan, judged: &[Judged<'_>]) -> Exceeded {
    let sla = plan.sla;
    let mut exceeded = Exceeded::default();
    for Judged { outcome, streak } in judged {
        let name = || FailingPartition::new(&outcome.name, "").name;
        if streak.failure_streak >= sla.failure_streak {
            exceeded.failing.push(name());
        }
        // Reported once: quiet accounts are no fault.
        if streak.empty_streak == sla.empty_streak && outcome.end().empty {
            exceeded.empty.push(name());
        }
        if is_slow(plan, outcome) {
            exceeded.slow.push(name());
        }
    }
    exceeded
}

fn is_slow(plan: &SyncPlan, outcome: &PartitionOutcome) -> bool {
    outcome.fetch_time > plan.sla.fetch_duration
}

/// The events of a run's end, in the order in which they are published.
fn events(
    plan: &SyncPlan,
    request: RunRequest,
    report: &RunReport,
    judged: &[Judged<'_>],
    history: &JobHistory,
) -> Vec<crate::domain::event::OutboxEvent> {
    let to = run_events(plan, request);
    let mut events = Vec::new();
    // A run that did not start, or was stopped, fetched nothing that is worth an event.
    if matches!(report.result, RunResult::Skipped | RunResult::Cancelled | RunResult::Interrupted) {
        return vec![to.pipeline_completed(report)];
    }
    if plan.resync.is_none() {
        let failed: Vec<_> = judged.iter().filter(|judged| judged.outcome.result == RunResult::Failed).collect();
        if report.result == RunResult::Failed && (failed.is_empty() || failed.len() > MAX_PARTITION_EVENTS) {
            let failures = history.failure_streak.saturating_add(1);
            events.push(to.failed(None, failures, report.reason, report.http_status));
            if failures >= plan.sla.failure_streak {
                events.push(to.failure_streak(None, failures, plan.sla.failure_streak));
            }
        } else {
            for Judged { outcome, streak } in failed {
                let (name, failures) = (partition(outcome), streak.failure_streak);
                events.push(to.failed(name, failures, outcome.reason, outcome.http_status));
                if failures >= plan.sla.failure_streak {
                    events.push(to.failure_streak(name, failures, plan.sla.failure_streak));
                }
            }
        }
        for Judged { outcome, .. } in judged.iter().filter(|j| is_slow(plan, j.outcome)).take(MAX_PARTITION_EVENTS) {
            events.push(to.latency_exceeded(partition(outcome), outcome.fetch_time, plan.sla.fetch_duration));
        }
        for Judged { outcome, streak } in judged.iter().filter(|j| j.outcome.end().empty).take(MAX_PARTITION_EVENTS) {
            events.push(to.zero_records(partition(outcome), streak.empty_streak));
        }
    }
    if report.result == RunResult::Succeeded {
        events.push(to.completed(report));
    }
    events.push(to.pipeline_completed(report));
    events
}

/// The builder of a run's events.
pub(super) fn run_events(plan: &SyncPlan, request: RunRequest) -> RunEvents {
    RunEvents::new(plan, request.run)
}

fn partition(outcome: &PartitionOutcome) -> Option<&str> {
    Some(outcome.name.as_str()).filter(|name| !name.is_empty())
}

/// Logs what a run exceeded: a streak is an error that an operator must act on, a slow fetch a warning.
pub(super) fn log(plan: &SyncPlan, request: RunRequest, exceeded: &Exceeded) {
    let (namespace, name, request_id) = (&*plan.job.namespace, &*plan.job.name, request.run);
    let named = |partitions: &[String]| {
        let names: Vec<&str> = partitions.iter().map(String::as_str).filter(|name| !name.is_empty()).take(5).collect();
        names.join(", ")
    };
    if !exceeded.failing.is_empty() {
        let partitions = named(&exceeded.failing);
        tracing::error!(%request_id, namespace, name, partitions, "sync keeps failing: spec.sla.failureStreak reached");
    }
    if !exceeded.empty.is_empty() {
        let partitions = named(&exceeded.empty);
        tracing::warn!(%request_id, namespace, name, partitions, "sync reads no records: spec.sla.emptyStreak reached");
    }
    if !exceeded.slow.is_empty() {
        let (partitions, limit_ms) = (named(&exceeded.slow), millis(plan.sla.fetch_duration));
        tracing::warn!(%request_id, namespace, name, partitions, limit_ms, "fetch slower than spec.sla.fetchDuration");
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
