//! Token buckets by key, in bounded memory. Pure.
//!
//! A bucket is stored as the instant at which it is full again (the generic cell rate algorithm, ITU-T I.371), so a full
//! bucket needs no entry. Only full buckets are removed: a key cannot get its tokens back early by the arrival of other
//! keys. While the capacity is used up by buckets that are not full, all further keys share one more bucket.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use crate::domain::time::Mono;

/// Time between two searches for full buckets: each looks at every entry.
const SWEEP_INTERVAL: Duration = Duration::from_millis(100);

/// The size of a bucket and how fast it fills.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct BucketLimit {
    /// Time in which one token is added.
    pub interval: Duration,
    /// Tokens of a full bucket.
    pub burst: u32,
}

/// The buckets of all keys, which have the same limit.
#[derive(Clone, Debug)]
pub struct TokenBuckets<K> {
    limit: BucketLimit,
    capacity: usize,
    full_at: HashMap<K, Mono>,
    /// The bucket of the keys beyond the capacity.
    shared_full_at: Mono,
    next_sweep: Mono,
}

impl<K: Hash + Eq + Clone> TokenBuckets<K> {
    /// Full buckets, of which at most `capacity` have an entry.
    pub fn new(limit: BucketLimit, capacity: usize) -> Self {
        Self { limit, capacity, full_at: HashMap::new(), shared_full_at: Mono::ZERO, next_sweep: Mono::ZERO }
    }

    /// Takes one token of `key`.
    ///
    /// # Errors
    /// If there is none: the time until there is one.
    pub fn take(&mut self, key: &K, now: Mono) -> Result<(), Duration> {
        self.wait(key, now)?;
        let next = |full_at: Mono| full_at.max(now) + self.limit.interval;
        if let Some(full_at) = self.full_at.get_mut(key) {
            *full_at = next(*full_at);
        } else if self.full_at.len() < self.capacity {
            self.full_at.insert(key.clone(), next(Mono::ZERO));
        } else {
            self.shared_full_at = next(self.shared_full_at);
        }
        Ok(())
    }

    /// Whether `key` has a token.
    ///
    /// # Errors
    /// If it has none: the time until it has one.
    pub fn wait(&mut self, key: &K, now: Mono) -> Result<(), Duration> {
        if self.full_at.len() >= self.capacity && now >= self.next_sweep && !self.full_at.contains_key(key) {
            self.full_at.retain(|_, full_at| *full_at > now);
            self.next_sweep = now + SWEEP_INTERVAL;
        }
        let full_at = match self.full_at.get(key) {
            Some(full_at) => *full_at,
            None if self.full_at.len() < self.capacity => Mono::ZERO,
            None => self.shared_full_at,
        };
        let ahead = full_at.max(now).since(now) + self.limit.interval;
        let excess = ahead.saturating_sub(self.limit.interval * self.limit.burst);
        if excess.is_zero() { Ok(()) } else { Err(excess) }
    }

    /// Returns a token of `key` that was taken in vain. One of the shared bucket is not returned.
    pub fn give_back(&mut self, key: &K) {
        if let Some(full_at) = self.full_at.get_mut(key) {
            *full_at = *full_at - self.limit.interval;
        }
    }

    /// Adopts that others have taken tokens of `key`: its bucket is full at `full_at` at the earliest. Ignored beyond the
    /// capacity.
    pub fn adopt(&mut self, key: &K, full_at: Mono) {
        if let Some(known) = self.full_at.get_mut(key) {
            *known = (*known).max(full_at);
        } else if self.full_at.len() < self.capacity {
            self.full_at.insert(key.clone(), full_at);
        }
    }

    /// Size and speed of the buckets.
    pub fn limit(&self) -> BucketLimit {
        self.limit
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.full_at.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.full_at.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn buckets(burst: u32, capacity: usize) -> TokenBuckets<usize> {
        TokenBuckets::new(BucketLimit { interval: SECOND, burst }, capacity)
    }

    fn at(seconds: u32) -> Mono {
        Mono::ZERO + SECOND * seconds
    }

    #[test]
    fn a_key_has_a_burst_and_then_one_token_per_interval() {
        let mut buckets = buckets(3, 10);
        assert_eq!((0..9).filter(|_| buckets.take(&1, at(5)).is_ok()).count(), 3);
        assert_eq!(buckets.take(&1, at(5)), Err(SECOND));
        assert_eq!(buckets.wait(&2, at(5)), Ok(()), "each key has its own");
        assert_eq!((0..9).filter(|_| buckets.take(&1, at(7)).is_ok()).count(), 2);
        buckets.give_back(&1);
        assert_eq!(buckets.take(&1, at(7)), Ok(()));
        for _ in 0..9 {
            buckets.give_back(&1);
        }
        assert_eq!((0..9).filter(|_| buckets.take(&1, at(7)).is_ok()).count(), 3, "no more than a full bucket");
    }

    #[test]
    fn what_others_took_is_adopted_and_never_given_back_by_an_older_state() {
        let mut buckets = buckets(3, 1);
        assert_eq!(buckets.take(&1, at(5)), Ok(()));
        buckets.adopt(&1, at(8));
        assert_eq!(buckets.take(&1, at(5)), Err(SECOND), "the others took the rest");
        buckets.adopt(&1, at(6));
        assert_eq!(buckets.take(&1, at(5)), Err(SECOND), "an older state");
        buckets.adopt(&2, at(99));
        assert_eq!(buckets.len(), 1, "bounded");
    }

    #[test]
    fn entries_are_bounded_and_no_key_regains_tokens_because_others_came() {
        let mut buckets = buckets(2, 100);
        assert_eq!((0..9).filter(|_| buckets.take(&0, at(1)).is_ok()).count(), 2);
        let granted = (1..10_000).filter(|key| buckets.take(key, at(1)).is_ok()).count();
        assert_eq!((granted, buckets.len()), (99 + 2, 100), "further keys share one bucket");
        assert!(buckets.take(&0, at(1)).is_err(), "its entry was not evicted");
        assert!(buckets.take(&10_000, at(2)).is_ok(), "full buckets make room");
        assert!(buckets.len() <= 100);
    }
}
