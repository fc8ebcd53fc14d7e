//! Limits the reviews of unverified tokens that one address can cause.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Clock;
use crate::domain::time::Mono;

/// Reviews of unverified tokens per address: one per interval on average, and a burst of a minute's worth. A client has a
/// new token about once an hour.
const REVIEW_INTERVAL: Duration = Duration::from_secs(1);
/// The burst.
pub const REVIEW_BURST: u32 = 60;

/// Addresses that are counted at once. While as many have recent reviews, a new address has none.
const MAX_ADDRESSES: usize = 1_000;

/// A token bucket for each address, stored as the time at which it will be full again.
pub struct ReviewLimit {
    clock: Clock,
    full_at: Mutex<HashMap<IpAddr, Mono>>,
}

impl ReviewLimit {
    /// A limit under which no address has requested a review yet.
    pub fn new(clock: Clock) -> Self {
        Self { clock, full_at: Mutex::default() }
    }

    /// Counts a review.
    ///
    /// # Errors
    /// On excess, the time until the next one is allowed.
    pub fn consume(&self, address: IpAddr) -> Result<(), Duration> {
        let now = self.clock.mono();
        let mut buckets = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MAX_ADDRESSES {
            buckets.retain(|_, full_at| *full_at > now);
        }
        let known = buckets.get(&address).copied();
        if known.is_none() && buckets.len() >= MAX_ADDRESSES {
            return Err(REVIEW_INTERVAL);
        }
        let full_at = known.unwrap_or(now).max(now) + REVIEW_INTERVAL;
        let excess = full_at.since(now).saturating_sub(REVIEW_INTERVAL * REVIEW_BURST);
        if !excess.is_zero() {
            return Err(excess);
        }
        buckets.insert(address, full_at);
        Ok(())
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
    async fn the_number_of_counted_addresses_is_bounded() {
        let limit = ReviewLimit::new(Clock::system());
        let address = |n: usize| IpAddr::from(u32::try_from(n).unwrap().to_be_bytes());
        let granted = (0..10 * MAX_ADDRESSES).filter(|n| limit.consume(address(*n)).is_ok()).count();
        assert_eq!(granted, MAX_ADDRESSES);
        tokio::time::advance(REVIEW_INTERVAL).await;
        assert!(limit.consume(address(10 * MAX_ADDRESSES)).is_ok(), "those that are full again are forgotten");
    }
}
