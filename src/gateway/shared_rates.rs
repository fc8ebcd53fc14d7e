//! Shares the rate limits of addresses and consumers among replicas, through the ledger, beside the requests.
//!
//! What several replicas grant within one round is more than the limit by at most that. While the ledger fails, each
//! replica limits by what it took itself.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::gateway::rate_limit::SharedBucket;
use crate::gateway::state::Gateway;
use crate::ledger::delivery::BucketCharge;

/// Time between two rounds.
const INTERVAL: Duration = Duration::from_millis(200);
/// How long a round waits for the ledger.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Buckets charged at once.
const BATCH: usize = 500;

/// Shares until `stop` is cancelled.
pub async fn run(gateway: Arc<Gateway>, stop: CancellationToken) {
    loop {
        let next = gateway.clock.mono() + INTERVAL;
        if stop.run_until_cancelled(gateway.clock.sleep_until(next)).await.is_none() {
            return;
        }
        let noted = gateway.rate_limits.take_noted();
        for part in noted.chunks(BATCH) {
            share(&gateway, part).await;
        }
    }
}

/// Charges the ledger with what was taken, and adopts what others took.
async fn share(gateway: &Gateway, noted: &[(SharedBucket, u32)]) {
    let charge = |(bucket, tokens): &(SharedBucket, u32)| {
        let limit = gateway.rate_limits.shared_limit(*bucket);
        BucketCharge { key: key(*bucket), tokens: *tokens, interval: limit.interval, burst: limit.burst }
    };
    let charges: Vec<BucketCharge> = noted.iter().map(charge).collect();
    let now = gateway.clock.now();
    match tokio::time::timeout(TIMEOUT, gateway.ledger.charge_buckets(&charges, now.wall)).await {
        Ok(Ok(full)) => {
            for ((bucket, _), full_at) in noted.iter().zip(full) {
                gateway.rate_limits.adopt(*bucket, now.mono + ahead(full_at, now.wall));
            }
        }
        Ok(Err(error)) => {
            gateway.metrics.unshared_rates.inc();
            tracing::debug!(%error, "rate limits not shared; this replica counts for itself");
        }
        Err(_) => gateway.metrics.unshared_rates.inc(),
    }
}

/// How long until a bucket is full.
fn ahead(full_at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(full_at.duration_since(now)).unwrap_or_default()
}

/// The name of a bucket in the ledger.
fn key(bucket: SharedBucket) -> String {
    match bucket {
        SharedBucket::Address(network) => format!("address/{network}"),
        SharedBucket::Consumer(id) => format!("consumer/{id}"),
    }
}
