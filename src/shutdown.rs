//! Signal handling of the process: SIGTERM or Ctrl-C cancels the token that all tasks watch.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that is cancelled at the first SIGTERM or SIGINT. A second one ends the process at once with exit code 130,
/// as is usual for Ctrl-C.
///
/// # Errors
/// If the handlers cannot be installed.
pub fn on_signal() -> std::io::Result<CancellationToken> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let token = CancellationToken::new();
    let cancel = token.clone();
    tokio::spawn(async move {
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
        std::process::exit(130);
    });
    Ok(token)
}
