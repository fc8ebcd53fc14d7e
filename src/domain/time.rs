//! Two clocks with separate types: [`Mono`] for waiting and measuring, wall time for persisted instants.
//!
//! Durations are measured on the monotonic clock, so that a stepped wall clock has no effect on them. Persisted
//! instants are wall time. [`Now`] holds both, read once per decision.

use std::ops::{Add, Sub};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// A monotonic instant: nanoseconds since this process's clock started.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Mono(u64);

impl Mono {
    /// The instant at which the process's clock started.
    pub const ZERO: Self = Self(0);
    /// Later than every reachable instant.
    pub const MAX: Self = Self(u64::MAX);

    /// The instant `nanos` nanoseconds after the clock started.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the clock started.
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// Time since `earlier`; zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Mono {
    type Output = Self;
    fn add(self, d: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Mono {
    type Output = Self;
    fn sub(self, d: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// Both clocks, read at the same instant.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Now {
    /// Monotonic instant, for waiting and measuring.
    pub mono: Mono,
    /// Wall time, for persisted instants.
    pub wall: Timestamp,
}

impl Now {
    /// Converts a monotonic instant to wall time.
    pub fn wall_at(self, mono: Mono) -> Timestamp {
        let ahead = SignedDuration::try_from(mono.since(self.mono)).unwrap_or(SignedDuration::MAX);
        let behind = SignedDuration::try_from(self.mono.since(mono)).unwrap_or(SignedDuration::MAX);
        self.wall.checked_add(ahead).and_then(|t| t.checked_sub(behind)).unwrap_or(if mono > self.mono {
            Timestamp::MAX
        } else {
            Timestamp::MIN
        })
    }

    /// Converts a wall time to a monotonic instant; [`Mono::ZERO`] for instants before the process started.
    pub fn mono_at(self, wall: Timestamp) -> Mono {
        let ahead = wall.duration_since(self.wall);
        match Duration::try_from(ahead) {
            Ok(d) => self.mono + d,
            Err(_) => self.mono - ahead.unsigned_abs(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_and_mono_convert_both_ways() {
        let now = Now { mono: Mono::from_nanos(10_000_000_000), wall: "2026-01-01T00:00:00Z".parse().unwrap() };
        let later = now.mono + Duration::from_secs(5);
        assert_eq!(now.wall_at(later).to_string(), "2026-01-01T00:00:05Z");
        assert_eq!(now.mono_at(now.wall_at(later)), later);
        let earlier = now.mono - Duration::from_secs(3);
        assert_eq!(now.mono_at(now.wall_at(earlier)), earlier);
        assert_eq!(now.mono_at(now.wall - SignedDuration::from_secs(60)), Mono::ZERO);
    }
}
