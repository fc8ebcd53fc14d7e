//! Reconciler of `SyncJob`: starts runs when they are due and reports their results.
//!
//! Past runs are read from the ledger, never from memory, so a restarted operator continues where the last one stopped.
//! A run itself is a task in the pool; its end enqueues the job.

#[cfg(test)]
mod columns_tests;
pub mod decide;
mod due;
mod events;
mod exclusive;
mod failure;
mod freshness;
#[cfg(test)]
mod incomplete_tests;
pub mod jobs;
pub mod kubernetes_job;
pub mod ledger_state;
#[cfg(test)]
mod ledger_tests;
#[cfg(test)]
mod news_tests;
mod overlap;
mod partitions;
pub mod requests;
#[cfg(test)]
mod requests_tests;
pub mod resolution;
mod runs;
#[cfg(test)]
mod silence_tests;
pub mod source_events;
pub mod sources;
pub mod status;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use crate::api::LEDGER_FINALIZER;
use crate::api::v1alpha1::SyncJob;
use crate::api::v1alpha1::common::TriState;
use crate::api::v1alpha1::reasons::ConditionType;
use crate::api::v1alpha1::sync_job::{DeletionPolicy, Execution, RunResult as WireResult, SyncJobStatus};
use crate::cluster::resource::HasStatus;
use crate::cluster::resource::WatchedResource;
use crate::controllers::conditions::status_of;
use crate::controllers::{Cleanup, Ctx, Decision, ReconcileError, Reconciler};
use crate::domain::conditions::ConditionStatus;
use crate::domain::key::{Kind, ObjectKey};
use crate::domain::run_reason::RunReason;
use crate::domain::time::Now;
use crate::ledger::{Ledger, LedgerError, RunId, RunStart, RunTrigger};
use crate::profile::CheckMode;
use crate::resolve::{self, SpecError};
use crate::settings::sync_plan::{ResyncPlan, SyncPlan};
use crate::sync::fetch::PlannedConnection;
use crate::work::pool::{LostRun, RunRequest};

use self::decide::{ConnectionView, JobInputs, JobStep};
use self::jobs::JobRuns;
use self::ledger_state::LedgerState;
use self::requests::{Closing, PendingResync, RequestedWork};

impl WatchedResource for SyncJob {
    const KIND: Kind = Kind::SyncJob;

    fn references(&self) -> Vec<(Kind, ObjectKey)> {
        let connection = (Kind::ProviderConnection, self.key().sibling(&*self.spec.connection_ref.name));
        let from = self.spec.partitions_from.as_ref();
        let job = from.map(|from| (Kind::SyncJob, self.key().sibling(&*from.sync_job_ref.name)));
        std::iter::once(connection).chain(job).collect()
    }
}

impl HasStatus for SyncJob {
    type Status = SyncJobStatus;

    // So that columns such as LAST-SUCCESS are at most a minute old. A run changes them once, at its end, so a job with
    // a longer interval is written no more often than it runs.
    const MIN_RIDE_ALONG_INTERVAL: Duration = Duration::from_mins(1);

    fn status(&self) -> Option<&SyncJobStatus> {
        self.status.as_ref()
    }

    fn status_mut(&mut self) -> &mut Option<SyncJobStatus> {
        &mut self.status
    }

    fn transition_fields(status: &SyncJobStatus) -> SyncJobStatus {
        SyncJobStatus {
            last_schedule_time: None,
            last_successful_time: None,
            next_schedule_time: None,
            next_retry_time: None,
            last_records: None,
            cursor: None,
            history: status::newest_requested(status).cloned().into_iter().collect(),
            failure_streak: None,
            empty_streak: None,
            ..status.clone()
        }
    }

    fn is_urgent(old: Option<&SyncJobStatus>, new: &SyncJobStatus) -> bool {
        let empty = SyncJobStatus::default();
        let old = old.unwrap_or(&empty);
        let ready = |s: &SyncJobStatus| status_of(&s.conditions, ConditionType::Ready);
        (ready(old) == ConditionStatus::True && ready(new) == ConditionStatus::False)
            || (new.fresh == Some(TriState::False) && old.fresh != new.fresh)
            || (new.last_result == Some(WireResult::Failed) && old.last_result != new.last_result)
            // The requester waits for its result.
            || status::newest_requested(new).is_some_and(|run| {
                status::newest_requested(old).is_none_or(|before| before.id != run.id)
            })
            // And for the acknowledgement; a restart before the write would repeat the request.
            || new.last_handled_reconcile_at != old.last_handled_reconcile_at
    }
}

/// Requeue delay of a cleanup that waits for a run: it may belong to another process, whose end enqueues nothing here.
const CLEANUP_RECHECK: Duration = Duration::from_secs(1);

