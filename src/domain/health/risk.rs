//! Risk that the next call fails, as a score and a tier.
//!
//! `risk = 1 − (1 − r_fail)(1 − ½ r_lat)(1 − r_phi)(1 − r_cusum)(1 − r_pred)`: a noisy-or of failures, latency, silence,
//! a change of the failure rate, and a predicted outage. It rises at once and decays with a half-life of five minutes; a
//! tier is left only 0.1 below its threshold (hysteresis), so that a score close to a threshold does not alternate between
//! tiers.

use std::time::Duration;

use crate::domain::ppm::{Ppm, decayed};
use crate::domain::time::Mono;

/// Half-life of the risk score.
pub const HALF_LIFE: Duration = Duration::from_mins(5);
/// Hysteresis: a tier is left this far below its threshold.
pub const HYSTERESIS: Ppm = Ppm(100_000);

/// Tiers of the risk score.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum RiskTier {
    /// At most 0.25.
    #[default]
    Low,
    /// Above 0.25.
    Elevated,
    /// Above 0.5.
    High,
    /// Above 0.8.
    Critical,
}

impl RiskTier {
    /// All tiers, lowest first.
    pub const ALL: [Self; 4] = [Self::Low, Self::Elevated, Self::High, Self::Critical];

    /// Score above which the tier is entered.
    const fn threshold(self) -> Ppm {
        match self {
            Self::Low => Ppm(0),
            Self::Elevated => Ppm(250_000),
            Self::High => Ppm(500_000),
            Self::Critical => Ppm(800_000),
        }
    }

    /// The tier for the score `risk`, coming from the tier `self`; a tier above `ceiling` is kept, but not entered.
    #[must_use]
    pub fn next(self, risk: Ppm, ceiling: Self) -> Self {
        let entered = Self::ALL.into_iter().rfind(|t| *t == Self::Low || risk > t.threshold()).unwrap_or_default();
        let entered = entered.min(ceiling);
        let kept = Self::ALL
            .into_iter()
            .rfind(|t| *t <= self && (*t == Self::Low || risk.get() + HYSTERESIS.get() >= t.threshold().get()));
        entered.max(kept.unwrap_or_default())
    }
}

/// Risk from failures: 0 up to a failure rate of 1 %, 1 from 25 %.
pub fn from_failures(success: Ppm) -> Ppm {
    ramp(f64::from(1_000_000 - success.get()), 10_000.0, 250_000.0)
}

/// Risk from latency: 0 up to the threshold, 1 from three times the threshold; 0 without a threshold.
pub fn from_latency(p95: Option<Duration>, threshold: Option<Duration>) -> Ppm {
    match (p95, threshold) {
        (Some(p95), Some(threshold)) if !threshold.is_zero() => {
            let limit = threshold.as_secs_f64();
            ramp(p95.as_secs_f64(), limit, 3.0 * limit)
        }
        _ => Ppm(0),
    }
}

/// The parts of the risk.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct RiskTerms {
    /// From failures: [`from_failures`].
    pub failures: Ppm,
    /// From latency: [`from_latency`]; counts half.
    pub latency: Ppm,
    /// From missing responses to health checks: φ of 8 is 1.
    pub silence: Ppm,
    /// From a change of the failure rate: at most a half.
    pub change: Ppm,
    /// From a predicted outage, by the skill of the forecasts.
    pub predicted: Ppm,
}

impl RiskTerms {
    /// The risk: that any of its parts comes true, as if they were independent.
    pub fn combined(self) -> Ppm {
        let Self { failures, latency, silence, change, predicted } = self;
        let parts = [failures.share(), latency.share() / 2.0, silence.share(), change.share(), predicted.share()];
        Ppm::of(1.0 - parts.into_iter().map(|part| 1.0 - part).product::<f64>())
    }
}

fn ramp(value: f64, none: f64, all: f64) -> Ppm {
    Ppm::of((value - none) / (all - none))
}

/// Risk score and tier over time.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct RiskMeter {
    risk: Ppm,
    tier: RiskTier,
    /// The highest tier that the evidence allows to enter.
    ceiling: RiskTier,
    at: Mono,
}

