//! Builds a job's status from the recorded runs. Pure.

use jiff::Timestamp;

use crate::api::v1alpha1::SyncJob;
use crate::api::v1alpha1::common::{Condition, TriState};
use crate::api::v1alpha1::sync_job::status::{CURSOR_PREVIEW_MAX, HISTORY_MAX};
use crate::api::v1alpha1::sync_job::{
    ActiveRun, DeliveryGuarantee, HistoryEntry, PartitionCounts, RunResult as WireResult, RunTrigger as WireTrigger,
    SyncJobStatus,
};
use crate::cluster::resource::WatchedResource as _;
use crate::controllers::conditions::time;
use crate::controllers::syncjob::{due, failure};
use crate::domain::json_prefix::json_prefix;
use crate::domain::run_reason::RunReason;
use crate::ledger::{RunId, RunRecord, RunResult, RunTrigger};
use crate::work::pool::{ActiveRun as Running, JobView};

/// Inputs of the status that do not come from the ledger.
pub struct StatusInputs<'a> {
    /// Generation of the spec.
    pub generation: i64,
    /// The last acknowledged request.
    pub handled: Option<String>,
    /// The cadence for display.
    pub cadence: Option<String>,
    /// Whether the data is within the staleness limit.
    pub fresh: TriState,
    /// Next slot of the schedule.
    pub next_slot: Option<Timestamp>,
    /// Next retry.
    pub next_retry: Option<Timestamp>,
    /// The active run, if it has run long enough to appear.
    pub active: Option<&'a Running>,
    /// Number of partitions.
    pub partitions: usize,
}

/// Builds the status.
pub fn build(inputs: &StatusInputs<'_>, history: &JobView, conditions: Vec<Condition>) -> SyncJobStatus {
    let ended = history.last.iter().filter(|r| wire_result(r).is_some());
    let last = last_ended(history);
    let number = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    SyncJobStatus {
        observed_generation: Some(inputs.generation),
        conditions,
        last_handled_reconcile_at: inputs.handled.clone(),
        fresh: Some(inputs.fresh),
        last_result: last.and_then(wire_result),
        last_schedule_time: history.last_slot.map(time),
        last_successful_time: history.last_success.map(time),
        next_schedule_time: inputs.next_slot.map(time),
        next_retry_time: inputs.next_retry.map(time),
        cadence: inputs.cadence.clone(),
        last_records: last.map(records),
        active_run: inputs.active.map(|a| ActiveRun {
            id: a.id.to_string(),
            start_time: time(a.since),
            trigger: wire_trigger(a.trigger),
        }),
        cursor: history.cursor_preview.as_deref().map(preview),
        partitions: (inputs.partitions > 0).then(|| PartitionCounts {
            total: number(inputs.partitions),
            failing: number(failure::failing(history, inputs.partitions)),
            failing_names: failure::failing_names(history),
        }),
        delivery_guarantee: Some(DeliveryGuarantee::OncePerVersion),
        history: merged(ended),
        failure_streak: Some(i32::try_from(history.failure_streak).unwrap_or(i32::MAX)),
        empty_streak: Some(i32::try_from(history.empty_streak).unwrap_or(i32::MAX)),
        last_handled_resync_id: history.last_resync.clone(),
    }
}

/// Keeps the times of slots and retries as they were, while a run that changes them again is about to end: otherwise each
/// run would be two writes.
pub fn hold_times(status: &mut SyncJobStatus, previous: Option<&SyncJobStatus>) {
    let same_spec = |previous: &&SyncJobStatus| previous.observed_generation == status.observed_generation;
    let Some(previous) = previous.filter(same_spec).filter(|previous| previous.next_schedule_time.is_some()) else {
        return;
    };
    status.last_schedule_time.clone_from(&previous.last_schedule_time);
    status.next_schedule_time.clone_from(&previous.next_schedule_time);
    status.next_retry_time.clone_from(&previous.next_retry_time);
}

/// The last run that has ended, other than a skipped slot.
pub(super) fn last_ended(history: &JobView) -> Option<&RunRecord> {
    history.last.iter().find(|run| due::counts(run) && wire_result(run).is_some())
}

/// The newest entry of a requested run or resync: its requester waits for it, so it is a transition.
pub(super) fn newest_requested(status: &SyncJobStatus) -> Option<&HistoryEntry> {
    status.history.iter().find(|entry| is_requested(entry.trigger))
}

