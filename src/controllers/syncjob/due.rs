//! What is due of a job, from its schedule and its recorded runs. Pure.

use std::time::Duration;

use jiff::Timestamp;

use crate::api::v1alpha1::SyncJob;
use crate::api::v1alpha1::reasons::ConditionType;
use crate::api::v1alpha1::sync_job::SyncJobStatus;
use crate::controllers::conditions::transition_of;
use crate::domain::breaker::MAX_THROTTLE;
use crate::domain::clock_skew::{after, happened, is_ahead};
use crate::domain::schedule::Due;
use crate::domain::time::{Mono, Now};
use crate::ledger::{RunRecord, RunResult, RunTrigger};
use crate::resolve::{Cadence, MAX_RETRY_INTERVAL};
use crate::work::pool::JobView;

/// Delay before the next run if the last one could not be recorded (ledger fault, or another process runs the job):
/// without a record nothing else limits the rate of retries.
const UNRECORDED_RUN_BACKOFF: Duration = Duration::from_secs(5);

/// When the job was created. If the API server's clock was ahead then: when this operator first accepted the job.
pub(super) fn created(object: &SyncJob, previous: Option<&SyncJobStatus>, now: Timestamp) -> Timestamp {
    let created = object.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0);
    if !is_ahead(created, now) {
        return created;
    }
    let first_seen = previous.and_then(|status| transition_of(&status.conditions, ConditionType::Ready));
    first_seen.map_or(now, |at| happened(at, now))
}

/// What the schedule wants now. A slot is handled by any run that started after it, also by a retry, a request, or a run
/// that was queued for long: the schedule does not start another one right after that.
pub(super) fn evaluate(cadence: &Cadence, history: &JobView, created: Timestamp, uid: &str, now: Timestamp) -> Due {
    let due = |last| cadence.schedule.due(last, created, now, uid, cadence.jitter_percent, cadence.starting_deadline);
    match due(history.last_slot) {
        Due::Start { slot, .. } | Due::Missed { slot } if last_run(history).is_some_and(|run| run.started >= slot) => {
            due(Some(slot))
        }
        due => due,
    }
}

/// Whether the last run ended with its process or was cancelled: it did not fail, so it continues from its last page
/// now rather than at the next slot, which may be a day away.
pub(super) fn was_interrupted(history: &JobView) -> bool {
    last_run(history)
        .is_some_and(|run| matches!(run.result, None | Some(RunResult::Interrupted | RunResult::Cancelled)))
}

/// Until when no run is started because the last one could not be recorded.
pub(super) fn blocked_until(history: &JobView) -> Option<Mono> {
    let last = history.last_outcome.as_ref().filter(|outcome| !outcome.recorded)?;
    Some(last.at + UNRECORDED_RUN_BACKOFF)
}

/// When a failing job is retried: after the longer of the provider's Retry-After, of at most a day, and of the retry
/// interval, doubled with every further failure. A provider that says `Retry-After: 1` for hours is asked less and less
/// often. A Retry-After is not persisted: after a restart the provider can send it again.
pub(super) fn retry_at(history: &JobView, cadence: &Cadence, now: Now) -> Option<Timestamp> {
    if history.failure_streak == 0 {
        return None;
    }
    let last = history.last.iter().find(|r| counts(r) && r.result.is_some())?;
    let outcome = history.last_outcome.as_ref().filter(|outcome| outcome.id == last.id);
    let asked = outcome.and_then(|outcome| Some(outcome.at + outcome.report.retry_in?.min(MAX_THROTTLE)));
    let backoff = after(last.ended.unwrap_or(last.started), backoff(cadence, history.failure_streak));
    Some(asked.map_or(backoff, |at| now.wall_at(at).max(backoff)))
}

