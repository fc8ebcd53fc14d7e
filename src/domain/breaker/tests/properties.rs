//! What holds for every script of calls, and for two threads.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::super::reference::{Model, Pass};
use super::*;
use crate::domain::time::Now;

/// One step of a script. Indices pick among the calls that are out.
#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    TurnBack(u64),
    Start(CallClass),
    End {
        which: usize,
        outcome: Outcome,
        slow: bool,
    },
    Drop(usize),
    Tick,
    Unhealthy,
    Force(OverrideMode, u64),
    Free,
    /// Somebody edits the policy.
    Edit(Policy),
    /// Another process takes over.
    Restart,
}

fn class() -> impl Strategy<Value = CallClass> {
    prop::sample::select(vec![CallClass::Probe, CallClass::Read, CallClass::Write, CallClass::Money])
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![3 => Just(Outcome::Success), 4 => Just(Outcome::Failure), 1 => Just(Outcome::Ignored)]
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

/// The same, with what somebody does to the operator meanwhile.
fn rough_step() -> impl Strategy<Value = Step> {
    prop_oneof![30 => step(), 1 => policy().prop_map(Step::Edit), 1 => Just(Step::Restart)]
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
            sick,
        )| {
            Policy {
                mode: if shadow { Mode::Shadow } else { Mode::Enforce },
                consecutive_failures,
                failure_percent,
                slow_call_percent,
                slow_call_duration: Duration::from_secs(1),
                minimum_calls,
                unhealthy: if sick { OnUnhealthy::Open } else { OnUnhealthy::Ignore },
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

/// Both hands of a clock that nobody sets: the wall's stands at noon when the other is at zero.
fn wall(now: Mono) -> Now {
    let noon: Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
    Now { mono: now, wall: noon + SignedDuration::from_nanos(now.nanos().cast_signed()) }
}

/// A breaker that plays a script, watched.
struct Played {
    breaker: Breaker,
    now: Mono,
    out: Vec<Permit>,
    /// Every move, and what callers experienced before the first.
    moves: Vec<Transition>,
}

impl Played {
    fn new(policy: Policy) -> Self {
        let now = secs(1000);
        Self { breaker: Breaker::new(policy, now), now, out: vec![], moves: vec![] }
    }

    /// Plays one step; returns the permit or refusal of a start, and the move if there was one.
    fn play(&mut self, step: &Step) -> (Option<Result<Permit, Refusal>>, Option<Transition>) {
        let mut asked = None;
        let moved = match *step {
            Step::Wait(ms) => {
                self.now = self.now + Duration::from_millis(ms);
                None
            }
            Step::TurnBack(ms) => {
                self.now = self.now - Duration::from_millis(ms);
                None
            }
            Step::Start(class) => {
                let answer = self.breaker.admit(class, self.now);
                self.out.extend(answer.ok());
                asked = Some(answer);
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
            Step::Edit(policy) => self.breaker.set_policy(policy, self.now),
            Step::Restart => {
                let now = wall(self.now);
                let kept = self.breaker.snapshot(now);
                self.breaker = Breaker::restore(*self.breaker.policy(), &kept, now);
                None
            }
        };
        self.moves.extend(moved);
        (asked, moved)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn never_leaves_open_early(policy in policy(), script in prop::collection::vec(step(), 1..200)) {
        let mut played = Played::new(policy);
        let mut promised = None;
        for step in &script {
            let (_, moved) = played.play(step);
            if let (Some(until), Some(t)) = (promised, moved) && t.state != State::Open {
                prop_assert!(t.at >= until, "left Open at {:?}, promised {:?}", t.at, until);
                prop_assert_eq!(t.reason, TripReason::TrialTaken);
            }
            promised = played.breaker.next_trial();
        }
    }

    #[test]
    fn never_more_trials_than_permitted(policy in policy(), script in prop::collection::vec(step(), 1..200)) {
        let mut played = Played::new(policy);
        let mut trials: Vec<(Permit, Mono)> = vec![];
        for step in &script {
            let (asked, moved) = played.play(step);
            if moved.is_some_and(|t| t.state != State::HalfOpen || t.reason == TripReason::TrialTaken) {
                trials.clear();
            }
            if let Some(Ok(permit)) = asked && permit.kind() == PermitKind::Trial {
                trials.push((permit, played.now + policy.half_open.lease));
            }
            trials.retain(|(p, expires)| played.out.contains(p) && played.now < *expires);
            prop_assert!(trials.len() <= usize::from(policy.half_open.trials), "{trials:?}");
        }
    }

    #[test]
    fn the_epoch_strictly_increases_and_every_move_starts_where_the_last_one_ended(
        policy in policy(), script in prop::collection::vec(step(), 1..200),
    ) {
        let mut played = Played::new(policy);
        let start = played.breaker.effective();
        for step in &script {
            let before = played.breaker.epoch();
            let (_, moved) = played.play(step);
            prop_assert_eq!(played.breaker.epoch() > before, moved.is_some(), "an epoch for every move, and only then");
        }
        let mut at = start;
        for pair in played.moves.windows(2) {
            prop_assert!(pair[0].epoch < pair[1].epoch);
        }
        for t in &played.moves {
            prop_assert_eq!(t.from, at);
            at = t.to;
        }
        prop_assert_eq!(at, played.breaker.effective());
    }

    #[test]
    fn late_results_never_change_the_state(policy in policy(), script in prop::collection::vec(step(), 1..200)) {
        let mut played = Played::new(policy);
        let mut entered = 0;
        for step in &script {
            if played.play(step).1.is_some_and(|t| !matches!(t.reason, TripReason::OverrideApplied
                | TripReason::OverrideExpired | TripReason::OverrideRemoved)) {
                entered = played.breaker.epoch();
            }
            let late = played.out.iter().filter(|p| p.epoch() < entered || p.kind() == PermitKind::Observer);
            for &permit in late {
                let mut copy = played.breaker.clone();
                for outcome in [Outcome::Success, Outcome::Failure, Outcome::Ignored] {
                    prop_assert_eq!(copy.record(permit, outcome, SLOW, played.now), None);
                    prop_assert!(copy == played.breaker);
                }
            }
        }
    }

    #[test]
    fn probes_are_never_refused_and_shadow_refuses_nobody(
        policy in policy(), script in prop::collection::vec(step(), 1..200),
    ) {
        let mut played = Played::new(policy);
        for step in &script {
            let shadow = played.breaker.effective_at(played.now) == Effective::Shadow;
            if let (Step::Start(class), (Some(Err(refusal)), _)) = (step, played.play(step)) {
                prop_assert!(*class != CallClass::Probe && !shadow, "{refusal:?}");
            }
        }
    }

    #[test]
    fn the_machine_and_the_obvious_model_never_disagree(
        policy in policy(), script in prop::collection::vec(rough_step(), 1..300),
    ) {
        let mut played = Played::new(policy);
        let mut model = Model::new(policy, played.now);
        let mut out: Vec<Pass> = vec![];
        for (n, step) in script.iter().enumerate() {
            let (asked, moved) = played.play(step);
            let now = played.now;
            let expected = match *step {
                Step::Start(class) => {
                    let (pass, moved) = model.admit(class, now);
                    out.extend(pass);
                    prop_assert_eq!(asked.and_then(Result::ok).map(Permit::kind), pass.map(|p| p.kind), "step {}", n);
                    moved
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
                Step::Edit(policy) => model.edit(policy, now),
                Step::Restart => {
                    model.restart(wall(now));
                    None
                }
            };
            prop_assert_eq!(moved, expected, "step {}: {:?}", n, step);
            prop_assert_eq!(played.breaker.state(), model.state());
            prop_assert_eq!(played.breaker.effective(), model.effective());
            prop_assert_eq!(played.breaker.next_trial(), model.next_trial(), "step {}: {:?}", n, step);
            prop_assert_eq!(played.breaker.is_flapping(), model.is_flapping(), "step {}: {:?}", n, step);
        }
    }
}

#[test]
fn two_threads_behind_a_mutex_never_see_more_trials_than_permitted() {
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
                            if breaker.record(permit, Outcome::Success, FAST, secs(301)).is_some() {
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
    assert!(closed.load(Ordering::SeqCst), "and a thousand of them closed the circuit");
    assert_eq!(breaker.lock().unwrap().state(), State::Closed);
}
