//! Rate limits: one token bucket per authenticated user, and one per address for requests without a valid token.
//!
//! The buckets of users are those of one replica. Those of addresses and of consumers of events are shared: each replica
//! decides by its own buckets at once, charges the ledger with what it took a moment later, and adopts what others took
//! ([`crate::gateway::shared_rates`]), so that no request waits for the ledger, and none fails with it.
//!
//! A user is its name: tokens of one user, which differ in UID, groups and extra information, share a bucket. A consumer
//! has one bucket, whatever key it uses. An address is charged only for requests without a valid token, before the
//! `TokenReview`; while its bucket is empty, no review is made for unknown tokens from there, so guessing is slow,
//! while callers whose token was valid within the hour are not affected.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::clock::Clock;
use crate::domain::client_address::client_network;
use crate::domain::time::Mono;
use crate::domain::token_buckets::{BucketLimit, TokenBuckets};

/// Buckets of each kind that are not full. Beyond them, further users or addresses share one ([`TokenBuckets`]).
const MAX_BUCKETS: usize = 10_000;

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

impl From<Rate> for BucketLimit {
    fn from(rate: Rate) -> Self {
        Self { interval: rate.per / rate.requests, burst: rate.requests }
    }
}

/// Default rate of a consumer: 50 per minute, and 500 at once.
pub const CONSUMER_LIMIT: BucketLimit = BucketLimit { interval: Duration::from_millis(1_200), burst: 500 };

/// A bucket that replicas share.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum SharedBucket {
    /// Of a client address.
    Address(IpAddr),
    /// Of a consumer, by its ID.
    Consumer(i64),
}

/// The rate limits of all callers.
pub struct RateLimits {
    clock: Clock,
    /// By a hash of the user's name, which may be long.
    users: Mutex<TokenBuckets<[u8; 32]>>,
    addresses: Mutex<TokenBuckets<IpAddr>>,
    consumers: Mutex<TokenBuckets<i64>>,
    /// Tokens taken from shared buckets that the ledger is not charged with yet. Negative: it is charged with tokens that were
    /// given back since.
    taken: Mutex<HashMap<SharedBucket, i64>>,
}

impl RateLimits {
    /// Limits with these rates per user and per address.
    pub fn new(clock: Clock, user: Rate, address: Rate) -> Self {
        let users = Mutex::new(TokenBuckets::new(user.into(), MAX_BUCKETS));
        let addresses = Mutex::new(TokenBuckets::new(address.into(), MAX_BUCKETS));
        let consumers = Mutex::new(TokenBuckets::new(CONSUMER_LIMIT, MAX_BUCKETS));
        Self { clock, users, addresses, consumers, taken: Mutex::default() }
    }

    /// The same, with another limit of consumers.
    #[must_use]
    pub fn with_consumers(mut self, limit: BucketLimit) -> Self {
        self.consumers = Mutex::new(TokenBuckets::new(limit, MAX_BUCKETS));
        self
    }

    /// Counts a request of an authenticated user; on excess, the time until the next one is allowed.
    pub fn check_user(&self, user: &str) -> Result<(), Duration> {
        let now = self.clock.mono();
        lock(&self.users).take(&Sha256::digest(user).into(), now)
    }

    /// Counts a request from `address` without a valid token; on excess, the time until the next one is allowed.
    pub fn check_address(&self, address: IpAddr) -> Result<(), Duration> {
        let (now, network) = (self.clock.mono(), client_network(address));
        lock(&self.addresses).take(&network, now)?;
        self.note(SharedBucket::Address(network), 1);
        Ok(())
    }

    /// Reverts [`Self::check_address`]: the token was valid, or the review failed.
    pub fn refund_address(&self, address: IpAddr) {
        let network = client_network(address);
        lock(&self.addresses).give_back(&network);
        self.note(SharedBucket::Address(network), -1);
    }

    /// Counts a request of a consumer; on excess, the time until the next one is allowed.
    pub fn check_consumer(&self, consumer: i64) -> Result<(), Duration> {
        let now = self.clock.mono();
        lock(&self.consumers).take(&consumer, now)?;
        self.note(SharedBucket::Consumer(consumer), 1);
        Ok(())
    }

