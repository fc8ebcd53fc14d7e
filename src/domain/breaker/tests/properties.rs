//! Invariants of every sequence of calls, and of two threads.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::super::reference::{Model, ModelPermit};
use super::*;
use crate::domain::time::Now;

/// One step of a script. Indices select a call in flight.
#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    TurnBack(u64),
    Start(CallClass),
    End {
        which: usize,
        outcome: CallOutcome,
        slow: bool,
    },
    Drop(usize),
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
    prop_oneof![3 => Just(CallOutcome::Success), 4 => Just(CallOutcome::Failure), 1 => Just(CallOutcome::Ignored)]
}

fn mode() -> impl Strategy<Value = OverrideMode> {
    prop::sample::select(vec![OverrideMode::ForcedOpen, OverrideMode::ForcedClosed, OverrideMode::Shadow])
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u64..4000).prop_map(Step::Wait),
        1 => (10_000u64..400_000).prop_map(Step::Wait),
        1 => (0u64..30_000).prop_map(Step::TurnBack),
        12 => class().prop_map(Step::Start),
        12 => (any::<prop::sample::Index>(), outcome(), any::<bool>())
            .prop_map(|(i, outcome, slow)| Step::End { which: i.index(1000), outcome, slow }),
        1 => any::<prop::sample::Index>().prop_map(|i| Step::Drop(i.index(1000))),
        2 => Just(Step::Tick),
        1 => Just(Step::Unhealthy),
        1 => (mode(), 0u64..60_000).prop_map(|(m, ms)| Step::Force(m, ms)),
        1 => Just(Step::Free),
    ]
}

/// The same, with policy changes and restarts.
fn step_with_restarts() -> impl Strategy<Value = Step> {
    prop_oneof![30 => step(), 1 => policy().prop_map(Step::SetPolicy), 1 => Just(Step::Restart)]
}

