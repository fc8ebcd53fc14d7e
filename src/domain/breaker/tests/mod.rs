//! Tests of the breaker: `rules` and `half_open_rules` have the numbered rules, `overlays` the overrides and the shadow mode, `restarts` the
//! persistence, `properties` the invariants of every sequence of calls, including agreement with the reference model.

mod half_open_rules;
mod overlays;
mod properties;
mod restarts;
mod rules;

use std::time::Duration;

use super::*;
use crate::domain::time::Mono;

pub(super) const FAST: Duration = Duration::from_millis(20);
pub(super) const SLOW: Duration = Duration::from_secs(5);

pub(super) fn secs(s: u64) -> Mono {
    Mono::ZERO + Duration::from_secs(s)
}

pub(super) fn bank() -> Policy {
    Policy::preset(Preset::Bank)
}

/// Trips at half of at least four calls in 60 s; consecutive failures off.
pub(super) fn ratio() -> Policy {
    Policy { consecutive_failures: 0, failure_percent: 50, minimum_calls: 4, ..bank() }
}

/// One call that starts and ends at `now`.
pub(super) fn call(breaker: &mut Breaker, class: CallClass, outcome: CallOutcome, now: Mono) -> Option<Transition> {
    timed(breaker, class, outcome, FAST, now)
}

pub(super) fn timed(
    breaker: &mut Breaker,
    class: CallClass,
    outcome: CallOutcome,
    elapsed: Duration,
    now: Mono,
) -> Option<Transition> {
    let permit = breaker.admit(class, now).expect("the call is admitted");
    breaker.record(permit, outcome, elapsed, now)
}

/// A circuit opened by consecutive failures at `at`.
pub(super) fn opened(policy: Policy, at: Mono) -> Breaker {
    let mut breaker = Breaker::new(policy, at);
    trip(&mut breaker, at);
    breaker
}

pub(super) fn trip(breaker: &mut Breaker, at: Mono) -> Transition {
    let n = breaker.policy.consecutive_failures.max(1);
    let last = (0..n).filter_map(|_| call(breaker, CallClass::Money, CallOutcome::Failure, at)).last();
    last.expect("that many failures trip")
}

/// Closes the circuit with a successful trial as soon as one is due.
pub(super) fn close_by_trial(breaker: &mut Breaker) -> Mono {
    let due = breaker.next_trial().expect("open");
    assert!(call(breaker, CallClass::Probe, CallOutcome::Success, due).is_some());
    due
}
