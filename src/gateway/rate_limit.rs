//! Rate limits: one token bucket per authenticated subject, and one per address for requests without a valid token.
//!
//! Each replica counts for itself. An address is charged only for requests without a valid token, before the
//! `TokenReview`; while its bucket is empty, no review is made for unknown tokens from there, so guessing is slow,
//! while callers whose token was valid within the hour are not affected. The number of concurrent requests of all
//! callers is limited here too.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quick_cache::sync::Cache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::clock::Clock;
use crate::domain::time::Mono;

/// Buckets of each kind in memory. An evicted one starts full again, which helps only an attacker with that many
/// addresses.
const MAX_BUCKETS: usize = 10_000;

/// Concurrent requests of all callers: each may hold a body of a megabyte, and waits a minute at most.
const MAX_CONCURRENT: usize = 1_024;

/// A rate limit: `requests` per `per`, with a burst of the same size.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Rate {
    /// Number of requests.
    pub requests: u32,
    /// Period.
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

/// A token bucket, stored as the time at which it will be full again (a leaky bucket as a meter).
#[derive(Clone, Debug, Default)]
struct Bucket(Arc<Mutex<Mono>>);

/// The rate limits of all callers, and the limit on concurrent requests.
pub struct RateLimits {
    clock: Clock,
    subject: Rate,
    address: Rate,
    subjects: Cache<[u8; 32], Bucket>,
    addresses: Cache<IpAddr, Bucket>,
    concurrent: Arc<Semaphore>,
}

impl RateLimits {
    /// Limits with these rates per subject and per address.
    pub fn new(clock: Clock, subject: Rate, address: Rate) -> Self {
        let (subjects, addresses) = (Cache::new(MAX_BUCKETS), Cache::new(MAX_BUCKETS));
        Self { clock, subject, address, subjects, addresses, concurrent: Arc::new(Semaphore::new(MAX_CONCURRENT)) }
    }

    /// Sets the maximum number of concurrent requests.
    #[must_use]
    pub fn with_max_concurrent(mut self, concurrent: usize) -> Self {
        self.concurrent = Arc::new(Semaphore::new(concurrent));
        self
    }

    /// Counts a request of an authenticated subject; on excess, the time until the next one is allowed.
    pub fn check_subject(&self, id: &[u8; 32]) -> Result<(), Duration> {
        self.consume(&bucket(&self.subjects, id), self.subject)
    }

    /// Counts a request from `address` without a valid token; on excess, the time until the next one is allowed.
    pub fn check_address(&self, address: IpAddr) -> Result<(), Duration> {
        self.consume(&bucket(&self.addresses, &network(address)), self.address)
    }

    /// Reverts [`Self::check_address`]: the token was valid, or the review failed.
    pub fn refund_address(&self, address: IpAddr) {
        let each = self.address.per / self.address.requests;
        let bucket = bucket(&self.addresses, &network(address));
        let mut full_at = bucket.0.lock().unwrap_or_else(PoisonError::into_inner);
        *full_at = *full_at - each;
    }

    /// A permit for a concurrent request; `None` if the maximum is reached.
    pub fn try_start(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.concurrent).try_acquire_owned().ok()
    }

    fn consume(&self, bucket: &Bucket, rate: Rate) -> Result<(), Duration> {
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

fn bucket<K: std::hash::Hash + Eq + Clone>(cache: &Cache<K, Bucket>, key: &K) -> Bucket {
    cache.get(key).unwrap_or_else(|| {
        let bucket = Bucket::default();
        cache.insert(key.clone(), bucket.clone());
        bucket
    })
}

/// The address that is limited: an IPv6 client usually has a whole /64 network, so that counts as one.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> RateLimits {
        let minute = Rate { requests: 3, per: Duration::from_mins(1) };
        RateLimits::new(Clock::system(), Rate { requests: 2, per: Duration::from_secs(1) }, minute)
    }

    #[tokio::test(start_paused = true)]
    async fn the_burst_equals_the_rate_and_then_requests_are_spaced_evenly() {
        let limits = limits();
        let caller = [1; 32];
        assert!(limits.check_subject(&caller).is_ok() && limits.check_subject(&caller).is_ok());
        assert_eq!(limits.check_subject(&caller), Err(Duration::from_millis(500)));
        assert!(limits.check_subject(&[2; 32]).is_ok(), "each subject has its own bucket");
        tokio::time::advance(Duration::from_millis(500)).await;
        assert!(limits.check_subject(&caller).is_ok());
        assert!(limits.check_subject(&caller).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn refunds_restore_an_address_bucket_and_a_network_is_one_address() {
        let limits = limits();
        let one: IpAddr = "2001:db8::1".parse().unwrap();
        let other: IpAddr = "2001:db8::2".parse().unwrap();
        for _ in 0..10 {
            assert!(limits.check_address(one).is_ok());
            limits.refund_address(other);
        }
        limits.refund_address(one);
        for address in [one, other, one] {
            assert!(limits.check_address(address).is_ok());
        }
        assert_eq!(
            limits.check_address(other),
            Err(Duration::from_secs(20)),
            "refunds do not exceed the bucket's size"
        );
        assert!(limits.check_address("2001:db9::1".parse().unwrap()).is_ok());
        assert_eq!(network("::ffff:192.0.2.1".parse().unwrap()), "192.0.2.1".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn rates_parse_what_they_print() {
        for text in ["500/s", "100/m"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
        for bad in ["", "5", "0/s", "5/h", "-1/s", "2000000/s"] {
            assert!(bad.parse::<Rate>().is_err(), "{bad}");
        }
    }
}