impl RiskMeter {
    /// Records a new value of the risk. Without enough evidence, no tier above `ceiling` is entered.
    pub fn update(&mut self, reading: Ppm, ceiling: RiskTier, now: Mono) {
        self.risk = self.risk_at(now).max(reading);
        self.ceiling = ceiling;
        self.tier = self.tier.next(self.risk, ceiling);
        self.at = self.at.max(now);
    }

    /// Restores the tier of a previous process with the upper bound of its score, which decays as usual.
    pub fn restore(&mut self, tier: RiskTier, now: Mono) {
        let upper = match tier {
            RiskTier::Low => return,
            RiskTier::Elevated => RiskTier::High.threshold(),
            RiskTier::High => RiskTier::Critical.threshold(),
            RiskTier::Critical => Ppm(1_000_000),
        };
        // The evidence was that process's.
        self.update(upper, RiskTier::Critical, now);
    }

    /// Risk score at `now`, without further values.
    pub fn risk_at(&self, now: Mono) -> Ppm {
        Ppm::of(self.risk.share() * decayed(now.since(self.at), HALF_LIFE))
    }

    /// Lets the tier follow the decaying score.
    pub fn decay(&mut self, now: Mono) {
        self.tier = self.tier.next(self.risk_at(now), self.ceiling);
    }

    /// When the tier is left by decay alone: the instant at which the score is below the threshold by the hysteresis.
    /// `None` at the lowest tier.
    pub fn next_tier_drop(&self) -> Option<Mono> {
        if self.tier == RiskTier::Low {
            return None;
        }
        let left_below = f64::from(self.tier.threshold().get() - HYSTERESIS.get()) / 1e6;
        let half_lives = (self.risk.share() / left_below).log2().max(0.0);
        // The score is rounded to whole millionths: 10 ms later it is certainly below.
        Some(self.at + HALF_LIFE.mul_f64(half_lives) + Duration::from_millis(10))
    }

