//! The breaker's rules, each a test with a sentence for a name: `rules` tells them in the order they are numbered,
//! `overlays` what a person can force, `restarts` what survives a process, `properties` what holds for every script of
//! calls, among them that the machine and a slow, obvious model never disagree.

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

/// Consecutive failures off, half of at least four calls in 60 s.
pub(super) fn ratio() -> Policy {
    Policy { consecutive_failures: 0, failure_percent: 50, minimum_calls: 4, ..bank() }
}

/// One call from start to end at `now`.
pub(super) fn call(breaker: &mut Breaker, class: CallClass, outcome: Outcome, now: Mono) -> Option<Transition> {
    timed(breaker, class, outcome, FAST, now)
}

pub(super) fn timed(
    breaker: &mut Breaker,
    class: CallClass,
    outcome: Outcome,
    elapsed: Duration,
    now: Mono,
) -> Option<Transition> {
    let permit = breaker.admit(class, now).expect("the call is admitted");
    breaker.record(permit, outcome, elapsed, now)
}

/// A circuit that five failures opened at `at`.
pub(super) fn opened(policy: Policy, at: Mono) -> Breaker {
    let mut breaker = Breaker::new(policy, at);
    trip(&mut breaker, at);
    breaker
}

pub(super) fn trip(breaker: &mut Breaker, at: Mono) -> Transition {
    let n = breaker.policy().consecutive_failures.max(1);
    let last = (0..n).filter_map(|_| call(breaker, CallClass::Money, Outcome::Failure, at)).last();
    last.expect("that many failures trip")
}

/// A trial that succeeds as soon as one is due.
pub(super) fn heal(breaker: &mut Breaker) -> Mono {
    let due = breaker.next_trial().expect("open");
    assert!(call(breaker, CallClass::Probe, Outcome::Success, due).is_some());
    due
}
