//! What survives the process, and what a wrong wall clock can do to it.

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::domain::time::Now;

fn wall(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// `seconds` after the process started at noon.
fn noon(seconds: u64) -> Now {
    Now { mono: secs(seconds), wall: wall("2026-01-01T12:00:00Z") + SignedDuration::from_secs(seconds.cast_signed()) }
}

#[test]
fn an_open_circuit_comes_back_open_with_the_same_transition_time_and_the_rest_of_its_wait() {
    let b = opened(bank(), secs(10));
    let kept = b.snapshot(noon(20));
    assert_eq!(kept.last_transition, wall("2026-01-01T12:00:10Z"));
    assert_eq!(kept.next_trial, Some(wall("2026-01-01T12:05:10Z")));
    assert_eq!((kept.state, kept.epoch, kept.opens), (State::Open, 1, 1));
    assert_eq!(kept.reason, Some(TripReason::ConsecutiveFailures));

    let later = Now { mono: secs(3), wall: wall("2026-01-01T12:04:10Z") };
    let mut again = Breaker::restore(bank(), &kept, later);
    assert_eq!(again.snapshot(later), Snapshot { epoch: 2, ..kept });
    assert_eq!(again.next_trial(), Some(secs(63)));
    assert!(again.admit(CallClass::Read, secs(62)).is_err());
    assert!(again.admit(CallClass::Read, secs(63)).is_ok());
}

#[test]
fn a_circuit_whose_wait_ended_while_no_process_ran_gets_its_trial_at_once() {
    let kept = opened(bank(), secs(0)).snapshot(noon(0));
    let tomorrow = Now { mono: secs(1), wall: wall("2026-01-02T12:00:00Z") };
    let mut again = Breaker::restore(bank(), &kept, tomorrow);
    assert_eq!(again.effective(), Effective::Open);
    assert!(again.admit(CallClass::Money, secs(1)).is_err());
    assert_eq!(again.admit(CallClass::Read, secs(1)).unwrap().kind(), PermitKind::Trial);
}

#[test]
fn an_opening_in_the_future_beyond_five_seconds_happened_now_and_never_waits_longer_than_the_cap() {
    let kept = Snapshot {
        state: State::Open,
        last_transition: wall("2027-01-01T00:00:00Z"),
        epoch: 7,
        opens: 2,
        next_trial: Some(wall("2027-01-01T00:05:00Z")),
        reason: Some(TripReason::Health),
    };
    let again = Breaker::restore(bank(), &kept, noon(5));
    let seen = again.snapshot(noon(5));
    assert_eq!(seen.last_transition, noon(5).wall);
    assert_eq!(again.next_trial(), Some(secs(5 + 3600)), "open.max");
    assert_eq!(seen.next_trial, Some(noon(3605).wall));

    let skewed = Snapshot { last_transition: noon(5).wall + SignedDuration::from_secs(5), ..kept };
    let again = Breaker::restore(bank(), &skewed, noon(5));
    assert_eq!(again.snapshot(noon(5)).last_transition, skewed.last_transition, "five seconds are forgiven");
}

#[test]
fn a_half_open_circuit_comes_back_half_open_with_all_its_trials_and_a_new_dwell() {
    let mut b = opened(bank(), secs(0));
    let lost = b.admit(CallClass::Read, secs(300)).unwrap();
    let kept = b.snapshot(noon(301));
    assert_eq!((kept.state, kept.next_trial), (State::HalfOpen, None));
    let later = Now { mono: secs(2), wall: wall("2026-01-01T13:00:00Z") };
    let mut again = Breaker::restore(bank(), &kept, later);
    assert_eq!(again.tick(secs(2)), None, "nobody could report while no process ran");
    assert_eq!(again.record(lost, Outcome::Failure, FAST, secs(2)), None, "the former process's permit is late");
    assert!(call(&mut again, CallClass::Read, Outcome::Success, secs(3)).is_some());
}

#[test]
fn a_status_that_somebody_else_wrote_cannot_break_the_machine() {
    for (epoch, opens, next_trial) in
        [(i64::MAX, i32::MAX, Some(Timestamp::MAX)), (i64::MIN, i32::MIN, Some(Timestamp::MIN)), (-1, -1, None)]
    {
        for state in [State::Closed, State::HalfOpen, State::Open] {
            for last_transition in [Timestamp::MIN, Timestamp::MAX] {
                let kept = Snapshot { state, last_transition, epoch, opens, next_trial, reason: None };
                let mut again = Breaker::restore(bank(), &kept, noon(0));
                let before = again.epoch();
                assert!(before >= 1);
                for n in 0..20 {
                    let now = secs(n * 1000);
                    let _ = again.tick(now);
                    if let Ok(permit) = again.admit(CallClass::Read, now) {
                        let _ = again.record(permit, Outcome::Failure, FAST, now);
                    }
                    let _ = again.snapshot(noon(n * 1000));
                }
                assert!(again.epoch() > before, "it went on working");
            }
        }
    }
}

#[test]
fn two_clocks_that_drift_apart_never_make_an_unchanged_circuit_look_changed() {
    let b = opened(bank(), secs(10));
    let first = b.snapshot(noon(20));
    let drifted = Now { wall: noon(400).wall + SignedDuration::from_millis(2700), ..noon(400) };
    assert_eq!(b.snapshot(drifted), first);
}

#[test]
fn whole_seconds_in_status_never_make_a_restart_early() {
    let start = secs(0) + Duration::from_millis(700);
    let b = opened(bank(), start);
    let kept = b.snapshot(noon(1));
    assert_eq!(kept.last_transition, noon(0).wall, "rounded down");
    assert_eq!(kept.next_trial, Some(noon(301).wall), "rounded up");
    let again = Breaker::restore(bank(), &kept, noon(2));
    assert!(again.next_trial() >= b.next_trial());
}

#[test]
fn a_closed_circuit_comes_back_closed_and_its_flap_history_starts_anew() {
    let mut b = opened(bank(), secs(0));
    heal(&mut b);
    let kept = b.snapshot(noon(400));
    let again = Breaker::restore(bank(), &kept, noon(500));
    assert_eq!((again.effective(), again.epoch(), again.is_flapping()), (Effective::Closed, kept.epoch + 1, false));
    assert_eq!(again.snapshot(noon(500)).last_transition, kept.last_transition);
}

#[test]
fn a_shorter_cap_after_a_restart_counts_from_the_opening_and_not_from_the_restart() {
    let kept = opened(bank(), secs(10)).snapshot(noon(10));
    // Two minutes later another process takes over, and a minute after that `open.max` becomes four minutes.
    let later = Now { mono: secs(2), wall: noon(130).wall };
    let mut again = Breaker::restore(bank(), &kept, later);
    assert_eq!(again.next_trial(), Some(secs(2 + 180)));
    let mut shorter = bank();
    shorter.open.max = Duration::from_mins(4);
    assert_eq!(again.set_policy(shorter, secs(62)), None);
    // A second more than exact: the status tells whole seconds.
    assert_eq!(again.next_trial(), Some(secs(2 + 121)));

    // The same for an edit that the restart itself finds.
    let mut again = Breaker::restore(shorter, &kept, later);
    assert_eq!(again.next_trial(), Some(secs(2 + 121)));
    shorter.open.max = Duration::from_mins(1);
    assert_eq!(again.set_policy(shorter, secs(3)), None);
    assert!(again.admit(CallClass::Read, secs(3)).is_ok(), "open for longer than that already");
}

#[test]
fn a_closed_circuit_has_been_well_for_as_long_as_before_the_restart() {
    let mut growing = bank();
    growing.open.factor_milli = 2000;
    for (well, opens) in [(0, 4), (310, 3), (610, 2), (1000, 1)] {
        let mut b = opened(growing, secs(0));
        for _ in 0..2 {
            let due = b.next_trial().unwrap();
            assert!(call(&mut b, CallClass::Probe, Outcome::Failure, due).is_some());
        }
        let closed = heal(&mut b).since(Mono::ZERO).as_secs();
        let kept = b.snapshot(noon(closed));
        assert_eq!(kept.opens, 3);
        let mut again = Breaker::restore(growing, &kept, Now { mono: secs(1), wall: noon(closed + well).wall });
        trip(&mut again, secs(1));
        assert_eq!(again.snapshot(noon(1)).opens, opens, "well for {well} s");
    }
}

proptest! {
    #[test]
    fn no_chain_of_restarts_and_policy_edits_admits_a_trial_before_it_was_first_promised(
        opened_ms in 0u64..5_000,
        lives in prop::collection::vec((1u64..200_000, 300u64..4_000), 1..6),
    ) {
        // Wall time starts at noon and runs on over the restarts; each process's own clock starts at zero.
        let mut wall_ms = opened_ms;
        let now = |mono_ms: u64, wall_ms: u64| Now {
            mono: Mono::ZERO + Duration::from_millis(mono_ms),
            wall: noon(0).wall + SignedDuration::from_millis(wall_ms.cast_signed()),
        };
        let mut b = opened(bank(), now(opened_ms, opened_ms).mono);
        let promised = wall_ms + 300_000;
        let mut mono_ms = opened_ms;
        for (life, base_s) in lives {
            let mut policy = bank();
            policy.open.base = Duration::from_secs(base_s);
            policy.open.max = Duration::from_secs(base_s.max(301));
            let before = b.next_trial();
            let _ = b.set_policy(policy, now(mono_ms, wall_ms).mono);
            prop_assert_eq!(b.next_trial(), before, "an edit neither lengthens nor, above the cap, shortens");
            mono_ms += life;
            wall_ms += life;
            let kept = b.snapshot(now(mono_ms, wall_ms));
            let early = b.clone().admit(CallClass::Read, now(mono_ms, wall_ms).mono).is_ok();
            prop_assert!(!early || wall_ms >= promised);
            b = Breaker::restore(policy, &kept, now(0, wall_ms));
            mono_ms = 0;
            prop_assert_eq!(b.snapshot(now(0, wall_ms)), Snapshot { epoch: kept.epoch + 1, ..kept });
            // Whole seconds are rounded once, not once per restart.
            let left = b.next_trial().unwrap().since(Mono::ZERO).as_millis();
            prop_assert!(u128::from(wall_ms) + left < u128::from(promised) + 1000 || left == 0);
        }
    }
}
