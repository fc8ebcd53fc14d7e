//! The plain word about a provider: checks in a row, counted.

use std::time::Duration;

use super::Health;

/// When a check's result changes the word.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct Thresholds {
    /// So many good checks in a row make a bad provider healthy again; at least 1.
    pub healthy: u32,
    /// So many failed checks in a row make it unhealthy, so many slow ones degraded; at least 1.
    pub unhealthy: u32,
    /// A check that took longer is slow; `None` = none is.
    pub latency: Option<Duration>,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { healthy: 2, unhealthy: 3, latency: None }
    }
}

/// Counts checks in a row. The first good check of a provider nobody knew makes it healthy at once: there is no bad
/// history to make up for.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct HealthTracker {
    thresholds: Thresholds,
    health: Health,
    failed: u32,
    slow: u32,
    good: u32,
}

/// A change of the word.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct HealthChange {
    /// Before.
    pub from: Health,
    /// From now on.
    pub to: Health,
}

impl HealthTracker {
    /// Nothing known yet.
    pub fn new(thresholds: Thresholds) -> Self {
        Self { thresholds, ..Self::default() }
    }

    /// New thresholds; what was counted stays, and the next check is judged by them.
    pub fn set_thresholds(&mut self, thresholds: Thresholds) {
        self.thresholds = thresholds;
    }

    /// How the provider is doing.
    pub fn health(&self) -> Health {
        self.health
    }

    /// Forgets everything: another endpoint or credential is another provider.
    pub fn reset(&mut self) {
        *self = Self::new(self.thresholds);
    }

    /// Notes the end of a check. Returns the change of the word, if it changed.
    pub fn observe(&mut self, success: bool, latency: Duration) -> Option<HealthChange> {
        let slow = success && self.thresholds.latency.is_some_and(|limit| latency > limit);
        count(&mut self.failed, !success);
        count(&mut self.slow, slow);
        count(&mut self.good, success && !slow);
        let from = self.health;
        let (bad, good) = (self.thresholds.unhealthy.max(1), self.thresholds.healthy.max(1));
        // A slow answer is an answer: it ends an outage, but not as health.
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
        (from != self.health).then_some(HealthChange { from, to: self.health })
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
    fn the_first_good_check_of_an_unknown_provider_makes_it_healthy() {
        assert_eq!(walk(&[(true, FAST)]), [Health::Healthy]);
        assert_eq!(walk(&[(false, FAST), (true, FAST)]), [Health::Unknown, Health::Healthy]);
    }

    #[test]
    fn failures_in_a_row_make_it_unhealthy_and_good_checks_in_a_row_healthy_again() {
        let f = (false, FAST);
        let t = (true, FAST);
        assert_eq!(walk(&[t, f, f, t, f, f, f, t, f, t, t]), [H, H, H, H, H, H, U, U, U, U, H]);
    }

    #[test]
    fn slow_answers_in_a_row_degrade_and_a_slow_recovery_is_not_health() {
        let (f, t, s) = ((false, FAST), (true, FAST), (true, SLOW));
        assert_eq!(walk(&[t, s, s, s, t, t]), [H, H, H, D, D, H]);
        assert_eq!(walk(&[f, f, f, s, s]), [X, X, U, U, D]);
    }

    #[test]
    fn worse_news_is_told_from_better_news() {
        assert!(Health::Unhealthy.is_worse_than(Health::Degraded));
        assert!(Health::Degraded.is_worse_than(Health::Unknown));
        assert!(!Health::Unknown.is_worse_than(Health::Healthy));
    }
}