/// Reconciler of sync jobs.
pub struct SyncJobReconciler;

/// Result of `observe`: the inputs of `decide`, and the sync that `act` starts.
pub struct JobObservation {
    inputs: JobInputs,
    plan: Option<Arc<SyncPlan>>,
    /// What the plan was made for.
    connection: Option<PlannedConnection>,
}

/// What a job is resolved to.
struct ResolvedJob {
    plan: Result<Arc<SyncPlan>, SpecError>,
    view: Option<ConnectionView>,
    connection: Option<PlannedConnection>,
}

impl Reconciler for SyncJobReconciler {
    type Object = SyncJob;
    type Observed = JobObservation;
    type Step = JobStep;

    const FINALIZER: Option<&'static str> = Some(LEDGER_FINALIZER);

    fn needs_cleanup(object: &SyncJob) -> bool {
        object.spec.deletion_policy == DeletionPolicy::Delete
    }

    fn depends_on(object: &SyncJob) -> Vec<(Kind, ObjectKey)> {
        // Not the job of partitionsFrom: the jobs of a cycle would wait for each other.
        object.references().into_iter().filter(|(kind, _)| *kind == Kind::ProviderConnection).collect()
    }

    async fn cleanup(ctx: &Ctx, object: &SyncJob) -> Result<Cleanup, ReconcileError> {
        let key = object.key();
        let jobs = ctx.stores.jobs.list().into_iter().map(|job| job.key());
        let existing = jobs.filter(|other| other.namespace == key.namespace && *other != key).map(|other| other.name);
        if jobs::stop(ctx, object).await? {
            return Ok(Cleanup::Pending(CLEANUP_RECHECK));
        }
        let Some(erasure) = ctx.pool.purge(&key, &existing.collect()).await? else {
            return Ok(Cleanup::Pending(CLEANUP_RECHECK));
        };
        let event = source_events::erased(object.status.as_ref(), &erasure);
        tracing::info!(namespace = %key.namespace, name = %key.name, "{}", event.message);
        ctx.events.publish(object, &event).await;
        Ok(Cleanup::Done)
    }

    async fn observe(ctx: &Ctx, object: &SyncJob) -> Result<JobObservation, ReconcileError> {
        let key = object.key();
        let now = ctx.clock.now();
        let ResolvedJob { plan: resolved, view, connection } = resolve(ctx, object, &key);
        let schedule = resolve::job_schedule(&object.spec, ctx.operator_options(), now.wall);
        let (schedule, plan) = match (schedule, resolved) {
            (Err(error), _) | (Ok(_), Err(error)) => (Err(error), None),
            (Ok(schedule), Ok(plan)) => (Ok(schedule), Some(plan)),
        };
        let resync = resolve::resync::resync(&object.spec);
        let (schedule, plan, resync) = match (schedule, resync) {
            (Ok(_), Err(error)) => (Err(error), None, None),
            (schedule, resync) => (schedule, plan, resync.unwrap_or_default()),
        };
        let (mut runs, ledger) = runs::read(&*ctx.ledger, &ctx.pool, &key).await?;
        let JobRuns { active, lost } = jobs::read(ctx, object, &runs, now)?;
        runs.active = runs.active.or(active);
        let requested = match ledger {
            // Without a plan nothing can be served; the requests wait.
            LedgerState::Working if plan.is_some() => {
                requests::read(&*ctx.ledger, &key, &object.spec, resync, &runs).await?
            }
            _ => RequestedWork::default(),
        };
        let inputs = JobInputs {
            schedule,
            connection: view,
            partitions: plan.as_ref().map_or(0, |plan| partitions::count(plan, &runs)),
            sla: plan.as_ref().map(|plan| plan.sla).unwrap_or_default(),
            runs,
            unused_fields: resolve::sync_job::unused_fields(&object.spec),
            ledger,
            requested,
            lost,
        };
        Ok(JobObservation { inputs, plan, connection })
    }

    fn decide(
        object: &SyncJob,
        previous: Option<&SyncJobStatus>,
        observation: &JobObservation,
        now: Now,
    ) -> Decision<SyncJobStatus, JobStep> {
        decide::decide(object, previous, &observation.inputs, now)
    }

