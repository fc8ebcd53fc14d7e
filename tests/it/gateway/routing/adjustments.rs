//! Temporary weights and pins through the API.

use std::time::Duration;

use busbar::clock::Clock;
use busbar::domain::breaker::EffectiveState;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::super::harness::{GatewayHarness, Plan};
use super::super::scripted_routes::golden_spec;
use super::{each, get, golden, golden_with, payout, payout_with, post, recorded};
use crate::kit::time::ManualTime;

fn in_an_hour() -> Timestamp {
    crate::kit::time::now() + SignedDuration::from_hours(1)
}

fn adjustment(change: &Value) -> Value {
    let mut body = json!({"namespace": "treasury", "expires_at": in_an_hour()});
    for (name, value) in change.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

async fn tested(harness: &GatewayHarness, body: &Value) -> Value {
    let said = post(harness, "/test", body).await;
    assert_eq!(said.status, 200, "{said:?}");
    said.body["data"].clone()
}

#[tokio::test]
async fn the_sources_body_is_accepted_as_it_is_and_counts_at_once() {
    let harness = golden().await;
    // Numbers, a lower-case scope, a bank profile, no reason.
    let body = adjustment(&json!({"bank_profile_id": "profile-bank-c", "scope": "country:SN", "weight": 2}));
    let created = post(&harness, "/adjustments", &body).await;
    assert_eq!(created.status, 200, "{created:?}");
    let data = &created.body["data"];
    assert_eq!((&data["scope"], &data["weight"], &data["pin"]), (&json!("Country/SN"), &json!("2"), &json!(false)));
    assert_eq!((&data["bank_profile_id"], &data["created_by"]), (&json!("profile-bank-c"), &json!("ann")));
    let weighted = tested(&harness, &payout("p-1")).await;
    assert_eq!(weighted["candidate"], json!("bank-a"), "bank-c costs 14.80 now");
    assert_eq!(weighted["candidates"][2]["cost"]["total"], json!("14.8"));
    let elsewhere = tested(&harness, &payout_with("p-1", "country", json!("KE"))).await;
    assert_eq!(elsewhere["candidate"], json!("bank-c"));
    let listed = get(&harness, "/adjustments?namespace=treasury").await;
    assert_eq!(each(&listed.body["data"]["items"], "id"), [data["id"].as_str().unwrap()]);
    assert_eq!(get(&harness, "/adjustments?namespace=other").await.body["data"]["items"], json!([]));
}

#[tokio::test]
async fn a_weight_applies_to_its_scope_and_several_multiply() {
    let harness = golden().await;
    for (scope, weight) in [("merchant:shop", "3"), ("Global", "0.5"), ("Merchant/shop", "1.5")] {
        let body = adjustment(&json!({"candidate": "bank-c", "scope": scope, "weight": weight}));
        assert_eq!(post(&harness, "/adjustments", &body).await.status, 200, "{scope}");
    }
    let weight = |said: &Value| {
        let all = said["candidates"].as_array().unwrap();
        all.iter().find(|one| one["name"] == json!("bank-c")).unwrap()["cost"]["weight"].clone()
    };
    assert_eq!(weight(&tested(&harness, &payout("p-1")).await), json!("0.5"));
    assert_eq!(weight(&tested(&harness, &payout_with("p-1", "merchant", json!("shop"))).await), json!("2.25"));
}

#[tokio::test]
async fn a_pin_chooses_while_its_bank_can_and_that_of_the_spec_comes_first() {
    let harness = golden().await;
    let pin = adjustment(&json!({"candidate": "bank-b", "pin": true, "reason": "settles a balance"}));
    assert_eq!(post(&harness, "/adjustments", &pin).await.status, 200);
    let pinned = tested(&harness, &payout("p-1")).await;
    assert_eq!((&pinned["candidate"], &pinned["reason"]), (&json!("bank-b"), &json!("PinnedByOps")));
    let mut spec = golden_spec();
    spec["pin"] = json!({"candidate": "bank-a", "untilTime": in_an_hour(), "reason": "a balance"});
    harness.routes.add("payouts", &spec);
    let by_spec = tested(&harness, &payout("p-1")).await;
    assert_eq!((&by_spec["candidate"], &by_spec["reason"]), (&json!("bank-a"), &json!("Pinned")));
    harness.routes.circuit("bank-a", EffectiveState::Open);
    let without = tested(&harness, &payout("p-1")).await;
    assert_eq!(without["candidate"], json!("bank-b"), "the pin of the API is next");
    assert_eq!(each(&without["ineffective_pins"], "candidate"), ["bank-a"], "{without}");
    assert_eq!(each(&without["ineffective_pins"], "source"), ["Spec"]);
    harness.routes.circuit("bank-b", EffectiveState::Open);
    let neither = tested(&harness, &payout("p-1")).await;
    assert_eq!(neither["candidate"], json!("bank-c"), "a pin never chooses a bank that is excluded");
    assert_eq!(each(&neither["ineffective_pins"], "candidate").len(), 2);
}

#[tokio::test]
async fn an_adjustment_ends_by_itself_and_by_delete() {
    let time = ManualTime::start();
    let start: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
    let harness = golden_with(Plan { clock: Clock::starting_at(start), ..Plan::default() }).await;
    let step = Duration::from_millis(1);
    let until = |seconds| start + SignedDuration::from_secs(seconds);
    for (candidate, seconds) in [("bank-a", 60), ("bank-b", 3_600)] {
        let mut body = adjustment(&json!({"candidate": candidate, "weight": "0.1"}));
        body["expires_at"] = json!(until(seconds));
        let created = time.run(step, post(&harness, "/adjustments", &body)).await;
        assert_eq!(created.status, 200, "{created:?}");
    }
    assert_eq!(time.run(step, tested(&harness, &payout("p"))).await["candidate"], json!("bank-a"));
    time.advance(Duration::from_secs(61)).await;
    assert_eq!(time.run(step, tested(&harness, &payout("p"))).await["candidate"], json!("bank-b"));
    let listed = time.run(step, get(&harness, "/adjustments?namespace=treasury")).await;
    let ids = each(&listed.body["data"]["items"], "id");
    assert_eq!(each(&listed.body["data"]["items"], "candidate"), ["bank-b"]);
    let path = format!("/api/treasury/routing/adjustments/{}", ids[0]);
    let elsewhere = time.run(step, harness.ask("DELETE", &format!("{path}?namespace=other"), "token-ann", &[])).await;
    assert_eq!((elsewhere.status, elsewhere.error()), (404, "not_found"));
    let here = format!("{path}?namespace=treasury");
    let deleted = time.run(step, harness.ask("DELETE", &here, "token-ann", &[])).await;
    assert_eq!((deleted.status, &deleted.body["data"]["id"]), (200, &json!(ids[0])), "{deleted:?}");
    assert_eq!(time.run(step, harness.ask("DELETE", &here, "token-ann", &[])).await.error(), "not_found", "once");
    assert_eq!(time.run(step, tested(&harness, &payout("p"))).await["candidate"], json!("bank-c"));
}

#[tokio::test]
async fn an_adjustment_that_is_none_is_refused_by_name() {
    let harness = golden().await;
    let past = crate::kit::time::now() - SignedDuration::from_secs(1);
    for (change, parameter) in [
        (json!({"candidate": "bank-a"}), "weight"),
        (json!({"candidate": "bank-a", "pin": false}), "weight"),
        (json!({"candidate": "bank-a", "weight": 2, "pin": true}), "pin"),
        (json!({"candidate": "bank-a", "pin": "yes"}), "pin"),
        (json!({"candidate": "bank-a", "weight": 0}), "weight"),
        (json!({"candidate": "bank-a", "weight": "0.09"}), "weight"),
        (json!({"candidate": "bank-a", "weight": 10.01}), "weight"),
        (json!({"candidate": "bank-a", "weight": -1}), "weight"),
        (json!({"candidate": "bank-a", "weight": "heavy"}), "weight"),
        (json!({"weight": 2}), "candidate"),
        (json!({"candidate": "bank-z", "weight": 2}), "candidate"),
        (json!({"bank_profile_id": "profile-z", "weight": 2}), "candidate"),
        (json!({"candidate": "bank-a", "bank_profile_id": "profile-bank-a", "weight": 2}), "bank_profile_id"),
        (json!({"candidate": "bank-a", "weight": 2, "scope": "Region/EU"}), "scope"),
        (json!({"candidate": "bank-a", "weight": 2, "scope": "country:sn"}), "scope"),
        (json!({"candidate": "bank-a", "weight": 2, "scope": 7}), "scope"),
        (json!({"candidate": "bank-a", "weight": 2, "expires_at": past}), "expires_at"),
        (json!({"candidate": "bank-a", "weight": 2, "expires_at": "tomorrow"}), "expires_at"),
        (json!({"candidate": "bank-a", "weight": 2, "expires_at": null}), "expires_at"),
        (json!({"candidate": "bank-a", "weight": 2, "expires_at": "2199-01-01T00:00:00Z"}), "expires_at"),
        (json!({"candidate": "bank-a", "weight": 2, "reason": "x".repeat(257)}), "reason"),
        (json!({"candidate": "bank-a", "weight": 2, "reason": ""}), "reason"),
        (json!({"candidate": "bank-a", "weight": 2, "colour": "red"}), "colour"),
        (json!({"candidate": "bank-a", "weight": 2, "namespace": "A"}), "namespace"),
    ] {
        let refused = post(&harness, "/adjustments", &adjustment(&change)).await;
        assert_eq!((refused.status, refused.error()), (400, "invalid_request"), "{change}: {refused:?}");
        assert_eq!(refused.body["data"]["details"]["parameter"], json!(parameter), "{change}");
    }
    let route = adjustment(&json!({"candidate": "bank-a", "weight": 2, "route": "none"}));
    assert_eq!(post(&harness, "/adjustments", &route).await.error(), "route_not_found");
    assert_eq!(recorded(&harness).await, 0);
}
