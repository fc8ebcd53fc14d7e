//! How likely the provider is to fail the next call, as one number and as a tier.
//!
//! `risk = 1 − (1 − r_fail)(1 − ½ r_lat)`: a noisy-or of failures and latency, to which silence, change detection and
//! prediction join as further factors. It rises at once and falls with a half-life of five minutes; a tier is left only
//! a tenth below the line where it is entered, so that a number that trembles on a line does not ring a bell each time.

use std::time::Duration;

use super::{Ppm, halved};
use crate::domain::time::Mono;

/// Risk that nothing confirms halves in this time.
pub const FALL: Duration = Duration::from_mins(5);
/// A tier is left this far below its line.
pub const HYSTERESIS: Ppm = Ppm(100_000);

/// The bands of risk.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum RiskTier {
    /// Nothing to see.
    #[default]
    Low,
    /// Above 0.25.
    Elevated,
    /// Above 0.5: warn.
    High,
    /// Above 0.8: payouts go elsewhere.
    Critical,
}

impl RiskTier {
    /// Every tier, lowest first.
    pub const ALL: [Self; 4] = [Self::Low, Self::Elevated, Self::High, Self::Critical];

    /// The name, as in `status.risk`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "Low",
            Self::Elevated => "Elevated",
            Self::High => "High",
            Self::Critical => "Critical",
        }
    }

    /// The line above which the tier begins.
    const fn line(self) -> Ppm {
        match self {
            Self::Low => Ppm(0),
            Self::Elevated => Ppm(250_000),
            Self::High => Ppm(500_000),
            Self::Critical => Ppm(800_000),
        }
    }

    /// The tier after the risk became `risk`, coming from `self`.
    #[must_use]
    pub fn next(self, risk: Ppm) -> Self {
        let entered = Self::ALL.into_iter().rfind(|t| *t == Self::Low || risk > t.line()).unwrap_or_default();
        let kept = Self::ALL
            .into_iter()
            .rfind(|t| *t <= self && (*t == Self::Low || risk.get() + HYSTERESIS.get() >= t.line().get()));
        entered.max(kept.unwrap_or_default())
    }
}

/// What a provider's failures say: nothing up to 1 %, all at 25 %.
pub fn from_failures(success: Ppm) -> Ppm {
    ramp(f64::from(1_000_000 - success.get()), 10_000.0, 250_000.0)
}

/// What its latency says: nothing up to the threshold, all at three times that. No threshold, no risk.
pub fn from_latency(p95: Option<Duration>, threshold: Option<Duration>) -> Ppm {
    match (p95, threshold) {
        (Some(p95), Some(threshold)) if !threshold.is_zero() => {
            let limit = threshold.as_secs_f64();
            ramp(p95.as_secs_f64(), limit, 3.0 * limit)
        }
        _ => Ppm(0),
    }
}

/// The parts as one.
pub fn combine(failures: Ppm, latency: Ppm) -> Ppm {
    Ppm::of(1.0 - (1.0 - failures.share()) * (1.0 - latency.share() / 2.0))
}

fn ramp(value: f64, none: f64, all: f64) -> Ppm {
    Ppm::of((value - none) / (all - none))
}

/// The number and the tier over time.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct RiskMeter {
    risk: Ppm,
    tier: RiskTier,
    at: Mono,
}

impl RiskMeter {
    /// Takes a new reading.
    pub fn update(&mut self, reading: Ppm, now: Mono) {
        self.risk = self.risk_at(now).max(reading);
        self.tier = self.tier.next(self.risk);
        self.at = self.at.max(now);
    }

    /// What a former process knew: at most the upper end of the band, which fades like any reading.
    pub fn recall(&mut self, tier: RiskTier, now: Mono) {
        let upper = match tier {
            RiskTier::Low => return,
            RiskTier::Elevated => RiskTier::High.line(),
            RiskTier::High => RiskTier::Critical.line(),
            RiskTier::Critical => Ppm(1_000_000),
        };
        self.update(upper, now);
    }

    /// The risk at `now`, were there no further reading.
    pub fn risk_at(&self, now: Mono) -> Ppm {
        Ppm::of(self.risk.share() * halved(now.since(self.at), FALL))
    }

