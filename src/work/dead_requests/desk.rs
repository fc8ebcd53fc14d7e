//! What is under way, and what has ended but could not be written down yet.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use uuid::Uuid;

use crate::domain::key::ObjectKey;
use crate::domain::time::Mono;
use crate::ledger::dead_requests::{DeadRequest, Settled};

/// Retries at once, over all connections.
pub(super) const AT_ONCE: usize = 32;
/// Retries at once of one connection: a provider that does not answer keeps its own waiting, nobody else's.
pub(super) const EACH: usize = 2;
/// The first wait after the ledger failed; it doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// A retry that has ended.
pub(super) struct Attempt {
    pub(super) dead: DeadRequest,
    pub(super) settled: Settled,
}

/// Retries under way.
#[derive(Default)]
pub(super) struct Flights<'a> {
    all: FuturesUnordered<BoxFuture<'a, Attempt>>,
    ids: BTreeSet<Uuid>,
    of: BTreeMap<ObjectKey, usize>,
}

impl<'a> Flights<'a> {
    /// Whether this one may start beside those under way.
    pub(super) fn has_room(&self, dead: &DeadRequest) -> bool {
        let request = &dead.request;
        self.all.len() < AT_ONCE
            && !self.ids.contains(&request.id)
            && self.of.get(&request.connection).is_none_or(|under_way| *under_way < EACH)
    }

    /// Starts one.
    pub(super) fn start(&mut self, dead: &DeadRequest, retry: impl Future<Output = Attempt> + Send + 'a) {
        self.ids.insert(dead.request.id);
        *self.of.entry(dead.request.connection.clone()).or_default() += 1;
        self.all.push(Box::pin(retry));
    }

    /// The next to end; never, if none is under way.
    pub(super) async fn next(&mut self) -> Attempt {
        let Some(attempt) = self.all.next().await else { return std::future::pending().await };
        let request = &attempt.dead.request;
        self.ids.remove(&request.id);
        if let Some(under_way) = self.of.get_mut(&request.connection) {
            *under_way -= 1;
            if *under_way == 0 {
                self.of.remove(&request.connection);
            }
        }
        attempt
    }
}

/// What has ended and is not in the ledger. It is written before anything else is asked: whoever forgot it would ask again
/// without counting, and again.
#[derive(Default)]
pub(super) struct Unsettled {
    pub(super) attempts: Vec<Attempt>,
    failures: u32,
    pause_until: Option<Mono>,
}

impl Unsettled {
    /// Until when nothing is tried, since the ledger failed.
    pub(super) fn paused(&self, now: Mono) -> Option<Mono> {
        self.pause_until.filter(|until| now < *until)
    }

    /// The ledger failed: the next attempt is further away each time.
    pub(super) fn failed(&mut self, now: Mono) {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(16)).min(LONGEST_PAUSE);
        self.failures += 1;
        self.pause_until = Some(now + pause);
    }

    /// The ledger does as it is told.
    pub(super) fn well(&mut self) {
        (self.failures, self.pause_until) = (0, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_after_a_failure_grows_to_a_minute_and_ends_with_a_success() {
        let (mut unsettled, now) = (Unsettled::default(), Mono::ZERO);
        let mut pauses = Vec::new();
        for _ in 0..9 {
            unsettled.failed(now);
            pauses.push(unsettled.paused(now).unwrap().since(now).as_secs());
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        unsettled.well();
        assert_eq!(unsettled.paused(now), None);
        unsettled.failed(now);
        assert_eq!(unsettled.paused(now), Some(now + FIRST_PAUSE));
        assert_eq!(unsettled.paused(now + FIRST_PAUSE), None);
    }
}
