//! The fourteen rules of the state machine.

use super::*;

#[test]
fn the_bank_preset_opens_for_five_minutes_after_five_failures() {
    let mut b = Breaker::new(bank(), secs(0));
    for n in 1..5 {
        assert_eq!(call(&mut b, CallClass::Money, CallOutcome::Failure, secs(n)), None);
    }
    let t = call(&mut b, CallClass::Probe, CallOutcome::Failure, secs(5)).unwrap();
    assert_eq!(
        (t.from, t.to, t.reason),
        (EffectiveState::Closed, EffectiveState::Open, TripReason::ConsecutiveFailures)
    );
    assert_eq!((t.epoch, t.at, b.next_trial()), (1, secs(5), Some(secs(305))));
    assert_eq!(
        b.admit(CallClass::Read, secs(304)),
        Err(CallNotPermitted { effective: EffectiveState::Open, retry_at: Some(secs(305)) })
    );
    let permit = b.admit(CallClass::Read, secs(305)).unwrap();
    let t = b.take_transition().unwrap();
    assert_eq!((t.from, t.to, t.reason), (EffectiveState::Open, EffectiveState::HalfOpen, TripReason::TrialTaken));
    assert_eq!(b.take_transition(), None, "returned once");
    let t = b.record(permit, CallOutcome::Success, FAST, secs(306)).unwrap();
    assert_eq!(
        (t.from, t.to, t.reason),
        (EffectiveState::HalfOpen, EffectiveState::Closed, TripReason::TrialsSucceeded)
    );
    assert_eq!(b.epoch(), 3);
}

#[test]
fn an_expedited_trial_is_due_at_once_and_decides_as_any_other() {
    let mut b = Breaker::new(bank(), secs(0));
    b.forgive_own_faults(secs(1));
    assert_eq!((b.state(), b.next_trial()), (BreakerState::Closed, None), "a closed circuit has no trial");
    for outcome in [CallOutcome::Failure, CallOutcome::Success] {
        while b.state() == BreakerState::Closed {
            let _ = call(&mut b, CallClass::Probe, CallOutcome::Failure, secs(2));
        }
        b.forgive_own_faults(secs(3));
        assert_eq!(b.next_trial(), Some(secs(3)));
        let permit = b.admit(CallClass::Probe, secs(3)).unwrap();
        let _ = b.take_transition();
        let ended = b.record(permit, outcome, FAST, secs(4)).unwrap();
        assert_eq!(ended.to == EffectiveState::Closed, outcome == CallOutcome::Success);
    }
}

#[test]
fn rule_1_only_a_failure_or_a_slow_call_can_open_a_circuit() {
    let mut b = Breaker::new(Policy { minimum_calls: 5, ..ratio() }, secs(0));
    for _ in 0..4 {
        assert_eq!(call(&mut b, CallClass::Read, CallOutcome::Failure, secs(1)), None, "too few calls yet");
    }
    assert_eq!(
        call(&mut b, CallClass::Read, CallOutcome::Success, secs(1)),
        None,
        "80 % failed, but this one succeeded"
    );
    assert!(call(&mut b, CallClass::Read, CallOutcome::Failure, secs(1)).is_some());

    let slow = Policy { slow_call_percent: 50, failure_percent: 0, ..ratio() };
    let mut b = Breaker::new(slow, secs(0));
    for _ in 0..3 {
        assert_eq!(timed(&mut b, CallClass::Read, CallOutcome::Success, SLOW, secs(1)), None);
    }
    let t = timed(&mut b, CallClass::Read, CallOutcome::Success, SLOW, secs(1)).unwrap();
    assert_eq!(t.reason, TripReason::SlowCalls, "a slow success trips");
}

#[test]
fn rule_2_every_boundary_counts_as_reached() {
    let mut b = Breaker::new(ratio(), secs(0));
    for outcome in [CallOutcome::Success, CallOutcome::Success, CallOutcome::Failure] {
        assert_eq!(call(&mut b, CallClass::Read, outcome, secs(1)), None);
    }
    let t = call(&mut b, CallClass::Read, CallOutcome::Failure, secs(1)).unwrap();
    assert_eq!(t.reason, TripReason::FailureRatio, "exactly 50 % of exactly four");
    let due = b.next_trial().unwrap();
    assert!(b.admit(CallClass::Read, due - Duration::from_nanos(1)).is_err());
    assert!(b.admit(CallClass::Read, due).is_ok(), "exactly at openUntil");

    let just_slow = Policy { slow_call_percent: 100, failure_percent: 0, minimum_calls: 1, ..ratio() };
    let mut b = Breaker::new(just_slow, secs(0));
    let faster = just_slow.slow_call_duration.checked_sub(Duration::from_nanos(1)).unwrap();
    assert_eq!(timed(&mut b, CallClass::Read, CallOutcome::Failure, faster, secs(1)), None);
    let mut b = Breaker::new(just_slow, secs(0));
    assert!(timed(&mut b, CallClass::Read, CallOutcome::Success, just_slow.slow_call_duration, secs(1)).is_some());
}

