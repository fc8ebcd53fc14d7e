//! Scripts of calls, and a breaker that plays them.

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::domain::time::Now;

/// One step of a script. Indices select a call in flight.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Wait(u64),
    TurnBack(u64),
    Start(CallClass),
    End {
        which: usize,
        outcome: CallOutcome,
        slow: bool,
    },
    Drop(usize),
    Retry(usize),
    Tick,
    Unhealthy,
    Force(OverrideMode, u64),
    Free,
    /// The policy changes.
    SetPolicy(Policy),
    /// A new process restores the snapshot.
    Restart,
}

fn class() -> impl Strategy<Value = CallClass> {
    prop::sample::select(vec![CallClass::Probe, CallClass::Read, CallClass::Write, CallClass::Money])
}

fn outcome() -> impl Strategy<Value = CallOutcome> {
    prop_oneof![3 => Just(CallOutcome::Success), 4 => Just(CallOutcome::Failure), 1 => Just(CallOutcome::OwnFault),
        1 => Just(CallOutcome::Ignored)]
}

fn mode() -> impl Strategy<Value = OverrideMode> {
    prop::sample::select(vec![OverrideMode::ForcedOpen, OverrideMode::ForcedClosed, OverrideMode::Shadow])
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u64..4000).prop_map(Step::Wait),
        1 => (10_000u64..400_000).prop_map(Step::Wait),
        1 => (0u64..30_000).prop_map(Step::TurnBack),
        12 => class().prop_map(Step::Start),
        12 => (any::<prop::sample::Index>(), outcome(), any::<bool>())
            .prop_map(|(i, outcome, slow)| Step::End { which: i.index(1000), outcome, slow }),
        1 => any::<prop::sample::Index>().prop_map(|i| Step::Drop(i.index(1000))),
        3 => any::<prop::sample::Index>().prop_map(|i| Step::Retry(i.index(1000))),
        2 => Just(Step::Tick),
        1 => Just(Step::Unhealthy),
        1 => (mode(), 0u64..60_000).prop_map(|(m, ms)| Step::Force(m, ms)),
        1 => Just(Step::Free),
    ]
}

/// The same, with policy changes and restarts, and with clocks that turn back a little more often: an instant that was
/// written before may then be ahead.
pub(super) fn step_with_restarts() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => step(),
        1 => policy().prop_map(Step::SetPolicy),
        2 => Just(Step::Restart),
        1 => (0u64..12_000).prop_map(Step::TurnBack),
    ]
}

pub(super) fn policy() -> impl Strategy<Value = Policy> {
    let trip =
        (0u32..4, prop::sample::select(vec![0u8, 30, 50, 100]), prop::sample::select(vec![0u8, 40, 100]), 1u32..8);
    let window = prop_oneof![
        (1u64..30).prop_map(|s| WindowSpec::Time(Duration::from_secs(s))),
        (1u16..12).prop_map(WindowSpec::Calls),
        Just(WindowSpec::Calls(130)),
    ];
    let open = (
        1u64..60,
        0u64..240,
        prop::sample::select(vec![1000u32, 1500, 2000]),
        prop::sample::select(vec![0u8, 0, 10, 100]),
        any::<u64>(),
    );
    let half = (1u8..4, 1u32..4, 1u64..20, 20u64..120);
    (trip, window, open, half, any::<bool>(), any::<bool>()).prop_map(
        |(
            (consecutive_failures, failure_percent, slow_call_percent, minimum_calls),
            window,
            open,
            half,
            shadow,
            unhealthy_opens,
        )| {
            Policy {
                mode: if shadow { Mode::Shadow } else { Mode::Enforce },
                consecutive_failures,
                failure_percent,
                slow_call_percent,
                slow_call_duration: Duration::from_secs(1),
                minimum_calls,
                unhealthy: if unhealthy_opens { OnUnhealthy::Open } else { OnUnhealthy::Ignore },
                window,
                open: OpenPolicy {
                    base: Duration::from_secs(open.0),
                    max: Duration::from_secs(open.0 + open.1),
                    factor_milli: open.2,
                    jitter_percent: open.3,
                },
                half_open: HalfOpenPolicy {
                    trials: half.0,
                    required_successes: half.1,
                    lease: Duration::from_secs(half.2),
                    max_dwell: Duration::from_secs(half.3),
                },
                jitter_seed: open.4,
            }
        },
    )
}

/// Both clocks without drift: the wall clock shows 12:00 at monotonic zero.
pub(super) fn wall(now: Mono) -> Now {
    let noon: Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
    Now { mono: now, wall: noon + SignedDuration::from_nanos(now.nanos().cast_signed()) }
}

/// A breaker that executes a script and records the transitions.
pub(super) struct Simulation {
    pub(super) breaker: Breaker,
    pub(super) now: Mono,
    pub(super) out: Vec<Permit>,
    /// The last call that asked for a retry, and the answer.
    pub(super) retried: Option<(Permit, bool)>,
    /// All transitions.
    pub(super) transitions: Vec<Transition>,
}

impl Simulation {
    pub(super) fn new(policy: Policy) -> Self {
        let now = secs(1000);
        Self { breaker: Breaker::new(policy, now), now, out: vec![], retried: None, transitions: vec![] }
    }

    /// Executes one step; returns the result of an admission, and the transition if there was one.
    pub(super) fn play(&mut self, step: &Step) -> (Option<Result<Permit, CallNotPermitted>>, Option<Transition>) {
        let mut admission = None;
        self.retried = None;
        let transition = match *step {
            Step::Wait(ms) => {
                self.now = self.now + Duration::from_millis(ms);
                None
            }
            Step::TurnBack(ms) => {
                self.now = self.now - Duration::from_millis(ms);
                None
            }
            Step::Start(class) => {
                let result = self.breaker.admit(class, self.now);
                self.out.extend(result.ok());
                admission = Some(result);
                self.breaker.take_transition()
            }
            Step::End { which, outcome, slow } if !self.out.is_empty() => {
                let permit = self.out.swap_remove(which % self.out.len());
                self.breaker.record(permit, outcome, if slow { SLOW } else { FAST }, self.now)
            }
            Step::Drop(which) if !self.out.is_empty() => {
                let permit = self.out.swap_remove(which % self.out.len());
                self.breaker.abandon(permit, self.now);
                None
            }
            Step::Retry(which) if !self.out.is_empty() => {
                let permit = self.out[which % self.out.len()];
                self.retried = Some((permit, self.breaker.admit_retry(permit, self.now)));
                None
            }
            Step::End { .. } | Step::Drop(_) | Step::Retry(_) => None,
            Step::Tick => self.breaker.tick(self.now),
            Step::Unhealthy => self.breaker.trip_unhealthy(self.now),
            Step::Force(mode, ms) => {
                let until = self.now + Duration::from_millis(ms);
                self.breaker.set_override(Some(Override { mode, until }), self.now)
            }
            Step::Free => self.breaker.set_override(None, self.now),
            Step::SetPolicy(policy) => self.breaker.set_policy(policy, self.now),
            Step::Restart => {
                let now = wall(self.now);
                let kept = self.breaker.snapshot(now);
                self.breaker = Breaker::restore(self.breaker.policy, &kept, now);
                None
            }
        };
        self.transitions.extend(transition);
        (admission, transition)
    }
}
