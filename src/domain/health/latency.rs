//! How long the provider takes: the 95th percentile of its last hundred answers.
//!
//! Nearest rank over a ring, exact, in bounded space; a sketch (t-digest, HDR) would save nothing at this size. Below
//! twenty answers there is no 95th percentile: it would be the slowest one, which is usually the first handshake.

use std::time::Duration;

/// Answers that are remembered.
pub const REMEMBERED: usize = 100;
/// One in twenty is what a 95th percentile is about.
const ENOUGH: usize = 20;

/// The last answers' latencies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LatencyWindow {
    /// Microseconds, up to an hour and eleven minutes: far beyond every timeout.
    micros: [u32; REMEMBERED],
    len: usize,
    next: usize,
}

impl Default for LatencyWindow {
    fn default() -> Self {
        Self { micros: [0; REMEMBERED], len: 0, next: 0 }
    }
}

impl LatencyWindow {
    /// Remembers one answer.
    pub fn add(&mut self, latency: Duration) {
        self.micros[self.next] = u32::try_from(latency.as_micros()).unwrap_or(u32::MAX);
        self.next = (self.next + 1) % REMEMBERED;
        self.len = (self.len + 1).min(REMEMBERED);
    }

    /// The 95th percentile; `None` below twenty answers.
    pub fn p95(&self) -> Option<Duration> {
        if self.len < ENOUGH {
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
    fn below_twenty_answers_there_is_no_percentile() {
        let mut window = LatencyWindow::default();
        for _ in 0..19 {
            window.add(Duration::from_millis(5));
            assert_eq!(window.p95(), None);
        }
        window.add(Duration::from_millis(900));
        assert_eq!(window.p95(), Some(Duration::from_millis(5)), "the nineteenth of twenty");
    }

    #[test]
    fn an_answer_beyond_all_measure_is_only_very_long() {
        let mut window = LatencyWindow::default();
        (0..20).for_each(|_| window.add(Duration::MAX));
        assert_eq!(window.p95(), Some(Duration::from_micros(u64::from(u32::MAX))));
    }

    proptest! {
        #[test]
        fn the_percentile_is_that_of_the_sorted_last_hundred(latencies in prop::collection::vec(0u32..5000, 20..250)) {
            let mut window = LatencyWindow::default();
            for &us in &latencies {
                window.add(Duration::from_micros(u64::from(us)));
            }
            let mut last: Vec<u32> = latencies.iter().rev().take(REMEMBERED).copied().collect();
            last.sort_unstable();
            let want = last[(last.len() * 95).div_ceil(100) - 1];
            prop_assert_eq!(window.p95(), Some(Duration::from_micros(u64::from(want))));
        }
    }
}
