//! What calls, time and settings make of a connection.

mod passing;
mod together;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::*;
use crate::domain::breaker::Effective;
use crate::domain::breaker::{OnUnhealthy, OverrideMode, State, TripReason};
use crate::domain::health::{Health, RiskTier};
use crate::provider::testkit::{answer, core, core_on, core_with, settings};

/// Listeners that count what they are told.
fn counting() -> (Arc<Listeners>, Arc<AtomicUsize>) {
    let (listeners, told) = (Arc::new(Listeners::default()), Arc::new(AtomicUsize::new(0)));
    listeners.add({
        let told = Arc::clone(&told);
        move |_: &Change| {
            told.fetch_add(1, Ordering::Relaxed);
        }
    });
    (listeners, told)
}

/// Ends one call of `class` with `status`.
fn call(core: &Core, settings: &Settings, class: CallClass, status: u16) {
    let started = core.clock().mono();
    let permit = core.admit(class, started).unwrap();
    core.finished(settings, permit, class, &"x".into(), (started, &Course::default()), Ok(&answer(status)));
}

fn forced(mode: OverrideMode, until: &str) -> Arc<Settings> {
    let until = until.parse().unwrap();
    settings(|draft| draft.circuit_override = Some(CircuitOverride { mode, until }))
}

#[tokio::test(start_paused = true)]
async fn an_override_holds_until_its_time_and_not_longer() {
    // The clock of these tests starts at midnight.
    let settings = forced(OverrideMode::ForcedOpen, "2026-01-01T00:10:00Z");
    let core = core(&settings);
    assert_eq!(core.observed(&settings).effective, Effective::ForcedOpen);
    assert!(core.admit(CallClass::Money, core.clock().mono()).is_err());
    assert!(core.admit(CallClass::Probe, core.clock().mono()).is_ok());
    tokio::time::advance(Duration::from_mins(10)).await;
    assert_eq!(core.observed(&settings).effective, Effective::Closed, "over, ticked or not");
    assert!(core.next_tick().is_some_and(|at| at <= core.clock().mono()), "a tick is asked for");
    core.tick();
    assert!(core.admit(CallClass::Money, core.clock().mono()).is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_override_comes_and_goes_with_the_settings_and_the_circuit_goes_on_counting_beneath() {
    let plain = settings(|_| {});
    let core = core(&plain);
    let wide_open = forced(OverrideMode::ForcedClosed, "2026-01-01T01:00:00Z");
    core.reconfigure(&plain, &wide_open);
    for _ in 0..20 {
        call(&core, &wide_open, CallClass::Read, 503);
    }
    let seen = core.observed(&wide_open);
    assert_eq!((seen.effective, seen.snapshot.state), (Effective::ForcedClosed, State::Open));
    core.reconfigure(&wide_open, &plain);
    assert_eq!(core.observed(&plain).effective, Effective::Open);
}

#[tokio::test(start_paused = true)]
async fn an_override_that_is_past_its_time_has_no_effect() {
    let late = forced(OverrideMode::ForcedOpen, "2025-12-31T23:59:59Z");
    assert_eq!(core(&late).observed(&late).effective, Effective::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_shadow_policy_counts_and_never_blocks() {
    let settings = settings(|draft| draft.breaker.mode = crate::domain::breaker::Mode::Shadow);
    let core = core(&settings);
    for _ in 0..10 {
        call(&core, &settings, CallClass::Money, 503);
    }
    let seen = core.observed(&settings);
    assert_eq!((seen.effective, seen.snapshot.state), (Effective::Shadow, State::Open));
    assert!(core.admit(CallClass::Money, core.clock().mono()).is_ok());
}

/// A bank that is checked: a shorter way to a verdict about health than five failures in a row.
fn checked(mode: CheckMode, unhealthy: OnUnhealthy) -> Arc<Settings> {
    settings(|draft| {
        draft.breaker.consecutive_failures = 0;
        draft.breaker.unhealthy = unhealthy;
        draft.health_check.mode = mode;
        draft.health_check.path = Some("/health".to_owned());
    })
}

#[tokio::test(start_paused = true)]
async fn a_bank_that_goes_down_opens_for_the_reason_health_where_the_policy_says_so() {
    for (wanted, state) in [(OnUnhealthy::Open, State::Open), (OnUnhealthy::Ignore, State::Closed)] {
        let settings = checked(CheckMode::Active, wanted);
        let core = core(&settings);
        call(&core, &settings, CallClass::Probe, 200);
        (0..3).for_each(|_| call(&core, &settings, CallClass::Probe, 503));
        let seen = core.observed(&settings);
        assert_eq!((seen.health, seen.snapshot.state), (Health::Unhealthy, state), "{wanted:?}");
        assert_eq!(seen.snapshot.reason, (state == State::Open).then_some(TripReason::Health));
    }
}

#[tokio::test(start_paused = true)]
async fn a_bank_whose_calls_fail_turns_critical_and_opens_although_its_checks_pass() {
    let settings = checked(CheckMode::Active, OnUnhealthy::Open);
    let core = core(&settings);
    for n in 0..30 {
        if core.observed(&settings).effective == Effective::Open {
            break;
        }
        call(&core, &settings, CallClass::Probe, 200);
        call(&core, &settings, CallClass::Read, 503);
        assert!(n < 29, "never critical");
    }
    let seen = core.observed(&settings);
    assert_eq!((seen.health, seen.tier), (Health::Degraded, RiskTier::Critical));
    assert_eq!(seen.snapshot.reason, Some(TripReason::Health));
}

#[tokio::test(start_paused = true)]
async fn where_checks_are_passive_real_calls_say_how_the_provider_is() {
    let settings = checked(CheckMode::Passive, OnUnhealthy::Ignore);
    let core = core(&settings);
    assert_eq!(core.observed(&settings).health, Health::Unknown);
    call(&core, &settings, CallClass::Read, 200);
    assert_eq!(core.observed(&settings).health, Health::Healthy);
    (0..3).for_each(|_| call(&core, &settings, CallClass::Read, 503));
    assert_eq!(core.observed(&settings).health, Health::Unhealthy);
    // Someone else's mistakes and refused credentials say nothing about the provider.
    (0..9).for_each(|_| call(&core, &settings, CallClass::Read, 401));
    assert_eq!(core.observed(&settings).health, Health::Unhealthy);
}

#[tokio::test(start_paused = true)]
async fn only_a_change_of_the_band_is_told_not_each_tremble_of_the_number() {
    let (listeners, told) = counting();
    let settings = checked(CheckMode::Active, OnUnhealthy::Ignore);
    let core = core_with(&settings, listeners);
    call(&core, &settings, CallClass::Probe, 200);
    let so_far = told.load(Ordering::Relaxed);
    (0..100).for_each(|_| call(&core, &settings, CallClass::Read, 200));
    tokio::time::advance(Duration::from_mins(30)).await;
    let before = core.observed(&settings).risk;
    call(&core, &settings, CallClass::Read, 503);
    assert!(core.observed(&settings).risk > before);
    assert_eq!(core.observed(&settings).tier, RiskTier::Low);
    assert_eq!(told.load(Ordering::Relaxed), so_far);
}

#[tokio::test(start_paused = true)]
async fn another_endpoint_starts_without_a_past_and_another_credential_does_not() {
    let old = checked(CheckMode::Active, OnUnhealthy::Ignore);
    let core = core(&old);
    (0..5).for_each(|_| call(&core, &old, CallClass::Probe, 503));
    let rotated = settings(|draft| {
        draft.health_check.path = Some("/health".to_owned());
        draft.credential_revision = "other".to_owned();
    });
    core.reconfigure(&old, &rotated);
    assert_eq!(core.observed(&rotated).health, Health::Unhealthy);
    let moved = settings(|draft| draft.base_url = "http://other.test".to_owned());
    core.reconfigure(&rotated, &moved);
    let seen = core.observed(&moved);
    assert_eq!((seen.health, seen.tier), (Health::Unknown, RiskTier::Low));
}
