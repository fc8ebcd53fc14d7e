//! Limits on client connections: idle time, and the number of connections per address.
//!
//! Only complete requests count as activity. Anything else that arrives (a byte of a header, a ping) does not: a client
//! could otherwise hold a connection open forever without a request.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::clock::Clock;
use crate::domain::time::Mono;
use crate::gateway::rate_limit::network;

/// Limits on a client's connections, which apply before authentication.
#[derive(Copy, Clone, Debug)]
pub struct ConnectionLimits {
    /// Time-out of the TLS handshake.
    pub handshake: Duration,
    /// Time-out of reading a request's headers, and of a connection between two requests.
    pub idle: Duration,
    /// Time for a graceful close of an idle connection: the last response may still be in transit.
    pub close_grace: Duration,
    /// Connections in total. Some kilobytes each; further ones wait in the kernel's accept queue.
    pub connections: usize,
    /// Connections of one address (of one /64 network of IPv6); further ones are closed at once. Enough for an HTTP/1.1
    /// proxy with many clients, and too few for one address to use up the total.
    pub per_address: usize,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            idle: Duration::from_secs(20),
            close_grace: Duration::from_secs(20),
            connections: 2_048,
            per_address: 512,
        }
    }
}

/// Tracks the requests of one connection.
#[derive(Debug)]
pub(super) struct Activity {
    clock: Clock,
    state: Mutex<ActivityState>,
    /// Notified when the last active request has ended.
    idle_notify: Notify,
}

#[derive(Debug)]
struct ActivityState {
    active: usize,
    any_request: bool,
    last_change: Mono,
}

/// An active request; its drop ends it.
#[derive(Debug)]
pub(super) struct ActiveRequest(Arc<Activity>);

impl Activity {
    pub(super) fn new(clock: Clock) -> Arc<Self> {
        let state = Mutex::new(ActivityState { active: 0, any_request: false, last_change: clock.mono() });
        Arc::new(Self { clock, state, idle_notify: Notify::new() })
    }

    /// Records the start of a request, when its headers are complete.
    pub(super) fn start_request(self: &Arc<Self>) -> ActiveRequest {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.active += 1;
        state.any_request = true;
        ActiveRequest(Arc::clone(self))
    }

    /// Waits until the connection has been idle for `limit`; returns whether it ever carried a request.
    pub(super) async fn wait_idle(&self, limit: Duration) -> bool {
        loop {
            let end = {
                let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                let end = (state.active == 0).then(|| state.last_change + limit);
                if end.is_some_and(|end| end <= self.clock.mono()) {
                    return state.any_request;
                }
                end
            };
            match end {
                Some(end) => self.clock.sleep_until(end).await,
                None => self.idle_notify.notified().await,
            }
        }
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.active -= 1;
        state.last_change = self.0.clock.mono();
        if state.active == 0 {
            self.0.idle_notify.notify_one();
        }
    }
}

/// Connection counts by client address.
#[derive(Clone, Debug)]
pub(super) struct PerIpLimit {
    counts: Arc<Mutex<HashMap<IpAddr, usize>>>,
    max: usize,
}

/// The permit of one connection.
#[derive(Debug)]
pub(super) struct PerIpPermit {
    limit: PerIpLimit,
    address: IpAddr,
}

impl PerIpLimit {
    pub(super) fn new(max: usize) -> Self {
        Self { counts: Arc::default(), max }
    }

    /// A permit for a connection from `address`; `None` if it has reached the limit.
    pub(super) fn try_acquire(&self, address: IpAddr) -> Option<PerIpPermit> {
        let address = network(address);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_default();
        if *count >= self.max {
            return None;
        }
        *count += 1;
        Some(PerIpPermit { limit: self.clone(), address })
    }
}

impl Drop for PerIpPermit {
    fn drop(&mut self) {
        let mut counts = self.limit.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            // The map holds connected addresses only.
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_since_its_last_request_and_not_during_one() {
        let clock = Clock::system();
        let limit = Duration::from_secs(20);
        let activity = Activity::new(clock);
        assert!(!activity.wait_idle(limit).await, "no request was made");
        assert_eq!(clock.mono().since(Mono::ZERO), limit);
        let (first, second) = (activity.start_request(), activity.start_request());
        let watch = {
            let activity = Arc::clone(&activity);
            tokio::spawn(async move { (activity.wait_idle(limit).await, clock.mono()) })
        };
        tokio::time::sleep(limit * 3).await;
        drop(first);
        tokio::time::sleep(limit * 3).await;
        assert!(!watch.is_finished(), "one request is active");
        let ended = clock.mono();
        drop(second);
        assert_eq!(watch.await.unwrap(), (true, ended + limit));
    }

    #[test]
    fn permits_are_limited_per_address_and_released_on_drop() {
        let per_ip = PerIpLimit::new(2);
        let (one, other): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let (first, _second) = (per_ip.try_acquire(one).unwrap(), per_ip.try_acquire(one).unwrap());
        assert!(per_ip.try_acquire(one).is_none());
        assert!(per_ip.try_acquire(other).is_some());
        drop(first);
        let again = per_ip.try_acquire(one);
        assert!(again.is_some() && per_ip.try_acquire(one).is_none());
        assert_eq!(per_ip.counts.lock().unwrap().len(), 1, "the other address is removed");
    }
}