#[test]
fn rule_3_a_late_result_never_changes_the_state() {
    let mut b = Breaker::new(bank(), secs(0));
    let early = b.admit(CallClass::Money, secs(0)).unwrap();
    trip(&mut b, secs(1));
    assert_eq!(b.record(early, CallOutcome::Success, FAST, secs(2)), None);
    assert_eq!(b.state(), BreakerState::Open, "a success while open does not close the circuit");
    let due = close_by_trial(&mut b);
    for _ in 0..20 {
        assert_eq!(b.record(early, CallOutcome::Failure, FAST, due), None);
    }
    assert_eq!(b.state(), BreakerState::Closed, "failures from before the opening do not open it again");
}

#[test]
fn rule_7_open_times_grow_up_to_the_cap_and_decay_while_healthy() {
    let mut policy = bank();
    policy.open.factor_milli = 2000;
    let mut b = opened(policy, secs(0));
    let mut lengths = vec![];
    for _ in 0..6 {
        let due = b.next_trial().unwrap();
        lengths.push(due.since(b.since).as_secs());
        assert_eq!(call(&mut b, CallClass::Probe, CallOutcome::Failure, due).unwrap().reason, TripReason::TrialFailed);
    }
    assert_eq!(lengths, [300, 600, 1200, 2400, 3600, 3600]);

    let mut b = opened(policy, secs(0));
    let closed = close_by_trial(&mut b);
    trip(&mut b, closed + Duration::from_secs(299));
    assert_eq!(b.next_trial().unwrap().since(b.since).as_secs(), 600, "closing keeps k");
    let closed = close_by_trial(&mut b);
    trip(&mut b, closed + Duration::from_mins(10));
    assert_eq!(b.next_trial().unwrap().since(b.since).as_secs(), 300, "two healthy base times are two steps back");
}

#[test]
fn rule_7_three_openings_within_an_hour_are_flapping() {
    let mut policy = bank();
    policy.open.base = Duration::from_mins(1);
    let mut b = Breaker::new(policy, secs(0));
    let mut now = secs(0);
    for expected in [false, false, true] {
        trip(&mut b, now);
        assert_eq!(b.is_flapping(), expected);
        if !expected {
            now = close_by_trial(&mut b);
        }
    }
    let due = b.next_trial().unwrap();
    assert!(
        call(&mut b, CallClass::Probe, CallOutcome::Success, due).is_some(),
        "one success still closes at factor 1"
    );
    assert!(!b.is_flapping());

    let mut b = Breaker::new(bank(), secs(0));
    trip(&mut b, secs(0));
    for _ in 0..10 {
        let due = b.next_trial().unwrap();
        let _ = call(&mut b, CallClass::Probe, CallOutcome::Failure, due);
    }
    assert!(!b.is_flapping(), "one long outage is not flapping, however often it opens again");
}

#[test]
fn rule_7_a_flapping_circuit_with_growth_needs_twice_the_successes() {
    let mut policy = bank();
    policy.open.base = Duration::from_mins(1);
    policy.open.factor_milli = 1500;
    let mut b = Breaker::new(policy, secs(0));
    let mut now = secs(0);
    for _ in 0..2 {
        trip(&mut b, now);
        now = close_by_trial(&mut b);
    }
    trip(&mut b, now);
    let due = b.next_trial().unwrap();
    assert_eq!(call(&mut b, CallClass::Probe, CallOutcome::Success, due), None);
    assert!(call(&mut b, CallClass::Probe, CallOutcome::Success, due).is_some());
}

