//! Restore after a restart, including wrong wall clocks.

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::domain::time::Now;

fn wall(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// `seconds` after the process started at 12:00.
fn at_second(seconds: u64) -> Now {
    Now { mono: secs(seconds), wall: wall("2026-01-01T12:00:00Z") + SignedDuration::from_secs(seconds.cast_signed()) }
}

#[test]
fn an_open_circuit_is_restored_with_its_remaining_open_time() {
    let b = opened(bank(), secs(10));
    let saved = b.snapshot(at_second(20));
    assert_eq!(saved.last_transition, wall("2026-01-01T12:00:10Z"));
    assert_eq!(saved.next_trial, Some(wall("2026-01-01T12:05:10Z")));
    assert_eq!((saved.state, saved.epoch, saved.opens), (BreakerState::Open, 1, 1));
    assert_eq!(saved.reason, Some(TripReason::ConsecutiveFailures));

    let later = Now { mono: secs(3), wall: wall("2026-01-01T12:04:10Z") };
    let mut restored = Breaker::restore(bank(), &saved, later);
    assert_eq!(restored.snapshot(later), Snapshot { epoch: 2, ..saved });
    assert_eq!(restored.next_trial(), Some(secs(63)));
    assert!(restored.admit(CallClass::Read, secs(62)).is_err());
    assert!(restored.admit(CallClass::Read, secs(63)).is_ok());
}

#[test]
fn a_trial_that_came_due_between_processes_is_admitted_at_once() {
    let saved = opened(bank(), secs(0)).snapshot(at_second(0));
    let tomorrow = Now { mono: secs(1), wall: wall("2026-01-02T12:00:00Z") };
    let mut restored = Breaker::restore(bank(), &saved, tomorrow);
    assert_eq!(restored.effective(), EffectiveState::Open);
    assert!(restored.admit(CallClass::Money, secs(1)).is_err());
    assert_eq!(restored.admit(CallClass::Read, secs(1)).unwrap().kind(), PermitKind::Trial);
}

#[test]
fn an_opening_in_the_future_is_treated_as_now_and_capped() {
    let saved = Snapshot {
        state: BreakerState::Open,
        last_transition: wall("2027-01-01T00:00:00Z"),
        epoch: 7,
        opens: 2,
        next_trial: Some(wall("2027-01-01T00:05:00Z")),
        reason: Some(TripReason::Health),
    };
    let restored = Breaker::restore(bank(), &saved, at_second(5));
    let seen = restored.snapshot(at_second(5));
    assert_eq!(seen.last_transition, at_second(5).wall);
    assert_eq!(restored.next_trial(), Some(secs(5 + 3600)), "open.max");
    assert_eq!(seen.next_trial, Some(at_second(3605).wall));

    let skewed = Snapshot { last_transition: at_second(5).wall + SignedDuration::from_secs(5), ..saved };
    let restored = Breaker::restore(bank(), &skewed, at_second(5));
    assert_eq!(restored.snapshot(at_second(5)).last_transition, skewed.last_transition, "five seconds are tolerated");
}

#[test]
fn a_half_open_circuit_is_restored_with_a_new_dwell() {
    let mut b = opened(bank(), secs(0));
    let lost = b.admit(CallClass::Read, secs(300)).unwrap();
    let saved = b.snapshot(at_second(301));
    assert_eq!((saved.state, saved.next_trial), (BreakerState::HalfOpen, None));
    let later = Now { mono: secs(2), wall: wall("2026-01-01T13:00:00Z") };
    let mut restored = Breaker::restore(bank(), &saved, later);
    assert_eq!(restored.tick(secs(2)), None, "no trial could report while no process ran");
    assert_eq!(
        restored.record(lost, CallOutcome::Failure, FAST, secs(2)),
        None,
        "a permit of the previous process is stale"
    );
    assert!(call(&mut restored, CallClass::Read, CallOutcome::Success, secs(3)).is_some());
}

#[test]
fn an_invalid_snapshot_does_not_break_the_machine() {
    for (epoch, opens, next_trial) in
        [(i64::MAX, i32::MAX, Some(Timestamp::MAX)), (i64::MIN, i32::MIN, Some(Timestamp::MIN)), (-1, -1, None)]
    {
        for state in [BreakerState::Closed, BreakerState::HalfOpen, BreakerState::Open] {
            for last_transition in [Timestamp::MIN, Timestamp::MAX] {
                let saved = Snapshot { state, last_transition, epoch, opens, next_trial, reason: None };
                let mut restored = Breaker::restore(bank(), &saved, at_second(0));
                let before = restored.epoch();
                assert!(before >= 1);
                for n in 0..20 {
                    let now = secs(n * 1000);
                    let _ = restored.tick(now);
                    if let Ok(permit) = restored.admit(CallClass::Read, now) {
                        let _ = restored.record(permit, CallOutcome::Failure, FAST, now);
                    }
                    let _ = restored.snapshot(at_second(n * 1000));
                }
                assert!(restored.epoch() > before, "the machine still works");
            }
        }
    }
}

#[test]
fn clock_drift_does_not_change_the_snapshot() {
    let b = opened(bank(), secs(10));
    let first = b.snapshot(at_second(20));
    let drifted = Now { wall: at_second(400).wall + SignedDuration::from_millis(2700), ..at_second(400) };
    assert_eq!(b.snapshot(drifted), first);
}

#[test]
fn rounding_to_seconds_never_makes_a_trial_early() {
    let start = secs(0) + Duration::from_millis(700);
    let b = opened(bank(), start);
    let saved = b.snapshot(at_second(1));
    assert_eq!(saved.last_transition, at_second(0).wall, "rounded down");
    assert_eq!(saved.next_trial, Some(at_second(301).wall), "rounded up");
    let restored = Breaker::restore(bank(), &saved, at_second(2));
    assert!(restored.next_trial() >= b.next_trial());
}

#[test]
fn a_closed_circuit_is_restored_without_flap_history() {
    let mut b = opened(bank(), secs(0));
    close_by_trial(&mut b);
    let saved = b.snapshot(at_second(400));
    let restored = Breaker::restore(bank(), &saved, at_second(500));
    assert_eq!(
        (restored.effective(), restored.epoch(), restored.is_flapping()),
        (EffectiveState::Closed, saved.epoch + 1, false)
    );
    assert_eq!(restored.snapshot(at_second(500)).last_transition, saved.last_transition);
}

#[test]
fn a_shorter_cap_after_a_restart_counts_from_the_opening() {
    let saved = opened(bank(), secs(10)).snapshot(at_second(10));
    // Two minutes later a new process starts, and a minute after that `open.max` becomes four minutes.
    let later = Now { mono: secs(2), wall: at_second(130).wall };
    let mut restored = Breaker::restore(bank(), &saved, later);
    assert_eq!(restored.next_trial(), Some(secs(2 + 180)));
    let mut shorter = bank();
    shorter.open.max = Duration::from_mins(4);
    assert_eq!(restored.set_policy(shorter, secs(62)), None);
    // A second more than exact: the status has whole seconds.
    assert_eq!(restored.next_trial(), Some(secs(2 + 121)));

    // The same for a policy that changed before the restart.
    let mut restored = Breaker::restore(shorter, &saved, later);
    assert_eq!(restored.next_trial(), Some(secs(2 + 121)));
    shorter.open.max = Duration::from_mins(1);
    assert_eq!(restored.set_policy(shorter, secs(3)), None);
    assert!(restored.admit(CallClass::Read, secs(3)).is_ok(), "already open for longer than that");
}

#[test]
fn the_healthy_time_of_a_closed_circuit_survives_a_restart() {
    let mut growing = bank();
    growing.open.factor_milli = 2000;
    for (healthy, opens) in [(0, 4), (310, 3), (610, 2), (1000, 1)] {
        let mut b = opened(growing, secs(0));
        for _ in 0..2 {
            let due = b.next_trial().unwrap();
            assert!(call(&mut b, CallClass::Probe, CallOutcome::Failure, due).is_some());
        }
        let closed = close_by_trial(&mut b).since(Mono::ZERO).as_secs();
        let saved = b.snapshot(at_second(closed));
        assert_eq!(saved.opens, 3);
        let mut restored =
            Breaker::restore(growing, &saved, Now { mono: secs(1), wall: at_second(closed + healthy).wall });
        trip(&mut restored, secs(1));
        assert_eq!(restored.snapshot(at_second(1)).opens, opens, "healthy for {healthy} s");
    }
}

proptest! {
    #[test]
    fn restarts_and_policy_changes_never_admit_a_trial_early(
        opened_ms in 0u64..5_000,
        lives in prop::collection::vec((1u64..200_000, 300u64..4_000), 1..6),
    ) {
        // Wall time starts at 12:00 and continues over the restarts; the monotonic clock of each process starts at
        // zero.
        let mut wall_ms = opened_ms;
        let now = |mono_ms: u64, wall_ms: u64| Now {
            mono: Mono::ZERO + Duration::from_millis(mono_ms),
            wall: at_second(0).wall + SignedDuration::from_millis(wall_ms.cast_signed()),
        };
        let mut b = opened(bank(), now(opened_ms, opened_ms).mono);
        let expected_trial = wall_ms + 300_000;
        let mut mono_ms = opened_ms;
        for (life, base_s) in lives {
            let mut policy = bank();
            policy.open.base = Duration::from_secs(base_s);
            policy.open.max = Duration::from_secs(base_s.max(301));
            let before = b.next_trial();
            let _ = b.set_policy(policy, now(mono_ms, wall_ms).mono);
            prop_assert_eq!(b.next_trial(), before, "a policy change above the cap does not move the next trial");
            mono_ms += life;
            wall_ms += life;
            let saved = b.snapshot(now(mono_ms, wall_ms));
            let early = b.clone().admit(CallClass::Read, now(mono_ms, wall_ms).mono).is_ok();
            prop_assert!(!early || wall_ms >= expected_trial);
            b = Breaker::restore(policy, &saved, now(0, wall_ms));
            mono_ms = 0;
            prop_assert_eq!(b.snapshot(now(0, wall_ms)), Snapshot { epoch: saved.epoch + 1, ..saved });
            // Whole seconds are rounded once, not once per restart.
            let left = b.next_trial().unwrap().since(Mono::ZERO).as_millis();
            prop_assert!(u128::from(wall_ms) + left < u128::from(expected_trial) + 1000 || left == 0);
        }
    }
}
