//! Which connections are accepted when places are scarce.
//!
//! An address has a share of the places. When all places are taken, the connection that has been idle longest is closed
//! for a new one, of those addresses first that have most connections, and never of an address that has fewer than the
//! new one's: so neither one client nor many idle ones keep others out.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::domain::client_address::client_network;
use crate::http_server::activity::Activity;
use crate::http_server::connection_limits::{ConnectionLimits, WhenAddressFull};
use crate::http_server::metrics::{Closed, ConnectionMetrics};

/// Connections that are being closed for others count until they are closed: at most one in this many of the total, on
/// top of it.
const CLOSING_SHARE: usize = 8;

/// The connections of one port. Cloning shares it.
#[derive(Clone, Debug)]
pub(super) struct ConnectionTable {
    state: Arc<Mutex<State>>,
    limits: ConnectionLimits,
    metrics: Option<ConnectionMetrics>,
}

#[derive(Debug, Default)]
struct State {
    next_id: u64,
    /// Connections that are not being closed.
    open: usize,
    connections: HashMap<u64, Entry>,
    by_address: HashMap<IpAddr, usize>,
}

#[derive(Debug)]
struct Entry {
    address: IpAddr,
    activity: Arc<Activity>,
    evicted: CancellationToken,
}

/// The place of one connection; its drop frees it.
#[derive(Debug)]
pub(super) struct Place {
    table: ConnectionTable,
    id: u64,
    /// Cancelled when the place is needed for another connection.
    pub(super) evicted: CancellationToken,
    /// Whether another connection is being closed for this one.
    pub(super) evicting: bool,
}

impl ConnectionTable {
    pub(super) fn new(limits: ConnectionLimits, metrics: Option<ConnectionMetrics>) -> Self {
        Self { state: Arc::default(), limits, metrics }
    }

    /// A place for a connection from `address`; `None` if it must be closed.
    pub(super) fn admit(&self, address: IpAddr, activity: &Arc<Activity>) -> Option<Place> {
        let address = client_network(address);
        let mut state = self.lock();
        let own = state.by_address.get(&address).copied().unwrap_or_default();
        let address_full = own >= self.limits.per_address;
        if address_full && self.limits.when_address_full == WhenAddressFull::Close {
            self.count(Closed::Address);
            return None;
        }
        let total = self.limits.connections;
        let evicting = address_full || state.open >= total;
        if evicting {
            let room = state.connections.len() < total + total.div_ceil(CLOSING_SHARE);
            // As if all others had fewer, while the address has no place left.
            let own = if address_full { usize::MAX } else { own };
            let victim = room.then(|| state.victim(address, own)).flatten();
            let Some(victim) = victim else {
                self.count(if address_full { Closed::Address } else { Closed::Full });
                return None;
            };
            state.evict(victim);
            self.count(Closed::Evicted);
        }
        let (id, evicted) = (state.next_id, CancellationToken::new());
        state.next_id += 1;
        let entry = Entry { address, activity: Arc::clone(activity), evicted: evicted.clone() };
        state.connections.insert(id, entry);
        *state.by_address.entry(address).or_default() += 1;
        state.open += 1;
        if let Some(metrics) = &self.metrics {
            metrics.open().inc();
        }
        Some(Place { table: self.clone(), id, evicted, evicting })
    }

