//! Simulation: recorded decisions against a changed spec.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::env::{Env, ops, request, two_banks};
use crate::domain::decision::OutcomeClass;
use crate::ledger::decisions::AdjustmentTarget;
use crate::routing::simulation::{MAX_SNAPSHOTS, keep};
use crate::routing::{BankShare, OverrideRequest, RoutingError, SimulationRequest};

fn simulate(spec: Value) -> SimulationRequest {
    SimulationRequest { from: None, limit: 100, namespace: "payments".into(), route: "eu".into(), spec, to: None }
}

/// `b` charges 0.5 % instead of 2.
fn cheaper_b() -> Value {
    let mut spec = two_banks();
    spec["candidates"][1]["fees"] = json!([{"name": "all", "basisPoints": "50"}]);
    spec
}

#[tokio::test]
async fn a_changed_fee_says_which_payouts_move_and_what_they_cost() {
    let env = Env::new().await;
    for (id, amount) in [("small", "100"), ("medium", "200"), ("large", "1000")] {
        env.decide(request(id, amount, Some("eu"))).await.unwrap();
    }
    let simulation = env.service.simulate(simulate(cheaper_b())).await.unwrap();
    assert_eq!((simulation.decisions, simulation.changed, simulation.unexplained), (3, 1, 0));
    let moved = &simulation.differences[0];
    assert_eq!((moved.payout_id.as_str(), moved.from.as_str(), moved.to.as_deref()), ("small", "a", Some("b")));
    assert_eq!((moved.cost_before, moved.cost_after), (Some(1.into()), Some("0.5".parse().unwrap())));
    let costs = simulation.costs.values().next().unwrap();
    assert_eq!((costs.before, costs.after), (3.into(), "2.5".parse().unwrap()));
    let share = |name: &str| simulation.banks.iter().find(|((bank, _), _)| bank == name).map(|(_, share)| *share);
    let a =
        BankShare { decisions_before: 3, decisions_after: 2, amount_before: 1300.into(), amount_after: 1200.into() };
    assert_eq!(share("a"), Some(a));
    assert_eq!(share("b").map(|b| (b.decisions_before, b.decisions_after)), Some((0, 1)));
    assert!(!simulation.truncated);
}

#[tokio::test]
async fn the_state_of_the_banks_is_that_of_each_decision_and_overrides_are_left_out() {
    let env = Env::new().await;
    let first = env.decide(request("before", "100", Some("eu"))).await.unwrap();
    env.trip("b");
    env.decide(request("outage", "100", Some("eu"))).await.unwrap();
    env.set("b", super::env::live(crate::domain::breaker::EffectiveState::Closed, 1_000_000));
    env.report(&first, OutcomeClass::NotSent).await.unwrap();
    let to_b = OverrideRequest {
        bank: AdjustmentTarget::Candidate("b".into()),
        decision: first.record.id,
        reason: "x".into(),
    };
    env.service.override_decision(to_b, &ops()).await.unwrap();
    let simulation = env.service.simulate(simulate(cheaper_b())).await.unwrap();
    assert_eq!((simulation.decisions, simulation.changed), (2, 1));
    assert_eq!(simulation.differences[0].payout_id, "before", "b was down for the other");
    let only_one = env.service.simulate(SimulationRequest { limit: 1, ..simulate(two_banks()) }).await.unwrap();
    assert!(only_one.truncated && only_one.decisions == 1 && only_one.changed == 0);
}

#[tokio::test]
async fn the_snapshots_of_a_simulation_are_bounded() {
    let snapshot = Env::new().await.decided("p-1").await.snapshot;
    let mut kept = HashMap::new();
    for number in 0..=u64::try_from(MAX_SNAPSHOTS).unwrap() {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&number.to_be_bytes());
        keep(&mut kept, id, &snapshot);
        assert!(kept.len() <= MAX_SNAPSHOTS);
    }
    assert_eq!(kept.len(), 1, "the last one");
}

#[tokio::test]
async fn one_simulation_runs_at_a_time() {
    let env = Env::new().await;
    let running = env.service.simulations.acquire().await.unwrap();
    let refused = env.service.simulate(simulate(two_banks())).await.unwrap_err();
    assert!(matches!(refused, RoutingError::Simulating), "{refused}");
    drop(running);
    env.service.simulate(simulate(json!({}))).await.unwrap_err();
    env.service.simulate(simulate(two_banks())).await.unwrap();
}

#[tokio::test]
async fn a_spec_that_cannot_be_used_is_refused_with_the_reason() {
    let env = Env::new().await;
    let mut unknown = two_banks();
    unknown["candidates"][0]["fee"] = json!([]);
    let mut wrong = two_banks();
    wrong["candidates"][0]["fees"][0]["fixed"] = json!("much");
    for (spec, named) in
        [(unknown, "spec.candidates[0].fee"), (wrong, "fixed"), (json!({}), "spec"), (json!(7), "spec")]
    {
        let error = env.service.simulate(simulate(spec)).await.unwrap_err();
        assert!(matches!(error, RoutingError::Invalid { field: "spec", .. }), "{error}");
        assert!(error.to_string().contains(named), "{named}: {error}");
    }
}
