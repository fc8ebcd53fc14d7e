//! How often somebody may call: one bucket per token's subject, one per address for those without a valid token.
//!
//! Each replica counts for itself. An address pays for a request without a valid token only, and before the API server is
//! asked about it; when its bucket is empty, nobody is asked about new tokens from there, so guessing is slow, while callers
//! whose token was valid within the hour go on. What nobody's bucket bounds is bounded here too: the requests under way.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use quick_cache::sync::Cache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::clock::Clock;
use crate::domain::time::Mono;
use crate::gateway::problem::{ErrorCode, Problem};
use crate::gateway::{Gateway, SOON};

/// Buckets kept of each kind. One that is dropped starts full again, which only an attacker with as many addresses gains.
const KEPT: usize = 10_000;

/// Requests under way, of all callers: each may hold a body of a megabyte, and waits a minute at most.
const UNDER_WAY: usize = 1_024;

/// So many requests in so long; as many may come at once.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Rate {
    /// Requests.
    pub requests: u32,
    /// In this time.
    pub per: Duration,
}

impl std::str::FromStr for Rate {
    type Err = String;

    /// Reads `100/s` or `100/m`.
    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (requests, unit) = text.split_once('/')?;
            let per = match unit {
                "s" => Duration::from_secs(1),
                "m" => Duration::from_mins(1),
                _ => return None,
            };
            let requests = requests.parse().ok().filter(|n| (1..=1_000_000).contains(n))?;
            Some(Self { requests, per })
        };
        parse().ok_or_else(|| "must be a rate such as 500/s or 100/m, from 1 to 1000000".to_owned())
    }
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.requests, if self.per == Duration::from_secs(1) { "s" } else { "m" })
    }
}

/// Requests that may still come, as the time at which the bucket will be full again (a leaky bucket as a meter).
#[derive(Clone, Debug, Default)]
struct Bucket(Arc<Mutex<Mono>>);

/// The buckets of all callers.
pub struct Limits {
    clock: Clock,
    subject: Rate,
    address: Rate,
    subjects: Cache<[u8; 32], Bucket>,
    addresses: Cache<IpAddr, Bucket>,
    under_way: Arc<Semaphore>,
}

impl Limits {
    /// Buckets of these sizes.
    pub fn new(clock: Clock, subject: Rate, address: Rate) -> Self {
        let (subjects, addresses) = (Cache::new(KEPT), Cache::new(KEPT));
        Self { clock, subject, address, subjects, addresses, under_way: Arc::new(Semaphore::new(UNDER_WAY)) }
    }

    /// With no more than so many requests under way.
    #[must_use]
    pub fn at_most(mut self, under_way: usize) -> Self {
        self.under_way = Arc::new(Semaphore::new(under_way));
        self
    }

    /// Counts a request of a known subject; the time to wait if it is one too many.
    pub fn subject(&self, id: &[u8; 32]) -> Result<(), Duration> {
        self.take(&bucket(&self.subjects, id), self.subject)
    }

    /// Counts a request from `address` without a valid token.
    pub fn address(&self, address: IpAddr) -> Result<(), Duration> {
        self.take(&bucket(&self.addresses, &network(address)), self.address)
    }

    /// Takes a count back: the token was valid, or nobody said.
    pub fn give_back(&self, address: IpAddr) {
        let each = self.address.per / self.address.requests;
        let bucket = bucket(&self.addresses, &network(address));
        let mut full_at = bucket.0.lock().unwrap_or_else(PoisonError::into_inner);
        *full_at = *full_at - each;
    }

    /// A place among the requests under way; none while all are taken.
    pub fn enter(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.under_way).try_acquire_owned().ok()
    }

    fn take(&self, bucket: &Bucket, rate: Rate) -> Result<(), Duration> {
        let now = self.clock.mono();
        let each = rate.per / rate.requests;
        let mut full_at = bucket.0.lock().unwrap_or_else(PoisonError::into_inner);
        let base = (*full_at).max(now);
        let ahead = base.since(now) + each;
        if ahead > each * rate.requests {
            return Err(ahead.saturating_sub(each * rate.requests));
        }
        *full_at = base + each;
        Ok(())
    }
}

/// Refuses what would be one request too many under way, before anybody is asked who sends it.
pub async fn crowd(State(gateway): State<Arc<Gateway>>, request: Request, next: Next) -> Response {
    let Some(_place) = gateway.limits.enter() else {
        let text = "too many requests are under way here: try again, or another replica";
        return Problem::new(ErrorCode::Unavailable, text).retry_in(SOON).into_response();
    };
    next.run(request).await
}

fn bucket<K: std::hash::Hash + Eq + Clone>(cache: &Cache<K, Bucket>, key: &K) -> Bucket {
    cache.get(key).unwrap_or_else(|| {
        let bucket = Bucket::default();
        cache.insert(key.clone(), bucket.clone());
        bucket
    })
}

/// Whoever has an IPv6 address has 2^64 of them.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        let minute = Rate { requests: 3, per: Duration::from_mins(1) };
        Limits::new(Clock::system(), Rate { requests: 2, per: Duration::from_secs(1) }, minute)
    }

    #[tokio::test(start_paused = true)]
    async fn as_many_come_at_once_as_the_rate_says_and_then_one_in_each_share_of_the_time() {
        let limits = limits();
        let ann = [1; 32];
        assert!(limits.subject(&ann).is_ok() && limits.subject(&ann).is_ok());
        assert_eq!(limits.subject(&ann), Err(Duration::from_millis(500)));
        assert!(limits.subject(&[2; 32]).is_ok(), "another's bucket is another");
        tokio::time::advance(Duration::from_millis(500)).await;
        assert!(limits.subject(&ann).is_ok());
        assert!(limits.subject(&ann).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_gets_back_what_was_no_guess_and_a_network_is_one_address() {
        let limits = limits();
        let one: IpAddr = "2001:db8::1".parse().unwrap();
        let other: IpAddr = "2001:db8::2".parse().unwrap();
        for _ in 0..10 {
            assert!(limits.address(one).is_ok());
            limits.give_back(other);
        }
        limits.give_back(one);
        for address in [one, other, one] {
            assert!(limits.address(address).is_ok());
        }
        assert_eq!(limits.address(other), Err(Duration::from_secs(20)), "no more than it holds was given back");
        assert!(limits.address("2001:db9::1".parse().unwrap()).is_ok());
        assert_eq!(network("::ffff:192.0.2.1".parse().unwrap()), "192.0.2.1".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn rates_read_what_they_print() {
        for text in ["500/s", "100/m"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
        for bad in ["", "5", "0/s", "5/h", "-1/s", "2000000/s"] {
            assert!(bad.parse::<Rate>().is_err(), "{bad}");
        }
    }
}
