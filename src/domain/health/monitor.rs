//! Everything known about one provider's health, brought up to date by each outcome.

use std::time::Duration;

use super::risk::{self, RiskMeter, RiskTier};
use super::{Health, HealthTracker, LatencyWindow, Ppm, SuccessEstimate, Thresholds};
use crate::domain::time::Mono;

/// Below this share of successes a provider is critical …
const CRITICAL_SUCCESS: Ppm = Ppm(750_000);
/// … if so many outcomes say so.
const CRITICAL_EVIDENCE: u32 = 20;

/// What is known after an outcome.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Assessment {
    /// The word.
    pub health: Health,
    /// Whether the checks answer, but slowly.
    pub slow: bool,
    /// The band of risk.
    pub tier: RiskTier,
    /// The risk itself.
    pub risk: Ppm,
    /// The estimated share of successes.
    pub success: Ppm,
    /// The 95th percentile of latency, once there is one.
    pub p95: Option<Duration>,
    /// Whether health is critical (risk above 0.8, or fewer than 75 % of at least 20 outcomes good) or down.
    pub critical: bool,
}

/// What an outcome changed.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Observation {
    /// Before the outcome.
    pub before: Assessment,
    /// After it.
    pub after: Assessment,
}

impl Observation {
    /// Whether health just turned critical or down: the moment for `Breaker::trip_unhealthy`. A provider that was
    /// critical already, and goes down, turns once more.
    pub fn turned_critical(&self) -> bool {
        let down = |a: &Assessment| a.health == Health::Unhealthy;
        (self.after.critical && !self.before.critical) || (down(&self.after) && !down(&self.before))
    }

    /// Whether status shows something else than before.
    pub fn shows(&self) -> bool {
        (self.before.health, self.before.tier) != (self.after.health, self.after.tier)
    }
}

/// One provider's health.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Monitor {
    thresholds: Thresholds,
    tracker: HealthTracker,
    success: SuccessEstimate,
    latency: LatencyWindow,
    meter: RiskMeter,
    critical: bool,
}

impl Monitor {
    /// Nothing known yet.
    pub fn new(thresholds: Thresholds) -> Self {
        Self { thresholds, tracker: HealthTracker::new(thresholds), ..Self::default() }
    }

    /// New thresholds; what was learnt stays.
    pub fn set_thresholds(&mut self, thresholds: Thresholds) {
        self.thresholds = thresholds;
        self.tracker.set_thresholds(thresholds);
    }

    /// Notes the end of a health check, or of a real call where checks are passive.
    pub fn observe_check(&mut self, success: bool, latency: Duration, now: Mono) -> Observation {
        self.observe(success, latency, true, now)
    }

    /// Notes the end of a real call where checks are active: it moves estimates and risk, but the checks in a row stay
    /// those of the checks.
    pub fn observe_call(&mut self, success: bool, latency: Duration, now: Mono) -> Observation {
        self.observe(success, latency, false, now)
    }

    fn observe(&mut self, success: bool, latency: Duration, check: bool, now: Mono) -> Observation {
        let before = self.assess(now);
        if check {
            self.tracker.observe(success, latency);
        }
        self.success.add(success, now);
        // How long a failure took says how patient we are, not how fast the provider is.
        if success {
            self.latency.add(latency);
        }
        // The prior's one failure in twenty is a risk of 0.17: well below the first line, gone after an hour of probes.
        let failures = risk::from_failures(self.success.success(now));
        let slowness = risk::from_latency(self.latency.p95(), self.thresholds.latency);
        self.meter.update(risk::combine(failures, slowness), now);
        self.critical = self.is_critical(now);
        Observation { before, after: self.assess(now) }
    }

    fn is_critical(&self, now: Mono) -> bool {
        let few_succeed = self.success.success(now) < CRITICAL_SUCCESS;
        self.tracker.health() == Health::Unhealthy
            || self.meter.tier() == RiskTier::Critical
            || (few_succeed && self.success.evidence(now) >= CRITICAL_EVIDENCE)
    }

    /// Lets the band follow the risk that fades while nobody calls. It turns nothing critical.
    pub fn settle(&mut self, now: Mono) {
        self.meter.settle(now);
        self.critical &= self.is_critical(now);
    }

    /// When [`settle`](Self::settle) next lowers the band, if nothing is observed before.
    pub fn next_fall(&self, now: Mono) -> Option<Mono> {
        self.meter.next_fall().map(|at| at.max(now))
    }

    /// Another endpoint is another provider: forgets everything but the thresholds.
    pub fn reset(&mut self) {
        *self = Self::new(self.thresholds);
    }

