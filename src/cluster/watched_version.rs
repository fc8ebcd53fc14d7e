//! Up to which resource version a store has received the events of its watch.

use tokio::sync::watch;

/// The newest resource version that the events of one watch have brought into the store; unknown while a list is running
/// and until the next event.
#[derive(Clone, Debug)]
pub struct WatchedVersion(watch::Sender<u64>);

impl Default for WatchedVersion {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

impl WatchedVersion {
    /// The store contains all events up to `version`, which is never [`u64::MAX`] (an unreadable one).
    pub(super) fn advance(&self, version: u64) {
        self.0.send_if_modified(|known| {
            let newer = version > *known && version != u64::MAX;
            if newer {
                *known = version;
            }
            newer
        });
    }

    /// The store may lack events, or not show what they brought.
    pub(super) fn forget(&self) {
        self.0.send_replace(0);
    }

    /// Whether the store contains all events up to `version`.
    pub fn has_reached(&self, version: u64) -> bool {
        *self.0.borrow() >= version
    }

    /// Returns once it does; never, if the watch stays silent.
    pub async fn reach(&self, version: u64) {
        // The sender is ours: an error cannot occur.
        let _ = self.0.subscribe().wait_for(|known| *known >= version).await;
    }
}
