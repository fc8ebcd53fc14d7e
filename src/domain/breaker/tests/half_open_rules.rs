//! The numbered rules of the half-open circuit and its trials.

use super::*;

#[test]
fn rule_4_there_are_never_more_trials_than_permitted() {
    let mut policy = bank();
    policy.half_open.trials = 3;
    policy.half_open.required_successes = 3;
    let mut b = opened(policy, secs(0));
    let due = b.next_trial().unwrap();
    let trials: Vec<_> = (0..3).map(|_| b.admit(CallClass::Read, due).unwrap()).collect();
    assert!(trials.iter().all(|t| t.kind() == PermitKind::Trial));
    assert_eq!(
        b.admit(CallClass::Read, due),
        Err(CallNotPermitted { effective: EffectiveState::HalfOpen, retry_at: None })
    );
    assert_eq!(b.admit(CallClass::Probe, due).unwrap().kind(), PermitKind::Observer, "a probe is never rejected");
    assert_eq!(b.record(trials[0], CallOutcome::Success, FAST, due), None);
    assert!(b.admit(CallClass::Read, due).is_ok(), "the permit of a reported trial is reissued");
}

#[test]
fn rule_5_the_first_lost_trial_is_tolerated_and_the_second_opens() {
    let mut b = opened(bank(), secs(0));
    let first = b.admit(CallClass::Read, secs(300)).unwrap();
    assert_eq!(b.next_tick(), Some(secs(360)));
    assert!(b.admit(CallClass::Read, secs(359)).is_err(), "leased for 60 s");
    let _second = b.admit(CallClass::Read, secs(360)).unwrap();
    assert_eq!(b.state(), BreakerState::HalfOpen, "the first lost trial is tolerated");
    assert_eq!(b.record(first, CallOutcome::Success, FAST, secs(361)), None, "too late: the lease was reissued");
    assert_eq!(b.tick(secs(419)), None);
    let t = b.tick(secs(420)).unwrap();
    assert_eq!((t.to, t.reason), (EffectiveState::Open, TripReason::TrialLost));
    assert_eq!(b.next_trial(), Some(secs(720)));
}

#[test]
fn rule_5_the_next_admission_also_detects_a_second_lost_trial() {
    let mut b = opened(bank(), secs(0));
    let _ = b.admit(CallClass::Read, secs(300)).unwrap();
    let _ = b.admit(CallClass::Read, secs(360)).unwrap();
    let refusal = b.admit(CallClass::Read, secs(420)).unwrap_err();
    assert_eq!((refusal.effective, refusal.retry_at), (EffectiveState::Open, Some(secs(720))));
    assert_eq!(b.take_transition().unwrap().reason, TripReason::TrialLost);
}

#[test]
fn rule_5_a_call_whose_lease_is_over_makes_no_further_try() {
    let mut b = opened(bank(), secs(0));
    let slow = b.admit(CallClass::Read, secs(300)).unwrap();
    assert!(b.admit_retry(slow, secs(359)), "renewed: leased until 419");
    assert!(b.permits_retry(slow, secs(418)));
    // Not ticked since: only the time shows that the lease is over.
    assert!(!b.permits_retry(slow, secs(419)) && !b.admit_retry(slow, secs(419)));
    let other = b.admit(CallClass::Read, secs(419)).unwrap();
    assert_eq!(other.kind(), PermitKind::Trial, "its place was free");
    assert!(!b.admit_retry(slow, secs(420)));
    assert_eq!(b.record(slow, CallOutcome::Success, FAST, secs(421)), None);
    assert!(b.record(other, CallOutcome::Success, FAST, secs(422)).is_some());
}

#[test]
fn rule_6_an_ignored_outcome_releases_the_trial() {
    let mut b = opened(bank(), secs(0));
    assert_eq!(call(&mut b, CallClass::Read, CallOutcome::Ignored, secs(300)), None);
    assert_eq!(call(&mut b, CallClass::Probe, CallOutcome::OwnFault, secs(300)), None, "nor does this decide");
    assert_eq!(b.state(), BreakerState::HalfOpen);
    let permit = b.admit(CallClass::Read, secs(300)).unwrap();
    b.abandon(permit, secs(301));
    assert_eq!(b.state(), BreakerState::HalfOpen, "a dropped call is no outcome either");
    assert!(call(&mut b, CallClass::Read, CallOutcome::Success, secs(302)).is_some());
}

#[test]
fn rule_12_requiring_more_successes_than_permits_does_not_deadlock() {
    let mut policy = Policy { minimum_calls: 100, ..bank() };
    policy.half_open.required_successes = 3;
    let mut b = opened(policy, secs(0));
    for closes in [false, false, true] {
        assert_eq!(call(&mut b, CallClass::Read, CallOutcome::Success, secs(300)).is_some(), closes);
    }
    let small = Policy { window: WindowSpec::Calls(3), minimum_calls: 100, ..ratio() };
    let mut b = Breaker::new(small, secs(0));
    let trips: Vec<_> =
        (0..3).map(|_| call(&mut b, CallClass::Read, CallOutcome::Failure, secs(1)).is_some()).collect();
    assert_eq!(trips, [false, false, true], "a window of three calls is full at three");
}

#[test]
fn half_open_reopens_after_the_max_dwell() {
    let mut b = opened(bank(), secs(0));
    for n in 0..20 {
        let now = secs(300 + n * 29);
        let permit = b.admit(CallClass::Read, now).unwrap();
        b.abandon(permit, now);
    }
    assert_eq!(b.tick(secs(899)), None);
    let t = b.tick(secs(900)).unwrap();
    assert_eq!((t.to, t.reason), (EffectiveState::Open, TripReason::DwellExceeded));
}

#[test]
fn money_and_writes_are_never_trials() {
    let mut b = opened(bank(), secs(0));
    for class in [CallClass::Money, CallClass::Write] {
        assert!(b.admit(class, secs(301)).is_err());
    }
    assert_eq!(b.state(), BreakerState::Open, "nor do they move it to half-open");
    let trial = b.admit(CallClass::Probe, secs(301)).unwrap();
    assert!(b.admit(CallClass::Money, secs(301)).is_err());
    let _ = b.record(trial, CallOutcome::Success, FAST, secs(302));
    assert!(b.admit(CallClass::Money, secs(302)).is_ok());
}

#[test]
fn a_probe_of_an_open_circuit_is_an_observer_until_a_trial_is_due() {
    let mut b = opened(bank(), secs(0));
    let probe = b.admit(CallClass::Probe, secs(299)).unwrap();
    assert_eq!(probe.kind(), PermitKind::Observer);
    assert_eq!(b.record(probe, CallOutcome::Success, FAST, secs(300)), None, "no early close");
    assert_eq!(b.admit(CallClass::Probe, secs(300)).unwrap().kind(), PermitKind::Trial);
}

#[test]
fn a_slow_trial_fails_if_slow_calls_are_counted() {
    let policy = Policy { slow_call_percent: 80, ..bank() };
    let mut b = opened(policy, secs(0));
    let t = timed(&mut b, CallClass::Probe, CallOutcome::Success, SLOW, secs(300)).unwrap();
    assert_eq!((t.to, t.reason), (EffectiveState::Open, TripReason::TrialFailed));
    let mut b = opened(bank(), secs(0));
    let t = timed(&mut b, CallClass::Probe, CallOutcome::Success, SLOW, secs(300)).unwrap();
    assert_eq!(t.to, EffectiveState::Closed, "where they do not, it is a success");
}
