//! Exponential backoff with full jitter.
//!
//! Full jitter (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015): uniform between zero and the
//! doubled and capped step, so that clients that failed together do not retry together. The random number is a
//! parameter, so that tests and replays are deterministic.

use std::time::Duration;

/// Parameters of an exponential backoff.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct Backoff {
    /// Upper bound of the first delay.
    pub base: Duration,
    /// Upper bound of every delay.
    pub max: Duration,
}

impl Backoff {
    /// Upper bound of the delay before retry `attempt` (0 = the first retry): base · 2^attempt, at most `max`.
    pub fn ceiling(&self, attempt: u32) -> Duration {
        let doubled = 1u32.checked_shl(attempt).and_then(|f| self.base.checked_mul(f));
        doubled.unwrap_or(if self.base.is_zero() { Duration::ZERO } else { self.max }).min(self.max)
    }

    /// The delay before retry `attempt`; `random` is uniform over all of `u64`.
    pub fn delay(&self, attempt: u32, random: u64) -> Duration {
        let nanos = self.ceiling(attempt).as_nanos().min(u128::from(u64::MAX));
        Duration::from_nanos(u64::try_from((nanos * u128::from(random)) >> 64).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BACKOFF: Backoff = Backoff { base: Duration::from_secs(1), max: Duration::from_secs(30) };

    #[test]
    fn the_ceiling_doubles_up_to_the_cap() {
        let seconds: Vec<_> = (0..7).map(|n| BACKOFF.ceiling(n).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(BACKOFF.ceiling(u32::MAX), BACKOFF.max);
        assert_eq!(Backoff { base: Duration::ZERO, ..BACKOFF }.ceiling(99), Duration::ZERO);
    }

    #[test]
    fn the_delay_is_uniform_between_zero_and_the_ceiling() {
        assert_eq!(BACKOFF.delay(5, 0), Duration::ZERO);
        assert_eq!(BACKOFF.delay(5, u64::MAX / 2 + 1), Duration::from_secs(15));
        assert!(BACKOFF.delay(5, u64::MAX) > Duration::from_millis(29_999));
    }

    proptest! {
        #[test]
        fn no_delay_exceeds_its_ceiling(attempt: u32, random: u64) {
            prop_assert!(BACKOFF.delay(attempt, random) <= BACKOFF.ceiling(attempt));
        }
    }
}