    /// Lets the tier follow the risk that fades without a reading.
    pub fn settle(&mut self, now: Mono) {
        self.tier = self.tier.next(self.risk_at(now));
    }

    /// When the tier is left if nothing but time comes: the instant at which the fading risk is below its line by the
    /// hysteresis. None at the lowest.
    pub fn next_fall(&self) -> Option<Mono> {
        if self.tier == RiskTier::Low {
            return None;
        }
        let left_below = f64::from(self.tier.line().get() - HYSTERESIS.get()) / 1e6;
        let half_lives = (self.risk.share() / left_below).log2().max(0.0);
        // The number is rounded to whole millionths: a moment later it is surely below.
        Some(self.at + FALL.mul_f64(half_lives) + Duration::from_millis(10))
    }

    /// The tier as of the last reading, or the last time that it [settled](Self::settle).
    pub fn tier(&self) -> RiskTier {
        self.tier
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_parts_are_those_of_the_formula() {
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
        assert_eq!(combine(percent(50), percent(50)), Ppm(625_000));
        assert_eq!(combine(percent(0), percent(100)), percent(50), "latency alone is never more than half");
        assert_eq!(combine(percent(100), percent(0)), percent(100));
    }

    #[test]
    fn a_tier_is_entered_above_its_line_and_left_a_tenth_below() {
        use RiskTier::{Critical, Elevated, High, Low};
        let walk = |risks: &[u32]| {
            let mut tier = Low;
            risks
                .iter()
                .map(|&r| {
                    tier = tier.next(Ppm(r * 1000));
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
    fn risk_rises_at_once_and_falls_by_half_in_five_minutes() {
        let at = |s: u64| Mono::ZERO + Duration::from_secs(s);
        let mut meter = RiskMeter::default();
        meter.update(Ppm(900_000), at(0));
        assert_eq!(meter.tier(), RiskTier::Critical);
        meter.update(Ppm(0), at(300));
        assert_eq!((meter.risk_at(at(300)), meter.tier()), (Ppm(450_000), RiskTier::High));
        meter.update(Ppm(0), at(600));
        assert_eq!((meter.risk_at(at(600)), meter.tier()), (Ppm(225_000), RiskTier::Elevated));
        meter.update(Ppm(950_000), at(601));
        assert_eq!(meter.risk_at(at(601)), Ppm(950_000));
        assert_eq!(meter.risk_at(at(0)), Ppm(950_000), "a clock that steps back lowers nothing");
    }

    #[test]
    fn a_recalled_band_is_the_same_band_and_fades() {
        let at = |s: u64| Mono::ZERO + Duration::from_secs(s);
        for tier in RiskTier::ALL {
            let mut meter = RiskMeter::default();
            meter.recall(tier, at(0));
            assert_eq!(meter.tier(), tier);
            meter.update(Ppm(0), at(3600));
            assert_eq!(meter.tier(), RiskTier::Low);
        }
    }

    #[test]
    fn a_band_is_left_by_time_alone_at_the_instant_that_was_foretold() {
        let mut meter = RiskMeter::default();
        meter.update(Ppm(1_000_000), Mono::ZERO + Duration::from_secs(7));
        let mut walk = Vec::new();
        while let Some(at) = meter.next_fall() {
            let before = meter.tier();
            meter.settle(at - Duration::from_millis(20));
            assert_eq!(meter.tier(), before, "not sooner");
            meter.settle(at);
            assert!(meter.tier() < before, "{before:?}");
            walk.push((meter.tier(), at.since(Mono::ZERO).as_secs()));
        }
        // 1 fades to 0.7, 0.4 and 0.15 in 154, 397 and 821 seconds.
        assert_eq!(walk, [(RiskTier::High, 161), (RiskTier::Elevated, 403), (RiskTier::Low, 828)]);
    }

    proptest! {
        #[test]
        fn a_tier_never_lies_below_what_the_risk_alone_says(from in 0usize..4, risk in 0u32..=1_000_000) {
            let next = RiskTier::ALL[from].next(Ppm(risk));
            prop_assert!(next >= RiskTier::Low.next(Ppm(risk)));
            prop_assert!(next == RiskTier::Low || risk + HYSTERESIS.get() >= next.line().get());
            prop_assert_eq!(next.next(Ppm(risk)), next, "the same number again changes nothing");
        }
    }
}
