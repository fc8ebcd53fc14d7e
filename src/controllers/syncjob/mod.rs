//! Reconciler of `SyncJob`: starts runs when they are due and reports their results.
//!
//! Past runs are read from the ledger, never from memory, so a restarted operator continues where the last one stopped.
//! A run itself is a task in the pool; its end enqueues the job.

pub mod decide;
mod due;
pub mod plan;
#[cfg(test)]
mod silence_tests;
pub mod status;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt as _;
use uuid::Uuid;

use crate::api::v1alpha1::SyncJob;
use crate::api::v1alpha1::common::TriState;
use crate::api::v1alpha1::reasons::{ConditionType, Reason};
use crate::api::v1alpha1::sync_job::{DeletionPolicy, RunResult as WireResult, SyncJobStatus};
use crate::cluster::resource::HasStatus;
use crate::cluster::resource::WatchedResource;
use crate::controllers::conditions::status_of;
use crate::controllers::resolve::SpecError;
use crate::controllers::{Cleanup, Ctx, Decision, ReconcileError, Reconciler};
use crate::domain::conditions::ConditionStatus;
use crate::domain::key::{Kind, ObjectKey};
use crate::domain::time::Now;
use crate::ledger::{RunId, RunStart, RunTrigger};
use crate::profile::CheckMode;
use crate::sync::plan::SyncPlan;
use crate::work::pool::RunRequest;

use self::decide::{ConnectionView, JobInputs, JobStep};

impl WatchedResource for SyncJob {
    const KIND: Kind = Kind::SyncJob;

    fn references(&self) -> Vec<(Kind, ObjectKey)> {
        vec![(Kind::ProviderConnection, self.key().sibling(&*self.spec.connection_ref.name))]
    }
}

impl HasStatus for SyncJob {
    type Status = SyncJobStatus;

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
            history: Vec::new(),
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
            // The requester waits for it, and a restart before the write would repeat the request.
            || new.last_handled_reconcile_at != old.last_handled_reconcile_at
    }
}

/// Recorded runs read for a status: more than it shows, because equal neighbours are merged.
const RUNS_READ: u32 = 20;

/// Requeue delay of a cleanup that waits for a run: it may belong to another process, whose end enqueues nothing here.
const CLEANUP_RECHECK: Duration = Duration::from_secs(1);

/// Reconciler of sync jobs.
pub struct SyncJobReconciler;

/// Result of `observe`: the inputs of `decide`, and the sync that `act` starts.
pub struct JobObservation {
    inputs: JobInputs,
    plan: Option<SyncPlan>,
}

impl Reconciler for SyncJobReconciler {
    type Object = SyncJob;
    type Observed = JobObservation;
    type Step = JobStep;

    const FINALIZER: Option<&'static str> = Some("busbar.dev/ledger");

    fn needs_cleanup(object: &SyncJob) -> bool {
        object.spec.deletion_policy == DeletionPolicy::Delete
    }

    fn depends_on(object: &SyncJob) -> Vec<(Kind, ObjectKey)> {
        object.references()
    }

    async fn cleanup(ctx: &Ctx, object: &SyncJob) -> Result<Cleanup, ReconcileError> {
        let purged = ctx.pool.purge(&object.key()).await?;
        Ok(if purged { Cleanup::Done } else { Cleanup::Pending(CLEANUP_RECHECK) })
    }

    async fn observe(ctx: &Ctx, object: &SyncJob) -> Result<JobObservation, ReconcileError> {
        let key = object.key();
        let now = ctx.clock.now();
        let (resolved, connection) = resolve(ctx, object, &key);
        let cadence = plan::reject_unimplemented(&object.spec).and_then(|()| plan::cadence(&object.spec, now.wall));
        let (ready, plan) = match (cadence, resolved) {
            (Err(error), _) | (Ok(_), Err(error)) => (Err(error), None),
            (Ok(cadence), Ok(plan)) => (Ok(cadence), Some(plan)),
        };
        let runs = ctx.pool.view(&key, RUNS_READ).await?;
        let inputs = JobInputs {
            cadence: ready,
            connection,
            runs,
            partitions: plan.as_ref().map_or(0, |p| p.partitions.len()),
            unused_fields: plan::unused_fields(&object.spec),
        };
        Ok(JobObservation { inputs, plan })
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
        for step in steps {
            match step {
                JobStep::Start { trigger, slot } => {
                    let connection = key.sibling(&*object.spec.connection_ref.name);
                    if let (Some(plan), Some(live)) = (observation.plan.take(), ctx.registry.get(&connection)) {
                        let requested = decide::requested_run(object).filter(|_| trigger == RunTrigger::Manual);
                        let run = requested.unwrap_or_else(|| RunId(Uuid::new_v4()));
                        let request = RunRequest { run, trigger, slot };
                        ctx.pool.start(Arc::new(plan), live, request);
                    }
                }
                JobStep::Stop => {
                    ctx.pool.cancel(&key);
                }
                JobStep::Skip { slot } => skip(ctx, &key, slot).await?,
            }
        }
        Ok(())
    }
}

/// Records a missed slot. Without a record it would be reported as missed again after a restart.
async fn skip(ctx: &Ctx, key: &ObjectKey, slot: jiff::Timestamp) -> Result<(), ReconcileError> {
    let (id, at) = (RunId(Uuid::new_v4()), ctx.clock.now().wall);
    let start = RunStart { id, job: key.clone(), trigger: RunTrigger::Schedule, slot: Some(slot), dry_run: false, at };
    Ok(ctx.ledger.skip_run(&start, "StartingDeadlineExceeded").await?)
}

fn resolve(ctx: &Ctx, object: &SyncJob, key: &ObjectKey) -> (Result<SyncPlan, SpecError>, Option<ConnectionView>) {
    let name = &*object.spec.connection_ref.name;
    let connection = key.sibling(name);
    let Some(stored) = ctx.stores.connections.get(&connection) else {
        let message =
            format!("ProviderConnection {name:?} (spec.connectionRef) not found: create it in this namespace");
        return (Err(SpecError::waiting(Reason::ConnectionNotFound, message)), None);
    };
    let live = ctx.registry.get(&connection).filter(|live| Some(&**live.uid()) == stored.uid().as_deref());
    let Some(live) = live else {
        let message = format!("ProviderConnection {name:?} (spec.connectionRef) not ready; check its conditions");
        return (Err(SpecError::waiting(Reason::ConnectionNotReady, message)), None);
    };
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
    (plan::sync(key, &object.spec, &settings), Some(view))
}