    async fn act(
        ctx: &Ctx,
        object: &SyncJob,
        mut observation: JobObservation,
        steps: Vec<JobStep>,
    ) -> Result<(), ReconcileError> {
        let key = object.key();
        let new_run = || RunId(Uuid::new_v4());
        for step in steps {
            match step {
                JobStep::Start { trigger, slot } => {
                    let requested = decide::requested_run(object).filter(|_| trigger == RunTrigger::Manual);
                    let run = requested.unwrap_or_else(new_run);
                    start(ctx, object, &mut observation, RunRequest { run, trigger, slot }, None).await?;
                }
                JobStep::StartRequested { run, trigger } => {
                    let request = RunRequest { run, trigger, slot: None };
                    start(ctx, object, &mut observation, request, None).await?;
                }
                JobStep::StartResync(PendingResync { plan, run }) => {
                    let run = run.unwrap_or_else(new_run);
                    let request = RunRequest { run, trigger: RunTrigger::Resync, slot: None };
                    start(ctx, object, &mut observation, request, Some(plan)).await?;
                }
                JobStep::Close(Closing { id, state, outcome }) => {
                    ctx.ledger.close_request(id, state, outcome, ctx.clock.now().wall).await?;
                }
                JobStep::Stop => {
                    ctx.pool.cancel(&key);
                    jobs::stop(ctx, object).await?;
                }
                JobStep::RecordLost(request) => {
                    let resync = jobs::resync_of(ctx, object, request.run);
                    let lost = LostRun { request, plan: observation.plan.as_deref(), resync };
                    ctx.pool.record_lost(&key, lost).await?;
                }
                JobStep::Skip { slot } => skip(&*ctx.ledger, &key, slot, ctx.clock.now().wall).await?,
            }
        }
        Ok(())
    }
}

/// Starts a run, in the pool or as a Kubernetes Job; `resync` makes it one of a resync.
async fn start(
    ctx: &Ctx,
    object: &SyncJob,
    observation: &mut JobObservation,
    request: RunRequest,
    resync: Option<ResyncPlan>,
) -> Result<(), ReconcileError> {
    let (Some(plan), Some(connection)) = (observation.plan.take(), observation.connection.take()) else {
        return Ok(());
    };
    let plan = match resync {
        Some(resync) => Arc::new(SyncPlan { resync: Some(resync), ..(*plan).clone() }),
        None => plan,
    };
    if let Some(runner) = ctx.jobs.as_ref().filter(|_| object.spec.execution == Execution::Job) {
        jobs::start(ctx, runner, object, &plan, request).await
    } else {
        ctx.pool.start(plan, Arc::new(connection), request);
        Ok(())
    }
}

/// Records a missed slot. Without a record it would be reported as missed again after a restart.
pub(crate) async fn skip(
    ledger: &dyn Ledger,
    key: &ObjectKey,
    slot: Timestamp,
    at: Timestamp,
) -> Result<(), LedgerError> {
    let id = RunId(Uuid::new_v4());
    let (trigger, events) = (RunTrigger::Schedule, Vec::new());
    let start = RunStart { id, job: key.clone(), trigger, slot: Some(slot), dry_run: false, events, at };
    ledger.skip_run(&start, RunReason::StartingDeadlineExceeded).await
}

/// The plan of a job and its connection, for what is not a run of its schedule.
///
/// # Errors
/// Why the job cannot run.
pub(crate) fn runnable(
    ctx: &Ctx,
    object: &SyncJob,
    key: &ObjectKey,
) -> Result<(Arc<SyncPlan>, PlannedConnection), SpecError> {
    resolve::sync_job::accept(&object.spec, ctx.operator_options())?;
    let ResolvedJob { plan, connection, .. } = resolve(ctx, object, key);
    let not_ready = || resolve::sync_job::connection_not_ready(&object.spec.connection_ref.name);
    Ok((plan?, connection.ok_or_else(not_ready)?))
}

fn resolve(ctx: &Ctx, object: &SyncJob, key: &ObjectKey) -> ResolvedJob {
    let name = &*object.spec.connection_ref.name;
    let connection = key.sibling(name);
    let unusable = |error| ResolvedJob { plan: Err(error), view: None, connection: None };
    let Some(stored) = ctx.stores.connections.get(&connection) else {
        return unusable(resolve::sync_job::connection_not_found(name));
    };
    let live = ctx.registry.get(&connection).filter(|live| Some(&**live.uid()) == stored.metadata.uid.as_deref());
    let Some(live) = live else { return unusable(resolve::sync_job::connection_not_ready(name)) };
    let settings = live.settings();
    let (status, now) = (live.snapshot(), ctx.clock.now());
    let view = ConnectionView {
        suspended: settings.suspended(),
        probed: settings.health_check().mode == CheckMode::Active,
        effective: status.effective,
        // Not the time in the status: the wall clock may have been set since.
        next_trial: live.next_trial().map(|at| now.wall_at(at)),
        maintenance: settings.maintenance(now.wall),
    };
    // Afterwards, because it indexes what the job reads.
    let plan = exclusive::resolve(ctx, object, &settings).and_then(|plan| {
        resolve::sync_job::check_provider(&object.spec, settings.provider())?;
        Ok(plan)
    });
    ResolvedJob { plan, view: Some(view), connection: Some(PlannedConnection::new(live, settings)) }
}
