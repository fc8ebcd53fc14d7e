//! The time of one call, shared by its candidates: each gets at most half of what is left, the last one all of it.

use std::time::Duration;

/// Deadline of a call with fallbacks, unless the caller sets one.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(3);
/// The longest deadline that a caller may set, and the limit of a call without one.
pub const MAX_DEADLINE: Duration = Duration::from_mins(1);

/// What is left of the time of one call.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct CallBudget {
    left: Duration,
    /// The longest time-out of one candidate.
    longest: Duration,
}

impl CallBudget {
    /// The budget of a call with `candidates` candidates. `total` is the called connection's own time-out, which
    /// applies if the caller sets no deadline and there is no fallback.
    pub(super) fn new(deadline: Option<Duration>, candidates: usize, total: Duration) -> Self {
        match deadline {
            Some(deadline) => Self { left: deadline.min(MAX_DEADLINE), longest: MAX_DEADLINE },
            None if candidates > 1 => Self { left: DEFAULT_DEADLINE, longest: MAX_DEADLINE },
            None => Self { left: MAX_DEADLINE, longest: total },
        }
    }

    /// Takes `used` from what is left.
    pub(super) fn spend(&mut self, used: Duration) {
        self.left = self.left.saturating_sub(used);
    }

    /// The time-out of the next of `waiting` candidates; `None` if nothing is left.
    pub(super) fn share(&self, waiting: usize) -> Option<Duration> {
        let share = if waiting > 1 { self.left / 2 } else { self.left };
        (!share.is_zero()).then(|| share.min(self.longest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOTAL: Duration = Duration::from_secs(30);

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn each_candidate_gets_half_of_what_is_left_and_the_last_all_of_it() {
        let mut budget = CallBudget::new(Some(seconds(8)), 3, TOTAL);
        assert_eq!(budget.share(3), Some(seconds(4)));
        budget.spend(seconds(4));
        assert_eq!(budget.share(2), Some(seconds(2)));
        budget.spend(seconds(1));
        assert_eq!(budget.share(1), Some(seconds(3)));
        budget.spend(seconds(4));
        assert_eq!(budget.share(1), None);
    }

    #[test]
    fn without_a_deadline_the_default_or_the_connections_own_timeout_applies() {
        assert_eq!(CallBudget::new(None, 2, TOTAL).share(2), Some(DEFAULT_DEADLINE / 2));
        assert_eq!(CallBudget::new(None, 1, TOTAL).share(1), Some(TOTAL));
        assert_eq!(CallBudget::new(None, 1, seconds(90)).share(1), Some(MAX_DEADLINE));
    }

    #[test]
    fn a_deadline_overrides_the_connections_own_timeout_up_to_the_maximum() {
        assert_eq!(CallBudget::new(Some(seconds(45)), 1, TOTAL).share(1), Some(seconds(45)));
        assert_eq!(CallBudget::new(Some(seconds(90)), 1, TOTAL).share(1), Some(MAX_DEADLINE));
    }
}
