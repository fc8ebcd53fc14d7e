//! The long-lived tasks: waiting while they run, and the order in which the process ends.
//!
//! The first of them that ends while the process should run ends the process. At the end the phases of
//! [`TaskGroups`] are drained one after another: effects, because they write to the ledger; the writers of the ledger's
//! queues, then the ledger itself; telemetry, which reports all of this. Each phase has a bound.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::app::error::AppError;
use crate::ledger::Ledger;
use crate::tasks::{TaskGroup, TaskGroups};
use crate::telemetry::traces::Traces;

/// How long the writers of the ledger's queues have after the last effect: some batches, or seconds of a busy disk.
const LEDGER_WRITERS_TIMEOUT: Duration = Duration::from_secs(3);
/// How long closing the ledger may take.
const LEDGER_CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the last spans may take to be exported.
const TRACE_FLUSH_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the admin port may take to close its connections.
const TELEMETRY_TIMEOUT: Duration = Duration::from_millis(500);

/// The end of a long-lived task.
struct TaskEnd {
    name: &'static str,
    /// `None` after a panic.
    result: Option<Result<(), AppError>>,
}

/// Reports the end of a task, also if it panics.
struct EndGuard {
    sender: mpsc::UnboundedSender<TaskEnd>,
    end: Option<TaskEnd>,
}

impl Drop for EndGuard {
    fn drop(&mut self) {
        if let Some(end) = self.end.take() {
            // The receiver is gone when the process ends.
            let _ = self.sender.send(end);
        }
    }
}

/// The long-lived tasks of the process, and the groups of all its tasks.
pub(super) struct Tasks {
    groups: TaskGroups,
    /// Cancelled when the last effect has ended.
    writers_stop: CancellationToken,
    /// Cancelled when the ledger is closed.
    telemetry_stop: CancellationToken,
    sender: mpsc::UnboundedSender<TaskEnd>,
    ends: mpsc::UnboundedReceiver<TaskEnd>,
}

impl Tasks {
    pub(super) fn new(groups: TaskGroups) -> Self {
        let (sender, ends) = mpsc::unbounded_channel();
        let (writers_stop, telemetry_stop) = (CancellationToken::new(), CancellationToken::new());
        Self { groups, writers_stop, telemetry_stop, sender, ends }
    }

    /// The groups of the process, for tasks that are not long-lived.
    pub(super) fn groups(&self) -> &TaskGroups {
        &self.groups
    }

    /// Stops a writer of the ledger's queues: after the last effect, so that nothing is queued after it.
    pub(super) fn writers_stop(&self) -> CancellationToken {
        self.writers_stop.clone()
    }

    /// Stops what reports: after everything else.
    pub(super) fn telemetry_stop(&self) -> CancellationToken {
        self.telemetry_stop.clone()
    }

    /// Runs a task that calls, writes or reconciles.
    pub(super) fn effect(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.try_effect(name, async move {
            task.await;
            Ok(())
        });
    }

    /// The same, of a task that can fail.
    pub(super) fn try_effect(
        &self,
        name: &'static str,
        task: impl Future<Output = Result<(), AppError>> + Send + 'static,
    ) {
        self.spawn(&self.groups.effects, name, task);
    }

    /// Runs a task that writes what is queued for the ledger or the API server, until [`Self::writers_stop`].
    pub(super) fn writer(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.spawn(&self.groups.ledger, name, async move {
            task.await;
            Ok(())
        });
    }

    /// Runs a server that reports, until [`Self::telemetry_stop`].
    pub(super) fn telemetry(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.spawn(&self.groups.telemetry, name, async move {
            task.await;
            Ok(())
        });
    }

    fn spawn(
        &self,
        group: &TaskGroup,
        name: &'static str,
        task: impl Future<Output = Result<(), AppError>> + Send + 'static,
    ) {
        let guard = EndGuard { sender: self.sender.clone(), end: Some(TaskEnd { name, result: None }) };
        group.spawn(name, async move {
            let mut guard = guard;
            let result = task.await;
            guard.end = Some(TaskEnd { name, result: Some(result) });
        });
    }

