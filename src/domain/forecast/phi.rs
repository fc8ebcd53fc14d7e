//! Phi-accrual failure detector: how unlikely it is that a silent provider still responds.
//!
//! After Hayashibara et al. 2004, with the logistic approximation of the normal distribution that Akka uses. φ = 1 means
//! that a response is this late once in ten, φ = 8 once in 10⁸.

use std::time::Duration;

/// φ from which on a provider counts as silent.
pub const THRESHOLD: f64 = 8.0;
/// Intervals that are remembered.
const HISTORY: usize = 100;
/// φ is bounded: the logarithm of a probability that underflows would be infinite.
const LARGEST: f64 = 300.0;

/// φ of a response that is due after `mean` on average, with a standard deviation of `deviation`, and has not come after
/// `elapsed`; all in the same unit.
pub fn phi(elapsed: f64, mean: f64, deviation: f64) -> f64 {
    let y = (elapsed - mean) / deviation;
    let e = (-y * (1.597_6 + 0.070_566 * y * y)).exp();
    let phi = if elapsed > mean { -(e / (1.0 + e)).log10() } else { -(1.0 - 1.0 / (1.0 + e)).log10() };
    // Far below the mean `e` is infinite and the quotient 1; far above, the probability is 0 and its logarithm infinite.
    if phi.is_nan() { LARGEST } else { phi.clamp(0.0, LARGEST) }
}

/// The last intervals between two responses.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct IntervalHistory {
    /// Milliseconds; grows up to its capacity only.
    intervals: Vec<f32>,
    next: usize,
}

impl IntervalHistory {
    /// Assumes an interval of `mean` before there is one: two samples, a quarter below and above it.
    pub fn assuming(mean: Duration) -> Self {
        let mut history = Self::default();
        history.add(mean.mul_f64(0.75));
        history.add(mean.mul_f64(1.25));
        history
    }

    /// Adds an interval; the oldest of a full history is forgotten.
    #[allow(clippy::cast_possible_truncation, reason = "milliseconds to seven digits are enough")]
    pub fn add(&mut self, interval: Duration) {
        let millis = (interval.as_secs_f64() * 1e3) as f32;
        if self.intervals.len() < HISTORY {
            self.intervals.push(millis);
        } else {
            self.intervals[self.next] = millis;
        }
        self.next = (self.next + 1) % HISTORY;
    }

    /// Whether there is no interval yet.
    pub fn is_empty(&self) -> bool {
        self.intervals.is_empty()
    }

    /// Mean and variance, in milliseconds and their square.
    pub fn moments(&self) -> (f64, f64) {
        #[allow(clippy::cast_precision_loss, reason = "at most a hundred")]
        let n = self.intervals.len().max(1) as f64;
        let mean = self.intervals.iter().map(|one| f64::from(*one)).sum::<f64>() / n;
        let variance = self.intervals.iter().map(|one| (f64::from(*one) - mean).powi(2)).sum::<f64>() / n;
        (mean, variance)
    }

    /// Mean interval.
    pub fn mean(&self) -> Duration {
        Duration::try_from_secs_f64(self.moments().0 / 1e3).unwrap_or_default()
    }

    /// φ after `elapsed` without a response, of which `pause` is acceptable; 0 without a history. The deviation is at
    /// least a tenth of the mean: perfectly regular responses must not make the smallest delay suspicious.
    pub fn phi(&self, elapsed: Duration, pause: Duration) -> f64 {
        if self.is_empty() {
            return 0.0;
        }
        let (mean, variance) = self.moments();
        let deviation = variance.sqrt().max(mean / 10.0).max(1.0);
        phi(elapsed.as_secs_f64() * 1e3, mean + pause.as_secs_f64() * 1e3, deviation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phi_matches_the_published_points() {
        for (elapsed, expected) in
            [(0.0, 0.0), (500.0, 0.1), (1000.0, 0.3), (1200.0, 1.6), (1400.0, 4.7), (1600.0, 10.8), (1700.0, 15.3)]
        {
            let value = phi(elapsed, 1000.0, 100.0);
            assert!((value - expected).abs() <= 0.1, "{elapsed}: {value}");
        }
        assert!((phi(10.0, 0.0, 1.0) - 38.0).abs() <= 1.0, "{}", phi(10.0, 0.0, 1.0));
    }

    #[test]
    fn probes_every_five_minutes_reach_the_stated_values() {
        assert!((phi(420.0, 300.0, 30.0) - 4.7).abs() < 0.1);
        assert!((phi(450.0, 300.0, 30.0) - 7.3).abs() < 0.1);
    }

    #[test]
    fn phi_is_finite_however_long_the_silence() {
        assert!((phi(1e12, 1.0, 1.0) - LARGEST).abs() < 1e-9);
        assert!(phi(-1e12, 1.0, 1.0).abs() < 1e-9);
        assert!((phi(f64::MAX, 1.0, 1e-300) - LARGEST).abs() < 1e-9);
    }

    #[test]
    fn the_moments_of_a_history_match_the_published_ones() {
        let mut history = IntervalHistory::default();
        for millis in [100, 200, 125, 340, 130] {
            history.add(Duration::from_millis(millis));
        }
        let (mean, variance) = history.moments();
        assert!((mean - 179.0).abs() < 1e-3 && (variance - 7584.0).abs() < 1e-1, "{mean} {variance}");
    }

    #[test]
    fn a_full_history_forgets_its_oldest_interval() {
        let mut history = IntervalHistory::default();
        history.add(Duration::from_hours(1));
        for _ in 0..HISTORY {
            history.add(Duration::from_secs(30));
        }
        let (mean, variance) = history.moments();
        assert!((mean - 30_000.0).abs() < 1e-3 && variance < 1e-3);
    }

    #[test]
    fn the_first_estimate_is_two_samples_around_the_assumed_mean() {
        let history = IntervalHistory::assuming(Duration::from_secs(30));
        let (mean, variance) = history.moments();
        assert!((mean - 30_000.0).abs() < 1e-3 && (variance.sqrt() - 7_500.0).abs() < 1e-3);
        assert!(IntervalHistory::default().phi(Duration::from_hours(1), Duration::ZERO).abs() < 1e-9);
    }
}
