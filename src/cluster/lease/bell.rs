//! Tells a standby that the lease has changed, so that it looks at once and not at its next turn.
//!
//! A watch, and only a bell: what is true is read. If the watch cannot be had (a right is missing, the API server is
//! away) or dies without a word, the standby's own turns go on, and a hand-over takes their second longer.

use std::convert::Infallible;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::{WatchEvent, WatchParams};
use tokio::sync::Notify;

use super::quick;
use crate::cluster::ApiError;

/// Pause after a watch that was refused or broke: as long as that of the stores' watches at most.
const AFTER_TROUBLE: Duration = Duration::from_secs(10);
/// Pause after a watch that ended as watches do, every few minutes.
const AFTER_END: Duration = Duration::from_secs(1);

/// Rings `bell` at each change of the lease, for as long as it is polled.
pub(super) async fn listen(api: &Api<Lease>, name: &str, bell: &Notify) -> Infallible {
    let mut told = false;
    loop {
        let pause = match watch(api, name, bell).await {
            Ok(()) => AFTER_END,
            Err(error) if told => {
                tracing::debug!(%error, "the leader lease still cannot be watched");
                AFTER_TROUBLE
            }
            Err(error) => {
                tracing::info!(%error, "the leader lease cannot be watched; it is read every second all the same");
                told = true;
                AFTER_TROUBLE
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// One watch, from its opening to its end.
async fn watch(api: &Api<Lease>, name: &str, bell: &Notify) -> Result<(), ApiError> {
    let only = WatchParams::default().fields(&format!("metadata.name={name}"));
    // From whatever the API server has at hand: an old state rings once too often, a missed one not at all.
    let mut changes = quick(api.watch_metadata(&only, "0")).await?.boxed();
    while let Some(change) = changes.next().await {
        match change? {
            WatchEvent::Error(status) => return Err(kube::Error::Api(status).into()),
            WatchEvent::Bookmark(_) => {}
            WatchEvent::Added(_) | WatchEvent::Modified(_) | WatchEvent::Deleted(_) => bell.notify_one(),
        }
    }
    Ok(())
}
