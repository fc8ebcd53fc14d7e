//! The next attempt without a person: another bank, if it costs little more.

use busbar::domain::route::ConnectionState;
use busbar::provider::payouts::NextAttempts;
use serde_json::{Value, json};

use super::super::super::harness::GatewayHarness;
use super::super::super::scripted_routes::{golden_spec, live};
use super::super::{payout, recorded};
use super::{act, done, events, followed_by_banks, outcome, read, registered};

/// A payout whose first attempt, at `bank-c`, was rejected by the bank itself; a bank may cost `basis_points` more.
async fn rejected(id: &str, basis_points: Option<&str>) -> GatewayHarness {
    let harness = followed_by_banks().await;
    let mut spec = golden_spec();
    if let Some(basis_points) = basis_points {
        spec["stuck"] = json!({"maxRerouteCostBasisPoints": basis_points});
    }
    harness.routes.add("payouts", &spec);
    registered(&harness, &payout(id)).await;
    done(&act(&harness, id, "confirmations", &json!({"status": "RJCT"})).await);
    harness
}

/// Does what the clock does for a proposal.
async fn propose(harness: &GatewayHarness, id: &str, attempt_no: u32) -> Value {
    let stored = harness.routing.get_payout("treasury", id).await.unwrap();
    let next: &dyn NextAttempts = &*harness.routing;
    next.decide(&stored.payout, attempt_no).await;
    read(harness, id).await["payout"].clone()
}

#[tokio::test]
async fn the_next_attempt_is_at_another_bank_and_is_told_completely() {
    let harness = rejected("p-1", Some("10")).await;
    let payout = propose(&harness, "p-1", 2).await;
    let next = &payout["attempts"][1];
    assert_eq!((&next["bank"], &next["state"]), (&json!("bank-a"), &json!("intent_written")), "bank-c was tried");
    assert_eq!(events(&harness).await, ["payout.rerouted"]);
    let filter = busbar::ledger::outbox::EventFilter::default();
    let told = harness.ledger.list_events(&filter, 10).await.unwrap();
    let told: Value = serde_json::from_str(&told[0].payload).unwrap();
    for field in ["attempt_id", "attempt_no", "bank", "candidate", "end_to_end_id", "idempotency_key", "expires_at"] {
        assert_eq!(told["attempt"][field], next[field], "{field}");
    }
    let decision = next["decision_id"].as_str().unwrap();
    let decision = harness.get(&format!("{}/decisions/{decision}", super::super::ROUTING)).await.body["data"].clone();
    assert_eq!((&decision["kind"], &decision["subject"]), (&json!("override"), &json!("busbar")));
    assert_eq!(decision["supersedes"], payout["attempts"][0]["decision_id"]);
    let before = recorded(&harness).await;
    assert_eq!(propose(&harness, "p-1", 2).await, payout, "a proposal that is repeated changes nothing");
    assert_eq!(recorded(&harness).await, before);
}

#[tokio::test]
async fn a_bank_that_costs_more_than_the_route_allows_needs_a_person() {
    for (basis_points, moves) in [(None, false), (Some("0"), false), (Some("2"), false), (Some("3"), true)] {
        // bank-a costs 0.30 more of 1000: three basis points.
        let harness = rejected("p-1", basis_points).await;
        let payout = propose(&harness, "p-1", 2).await;
        let attempts = payout["attempts"].as_array().unwrap().len();
        assert_eq!(attempts, if moves { 2 } else { 1 }, "{basis_points:?}: {payout}");
        let hold = if moves { json!(null) } else { json!("costs_more") };
        assert_eq!(payout["hold"], hold, "{basis_points:?}");
    }
}

#[tokio::test]
async fn a_payout_waits_for_a_bank_that_starts_rather_than_go_back() {
    let harness = rejected("p-1", Some("100")).await;
    harness.routes.set("bank-b", ConnectionState::NotReady);
    harness.routes.starts("bank-a");
    for _ in 0..2 {
        let waiting = propose(&harness, "p-1", 2).await;
        assert_eq!(waiting["attempts"].as_array().unwrap().len(), 1, "{waiting}");
    }
    harness.routes.set("bank-a", live(1_000_000));
    assert_eq!(propose(&harness, "p-1", 2).await["attempts"][1]["bank"], json!("bank-a"));

    // Where no other bank is to come, the one that was tried is better than none: it has proven that it did not execute it.
    let harness = rejected("p-1", Some("100")).await;
    for gone in ["bank-a", "bank-b"] {
        harness.routes.set(gone, ConnectionState::NotReady);
    }
    assert_eq!(propose(&harness, "p-1", 2).await["attempts"][1]["bank"], json!("bank-c"));
}

#[tokio::test]
async fn an_attempt_without_proof_is_never_rerouted() {
    let harness = followed_by_banks().await;
    for class in ["submitted", "pending", "timeout", "success"] {
        registered(&harness, &payout(class)).await;
        outcome(&harness, class, 1, class).await;
        let before = recorded(&harness).await;
        assert_eq!(propose(&harness, class, 2).await["attempts"].as_array().unwrap().len(), 1, "{class}");
        assert_eq!(recorded(&harness).await, before, "{class}");
    }
}
