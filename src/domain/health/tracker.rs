//! Health from consecutive check results.

use std::time::Duration;

use crate::domain::health::state::Health;

/// Thresholds of consecutive checks.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct Thresholds {
    /// Consecutive passed checks until `Healthy`; at least 1.
    pub healthy: u32,
    /// Consecutive failed checks until `Unhealthy`, or slow ones until `Degraded`; at least 1.
    pub unhealthy: u32,
    /// Latency above which a check is slow; `None` = latency is not evaluated.
    pub latency: Option<Duration>,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { healthy: 2, unhealthy: 3, latency: None }
    }
}

/// Counter of consecutive checks. The first passed check of an `Unknown` provider makes it `Healthy` at once.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct HealthTracker {
    thresholds: Thresholds,
    health: Health,
    failed: u32,
    /// Slow responses in a row.
    slow: u32,
    /// Fast responses in a row.
    good: u32,
    /// Responses in a row, fast or slow.
    answered: u32,
}

impl HealthTracker {
    /// A tracker without observations.
    pub fn new(thresholds: Thresholds) -> Self {
        Self { thresholds, ..Self::default() }
    }

    /// Replaces the thresholds; the counters are kept, and the next check uses the new thresholds.
    pub fn set_thresholds(&mut self, thresholds: Thresholds) {
        self.thresholds = thresholds;
    }

    /// Current health.
    pub fn health(&self) -> Health {
        self.health
    }

    /// Restores the health of a provider whose last checks had failed.
    pub fn restore_unhealthy(&mut self) {
        (self.health, self.failed) = (Health::Unhealthy, self.thresholds.unhealthy.max(1));
    }

    /// Makes an unhealthy provider healthy: for one that is checked by trials only, whose success ends the outage.
    pub fn end_outage(&mut self) {
        if self.health == Health::Unhealthy {
            (self.health, self.failed) = (Health::Healthy, 0);
        }
    }

    /// Records a check.
    pub fn observe(&mut self, success: bool, latency: Duration) {
        let slow = success && self.thresholds.latency.is_some_and(|limit| latency > limit);
        count(&mut self.failed, !success);
        count(&mut self.slow, slow);
        count(&mut self.good, success && !slow);
        count(&mut self.answered, success);
        let from = self.health;
        let (bad, good) = (self.thresholds.unhealthy.max(1), self.thresholds.healthy.max(1));
        // Any response counts towards the end of an outage, however fast and slow ones alternate; unless the last ones
        // were all fast, the provider is only `Degraded`.
        let recovered = from == Health::Unhealthy && self.answered >= good;
        self.health = if self.failed >= bad {
            Health::Unhealthy
        } else if self.good >= good {
            Health::Healthy
        } else if self.slow >= bad || recovered {
            Health::Degraded
        } else if from == Health::Unknown && self.answered > 0 {
            Health::Healthy
        } else {
            from
        };
    }
}

fn count(run: &mut u32, goes_on: bool) {
    *run = if goes_on { run.saturating_add(1) } else { 0 };
}

#[cfg(test)]
mod tests {
    use super::Health::{Degraded as D, Healthy as H, Unhealthy as U, Unknown as X};
    use super::*;

    const FAST: Duration = Duration::from_millis(100);
    const SLOW: Duration = Duration::from_millis(900);

    fn walk(checks: &[(bool, Duration)]) -> Vec<Health> {
        let mut tracker =
            HealthTracker::new(Thresholds { healthy: 2, unhealthy: 3, latency: Some(Duration::from_millis(500)) });
        checks
            .iter()
            .map(|&(ok, latency)| {
                tracker.observe(ok, latency);
                tracker.health()
            })
            .collect()
    }

    #[test]
    fn the_first_passed_check_makes_an_unknown_provider_healthy() {
        assert_eq!(walk(&[(true, FAST)]), [Health::Healthy]);
        assert_eq!(walk(&[(false, FAST), (true, FAST)]), [Health::Unknown, Health::Healthy]);
    }

    #[test]
    fn consecutive_failures_make_unhealthy_and_passes_healthy() {
        let f = (false, FAST);
        let t = (true, FAST);
        assert_eq!(walk(&[t, f, f, t, f, f, f, t, f, t, t]), [H, H, H, H, H, H, U, U, U, U, H]);
    }

    #[test]
    fn slow_responses_and_slow_recoveries_are_degraded() {
        let (f, t, s) = ((false, FAST), (true, FAST), (true, SLOW));
        assert_eq!(walk(&[t, s, s, s, t, t]), [H, H, H, D, D, H]);
        assert_eq!(walk(&[f, f, f, s, s]), [X, X, U, U, D]);
    }

    #[test]
    fn a_restored_outage_ends_like_any_other_and_a_trial_ends_it_at_once() {
        let mut tracker = HealthTracker::new(Thresholds::default());
        tracker.restore_unhealthy();
        for (ok, wanted) in [(true, U), (false, U), (true, U), (true, H)] {
            tracker.observe(ok, FAST);
            assert_eq!(tracker.health(), wanted);
        }
        tracker.restore_unhealthy();
        tracker.end_outage();
        assert_eq!(tracker.health(), H);
        tracker.observe(false, FAST);
        assert_eq!(tracker.health(), H, "one failure is no outage");
    }

    #[test]
    fn an_outage_ends_however_fast_and_slow_responses_alternate() {
        let (f, t, s) = ((false, FAST), (true, FAST), (true, SLOW));
        assert_eq!(walk(&[f, f, f, s, t, s, t, s]), [X, X, U, U, D, D, D, D]);
        assert_eq!(walk(&[f, f, f, t, s, t, t]), [X, X, U, U, D, D, H]);
        assert_eq!(walk(&[f, f, f, s, f, t, f, s, t]), [X, X, U, U, U, U, U, U, D], "a failure starts it over");
    }
}
