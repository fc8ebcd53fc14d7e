//! Retries in flight, and finished retries whose outcome is not yet in the ledger.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use uuid::Uuid;

use crate::domain::key::ObjectKey;
use crate::domain::time::Mono;
use crate::ledger::dead_requests::{DeadRequest, RetryOutcome};

/// Concurrent retries of all connections.
pub(super) const MAX_CONCURRENT: usize = 32;
/// Concurrent retries of one connection: a provider that does not answer delays its own retries only.
pub(super) const MAX_PER_CONNECTION: usize = 2;
/// The first back-off delay after the ledger failed; it doubles.
const MIN_BACKOFF: Duration = Duration::from_secs(1);
/// The longest back-off delay.
const MAX_BACKOFF: Duration = Duration::from_mins(1);

/// A retry that has ended, with its outcome.
pub(super) struct FinishedRetry {
    pub(super) dead: DeadRequest,
    pub(super) outcome: RetryOutcome,
}

/// Retries in flight.
#[derive(Default)]
pub(super) struct InFlight<'a> {
    futures: FuturesUnordered<BoxFuture<'a, FinishedRetry>>,
    ids: BTreeSet<Uuid>,
    per_connection: BTreeMap<ObjectKey, usize>,
}

impl<'a> InFlight<'a> {
    /// Whether this retry can start now: it is not in flight and the limits allow one more.
    pub(super) fn has_room(&self, dead: &DeadRequest) -> bool {
        let request = &dead.request;
        self.futures.len() < MAX_CONCURRENT
            && !self.ids.contains(&request.id)
            && self.per_connection.get(&request.connection).is_none_or(|count| *count < MAX_PER_CONNECTION)
    }

    /// Starts a retry.
    pub(super) fn start(&mut self, dead: &DeadRequest, retry: impl Future<Output = FinishedRetry> + Send + 'a) {
        self.ids.insert(dead.request.id);
        *self.per_connection.entry(dead.request.connection.clone()).or_default() += 1;
        self.futures.push(Box::pin(retry));
    }

    /// Waits for the next retry to end; pending forever if none is in flight.
    pub(super) async fn next(&mut self) -> FinishedRetry {
        let Some(finished) = self.futures.next().await else { return std::future::pending().await };
        let request = &finished.dead.request;
        self.ids.remove(&request.id);
        if let Some(count) = self.per_connection.get_mut(&request.connection) {
            *count -= 1;
            if *count == 0 {
                self.per_connection.remove(&request.connection);
            }
        }
        finished
    }
}

/// Finished retries whose outcome is not yet in the ledger. They are written before new retries start: a retry whose
/// outcome is lost would be repeated without being counted.
#[derive(Default)]
pub(super) struct PendingWrites {
    pub(super) finished: Vec<FinishedRetry>,
    failures: u32,
    backoff_until: Option<Mono>,
}

impl PendingWrites {
    /// When the back-off after a ledger failure ends, if it has not.
    pub(super) fn backing_off(&self, now: Mono) -> Option<Mono> {
        self.backoff_until.filter(|until| now < *until)
    }

    /// Records a ledger failure: the next attempt is delayed exponentially.
    pub(super) fn record_failure(&mut self, now: Mono) {
        let delay = MIN_BACKOFF.saturating_mul(1 << self.failures.min(16)).min(MAX_BACKOFF);
        self.failures += 1;
        self.backoff_until = Some(now + delay);
    }

    /// Records a ledger success: resets the back-off.
    pub(super) fn record_success(&mut self) {
        (self.failures, self.backoff_until) = (0, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_after_failures_grows_to_a_minute_and_resets_on_success() {
        let (mut pending, now) = (PendingWrites::default(), Mono::ZERO);
        let mut delays = Vec::new();
        for _ in 0..9 {
            pending.record_failure(now);
            delays.push(pending.backing_off(now).unwrap().since(now).as_secs());
        }
        assert_eq!(delays, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        pending.record_success();
        assert_eq!(pending.backing_off(now), None);
        pending.record_failure(now);
        assert_eq!(pending.backing_off(now), Some(now + MIN_BACKOFF));
        assert_eq!(pending.backing_off(now + MIN_BACKOFF), None);
    }
}
