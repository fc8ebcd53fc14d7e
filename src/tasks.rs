//! The tasks of the process, in groups that the shutdown drains one after another.
//!
//! No task is detached: each is spawned through a [`TaskGroup`] and belongs to a phase of the shutdown
//! ([`TaskGroups`]). Effects end first, because they write to the ledger; the ledger's writers end before it is closed;
//! telemetry ends last, because it reports all of this. A test (`tests/it/detached_tasks.rs`) rejects tasks outside a
//! group.
//!
//! A panic ends its task only. It is logged and counted (`busbar_task_panics_total`); what the task held is released as
//! its values are dropped, so a lock or a mark "in flight" belongs to a value with a `Drop`, not to a line at the end.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use prometheus::{IntCounterVec, Opts};
use tokio::runtime::Handle;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::metrics::{Metrics, MetricsError};

const PANICS: &str = "busbar_task_panics_total";
const PANICS_HELP: &str = "Tasks that ended in a panic, by name: always a bug.";

/// The groups of the process, one for each phase of the shutdown. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub struct TaskGroups {
    /// What acts on the outside or writes to the ledger: calls, token refreshes, sync runs, reconciles, servers.
    pub effects: TaskGroup,
    /// The writers of the ledger's queues.
    pub ledger: TaskGroup,
    /// Traces, the admin port, the signal handler.
    pub telemetry: TaskGroup,
}

impl TaskGroups {
    /// Empty groups that count panics in `metrics`.
    ///
    /// # Errors
    /// If the metric is registered already.
    pub fn new(metrics: &Metrics) -> Result<Self, MetricsError> {
        let panics = metrics.counter(PANICS, PANICS_HELP, &["task"])?;
        let group = || TaskGroup::with(Some(panics.clone()), None);
        Ok(Self { effects: group(), ledger: group(), telemetry: group() })
    }
}

/// A group of tasks that can be waited for together. Cloning shares it; the default is a group of its own.
#[derive(Clone)]
pub struct TaskGroup(Arc<Inner>);

struct Inner {
    tracker: TaskTracker,
    /// How many tasks of each name are running.
    running: Mutex<BTreeMap<&'static str, usize>>,
    panics: Option<IntCounterVec>,
    /// Cancelled when the group is drained.
    draining: CancellationToken,
    parent: Option<TaskGroup>,
}

impl TaskGroup {
    fn with(panics: Option<IntCounterVec>, parent: Option<Self>) -> Self {
        let draining = parent.as_ref().map(|parent| parent.0.draining.child_token()).unwrap_or_default();
        Self(Arc::new(Inner { tracker: TaskTracker::new(), running: Mutex::default(), panics, draining, parent }))
    }

    /// A group within this one: its tasks are this group's too, and can be waited for alone.
    #[must_use]
    pub fn child(&self) -> Self {
        Self::with(self.0.panics.clone(), Some(self.clone()))
    }

    /// Runs `task` on the current runtime. `name` labels its panics and is logged if the shutdown does not wait for it
    /// any longer.
    pub fn spawn<F>(&self, name: &'static str, task: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        tokio::spawn(self.tracked(name, task))
    }

    /// The same on `runtime`, from a thread that is not one of the runtime's.
    pub fn spawn_on<F>(&self, runtime: &Handle, name: &'static str, task: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        runtime.spawn(self.tracked(name, task))
    }

    /// Runs `task` until the group is drained: for a timer, which the shutdown need not wait for.
    pub fn spawn_until_drain(
        &self,
        name: &'static str,
        task: impl Future<Output: Send> + Send + 'static,
    ) -> JoinHandle<()> {
        let draining = self.0.draining.clone();
        self.spawn(name, async move { drop(draining.run_until_cancelled_owned(task).await) })
    }