    /// Tier as of the last value or [`decay`](Self::decay).
    pub fn tier(&self) -> RiskTier {
        self.tier
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_risk_follows_the_formula() {
        let percent = |p: u32| Ppm(p * 10_000);
        assert_eq!(from_failures(percent(100)), percent(0));
        assert_eq!(from_failures(percent(99)), percent(0));
        assert_eq!(from_failures(percent(87)), percent(50));
        assert_eq!(from_failures(percent(75)), percent(100));
        assert_eq!(from_failures(percent(0)), percent(100));
        let second = Duration::from_secs(1);
        assert_eq!(from_latency(Some(second), Some(second)), percent(0));
        assert_eq!(from_latency(Some(2 * second), Some(second)), percent(50));
        assert_eq!(from_latency(Some(9 * second), Some(second)), percent(100));
        assert_eq!(from_latency(Some(9 * second), None), percent(0), "no threshold, no risk");
        assert_eq!(from_latency(None, Some(second)), percent(0));
        assert_eq!(from_latency(Some(second), Some(Duration::ZERO)), percent(0));
        let combine = |failures, latency| RiskTerms { failures, latency, ..RiskTerms::default() }.combined();
        assert_eq!(combine(percent(50), percent(50)), Ppm(625_000));
        assert_eq!(combine(percent(0), percent(100)), percent(50), "latency alone is never more than half");
        assert_eq!(combine(percent(100), percent(0)), percent(100));
    }

    #[test]
    fn every_part_of_the_risk_counts_by_itself() {
        let half = Ppm(500_000);
        for (terms, risk) in [
            (RiskTerms { silence: half, ..RiskTerms::default() }, 500_000),
            (RiskTerms { change: half, ..RiskTerms::default() }, 500_000),
            (RiskTerms { predicted: half, ..RiskTerms::default() }, 500_000),
            (RiskTerms { silence: Ppm(1_000_000), ..RiskTerms::default() }, 1_000_000),
            (RiskTerms { failures: half, latency: half, silence: half, change: half, predicted: half }, 953_125),
            (RiskTerms::default(), 0),
        ] {
            assert_eq!(terms.combined(), Ppm(risk), "{terms:?}");
        }
    }

    #[test]
    fn a_tier_is_entered_above_its_threshold_and_left_with_hysteresis() {
        use RiskTier::{Critical, Elevated, High, Low};
        let walk = |risks: &[u32]| {
            let mut tier = Low;
            risks
                .iter()
                .map(|&r| {
                    tier = tier.next(Ppm(r * 1000), Critical);
                    tier
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(walk(&[250, 251, 200, 150, 149]), [Low, Elevated, Elevated, Elevated, Low]);
        assert_eq!(walk(&[801, 800, 700, 699, 400, 399]), [Critical, Critical, Critical, High, High, Elevated]);
        assert_eq!(walk(&[1000, 0]), [Critical, Low]);
        assert_eq!(walk(&[0, 1000, 450, 600, 850]), [Low, Critical, High, High, Critical]);
    }

    #[test]
    fn a_tier_above_the_ceiling_is_not_entered_but_kept() {
        let at = |s: u64| Mono::ZERO + Duration::from_secs(s);
        let mut meter = RiskMeter::default();
        meter.update(Ppm(1_000_000), RiskTier::High, at(0));
        assert_eq!((meter.tier(), meter.risk_at(at(0))), (RiskTier::High, Ppm(1_000_000)));
        meter.decay(at(1));
        assert_eq!(meter.tier(), RiskTier::High, "nor does decay enter it");
        meter.update(Ppm(1_000_000), RiskTier::Critical, at(2));
        meter.update(Ppm(0), RiskTier::High, at(3));
        assert_eq!(meter.tier(), RiskTier::Critical);
    }

    #[test]
    fn risk_rises_at_once_and_halves_in_five_minutes() {
        let at = |s: u64| Mono::ZERO + Duration::from_secs(s);
        let mut meter = RiskMeter::default();
        meter.update(Ppm(900_000), RiskTier::Critical, at(0));
        assert_eq!(meter.tier(), RiskTier::Critical);
        meter.update(Ppm(0), RiskTier::Critical, at(300));
        assert_eq!((meter.risk_at(at(300)), meter.tier()), (Ppm(450_000), RiskTier::High));
        meter.update(Ppm(0), RiskTier::Critical, at(600));
        assert_eq!((meter.risk_at(at(600)), meter.tier()), (Ppm(225_000), RiskTier::Elevated));
        meter.update(Ppm(950_000), RiskTier::Critical, at(601));
        assert_eq!(meter.risk_at(at(601)), Ppm(950_000));
        assert_eq!(meter.risk_at(at(0)), Ppm(950_000), "a clock that steps back lowers nothing");
    }

    #[test]
    fn a_restored_tier_is_the_same_tier_and_decays() {
        let at = |s: u64| Mono::ZERO + Duration::from_secs(s);
        for tier in RiskTier::ALL {
            let mut meter = RiskMeter::default();
            meter.restore(tier, at(0));
            assert_eq!(meter.tier(), tier);
            meter.update(Ppm(0), RiskTier::Critical, at(3600));
            assert_eq!(meter.tier(), RiskTier::Low);
        }
    }

    #[test]
    fn a_tier_is_left_by_decay_at_the_predicted_instant() {
        let mut meter = RiskMeter::default();
        meter.update(Ppm(1_000_000), RiskTier::Critical, Mono::ZERO + Duration::from_secs(7));
        let mut walk = Vec::new();
        while let Some(at) = meter.next_tier_drop() {
            let before = meter.tier();
            meter.decay(at - Duration::from_millis(20));
            assert_eq!(meter.tier(), before, "not sooner");
            meter.decay(at);
            assert!(meter.tier() < before, "{before:?}");
            walk.push((meter.tier(), at.since(Mono::ZERO).as_secs()));
        }
        // 1 fades to 0.7, 0.4 and 0.15 in 154, 397 and 821 seconds.
        assert_eq!(walk, [(RiskTier::High, 161), (RiskTier::Elevated, 403), (RiskTier::Low, 828)]);
    }

    proptest! {
        #[test]
        fn a_tier_is_never_below_that_of_the_score_alone(from in 0usize..4, risk in 0u32..=1_000_000) {
            let next = RiskTier::ALL[from].next(Ppm(risk), RiskTier::Critical);
            prop_assert!(next >= RiskTier::Low.next(Ppm(risk), RiskTier::Critical));
            prop_assert!(next == RiskTier::Low || risk + HYSTERESIS.get() >= next.threshold().get());
            prop_assert_eq!(next.next(Ppm(risk), RiskTier::Critical), next, "the same score again changes nothing");
        }
    }
}
