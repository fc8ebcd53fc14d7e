//! Retry budget of a connection: limits retries to a share of the calls, so that a failing provider does not receive
//! several times the usual load.
//!
//! Within a window of one to two minutes retries are limited to a percentage of the calls, or to [`MIN_RETRIES`] if
//! that is more, because a connection with one call per minute must be able to retry it. This is Finagle's retry
//! budget; the window has two halves, so that it needs two pairs of counters and no list.

use std::time::Duration;

use crate::domain::time::Mono;

/// Retries that are always allowed within the window, unless the percentage is 0: enough for three calls with all of
/// their three retries.
pub const MIN_RETRIES: u32 = 10;

/// Half of the window.
const HALF_WINDOW: Duration = Duration::from_mins(1);

/// Counters of recent calls and retries.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct RetryBudget {
    since: Mono,
    calls: [u32; 2],
    retries: [u32; 2],
}

impl RetryBudget {
    /// Records the first attempt of a call.
    pub fn deposit(&mut self, now: Mono) {
        self.roll(now);
        self.calls[0] = self.calls[0].saturating_add(1);
    }

    /// Takes one retry from the budget; `false` if the budget is exhausted.
    pub fn try_withdraw(&mut self, percent: u8, now: Mono) -> bool {
        self.roll(now);
        let calls = u64::from(self.calls[0]) + u64::from(self.calls[1]);
        let earned = (calls * u64::from(percent) / 100).max(u64::from(MIN_RETRIES));
        let taken = u64::from(self.retries[0]) + u64::from(self.retries[1]);
        if percent == 0 || taken >= earned {
            return false;
        }
        self.retries[0] = self.retries[0].saturating_add(1);
        true
    }

    fn roll(&mut self, now: Mono) {
        let passed = now.since(self.since);
        if passed >= HALF_WINDOW * 2 {
            *self = Self { since: now, ..Self::default() };
        } else if passed >= HALF_WINDOW {
            let Self { calls: [calls, _], retries: [retries, _], since } = *self;
            *self = Self { since: since + HALF_WINDOW, calls: [0, calls], retries: [0, retries] };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(s: u64) -> Mono {
        Mono::ZERO + Duration::from_secs(s)
    }

    fn taken(budget: &mut RetryBudget, percent: u8, now: Mono) -> usize {
        (0..1000).take_while(|_| budget.try_withdraw(percent, now)).count()
    }

    #[test]
    fn the_budget_is_the_minimum_or_a_share_of_the_calls() {
        let mut budget = RetryBudget::default();
        budget.deposit(secs(1));
        assert_eq!(taken(&mut budget, 20, secs(1)), 10);
        for _ in 0..199 {
            budget.deposit(secs(2));
        }
        assert_eq!(taken(&mut budget, 20, secs(2)), 30, "40 of 200 calls, ten already taken");
    }

    #[test]
    fn zero_percent_allows_no_retry_and_a_hundred_one_per_call() {
        let mut budget = RetryBudget::default();
        for _ in 0..50 {
            budget.deposit(secs(1));
        }
        assert_eq!(taken(&mut budget, 0, secs(1)), 0);
        assert_eq!(taken(&mut budget, 100, secs(1)), 50);
    }

    #[test]
    fn old_calls_and_retries_leave_the_window() {
        let mut budget = RetryBudget::default();
        for _ in 0..100 {
            budget.deposit(secs(30));
        }
        assert_eq!(taken(&mut budget, 20, secs(30)), 20);
        assert_eq!(taken(&mut budget, 20, secs(89)), 0, "the older half is still counted");
        assert_eq!(taken(&mut budget, 20, secs(130)), 10, "both halves expired: the minimum applies");
    }
}
