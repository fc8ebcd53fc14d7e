//! Retries in flight, and finished retries whose outcome is not yet in the ledger.

use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use uuid::Uuid;

use crate::domain::fair_shares::{FairLimits, FairShares, WhenFull};
use crate::domain::time::Mono;
use crate::ledger::dead_requests::{DeadRequest, RetryOutcome};

/// Concurrent retries of all connections. A connection that has none in flight may exceed it by its fair share: the
/// retries of providers that do not answer may last for a whole deadline each.
const MAX_CONCURRENT: usize = 32;
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
pub(super) struct InFlight<'a> {
    futures: FuturesUnordered<BoxFuture<'a, FinishedRetry>>,
    ids: BTreeSet<Uuid>,
    shares: FairShares,
}

impl Default for InFlight<'_> {
    fn default() -> Self {
        let shares = FairShares::new(FairLimits {
            total: MAX_CONCURRENT,
            per_namespace: usize::MAX,
            per_connection: MAX_PER_CONNECTION,
            when_full: WhenFull::FairShares,
        });
        Self { futures: FuturesUnordered::new(), ids: BTreeSet::new(), shares }
    }
}

impl<'a> InFlight<'a> {
    /// The number of connections with retries in flight.
    pub(super) fn connections(&self) -> usize {
        self.shares.connections()
    }

    /// Whether this retry can start now: it is not in flight and the limits allow one more.
    pub(super) fn has_room(&self, dead: &DeadRequest) -> bool {
        !self.ids.contains(&dead.request.id) && self.shares.admits(&dead.request.connection)
    }

    /// Starts a retry.
    pub(super) fn start(&mut self, dead: &DeadRequest, retry: impl Future<Output = FinishedRetry> + Send + 'a) {
        self.ids.insert(dead.request.id);
        self.shares.add(&dead.request.connection);
        self.futures.push(Box::pin(retry));
    }

    /// Waits for the next retry to end; pending forever if none is in flight.
    pub(super) async fn next(&mut self) -> FinishedRetry {
        let Some(finished) = self.futures.next().await else { return std::future::pending().await };
        let request = &finished.dead.request;
        self.ids.remove(&request.id);
        self.shares.remove(&request.connection);
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
    use jiff::Timestamp;

    use super::*;
    use crate::domain::key::ObjectKey;
    use crate::ledger::dead_requests::{DeadRequestState, NewDeadRequest};

    fn dead(connection: &str) -> DeadRequest {
        let request = NewDeadRequest {
            id: Uuid::new_v4(),
            connection: ObjectKey::new("team", connection),
            uid: String::new(),
            provider: String::new(),
            operation: String::new(),
            parameters: Vec::new(),
            encrypted: false,
            fingerprint: String::new(),
            caller: String::new(),
            subject: String::new(),
            reason: String::new(),
            status: None,
            request_id: None,
            at: Timestamp::UNIX_EPOCH,
            next: Timestamp::UNIX_EPOCH,
        };
        let (state, at) = (DeadRequestState::Pending, Timestamp::UNIX_EPOCH);
        DeadRequest { seq: 1, request, state, tries: 0, seen: 1, reviewed: at, updated: at }
    }

    #[tokio::test]
    async fn connections_that_hang_leave_room_for_the_retries_of_others() {
        let mut in_flight = InFlight::default();
        for n in 0..100 {
            for _ in 0..3 {
                let hung = dead(&format!("hung-{n}"));
                if in_flight.has_room(&hung) {
                    in_flight.start(&hung, std::future::pending());
                }
            }
        }
        assert!(in_flight.futures.len() <= MAX_CONCURRENT + 100);
        let good = dead("good");
        assert!(in_flight.has_room(&good));
        let finished = FinishedRetry { dead: good.clone(), outcome: RetryOutcome::Done };
        in_flight.start(&good, std::future::ready(finished));
        assert!(!in_flight.has_room(&good), "it is in flight already");
        assert_eq!(in_flight.next().await.dead.request.id, good.request.id);
        assert_eq!(in_flight.connections(), 100);
    }

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
