//! One signal task for the whole process: SIGTERM or Ctrl-C cancels a token that everything watches.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Resolves at the first SIGTERM or SIGINT. A second one ends the process at once, as people expect of Ctrl-C.
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
                tracing::info!("shutting down: a signal came");
                cancel.cancel();
            }
        }
        tracing::warn!("ending at once: a second signal came");
        std::process::exit(130);
    });
    Ok(token)
}
