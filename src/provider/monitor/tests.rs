//! How calls, time and settings change the state of a connection.

mod clock_skew;
mod concurrency;
mod forecast;
mod publish;
mod tick;

use std::time::Duration;

use super::*;
use crate::domain::breaker::{BreakerState, EffectiveState, OnUnhealthy, OverrideMode, TripReason};
use crate::domain::health::{Health, RiskTier};
use crate::notify::KeyQueue;
use crate::provider::testkit::{monitor, monitor_on, monitor_with, response, settings};

/// A topic, and a subscriber that consumes as fast as it is notified.
fn subscribed() -> (Arc<Topic<ObjectKey>>, Arc<KeyQueue<ObjectKey>>) {
    let changes = Arc::<Topic<ObjectKey>>::default();
    let queue = changes.subscribe();
    (changes, queue)
}

/// Ends one call of `class` with `status`.
fn call(monitor: &ConnectionMonitor, settings: &Settings, class: CallClass, status: u16) {
    let started = monitor.clock().mono();
    let permit = monitor.admit(class, started).unwrap();
    record(monitor, settings, (permit, started), class, status);
}

/// Records the end of a call with `status`.
fn record(
    monitor: &ConnectionMonitor,
    settings: &Settings,
    (permit, started): (Permit, Mono),
    class: CallClass,
    status: u16,
) {
    let (operation, progress, response) = ("x".into(), CallProgress::default(), response(status));
    let call =
        CompletedCall { permit, class, operation: &operation, started, progress: &progress, result: Ok(&response) };
    monitor.record(settings, &call);
}

fn forced(mode: OverrideMode, until: &str) -> Arc<Settings> {
    let until = until.parse().unwrap();
    settings(|draft| draft.circuit_override = Some(CircuitOverride { mode, until }))
}

