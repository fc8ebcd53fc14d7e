//! Proposals of the forecast, and the answer of operations staff.

use busbar::domain::breaker::EffectiveState;
use busbar::domain::route::Proposal;
use jiff::SignedDuration;
use serde_json::json;

use super::super::harness::{GatewayHarness, key};
use super::super::scripted_routes::golden_spec;
use super::{each, get, golden, payout, post, recorded};

/// Stores a proposal to go from `bank-c` to `bank-b`, for this time; its ID.
async fn propose(harness: &GatewayHarness, lasts: SignedDuration) -> String {
    let mut spec = golden_spec();
    spec["mode"] = json!("Hybrid");
    harness.routes.add("payouts", &spec);
    let until = crate::kit::time::now() + lasts;
    let proposal = Proposal {
        candidate: "bank-b".into(),
        from: "bank-c".into(),
        risk: 700_000,
        success: 650_000,
        valid_until: until,
    };
    harness.routing.propose(&key("payouts"), &proposal, until).await.unwrap().proposal.id.to_string()
}

#[tokio::test]
async fn an_approved_proposal_chooses_its_bank_while_that_can_take_payouts() {
    let harness = golden().await;
    let id = propose(&harness, SignedDuration::from_mins(10)).await;
    let listed = get(&harness, "/proposals?namespace=treasury").await;
    let item = &listed.body["data"]["items"][0];
    assert_eq!((&item["id"], &item["state"]), (&json!(id), &json!("pending")), "{listed:?}");
    assert_eq!((&item["candidate"], &item["from"]), (&json!("bank-b"), &json!("bank-c")));
    assert_eq!(item["risk"], json!("0.7"));
    let before = post(&harness, "/test", &payout("p-1")).await;
    assert_eq!(before.body["data"]["candidate"], json!("bank-c"), "a proposal alone changes nothing");
    let approved = post(&harness, &format!("/proposals/{id}/approve?namespace=treasury"), &json!({})).await;
    assert_eq!((approved.status, &approved.body["data"]["state"]), (200, &json!("approved")), "{approved:?}");
    assert_eq!(approved.body["data"]["settled_by"], json!("ann"));
    let after = post(&harness, "/test", &payout("p-1")).await;
    assert_eq!(after.body["data"]["candidate"], json!("bank-b"), "{after:?}");
    assert_eq!(after.body["data"]["reason"], json!("PredictiveHybrid"));
    harness.routes.circuit("bank-b", EffectiveState::Open);
    let out = post(&harness, "/test", &payout("p-1")).await;
    assert_eq!(out.body["data"]["candidate"], json!("bank-c"), "an approval chooses no bank that is excluded");
    assert_eq!(recorded(&harness).await, 2, "the proposal and its approval are in the audit");
}

#[tokio::test]
async fn a_proposal_is_answered_once() {
    let harness = golden().await;
    let id = propose(&harness, SignedDuration::from_mins(10)).await;
    let rejected = post(&harness, &format!("/proposals/{id}/reject?namespace=treasury"), &json!({})).await;
    assert_eq!((rejected.status, &rejected.body["data"]["state"]), (200, &json!("rejected")), "{rejected:?}");
    let late = post(&harness, &format!("/proposals/{id}/approve?namespace=treasury"), &json!({})).await;
    assert_eq!((late.status, late.error()), (409, "conflict"), "{late:?}");
    assert_eq!(late.body["data"]["details"]["state"], json!("rejected"));
    let elsewhere = post(&harness, &format!("/proposals/{id}/approve?namespace=other"), &json!({})).await;
    assert_eq!((elsewhere.status, elsewhere.error()), (404, "not_found"));
    assert_eq!(post(&harness, "/test", &payout("p-1")).await.body["data"]["candidate"], json!("bank-c"));
    assert_eq!(
        each(&get(&harness, "/proposals?namespace=treasury").await.body["data"]["items"], "state"),
        ["rejected"]
    );
}

#[tokio::test]
async fn a_proposal_that_has_expired_cannot_be_approved() {
    let harness = golden().await;
    let id = propose(&harness, SignedDuration::from_secs(-1)).await;
    let late = post(&harness, &format!("/proposals/{id}/approve?namespace=treasury"), &json!({})).await;
    assert_eq!((late.status, late.error()), (409, "conflict"), "{late:?}");
    assert_eq!(late.body["data"]["details"]["state"], json!("lapsed"));
}
