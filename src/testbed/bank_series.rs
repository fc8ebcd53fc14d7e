//! Series of a bank's outcomes, and their replay through health, breaker and forecast.
//!
//! The series are generated from a seed: the same seed gives the same outcomes. One in three is a health check, every 30
//! seconds; the others are reported payouts.

use std::time::Duration;

use crate::domain::breaker::{Breaker, BreakerState, CallClass, CallOutcome, Policy, Preset};
use crate::domain::health::{HealthMonitor, Thresholds};
use crate::domain::time::Mono;

/// Interval between two outcomes.
const INTERVAL: Duration = Duration::from_secs(10);
/// One outcome in so many is a health check.
const CHECKS: u64 = 3;

/// Kinds of series.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum BankSeries {
    /// Well for three hours, then ten percentage points worse every ten minutes.
    SlowDegradation,
    /// Well for three hours, then out within a moment, for twenty minutes.
    Cliff,
    /// Three in a hundred fail, at random, for a day.
    NoisyHealthy,
    /// One in two hundred fails at night and one in forty by day, with three times the latency; for a day.
    DailyPattern,
}

/// One outcome of a series.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct SeriesOutcome {
    /// When, since the start.
    pub at: Duration,
    /// Whether it was good.
    pub success: bool,
    /// How long it took.
    pub latency: Duration,
    /// Whether it is a health check; else a payout.
    pub is_check: bool,
}

impl BankSeries {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::SlowDegradation, Self::Cliff, Self::NoisyHealthy, Self::DailyPattern];

    /// The name, for tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SlowDegradation => "slow degradation",
            Self::Cliff => "cliff",
            Self::NoisyHealthy => "noisy but healthy",
            Self::DailyPattern => "daily pattern",
        }
    }

    /// Its length in hours.
    const fn hours(self) -> f64 {
        match self {
            Self::SlowDegradation => 4.5,
            Self::Cliff => 5.0,
            Self::NoisyHealthy | Self::DailyPattern => 24.0,
        }
    }

    /// Share of failures, and the usual latency in milliseconds, after so many hours.
    fn at(self, hours: f64) -> (f64, f64) {
        match self {
            Self::SlowDegradation => ((0.005 + 0.6 * (hours - 3.0)).clamp(0.005, 0.8), 120.0),
            Self::Cliff if (3.0..3.34).contains(&hours) => (1.0, 120.0),
            Self::Cliff => (0.005, 120.0),
            Self::NoisyHealthy => (0.03, 150.0),
            Self::DailyPattern => {
                // From midnight: least at night, most in the early afternoon.
                let day = 0.5 - 0.5 * ((hours - 2.0) / 24.0 * std::f64::consts::TAU).cos();
                (0.005 + 0.02 * day, 80.0 + 160.0 * day)
            }
        }
    }

    /// The outcomes for `seed`.
    pub fn outcomes(self, seed: u64) -> impl Iterator<Item = SeriesOutcome> {
        let mut draw = Draw(seed);
        (0u64..).map_while(move |n| {
            let at = INTERVAL * u32::try_from(n).ok()?;
            let hours = at.as_secs_f64() / 3600.0;
            if hours >= self.hours() {
                return None;
            }
            let (failing, millis) = self.at(hours);
            let success = draw.next() >= failing;
            // Half to one and a half of the usual latency.
            let latency = Duration::from_secs_f64(millis / 1e3 * (0.5 + draw.next()));
            Some(SeriesOutcome { at, success, latency, is_check: n.is_multiple_of(CHECKS) })
        })
    }
}

/// Uniform numbers from 0 to 1 (splitmix64).
struct Draw(u64);

impl Draw {
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// What a replay has shown.
#[derive(Clone, Debug)]
pub struct Replayed {
    /// When an outage was first predicted.
    pub warned: Option<Duration>,
    /// When the circuit first opened.
    pub opened: Option<Duration>,
    /// Outcomes after which an outage was predicted.
    pub warned_outcomes: usize,
    /// The health at the end, with the skill of its forecasts.
    pub monitor: HealthMonitor,
}

/// Replays outcomes through the health and the breaker (preset `Bank`) of one connection.
pub fn replay(outcomes: impl IntoIterator<Item = SeriesOutcome>) -> Replayed {
    let mut breaker = Breaker::new(Policy::preset(Preset::Bank), Mono::ZERO);
    let monitor = HealthMonitor::new(Thresholds::default());
    let mut replayed = Replayed { warned: None, opened: None, warned_outcomes: 0, monitor };
    for SeriesOutcome { at, success, latency, is_check } in outcomes {
        let now = Mono::ZERO + at;
        let health = if is_check {
            if let Ok(permit) = breaker.admit(CallClass::Probe, now) {
                let outcome = if success { CallOutcome::Success } else { CallOutcome::Failure };
                breaker.record(permit, outcome, latency, now);
            }
            replayed.monitor.observe_check(success, latency, now)
        } else {
            replayed.monitor.observe_outcome(success, Some(latency), now)
        };
        if health.became_critical() {
            breaker.trip_unhealthy(now);
        }
        if breaker.state() == BreakerState::Open {
            replayed.opened.get_or_insert(at);
        }
        if replayed.monitor.warning().outage {
            replayed.warned.get_or_insert(at);
            replayed.warned_outcomes += 1;
        }
    }
    replayed
}