    /// Counts a connection that was closed.
    pub(super) fn count(&self, cause: Closed) {
        if let Some(metrics) = &self.metrics {
            metrics.closed(cause);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The connection to close for a new one of `address`, which has `own`.
    fn victim(&self, address: IpAddr, own: usize) -> Option<u64> {
        let idle =
            self.connections.iter().filter(|(_, entry)| !entry.evicted.is_cancelled()).filter_map(|(id, entry)| {
                let count = self.by_address.get(&entry.address).copied().unwrap_or_default();
                let fair = count > own || entry.address == address;
                let since = entry.activity.idle_since().filter(|_| fair)?;
                Some((count, Reverse((since, *id))))
            });
        idle.max().map(|(_, Reverse((_, id)))| id)
    }

    fn evict(&mut self, id: u64) {
        if let Some(entry) = self.connections.get(&id) {
            entry.evicted.cancel();
            let address = entry.address;
            self.leave(address);
        }
    }

    fn leave(&mut self, address: IpAddr) {
        self.open -= 1;
        if let Some(count) = self.by_address.get_mut(&address) {
            *count -= 1;
            // The map has connected addresses only.
            if *count == 0 {
                self.by_address.remove(&address);
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.table.lock();
        let Some(entry) = state.connections.remove(&self.id) else { return };
        if !entry.evicted.is_cancelled() {
            state.leave(entry.address);
        }
        drop(state);
        if let Some(metrics) = &self.table.metrics {
            metrics.open().dec();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::Clock;

    struct Fixture {
        table: ConnectionTable,
        clock: Clock,
    }

    fn fixture(connections: usize, per_address: usize) -> Fixture {
        let limits = ConnectionLimits { connections, per_address, ..ConnectionLimits::default() };
        Fixture { table: ConnectionTable::new(limits, None), clock: Clock::system() }
    }

    impl Fixture {
        /// A second later than the connections before.
        async fn admit(&self, from: &str) -> Option<(Place, Arc<Activity>)> {
            tokio::time::advance(Duration::from_secs(1)).await;
            let activity = Activity::new(self.clock);
            self.table.admit(from.parse().unwrap(), &activity).map(|place| (place, activity))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn places_are_limited_per_address_and_freed_on_drop() {
        let fixture = fixture(100, 2);
        let (first, _second) = (fixture.admit("192.0.2.1").await.unwrap(), fixture.admit("192.0.2.1").await.unwrap());
        assert!(fixture.admit("192.0.2.1").await.is_none());
        assert!(fixture.admit("192.0.2.2").await.is_some());
        drop(first);
        let again = fixture.admit("192.0.2.1").await;
        assert!(again.is_some() && fixture.admit("192.0.2.1").await.is_none());
        assert_eq!(fixture.table.lock().by_address.len(), 1, "the other address is removed");
        let network = [fixture.admit("2001:db8::1").await, fixture.admit("2001:db8::2").await];
        assert!(network.iter().all(Option::is_some) && fixture.admit("2001:db8::3").await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_idle_connection_of_the_busiest_address_makes_room() {
        let fixture = fixture(4, 3);
        let mut held = Vec::new();
        for from in ["192.0.2.9", "192.0.2.1", "192.0.2.1", "192.0.2.1"] {
            held.push(fixture.admit(from).await.unwrap());
        }
        let _request = held[1].1.start_request();
        let evicted = |held: &[(Place, Arc<Activity>)]| -> Vec<bool> {
            held.iter().map(|(place, _)| place.evicted.is_cancelled()).collect()
        };
        held.push(fixture.admit("192.0.2.2").await.unwrap());
        assert_eq!(evicted(&held), [false, false, true, false, false], "the first of 192.0.2.1 has a request");
        drop(held.remove(2));
        assert!(fixture.table.lock().open == 4 && fixture.table.lock().connections.len() == 4);
        // Its own idle connection, not one of an address that has fewer.
        held.push(fixture.admit("192.0.2.1").await.unwrap());
        assert_eq!(evicted(&held), [false, false, true, false, false]);
        drop(held.remove(2));
        let _requests: Vec<_> = held[1..].iter().map(|(_, activity)| activity.start_request()).collect();
        assert!(fixture.admit("192.0.2.1").await.is_none(), "192.0.2.9 has fewer");
        assert!(fixture.admit("192.0.2.3").await.is_some(), "an address without a connection has a right to a place");
        assert!(held[0].0.evicted.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_may_replace_its_own_longest_idle_connection() {
        let when_address_full = WhenAddressFull::EvictIdle;
        let limits = ConnectionLimits { per_address: 2, when_address_full, ..ConnectionLimits::default() };
        let fixture = Fixture { table: ConnectionTable::new(limits, None), clock: Clock::system() };
        let other = fixture.admit("192.0.2.9").await.unwrap();
        let first = fixture.admit("192.0.2.1").await.unwrap();
        let second = fixture.admit("192.0.2.1").await.unwrap();
        let _request = first.1.start_request();
        let third = fixture.admit("192.0.2.1").await.unwrap();
        let evicted = [&other, &first, &second, &third].map(|held| held.0.evicted.is_cancelled());
        assert_eq!(evicted, [false, false, true, false]);
        let _another = third.1.start_request();
        assert!(fixture.admit("192.0.2.1").await.is_none(), "both have a request");
        assert!(!other.0.evicted.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn connections_that_are_being_closed_are_bounded() {
        let fixture = fixture(8, 8);
        let mut held = Vec::new();
        for n in 0..100 {
            held.extend(fixture.admit(&format!("192.0.2.{n}")).await);
        }
        assert_eq!(held.len(), 8 + 1);
    }
}
