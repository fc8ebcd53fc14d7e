//! `SyncJob`: runs when they are due, and the truth about them.
//!
//! What has run is read from the ledger, never from memory, so a restarted operator goes on where the last one ended.
//! A run itself is a job in the pool; its end pokes this controller.

pub mod decide;
pub mod plan;
pub mod status;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt as _;
use uuid::Uuid;

use crate::api::v1alpha1::SyncJob;
use crate::api::v1alpha1::common::Tri;
use crate::api::v1alpha1::reasons::{ConditionType, Reason};
use crate::api::v1alpha1::sync_job::{DeletionPolicy, RunResult as WireResult, SyncJobStatus};
use crate::cluster::status::Reported;
use crate::cluster::stores::Watched;
use crate::controllers::conditions::status_of;
use crate::controllers::resolve::Problem;
use crate::controllers::{Cleaned, Ctx, Decision, ReconcileError, Reconciler};
use crate::domain::conditions::Status;
use crate::domain::key::{Kind, ObjectKey};
use crate::domain::time::Now;
use crate::ledger::{RunId, RunStart, RunTrigger};
use crate::provider::profile::CheckMode;
use crate::sync::plan::SyncPlan;
use crate::work::pool::Order;

use self::decide::{ConnectionView, Observed, Step};

impl Watched for SyncJob {
    const KIND: Kind = Kind::SyncJob;

    fn references(&self) -> Vec<(Kind, ObjectKey)> {
        vec![(Kind::ProviderConnection, self.key().sibling(&*self.spec.connection_ref.name))]
    }
}

impl Reported for SyncJob {
    type Status = SyncJobStatus;

    fn status(&self) -> Option<&SyncJobStatus> {
        self.status.as_ref()
    }

    fn status_mut(&mut self) -> &mut Option<SyncJobStatus> {
        &mut self.status
    }

    fn transitions(status: &SyncJobStatus) -> SyncJobStatus {
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

    fn is_worse(old: Option<&SyncJobStatus>, new: &SyncJobStatus) -> bool {
        let empty = SyncJobStatus::default();
        let old = old.unwrap_or(&empty);
        let ready = |s: &SyncJobStatus| status_of(&s.conditions, ConditionType::Ready);
        (ready(old) == Status::True && ready(new) == Status::False)
            || (new.fresh == Some(Tri::False) && old.fresh != new.fresh)
            || (new.last_result == Some(WireResult::Failed) && old.last_result != new.last_result)
            // Somebody waits for it; and until it is written, the request would be met again.
            || new.last_handled_reconcile_at != old.last_handled_reconcile_at
    }
}

/// How many runs are read for a status: more than it shows, because equal neighbours are merged.
const RUNS_READ: u32 = 20;

/// A run that keeps the end of its job waiting may be another process's, whose end pokes nobody here.
const RUN_MAY_END: Duration = Duration::from_secs(1);

/// The reconciler of jobs.
pub struct Jobs;

/// What was seen, and the sync that `act` would start.
pub struct Seen {
    view: Observed,
    plan: Option<SyncPlan>,
}

impl Reconciler for Jobs {
    type Object = SyncJob;
    type Observed = Seen;
    type Step = Step;

    const FINALIZER: Option<&'static str> = Some("busbar.dev/ledger");

    fn wants_cleaning(object: &SyncJob) -> bool {
        object.spec.deletion_policy == DeletionPolicy::Delete
    }

    fn depends_on(object: &SyncJob) -> Vec<(Kind, ObjectKey)> {
        object.references()
    }

    async fn clean(ctx: &Ctx, object: &SyncJob) -> Result<Cleaned, ReconcileError> {
        let erased = ctx.pool.erase(&object.key()).await?;
        Ok(if erased { Cleaned::Done } else { Cleaned::NotYet(RUN_MAY_END) })
    }

