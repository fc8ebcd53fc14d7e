//! What calls, time and settings make of a connection.

use std::time::Duration;

use super::*;
use crate::domain::breaker::{OverrideMode, State};
use crate::provider::testkit::{answer, core, settings};

/// Ends one call of `class` with `status`.
fn call(core: &Core, settings: &Settings, class: CallClass, status: u16) {
    let started = core.clock().mono();
    let permit = core.admit(class, started).unwrap();
    core.finished(settings, permit, class, &"x".into(), started, Ok(&answer(status)));
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