#[test]
fn rule_8_closing_clears_every_counter() {
    let both = Policy { consecutive_failures: 5, ..ratio() };
    let mut b = Breaker::new(both, secs(0));
    for outcome in [CallOutcome::Success, CallOutcome::Failure, CallOutcome::Success, CallOutcome::Failure] {
        let _ = call(&mut b, CallClass::Read, outcome, secs(1));
    }
    assert_eq!(b.state(), BreakerState::Open);
    let due = close_by_trial(&mut b);
    for _ in 0..3 {
        assert_eq!(call(&mut b, CallClass::Read, CallOutcome::Failure, due), None, "the window starts empty");
    }
    assert!(call(&mut b, CallClass::Read, CallOutcome::Failure, due).is_some());
}

#[test]
fn rule_9_a_policy_change_never_lengthens_the_open_time() {
    let mut b = opened(bank(), secs(0));
    let mut longer = bank();
    longer.open.base = Duration::from_mins(30);
    assert_eq!(b.set_policy(longer, secs(10)), None);
    assert_eq!(b.next_trial(), Some(secs(300)), "the new base applies to the next opening");
    let mut shorter = bank();
    shorter.open.max = Duration::from_mins(2);
    assert_eq!(b.set_policy(shorter, secs(20)), None);
    assert_eq!(b.next_trial(), Some(secs(120)), "a shorter cap shortens this one");
    let _ = b.set_policy(longer, secs(30));
    assert_eq!(b.next_trial(), Some(secs(120)), "nothing lengthens it again");
    let _ = call(&mut b, CallClass::Probe, CallOutcome::Failure, secs(120));
    assert_eq!(b.next_trial(), Some(secs(1920)));
}

#[test]
fn rule_9_a_policy_change_keeps_the_counters_of_the_same_window() {
    let mut b = Breaker::new(ratio(), secs(0));
    for _ in 0..3 {
        let _ = call(&mut b, CallClass::Read, CallOutcome::Failure, secs(1));
    }
    let _ = b.set_policy(Policy { failure_percent: 60, ..ratio() }, secs(2));
    assert!(call(&mut b, CallClass::Read, CallOutcome::Failure, secs(2)).is_some());

    let mut b = Breaker::new(ratio(), secs(0));
    for _ in 0..3 {
        let _ = call(&mut b, CallClass::Read, CallOutcome::Failure, secs(1));
    }
    let _ = b.set_policy(Policy { window: WindowSpec::Calls(10), ..ratio() }, secs(2));
    assert_eq!(call(&mut b, CallClass::Read, CallOutcome::Failure, secs(2)), None);
}

#[test]
fn rule_10_a_clock_that_steps_back_changes_nothing() {
    let mut b = Breaker::new(ratio(), secs(1000));
    for now in [1000, 1030, 400, 0] {
        assert!(b.state() == BreakerState::Closed);
        let _ = call(&mut b, CallClass::Read, CallOutcome::Failure, secs(now));
    }
    assert_eq!(b.state(), BreakerState::Open, "all four fell into one window");
    let due = b.next_trial().unwrap();
    assert!(b.admit(CallClass::Read, secs(0)).is_err());
    assert!(b.admit(CallClass::Read, due).is_ok());
}

#[test]
fn rule_11_an_old_burst_of_failures_does_not_trip_later() {
    let mut b = Breaker::new(ratio(), secs(0));
    for _ in 0..3 {
        let _ = call(&mut b, CallClass::Read, CallOutcome::Failure, secs(1));
    }
    assert_eq!(call(&mut b, CallClass::Read, CallOutcome::Failure, secs(62)), None, "the window emptied by time");

    let mut b = Breaker::new(Policy { window: WindowSpec::Calls(4), ..ratio() }, secs(0));
    for outcome in
        [CallOutcome::Failure, CallOutcome::Success, CallOutcome::Success, CallOutcome::Success, CallOutcome::Success]
    {
        let _ = call(&mut b, CallClass::Read, outcome, secs(1));
    }
    assert_eq!(
        call(&mut b, CallClass::Read, CallOutcome::Failure, secs(1)),
        None,
        "the fifth call pushed out the first"
    );
    assert!(call(&mut b, CallClass::Read, CallOutcome::Failure, secs(1)).is_some());
}

#[test]
fn rule_13_a_rate_limited_call_is_no_failure() {
    let mut b = Breaker::new(bank(), secs(0));
    let mut throttle = Throttle::default();
    for _ in 0..100 {
        assert_eq!(call(&mut b, CallClass::Read, CallOutcome::Ignored, secs(1)), None);
        throttle.extend(Duration::from_mins(2), secs(1));
    }
    assert_eq!((b.state(), throttle.until(secs(1))), (BreakerState::Closed, Some(secs(121))));
}