/// When the resync `id` is tried again, if its last run failed: after the retry interval, doubled with every further
/// failure. As this process knows it, and as the ledger does: runs of Kubernetes Jobs and runs before a restart are only
/// there. Failures of another resync delay this one not at all; a run of a version that did not store its resync counts
/// unless this process last ran another one.
pub(super) fn resync_at(history: &JobView, cadence: &Cadence, id: &str, now: Now) -> Option<Timestamp> {
    let attempts = history.resync.as_ref();
    let is_last = attempts.is_none_or(|attempts| attempts.id == id);
    let known = attempts.filter(|attempts| is_last && attempts.failures > 0);
    let known = known.map(|attempts| now.wall_at(attempts.last + backoff(cadence, attempts.failures)));
    let is_of_it = |run: &&RunRecord| match &run.failure.resync {
        Some(resync) => resync == id,
        None => is_last,
    };
    let runs = || history.last.iter().filter(|run| run.trigger == RunTrigger::Resync).filter(is_of_it);
    let failed = runs().take_while(|run| run.result == Some(RunResult::Failed)).count();
    let stored = runs().next().filter(|_| failed > 0).map(|run| {
        let failures = u32::try_from(failed).unwrap_or(u32::MAX);
        after(run.ended.unwrap_or(run.started), backoff(cadence, failures))
    });
    known.max(stored)
}

/// The retry interval, doubled with every failure after the first.
fn backoff(cadence: &Cadence, failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    cadence.retry_interval.saturating_mul(1 << doublings).min(MAX_RETRY_INTERVAL)
}

/// The last run that was not skipped, of those that read what the schedule is for.
fn last_run(history: &JobView) -> Option<&RunRecord> {
    history.last.iter().find(|run| counts(run))
}

/// Whether the run says something about the schedule: a skipped one did not run, and a resync reads an old range.
pub(super) fn counts(run: &RunRecord) -> bool {
    run.result != Some(RunResult::Skipped) && run.trigger != RunTrigger::Resync
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::syncjob::tests::{run, t};
    use crate::domain::run_reason::RunReason;
    use crate::domain::schedule::Schedule;
    use crate::sync::RunReport;
    use crate::work::pool::RunOutcome;

    const HOUR: i64 = 3600;

    /// When a job with `interval: 6h` is retried, in seconds after its `failures`-th failure, with what the provider asks
    /// for.
    fn retried_after(failures: u32, retry_in: Option<Duration>) -> i64 {
        let interval = Duration::from_hours(6);
        let cadence = Cadence {
            schedule: Schedule::Interval(interval),
            jitter_percent: 0,
            starting_deadline: Duration::from_hours(1),
            retry_interval: interval.min(Duration::from_mins(15)),
            max_staleness: interval * 3,
            text: "every 6h".to_owned(),
        };
        let failed = run(Some(RunResult::Failed), 0);
        let report = RunReport { retry_in, ..RunReport::from_error(&RunReason::RateLimited.into()) };
        let now = Now { mono: Mono::ZERO, wall: t(0) };
        let history = JobView {
            last_outcome: Some(RunOutcome { id: failed.id, at: now.mono, report, recorded: true }),
            last: vec![failed],
            failure_streak: failures,
            ..JobView::default()
        };
        retry_at(&history, &cadence, now).unwrap().duration_since(now.wall).as_secs()
    }

    #[test]
    fn a_short_retry_after_does_not_replace_the_backoff() {
        let minutes = [1, 2, 3, 4, 5, 6].map(|failures| retried_after(failures, Some(Duration::from_secs(1))) / 60);
        assert_eq!(minutes, [15, 30, 60, 120, 240, 360]);
        assert_eq!(retried_after(1, None), 900);
    }

    #[test]
    fn a_long_retry_after_is_kept_up_to_a_day() {
        assert_eq!(retried_after(1, Some(Duration::from_hours(2))), 2 * HOUR);
        assert_eq!(retried_after(6, Some(Duration::from_hours(2))), 6 * HOUR);
        for far in [Duration::from_hours(24), Duration::from_hours(50_000), Duration::MAX] {
            assert_eq!(retried_after(1, Some(far)), 24 * HOUR);
        }
    }
}
