//! One run in a pool of this process.

use std::sync::Arc;

use futures::StreamExt as _;

use super::error::SyncError;
use super::process::SyncProcess;
use super::target::SyncTarget;
use crate::domain::key::Kind;
use crate::ledger::Ledger;
use crate::metrics::Metrics;
use crate::settings::sync_plan::SyncPlan;
use crate::sync::account_tokens::AccountTokens;
use crate::work::pool::{PoolOptions, RunOutcome, RunRequest, StartOutcome, SyncPool};
use crate::work::reconcile_queue::ReconcileQueue;

/// A run to make in a ledger.
pub(super) struct RunToMake<'a> {
    /// The ledger.
    pub(super) ledger: &'a Arc<dyn Ledger>,
    /// The run.
    pub(super) request: RunRequest,
    /// Whether a run that was started before goes on.
    pub(super) resumes: bool,
}

/// Makes one run, until its end or until `stop`: then it ends at the next page boundary.
pub(super) async fn run_in_pool(
    process: &SyncProcess,
    target: &SyncTarget,
    plan: Arc<SyncPlan>,
    run: RunToMake<'_>,
    stop: impl Future<Output = ()>,
) -> Result<RunOutcome, SyncError> {
    let SyncProcess { clock, tasks, keys, identity, .. } = process;
    let options = PoolOptions {
        concurrency: 1,
        account_tokens: AccountTokens::new(keys.clone()),
        tasks: tasks.effects.clone(),
        resumes: run.resumes,
        ..PoolOptions::new(identity.as_str())
    };
    let queue = ReconcileQueue::new();
    // Metrics of its own: a pool registers them, and a process may make several runs.
    let pool = SyncPool::new(Arc::clone(run.ledger), queue.clone(), *clock, &Metrics::new(), options)?;
    let job = plan.job.clone();
    let mut ends = std::pin::pin!(queue.subscribe(Kind::SyncJob, None));
    if pool.start(plan, target.fetch(), run.request) != StartOutcome::Accepted {
        return Err(SyncError::Lost);
    }
    let mut stop = std::pin::pin!(stop);
    let mut stopping = false;
    loop {
        tokio::select! {
            _ = ends.next() => {}
            () = &mut stop, if !stopping => {
                stopping = true;
                pool.cancel(&job);
                continue;
            }
        }
        if pool.active(&job).is_none() {
            break;
        }
    }
    let view = pool.view(&job, 1).await?;
    pool.close().await;
    view.last_outcome.filter(|outcome| outcome.id == run.request.run).ok_or(SyncError::Lost)
}
