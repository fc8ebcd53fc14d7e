//! The pool's types: settings, requests, runs and the shared state.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::gauges::Gauges;
use super::partition_gauges::PartitionGauges;
use super::slots::Slots;
use crate::clock::Clock;
use crate::domain::key::ObjectKey;
use crate::domain::time::Mono;
use crate::ledger::{LeaseHolder, LeaseOptions, LeaseStore, Ledger, RunId, RunResult, RunTrigger};
use crate::sync::account_tokens::AccountTokens;
use crate::sync::metrics::SyncMetrics;
use crate::sync::{RunReport, SyncPlan};
use crate::tasks::TaskGroup;
use crate::work::reconcile_queue::ReconcileQueue;

/// Settings of the pool.
#[derive(Clone, Debug)]
pub struct PoolOptions {
    /// This process's holder name for leases in the ledger. With the same name after a restart it takes its leases back
    /// at once; with another name it waits until they expire.
    pub holder: String,
    /// Runs that work at a time, and at most so many in progress of one connection; more may wait for their providers.
    pub concurrency: usize,
    /// Validity of a lease without renewal.
    pub lease_ttl: Duration,
    /// The key of account tokens.
    pub account_tokens: AccountTokens,
    /// Where runs and releases of their leases run; by default a group that no shutdown waits for.
    pub tasks: TaskGroup,
    /// Whether a run that was started before and has not ended goes on under its ID, instead of counting as served: the
    /// second Pod of a Kubernetes Job.
    pub resumes: bool,
    /// Whether the series of partitions are exported (`--partition-metrics`).
    pub partition_metrics: bool,
    /// Whether the series of the Mono pipeline are exported too (`--compat-metrics=mono`).
    pub legacy_mono: bool,
}

impl PoolOptions {
    /// The defaults, for `holder`.
    pub fn new(holder: impl Into<String>) -> Self {
        Self {
            holder: holder.into(),
            concurrency: 16,
            lease_ttl: Duration::from_secs(15),
            account_tokens: AccountTokens::default(),
            tasks: TaskGroup::default(),
            resumes: false,
            partition_metrics: false,
            legacy_mono: false,
        }
    }
}

/// A run to start.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct RunRequest {
    /// Its correlation ID.
    pub run: RunId,
    /// What triggered it.
    pub trigger: RunTrigger,
    /// The schedule slot that it serves, if any.
    pub slot: Option<Timestamp>,
}

/// A run whose Kubernetes Job failed.
#[derive(Clone, Debug)]
pub struct LostRun<'a> {
    /// The run.
    pub request: RunRequest,
    /// The plan of its job, if the spec still has one: without it no event is stored.
    pub plan: Option<&'a SyncPlan>,
    /// The ID of the resync that it served.
    pub resync: Option<String>,
}

/// The result of a request to start a run.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum StartOutcome {
    /// The run is queued or running.
    Accepted,
    /// The job already has an active run: this one.
    AlreadyActive(RunId),
    /// The pool is closing.
    Closed,
}

/// A queued or running run.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct ActiveRun {
    /// Its ID.
    pub id: RunId,
    /// What triggered it.
    pub trigger: RunTrigger,
    /// When it was requested.
    pub since: Timestamp,
    /// The same, for measuring: the wall clock may be set meanwhile.
    pub since_mono: Mono,
    /// Whether its start is not stored yet: it waits for a slot or for the job's lease, and has read nothing. A process that
    /// ends now leaves no trace of it.
    pub queued: bool,
    /// Whether a stop was requested.
    pub stopping: bool,
}

/// A run of this process that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunOutcome {
    /// Its ID.
    pub id: RunId,
    /// When it ended.
    pub at: Mono,
    /// Its result, reason and counts.
    pub report: RunReport,
    /// Whether the end is in the ledger; if not, it could not be written, and a controller should back off.
    pub recorded: bool,
}

/// The shared state of the pool.
pub(super) struct PoolState {
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) reconcile_queue: ReconcileQueue,
    pub(super) clock: Clock,
    pub(super) metrics: SyncMetrics,
    pub(super) gauges: Gauges,
    /// The series of partitions, if they are exported.
    pub(super) partitions: Option<PartitionGauges>,
    pub(super) options: PoolOptions,
    pub(super) slots: Slots,
    pub(super) jobs: Mutex<HashMap<ObjectKey, JobEntry>>,
    /// The runs.
    pub(super) tasks: TaskGroup,
    pub(super) closing: CancellationToken,
}

/// The pool's state of one job.
#[derive(Default)]
pub(super) struct JobEntry {
    pub(super) active: Option<(ActiveRun, CancellationToken)>,
    pub(super) last: Option<RunOutcome>,
    /// The attempts of the job's resync.
    pub(super) resync: Option<ResyncAttempts>,
    /// The object was deleted; this entry is removed when its run has ended.
    pub(super) deleted: bool,
}

/// What this process knows of a resync that is not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResyncAttempts {
    /// Its ID.
    pub id: String,
    /// Consecutive failed runs of it.
    pub failures: u32,
    /// When the last of its runs ended.
    pub last: Mono,
}

impl JobEntry {
    /// Remembers the end of a run; `resync` is the ID of the resync that it served.
    pub(super) fn note_end(&mut self, resync: Option<String>, outcome: RunOutcome) {
        if let Some(id) = resync {
            let before =
                self.resync.take().filter(|attempts| attempts.id == id).map_or(0, |attempts| attempts.failures);
            let failed = outcome.report.result == RunResult::Failed;
            let failures = if failed { before.saturating_add(1) } else { 0 };
            self.resync = Some(ResyncAttempts { id, failures, last: outcome.at });
        }
        self.last = Some(outcome);
    }
}

impl PoolState {
    /// Locks the jobs.
    pub(super) fn jobs(&self) -> MutexGuard<'_, HashMap<ObjectKey, JobEntry>> {
        // A panic elsewhere leaves the map consistent: each change is one assignment.
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A holder of the lease under which the job's cursors are advanced and its data is deleted.
    pub(super) fn lease_holder(&self, job: &ObjectKey) -> LeaseHolder {
        let PoolOptions { holder, lease_ttl: ttl, tasks, .. } = &self.options;
        let options = LeaseOptions { name: lease_name(job), holder: holder.clone(), ttl: *ttl, tasks: tasks.clone() };
        LeaseHolder::new(Arc::clone(&self.ledger) as Arc<dyn LeaseStore>, self.clock, options)
    }
}

/// Name of the lease whose holder may advance the job's cursors.
pub fn lease_name(job: &ObjectKey) -> String {
    format!("sync/{}/{}", job.namespace, job.name)
}
