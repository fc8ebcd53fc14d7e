//! What a person can force, and the shadow mode.

use super::*;

fn forced(mode: OverrideMode, until: Mono) -> Override {
    Override { mode, until }
}

#[test]
fn forced_open_refuses_all_but_probes_and_says_until_when() {
    let mut b = Breaker::new(bank(), secs(0));
    let t = b.set_override(Some(forced(OverrideMode::ForcedOpen, secs(100))), secs(1)).unwrap();
    assert_eq!((t.from, t.to, t.reason), (Effective::Closed, Effective::ForcedOpen, TripReason::OverrideApplied));
    for class in [CallClass::Read, CallClass::Write, CallClass::Money] {
        assert_eq!(
            b.admit(class, secs(99)),
            Err(Refusal { effective: Effective::ForcedOpen, retry_at: Some(secs(100)) })
        );
    }
    assert!(b.admit(CallClass::Probe, secs(99)).is_ok());
    assert!(b.admit(CallClass::Money, secs(100)).is_ok(), "past its time it has no effect, ticked or not");
    let t = b.tick(secs(100)).unwrap();
    assert_eq!((t.from, t.to, t.reason), (Effective::ForcedOpen, Effective::Closed, TripReason::OverrideExpired));
}

#[test]
fn forced_closed_refuses_nothing_and_the_truth_beneath_comes_out_when_it_ends() {
    let mut b = Breaker::new(bank(), secs(0));
    let _ = b.set_override(Some(forced(OverrideMode::ForcedClosed, secs(100))), secs(0));
    let t = trip(&mut b, secs(10));
    assert_eq!((t.from, t.to, t.state), (Effective::ForcedClosed, Effective::ForcedClosed, State::Open));
    assert_eq!(b.admit(CallClass::Money, secs(11)).unwrap().kind(), PermitKind::Observer);
    assert_eq!(b.next_tick(), Some(secs(100)));
    let t = b.tick(secs(100)).unwrap();
    assert_eq!((t.from, t.to), (Effective::ForcedClosed, Effective::Open));
    assert!(b.admit(CallClass::Money, secs(101)).is_err());
}

#[test]
fn an_override_that_is_taken_away_or_already_over_has_no_effect() {
    let mut b = Breaker::new(bank(), secs(0));
    assert_eq!(b.set_override(Some(forced(OverrideMode::ForcedOpen, secs(5))), secs(5)), None);
    assert_eq!(b.effective(), Effective::Closed);
    let _ = b.set_override(Some(forced(OverrideMode::ForcedOpen, secs(50))), secs(5));
    assert_eq!(
        b.set_override(Some(forced(OverrideMode::ForcedOpen, secs(60))), secs(6)),
        None,
        "longer, but not other"
    );
    let t = b.set_override(None, secs(7)).unwrap();
    assert_eq!((t.to, t.reason), (Effective::Closed, TripReason::OverrideRemoved));
}

#[test]
fn an_override_does_not_make_calls_in_flight_late() {
    let mut b = opened(bank(), secs(0));
    let trial = b.admit(CallClass::Probe, secs(300)).unwrap();
    let _ = b.set_override(Some(forced(OverrideMode::ForcedOpen, secs(900))), secs(301));
    let t = b.record(trial, Outcome::Success, FAST, secs(302)).unwrap();
    assert_eq!((t.state, t.to), (State::Closed, Effective::ForcedOpen), "the trial under way still decides");
}

#[test]
fn probes_bring_the_circuit_back_beneath_a_forced_open() {
    let mut b = opened(bank(), secs(0));
    let _ = b.set_override(Some(forced(OverrideMode::ForcedOpen, secs(1000))), secs(1));
    assert_eq!(call(&mut b, CallClass::Probe, Outcome::Success, secs(300)).unwrap().state, State::Closed);
    assert!(b.admit(CallClass::Read, secs(301)).is_err());
    assert_eq!(b.tick(secs(1000)).unwrap().to, Effective::Closed);
}

#[test]
fn shadow_counts_as_if_it_blocked_and_never_blocks() {
    let mut b = Breaker::new(Policy { mode: Mode::Shadow, ..bank() }, secs(0));
    assert_eq!(b.effective(), Effective::Shadow);
    let t = trip(&mut b, secs(0));
    assert_eq!((t.from, t.to, t.state), (Effective::Shadow, Effective::Shadow, State::Open));
    for class in [CallClass::Read, CallClass::Write, CallClass::Money] {
        assert_eq!(b.admit(class, secs(1)).unwrap().kind(), PermitKind::Observer);
    }
    let trial = b.admit(CallClass::Read, secs(300)).unwrap();
    assert_eq!(trial.kind(), PermitKind::Trial);
    assert_eq!(b.admit(CallClass::Read, secs(300)).unwrap().kind(), PermitKind::Observer, "still one trial only");
    assert_eq!(b.record(trial, Outcome::Success, FAST, secs(300)).unwrap().state, State::Closed);
}

#[test]
fn turning_shadow_off_while_it_would_be_open_blocks_at_once() {
    let mut b = opened(Policy { mode: Mode::Shadow, ..bank() }, secs(0));
    let t = b.set_policy(bank(), secs(10)).unwrap();
    assert_eq!((t.from, t.to, t.reason), (Effective::Shadow, Effective::Open, TripReason::PolicyChanged));
    assert!(b.admit(CallClass::Read, secs(10)).is_err());
}

#[test]
fn the_names_of_states_and_reasons_are_read_back() {
    for state in [State::Closed, State::HalfOpen, State::Open] {
        assert_eq!(state.as_str().parse(), Ok(state));
        assert_eq!(Effective::from(state).as_str(), state.as_str());
    }
    for reason in TripReason::ALL {
        assert_eq!(reason.as_str().parse(), Ok(reason));
    }
    assert_eq!("closed".parse::<State>().unwrap_err().to_string(), "\"closed\" is not a known circuit state");
    assert!("".parse::<TripReason>().is_err());
}
