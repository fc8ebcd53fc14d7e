//! Bernoulli CUSUM: detects that calls fail more often than they used to.
//!
//! Each failure adds `ln(p1/p0)`, each success `ln((1−p1)/(1−p0))`, which is negative; the sum never falls below 0. It
//! reaches the alarm after few calls if the failure rate has become `p1`, and after thousands if it is still `p0`.

use std::time::Duration;

use crate::domain::ppm::{Ppm, decayed};
use crate::domain::time::Mono;

/// The sum at which the alarm is raised.
pub const ALARM: f64 = 5.0;
/// Half-life of the long-run failure rate.
const LONG_RUN: Duration = Duration::from_hours(24);
/// Bounds of the long-run failure rate: a bank that fails less often is not expected to fail less than this, and one
/// that always failed leaves nothing to detect.
const EXPECTED: (f64, f64) = (0.01, 0.18);
/// Failure rate to detect: five times the expected one, at least this.
const DETECTED: f64 = 0.1;

/// What one outcome adds.
#[derive(Copy, Clone, PartialEq, Debug)]
pub struct CusumSteps {
    /// Of a failure: positive.
    pub failure: f64,
    /// Of a success: negative.
    pub success: f64,
}

impl CusumSteps {
    /// To tell a failure rate of `detected` from one of `expected`.
    pub fn between(expected: f64, detected: f64) -> Self {
        Self { failure: (detected / expected).ln(), success: ((1.0 - detected) / (1.0 - expected)).ln() }
    }
}

/// A sum for fixed rates.
#[derive(Copy, Clone, PartialEq, Debug, Default)]
pub struct Cusum {
    sum: f64,
}

impl Cusum {
    /// Adds an outcome; returns the sum.
    pub fn add(&mut self, success: bool, steps: CusumSteps) -> f64 {
        self.sum = (self.sum + if success { steps.success } else { steps.failure }).max(0.0);
        self.sum
    }
}

/// Detects that one bank fails more often than in the long run.
#[derive(Copy, Clone, PartialEq, Debug, Default)]
pub struct ChangeDetector {
    sum: f64,
    /// Failures since the sum was last 0.
    failures: u32,
    alarmed: bool,
    good: f64,
    failed: f64,
    at: Mono,
}

impl ChangeDetector {
    /// Adds an outcome.
    pub fn add(&mut self, success: bool, now: Mono) {
        let expected = self.expected();
        let steps = CusumSteps::between(expected, (5.0 * expected).max(DETECTED));
        let mut cusum = Cusum { sum: self.sum };
        // Not above the alarm: after an outage it must not take as many successes as there were failures.
        self.sum = cusum.add(success, steps).min(ALARM);
        self.failures = if self.sum <= 0.0 { 0 } else { self.failures.saturating_add(u32::from(!success)) };
        // Off at half the sum: one success after the alarm does not end it.
        self.alarmed = self.sum >= ALARM || (self.alarmed && self.sum >= ALARM / 2.0);
        let kept = decayed(now.since(self.at), LONG_RUN);
        self.good = self.good * kept + f64::from(u8::from(success));
        self.failed = self.failed * kept + f64::from(u8::from(!success));
        self.at = self.at.max(now);
    }

    /// The long-run failure rate, with the same prior of nineteen in twenty as the success estimate.
    fn expected(&self) -> f64 {
        ((self.failed + 1.0) / (self.good + self.failed + 20.0)).clamp(EXPECTED.0, EXPECTED.1)
    }

    /// Whether the bank fails more often than it used to.
    pub fn alarmed(&self) -> bool {
        self.alarmed
    }

