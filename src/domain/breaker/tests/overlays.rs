//! Overrides and the shadow mode.

use super::*;

fn forced(mode: OverrideMode, until: Mono) -> Override {
    Override { mode, until }
}

#[test]
fn forced_open_rejects_all_but_probes_and_returns_its_end() {
    let mut b = Breaker::new(bank(), secs(0));
    let t = b.set_override(Some(forced(OverrideMode::ForcedOpen, secs(100))), secs(1)).unwrap();
    assert_eq!(
        (t.from, t.to, t.reason),
        (EffectiveState::Closed, EffectiveState::ForcedOpen, TripReason::OverrideApplied)
    );
    for class in [CallClass::Read, CallClass::Write, CallClass::Money] {
        assert_eq!(
            b.admit(class, secs(99)),
            Err(CallNotPermitted { effective: EffectiveState::ForcedOpen, retry_at: Some(secs(100)) })
        );
    }
    assert!(b.admit(CallClass::Probe, secs(99)).is_ok());
    assert!(b.admit(CallClass::Money, secs(100)).is_ok(), "an expired override has no effect, even before the tick");
    let t = b.tick(secs(100)).unwrap();
    assert_eq!(
        (t.from, t.to, t.reason),
        (EffectiveState::ForcedOpen, EffectiveState::Closed, TripReason::OverrideExpired)
    );
}

#[test]
fn the_automatic_state_is_in_effect_when_forced_closed_ends() {
    let mut b = Breaker::new(bank(), secs(0));
    let _ = b.set_override(Some(forced(OverrideMode::ForcedClosed, secs(100))), secs(0));
    let t = trip(&mut b, secs(10));
    assert_eq!(
        (t.from, t.to, t.state),
        (EffectiveState::ForcedClosed, EffectiveState::ForcedClosed, BreakerState::Open)
    );
    assert_eq!(b.admit(CallClass::Money, secs(11)).unwrap().kind(), PermitKind::Observer);
    assert_eq!(b.next_tick(), Some(secs(100)));
    let t = b.tick(secs(100)).unwrap();
    assert_eq!((t.from, t.to), (EffectiveState::ForcedClosed, EffectiveState::Open));
    assert!(b.admit(CallClass::Money, secs(101)).is_err());
}

#[test]
fn a_removed_or_expired_override_has_no_effect() {
    let mut b = Breaker::new(bank(), secs(0));
    assert_eq!(b.set_override(Some(forced(OverrideMode::ForcedOpen, secs(5))), secs(5)), None);
    assert_eq!(b.effective(), EffectiveState::Closed);
    let _ = b.set_override(Some(forced(OverrideMode::ForcedOpen, secs(50))), secs(5));
    assert_eq!(
        b.set_override(Some(forced(OverrideMode::ForcedOpen, secs(60))), secs(6)),
        None,
        "a longer override of the same mode is no transition"
    );
    let t = b.set_override(None, secs(7)).unwrap();
    assert_eq!((t.to, t.reason), (EffectiveState::Closed, TripReason::OverrideRemoved));
}

#[test]
fn an_override_does_not_make_calls_in_flight_stale() {
    let mut b = opened(bank(), secs(0));
    let trial = b.admit(CallClass::Probe, secs(300)).unwrap();
    let _ = b.set_override(Some(forced(OverrideMode::ForcedOpen, secs(900))), secs(301));
    let t = b.record(trial, CallOutcome::Success, FAST, secs(302)).unwrap();
    assert_eq!(
        (t.state, t.to),
        (BreakerState::Closed, EffectiveState::ForcedOpen),
        "the trial in flight still decides"
    );
}

#[test]
fn probes_close_the_circuit_beneath_forced_open() {
    let mut b = opened(bank(), secs(0));
    let _ = b.set_override(Some(forced(OverrideMode::ForcedOpen, secs(1000))), secs(1));
    assert_eq!(call(&mut b, CallClass::Probe, CallOutcome::Success, secs(300)).unwrap().state, BreakerState::Closed);
    assert!(b.admit(CallClass::Read, secs(301)).is_err());
    assert_eq!(b.tick(secs(1000)).unwrap().to, EffectiveState::Closed);
}

#[test]
fn shadow_counts_and_never_blocks() {
    let mut b = Breaker::new(Policy { mode: Mode::Shadow, ..bank() }, secs(0));
    assert_eq!(b.effective(), EffectiveState::Shadow);
    let t = trip(&mut b, secs(0));
    assert_eq!((t.from, t.to, t.state), (EffectiveState::Shadow, EffectiveState::Shadow, BreakerState::Open));
    for class in [CallClass::Read, CallClass::Write, CallClass::Money] {
        assert_eq!(b.admit(class, secs(1)).unwrap().kind(), PermitKind::Observer);
    }
    let trial = b.admit(CallClass::Read, secs(300)).unwrap();
    assert_eq!(trial.kind(), PermitKind::Trial);
    assert_eq!(b.admit(CallClass::Read, secs(300)).unwrap().kind(), PermitKind::Observer, "still one trial only");
    assert_eq!(b.record(trial, CallOutcome::Success, FAST, secs(300)).unwrap().state, BreakerState::Closed);
}

#[test]
fn switching_from_shadow_to_enforce_while_open_blocks_at_once() {
    let mut b = opened(Policy { mode: Mode::Shadow, ..bank() }, secs(0));
    let t = b.set_policy(bank(), secs(10)).unwrap();
    assert_eq!((t.from, t.to, t.reason), (EffectiveState::Shadow, EffectiveState::Open, TripReason::PolicyChanged));
    assert!(b.admit(CallClass::Read, secs(10)).is_err());
}

#[test]
fn names_of_states_and_reasons_round_trip() {
    for state in [BreakerState::Closed, BreakerState::HalfOpen, BreakerState::Open] {
        assert_eq!(state.as_str().parse(), Ok(state));
        assert_eq!(EffectiveState::from(state).as_str(), state.as_str());
    }
    for &reason in TripReason::ALL {
        assert_eq!(reason.as_str().parse(), Ok(reason));
    }
    assert_eq!("closed".parse::<BreakerState>().unwrap_err().to_string(), "\"closed\" is not a known circuit state");
    assert!("".parse::<TripReason>().is_err());
}
