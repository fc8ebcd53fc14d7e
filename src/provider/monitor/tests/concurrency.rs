//! Two threads on one shared monitor: the real lock, not a mutex of the test.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

#[test]
fn two_threads_never_exceed_the_permitted_half_open_trials() {
    const TRIALS: u8 = 2;
    let settings = settings(|draft| {
        draft.breaker.consecutive_failures = 1;
        draft.breaker.unhealthy = OnUnhealthy::Ignore;
        draft.breaker.open.base = Duration::from_millis(1);
        draft.breaker.half_open.trials = TRIALS;
        draft.breaker.half_open.required_successes = 500;
        draft.breaker.half_open.lease = Duration::from_mins(10);
    });
    let monitor = monitor(&settings);
    call(&monitor, &settings, CallClass::Read, 503);
    while monitor
        .admit(CallClass::Read, monitor.clock().mono())
        .map(|permit| monitor.record_abandoned(CallClass::Read, permit))
        .is_err()
    {
        std::thread::yield_now();
    }
    assert_eq!(monitor.circuit_state(), BreakerState::HalfOpen);
    let (in_flight, most, trials) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut held = Vec::new();
                for round in 0_u32.. {
                    let started = monitor.clock().mono();
                    if let Ok(permit) = monitor.admit(CallClass::Read, started) {
                        if permit.kind() != crate::domain::breaker::PermitKind::Trial {
                            return;
                        }
                        most.fetch_max(in_flight.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        trials.fetch_add(1, Ordering::SeqCst);
                        held.push((permit, started));
                    }
                    // Rounds alternate between holding all, some and none of the permits.
                    if held.len() == usize::from(TRIALS) || round % 3 == 0 {
                        for (permit, started) in held.drain(..) {
                            in_flight.fetch_sub(1, Ordering::SeqCst);
                            record(&monitor, &settings, (permit, started), CallClass::Read, 200);
                        }
                    }
                    if monitor.circuit_state() == BreakerState::Closed {
                        return;
                    }
                }
            });
        }
    });
    assert!(most.load(Ordering::SeqCst) <= usize::from(TRIALS), "{most:?}");
    assert!(trials.load(Ordering::SeqCst) >= 500, "as many as required");
    assert_eq!(monitor.snapshot(&settings).effective, EffectiveState::Closed);
}
