//! What the relay does whether there is a broker or not: who the consumers are, their history, how much is pending, and
//! the deliveries of removed consumers.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::shared::{ConsumerList, Relay};
use crate::domain::time::Mono;
use crate::ledger::{HeldLease, LedgerError};

/// Interval at which it is looked for changes of consumers.
const INTERVAL: Duration = Duration::from_secs(1);
/// Interval at which pending deliveries are counted.
const USAGE_INTERVAL: Duration = Duration::from_secs(10);
/// Interval at which deliveries of removed consumers are deleted.
const PRUNE_INTERVAL: Duration = Duration::from_mins(1);
/// Rows of one transaction, and transactions of one round: writers of events are not kept waiting.
const BATCH: u32 = 500;
const BATCHES: u32 = 20;

/// What was seen last.
#[derive(Default)]
struct Progress {
    version: Option<u64>,
    is_filling: bool,
    usage_at: Mono,
    prune_at: Mono,
}

/// Runs until another process relays.
pub(super) async fn run(relay: &Relay, held: &HeldLease, consumers: &watch::Sender<ConsumerList>) {
    let (mut progress, mut is_failing) = (Progress::default(), false);
    loop {
        match round(relay, held, consumers, &mut progress).await {
            Ok(()) => is_failing = false,
            Err(LedgerError::Fenced { .. }) => return,
            Err(error) => {
                if !is_failing {
                    tracing::warn!(%error, "reading the consumers of events failed; retrying");
                }
                is_failing = true;
            }
        }
        relay.clock.sleep_until(relay.clock.mono() + INTERVAL).await;
    }
}

async fn round(
    relay: &Relay,
    held: &HeldLease,
    consumers: &watch::Sender<ConsumerList>,
    progress: &mut Progress,
) -> Result<(), LedgerError> {
    let (ledger, now) = (&relay.ledger, relay.clock.now());
    let version = ledger.consumers_version().await?;
    if progress.version != Some(version) {
        // Read after the version: a change between the two is read again.
        let list = ledger.list_consumers().await?;
        consumers.send_replace(Some(Arc::new(list)));
        progress.version = Some(version);
        progress.is_filling = true;
    }
    for _ in 0..BATCHES {
        if progress.is_filling {
            progress.is_filling = ledger.fill_history(held.lease(), BATCH).await? > 0;
        }
    }
    if now.mono >= progress.usage_at {
        relay.metrics.usage(&ledger.delivery_usage().await?, now.wall);
        progress.usage_at = now.mono + USAGE_INTERVAL;
    }
    if now.mono >= progress.prune_at {
        progress.prune_at = now.mono + PRUNE_INTERVAL;
        for _ in 0..BATCHES {
            if ledger.prune_deliveries(held.lease(), BATCH).await? < u64::from(BATCH) {
                return Ok(());
            }
        }
        // There is more.
        progress.prune_at = now.mono;
    }
    Ok(())
}
