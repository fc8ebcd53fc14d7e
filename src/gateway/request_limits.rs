//! The limits on concurrent requests: of the replica, of each called connection, of each namespace and of each caller.
//!
//! A provider that hangs holds the requests of its callers for up to a minute. They may take a quarter of the replica's
//! requests; and once all are taken, every other namespace and connection is still admitted up to its fair share
//! ([`crate::domain::fair_shares`]). So a slow connection, a namespace or a caller slows only itself.
//!
//! The called connection is known from the path, before authentication: a flood for one connection is rejected without
//! costing anything else. The caller's limit is checked once it is known.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::domain::fair_shares::{FairLimits, FairShares, WhenFull};
use crate::domain::key::ObjectKey;

/// Default number of concurrent requests of all callers: each may hold a body of 64 KiB, and waits a minute at most.
pub const DEFAULT_MAX_REQUESTS: usize = 1_024;

/// The limits of a connection and a caller are parts of the total, but at least this.
const MIN_LIMIT: usize = 16;
/// Larger bodies that are read at the same time, of a megabyte each: parameters have some hundred bytes.
const LARGE_BODIES: usize = 16;
/// What a caller whose limit is reached may still have of each further connection: others of its providers hang.
const CONNECTION_SHARE: usize = 8;

/// The limit that a request exceeds.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum RequestLimit {
    /// That of the replica, or the fair share of a namespace or connection of it.
    Replica,
    /// That of the called connection.
    Connection,
    /// That of the caller.
    Caller,
}

impl RequestLimit {
    /// The label of the metric.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Replica => "replica",
            Self::Connection => "connection",
            Self::Caller => "caller",
        }
    }
}

/// The limits. Clones share them.
#[derive(Clone, Debug)]
pub struct RequestLimits(Arc<Limits>);

#[derive(Debug)]
struct Limits {
    max: usize,
    per_connection: usize,
    per_caller: FairLimits,
    /// What one caller may have in flight, its shares of further connections included.
    per_caller_max: usize,
    /// What requests that call no connection have in common.
    no_connection: ObjectKey,
    large_bodies: Arc<Semaphore>,
    state: Mutex<State>,
}

/// The requests in flight.
#[derive(Debug)]
struct State {
    all: FairShares,
    /// Callers without a request are not in it.
    callers: HashMap<String, FairShares>,
}

/// The permit of a request; its drop ends it.
#[derive(Debug)]
pub struct RequestPermit {
    limits: Arc<Limits>,
    connection: ObjectKey,
    caller: Option<String>,
}

impl RequestLimits {
    /// Limits of `max` concurrent requests. One connection may have a quarter of them. One caller may have half of them,
    /// and up to three quarters with its shares of further connections.
    pub fn new(max: usize) -> Self {
        let per_connection = (max / 4).max(MIN_LIMIT);
        let per_caller = FairLimits {
            total: (max / 2).max(MIN_LIMIT),
            per_namespace: usize::MAX,
            // The rest is for other callers of the connection.
            per_connection: (per_connection / 4 * 3).max(MIN_LIMIT),
            when_full: WhenFull::Refuse,
        };
        // A namespace has no limit of its own: the others have their shares in any case.
        let all = FairLimits { total: max, per_namespace: usize::MAX, per_connection, when_full: WhenFull::FairShares };
        Self(Arc::new(Limits {
            max,
            per_connection,
            per_caller,
            per_caller_max: (max / 4 * 3).max(MIN_LIMIT),
            no_connection: ObjectKey::new("", ""),
            large_bodies: Arc::new(Semaphore::new(LARGE_BODIES)),
            state: Mutex::new(State { all: FairShares::new(all), callers: HashMap::new() }),
        }))
    }

    /// The concurrent requests that are admitted without regard to fair shares.
    pub fn max(&self) -> usize {
        self.0.max
    }

    /// A permit for a large body, if there is one now.
    pub(super) fn try_start_large_body(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0.large_bodies).try_acquire_owned().ok()
    }

    /// A permit for a request that calls `connection`; of one that calls none, for all such requests together.
    pub fn try_start(&self, connection: Option<&ObjectKey>) -> Result<RequestPermit, RequestLimit> {
        let key = connection.unwrap_or(&self.0.no_connection).clone();
        let mut state = self.0.lock();
        // Fair shares exceed the maximum. Names are the client's, and each has one: they must not exceed it without bound.
        if state.all.total() >= self.0.max.saturating_mul(2) {
            return Err(RequestLimit::Replica);
        }
        if !state.all.admits(&key) {
            let full = connection.is_some() && state.all.held(&key) >= self.0.per_connection;
            return Err(if full { RequestLimit::Connection } else { RequestLimit::Replica });
        }
        state.all.add(&key);
        Ok(RequestPermit { limits: Arc::clone(&self.0), connection: key, caller: None })
    }
}

