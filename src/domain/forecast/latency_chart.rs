//! EWMA control chart of the latency: detects that responses have become slower, as opposed to varied.
//!
//! It watches the logarithm of the latency, smoothed as `z = λx + (1−λ)z`, and raises when `z` leaves
//! `μ + Lσ·√(λ/(2−λ)·(1−(1−λ)^(2i)))`; μ and σ are what was usual before.

use std::time::Duration;

/// Weight of a new response.
pub const LAMBDA: f64 = 0.2;
/// Width of the limits in standard deviations: a false signal in some 370 responses.
pub const WIDTH: f64 = 2.86;
/// Responses from which on there is a usual latency.
const LEARNING: u32 = 50;
/// Weight of a response in what is usual, once that is known.
const USUAL: f64 = 0.005;
/// The least standard deviation, of a logarithm: a tenth of the latency.
const LEAST_DEVIATION: f64 = 0.1;

/// Upper limit of the smoothed value after `count` responses, for a usual `mean` and `deviation`.
pub fn upper_limit(mean: f64, deviation: f64, count: u32) -> f64 {
    let kept = (1.0 - LAMBDA).powi(2 * i32::try_from(count).unwrap_or(i32::MAX / 2).min(10_000));
    mean + WIDTH * deviation * (LAMBDA / (2.0 - LAMBDA) * (1.0 - kept)).sqrt()
}

/// The chart of one bank.
#[derive(Copy, Clone, PartialEq, Debug, Default)]
pub struct LatencyChart {
    smoothed: f64,
    mean: f64,
    variance: f64,
    count: u32,
    /// Responses since the chart was last at the usual value.
    since_start: u32,
}

impl LatencyChart {
    /// Adds a response.
    pub fn add(&mut self, latency: Duration) {
        let value = latency.as_secs_f64().max(1e-6).ln();
        self.count = self.count.saturating_add(1);
        if self.count == 1 {
            (self.mean, self.smoothed) = (value, value);
            return;
        }
        self.smoothed = LAMBDA * value + (1.0 - LAMBDA) * self.smoothed;
        self.since_start = self.since_start.saturating_add(1);
        // Slow responses must not become usual while they are the signal.
        if !self.slower() {
            let weight = (1.0 / f64::from(self.count)).max(USUAL);
            let difference = value - self.mean;
            self.mean += weight * difference;
            self.variance = (1.0 - weight) * (self.variance + weight * difference * difference);
        }
    }

    /// Whether responses are slower than usual.
    pub fn slower(&self) -> bool {
        let deviation = self.variance.sqrt().max(LEAST_DEVIATION);
        self.count > LEARNING && self.smoothed > upper_limit(self.mean, deviation, self.since_start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_match_the_formula() {
        // λ/(2−λ) = 1/9: three standard deviations shrink to one.
        let far = upper_limit(2.0, 0.5, 1_000);
        assert!((far - (2.0 + 2.86 * 0.5 / 3.0)).abs() < 1e-12);
        let first = upper_limit(2.0, 0.5, 1);
        assert!((first - (2.0 + 2.86 * 0.5 * LAMBDA)).abs() < 1e-12, "after one response the limit is L·λ·σ");
    }

    /// Latencies around `millis`, a tenth more or less.
    fn around(millis: u64, count: u64) -> impl Iterator<Item = Duration> {
        (0..count).map(move |n| Duration::from_millis(millis * (90 + n * 7 % 21) / 100))
    }

    #[test]
    fn a_shift_of_the_latency_is_detected_and_variation_is_not() {
        let mut chart = LatencyChart::default();
        for latency in around(100, 2_000) {
            chart.add(latency);
            assert!(!chart.slower());
        }
        let detected = around(200, 20).position(|latency| {
            chart.add(latency);
            chart.slower()
        });
        assert!(detected.is_some_and(|n| n < 5), "{detected:?}");
        around(200, 500).for_each(|latency| chart.add(latency));
        assert!(chart.slower(), "slow responses do not become usual by being many");
        around(100, 30).for_each(|latency| chart.add(latency));
        assert!(!chart.slower());
    }

    #[test]
    fn the_first_responses_are_learned_not_judged() {
        let mut chart = LatencyChart::default();
        for latency in around(10, 5).chain(around(900, 40)) {
            chart.add(latency);
            assert!(!chart.slower());
        }
    }
}