    /// Waits for `awaited`; `None` if the process is stopped first, an error if a task ends first.
    pub(super) async fn until<T>(
        &mut self,
        stop: &CancellationToken,
        awaited: impl Future<Output = T>,
    ) -> Result<Option<T>, AppError> {
        tokio::select! {
            // In this order: tasks that end because of the stop are expected.
            biased;
            () = stop.cancelled() => Ok(None),
            done = awaited => Ok(Some(done)),
            Some(end) = self.ends.recv() => Err(match end {
                TaskEnd { result: Some(Err(error)), .. } => error,
                TaskEnd { name, result: Some(Ok(())) } => AppError::TaskEnded(name),
                TaskEnd { name, result: None } => AppError::TaskPanicked(name),
            }),
        }
    }

    /// Waits for the tasks, phase by phase, and closes the ledger. Effects have `grace`; the admin port answers until
    /// the end.
    pub(super) async fn drain(self, grace: Duration, ledger: &dyn Ledger, traces: &Traces) {
        let running = self.groups.effects.drain(grace).await;
        if !running.is_empty() {
            tracing::warn!(
                tasks = running.join(", "),
                "shutdown grace period expired with tasks still running; exiting; ledger leases protect their work"
            );
        }
        self.writers_stop.cancel();
        let running = self.groups.ledger.drain(LEDGER_WRITERS_TIMEOUT).await;
        if !running.is_empty() {
            tracing::warn!(tasks = running.join(", "), "shutting down with unwritten ledger queues; entries are lost");
        }
        if tokio::time::timeout(LEDGER_CLOSE_TIMEOUT, ledger.close()).await.is_err() {
            tracing::warn!("closing the ledger timed out; open transactions are rolled back at the next start");
        }
        traces.close(TRACE_FLUSH_TIMEOUT).await;
        self.telemetry_stop.cancel();
        self.groups.telemetry.drain(TELEMETRY_TIMEOUT).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::sync::oneshot;

    use super::*;
    use crate::ledger::{LedgerUrl, OpenMode, open};

    fn tasks() -> Tasks {
        Tasks::new(TaskGroups::default())
    }

    #[tokio::test]
    async fn a_task_that_ends_or_panics_ends_the_process_and_is_named() {
        for (panics, expected) in [(false, "task probes ended unexpectedly"), (true, "task probes panicked")] {
            let mut tasks = tasks();
            tasks.effect("waits", std::future::pending());
            tasks.effect("probes", async move { assert!(!panics, "a defect") });
            let waited = tasks.until(&CancellationToken::new(), std::future::pending::<()>()).await;
            let error = waited.unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[tokio::test]
    async fn tasks_that_end_because_of_a_stop_are_not_an_error() {
        let (stop, mut tasks) = (CancellationToken::new(), tasks());
        tasks.effect("probes", async {});
        stop.cancel();
        tokio::task::yield_now().await;
        assert!(tasks.until(&stop, std::future::pending::<()>()).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn effects_end_before_the_ledgers_writers_and_those_before_telemetry() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = open(&LedgerUrl::Sqlite(folder.path().join("l.db")), OpenMode::Migrate).await.unwrap();
        let (tasks, order) = (tasks(), Arc::<Mutex<Vec<&str>>>::default());
        let (writers_stop, telemetry_stop) = (tasks.writers_stop(), tasks.telemetry_stop());
        let (last_call, ended) = oneshot::channel::<()>();
        let log = |name| {
            let order = Arc::clone(&order);
            move || order.lock().unwrap().push(name)
        };
        let (effect, writer, server) = (log("effect"), log("writer"), log("server"));
        tasks.effect("call", async move {
            ended.await.unwrap();
            effect();
        });
        let store = Arc::clone(&ledger);
        tasks.writer("audit", async move {
            writers_stop.cancelled().await;
            store.ping().await.expect("the ledger is open until its writers have ended");
            writer();
        });
        tasks.telemetry("admin", async move {
            telemetry_stop.cancelled().await;
            server();
        });
        let end = async {
            tokio::task::yield_now().await;
            last_call.send(()).unwrap();
        };
        let traces = Traces::off();
        futures::future::join(tasks.drain(Duration::from_mins(1), &*ledger, &traces), end).await;
        assert_eq!(*order.lock().unwrap(), ["effect", "writer", "server"]);
        assert!(ledger.ping().await.is_err(), "closed");
    }
}
