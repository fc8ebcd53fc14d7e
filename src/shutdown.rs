//! Signal handling of the process: SIGTERM or Ctrl-C cancels the token that all tasks watch.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::tasks::TaskGroup;
use crate::telemetry::log_writer::LogWriter;

/// How long a process that exits immediately waits for its last log lines.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(100);

/// A token that is cancelled at the first SIGTERM or SIGINT. A second one ends the process at once with exit code 130,
/// as is usual for Ctrl-C. Signals are handled until `tasks` is drained.
///
/// # Errors
/// If the handlers cannot be installed.
pub fn on_signal(tasks: &TaskGroup, log: LogWriter) -> std::io::Result<CancellationToken> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let token = CancellationToken::new();
    let cancel = token.clone();
    tasks.spawn_until_drain("signals", async move {
        for round in 0..2 {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
            if round == 0 {
                tracing::info!("shutting down: signal received");
                cancel.cancel();
            }
        }
        tracing::warn!("exiting immediately: second signal received");
        log.flush(FLUSH_TIMEOUT);
        std::process::exit(130);
    });
    Ok(token)
}
