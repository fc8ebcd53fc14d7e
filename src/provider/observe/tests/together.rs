//! Two threads at the object that calls share: not a mutex of the test's, but the lock that is really taken.

use super::*;
use crate::provider::course::Course;

#[test]
fn two_threads_never_have_more_trials_of_a_half_open_circuit_than_permitted() {
    const TRIALS: u8 = 2;
    let settings = settings(|draft| {
        draft.breaker.consecutive_failures = 1;
        draft.breaker.unhealthy = OnUnhealthy::Ignore;
        draft.breaker.open.base = Duration::from_millis(1);
        draft.breaker.half_open.trials = TRIALS;
        draft.breaker.half_open.required_successes = 500;
        draft.breaker.half_open.lease = Duration::from_mins(10);
    });
    let core = core(&settings);
    call(&core, &settings, CallClass::Read, 503);
    while core.admit(CallClass::Read, core.clock().mono()).map(|permit| core.abandoned(permit)).is_err() {
        std::thread::yield_now();
    }
    assert_eq!(core.circuit(), State::HalfOpen);
    let (out, most, trials) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut held = Vec::new();
                for round in 0_u32.. {
                    let started = core.clock().mono();
                    if let Ok(permit) = core.admit(CallClass::Read, started) {
                        if permit.kind() != breaker::PermitKind::Trial {
                            return;
                        }
                        most.fetch_max(out.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        trials.fetch_add(1, Ordering::SeqCst);
                        held.push((permit, started));
                    }
                    // One that holds all of them, one that holds some, and one that holds none, by turns.
                    if held.len() == usize::from(TRIALS) || round % 3 == 0 {
                        for (permit, started) in held.drain(..) {
                            out.fetch_sub(1, Ordering::SeqCst);
                            let ended = Ok(&answer(200));
                            core.finished(
                                &settings,
                                permit,
                                CallClass::Read,
                                &"x".into(),
                                (started, &Course::default()),
                                ended,
                            );
                        }
                    }
                    if core.circuit() == State::Closed {
                        return;
                    }
                }
            });
        }
    });
    assert!(most.load(Ordering::SeqCst) <= usize::from(TRIALS), "{most:?}");
    assert!(trials.load(Ordering::SeqCst) >= 500, "so many were needed");
    assert_eq!(core.observed(&settings).effective, Effective::Closed);
}
