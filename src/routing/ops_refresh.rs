//! Reads what operations staff keep in the ledger regularly, on every replica.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::domain::key::ObjectKey;
use crate::routing::metrics::DecisionMetrics;
use crate::routing::ops::OpsState;
use crate::routing::snapshot_cache::SnapshotCache;

/// How often the ledger is read: what another replica stored counts after this time at the latest.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);

/// Refreshes the rules of operations staff, and forgets what belongs to deleted routes.
pub struct OpsRefresh {
    pub(crate) state: OpsState,
    pub(crate) cache: Arc<SnapshotCache>,
    pub(crate) metrics: DecisionMetrics,
}

impl OpsRefresh {
    /// Refreshes until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut failing = false;
        loop {
            match self.state.refresh().await {
                Ok(()) => failing = false,
                // Once for each outage: the rules read last stay in force meanwhile.
                Err(error) if !failing => {
                    failing = true;
                    tracing::warn!(%error, "adjustments and approvals not read; those read last stay in force; retrying");
                }
                Err(_) => {}
            }
            let exists = |key: &ObjectKey| self.state.routes.route(key).is_some();
            self.cache.retain(exists);
            self.metrics.retain(exists);
            if stop.run_until_cancelled(tokio::time::sleep(REFRESH_INTERVAL)).await.is_none() {
                return;
            }
        }
    }
}
