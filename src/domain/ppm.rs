//! Ratios in whole millionths, and exponential decay.

use std::time::Duration;

/// A ratio from 0 to 1 in parts per million.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Ppm(pub(in crate::domain) u32);

impl Ppm {
    /// The ratio 1.
    pub const ONE: Self = Self(1_000_000);

    /// `millionths` parts per million, at most a million.
    pub const fn new(millionths: u32) -> Self {
        Self(if millionths > 1_000_000 { 1_000_000 } else { millionths })
    }

    /// From a ratio, rounded and clamped to 0..=1; NaN is 0.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to 0..=1e6 just before; a NaN becomes 0 by the rules of `as`"
    )]
    pub(in crate::domain) fn of(share: f64) -> Self {
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
pub(in crate::domain) fn decayed(age: Duration, half_life: Duration) -> f64 {
    (-age.as_secs_f64() / half_life.as_secs_f64()).exp2()
}
