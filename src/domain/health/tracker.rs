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
    slow: u32,
    good: u32,
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

    /// Records a check.
    pub fn observe(&mut self, success: bool, latency: Duration) {
        let slow = success && self.thresholds.latency.is_some_and(|limit| latency > limit);
        count(&mut self.failed, !success);
        count(&mut self.slow, slow);
        count(&mut self.good, success && !slow);
        let from = self.health;
        let (bad, good) = (self.thresholds.unhealthy.max(1), self.thresholds.healthy.max(1));
        // A slow response ends an outage, but the provider is only `Degraded`.
        let answered = self.good.saturating_add(self.slow);
        self.health = if self.failed >= bad {
            Health::Unhealthy
        } else if self.slow >= bad || (from == Health::Unhealthy && self.slow >= good) {
            Health::Degraded
        } else if self.good >= good || (from == Health::Unknown && answered > 0) {
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
}