    /// The risk of the change: at most a half, which alone is no more than elevated. A single failure is no change.
    pub fn risk(&self) -> Ppm {
        if self.failures < 2 { Ppm::default() } else { Ppm::of(self.sum / ALARM / 2.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seeded uniform numbers from 0 to 1 (splitmix64).
    struct Draw(u64);

    impl Draw {
        #[allow(clippy::cast_precision_loss, reason = "53 bits fit")]
        fn next(&mut self) -> f64 {
            self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
        }
    }

    /// Mean number of calls until the sum is at `alarm`, when calls fail at `rate`.
    fn run_length(expected: f64, detected: f64, alarm: f64, rate: f64, runs: u32) -> f64 {
        let (steps, mut draw, mut calls) = (CusumSteps::between(expected, detected), Draw(7), 0u32);
        for _ in 0..runs {
            let mut cusum = Cusum::default();
            loop {
                calls += 1;
                if cusum.add(draw.next() >= rate, steps) >= alarm {
                    break;
                }
            }
        }
        f64::from(calls) / f64::from(runs)
    }

    #[test]
    fn the_steps_match_the_published_ones() {
        for (expected, detected, failure, success) in [
            (0.01, 0.1, 2.303, -0.0953),
            (0.02, 0.1, 1.609, -0.0852),
            (0.05, 0.2, 1.386, -0.1719),
            (0.02, 0.25, 2.526, -0.2675),
        ] {
            let steps = CusumSteps::between(expected, detected);
            assert!((steps.failure - failure).abs() < 6e-4 && (steps.success - success).abs() < 6e-5, "{steps:?}");
        }
    }

    #[test]
    fn run_lengths_match_the_published_table() {
        // (p0, p1, h, calls between false alarms, calls to detect p1, calls at 50 %, calls at 100 %)
        let table = [
            (0.01, 0.1, 4.0, 1_330.0, 26.0, 4.0, 2.0),
            (0.01, 0.1, 5.0, 4_920.0, 35.0, 6.0, 3.0),
            (0.02, 0.1, 4.0, 1_750.0, 42.0, 6.1, 3.0),
            (0.05, 0.2, 5.0, 2_620.0, 33.0, 8.6, 4.0),
            (0.02, 0.25, 4.0, 660.0, 9.6, 4.1, 2.0),
        ];
        for (expected, detected, alarm, false_alarm, detection, half, all) in table {
            for (rate, calls, runs, tolerance) in [
                (expected, false_alarm, 600, 0.15),
                (detected, detection, 4_000, 0.1),
                (0.5, half, 4_000, 0.1),
                (1.0, all, 1, 0.0),
            ] {
                let mean = run_length(expected, detected, alarm, rate, runs);
                assert!((mean - calls).abs() <= calls * tolerance + 1e-9, "{expected} {detected} {rate}: {mean}");
            }
        }
    }

    fn after(outcomes: impl IntoIterator<Item = bool>) -> ChangeDetector {
        let mut detector = ChangeDetector::default();
        for (n, success) in (0u64..).zip(outcomes) {
            detector.add(success, Mono::ZERO + Duration::from_secs(30 * n));
        }
        detector
    }

    #[test]
    fn three_failures_of_a_good_bank_are_a_change_and_one_is_not() {
        let good = std::iter::repeat_n(true, 500);
        let one = after(good.clone().chain([false]));
        assert!(!one.alarmed() && one.risk() == Ppm::default(), "nor a risk");
        assert!(!after(good.clone().chain([false, false])).alarmed());
        let changed = after(good.clone().chain([false; 3]));
        assert!(changed.alarmed());
        assert_eq!(changed.risk(), Ppm(500_000), "never more than a half");
        let recovered = after(good.chain([false; 3]).chain(std::iter::repeat_n(true, 40)));
        assert!(!recovered.alarmed() && recovered.risk() < Ppm(250_000), "{recovered:?}");
    }

    #[test]
    fn failures_at_the_usual_rate_are_no_change() {
        let mut draw = Draw(11);
        let mut detector = ChangeDetector::default();
        let mut alarms = 0;
        for n in 0..2_880u64 {
            detector.add(draw.next() >= 0.03, Mono::ZERO + Duration::from_secs(30 * n));
            alarms += u32::from(detector.alarmed());
        }
        assert!(alarms < 100, "{alarms} of 2880");
        assert!(after([false; 5]).alarmed(), "five failures are a change even of an unknown bank");
    }
}