/// Sets the request of each requested run: it is known from the annotation, and from the status that was written before.
pub(super) fn name_requests(status: &mut SyncJobStatus, object: &SyncJob, previous: Option<&SyncJobStatus>) {
    let uid = object.metadata.uid.as_deref().unwrap_or_default();
    let handled = previous.and_then(|status| status.last_handled_reconcile_at.as_deref());
    for entry in status.history.iter_mut().filter(|entry| entry.trigger == WireTrigger::Request) {
        let is_its_own = |request: &&str| RunId::of_request(uid, request).to_string() == entry.id;
        let named = [object.requested_at(), handled].into_iter().flatten().find(is_its_own).map(str::to_owned);
        let before = || previous?.history.iter().find(|before| before.id == entry.id)?.requested_at.clone();
        entry.requested_at = named.or_else(before);
    }
}

/// History entries, newest first; neighbours with the same outcome are one entry with a count. A requested run has an
/// entry of its own, under its own ID.
fn merged<'a>(runs: impl Iterator<Item = &'a RunRecord>) -> Vec<HistoryEntry> {
    let mut entries: Vec<HistoryEntry> = Vec::new();
    for run in runs {
        let Some(result) = wire_result(run) else { continue };
        let quiet = run.counts.inserted == 0 && run.counts.updated == 0 && run.counts.rejected == 0;
        if let Some(last) = entries.last_mut()
            && quiet
            && !is_requested(wire_trigger(run.trigger))
            && !is_requested(last.trigger)
            && (last.inserted, last.updated, last.rejected) == (0, 0, 0)
            && last.conflicting == conflicting(run)
            && last.result == result
            && last.reason.as_deref() == run.reason.map(RunReason::as_str)
        {
            last.count = last.count.saturating_add(1);
            continue;
        }
        if entries.len() == HISTORY_MAX {
            break;
        }
        entries.push(entry(run, result));
    }
    entries
}

/// Whether a client waits for the run: it has an entry of its own.
const fn is_requested(trigger: WireTrigger) -> bool {
    matches!(trigger, WireTrigger::Request | WireTrigger::Resync)
}

fn entry(run: &RunRecord, result: WireResult) -> HistoryEntry {
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let took = run.ended.map_or(0, |end| end.duration_since(run.started).as_millis().max(0));
    let duration = if took < 10_000 { format!("{took}ms") } else { format!("{}s", (took / 1000).min(99_999)) };
    HistoryEntry {
        id: run.id.to_string(),
        start_time: time(run.started),
        duration: duration.into(),
        trigger: wire_trigger(run.trigger),
        result,
        fetched: number(run.counts.fetched),
        inserted: number(run.counts.inserted),
        updated: number(run.counts.updated),
        unchanged: number(run.counts.unchanged),
        rejected: number(run.counts.rejected),
        conflicting: conflicting(run),
        reason: run.reason.map(|reason| reason.to_string()),
        requested_at: None,
        count: 1,
    }
}

/// Records that were dropped for a later one with their ID; `None` if there were none.
fn conflicting(run: &RunRecord) -> Option<i64> {
    let count = Some(run.counts.conflicting).filter(|count| *count > 0)?;
    Some(i64::try_from(count).unwrap_or(i64::MAX))
}

fn records(run: &RunRecord) -> String {
    let c = &run.counts;
    let text = format!("{} new, {} changed, {} same", c.inserted, c.updated, c.unchanged);
    let text = if c.rejected > 0 { format!("{text}, {} rejected", c.rejected) } else { text };
    if c.conflicting > 0 { format!("{text}, {} conflicting", c.conflicting) } else { text }
}

/// API form of the result; `None` for a skipped slot or a run that has not ended.
fn wire_result(run: &RunRecord) -> Option<WireResult> {
    Some(match run.result? {
        RunResult::Succeeded => WireResult::Succeeded,
        RunResult::Failed => WireResult::Failed,
        // Like a run that reached a limit: the next run continues from its last page.
        RunResult::Incomplete | RunResult::Interrupted => WireResult::Incomplete,
        RunResult::Cancelled => WireResult::Canceled,
        RunResult::Skipped => return None,
    })
}

fn wire_trigger(trigger: RunTrigger) -> WireTrigger {
    match trigger {
        RunTrigger::Schedule | RunTrigger::CatchUp => WireTrigger::Schedule,
        RunTrigger::Retry => WireTrigger::Retry,
        RunTrigger::Manual => WireTrigger::Request,
        RunTrigger::Resync => WireTrigger::Resync,
        RunTrigger::Webhook => WireTrigger::Webhook,
    }
}

fn preview(cursor: &str) -> String {
    json_prefix(cursor, CURSOR_PREVIEW_MAX).to_owned()
}
