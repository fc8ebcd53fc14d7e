//! Whether many objects are new, so that their first statuses should come before good news of others.

use std::time::Duration;

use crate::domain::time::Mono;

/// Length of a period of [`Rollout`].
const ROLLOUT_PERIOD: Duration = Duration::from_secs(5);
/// First statuses in one or two periods that make a rollout: a few objects are no load worth a delay.
pub(super) const ROLLOUT_SIZE: u32 = 100;
/// For how long after an object's last write good news waits while others are new.
pub(super) const ROLLOUT_DELAY: Duration = Duration::from_mins(1);

/// Whether many objects get their first status now. Each write costs the API server time that the first statuses need,
/// and those are what a rollout waits for.
#[derive(Debug, Default)]
pub(super) struct Rollout {
    /// When the current period began.
    since: Mono,
    /// First statuses in it, and in the one before.
    now: u32,
    before: u32,
}

impl Rollout {
    /// Counts a first status.
    pub(super) fn add(&mut self, now: Mono) {
        self.advance(now);
        self.now = self.now.saturating_add(1);
    }

    /// Whether there is one.
    pub(super) fn is_running(&mut self, now: Mono) -> bool {
        self.advance(now);
        self.now.saturating_add(self.before) >= ROLLOUT_SIZE
    }

    fn advance(&mut self, now: Mono) {
        let passed = now.since(self.since);
        if passed >= ROLLOUT_PERIOD {
            self.before = if passed < 2 * ROLLOUT_PERIOD { self.now } else { 0 };
            (self.now, self.since) = (0, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollout_is_many_first_statuses_within_seconds() {
        let at = |secs| Mono::ZERO + Duration::from_secs(secs);
        let mut rollout = Rollout::default();
        (1..ROLLOUT_SIZE).for_each(|_| rollout.add(at(100)));
        assert!(!rollout.is_running(at(101)));
        rollout.add(at(101));
        assert!(rollout.is_running(at(101)));
        assert!(rollout.is_running(at(106)), "the period before counts");
        assert!(!rollout.is_running(at(112)), "and no longer");
    }
}
