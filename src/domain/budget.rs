//! How many retries a connection may add to its calls, so that a failing provider is not called several times as often
//! as a working one.
//!
//! Within a window of one to two minutes: a percentage of its calls, or [`FLOOR`] where that is more, because a
//! connection that makes one call a minute must be able to repeat it. The idea is Finagle's retry budget; the window is
//! two halves, so that it needs two pairs of numbers and no list.

use std::time::Duration;

use crate::domain::time::Mono;

/// So many retries are allowed within the window whatever the percentage comes to, unless it is 0: three calls, each
/// with all of its three retries.
pub const FLOOR: u32 = 10;

/// Half of the window.
const HALF: Duration = Duration::from_mins(1);

/// What was called and retried lately.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Budget {
    since: Mono,
    calls: [u32; 2],
    retries: [u32; 2],
}

impl Budget {
    /// Notes a call's first try.
    pub fn call(&mut self, now: Mono) {
        self.roll(now);
        self.calls[0] = self.calls[0].saturating_add(1);
    }

    /// Takes one retry out of the budget, if it is there.
    pub fn retry(&mut self, percent: u8, now: Mono) -> bool {
        self.roll(now);
        let calls = u64::from(self.calls[0]) + u64::from(self.calls[1]);
        let earned = (calls * u64::from(percent) / 100).max(u64::from(FLOOR));
        let taken = u64::from(self.retries[0]) + u64::from(self.retries[1]);
        if percent == 0 || taken >= earned {
            return false;
        }
        self.retries[0] = self.retries[0].saturating_add(1);
        true
    }

    fn roll(&mut self, now: Mono) {
        let passed = now.since(self.since);
        if passed >= HALF * 2 {
            *self = Self { since: now, ..Self::default() };
        } else if passed >= HALF {
            let Self { calls: [calls, _], retries: [retries, _], since } = *self;
            *self = Self { since: since + HALF, calls: [0, calls], retries: [0, retries] };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(s: u64) -> Mono {
        Mono::ZERO + Duration::from_secs(s)
    }

    fn taken(budget: &mut Budget, percent: u8, now: Mono) -> usize {
        (0..1000).take_while(|_| budget.retry(percent, now)).count()
    }

    #[test]
    fn a_quiet_connection_may_retry_and_a_busy_one_a_share_of_its_calls() {
        let mut budget = Budget::default();
        budget.call(secs(1));
        assert_eq!(taken(&mut budget, 20, secs(1)), 10);
        for _ in 0..199 {
            budget.call(secs(2));
        }
        assert_eq!(taken(&mut budget, 20, secs(2)), 30, "40 of 200 calls, ten of them taken before");
    }

    #[test]
    fn zero_percent_allows_none_and_a_hundred_one_per_call() {
        let mut budget = Budget::default();
        for _ in 0..50 {
            budget.call(secs(1));
        }
        assert_eq!(taken(&mut budget, 0, secs(1)), 0);
        assert_eq!(taken(&mut budget, 100, secs(1)), 50);
    }

    #[test]
    fn the_window_moves_on() {
        let mut budget = Budget::default();
        for _ in 0..100 {
            budget.call(secs(30));
        }
        assert_eq!(taken(&mut budget, 20, secs(30)), 20);
        assert_eq!(taken(&mut budget, 20, secs(89)), 0, "the older half still counts");
        assert_eq!(taken(&mut budget, 20, secs(130)), 10, "both are past: the floor again");
    }
}
