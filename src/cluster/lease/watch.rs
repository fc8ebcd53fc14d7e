//! Notifies a standby when the lease changes, so that it reads the lease at once and not at its next poll.
//!
//! A watch used only as a trigger: the lease itself is always read. If the watch cannot be opened (RBAC does not permit
//! it, the API server is down) or hangs, the standby still polls, and a handover takes one second longer. A watch that
//! is silent for longer than the API server keeps it open is broken, and is opened anew.

use std::convert::Infallible;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::{WatchEvent, WatchParams};
use tokio::sync::Notify;

use crate::cluster::watch_monitor::WatchLimits;
use crate::cluster::{ApiError, call_within};

/// Timeout of opening the watch.
const OPEN_TIMEOUT: Duration = Duration::from_secs(2);
/// Delay after a watch that failed: the longest that the stores' watches use.
const AFTER_FAILURE: Duration = Duration::from_secs(10);
/// Delay after a watch that the API server ended, which it does twice a minute.
const AFTER_END: Duration = Duration::from_secs(1);

/// Signals `changed` at each change of the lease, for as long as it is polled.
pub(super) async fn notify_changes(api: &Api<Lease>, name: &str, changed: &Notify) -> Infallible {
    let mut logged = false;
    loop {
        let delay = match watch_once(api, name, changed).await {
            Ok(()) => AFTER_END,
            Err(error) if logged => {
                tracing::debug!(%error, "leader lease watch still failing");
                AFTER_FAILURE
            }
            Err(error) => {
                tracing::info!(%error, "leader lease watch failed; polling every second instead");
                logged = true;
                AFTER_FAILURE
            }
        };
        tokio::time::sleep(delay).await;
    }
}

/// One watch, until it ends.
async fn watch_once(api: &Api<Lease>, name: &str, changed: &Notify) -> Result<(), ApiError> {
    let WatchLimits { open, silence, .. } = WatchLimits::default();
    let open = u32::try_from(open.as_secs()).unwrap_or(u32::MAX);
    let only = WatchParams::default().fields(&format!("metadata.name={name}")).timeout(open);
    // From any version: a stale state causes one read too many, but no change is missed.
    let mut events = call_within(OPEN_TIMEOUT, api.watch_metadata(&only, "0")).await?.boxed();
    while let Some(event) = tokio::time::timeout(silence, events.next()).await.map_err(|_| ApiError::Timeout)? {
        match event? {
            WatchEvent::Error(status) => return Err(kube::Error::Api(status).into()),
            WatchEvent::Bookmark(_) => {}
            WatchEvent::Added(_) | WatchEvent::Modified(_) | WatchEvent::Deleted(_) => changed.notify_one(),
        }
    }
    Ok(())
}