    /// Takes up what a former process knew of the risk. It turns nothing: the circuit was restored as well.
    pub fn recall(&mut self, tier: RiskTier, now: Mono) {
        self.meter.recall(tier, now);
        self.critical |= tier == RiskTier::Critical;
    }

    /// The word.
    pub fn health(&self) -> Health {
        match self.tracker.health() {
            Health::Healthy if self.tier() >= RiskTier::Elevated => Health::Degraded,
            health => health,
        }
    }

    /// The band of risk, as of the last outcome or [`settle`](Self::settle).
    pub fn tier(&self) -> RiskTier {
        self.meter.tier()
    }

    /// The risk at `now`, were there no further outcome.
    pub fn risk(&self, now: Mono) -> Ppm {
        self.meter.risk_at(now)
    }

    /// Whether the checks answer, but slowly.
    pub fn slow(&self) -> bool {
        self.tracker.health() == Health::Degraded
    }

    /// What is known at `now`.
    pub fn assess(&self, now: Mono) -> Assessment {
        Assessment {
            health: self.health(),
            slow: self.slow(),
            tier: self.tier(),
            risk: self.risk(now),
            success: self.success.success(now),
            p95: self.latency.p95(),
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

    fn well(checks: u64) -> Monitor {
        let mut monitor = Monitor::new(THRESHOLDS);
        for n in 0..checks {
            let _ = monitor.observe_check(true, FAST, at(n));
        }
        monitor
    }

    #[test]
    fn a_provider_nobody_called_is_unknown_and_of_low_risk() {
        let known = Monitor::new(THRESHOLDS).assess(at(0));
        assert_eq!((known.health, known.tier, known.critical), (Health::Unknown, RiskTier::Low, false));
        let first = well(1).assess(at(0));
        assert_eq!((first.health, first.tier), (Health::Healthy, RiskTier::Low));
    }

    #[test]
    fn three_bad_checks_in_a_row_are_down_and_turn_critical_once() {
        let mut monitor = well(200);
        let turns: Vec<bool> =
            (200..206).map(|n| monitor.observe_check(false, FAST, at(n)).turned_critical()).collect();
        assert_eq!(turns, [false, false, true, false, false, false]);
        assert_eq!(monitor.assess(at(206)).health, Health::Unhealthy);
    }

    #[test]
    fn a_critical_provider_that_goes_down_turns_once_more() {
        let mut monitor = well(10);
        for _ in 0..40 {
            let _ = monitor.observe_call(false, FAST, at(10));
        }
        let turns: Vec<bool> = (11..15).map(|n| monitor.observe_check(false, FAST, at(n)).turned_critical()).collect();
        assert_eq!(turns, [false, false, true, false]);
    }

    #[test]
    fn a_provider_that_fails_every_third_time_turns_critical_without_ever_being_down() {
        let mut monitor = well(200);
        let mut turned = 0;
        for n in 200..400 {
            let seen = monitor.observe_check(n % 3 != 0, FAST, at(n));
            assert_ne!(seen.after.health, Health::Unhealthy);
            turned += u32::from(seen.turned_critical());
        }
        let known = monitor.assess(at(400));
        assert_eq!((turned, known.tier, known.health), (1, RiskTier::Critical, Health::Degraded));
    }

    #[test]
    fn real_calls_move_the_risk_but_not_the_checks_in_a_row() {
        let mut monitor = well(10);
        let mut last = None;
        for _ in 0..40 {
            last = Some(monitor.observe_call(false, FAST, at(10)));
        }
        let known = last.unwrap().after;
        assert!(known.critical && known.success.get() < 750_000);
        assert_eq!(known.health, Health::Degraded, "not Unhealthy: the checks still answer");
    }

    #[test]
    fn slow_answers_alone_never_turn_critical_and_failures_do_not_count_as_slow() {
        let mut monitor = well(100);
        for n in 100..300 {
            let _ = monitor.observe_call(true, Duration::from_secs(9), at(n));
        }
        let known = monitor.assess(at(299));
        assert!(!known.critical && (500_000..510_000).contains(&known.risk.get()), "{:?}", known.risk);
        assert_eq!((known.health, known.p95), (Health::Degraded, Some(Duration::from_secs(9))));
        let mut monitor = well(100);
        let _ = monitor.observe_call(false, Duration::from_secs(30), at(100));
        assert_eq!(monitor.assess(at(100)).p95, Some(FAST));
    }

    #[test]
    fn a_provider_that_recovered_is_healthy_again_after_a_while_and_may_turn_critical_again() {
        let mut monitor = well(100);
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
        let again = (n..n + 3).map(|n| monitor.observe_check(false, FAST, at(n)).turned_critical()).last();
        assert_eq!(again, Some(true));
    }
}
