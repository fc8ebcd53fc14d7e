//! How a provider is doing, from what probes and calls reported. Says nothing about whether calls pass: that is the
//! breaker's; the two meet only where a policy says that the circuit opens when health turns critical or down.
//!
//! [`HealthTracker`] counts checks in a row; [`SuccessEstimate`] and [`LatencyWindow`] remember longer; [`RiskMeter`]
//! makes one number and one tier of them; [`Monitor`] is all of it together. A failure is one by the same
//! classification as the breaker's; ignored outcomes are not shown to health at all.
//!
//! Floats live in here only: whatever leaves is a whole number of millionths ([`Ppm`]), so that a decision made from it
//! replays bit for bit.

mod estimate;
mod latency;
mod monitor;
pub mod risk;
mod tracker;

use std::time::Duration;

pub use self::estimate::{HALF_LIFE, SuccessEstimate};
pub use self::latency::{LatencyWindow, REMEMBERED};
pub use self::monitor::{Assessment, Monitor, Observation};
pub use self::risk::{RiskMeter, RiskTier};
pub use self::tracker::{HealthChange, HealthTracker, Thresholds};

/// How a provider is doing, in one word.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default)]
pub enum Health {
    /// Answers, and in time.
    Healthy,
    /// Answers, but slowly or at a raised risk.
    Degraded,
    /// Fails its checks.
    Unhealthy,
    /// Nothing is known yet.
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

    /// Whether `self` is worse news than `other`: worse news reaches status at once.
    pub const fn is_worse_than(self, other: Self) -> bool {
        self.badness() > other.badness()
    }

    const fn badness(self) -> u8 {
        match self {
            Self::Healthy | Self::Unknown => 0,
            Self::Degraded => 1,
            Self::Unhealthy => 2,
        }
    }
}

/// A share between nothing and all, in whole millionths.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Ppm(u32);

impl Ppm {
    /// A share of one, rounded; what lies outside of nothing and all is brought there, and what is no number is nothing.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to 0..=1e6 just before; a NaN becomes 0 by the rules of `as`"
    )]
    fn of(share: f64) -> Self {
        Self((share * 1e6).round().clamp(0.0, 1e6) as u32)
    }

    /// The millionths.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// As a share of one: for gauges.
    pub fn share(self) -> f64 {
        f64::from(self.0) / 1e6
    }
}

/// What is left of one after `age`, when half is left after `half_life`.
fn halved(age: Duration, half_life: Duration) -> f64 {
    (-age.as_secs_f64() / half_life.as_secs_f64()).exp2()
}
