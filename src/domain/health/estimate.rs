//! Success-rate estimate: a Beta estimate with exponentially decaying evidence.
//!
//! Each outcome adds one to the successes or the failures, and both halve every 30 minutes; a prior of twenty
//! observations, nineteen of them successes, keeps a single early failure from looking like an outage. (The discounted
//! counts are those of discounted Thompson sampling, Raj & Kalyani 2017; a raw ratio must not be a Beta parameter: it
//! degenerates at one.)

use std::time::Duration;

use crate::domain::ppm::{Ppm, decayed};
use crate::domain::time::Mono;

/// Half-life of the evidence.
pub const HALF_LIFE: Duration = Duration::from_mins(30);
/// Prior successes and failures: 19 of 20 calls succeed.
const PRIOR: (f64, f64) = (19.0, 1.0);

/// Decaying estimate of the success rate.
#[derive(Copy, Clone, PartialEq, Debug, Default)]
pub struct SuccessEstimate {
    good: f64,
    bad: f64,
    at: Mono,
}

impl SuccessEstimate {
    /// Adds one outcome.
    pub fn add(&mut self, success: bool, now: Mono) {
        let decay = decayed(now.since(self.at), HALF_LIFE);
        self.good *= decay;
        self.bad *= decay;
        // A clock that steps back neither decays nor refreshes the evidence.
        self.at = self.at.max(now);
        if success {
            self.good += 1.0;
        } else {
            self.bad += 1.0;
        }
    }

    /// Success rate, prior included.
    pub fn success(&self, now: Mono) -> Ppm {
        let decay = decayed(now.since(self.at), HALF_LIFE);
        let (good, bad) = (self.good * decay + PRIOR.0, self.bad * decay + PRIOR.1);
        Ppm::of(good / (good + bad))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: u64) -> Mono {
        Mono::ZERO + Duration::from_secs(minutes * 60)
    }

    #[test]
    fn the_prior_success_rate_is_nineteen_in_twenty() {
        let estimate = SuccessEstimate::default();
        assert_eq!(estimate.success(at(0)).get(), 950_000);
    }

    #[test]
    fn evidence_halves_every_half_hour_and_the_estimate_returns_to_the_prior() {
        let mut estimate = SuccessEstimate::default();
        for _ in 0..20 {
            estimate.add(false, at(0));
        }
        assert_eq!(estimate.success(at(0)).get(), 475_000, "19 of 40");
        assert_eq!(estimate.success(at(30)).get(), 633_333, "19 of 30");
        assert_eq!(estimate.success(at(60 * 24)).get(), 950_000);
        assert_eq!(estimate.success(at(0)).get(), 475_000, "a clock that steps back changes nothing");
    }

    #[test]
    fn the_estimate_matches_a_sum_over_outcomes_weighted_by_age() {
        let mut estimate = SuccessEstimate::default();
        let outcomes: Vec<(u64, bool)> = (0..200).map(|n| (n * 7 % 90 + n, n % 5 != 0)).collect();
        let mut sorted = outcomes.clone();
        sorted.sort_unstable();
        for &(minute, good) in &sorted {
            estimate.add(good, at(minute));
        }
        let weight = |good: bool| -> f64 {
            let age = |m: u64| Duration::from_secs((300 - m) * 60).as_secs_f64() / HALF_LIFE.as_secs_f64();
            sorted.iter().filter(|o| o.1 == good).map(|o| 0.5f64.powf(age(o.0))).sum()
        };
        let (good, bad) = (weight(true) + 19.0, weight(false) + 1.0);
        assert!(Ppm::of(good / (good + bad)).get().abs_diff(estimate.success(at(300)).get()) <= 1);
    }

    #[test]
    fn one_failure_weighs_less_with_more_evidence() {
        let mut known = SuccessEstimate::default();
        for n in 0..240 {
            known.add(true, at(n));
        }
        let mut unknown = SuccessEstimate::default();
        known.add(false, at(240));
        unknown.add(false, at(240));
        assert!(known.success(at(240)) > unknown.success(at(240)));
    }
}
