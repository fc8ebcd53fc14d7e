//! Invariants of every sequence of calls, and of two threads.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use proptest::prelude::*;

use super::super::reference::{Model, ModelPermit};
use super::simulation::{Simulation, Step, policy, step, step_with_restarts, wall};
use super::*;

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
            if let Some((permit, true)) = simulation.retried {
                let renewed = simulation.now + policy.half_open.lease;
                let held = trials.iter_mut().find(|(p, expires)| *p == permit && simulation.now < *expires);
                if let Some((_, expires)) = held {
                    *expires = renewed;
                }
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
    fn a_trial_whose_lease_is_over_makes_no_further_try(
        policy in policy(), script in prop::collection::vec(step(), 1..200),
    ) {
        let mut simulation = Simulation::new(policy);
        let mut leases: Vec<(Permit, Mono)> = vec![];
        for step in &script {
            if let (Some(Ok(permit)), _) = simulation.play(step) && permit.kind() == PermitKind::Trial {
                leases.push((permit, simulation.now + policy.half_open.lease));
            }
            let Some((permit, admitted)) = simulation.retried else { continue };
            let Some((_, expires)) = leases.iter_mut().find(|(p, _)| *p == permit) else { continue };
            let effective = simulation.breaker.effective_at(simulation.now);
            if effective == EffectiveState::HalfOpen && simulation.now >= *expires {
                prop_assert!(!admitted);
            }
            if admitted && simulation.now < *expires {
                *expires = simulation.now + policy.half_open.lease;
            }
        }
    }

    #[test]
    fn tick_returns_none_only_when_nothing_is_due(
        policy in policy(), script in prop::collection::vec(step(), 1..200), wait in 0u64..400_000,
    ) {
        let mut simulation = Simulation::new(policy);
        for step in &script {
            let _ = simulation.play(step);
        }
        let now = simulation.now + Duration::from_millis(wait);
        let transitions = simulation.breaker.settle(now);
        prop_assert_eq!(simulation.breaker.tick(now), None);
        prop_assert!(transitions[0].is_some() || transitions[1].is_none());
        prop_assert!(simulation.breaker.next_tick().is_none_or(|at| at > now), "nothing that is due is left");
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
                for outcome in [CallOutcome::Success, CallOutcome::Failure, CallOutcome::OwnFault, CallOutcome::Ignored] {
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
                Step::Retry(which) if !out.is_empty() => {
                    let admitted = model.retry(out[which % out.len()], now);
                    prop_assert_eq!(simulation.retried.map(|(_, admitted)| admitted), Some(admitted), "step {}", n);
                    None
                }
                Step::Wait(_) | Step::TurnBack(_) | Step::End { .. } | Step::Drop(_) | Step::Retry(_) => None,
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
