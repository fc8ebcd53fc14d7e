//! The pool of sync runs: bounded concurrency, one run per job, namespaces and connections served in turn.
//!
//! It has no schedule: a controller starts a run ([`SyncPool::start`]), and its job is enqueued for reconciliation when
//! the run has ended. The state of a job for its status comes from [`SyncPool::view`], which reads the ledger, so that
//! it is correct after a restart too. The queue is bounded by the number of jobs, because a queued or running job is
//! not started again.
//!
//! A run holds the job's lease in the ledger, named by namespace and job: two processes never run the same job, while
//! the jobs of one connection may run concurrently, here or elsewhere. A run that waits for its provider holds no slot
//! (`slots.rs`): a bank that does not answer delays its own jobs only.

use std::fmt;
use std::sync::{Arc, Mutex};

use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::domain::key::ObjectKey;
use crate::ledger::{Ledger, LedgerError};
use crate::metrics::{Metrics, MetricsError};
use crate::sync::metrics::SyncMetrics;
use crate::sync::{Fetch, SyncPlan};
use crate::work::reconcile_queue::ReconcileQueue;

mod ending;
mod gauges;
mod lost;
mod partition_gauges;
mod purge;
mod run;
mod slots;
mod state;
#[cfg(test)]
mod tests;
mod view;

use gauges::Gauges;
use partition_gauges::PartitionGauges;
use slots::Slots;
use state::PoolState;
pub use state::{ActiveRun, LostRun, PoolOptions, ResyncAttempts, RunOutcome, RunRequest, StartOutcome, lease_name};
pub use view::JobView;
use view::KnownRuns;

/// The pool of sync runs. Cloning shares it.
#[derive(Clone)]
pub struct SyncPool {
    shared: Arc<PoolState>,
}

impl SyncPool {
    /// An idle pool. Registers its metrics.
    pub fn new(
        ledger: Arc<dyn Ledger>,
        reconcile_queue: ReconcileQueue,
        clock: Clock,
        metrics: &Metrics,
        options: PoolOptions,
    ) -> Result<Self, MetricsError> {
        let slots = Slots::new(options.concurrency.max(1));
        let gauges = Gauges::register(metrics, slots.clone(), clock)?;
        let partitions = options.partition_metrics.then(|| PartitionGauges::register(metrics)).transpose()?;
        let sync_metrics = SyncMetrics::register(metrics)?;
        let metrics = if options.legacy_mono { sync_metrics.with_mono(metrics)? } else { sync_metrics };
        let shared = PoolState {
            ledger,
            reconcile_queue,
            clock,
            metrics,
            gauges,
            partitions,
            tasks: options.tasks.child(),
            options,
            slots,
            jobs: Mutex::default(),
            closing: CancellationToken::new(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Queues a run of `plan` through `fetch`, unless the job has an active run. Must be called within a runtime. The
    /// end of the run enqueues the `SyncJob` for reconciliation.
    pub fn start(&self, plan: Arc<SyncPlan>, fetch: Arc<dyn Fetch>, request: RunRequest) -> StartOutcome {
        let shared = &self.shared;
        if shared.closing.is_cancelled() {
            return StartOutcome::Closed;
        }
        let cancel = shared.closing.child_token();
        {
            let mut jobs = shared.jobs();
            let job = jobs.entry(plan.job.clone()).or_default();
            if let Some((active, _)) = &job.active {
                return StartOutcome::AlreadyActive(active.id);
            }
            let now = shared.clock.now();
            let active = ActiveRun {
                id: request.run,
                trigger: request.trigger,
                since: now.wall,
                since_mono: now.mono,
                queued: true,
                stopping: false,
            };
            job.active = Some((active, cancel.clone()));
        }
        shared.tasks.spawn("sync run", run::execute(Arc::clone(shared), plan, fetch, request, cancel));
        StartOutcome::Accepted
    }

    /// The active run of `job`, if any.
    pub fn active(&self, job: &ObjectKey) -> Option<ActiveRun> {
        self.shared.jobs().get(job)?.active.as_ref().map(|(active, _)| *active)
    }

    /// Stops the run of `job` at the next page boundary; its end enqueues the job. `false` if there is none.
    pub fn cancel(&self, job: &ObjectKey) -> bool {
        match self.shared.jobs().get_mut(job).and_then(|job| job.active.as_mut()) {
            Some((active, cancel)) => {
                active.stopping = true;
                cancel.cancel();
                true
            }
            None => false,
        }
    }

    /// The state of `job` for its status: the active run, and the last `limit` runs from the ledger.
    pub async fn view(&self, job: &ObjectKey, limit: u32) -> Result<JobView, LedgerError> {
        // First the active run, then the history: a run that ends in between is reported twice rather than not at all.
        let known = self.shared.jobs().get(job).map(|known| KnownRuns {
            active: known.active.as_ref().map(|(run, _)| *run),
            last_outcome: known.last.clone(),
            resync: known.resync.clone(),
        });
        let history = self.shared.ledger.job_history(job, limit, self.shared.clock.now().wall).await?;
        self.shared.gauges.set(job, &history);
        self.shared.metrics.add_job(job);
        Ok(JobView::new(known.unwrap_or_default(), history))
    }

    /// Removes a deleted job: stops its run and removes its metrics. The ledger is unchanged.
    pub fn forget(&self, job: &ObjectKey) {
        self.cancel(job);
        let mut jobs = self.shared.jobs();
        match jobs.get_mut(job) {
            Some(known) if known.active.is_some() => known.deleted = true,
            _ => drop(jobs.remove(job)),
        }
        drop(jobs);
        self.shared.gauges.remove(job);
        self.shared.partitions.iter().for_each(|partitions| partitions.remove(job));
        self.shared.metrics.remove_job(job);
    }

    /// Stops every run at its next page boundary and waits for all of them. No run starts after this.
    pub async fn close(&self) {
        self.shared.closing.cancel();
        self.shared.tasks.wait().await;
    }
}

impl fmt::Debug for SyncPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SyncPool").field("options", &self.shared.options).finish_non_exhaustive()
    }
}
