//! One server, as this process uses it: its connections, and whether it accepts writes.

use std::sync::Arc;

use tokio::sync::watch;

use super::pool::Pool;
use crate::ledger::health::HealthTracker;

/// A server.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) pool: Pool,
    pub(super) health: Arc<HealthTracker>,
    /// Counts the commits of this process after which there may be something to publish.
    pub(super) events: watch::Sender<u64>,
}

impl Server {
    /// The server itself: transactions are begun on whatever has one.
    pub(super) const fn server(&self) -> &Self {
        self
    }
}