#[test]
fn rule_14_an_ignored_outcome_does_not_affect_consecutive_failures() {
    let mut b = Breaker::new(bank(), secs(0));
    for _ in 0..4 {
        let _ = call(&mut b, CallClass::Read, CallOutcome::Failure, secs(1));
        assert_eq!(call(&mut b, CallClass::Read, CallOutcome::Ignored, secs(1)), None);
    }
    assert!(call(&mut b, CallClass::Read, CallOutcome::Failure, secs(1)).is_some());
    let mut b = Breaker::new(bank(), secs(0));
    for _ in 0..4 {
        let _ = call(&mut b, CallClass::Read, CallOutcome::Failure, secs(1));
    }
    let _ = call(&mut b, CallClass::Read, CallOutcome::Success, secs(1));
    assert_eq!(call(&mut b, CallClass::Read, CallOutcome::Failure, secs(1)), None, "a success does reset them");
}

#[test]
fn a_failed_check_of_our_own_fault_counts_and_does_not_trip() {
    let mut b = Breaker::new(bank(), secs(0));
    for _ in 0..100 {
        assert_eq!(call(&mut b, CallClass::Probe, CallOutcome::OwnFault, secs(1)), None);
    }
    assert_eq!(b.state(), BreakerState::Closed);
    let tripped = call(&mut b, CallClass::Read, CallOutcome::Failure, secs(1)).unwrap();
    assert_eq!(tripped.reason, TripReason::ConsecutiveFailures, "no call has succeeded since the first of them");

    let mut b = Breaker::new(bank(), secs(0));
    for _ in 0..100 {
        let _ = call(&mut b, CallClass::Probe, CallOutcome::OwnFault, secs(1));
    }
    let _ = call(&mut b, CallClass::Read, CallOutcome::Success, secs(1));
    assert_eq!(call(&mut b, CallClass::Read, CallOutcome::Failure, secs(1)), None, "a success does reset them");
}

#[test]
fn a_fault_of_our_own_that_is_corrected_does_not_count_any_more() {
    let mut b = Breaker::new(bank(), secs(0));
    for _ in 0..100 {
        let _ = call(&mut b, CallClass::Probe, CallOutcome::OwnFault, secs(1));
    }
    b.forgive_own_faults(secs(2));
    assert_eq!(call(&mut b, CallClass::Read, CallOutcome::Failure, secs(3)), None);
}

#[test]
fn faults_of_our_own_move_no_ratio() {
    let mut b = Breaker::new(Policy { minimum_calls: 5, slow_call_percent: 90, ..ratio() }, secs(0));
    for _ in 0..100 {
        let _ = call(&mut b, CallClass::Probe, CallOutcome::OwnFault, secs(1));
    }
    for _ in 0..4 {
        assert_eq!(call(&mut b, CallClass::Read, CallOutcome::Success, secs(1)), None);
        let slow = b.admit(CallClass::Read, secs(1)).unwrap();
        assert_eq!(
            b.record(slow, CallOutcome::Success, SLOW, secs(1)),
            None,
            "half of the calls are slow, none failed"
        );
    }
}

#[test]
fn critical_health_opens_a_closed_circuit_if_configured() {
    let mut b = Breaker::new(bank(), secs(0));
    let t = b.trip_unhealthy(secs(7)).unwrap();
    assert_eq!((t.to, t.reason, b.next_trial()), (EffectiveState::Open, TripReason::Health, Some(secs(307))));
    assert_eq!(b.trip_unhealthy(secs(8)), None, "it is already open");
    let _trial = b.admit(CallClass::Probe, secs(307)).unwrap();
    assert_eq!(b.trip_unhealthy(secs(308)), None, "while half-open the trial decides");
    assert_eq!(Breaker::new(Policy::preset(Preset::Api), secs(0)).trip_unhealthy(secs(1)), None);
}

#[test]
fn jitter_is_bounded_and_deterministic() {
    let mut policy = bank();
    policy.open.jitter_percent = 10;
    let lengths: Vec<_> = (0..200)
        .map(|seed| {
            let b = opened(Policy { jitter_seed: seed, ..policy }, secs(0));
            assert_eq!(b.next_trial(), opened(Policy { jitter_seed: seed, ..policy }, secs(0)).next_trial());
            b.next_trial().unwrap().since(secs(0)).as_secs()
        })
        .collect();
    assert!(lengths.iter().all(|s| (270..=330).contains(s)), "{lengths:?}");
    assert!(lengths.iter().any(|&s| s < 280) && lengths.iter().any(|&s| s > 320));
}
