//! What a job's status and events say about a run that did not succeed: reason, HTTP status, what was received or which
//! field is at fault, the partitions, and what to do. Pure.

use std::fmt::Write as _;

use crate::controllers::syncjob::due;
use crate::domain::run_failure::RunFailure;
use crate::domain::run_reason::RunReason;
use crate::ledger::{RunRecord, RunResult};
use crate::work::pool::JobView;

/// Longest text, in bytes: the API server rejects a longer note of an event.
const MAX_TEXT: usize = 1000;

/// The last run whose result says something about the provider, if it did not succeed.
pub(super) fn last_unsuccessful(history: &JobView) -> Option<&RunRecord> {
    let judged =
        |run: &&RunRecord| matches!(run.result, Some(RunResult::Succeeded | RunResult::Failed | RunResult::Incomplete));
    history
        .last
        .iter()
        .filter(|run| due::counts(run))
        .find(judged)
        .filter(|run| run.result != Some(RunResult::Succeeded))
}

/// The same, if it failed.
pub(super) fn last_failed(history: &JobView) -> Option<&RunRecord> {
    last_unsuccessful(history).filter(|run| run.result == Some(RunResult::Failed))
}

/// How many of the job's `total` partitions failed in the last run.
pub(super) fn failing(history: &JobView, total: usize) -> usize {
    match last_failed(history).map(|run| usize::try_from(run.failure.failing).unwrap_or(usize::MAX)) {
        None => 0,
        // It ended before a partition was read, or was recorded by an older version: none is known to be good.
        Some(0) => total,
        Some(failing) => failing.min(total),
    }
}

/// The names of the first partitions that failed in the last run.
pub(super) fn failing_names(history: &JobView) -> Vec<String> {
    let failed = last_failed(history).map(|run| run.failure.partitions.as_slice()).unwrap_or_default();
    failed.iter().map(|partition| partition.name.clone()).filter(|name| !name.is_empty()).collect()
}

/// The note of the event about a run that failed.
pub(super) fn event(history: &JobView, total: usize) -> String {
    let text = match last_failed(history) {
        Some(run) => {
            let remedy = remedy(run.reason);
            format!("sync failed: {}; committed pages are kept; retrying with backoff{remedy}", cause(run, total))
        }
        None => "sync failed: see status.history; committed pages are kept; retrying with backoff".to_owned(),
    };
    bounded(text)
}

/// The message of Fresh: `state`, and what the last run says if it did not succeed.
pub(super) fn with_last_run(state: &str, history: &JobView, total: usize) -> String {
    let Some(run) = last_unsuccessful(history) else {
        return match note(history) {
            Some(note) => bounded(format!("{state}; last run: {note}")),
            None => state.to_owned(),
        };
    };
    let (cause, remedy) = (cause(run, total), remedy(run.reason));
    bounded(match run.result {
        Some(RunResult::Failed) => format!("{state}; last run failed: {cause}; retrying with backoff{remedy}"),
        _ => format!("{state}; last run incomplete: {cause}{remedy}"),
    })
}

/// What the last run that succeeded says all the same, such as that there was nothing to read.
fn note(history: &JobView) -> Option<&str> {
    let last =
        history.last.iter().filter(|run| due::counts(run)).find(|run| run.result == Some(RunResult::Succeeded))?;
    last.failure.detail.as_deref()
}

/// `NotFound (HTTP 404); 2 of 3 partitions failed: a, b`.
fn cause(run: &RunRecord, total: usize) -> String {
    let RunFailure { http_status, detail, failing, partitions, .. } = &run.failure;
    let mut text = run.reason.map_or("see status.history", RunReason::as_str).to_owned();
    if let Some(status) = http_status {
        let _ = write!(text, " (HTTP {status})");
    }
    if let Some(detail) = detail {
        let _ = write!(text, ": {detail}");
    }
    let names: Vec<String> = partitions
        .iter()
        .filter(|partition| !partition.name.is_empty())
        .map(|partition| {
            let same = run.reason.is_some_and(|reason| reason.as_str() == partition.reason);
            if same { partition.name.clone() } else { format!("{} ({})", partition.name, partition.reason) }
        })
        .collect();
    if total > 1 && !names.is_empty() {
        let failing = usize::try_from(*failing).unwrap_or(usize::MAX);
        let more = failing.saturating_sub(names.len());
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let _ = write!(text, "; {failing} of {total} partitions failed: {}{more}", names.join(", "));
    }
    text
}

