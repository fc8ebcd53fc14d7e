//! Health of a provider, from the results of probes and calls. It does not decide whether calls are admitted; the
//! breaker does. The two are connected only by the policy that opens the circuit when health becomes critical.
//!
//! [`HealthTracker`] counts consecutive checks; [`SuccessEstimate`], [`LatencyWindow`] and the counts of the last hour
//! have a longer memory;
//! [`RiskMeter`] derives the risk score and tier from them; [`HealthMonitor`] combines all of it. Failures are
//! classified as for the breaker; ignored outcomes are not reported to health.
//!
//! Floats are internal: public values are whole millionths ([`Ppm`]), so that decisions replay exactly.

mod estimate;
mod latency;
mod monitor;
mod outcomes;
pub mod risk;
mod tracker;

use std::time::Duration;

pub use self::estimate::{HALF_LIFE, SuccessEstimate};
pub use self::latency::{LATENCY_SAMPLES, LatencyWindow};
pub use self::monitor::{Assessment, HealthMonitor, HealthUpdate};
pub use self::risk::{RiskMeter, RiskTier};
pub use self::tracker::{HealthChange, HealthTracker, Thresholds};

/// Health of a provider.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default)]
pub enum Health {
    /// Checks pass in time.
    Healthy,
    /// Checks pass, but slowly or with an elevated risk.
    Degraded,
    /// Checks fail.
    Unhealthy,
    /// No check has completed yet.
    #[default]
    Unknown,
}

impl Health {
    /// The name, as in `status.health`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "Healthy",
            Self::Degraded => "Degraded",
            Self::Unhealthy => "Unhealthy",
            Self::Unknown => "Unknown",
        }
    }

    /// Whether `self` is worse than `other`; a worse health is written to status at once.
    pub const fn is_worse_than(self, other: Self) -> bool {
        self.severity() > other.severity()
    }

    const fn severity(self) -> u8 {
        match self {
            Self::Healthy | Self::Unknown => 0,
            Self::Degraded => 1,
            Self::Unhealthy => 2,
        }
    }
}

/// A ratio from 0 to 1 in parts per million.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Ppm(u32);

impl Ppm {
    /// From a ratio, rounded and clamped to 0..=1; NaN is 0.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to 0..=1e6 just before; a NaN becomes 0 by the rules of `as`"
    )]
    fn of(share: f64) -> Self {
        Self((share * 1e6).round().clamp(0.0, 1e6) as u32)
    }

    /// The parts per million.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// As a ratio from 0 to 1, for gauges.
    pub fn share(self) -> f64 {
        f64::from(self.0) / 1e6
    }
}

/// Exponential decay: the factor that is left after `age` with a half-life of `half_life`.
fn decayed(age: Duration, half_life: Duration) -> f64 {
    (-age.as_secs_f64() / half_life.as_secs_f64()).exp2()
}
