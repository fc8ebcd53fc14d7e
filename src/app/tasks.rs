//! The set of long-lived tasks: waiting while they run, and draining them at the end.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::app::error::AppError;

/// The long-lived tasks, each with its name and result.
pub(super) type Tasks = JoinSet<(&'static str, Result<(), AppError>)>;

/// Waits for `awaited`; `None` if the process is stopped first, an error if a task ends first.
pub(super) async fn until<T>(
    stop: &CancellationToken,
    tasks: &mut Tasks,
    awaited: impl Future<Output = T>,
) -> Result<Option<T>, AppError> {
    tokio::select! {
        // In this order: tasks that end because of the stop are expected.
        biased;
        () = stop.cancelled() => Ok(None),
        done = awaited => Ok(Some(done)),
        Some(end) = tasks.join_next() => Err(match end {
            Ok((_, Err(error))) => error,
            Ok((name, Ok(()))) => AppError::TaskEnded(name),
            Err(_) => AppError::TaskEnded("(panicked)"),
        }),
    }
}

/// Waits up to `grace` for the tasks to end; the admin port answers until then.
pub(super) async fn drain(tasks: &mut Tasks, grace: Duration, admin_stop: &CancellationToken) {
    let finished = tokio::time::timeout(grace, async {
        // All tasks but the admin server end by themselves.
        while tasks.len() > 1 {
            if tasks.join_next().await.is_none() {
                break;
            }
        }
    })
    .await;
    if finished.is_err() {
        tracing::warn!(
            left = tasks.len() - 1,
            "shutdown grace period expired with tasks still running; exiting; ledger leases protect their work"
        );
    }
    admin_stop.cancel();
    let _ = tokio::time::timeout(Duration::from_millis(500), tasks.join_next()).await;
}

/// Names a task for [`Tasks`].
pub(super) async fn named(
    name: &'static str,
    task: impl Future<Output = std::io::Result<()>>,
) -> (&'static str, Result<(), AppError>) {
    let result = task.await.map_err(|source| AppError::Io { what: name.to_owned(), source });
    (name, result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_ends_or_panics_ends_the_process_and_is_named() {
        for (task, expected) in [("probes", "task probes ended unexpectedly"), ("", "(panicked)")] {
            let mut tasks = Tasks::new();
            tasks.spawn(std::future::pending());
            tasks.spawn(async move {
                assert!(!task.is_empty(), "a defect");
                (task, Ok(()))
            });
            let waited = until(&CancellationToken::new(), &mut tasks, std::future::pending::<()>()).await;
            let error = waited.unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[tokio::test]
    async fn tasks_that_end_because_of_a_stop_are_not_an_error() {
        let (stop, mut tasks) = (CancellationToken::new(), Tasks::new());
        tasks.spawn(async { ("probes", Ok(())) });
        stop.cancel();
        tokio::task::yield_now().await;
        assert!(until(&stop, &mut tasks, std::future::pending::<()>()).await.unwrap().is_none());
    }
}
