//! Health state of one provider, updated by each outcome.

use std::time::Duration;

use crate::domain::health::estimate::SuccessEstimate;
use crate::domain::health::latency::LatencyWindow;
use crate::domain::health::outcomes::RecentOutcomes;
use crate::domain::health::ppm::Ppm;
use crate::domain::health::risk::{self, RiskMeter, RiskTier};
use crate::domain::health::state::Health;
use crate::domain::health::tracker::{HealthTracker, Thresholds};
use crate::domain::time::Mono;

/// Percentage of good outcomes in the last hour below which a provider is critical, and that from which it no longer
/// is: around one limit alone it would be critical at every other outcome …
const CRITICAL_SUCCESS_PERCENT: u32 = 75;
const RECOVERED_SUCCESS_PERCENT: u32 = 80;
/// … given at least this many outcomes. With fewer, a provider is never critical by its risk either: four failed calls
/// of a young connection are a matter of the breaker, which counts consecutive ones.
const CRITICAL_EVIDENCE: u32 = 20;

/// Health of a provider at one instant.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Assessment {
    /// Health.
    pub health: Health,
    /// Whether the checks pass, but slowly.
    pub slow: bool,
    /// Risk tier.
    pub tier: RiskTier,
    /// Risk score.
    pub risk: Ppm,
    /// Estimated success rate.
    pub success: Ppm,
    /// 95th percentile of the latency, once there is one.
    pub p95: Option<Duration>,
    /// Whether health is critical (of at least 20 outcomes in the last hour: risk above 0.8, or fewer than 75 % good) or
    /// `Unhealthy`.
    pub critical: bool,
}

/// Effect of an outcome.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct HealthUpdate {
    /// Before the outcome.
    pub before: Assessment,
    /// After it.
    pub after: Assessment,
}

impl HealthUpdate {
    /// Whether health became critical or `Unhealthy`: call `Breaker::trip_unhealthy` then. A critical provider that
    /// becomes `Unhealthy` counts again.
    pub fn became_critical(&self) -> bool {
        let unhealthy = |a: &Assessment| a.health == Health::Unhealthy;
        (self.after.critical && !self.before.critical) || (unhealthy(&self.after) && !unhealthy(&self.before))
    }
}

/// Health state of one provider.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct HealthMonitor {
    thresholds: Thresholds,
    tracker: HealthTracker,
    success: SuccessEstimate,
    outcomes: RecentOutcomes,
    latency: LatencyWindow,
    meter: RiskMeter,
    /// Whether too few outcomes of the last hour are good.
    few_succeed: bool,
    critical: bool,
}

impl HealthMonitor {
    /// A monitor without observations.
    pub fn new(thresholds: Thresholds) -> Self {
        Self { thresholds, tracker: HealthTracker::new(thresholds), ..Self::default() }
    }

    /// Replaces the thresholds; estimates and counters are kept.
    pub fn set_thresholds(&mut self, thresholds: Thresholds) {
        self.thresholds = thresholds;
        self.tracker.set_thresholds(thresholds);
    }

    /// Records a health check, or a call if checks are passive.
    pub fn observe_check(&mut self, success: bool, latency: Duration, now: Mono) -> HealthUpdate {
        self.observe(success, latency, true, now)
    }

    /// Records a call if checks are active: it updates estimates and risk, but not the consecutive checks.
    pub fn observe_call(&mut self, success: bool, latency: Duration, now: Mono) -> HealthUpdate {
        self.observe(success, latency, false, now)
    }

    fn observe(&mut self, success: bool, latency: Duration, check: bool, now: Mono) -> HealthUpdate {
        let before = self.assess(now);
        if check {
            self.tracker.observe(success, latency);
        }
        self.success.add(success, now);
        self.outcomes.add(success, now);
        // The duration of a failure reflects the timeout, not the provider.
        if success {
            self.latency.add(latency, now);
        }
        // The prior's one failure in twenty is a risk of 0.17: below the first threshold, gone after an hour of probes.
        let failures = risk::from_failures(self.success.success(now));
        let slowness = risk::from_latency(self.latency.p95(now), self.thresholds.latency);
        let enough = self.outcomes.totals(now).count() >= CRITICAL_EVIDENCE;
        let ceiling = if enough { RiskTier::Critical } else { RiskTier::High };
        self.meter.update(risk::combine(failures, slowness), ceiling, now);
        self.critical = self.evaluate_critical(now);
        HealthUpdate { before, after: self.assess(now) }
    }

