//! Latency percentile: the 95th percentile of the last hundred responses, none of them older than half an hour.
//!
//! The age matters where there are few calls: without it six slow responses would stay the 95th percentile through hours
//! without a call, until enough others have replaced them. Exact nearest rank over a ring buffer; a sketch (t-digest, HDR) would save nothing at this size. With fewer than
//! twenty responses there is no 95th percentile: it would be the slowest response, usually the first handshake.

use std::time::Duration;

use crate::domain::time::Mono;

/// Size of the ring buffer.
pub const LATENCY_SAMPLES: usize = 100;
/// Age at which a response is forgotten.
const MAX_AGE: Duration = Duration::from_mins(30);
/// Responses below which there is no 95th percentile.
const MIN_SAMPLES: usize = 20;

/// Latencies of the last responses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LatencyWindow {
    /// Microseconds, at most 71 minutes, which exceeds every timeout.
    micros: [u32; LATENCY_SAMPLES],
    /// When each response came, in whole seconds since the process's clock started.
    seconds: [u32; LATENCY_SAMPLES],
    len: usize,
    next: usize,
}

impl Default for LatencyWindow {
    fn default() -> Self {
        Self { micros: [0; LATENCY_SAMPLES], seconds: [0; LATENCY_SAMPLES], len: 0, next: 0 }
    }
}

impl LatencyWindow {
    /// Adds one response.
    pub fn add(&mut self, latency: Duration, now: Mono) {
        self.micros[self.next] = u32::try_from(latency.as_micros()).unwrap_or(u32::MAX);
        self.seconds[self.next] = whole_seconds(now);
        self.next = (self.next + 1) % LATENCY_SAMPLES;
        self.len = (self.len + 1).min(LATENCY_SAMPLES);
    }

    /// The 95th percentile; `None` with fewer than twenty responses.
    pub fn p95(&self, now: Mono) -> Option<Duration> {
        let (now, mut recent, mut count) = (whole_seconds(now), [0; LATENCY_SAMPLES], 0);
        for (micros, at) in self.micros[..self.len].iter().zip(&self.seconds) {
            if u64::from(now.saturating_sub(*at)) < MAX_AGE.as_secs() {
                recent[count] = *micros;
                count += 1;
            }
        }
        if count < MIN_SAMPLES {
            return None;
        }
        let rank = (count * 95).div_ceil(100) - 1;
        let (_, p95, _) = recent[..count].select_nth_unstable(rank);
        Some(Duration::from_micros(u64::from(*p95)))
    }
}

fn whole_seconds(at: Mono) -> u32 {
    u32::try_from(at.since(Mono::ZERO).as_secs()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn there_is_no_percentile_below_twenty_responses() {
        let mut window = LatencyWindow::default();
        for _ in 0..19 {
            window.add(Duration::from_millis(5), Mono::ZERO);
            assert_eq!(window.p95(Mono::ZERO), None);
        }
        window.add(Duration::from_millis(900), Mono::ZERO);
        assert_eq!(window.p95(Mono::ZERO), Some(Duration::from_millis(5)), "the nineteenth of twenty");
    }

    #[test]
    fn a_latency_beyond_the_range_is_saturated() {
        let mut window = LatencyWindow::default();
        (0..20).for_each(|_| window.add(Duration::MAX, Mono::ZERO));
        assert_eq!(window.p95(Mono::ZERO), Some(Duration::from_micros(u64::from(u32::MAX))));
    }

    #[test]
    fn thirty_quiet_minutes_after_six_slow_responses_forget_them() {
        let at = |seconds: u64| Mono::ZERO + Duration::from_secs(seconds);
        let mut window = LatencyWindow::default();
        for n in 0..94 {
            window.add(Duration::from_millis(5), at(n));
        }
        for _ in 0..6 {
            window.add(Duration::from_secs(9), at(94));
        }
        assert_eq!(window.p95(at(94)), Some(Duration::from_secs(9)));
        let quiet = at(94) + MAX_AGE;
        assert_eq!(window.p95(quiet), None);
        for _ in 0..20 {
            window.add(Duration::from_millis(5), quiet);
        }
        assert_eq!(window.p95(quiet), Some(Duration::from_millis(5)));
    }

    proptest! {
        #[test]
        fn the_percentile_matches_the_sorted_last_hundred(latencies in prop::collection::vec(0u32..5000, 20..250)) {
            let mut window = LatencyWindow::default();
            for &us in &latencies {
                window.add(Duration::from_micros(u64::from(us)), Mono::ZERO);
            }
            let mut last: Vec<u32> = latencies.iter().rev().take(LATENCY_SAMPLES).copied().collect();
            last.sort_unstable();
            let want = last[(last.len() * 95).div_ceil(100) - 1];
            prop_assert_eq!(window.p95(Mono::ZERO), Some(Duration::from_micros(u64::from(want))));
        }
    }
}