#[tokio::test(start_paused = true)]
async fn an_override_ends_at_its_deadline() {
    // The clock of these tests starts at midnight.
    let settings = forced(OverrideMode::ForcedOpen, "2026-01-01T00:10:00Z");
    let monitor = monitor(&settings);
    assert_eq!(monitor.snapshot(&settings).effective, EffectiveState::ForcedOpen);
    assert!(monitor.admit(CallClass::Money, monitor.clock().mono()).is_err());
    assert!(monitor.admit(CallClass::Probe, monitor.clock().mono()).is_ok());
    tokio::time::advance(Duration::from_mins(10)).await;
    assert_eq!(monitor.snapshot(&settings).effective, EffectiveState::Closed, "ended, even without a tick");
    assert!(monitor.next_tick().is_some_and(|at| at <= monitor.clock().mono()), "a tick is due");
    monitor.tick();
    assert!(monitor.admit(CallClass::Money, monitor.clock().mono()).is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_override_follows_the_settings_and_the_circuit_keeps_counting() {
    let plain = settings(|_| {});
    let monitor = monitor(&plain);
    let wide_open = forced(OverrideMode::ForcedClosed, "2026-01-01T01:00:00Z");
    monitor.reconfigure(&plain, &wide_open);
    for _ in 0..20 {
        call(&monitor, &wide_open, CallClass::Read, 503);
    }
    let seen = monitor.snapshot(&wide_open);
    assert_eq!((seen.effective, seen.circuit.state), (EffectiveState::ForcedClosed, BreakerState::Open));
    monitor.reconfigure(&wide_open, &plain);
    assert_eq!(monitor.snapshot(&plain).effective, EffectiveState::Open);
}

#[tokio::test(start_paused = true)]
async fn an_expired_override_has_no_effect() {
    let late = forced(OverrideMode::ForcedOpen, "2025-12-31T23:59:59Z");
    assert_eq!(monitor(&late).snapshot(&late).effective, EffectiveState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_shadow_policy_counts_and_never_rejects() {
    let settings = settings(|draft| draft.breaker.mode = crate::domain::breaker::Mode::Shadow);
    let monitor = monitor(&settings);
    for _ in 0..10 {
        call(&monitor, &settings, CallClass::Money, 503);
    }
    let seen = monitor.snapshot(&settings);
    assert_eq!((seen.effective, seen.circuit.state), (EffectiveState::Shadow, BreakerState::Open));
    assert!(monitor.admit(CallClass::Money, monitor.clock().mono()).is_ok());
}

/// A connection with health checks, whose circuit does not open on consecutive failures.
fn checked(mode: CheckMode, unhealthy: OnUnhealthy) -> Arc<Settings> {
    settings(|draft| {
        draft.breaker.consecutive_failures = 0;
        draft.breaker.unhealthy = unhealthy;
        draft.health_check.mode = mode;
        draft.health_check.path = Some("/health".to_owned());
    })
}

#[tokio::test(start_paused = true)]
async fn an_unhealthy_provider_opens_the_circuit_if_the_policy_says_so() {
    for (wanted, state) in [(OnUnhealthy::Open, BreakerState::Open), (OnUnhealthy::Ignore, BreakerState::Closed)] {
        let settings = checked(CheckMode::Active, wanted);
        let monitor = monitor(&settings);
        call(&monitor, &settings, CallClass::Probe, 200);
        (0..3).for_each(|_| call(&monitor, &settings, CallClass::Probe, 503));
        let seen = monitor.snapshot(&settings);
        assert_eq!((seen.health, seen.circuit.state), (Health::Unhealthy, state), "{wanted:?}");
        assert_eq!(seen.circuit.reason, (state == BreakerState::Open).then_some(TripReason::Health));
    }
}

#[tokio::test(start_paused = true)]
async fn failing_calls_open_the_circuit_although_checks_pass() {
    let settings = checked(CheckMode::Active, OnUnhealthy::Open);
    let monitor = monitor(&settings);
    for n in 0..30 {
        if monitor.snapshot(&settings).effective == EffectiveState::Open {
            break;
        }
        call(&monitor, &settings, CallClass::Probe, 200);
        call(&monitor, &settings, CallClass::Read, 503);
        assert!(n < 29, "never critical");
    }
    let seen = monitor.snapshot(&settings);
    assert_eq!((seen.health, seen.tier), (Health::Degraded, RiskTier::Critical));
    assert_eq!(seen.circuit.reason, Some(TripReason::Health));
}

#[tokio::test(start_paused = true)]
async fn passive_checks_derive_health_from_calls() {
    let settings = checked(CheckMode::Passive, OnUnhealthy::Ignore);
    let monitor = monitor(&settings);
    assert_eq!(monitor.snapshot(&settings).health, Health::Unknown);
    call(&monitor, &settings, CallClass::Read, 200);
    assert_eq!(monitor.snapshot(&settings).health, Health::Healthy);
    (0..3).for_each(|_| call(&monitor, &settings, CallClass::Read, 503));
    assert_eq!(monitor.snapshot(&settings).health, Health::Unhealthy);
    // Client errors and refused credentials say nothing about the provider.
    (0..9).for_each(|_| call(&monitor, &settings, CallClass::Read, 401));
    assert_eq!(monitor.snapshot(&settings).health, Health::Unhealthy);
}

#[tokio::test(start_paused = true)]
async fn a_new_endpoint_resets_health_and_a_new_credential_does_not() {
    let old = checked(CheckMode::Active, OnUnhealthy::Ignore);
    let monitor = monitor(&old);
    (0..5).for_each(|_| call(&monitor, &old, CallClass::Probe, 503));
    let rotated = settings(|draft| {
        draft.health_check.path = Some("/health".to_owned());
        draft.credential_revision = "other".to_owned();
    });
    monitor.reconfigure(&old, &rotated);
    assert_eq!(monitor.snapshot(&rotated).health, Health::Unhealthy);
    let moved = settings(|draft| draft.base_url = "http://other.test".to_owned());
    monitor.reconfigure(&rotated, &moved);
    let seen = monitor.snapshot(&moved);
    assert_eq!((seen.health, seen.tier), (Health::Unknown, RiskTier::Low));
}

#[tokio::test(start_paused = true)]
async fn a_check_that_older_credentials_failed_does_not_count_against_the_new_ones() {
    let with = |revision: &str| {
        settings(|draft| {
            draft.credential_revision = revision.to_owned();
            draft.breaker.consecutive_failures = 2;
        })
    };
    let (old, rotated) = (with("old"), with("rotated"));
    for (of_check, opens) in [(&old, false), (&rotated, true)] {
        let monitor = monitor(&old);
        let started = monitor.clock().mono();
        let check = monitor.admit(CallClass::Probe, started).unwrap();
        // The Secret is replaced while the check is under way.
        monitor.reconfigure(&old, &rotated);
        record(&monitor, of_check, (check, started), CallClass::Probe, 401);
        call(&monitor, &rotated, CallClass::Read, 503);
        assert_eq!(monitor.snapshot(&rotated).effective == EffectiveState::Open, opens);
    }
}