    fn evaluate_critical(&mut self, now: Mono) -> bool {
        let recent = self.outcomes.totals(now);
        let limit = if self.few_succeed { RECOVERED_SUCCESS_PERCENT } else { CRITICAL_SUCCESS_PERCENT };
        self.few_succeed = recent.count() >= CRITICAL_EVIDENCE && recent.is_below(limit);
        self.few_succeed || self.tracker.health() == Health::Unhealthy || self.meter.tier() == RiskTier::Critical
    }

    /// Lets the tier follow the decaying risk while there are no calls. Health never becomes critical by this.
    pub fn decay(&mut self, now: Mono) {
        self.meter.decay(now);
        self.critical &= self.evaluate_critical(now);
    }

    /// When [`decay`](Self::decay) next lowers the tier, if there is no outcome before.
    pub fn next_tier_drop(&self, now: Mono) -> Option<Mono> {
        self.meter.next_tier_drop().map(|at| at.max(now))
    }

    /// Resets everything but the thresholds, for example after a change of the endpoint.
    pub fn reset(&mut self) {
        *self = Self::new(self.thresholds);
    }

    /// Restores the risk tier of a previous process. It does not trip the circuit, which is restored by itself.
    pub fn restore_risk(&mut self, tier: RiskTier, now: Mono) {
        self.meter.restore(tier, now);
        self.critical |= tier == RiskTier::Critical;
    }

    /// Restores that the last checks of a previous process had failed. It does not trip the circuit, which is restored by
    /// itself.
    pub fn restore_unhealthy(&mut self) {
        self.tracker.restore_unhealthy();
        self.critical = true;
    }

    /// Ends an outage at once, however few checks have passed since.
    pub fn end_outage(&mut self) {
        self.tracker.end_outage();
    }

    /// Current health.
    pub fn health(&self) -> Health {
        match self.tracker.health() {
            Health::Healthy if self.tier() >= RiskTier::Elevated => Health::Degraded,
            health => health,
        }
    }

    /// Risk tier, as of the last outcome or [`decay`](Self::decay).
    pub fn tier(&self) -> RiskTier {
        self.meter.tier()
    }

    /// Risk score at `now`, without further outcomes.
    pub fn risk(&self, now: Mono) -> Ppm {
        self.meter.risk_at(now)
    }

    /// Estimated share of calls that succeed at `now`.
    pub fn success(&self, now: Mono) -> Ppm {
        self.success.success(now)
    }

    /// Whether the checks pass, but slowly.
    pub fn slow(&self) -> bool {
        self.tracker.health() == Health::Degraded
    }