    async fn observe(ctx: &Ctx, object: &SyncJob) -> Result<Seen, ReconcileError> {
        let key = object.key();
        let now = ctx.clock.now();
        let (resolved, connection) = resolve(ctx, object, &key);
        let cadence = plan::refuse_unimplemented(&object.spec).and_then(|()| plan::cadence(&object.spec, now.wall));
        let (ready, plan) = match (cadence, resolved) {
            (Err(problem), _) | (Ok(_), Err(problem)) => (Err(problem), None),
            (Ok(cadence), Ok(plan)) => (Ok(cadence), Some(plan)),
        };
        let runs = ctx.pool.view(&key, RUNS_READ).await?;
        let view = Observed {
            cadence: ready,
            connection,
            runs,
            partitions: plan.as_ref().map_or(0, |p| p.partitions.len()),
            unread: plan::unread_fields(&object.spec),
        };
        Ok(Seen { view, plan })
    }

    fn decide(
        object: &SyncJob,
        previous: Option<&SyncJobStatus>,
        seen: &Seen,
        now: Now,
    ) -> Decision<SyncJobStatus, Step> {
        decide::decide(object, previous, &seen.view, now)
    }

    async fn act(ctx: &Ctx, object: &SyncJob, mut seen: Seen, steps: Vec<Step>) -> Result<(), ReconcileError> {
        let key = object.key();
        for step in steps {
            match step {
                Step::Start { trigger, slot } => {
                    let connection = key.sibling(&*object.spec.connection_ref.name);
                    if let (Some(plan), Some(live)) = (seen.plan.take(), ctx.registry.get(&connection)) {
                        let requested = decide::requested_run(object).filter(|_| trigger == RunTrigger::Manual);
                        let run = requested.unwrap_or_else(|| RunId(Uuid::new_v4()));
                        let order = Order { run, trigger, slot };
                        ctx.pool.start(Arc::new(plan), live, order);
                    }
                }
                Step::Stop => {
                    ctx.pool.cancel(&key);
                }
                Step::Skip { slot } => skip(ctx, &key, slot).await?,
            }
        }
        Ok(())
    }
}

/// A slot that was missed is a fact like a run: without a record it would be missed again after a restart.
async fn skip(ctx: &Ctx, key: &ObjectKey, slot: jiff::Timestamp) -> Result<(), ReconcileError> {
    let (id, at) = (RunId(Uuid::new_v4()), ctx.clock.now().wall);
    let start = RunStart { id, job: key.clone(), trigger: RunTrigger::Schedule, slot: Some(slot), dry_run: false, at };
    Ok(ctx.ledger.skip_run(&start, "StartingDeadlineExceeded").await?)
}

fn resolve(ctx: &Ctx, object: &SyncJob, key: &ObjectKey) -> (Result<SyncPlan, Problem>, Option<ConnectionView>) {
    let name = &*object.spec.connection_ref.name;
    let connection = key.sibling(name);
    let Some(found) = ctx.stores.connections.get(&connection) else {
        let message = format!(
            "spec.connectionRef names ProviderConnection {name:?}, which does not exist: create it in this namespace"
        );
        return (Err(Problem::waiting(Reason::ConnectionNotFound, message)), None);
    };
    let live = ctx.registry.get(&connection).filter(|live| Some(&**live.uid()) == found.uid().as_deref());
    let Some(live) = live else {
        let message = format!("ProviderConnection {name:?} is not usable yet: see its conditions");
        return (Err(Problem::waiting(Reason::ConnectionNotReady, message)), None);
    };
    let settings = live.settings();
    let status = live.observed();
    let view = ConnectionView {
        suspended: settings.suspended(),
        probed: settings.health_check().mode == CheckMode::Active,
        effective: status.effective,
        next_trial: status.snapshot.next_trial,
        maintenance: settings.maintenance(ctx.clock.now().wall),
    };
    (plan::sync(key, &object.spec, &settings), Some(view))
}