/// What to do about the reason, as the end of a message; empty if there is nothing to do.
fn remedy(reason: Option<RunReason>) -> String {
    let text = reason.map_or("", RunReason::remedy).trim_end_matches('.');
    let text = text.strip_prefix("None").map_or(text, |rest| rest.trim_start_matches([';', '.', ' ']));
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => format!("; {}{}", first.to_lowercase(), chars.as_str()),
        None => String::new(),
    }
}

fn bounded(mut text: String) -> String {
    if text.len() > MAX_TEXT {
        let end = (0..=MAX_TEXT).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use uuid::Uuid;

    use super::*;
    use crate::domain::run_failure::FailingPartition;
    use crate::ledger::runs::RunCounts;
    use crate::ledger::{RunId, RunTrigger};

    fn ended(result: RunResult, reason: Option<RunReason>, failure: RunFailure) -> JobView {
        let run = RunRecord {
            id: RunId(Uuid::nil()),
            trigger: RunTrigger::Schedule,
            slot: None,
            dry_run: false,
            started: Timestamp::UNIX_EPOCH,
            ended: Some(Timestamp::UNIX_EPOCH),
            result: Some(result),
            reason,
            failure,
            counts: RunCounts::default(),
        };
        JobView { last: vec![run], failure_streak: u32::from(result == RunResult::Failed), ..JobView::default() }
    }

    fn failed(reason: RunReason, failure: RunFailure) -> JobView {
        ended(RunResult::Failed, Some(reason), failure)
    }

    #[test]
    fn a_failed_run_is_told_with_status_cause_partitions_and_remedy() {
        let partitions = vec![FailingPartition::new("acc-1", "NotFound"), FailingPartition::new("acc-2", "ItemGone")];
        let failure = RunFailure { http_status: Some(404), failing: 7, partitions, ..RunFailure::default() };
        let history = failed(RunReason::NotFound, failure);
        assert_eq!(
            event(&history, 9),
            "sync failed: NotFound (HTTP 404); 7 of 9 partitions failed: acc-1, acc-2 (ItemGone) and 5 more; \
             committed pages are kept; retrying with backoff; correct spec.parameters or spec.partitions"
        );
        assert_eq!((failing(&history, 9), failing(&history, 3)), (7, 3));
        assert_eq!(failing_names(&history), ["acc-1", "acc-2"]);
        let html = RunFailure {
            http_status: Some(200),
            detail: Some("received text/html, 2 KiB".into()),
            ..RunFailure::default()
        };
        let fresh = with_last_run("data is stale", &failed(RunReason::BodyUnreadable, html), 1);
        assert!(
            fresh.starts_with(
                "data is stale; last run failed: BodyUnreadable (HTTP 200): received text/html, 2 KiB; \
                 retrying with backoff; check endpoint.baseURL"
            ),
            "{fresh}"
        );
    }

    #[test]
    fn an_incomplete_run_is_told_and_one_that_succeeded_is_not() {
        let cut = ended(RunResult::Incomplete, Some(RunReason::PageCapReached), RunFailure::default());
        assert_eq!(
            with_last_run("fresh", &cut, 1),
            "fresh; last run incomplete: PageCapReached; the next run continues from the last committed page"
        );
        let good = ended(RunResult::Succeeded, None, RunFailure::default());
        assert_eq!((with_last_run("fresh", &good, 1), failing(&good, 3)), ("fresh".to_owned(), 0));
    }

    #[test]
    fn a_run_that_read_no_partition_leaves_none_known_to_be_good() {
        let history = failed(RunReason::KeyMissing, RunFailure::default());
        assert_eq!((failing(&history, 3), failing_names(&history).len()), (3, 0));
    }

    #[test]
    fn every_text_fits_the_note_of_an_event() {
        let partitions = (0..5).map(|n| FailingPartition::new(&format!("{n}{}", "é".repeat(80)), "x")).collect();
        let detail = Some("漢".repeat(256));
        let failure = RunFailure {
            http_status: Some(599),
            detail,
            failing: u32::MAX,
            partitions,
            cut_short: true,
            ..RunFailure::default()
        };
        for reason in RunReason::ALL {
            let history = failed(*reason, failure.clone());
            assert!(event(&history, usize::MAX).len() <= 1024);
            assert!(with_last_run("data is stale", &history, 256).len() <= 1024);
        }
    }
}
