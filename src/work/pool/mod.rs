//! The pool of sync runs: a few at a time, one per job, first come first served.
//!
//! It knows nothing of schedules: a controller says when ([`SyncPool::start`]), and is poked when a run has ended. What
//! a controller may show of a job comes from [`SyncPool::view`], which reads the ledger, so that it is right after a
//! restart too. The queue is bounded by the number of jobs, because a job that waits or runs is not started again.
//!
//! A run holds the job's lease in the ledger, named by namespace and job: two processes never run the same job, while
//! the jobs of one connection may run side by side, here or elsewhere.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::domain::key::ObjectKey;
use crate::ledger::{Ledger, LedgerError, RunId, RunTrigger};
use crate::metrics::{Metrics, MetricsError};
use crate::sync::metrics::SyncMetrics;
use crate::sync::{Fetch, RunReport, SyncPlan};
use crate::work::poke::Pokes;

mod attempt;
mod erase;
mod gauges;
#[cfg(test)]
mod tests;
mod view;

use gauges::Gauges;
pub use view::JobView;

/// How the pool runs.
#[derive(Clone, Debug)]
pub struct PoolOptions {
    /// Who this process is, to the leases in the ledger. The same name after a restart takes its own leases back at
    /// once; another name waits until they run out.
    pub holder: String,
    /// Runs at a time. Most of a run is waiting for a provider, but each may hold a page of some megabytes.
    pub concurrency: usize,
    /// How long a lease outlives its holder. Renewed three times as often.
    pub lease_ttl: Duration,
}

impl PoolOptions {
    /// The usual numbers, for `holder`.
    pub fn new(holder: impl Into<String>) -> Self {
        Self { holder: holder.into(), concurrency: 16, lease_ttl: Duration::from_secs(15) }
    }
}

/// A run to start.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Its correlation id.
    pub run: RunId,
    /// What made it start.
    pub trigger: RunTrigger,
    /// The slot of the schedule that it serves, if one.
    pub slot: Option<Timestamp>,
}

/// What became of an order.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Started {
    /// It waits for its turn, or runs.
    Accepted,
    /// A run of the job is under way: this one.
    AlreadyActive(RunId),
    /// The pool is closing.
    Closed,
}

/// A run under way.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct ActiveRun {
    /// Its id.
    pub id: RunId,
    /// What made it start.
    pub trigger: RunTrigger,
    /// When it was ordered.
    pub since: Timestamp,
    /// Whether it still waits for its turn.
    pub queued: bool,
    /// Whether it was asked to stop.
    pub stopping: bool,
}

/// A run of this process that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Its id.
    pub id: RunId,
    /// When it ended.
    pub at: Timestamp,
    /// How.
    pub report: RunReport,
    /// Whether the ledger knows; if not, it could not be written, and a controller should hold back.
    pub recorded: bool,
}

/// The pool. Cloning shares it.
#[derive(Clone)]
pub struct SyncPool {
    shared: Arc<Shared>,
}

struct Shared {
    ledger: Arc<dyn Ledger>,
    pokes: Pokes,
    clock: Clock,
    metrics: SyncMetrics,
    gauges: Gauges,
    options: PoolOptions,
    permits: Semaphore,
    jobs: Mutex<HashMap<ObjectKey, Job>>,
    tasks: TaskTracker,
    closing: CancellationToken,
}

#[derive(Default)]
struct Job {
    active: Option<(ActiveRun, CancellationToken)>,
    last: Option<Outcome>,
    /// The object is gone; so shall this be when its run has ended.
    forgotten: bool,
}

impl SyncPool {
    /// A pool without runs. Registers its metrics.
    pub fn new(
        ledger: Arc<dyn Ledger>,
        pokes: Pokes,
        clock: Clock,
        metrics: &Metrics,
        options: PoolOptions,
    ) -> Result<Self, MetricsError> {
        let gauges = Gauges::register(metrics)?;
        let metrics = SyncMetrics::register(metrics)?;
        let permits = Semaphore::new(options.concurrency.max(1));
        let shared = Shared {
            ledger,
            pokes,
            clock,
            metrics,
            gauges,
            options,
            permits,
            jobs: Mutex::default(),
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Runs `plan` through `fetch` as soon as there is room, unless a run of the job is under way. Must be called
    /// within a runtime. The end of the run pokes the `SyncJob`.
    pub fn start(&self, plan: Arc<SyncPlan>, fetch: Arc<dyn Fetch>, order: Order) -> Started {
        let shared = &self.shared;
        if shared.closing.is_cancelled() {
            return Started::Closed;
        }
        let cancel = shared.closing.child_token();
        {
            let mut jobs = shared.jobs();
            let job = jobs.entry(plan.job.clone()).or_default();
            if let Some((active, _)) = &job.active {
                return Started::AlreadyActive(active.id);
            }
            let active = ActiveRun {
                id: order.run,
                trigger: order.trigger,
                since: shared.clock.now().wall,
                queued: true,
                stopping: false,
            };
            job.active = Some((active, cancel.clone()));
        }
        shared.tasks.spawn(attempt::attempt(Arc::clone(shared), plan, fetch, order, cancel));
        Started::Accepted
    }

    /// The run of `job` that is under way, if one.
    pub fn active(&self, job: &ObjectKey) -> Option<ActiveRun> {
        self.shared.jobs().get(job)?.active.as_ref().map(|(active, _)| *active)
    }

    /// Asks the run of `job` to stop at the next page boundary; its end pokes. `false` if there is none.
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

    /// All that a status shows of `job`: what runs, and what the ledger remembers of the last `limit` runs.
    pub async fn view(&self, job: &ObjectKey, limit: u32) -> Result<JobView, LedgerError> {
        // First what runs, then what is remembered: a run that ends in between is seen twice rather than not at all.
        let (active, last_outcome) = {
            let jobs = self.shared.jobs();
            let known = jobs.get(job);
            (known.and_then(|job| job.active.as_ref().map(|(run, _)| *run)), known.and_then(|job| job.last.clone()))
        };
        let history = self.shared.ledger.job_history(job, limit).await?;
        self.shared.gauges.set(job, history.failure_streak, history.last_success);
        Ok(JobView::new(active, last_outcome, history))
    }

    /// Forgets a job that is gone: stops its run and drops its series. The ledger is left alone.
    pub fn forget(&self, job: &ObjectKey) {
        self.cancel(job);
        let mut jobs = self.shared.jobs();
        match jobs.get_mut(job) {
            Some(known) if known.active.is_some() => known.forgotten = true,
            _ => drop(jobs.remove(job)),
        }
        drop(jobs);
        self.shared.gauges.remove(job);
        self.shared.metrics.forget(job);
    }

    /// Stops every run at its next page boundary and waits for all of them. Nothing starts any more.
    pub async fn close(&self) {
        self.shared.closing.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}

impl Shared {
    fn jobs(&self) -> MutexGuard<'_, HashMap<ObjectKey, Job>> {
        // A panic elsewhere leaves the map whole: each change is one assignment.
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for SyncPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SyncPool").field("options", &self.shared.options).finish_non_exhaustive()
    }
}