    fn note(&self, bucket: SharedBucket, tokens: i64) {
        let mut taken = lock(&self.taken);
        if let Some(noted) = taken.get_mut(&bucket) {
            *noted = noted.saturating_add(tokens);
        } else if taken.len() < MAX_BUCKETS {
            taken.insert(bucket, tokens);
        }
    }

    /// What was taken from shared buckets since the last call. What was given back after it was charged stays, and is set
    /// off against what is taken next.
    pub(super) fn take_noted(&self) -> Vec<(SharedBucket, u32)> {
        let mut taken = lock(&self.taken);
        let noted = taken.iter().filter_map(|(bucket, tokens)| Some((*bucket, u32::try_from(*tokens).ok()?)));
        let noted = noted.filter(|(_, tokens)| *tokens > 0).collect();
        taken.retain(|_, tokens| *tokens < 0);
        noted
    }

    /// The limit of a shared bucket.
    pub(super) fn shared_limit(&self, bucket: SharedBucket) -> BucketLimit {
        match bucket {
            SharedBucket::Address(_) => lock(&self.addresses).limit(),
            SharedBucket::Consumer(_) => lock(&self.consumers).limit(),
        }
    }

    /// Adopts when a shared bucket is full by what all replicas have taken.
    pub(super) fn adopt(&self, bucket: SharedBucket, full_at: Mono) {
        match bucket {
            SharedBucket::Address(network) => lock(&self.addresses).adopt(&network, full_at),
            SharedBucket::Consumer(id) => lock(&self.consumers).adopt(&id, full_at),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
        assert!(limits.check_user("ann").is_ok() && limits.check_user("ann").is_ok());
        assert_eq!(limits.check_user("ann"), Err(Duration::from_millis(500)));
        assert!(limits.check_user("bob").is_ok(), "each user has its own bucket");
        tokio::time::advance(Duration::from_millis(500)).await;
        assert!(limits.check_user("ann").is_ok());
        assert!(limits.check_user("ann").is_err());
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
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_addresses_evicts_no_bucket_and_stays_bounded() {
        let limits = limits();
        let guesser: IpAddr = "192.0.2.1".parse().unwrap();
        while limits.check_address(guesser).is_ok() {}
        let flood = |n: u32| IpAddr::from(n.to_be_bytes());
        let granted = (0..100_000).filter(|n| limits.check_address(flood(*n)).is_ok()).count();
        assert_eq!(granted, MAX_BUCKETS - 1 + 3, "one each while there is room, then one bucket for all others");
        assert!(limits.check_address(guesser).is_err(), "its bucket is still empty");
        assert_eq!(lock(&limits.addresses).len(), MAX_BUCKETS);
    }

    #[tokio::test(start_paused = true)]
    async fn the_ledger_is_charged_with_what_was_taken_and_not_given_back() {
        let limits = limits();
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        let bucket = SharedBucket::Address(address);
        assert!(limits.check_address(address).is_ok() && limits.check_address(address).is_ok());
        limits.refund_address(address);
        assert!(limits.check_consumer(7).is_ok());
        let noted = limits.take_noted();
        assert_eq!(noted.len(), 2);
        assert!(noted.contains(&(bucket, 1)) && noted.contains(&(SharedBucket::Consumer(7), 1)));
        // Given back after it was charged.
        limits.refund_address(address);
        assert_eq!(limits.take_noted(), []);
        assert!(limits.check_address(address).is_ok());
        assert_eq!(limits.take_noted(), [], "set off");
        assert!(limits.check_address(address).is_ok());
        assert_eq!(limits.take_noted(), [(bucket, 1)]);
        limits.adopt(SharedBucket::Consumer(7), limits.clock.mono() + CONSUMER_LIMIT.interval * CONSUMER_LIMIT.burst);
        assert!(limits.check_consumer(7).is_err(), "others took the rest");
        assert!(limits.check_consumer(8).is_ok());
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