impl RequestPermit {
    /// Counts the request as one of `user`.
    pub(super) fn set_caller(&mut self, user: &str) -> Result<(), RequestLimit> {
        // A request has one caller; a second one would be counted and never released.
        debug_assert!(self.caller.is_none(), "a request has one caller");
        let limits = &*self.limits;
        let mut state = limits.lock();
        if let Some(shares) = state.callers.get_mut(user) {
            let has_share = shares.total() < limits.per_caller_max && shares.held(&self.connection) < CONNECTION_SHARE;
            if !has_share && !shares.admits(&self.connection) {
                return Err(RequestLimit::Caller);
            }
            shares.add(&self.connection);
        } else {
            let mut shares = FairShares::new(limits.per_caller);
            shares.add(&self.connection);
            state.callers.insert(user.to_owned(), shares);
        }
        self.caller = Some(user.to_owned());
        Ok(())
    }
}

impl Drop for RequestPermit {
    fn drop(&mut self) {
        let mut state = self.limits.lock();
        state.all.remove(&self.connection);
        let Some(user) = &self.caller else { return };
        if let Some(shares) = state.callers.get_mut(user) {
            shares.remove(&self.connection);
            if shares.total() == 0 {
                state.callers.remove(user);
            }
        }
    }
}

impl Limits {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Starts requests of `user` until one is rejected, at most `most`; returns them and why.
    fn start(
        limits: &RequestLimits,
        connection: (&str, &str),
        user: &str,
        most: usize,
    ) -> (Vec<RequestPermit>, Option<RequestLimit>) {
        let key = ObjectKey::new(connection.0, connection.1);
        let mut permits = Vec::new();
        while permits.len() < most {
            let mut permit = match limits.try_start(Some(&key)) {
                Ok(permit) => permit,
                Err(limit) => return (permits, Some(limit)),
            };
            if let Err(limit) = permit.set_caller(user) {
                return (permits, Some(limit));
            }
            permits.push(permit);
        }
        (permits, None)
    }

    #[test]
    fn one_connection_has_a_quarter_and_one_caller_three_quarters_of_that() {
        let limits = RequestLimits::new(1_024);
        let (first, limit) = start(&limits, ("a", "hung"), "ann", 9_999);
        assert_eq!((first.len(), limit), (192, Some(RequestLimit::Caller)));
        let (second, limit) = start(&limits, ("a", "hung"), "bob", 9_999);
        assert_eq!((second.len(), limit), (64, Some(RequestLimit::Connection)));
        let (good, limit) = start(&limits, ("a", "good"), "ann", 150);
        assert_eq!((good.len(), limit), (150, None), "another connection of the same namespace and caller");
    }

    #[test]
    fn one_caller_cannot_have_all_requests_but_has_a_share_of_each_connection() {
        let limits = RequestLimits::new(1_024);
        let mut permits = Vec::new();
        let mut of_ann = |name: &str| {
            let (more, limit) = start(&limits, ("a", name), "ann", 9_999);
            let count = more.len();
            permits.extend(more);
            (count, limit)
        };
        let counts: Vec<usize> = (0..50).map(|n| of_ann(&format!("hung-{n}")).0).collect();
        assert_eq!(counts[..3], [192, 192, 128]);
        assert!(counts[3..30].iter().all(|count| *count == CONNECTION_SHARE), "{counts:?}");
        let total: usize = counts.iter().sum();
        assert!(total <= 768, "{total}");
        assert_eq!(of_ann("good").1, Some(RequestLimit::Caller));
        let (others, limit) = start(&limits, ("a", "good"), "bob", 20);
        assert_eq!((others.len(), limit), (20, None));
    }

    #[test]
    fn a_namespace_that_has_all_requests_leaves_the_others_their_share() {
        let limits = RequestLimits::new(64);
        let permits: Vec<_> =
            (0..64).map(|n| start(&limits, ("a", &format!("hung-{}", n % 8)), &format!("user-{n}"), 1)).collect();
        assert!(permits.iter().all(|(_, limit)| limit.is_none()));
        assert_eq!(start(&limits, ("a", "hung-0"), "eve", 1).1, Some(RequestLimit::Replica));
        let (good, limit) = start(&limits, ("b", "good"), "bob", 16);
        assert_eq!((good.len(), limit), (16, None));
        assert!(
            !start(&limits, ("a", "good"), "ann", 5).0.is_empty(),
            "nor does a connection of the same namespace wait"
        );
    }

    #[test]
    fn invented_names_have_twice_the_maximum_at_most() {
        let limits = RequestLimits::new(64);
        let permits: Vec<_> =
            (0..1_000).filter_map(|n| limits.try_start(Some(&ObjectKey::new(format!("n-{n}"), "x"))).ok()).collect();
        assert_eq!(permits.len(), 128);
    }

    #[test]
    fn permits_are_released_and_leave_nothing_behind() {
        let limits = RequestLimits::new(64);
        for _ in 0..100 {
            drop(start(&limits, ("a", "x"), "ann", 9_999));
            drop(limits.try_start(None));
        }
        let state = limits.0.lock();
        assert_eq!((state.all.total(), state.callers.len()), (0, 0));
    }
}