    /// Runs `work`, which computes for long or blocks, on a thread for such work.
    pub fn spawn_blocking<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let group = self.clone();
        let member = self.enter(name);
        tokio::task::spawn_blocking(move || {
            let _member = member;
            group.seen(name, std::panic::catch_unwind(AssertUnwindSafe(work)))
        })
    }

    /// A set of tasks of this group that are aborted when the set is dropped.
    pub fn set<T>(&self) -> TaskSet<T> {
        TaskSet { group: self.clone(), handles: FuturesUnordered::new() }
    }

    /// The number of tasks that are running.
    pub fn len(&self) -> usize {
        self.0.tracker.len()
    }

    /// Whether no task is running.
    pub fn is_empty(&self) -> bool {
        self.0.tracker.is_empty()
    }

    /// Waits until no task is running.
    pub async fn wait(&self) {
        self.0.tracker.close();
        self.0.tracker.wait().await;
    }

    /// Returns once the group is being drained: what waits for long may hurry then.
    pub async fn draining(&self) {
        self.0.draining.cancelled().await;
    }

    /// Waits until no task is running, for at most `limit`; returns the names of those that still are.
    pub async fn drain(&self, limit: Duration) -> Vec<&'static str> {
        self.0.draining.cancel();
        if tokio::time::timeout(limit, self.wait()).await.is_ok() {
            return Vec::new();
        }
        self.lock().keys().copied().collect()
    }

    /// `task` as a member of the group. It is one from here on, not from its first poll: a task that has not begun is
    /// waited for as well.
    fn tracked<F: Future>(&self, name: &'static str, task: F) -> impl Future<Output = F::Output> + use<F> {
        let (group, tracked) = (self.clone(), Tracked { task, member: self.enter(name) });
        async move {
            // As a whole, so that the fields of a task that never began are dropped in their order.
            let tracked = tracked;
            let Tracked { task, member } = tracked;
            let _member = member;
            let result = AssertUnwindSafe(task).catch_unwind().await;
            group.seen(name, result)
        }
    }

    /// Reports a panic; the caller of the task's handle sees it too.
    fn seen<T>(&self, name: &'static str, result: std::thread::Result<T>) -> T {
        result.unwrap_or_else(|panic| {
            self.record_panic(name);
            resume_unwind(panic)
        })
    }

    /// Logs and counts a panic that the task itself has caught.
    pub fn record_panic(&self, name: &'static str) {
        if let Some(panics) = &self.0.panics {
            panics.with_label_values(&[name]).inc();
        }
        tracing::error!(task = name, "task panicked: this is a bug; report it with the location logged before");
    }

    fn enter(&self, name: &'static str) -> Membership {
        if let Some(panics) = &self.0.panics {
            // 0 before the first panic: `increase` does not see the first count of a new series.
            panics.with_label_values(&[name]);
        }
        let mut groups = vec![self.clone()];
        while let Some(parent) = groups.last().and_then(|group| group.0.parent.clone()) {
            groups.push(parent);
        }
        let tokens = groups.iter().map(|group| group.0.tracker.token()).collect();
        for group in &groups {
            *group.lock().entry(name).or_default() += 1;
        }
        Membership { name, groups, _tokens: tokens }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, usize>> {
        self.0.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for TaskGroup {
    fn default() -> Self {
        // Not registered, so that a test needs no registry.
        Self::with(IntCounterVec::new(Opts::new(PANICS, PANICS_HELP), &["task"]).ok(), None)
    }
}

impl fmt::Debug for TaskGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskGroup").field("running", &*self.lock()).finish()
    }
}

/// A task and its membership. The task is dropped first: what it spawns as it is dropped belongs to the group in time.
struct Tracked<F> {
    task: F,
    member: Membership,
}

/// That a task runs in a group and in those around it.
struct Membership {
    name: &'static str,
    groups: Vec<TaskGroup>,
    _tokens: Vec<tokio_util::task::task_tracker::TaskTrackerToken>,
}

impl Drop for Membership {
    fn drop(&mut self) {
        for group in &self.groups {
            let mut running = group.lock();
            if let Some(count) = running.get_mut(self.name) {
                *count -= 1;
                if *count == 0 {
                    running.remove(self.name);
                }
            }
        }
    }
}

/// Tasks whose results are awaited one by one. Dropping the set aborts those that run.
pub struct TaskSet<T> {
    group: TaskGroup,
    handles: FuturesUnordered<AbortOnDropHandle<T>>,
}

impl<T: Send + 'static> TaskSet<T> {
    /// Adds a task; see [`TaskGroup::spawn`].
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = T> + Send + 'static) {
        self.handles.push(AbortOnDropHandle::new(self.group.spawn(name, task)));
    }

    /// Waits for the next task to end; `None` at once if there is none.
    pub async fn join_next(&mut self) -> Option<Result<T, JoinError>> {
        self.handles.next().await
    }

    /// The number of tasks whose result has not been awaited.
    pub fn len(&self) -> usize {
        self.handles.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.handles.is_empty()
    }
}

#[cfg(test)]
mod tests;
