//! Latency percentile: the 95th percentile of the last hundred responses.
//!
//! Exact nearest rank over a ring buffer; a sketch (t-digest, HDR) would save nothing at this size. With fewer than
//! twenty responses there is no 95th percentile: it would be the slowest response, usually the first handshake.

use std::time::Duration;

/// Size of the ring buffer.
pub const LATENCY_SAMPLES: usize = 100;
/// Responses below which there is no 95th percentile.
const MIN_SAMPLES: usize = 20;

/// Latencies of the last responses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LatencyWindow {
    /// Microseconds, at most 71 minutes, which exceeds every timeout.
    micros: [u32; LATENCY_SAMPLES],
    len: usize,
    next: usize,
}

impl Default for LatencyWindow {
    fn default() -> Self {
        Self { micros: [0; LATENCY_SAMPLES], len: 0, next: 0 }
    }
}

impl LatencyWindow {
    /// Adds one response.
    pub fn add(&mut self, latency: Duration) {
        self.micros[self.next] = u32::try_from(latency.as_micros()).unwrap_or(u32::MAX);
        self.next = (self.next + 1) % LATENCY_SAMPLES;
        self.len = (self.len + 1).min(LATENCY_SAMPLES);
    }

    /// The 95th percentile; `None` with fewer than twenty responses.
    pub fn p95(&self) -> Option<Duration> {
        if self.len < MIN_SAMPLES {
            return None;
        }
        let mut sorted = self.micros;
        let rank = (self.len * 95).div_ceil(100) - 1;
        let (_, p95, _) = sorted[..self.len].select_nth_unstable(rank);
        Some(Duration::from_micros(u64::from(*p95)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn there_is_no_percentile_below_twenty_responses() {
        let mut window = LatencyWindow::default();
        for _ in 0..19 {
            window.add(Duration::from_millis(5));
            assert_eq!(window.p95(), None);
        }
        window.add(Duration::from_millis(900));
        assert_eq!(window.p95(), Some(Duration::from_millis(5)), "the nineteenth of twenty");
    }

    #[test]
    fn a_latency_beyond_the_range_is_saturated() {
        let mut window = LatencyWindow::default();
        (0..20).for_each(|_| window.add(Duration::MAX));
        assert_eq!(window.p95(), Some(Duration::from_micros(u64::from(u32::MAX))));
    }

    proptest! {
        #[test]
        fn the_percentile_matches_the_sorted_last_hundred(latencies in prop::collection::vec(0u32..5000, 20..250)) {
            let mut window = LatencyWindow::default();
            for &us in &latencies {
                window.add(Duration::from_micros(u64::from(us)));
            }
            let mut last: Vec<u32> = latencies.iter().rev().take(LATENCY_SAMPLES).copied().collect();
            last.sort_unstable();
            let want = last[(last.len() * 95).div_ceil(100) - 1];
            prop_assert_eq!(window.p95(), Some(Duration::from_micros(u64::from(want))));
        }
    }
}
