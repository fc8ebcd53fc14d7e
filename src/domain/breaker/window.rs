//! The sliding window that ratios are taken over: fixed size, running totals, no division while a bucket lasts.
//!
//! By time: twelve buckets; the current one's end is kept, so the hot path is a comparison and three additions. By
//! calls: one bit per call. A clock that steps back stays in the current bucket (resilience4j's time window moves its
//! head on a negative step and mislabels a bucket).

use std::time::Duration;

use super::WindowSpec;
use crate::domain::time::Mono;

/// Buckets of a time window. Twelve make 5 s steps of the default 60 s.
pub const BUCKETS: usize = 12;
/// The longest window by calls.
pub const MAX_CALLS: u16 = 1000;
const WORDS: usize = (MAX_CALLS as usize).div_ceil(64);

/// Counts of one bucket, or of all of them.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Counts {
    pub(super) calls: u32,
    pub(super) failed: u32,
    pub(super) slow: u32,
}

impl Counts {
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
pub(super) enum Window {
    Time(TimeWindow),
    Calls(CallWindow),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct TimeWindow {
    bucket_nanos: u64,
    /// The current bucket's end, exclusive.
    end: Mono,
    head: usize,
    total: Counts,
    buckets: [Counts; BUCKETS],
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct CallWindow {
    len: u16,
    next: u16,
    total: Counts,
    failed: [u64; WORDS],
    slow: [u64; WORDS],
}

impl Window {
    pub(super) fn new(spec: WindowSpec, now: Mono) -> Self {
        match spec {
            WindowSpec::Time(length) => Self::Time(TimeWindow::new(length, now)),
            WindowSpec::Calls(len) => Self::Calls(CallWindow::new(len)),
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

    /// The counts, as of the last `add`.
    #[inline]
    pub(super) fn total(&self) -> Counts {
        match self {
            Self::Time(w) => w.total,
            Self::Calls(w) => w.total,
        }
    }

    /// The calls the window can hold; more than that can never be asked for as a minimum.
    pub(super) fn capacity(&self) -> u32 {
        match self {
            Self::Time(_) => u32::MAX,
            Self::Calls(w) => u32::from(w.len),
        }
    }
}

impl TimeWindow {
    fn new(length: Duration, now: Mono) -> Self {
        let nanos = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
        let bucket_nanos = (nanos / BUCKETS as u64).max(1);
        Self {
            bucket_nanos,
            end: now + Duration::from_nanos(bucket_nanos),
            head: 0,
            total: Counts::default(),
            buckets: [Counts::default(); BUCKETS],
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

    /// Moves the head to the bucket that `now` falls into, forgetting what fell out of the window.
    #[cold]
    fn advance(&mut self, now: Mono) {
        let steps = now.since(self.end).as_nanos() / u128::from(self.bucket_nanos) + 1;
        if steps >= BUCKETS as u128 {
            self.buckets = [Counts::default(); BUCKETS];
            self.total = Counts::default();
        } else {
            for _ in 0..steps {
                self.head = (self.head + 1) % BUCKETS;
                self.total.remove(self.buckets[self.head]);
                self.buckets[self.head] = Counts::default();
            }
        }
        let ahead = u64::try_from(steps).unwrap_or(u64::MAX).saturating_mul(self.bucket_nanos);
        self.end = self.end + Duration::from_nanos(ahead);
    }
}

impl CallWindow {
    fn new(len: u16) -> Self {
        Self { len: len.clamp(1, MAX_CALLS), next: 0, total: Counts::default(), failed: [0; WORDS], slow: [0; WORDS] }
    }

    #[inline]
    fn add(&mut self, failed: bool, slow: bool) {
        let (word, bit) = (usize::from(self.next >> 6), 1u64 << (self.next & 63));
        if self.total.calls == u32::from(self.len) {
            let gone = Counts {
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

    fn recount<'a>(calls: impl Iterator<Item = &'a (Mono, bool, bool)>) -> Counts {
        let mut counts = Counts::default();
        calls.for_each(|&(_, failed, slow)| counts.add(failed, slow));
        counts
    }

    proptest! {
        #[test]
        fn the_running_totals_of_a_time_window_are_those_of_a_recount(
            length in 12u64..2000,
            script in prop::collection::vec((0u64..300, any::<bool>(), any::<bool>()), 1..300),
        ) {
            let start = Mono::from_nanos(77);
            let mut window = Window::new(WindowSpec::Time(Duration::from_nanos(length)), start);
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
        fn the_running_totals_of_a_call_window_are_those_of_a_recount(
            len in prop_oneof![1u16..8, 60u16..70, Just(MAX_CALLS)],
            script in prop::collection::vec((any::<bool>(), any::<bool>()), 1..300),
        ) {
            let mut window = Window::new(WindowSpec::Calls(len), Mono::ZERO);
            let mut calls = vec![];
            for (failed, slow) in script {
                window.add(failed, slow, Mono::ZERO);
                calls.push((Mono::ZERO, failed, slow));
                prop_assert_eq!(window.total(), recount(calls.iter().rev().take(usize::from(len))));
            }
        }
    }

    #[test]
    fn a_window_of_resilience4j_rolls_as_theirs_does() {
        // Their SlidingTimeWindowMetricsTest: a 5-second window keeps what is 4 s old and has lost what is 5 s old.
        let at = |s: u64| Mono::ZERO + Duration::from_secs(s);
        // Ours has twelve buckets whatever its length: the same in sixtieths.
        for (second, left) in [(55, 2), (60, 1)] {
            let mut window = Window::new(WindowSpec::Time(Duration::from_mins(1)), at(0));
            window.add(true, false, at(0));
            window.add(false, false, at(second));
            assert_eq!(window.total().calls, left);
        }
    }

    #[test]
    fn lengths_that_make_no_sense_are_still_windows() {
        for spec in [WindowSpec::Time(Duration::ZERO), WindowSpec::Time(Duration::MAX), WindowSpec::Calls(0)] {
            let mut window = Window::new(spec, Mono::MAX);
            window.add(true, true, Mono::ZERO);
            window.add(true, true, Mono::MAX);
            assert!(window.total().calls >= 1);
        }
    }
}
