//! Tests of the health of a provider.

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
    let turns: Vec<bool> = (200..206).map(|n| monitor.observe_check(false, FAST, at(n)).became_critical()).collect();
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
fn the_success_rate_is_at_least_what_wilson_says() {
    let mut monitor = HealthMonitor::new(THRESHOLDS);
    for n in 0..10 {
        let _ = monitor.observe_call(n != 9, FAST, at(n));
    }
    let known = monitor.assess(at(9));
    assert_eq!(known.success_at_least.get() / 1000, 595, "nine of ten");
    assert_eq!(known.peak_latency, Some(FAST));
}

#[test]
fn silence_and_a_change_raise_the_risk_beyond_that_of_failures() {
    let mut monitor = healthy_after(200);
    for n in 200..204 {
        let _ = monitor.observe_check(false, FAST, at(n));
    }
    let failures = risk::from_failures(monitor.success(at(203)));
    let risk = monitor.risk(at(203));
    assert!(failures.get() < 300_000 && risk.get() > 990_000, "{failures:?} {risk:?}");
    // Failed checks that the provider responded to are no silence: a change alone is no more than a half.
    let mut monitor = healthy_after(200);
    for n in 200..204 {
        let responded = Observation { responded: true, ..Observation::check(false, FAST) };
        let _ = monitor.observe(responded, at(n));
    }
    let risk = monitor.risk(at(203));
    assert!((500_000..650_000).contains(&risk.get()), "{risk:?}");
}

#[test]
fn a_reported_outcome_without_a_latency_leaves_latencies_alone() {
    let mut monitor = healthy_after(100);
    let before = monitor.assess(at(100));
    let after = monitor.observe_outcome(true, None, at(100)).after;
    assert_eq!((after.p95, after.peak_latency), (before.p95, before.peak_latency));
    assert!(monitor.observe_outcome(false, None, at(100)).after.success < after.success);
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
