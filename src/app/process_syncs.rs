//! The sync jobs of this process for its gateway: plans and replays, beside the runs of the pool.
//!
//! Both take a lease of the ledger under a holder of their own: a plan one that only other plans of the job wait for, a
//! replay the job's, because it writes rows.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::api::v1alpha1::SyncJob;
use crate::controllers::Ctx;
use crate::controllers::syncjob::runnable;
use crate::domain::key::ObjectKey;
use crate::gateway::syncs::operations::{OperationError, Planned, SyncOperations};
use crate::ledger::audit::AuditEntry;
use crate::ledger::encryption::Keyring;
use crate::ledger::raw::{JobDeadLetter, ReplayedLetter};
use crate::ledger::{HeldLease, LeaseHolder, LeaseOptions, LeaseStore, RunId, TakeOutcome};
use crate::metrics::Metrics;
use crate::resolve::SpecError;
use crate::sync::account_tokens::{AccountTokenError, AccountTokens};
use crate::sync::metrics::SyncMetrics;
use crate::sync::preview::PreviewSink;
use crate::sync::replay::{ReplayContext, replay};
use crate::sync::{RunContext, SyncPlan, run};
use crate::tasks::TaskGroup;
use crate::work::pool::lease_name;
use crate::work::reconcile_queue::Kind;

/// Validity of a lease without renewal.
const LEASE_TTL: Duration = Duration::from_secs(15);
/// Longest time of a plan: its answer is due before the request times out.
const PLAN_TIMEOUT: Duration = Duration::from_secs(45);
/// Most partitions that a plan reads.
const MAX_PARTITIONS: usize = 20;

/// The sync jobs of this process.
pub(super) struct ProcessSyncs {
    ctx: Arc<Ctx>,
    account_tokens: AccountTokens,
    tasks: TaskGroup,
}

impl ProcessSyncs {
    /// The jobs of `ctx`; `keys` decrypt their raw payloads.
    pub(super) fn new(ctx: Arc<Ctx>, keys: Keyring, tasks: TaskGroup) -> Self {
        Self { ctx, account_tokens: AccountTokens::new(keys), tasks }
    }

    fn object(&self, job: &ObjectKey) -> Result<Arc<SyncJob>, OperationError> {
        let gone = || OperationError::NotReady { reason: "NotFound", message: "the job was deleted".to_owned() };
        self.ctx.stores.jobs.get(job).ok_or_else(gone)
    }

    /// Takes a lease under a holder of its own.
    async fn take(&self, name: String) -> Result<HeldLease, OperationError> {
        let holder = format!("gateway-{}", Uuid::new_v4());
        let options = LeaseOptions { name, holder, ttl: LEASE_TTL, tasks: self.tasks.clone() };
        let store = Arc::clone(&self.ctx.ledger) as Arc<dyn LeaseStore>;
        match LeaseHolder::new(store, self.ctx.clock, options).take().await? {
            TakeOutcome::Taken(held) => Ok(held),
            TakeOutcome::HeldByOther { .. } => Err(OperationError::Busy),
        }
    }

    async fn planned(&self, job: &ObjectKey, id: RunId, samples: u32) -> Result<Planned, OperationError> {
        let object = self.object(job)?;
        let (plan, connection) = runnable(&self.ctx, &object, job).map_err(not_ready)?;
        let mut plan = SyncPlan { dry_run: true, run_timeout: plan.run_timeout.min(PLAN_TIMEOUT), ..(*plan).clone() };
        plan.partitions.truncate(MAX_PARTITIONS);
        // Its series are not those of runs.
        let metrics = SyncMetrics::register(&Metrics::new())
            .map_err(|error| OperationError::NotReady { reason: "InternalError", message: error.to_string() })?;
        let held = self.take(format!("sync-plan/{}/{}", job.namespace, job.name)).await?;
        let (sink, cancel) = (PreviewSink::new(usize::try_from(samples).unwrap_or(0)), CancellationToken::new());
        let cx = RunContext {
            ledger: &*self.ctx.ledger,
            fetch: &connection,
            account_tokens: &self.account_tokens,
            lease: held.lease(),
            clock: self.ctx.clock,
            metrics: &metrics,
            run: id,
            preview: Some(&sink),
            cancel: &cancel,
        };
        let report = run(&plan, cx).await;
        held.release().await;
        let preview = sink.take();
        Ok(Planned {
            result: report.result.as_str().to_owned(),
            reason: report.reason.map(|reason| reason.as_str().to_owned()),
            fetched: report.counts.fetched,
            rejected: report.counts.rejected,
            inserted: preview.counts.inserted,
            updated: preview.counts.updated,
            unchanged: preview.counts.unchanged,
            samples: preview.samples,
        })
    }

    async fn replayed(
        &self,
        job: &ObjectKey,
        letters: &[JobDeadLetter],
        audit: &AuditEntry,
    ) -> Result<Vec<ReplayedLetter>, OperationError> {
        let object = self.object(job)?;
        let (plan, _) = runnable(&self.ctx, &object, job).map_err(not_ready)?;
        let mut plan = (*plan).clone();
        if let Some(from) = plan.partitions_from.take() {
            let stored = crate::sync::partitions::stored(&plan, &from, &*self.ctx.ledger).await;
            plan.partitions.extend(stored.map_err(|error| OperationError::NotReady {
                reason: error.reason.as_str(),
                message: "the partitions of spec.partitionsFrom cannot be read".to_owned(),
            })?);
        }
        let held = self.take(lease_name(job)).await?;
        let cx = ReplayContext {
            ledger: &*self.ctx.ledger,
            lease: held.lease(),
            account_tokens: &self.account_tokens,
            audit,
            run: RunId(audit.request_id.unwrap_or_default()),
            now: self.ctx.clock.now().wall,
        };
        let outcomes = replay(&plan, letters, cx).await;
        held.release().await;
        // The condition DeadLetters may be over.
        self.notify(job);
        outcomes.map_err(|error| match error {
            AccountTokenError::Ledger(error) => OperationError::Ledger(error),
            error => OperationError::NotReady { reason: error.reason().as_str(), message: error.to_string() },
        })
    }
}

fn not_ready(error: SpecError) -> OperationError {
    OperationError::NotReady { reason: error.reason.as_str(), message: error.message }
}

impl SyncOperations for ProcessSyncs {
    fn connection_of(&self, job: &ObjectKey) -> Option<ObjectKey> {
        let object = self.ctx.stores.jobs.get(job)?;
        Some(job.sibling(&*object.spec.connection_ref.name))
    }

    fn notify(&self, job: &ObjectKey) {
        self.ctx.reconcile_queue.enqueue(Kind::SyncJob, job);
    }

    fn plan<'a>(
        &'a self,
        job: &'a ObjectKey,
        run: RunId,
        samples: u32,
    ) -> BoxFuture<'a, Result<Planned, OperationError>> {
        self.planned(job, run, samples).boxed()
    }

    fn replay<'a>(
        &'a self,
        job: &'a ObjectKey,
        letters: &'a [JobDeadLetter],
        audit: &'a AuditEntry,
    ) -> BoxFuture<'a, Result<Vec<ReplayedLetter>, OperationError>> {
        self.replayed(job, letters, audit).boxed()
    }
}