    /// Assessment at `now`.
    pub fn assess(&self, now: Mono) -> Assessment {
        Assessment {
            health: self.health(),
            slow: self.slow(),
            tier: self.tier(),
            risk: self.risk(now),
            success: self.success(now),
            p95: self.latency.p95(now),
            critical: self.critical,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAST: Duration = Duration::from_millis(50);
    const THRESHOLDS: Thresholds = Thresholds { healthy: 2, unhealthy: 3, latency: Some(Duration::from_millis(500)) };

    /// The `n`-th check of one every 30 s.
    fn at(n: u64) -> Mono {
        Mono::ZERO + Duration::from_secs(30 * n)
    }

    fn healthy_after(checks: u64) -> HealthMonitor {
        let mut monitor = HealthMonitor::new(THRESHOLDS);
        for n in 0..checks {
            let _ = monitor.observe_check(true, FAST, at(n));
        }
        monitor
    }

    #[test]
    fn health_is_unknown_with_low_risk_before_the_first_check() {
        let known = HealthMonitor::new(THRESHOLDS).assess(at(0));
        assert_eq!((known.health, known.tier, known.critical), (Health::Unknown, RiskTier::Low, false));
        let first = healthy_after(1).assess(at(0));
        assert_eq!((first.health, first.tier), (Health::Healthy, RiskTier::Low));
    }

    #[test]
    fn three_failed_checks_become_critical_once() {
        let mut monitor = healthy_after(200);
        let turns: Vec<bool> =
            (200..206).map(|n| monitor.observe_check(false, FAST, at(n)).became_critical()).collect();
        assert_eq!(turns, [false, false, true, false, false, false]);
        assert_eq!(monitor.assess(at(206)).health, Health::Unhealthy);
    }

    #[test]
    fn a_critical_provider_that_becomes_unhealthy_counts_again() {
        let mut monitor = healthy_after(10);
        for _ in 0..40 {
            let _ = monitor.observe_call(false, FAST, at(10));
        }
        let turns: Vec<bool> = (11..15).map(|n| monitor.observe_check(false, FAST, at(n)).became_critical()).collect();
        assert_eq!(turns, [false, false, true, false]);
    }

    #[test]
    fn failing_every_third_check_becomes_critical_but_not_unhealthy() {
        let mut monitor = healthy_after(200);
        let mut turned = 0;
        for n in 200..400 {
            let seen = monitor.observe_check(n % 3 != 0, FAST, at(n));
            assert_ne!(seen.after.health, Health::Unhealthy);
            turned += u32::from(seen.became_critical());
        }
        let known = monitor.assess(at(400));
        assert_eq!((turned, known.tier, known.health), (1, RiskTier::Critical, Health::Degraded));
    }

    #[test]
    fn calls_update_the_risk_but_not_the_consecutive_checks() {
        let mut monitor = healthy_after(10);
        let mut last = None;
        for _ in 0..40 {
            last = Some(monitor.observe_call(false, FAST, at(10)));
        }
        let known = last.unwrap().after;
        assert!(known.critical && known.success.get() < 750_000);
        assert_eq!(known.health, Health::Degraded, "not Unhealthy: the checks still pass");
    }

    #[test]
    fn fewer_than_twenty_outcomes_never_make_a_provider_critical() {
        let mut monitor = HealthMonitor::new(THRESHOLDS);
        for n in 1..20 {
            let seen = monitor.observe_call(false, FAST, at(n));
            assert!(!seen.became_critical() && !seen.after.critical, "outcome {n}");
            assert!(seen.after.tier <= RiskTier::High && seen.after.risk.get() <= 1_000_000);
        }
        assert_eq!(monitor.assess(at(19)).tier, RiskTier::High);
        let seen = monitor.observe_call(false, FAST, at(20));
        assert!(seen.became_critical() && seen.after.tier == RiskTier::Critical, "the twentieth does");
    }

    #[test]
    fn less_than_three_quarters_of_twenty_outcomes_are_critical_whatever_the_prior() {
        // Fourteen good ones, spread so that the estimate has the prior's 95 % in it, then six failures.
        for (failures, critical) in [(5, false), (6, true)] {
            let mut monitor = HealthMonitor::new(THRESHOLDS);
            for n in 0..20 - failures {
                let _ = monitor.observe_call(true, FAST, at(n));
            }
            for n in 20 - failures..20 {
                let _ = monitor.observe_call(false, FAST, at(n));
            }
            let seen = monitor.assess(at(20));
            assert!(seen.success.get() > 750_000, "the estimate alone would not show it: {:?}", seen.success);
            monitor.meter = RiskMeter::default();
            assert_eq!(monitor.evaluate_critical(at(20)), critical, "{failures} of twenty failed");
        }
    }

    #[test]
    fn slow_responses_are_forgotten_after_thirty_quiet_minutes() {
        let mut monitor = healthy_after(100);
        for _ in 0..6 {
            let _ = monitor.observe_call(true, Duration::from_secs(9), at(100));
        }
        assert_eq!(monitor.assess(at(100)).health, Health::Degraded);
        let quiet = at(100) + Duration::from_mins(30);
        let seen = monitor.observe_check(true, FAST, quiet);
        assert_eq!((seen.after.p95, seen.after.health, seen.after.tier), (None, Health::Healthy, RiskTier::Low));
    }

    #[test]
    fn slowness_alone_is_not_critical_and_failures_are_not_slow() {
        let mut monitor = healthy_after(100);
        for n in 100..300 {
            let _ = monitor.observe_call(true, Duration::from_secs(9), at(n));
        }
        let known = monitor.assess(at(299));
        assert!(!known.critical && (500_000..510_000).contains(&known.risk.get()), "{:?}", known.risk);
        assert_eq!((known.health, known.p95), (Health::Degraded, Some(Duration::from_secs(9))));
        let mut monitor = healthy_after(100);
        let _ = monitor.observe_call(false, Duration::from_secs(30), at(100));
        assert_eq!(monitor.assess(at(100)).p95, Some(FAST));
    }

    #[test]
    fn a_recovered_provider_becomes_healthy_and_can_become_critical_again() {
        let mut monitor = healthy_after(100);
        for n in 100..105 {
            let _ = monitor.observe_check(false, FAST, at(n));
        }
        let mut n = 105;
        while monitor.assess(at(n)).health != Health::Healthy {
            let _ = monitor.observe_check(true, FAST, at(n));
            n += 1;
            assert!(n < 105 + 120, "within an hour of good checks");
        }
        assert!(!monitor.assess(at(n)).critical);
        let again = (n..n + 3).map(|n| monitor.observe_check(false, FAST, at(n)).became_critical()).last();
        assert_eq!(again, Some(true));
    }
}
