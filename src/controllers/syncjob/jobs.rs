//! Runs as Kubernetes Jobs: what of them is active, and what was lost.

use std::time::Duration;

use crate::api::v1alpha1::SyncJob;
use crate::cluster::ApiError;
use crate::cluster::resource::WatchedResource as _;
use crate::cluster::run_jobs::{JobPhase, RunJob};
use crate::controllers::job_runner::JobRunner;
use crate::controllers::syncjob::kubernetes_job;
use crate::controllers::{Ctx, ReconcileError};
use crate::domain::time::Now;
use crate::ledger::{RunId, RunTrigger};
use crate::settings::sync_plan::SyncPlan;
use crate::work::pool::{ActiveRun, JobView, RunRequest};

/// Delay before a job is looked at again while its Jobs are not known.
const UNKNOWN_REQUEUE: Duration = Duration::from_secs(1);

/// The Jobs of a `SyncJob`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobRuns {
    /// The run that a Job makes now.
    pub active: Option<ActiveRun>,
    /// Runs whose Job has failed and that have no end in the ledger.
    pub lost: Vec<RunRequest>,
}

/// What is known of the Jobs of `object`, whose runs are `runs`.
///
/// # Errors
/// [`ReconcileError::Deferred`] until the Jobs are listed: one may be active.
pub(super) fn read(ctx: &Ctx, object: &SyncJob, runs: &JobView, now: Now) -> Result<JobRuns, ReconcileError> {
    let Some(runner) = &ctx.jobs else { return Ok(JobRuns::default()) };
    if !runner.jobs.is_ready() {
        return Err(ReconcileError::Deferred(UNKNOWN_REQUEUE));
    }
    let uid = object.metadata.uid.as_deref().unwrap_or_default();
    Ok(judge(&runner.jobs.of(&object.key(), uid), runs, now))
}

/// Which of the Jobs is active, and which were lost.
fn judge(jobs: &[RunJob], runs: &JobView, now: Now) -> JobRuns {
    let request = |job: &RunJob| {
        let trigger = job.trigger.parse().unwrap_or(RunTrigger::Manual);
        RunRequest { run: RunId(job.run), trigger, slot: None }
    };
    let active = jobs.iter().rfind(|job| job.phase == JobPhase::Active).map(|job| {
        let RunRequest { run, trigger, .. } = request(job);
        let age = Duration::try_from(now.wall.duration_since(job.created)).unwrap_or_default();
        let since_mono = now.mono - age;
        ActiveRun { id: run, trigger, since: job.created, since_mono, queued: false, stopping: job.deleting }
    });
    let ended = |run: RunId| runs.last.iter().any(|recorded| recorded.id == run && recorded.ended.is_some());
    // Older than everything that is read of the history: it was recorded long ago.
    let oldest = runs.last.last().map(|run| run.started);
    let is_read = |job: &&RunJob| oldest.is_none_or(|oldest| job.created >= oldest);
    let failed = jobs.iter().filter(|job| job.phase == JobPhase::Failed).filter(is_read);
    let lost = failed.map(request).filter(|request| !ended(request.run)).collect();
    JobRuns { active, lost }
}

/// The resync that the run of a Job serves, if it serves one.
pub(super) fn resync_of(ctx: &Ctx, object: &SyncJob, run: RunId) -> Option<String> {
    let uid = object.metadata.uid.as_deref().unwrap_or_default();
    let jobs = ctx.jobs.as_ref()?.jobs.of(&object.key(), uid);
    jobs.into_iter().find(|job| job.run == run.0)?.resync
}

/// Starts the Job of a run.
///
/// # Errors
/// If this replica does not lead, or the API server rejects the Job.
pub(super) async fn start(
    ctx: &Ctx,
    runner: &JobRunner,
    object: &SyncJob,
    plan: &SyncPlan,
    request: RunRequest,
) -> Result<(), ReconcileError> {
    if !ctx.leadership.is_leader(ctx.clock.mono()) {
        return Err(ApiError::NotLeading.into());
    }
    let job = kubernetes_job::job(object, plan, request, &runner.options);
    Ok(runner.jobs.create(&object.key(), &job).await?)
}

/// Stops the Jobs of a `SyncJob`: their Pods end at a page boundary. `true` if there is one.
///
/// # Errors
/// If this replica does not lead, or the API server rejects the deletion.
pub(super) async fn stop(ctx: &Ctx, object: &SyncJob) -> Result<bool, ReconcileError> {
    let Some(runner) = &ctx.jobs else { return Ok(false) };
    let (key, uid) = (object.key(), object.metadata.uid.as_deref().unwrap_or_default());
    let active: Vec<RunJob> =
        runner.jobs.of(&key, uid).into_iter().filter(|job| job.phase == JobPhase::Active).collect();
    for job in active.iter().filter(|job| !job.deleting) {
        if !ctx.leadership.is_leader(ctx.clock.mono()) {
            return Err(ApiError::NotLeading.into());
        }
        runner.jobs.delete(&key, &job.name).await?;
    }
    Ok(!active.is_empty())
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::controllers::syncjob::tests::{mono, run, t};
    use crate::ledger::RunResult;

    fn of(run: RunId, phase: JobPhase, created: i64) -> RunJob {
        RunJob {
            name: format!("j-{created}"),
            owner: "u".into(),
            run: run.0,
            trigger: "Retry".into(),
            resync: None,
            created: t(created),
            phase,
            deleting: false,
        }
    }

    fn judged(jobs: &[RunJob], runs: &JobView) -> JobRuns {
        judge(jobs, runs, Now { mono: mono(100), wall: t(100) })
    }

    #[test]
    fn a_job_without_an_end_is_the_active_run() {
        let id = RunId(Uuid::from_u128(7));
        let found = judged(&[of(id, JobPhase::Active, 40)], &JobView::default()).active.unwrap();
        assert_eq!(
            (found.id, found.trigger, found.since_mono, found.stopping),
            (id, RunTrigger::Retry, mono(40), false)
        );
        for phase in [JobPhase::Complete, JobPhase::Failed] {
            assert_eq!(judged(&[of(id, phase, 40)], &JobView::default()).active, None);
        }
        let deleting = RunJob { deleting: true, ..of(id, JobPhase::Active, 40) };
        assert!(judged(&[deleting], &JobView::default()).active.unwrap().stopping);
    }

    #[test]
    fn a_failed_job_is_lost_unless_its_run_was_recorded() {
        let (recorded, begun) = (run(Some(RunResult::Failed), 50), run(None, 60));
        let view = JobView { last: vec![begun.clone(), recorded.clone()], ..JobView::default() };
        let lost = |id, at| judged(&[of(id, JobPhase::Failed, at)], &view).lost.len();
        assert_eq!(lost(recorded.id, 50), 0, "its Pod recorded a failed run");
        assert_eq!(lost(begun.id, 60), 1, "its Pod died");
        assert_eq!(lost(RunId(Uuid::from_u128(9)), 70), 1, "its Pod never started");
        assert_eq!(lost(RunId(Uuid::from_u128(9)), 10), 0, "long ago");
    }
}
