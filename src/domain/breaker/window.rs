//! Sliding window for ratios: fixed size, running totals, no division on the hot path.
//!
//! By time: twelve buckets; the end of the current one is stored, so the hot path is a comparison and three additions.
//! By calls: one bit per call. A clock that steps back stays in the current bucket (resilience4j's time window moves
//! its head on a negative step and mislabels a bucket).

use std::time::Duration;

use crate::domain::breaker::policy::WindowSpec;
use crate::domain::time::Mono;

/// Number of buckets of a time window; 5 s each for the default of 60 s.
pub const BUCKETS: usize = 12;
/// Largest window by calls.
pub const MAX_CALLS: u16 = 1000;
const WORDS: usize = (MAX_CALLS as usize).div_ceil(64);

/// Counters of one bucket, or of the whole window.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct OutcomeCounts {
    pub(super) calls: u32,
    pub(super) failed: u32,
    pub(super) slow: u32,
}

impl OutcomeCounts {
    fn add(&mut self, failed: bool, slow: bool) {
        self.calls = self.calls.saturating_add(1);
        self.failed = self.failed.saturating_add(u32::from(failed));
        self.slow = self.slow.saturating_add(u32::from(slow));
    }

    fn remove(&mut self, other: Self) {
        self.calls = self.calls.saturating_sub(other.calls);
        self.failed = self.failed.saturating_sub(other.failed);
        self.slow = self.slow.saturating_sub(other.slow);
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum OutcomeWindow {
    Time(TimeBuckets),
    Calls(CallRing),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct TimeBuckets {
    bucket_nanos: u64,
    /// End of the current bucket, exclusive.
    end: Mono,
    head: usize,
    total: OutcomeCounts,
    buckets: [OutcomeCounts; BUCKETS],
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct CallRing {
    len: u16,
    next: u16,
    total: OutcomeCounts,
    failed: [u64; WORDS],
    slow: [u64; WORDS],
}

impl OutcomeWindow {
    pub(super) fn new(spec: WindowSpec, now: Mono) -> Self {
        match spec {
            WindowSpec::Time(length) => Self::Time(TimeBuckets::new(length, now)),
            WindowSpec::Calls(len) => Self::Calls(CallRing::new(len)),
        }
    }

    /// Adds one call.
    #[inline]
    pub(super) fn add(&mut self, failed: bool, slow: bool, now: Mono) {
        match self {
            Self::Time(w) => w.add(failed, slow, now),
            Self::Calls(w) => w.add(failed, slow),
        }
    }

    /// The counters as of the last `add`.
    #[inline]
    pub(super) fn total(&self) -> OutcomeCounts {
        match self {
            Self::Time(w) => w.total,
            Self::Calls(w) => w.total,
        }
    }

    /// Number of calls that fit into the window: upper bound of `minimum_calls`.
    pub(super) fn capacity(&self) -> u32 {
        match self {
            Self::Time(_) => u32::MAX,
            Self::Calls(w) => u32::from(w.len),
        }
    }
}

impl TimeBuckets {
    fn new(length: Duration, now: Mono) -> Self {
        let nanos = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
        let bucket_nanos = (nanos / BUCKETS as u64).max(1);
        Self {
            bucket_nanos,
            end: now + Duration::from_nanos(bucket_nanos),
            head: 0,
            total: OutcomeCounts::default(),
            buckets: [OutcomeCounts::default(); BUCKETS],
        }
    }

    #[inline]
    fn add(&mut self, failed: bool, slow: bool, now: Mono) {
        if now >= self.end {
            self.advance(now);
        }
        self.buckets[self.head].add(failed, slow);
        self.total.add(failed, slow);
    }

    /// Moves the head to the bucket of `now` and clears the buckets that left the window.
    #[cold]
    fn advance(&mut self, now: Mono) {
        let steps = now.since(self.end).as_nanos() / u128::from(self.bucket_nanos) + 1;
        if steps >= BUCKETS as u128 {
            self.buckets = [OutcomeCounts::default(); BUCKETS];
            self.total = OutcomeCounts::default();
        } else {
            for _ in 0..steps {
                self.head = (self.head + 1) % BUCKETS;
                self.total.remove(self.buckets[self.head]);
                self.buckets[self.head] = OutcomeCounts::default();
            }
        }
        let ahead = u64::try_from(steps).unwrap_or(u64::MAX).saturating_mul(self.bucket_nanos);
        self.end = self.end + Duration::from_nanos(ahead);
    }
}

impl CallRing {
    fn new(len: u16) -> Self {
        Self {
            len: len.clamp(1, MAX_CALLS),
            next: 0,
            total: OutcomeCounts::default(),
            failed: [0; WORDS],
            slow: [0; WORDS],
        }
    }

    #[inline]
    fn add(&mut self, failed: bool, slow: bool) {
        let (word, bit) = (usize::from(self.next >> 6), 1u64 << (self.next & 63));
        if self.total.calls == u32::from(self.len) {
            let gone = OutcomeCounts {
                calls: 1,
                failed: u32::from(self.failed[word] & bit != 0),
                slow: u32::from(self.slow[word] & bit != 0),
            };
            self.total.remove(gone);
        }
        set(&mut self.failed[word], bit, failed);
        set(&mut self.slow[word], bit, slow);
        self.total.add(failed, slow);
        self.next += 1;
        if self.next == self.len {
            self.next = 0;
        }
    }
}

fn set(word: &mut u64, bit: u64, on: bool) {
    if on {
        *word |= bit;
    } else {
        *word &= !bit;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn recount<'a>(calls: impl Iterator<Item = &'a (Mono, bool, bool)>) -> OutcomeCounts {
        let mut counts = OutcomeCounts::default();
        calls.for_each(|&(_, failed, slow)| counts.add(failed, slow));
        counts
    }

    proptest! {
        #[test]
        fn totals_of_a_time_window_match_a_recount(
            length in 12u64..2000,
            script in prop::collection::vec((0u64..300, any::<bool>(), any::<bool>()), 1..300),
        ) {
            let start = Mono::from_nanos(77);
            let mut window = OutcomeWindow::new(WindowSpec::Time(Duration::from_nanos(length)), start);
            let bucket = length / BUCKETS as u64;
            let mut calls = vec![];
            let mut now = start;
            for (wait, failed, slow) in script {
                // Mostly within a bucket or two, sometimes over the whole window.
                now = now + Duration::from_nanos(if wait > 280 { wait * 10 } else { wait / 8 });
                window.add(failed, slow, now);
                calls.push((now, failed, slow));
                let number = |at: Mono| u64::try_from(at.since(start).as_nanos()).unwrap() / bucket;
                let inside = calls.iter().filter(|c| number(c.0) + BUCKETS as u64 > number(now));
                prop_assert_eq!(window.total(), recount(inside));
            }
        }

        #[test]
        fn totals_of_a_call_window_match_a_recount(
            len in prop_oneof![1u16..8, 60u16..70, Just(MAX_CALLS)],
            script in prop::collection::vec((any::<bool>(), any::<bool>()), 1..300),
        ) {
            let mut window = OutcomeWindow::new(WindowSpec::Calls(len), Mono::ZERO);
            let mut calls = vec![];
            for (failed, slow) in script {
                window.add(failed, slow, Mono::ZERO);
                calls.push((Mono::ZERO, failed, slow));
                prop_assert_eq!(window.total(), recount(calls.iter().rev().take(usize::from(len))));
            }
        }
    }

    #[test]
    fn a_time_window_rolls_like_that_of_resilience4j() {
        // Their SlidingTimeWindowMetricsTest: a 5-second window keeps a call of 4 s ago and drops one of 5 s ago.
        let at = |s: u64| Mono::ZERO + Duration::from_secs(s);
        // This window always has twelve buckets: the same test in sixtieths.
        for (second, left) in [(55, 2), (60, 1)] {
            let mut window = OutcomeWindow::new(WindowSpec::Time(Duration::from_mins(1)), at(0));
            window.add(true, false, at(0));
            window.add(false, false, at(second));
            assert_eq!(window.total().calls, left);
        }
    }

    #[test]
    fn extreme_window_lengths_do_not_panic() {
        for spec in [WindowSpec::Time(Duration::ZERO), WindowSpec::Time(Duration::MAX), WindowSpec::Calls(0)] {
            let mut window = OutcomeWindow::new(spec, Mono::MAX);
            window.add(true, true, Mono::ZERO);
            window.add(true, true, Mono::MAX);
            assert!(window.total().calls >= 1);
        }
    }
}