fn policy() -> impl Strategy<Value = Policy> {
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
fn wall(now: Mono) -> Now {
    let noon: Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
    Now { mono: now, wall: noon + SignedDuration::from_nanos(now.nanos().cast_signed()) }
}

/// A breaker that executes a script and records the transitions.
struct Simulation {
    breaker: Breaker,
    now: Mono,
    out: Vec<Permit>,
    /// All transitions.
    transitions: Vec<Transition>,
}

impl Simulation {
    fn new(policy: Policy) -> Self {
        let now = secs(1000);
        Self { breaker: Breaker::new(policy, now), now, out: vec![], transitions: vec![] }
    }

    /// Executes one step; returns the result of an admission, and the transition if there was one.
    fn play(&mut self, step: &Step) -> (Option<Result<Permit, CallNotPermitted>>, Option<Transition>) {
        let mut admission = None;
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
            Step::End { .. } | Step::Drop(_) => None,
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn the_open_state_never_ends_early(policy in policy(), script in prop::collection::vec(step(), 1..200)) {
        let mut simulation = Simulation::new(policy);
        let mut expected_trial = None;
        for step in &script {
            let (_, transition) = simulation.play(step);
            if let (Some(until), Some(t)) = (expected_trial, transition) && t.state != BreakerState::Open {
                prop_assert!(t.at >= until, "left Open at {:?}, expected {:?}", t.at, until);
                prop_assert_eq!(t.reason, TripReason::TrialTaken);
            }
            expected_trial = simulation.breaker.next_trial();
        }
    }

    #[test]
    fn there_are_never_more_trials_than_permitted(policy in policy(), script in prop::collection::vec(step(), 1..200)) {
        let mut simulation = Simulation::new(policy);
        let mut trials: Vec<(Permit, Mono)> = vec![];
        for step in &script {
            let (admission, transition) = simulation.play(step);
            if transition.is_some_and(|t| t.state != BreakerState::HalfOpen || t.reason == TripReason::TrialTaken) {
                trials.clear();
            }
            if let Some(Ok(permit)) = admission && permit.kind() == PermitKind::Trial {
                trials.push((permit, simulation.now + policy.half_open.lease));
            }
            trials.retain(|(p, expires)| simulation.out.contains(p) && simulation.now < *expires);
            prop_assert!(trials.len() <= usize::from(policy.half_open.trials), "{trials:?}");
        }
    }

    #[test]
    fn epochs_increase_and_transitions_are_contiguous(
        policy in policy(), script in prop::collection::vec(step(), 1..200),
    ) {
        let mut simulation = Simulation::new(policy);
        let start = simulation.breaker.effective();
        for step in &script {
            let before = simulation.breaker.epoch();
            let (_, transition) = simulation.play(step);
            prop_assert_eq!(simulation.breaker.epoch() > before, transition.is_some(), "one epoch per transition");
        }
        let mut at = start;
        for pair in simulation.transitions.windows(2) {
            prop_assert!(pair[0].epoch < pair[1].epoch);
        }
        for t in &simulation.transitions {
            prop_assert_eq!(t.from, at);
            at = t.to;
        }
        prop_assert_eq!(at, simulation.breaker.effective());
    }

    #[test]
    fn late_results_never_change_the_state(policy in policy(), script in prop::collection::vec(step(), 1..200)) {
        let mut simulation = Simulation::new(policy);
        let mut entered = 0;
        for step in &script {
            if simulation.play(step).1.is_some_and(|t| !matches!(t.reason, TripReason::OverrideApplied
                | TripReason::OverrideExpired | TripReason::OverrideRemoved)) {
                entered = simulation.breaker.epoch();
            }
            let late = simulation.out.iter().filter(|p| p.epoch < entered || p.kind() == PermitKind::Observer);
            for &permit in late {
                let mut copy = simulation.breaker.clone();
                for outcome in [CallOutcome::Success, CallOutcome::Failure, CallOutcome::Ignored] {
                    prop_assert_eq!(copy.record(permit, outcome, SLOW, simulation.now), None);
                    prop_assert!(copy == simulation.breaker);
                }
            }
        }
    }

    #[test]
    fn probes_are_never_rejected_and_shadow_rejects_no_call(
        policy in policy(), script in prop::collection::vec(step(), 1..200),
    ) {
        let mut simulation = Simulation::new(policy);
        for step in &script {
            let shadow = simulation.breaker.effective_at(simulation.now) == EffectiveState::Shadow;
            if let (Step::Start(class), (Some(Err(refusal)), _)) = (step, simulation.play(step)) {
                prop_assert!(*class != CallClass::Probe && !shadow, "{refusal:?}");
            }
        }
    }

    #[test]
    fn the_machine_agrees_with_the_reference_model(
        policy in policy(), script in prop::collection::vec(step_with_restarts(), 1..300),
    ) {
        let mut simulation = Simulation::new(policy);
        let mut model = Model::new(policy, simulation.now);
        let mut out: Vec<ModelPermit> = vec![];
        for (n, step) in script.iter().enumerate() {
            let (admission, transition) = simulation.play(step);
            let now = simulation.now;
            let expected = match *step {
                Step::Start(class) => {
                    let (pass, transition) = model.admit(class, now);
                    out.extend(pass);
                    prop_assert_eq!(admission.and_then(Result::ok).map(Permit::kind), pass.map(|p| p.kind), "step {}", n);
                    transition
                }
                Step::End { which, outcome, slow } if !out.is_empty() => {
                    let pass = out.swap_remove(which % out.len());
                    model.record(pass, outcome, if slow { SLOW } else { FAST }, now)
                }
                Step::Drop(which) if !out.is_empty() => {
                    let pass = out.swap_remove(which % out.len());
                    model.abandon(pass, now);
                    None
                }
                Step::Wait(_) | Step::TurnBack(_) | Step::End { .. } | Step::Drop(_) => None,
                Step::Tick => model.tick(now),
                Step::Unhealthy => model.trip_unhealthy(now),
                Step::Force(mode, ms) => {
                    let until = now + Duration::from_millis(ms);
                    let overlay = (until > now).then_some(Override { mode, until });
                    let reason = if ms > 0 { TripReason::OverrideApplied } else { TripReason::OverrideRemoved };
                    model.overlay(overlay, reason, now)
                }
                Step::Free => model.overlay(None, TripReason::OverrideRemoved, now),
                Step::SetPolicy(policy) => model.set_policy(policy, now),
                Step::Restart => {
                    model.restart(wall(now));
                    None
                }
            };
            prop_assert_eq!(transition, expected, "step {}: {:?}", n, step);
            prop_assert_eq!(simulation.breaker.state(), model.state());
            prop_assert_eq!(simulation.breaker.effective(), model.effective());
            prop_assert_eq!(simulation.breaker.next_trial(), model.next_trial(), "step {}: {:?}", n, step);
            prop_assert_eq!(simulation.breaker.is_flapping(), model.is_flapping(), "step {}: {:?}", n, step);
        }
    }
}

#[test]
fn two_threads_never_get_more_trials_than_permitted() {
    let mut policy = bank();
    policy.half_open.trials = 2;
    policy.half_open.required_successes = 1000;
    let breaker = Mutex::new(opened(policy, secs(0)));
    let (in_flight, most, seen) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let closed = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut held = vec![];
                for round in 0..20_000 {
                    if let Ok(permit) = breaker.lock().unwrap().admit(CallClass::Read, secs(301)) {
                        if permit.kind() == PermitKind::Trial {
                            most.fetch_max(in_flight.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                            seen.fetch_add(1, Ordering::SeqCst);
                        }
                        held.push(permit);
                    }
                    if held.len() == 2 || round % 3 == 0 {
                        for permit in held.drain(..) {
                            if permit.kind() == PermitKind::Trial {
                                in_flight.fetch_sub(1, Ordering::SeqCst);
                            }
                            let mut breaker = breaker.lock().unwrap();
                            if breaker.record(permit, CallOutcome::Success, FAST, secs(301)).is_some() {
                                closed.store(true, Ordering::SeqCst);
                            }
                        }
                    }
                }
            });
        }
    });
    assert!(most.load(Ordering::SeqCst) <= 2);
    assert!(seen.load(Ordering::SeqCst) >= 1000, "there were trials");
    assert!(closed.load(Ordering::SeqCst), "a thousand of them closed the circuit");
    assert_eq!(breaker.lock().unwrap().state(), BreakerState::Closed);
}
