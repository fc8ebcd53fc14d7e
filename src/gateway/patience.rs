//! How long a connection may do nothing, and how many connections one address may hold.
//!
//! A connection earns its place by requests. What else arrives on it (a byte of a header, a ping) is no sign of life:
//! whoever wants to hold a place for nothing can send those for ever.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::clock::Clock;
use crate::domain::time::Mono;
use crate::gateway::limit::network;

/// What a peer may take of the gateway before anybody knows who it is.
#[derive(Copy, Clone, Debug)]
pub struct Patience {
    /// For the TLS handshake.
    pub handshake: Duration,
    /// For the whole of a request's headers, and between two requests.
    pub idle: Duration,
    /// For the farewell of a connection that was idle: the last answer may still be on its way.
    pub farewell: Duration,
    /// Connections of all peers. Some kilobytes each; further ones wait in the kernel's queue.
    pub connections: usize,
    /// Connections of one address (of one /64 network of IPv6); further ones are closed at once. Enough for a proxy that
    /// speaks HTTP/1.1 for all its callers, and too few for one peer to take all places.
    pub per_address: usize,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            idle: Duration::from_secs(20),
            farewell: Duration::from_secs(20),
            connections: 2_048,
            per_address: 512,
        }
    }
}

/// The requests of one connection.
#[derive(Debug)]
pub(super) struct Pulse {
    clock: Clock,
    beat: Mutex<Beat>,
    /// The last request under way has ended.
    rests: Notify,
}

#[derive(Debug)]
struct Beat {
    under_way: usize,
    any: bool,
    since: Mono,
}

/// A request under way.
#[derive(Debug)]
pub(super) struct UnderWay(Arc<Pulse>);

impl Pulse {
    pub(super) fn new(clock: Clock) -> Arc<Self> {
        let beat = Mutex::new(Beat { under_way: 0, any: false, since: clock.mono() });
        Arc::new(Self { clock, beat, rests: Notify::new() })
    }

    /// A request has come: its headers are whole.
    pub(super) fn begin(self: &Arc<Self>) -> UnderWay {
        let mut beat = self.beat.lock().unwrap_or_else(PoisonError::into_inner);
        beat.under_way += 1;
        beat.any = true;
        UnderWay(Arc::clone(self))
    }

    /// Waits until nothing has been asked for so long; whether anything ever was.
    pub(super) async fn idle(&self, limit: Duration) -> bool {
        loop {
            let end = {
                let beat = self.beat.lock().unwrap_or_else(PoisonError::into_inner);
                let end = (beat.under_way == 0).then(|| beat.since + limit);
                if end.is_some_and(|end| end <= self.clock.mono()) {
                    return beat.any;
                }
                end
            };
            match end {
                Some(end) => self.clock.sleep_until(end).await,
                None => self.rests.notified().await,
            }
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut beat = self.0.beat.lock().unwrap_or_else(PoisonError::into_inner);
        beat.under_way -= 1;
        beat.since = self.0.clock.mono();
        if beat.under_way == 0 {
            self.0.rests.notify_one();
        }
    }
}

/// Who holds how many connections.
#[derive(Clone, Debug)]
pub(super) struct Seats {
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
    each: usize,
}

/// One connection's place.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Seats,
    address: IpAddr,
}

impl Seats {
    pub(super) fn new(each: usize) -> Self {
        Self { taken: Arc::default(), each }
    }

    /// A place for a connection from there, unless it has all of its own.
    pub(super) fn take(&self, address: IpAddr) -> Option<Seat> {
        let address = network(address);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let held = taken.entry(address).or_default();
        if *held >= self.each {
            return None;
        }
        *held += 1;
        Some(Seat { seats: self.clone(), address })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = taken.get_mut(&self.address) {
            *held -= 1;
            // The map holds peers of now, not of all times.
            if *held == 0 {
                taken.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_from_its_last_request_on_and_never_while_one_is_under_way() {
        let clock = Clock::system();
        let limit = Duration::from_secs(20);
        let pulse = Pulse::new(clock);
        assert!(!pulse.idle(limit).await, "nothing was ever asked");
        assert_eq!(clock.mono().since(Mono::ZERO), limit);
        let (first, second) = (pulse.begin(), pulse.begin());
        let watch = {
            let pulse = Arc::clone(&pulse);
            tokio::spawn(async move { (pulse.idle(limit).await, clock.mono()) })
        };
        tokio::time::sleep(limit * 3).await;
        drop(first);
        tokio::time::sleep(limit * 3).await;
        assert!(!watch.is_finished(), "one is under way");
        let ended = clock.mono();
        drop(second);
        assert_eq!(watch.await.unwrap(), (true, ended + limit));
    }

    #[test]
    fn an_address_has_its_places_and_gets_them_back() {
        let seats = Seats::new(2);
        let (one, other): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let (first, _second) = (seats.take(one).unwrap(), seats.take(one).unwrap());
        assert!(seats.take(one).is_none());
        assert!(seats.take(other).is_some());
        drop(first);
        let again = seats.take(one);
        assert!(again.is_some() && seats.take(one).is_none());
        assert_eq!(seats.taken.lock().unwrap().len(), 1, "the other is forgotten");
    }
}
