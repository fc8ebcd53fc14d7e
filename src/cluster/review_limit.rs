//! Limits the reviews that one client or one user can make the API server do.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use crate::clock::Clock;
use crate::domain::client_address::client_network;
use crate::domain::token_buckets::{BucketLimit, TokenBuckets};

/// Reviews of unverified tokens per address: one per interval on average, and a burst of a minute's worth. A client has a
/// new token about once an hour.
const REVIEW_INTERVAL: Duration = Duration::from_secs(1);
/// The burst.
pub const REVIEW_BURST: u32 = 60;

/// Addresses that are counted at once. Beyond them, further ones share one bucket.
const MAX_ADDRESSES: usize = 1_000;

/// Reviews of one user: of its tokens, which may be many, and of what it may do. The pods of a large deployment have a
/// token each, and ask for a few connections each, every ten seconds; after a restart all at once.
const USER_LIMIT: BucketLimit = BucketLimit { interval: Duration::from_millis(10), burst: 2_000 };

/// Concurrent reviews of one user: a quarter of all, so that no user keeps others waiting while the API server is slow.
pub(super) const MAX_USER_REVIEWS: usize = 16;

/// Users that are counted at once. Beyond them, further ones share one bucket.
const MAX_USERS: usize = 10_000;

/// Limits the reviews of unverified tokens by the client's address.
pub struct ReviewLimit {
    clock: Clock,
    buckets: Mutex<TokenBuckets<IpAddr>>,
}

impl ReviewLimit {
    /// A limit under which no address has requested a review yet.
    pub fn new(clock: Clock) -> Self {
        let limit = BucketLimit { interval: REVIEW_INTERVAL, burst: REVIEW_BURST };
        Self { clock, buckets: Mutex::new(TokenBuckets::new(limit, MAX_ADDRESSES)) }
    }

    /// Counts a review.
    ///
    /// # Errors
    /// On excess, the time until the next one is allowed.
    pub fn consume(&self, address: IpAddr) -> Result<(), Duration> {
        let now = self.clock.mono();
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner).take(&client_network(address), now)
    }
}

/// A user by its name alone: UID, groups and extra information differ between the tokens of one user.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct UserKey([u8; 32]);

impl UserKey {
    pub(super) fn new(user: &str) -> Self {
        Self(Sha256::digest(user).into())
    }
}

/// Limits the reviews by user, in number and in concurrency.
pub(super) struct UserReviewLimit {
    clock: Clock,
    buckets: Mutex<TokenBuckets<UserKey>>,
    /// The slots of users with a review in flight.
    slots: Mutex<HashMap<UserKey, Weak<Semaphore>>>,
}

impl UserReviewLimit {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, buckets: Mutex::new(TokenBuckets::new(USER_LIMIT, MAX_USERS)), slots: Mutex::default() }
    }

    /// Counts a review.
    ///
    /// # Errors
    /// On excess, the time until the next one is allowed.
    pub(super) fn consume(&self, user: UserKey) -> Result<(), Duration> {
        let now = self.clock.mono();
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner).take(&user, now)
    }

    /// The slots of the user's reviews.
    pub(super) fn slots(&self, user: UserKey) -> Arc<Semaphore> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = slots.get(&user).and_then(Weak::upgrade) {
            return own;
        }
        // The map has users with a review in flight; a search of it costs less than the review.
        slots.retain(|_, slots| slots.strong_count() > 0);
        let own = Arc::new(Semaphore::new(MAX_USER_REVIEWS));
        slots.insert(user, Arc::downgrade(&own));
        own
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_address_has_a_burst_and_then_one_review_a_second() {
        let limit = ReviewLimit::new(Clock::system());
        let peer: IpAddr = "10.0.0.7".parse().unwrap();
        let granted = (0..1_000).filter(|_| limit.consume(peer).is_ok()).count();
        assert_eq!(granted, usize::try_from(REVIEW_BURST).unwrap());
        assert_eq!(limit.consume(peer), Err(REVIEW_INTERVAL));
        tokio::time::advance(REVIEW_INTERVAL * 3).await;
        assert_eq!((0..10).filter(|_| limit.consume(peer).is_ok()).count(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn an_ipv6_network_is_one_address() {
        let limit = ReviewLimit::new(Clock::system());
        let address = |n: u64| IpAddr::from((0x2001_0db8_u128 << 96 | u128::from(n)).to_be_bytes());
        let granted = (0..1_000).filter(|n| limit.consume(address(*n)).is_ok()).count();
        assert_eq!(granted, usize::try_from(REVIEW_BURST).unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_beyond_those_that_are_counted_share_one_limit() {
        let limit = ReviewLimit::new(Clock::system());
        let address = |n: usize| IpAddr::from(u32::try_from(n).unwrap().to_be_bytes());
        let granted = (0..10 * MAX_ADDRESSES).filter(|n| limit.consume(address(*n)).is_ok()).count();
        assert_eq!(granted, MAX_ADDRESSES + usize::try_from(REVIEW_BURST).unwrap());
        tokio::time::advance(REVIEW_INTERVAL).await;
        assert!(limit.consume(address(10 * MAX_ADDRESSES)).is_ok(), "those that are full again are forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn slots_are_one_users_own_and_are_forgotten_when_unused() {
        let limit = UserReviewLimit::new(Clock::system());
        let [ann, bob] = ["ann", "bob"].map(UserKey::new);
        let first = limit.slots(ann);
        assert!(Arc::ptr_eq(&first, &limit.slots(ann)) && !Arc::ptr_eq(&first, &limit.slots(bob)));
        drop(first);
        drop(limit.slots(bob));
        assert_eq!(limit.slots.lock().unwrap().len(), 1);
    }
}
