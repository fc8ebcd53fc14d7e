//! Decisions and tests: the choice, its explanation, and what is answered without a bank.

use busbar::domain::breaker::EffectiveState;
use busbar::domain::route::ConnectionState;
use serde_json::{Value, json};

use super::super::scripted_routes::{golden_spec, live};
use super::{decided, each, get, golden, payout, payout_with, post, post_text, recorded};

#[tokio::test]
async fn a_decision_has_the_golden_costs_and_explains_every_candidate() {
    let harness = golden().await;
    let decision = decided(&harness, &payout("p-1")).await;
    assert_eq!((&decision["candidate"], &decision["reason"]), (&json!("bank-c"), &json!("LowestCost")));
    assert_eq!(decision["bank_profile_id"], json!("profile-bank-c"));
    assert_eq!(decision["fallbacks"], json!(["bank-a", "bank-b"]));
    assert_eq!(each(&decision["candidates"], "name"), ["bank-c", "bank-a", "bank-b"]);
    let cost = |at: usize, term: &str| decision["candidates"][at]["cost"][term].clone();
    for (at, terms) in [
        (0, ["5.3", "2", "0.05", "0.05", "0", "1", "7.4"]),
        (1, ["5.3", "2", "0.2", "0.2", "0", "1", "7.7"]),
        (2, ["5", "2.5", "1", "1", "0", "1", "9.5"]),
    ] {
        let got = ["fee", "fx", "retry", "health", "delay", "weight", "total"].map(|term| cost(at, term));
        assert_eq!(got, terms.map(|term| json!(term)), "{at}");
    }
    let first = &decision["candidates"][0];
    assert_eq!((&first["circuit"], &first["success"]), (&json!("Closed"), &json!("0.995")));
    assert_eq!((&decision["replayed"], &decision["expired"]), (&json!(false), &json!(false)));
    assert_eq!((&decision["attempt_no"], &decision["seq"]), (&json!(1), &json!(1)));
    assert_eq!(decision["subject"], json!("ann"));
    let stored = get(&harness, &format!("/decisions/{}", decision["decision_id"].as_str().unwrap())).await;
    assert_eq!(stored.body["data"], decision, "derived again to the last digit");
}

#[tokio::test]
async fn numbers_and_strings_are_the_same_request() {
    let harness = golden().await;
    let first = decided(&harness, &payout("p-1")).await;
    for amount in ["1000", "1000.00", "1e3", "\"1000.0\"", "\"+1000\""] {
        let text = payout("p-1").to_string().replace("\"1000\"", amount);
        let same = post_text(&harness, "/decide", "token-ann", text).await;
        assert_eq!(same.status, 200, "{amount}: {same:?}");
        assert_eq!(same.body["data"]["decision_id"], first["decision_id"], "{amount}");
        assert_eq!(same.body["data"]["replayed"], json!(true), "{amount}");
    }
    let exact = payout("p-2").to_string().replace("\"1000\"", "90071992547409.93");
    let exact = post_text(&harness, "/decide", "token-ann", exact).await;
    assert_eq!(exact.body["data"]["amount"], json!("90071992547409.93"), "{exact:?}");
    assert_eq!(recorded(&harness).await, 2);
}

#[tokio::test]
async fn a_test_answers_like_a_decision_and_records_nothing() {
    let harness = golden().await;
    let tested = post(&harness, "/test", &payout("p-1")).await;
    assert_eq!((tested.status, &tested.body["data"]["candidate"]), (200, &json!("bank-c")), "{tested:?}");
    assert_eq!(recorded(&harness).await, 0);
    let decision = decided(&harness, &payout("p-1")).await;
    assert_eq!(decision["replayed"], json!(false), "the test was none");
    for field in ["candidates", "snapshot", "fallbacks", "route", "mode"] {
        assert_eq!(tested.body["data"][field], decision[field], "{field}");
    }
}

#[tokio::test]
async fn a_request_without_a_route_takes_the_matching_one_of_highest_priority() {
    let harness = golden().await;
    let with = |field: &str, value: Value, also: (&str, Value)| {
        let mut spec = golden_spec();
        (spec[field], spec[also.0]) = (value, also.1);
        spec
    };
    harness
        .routes
        .add("small", &with("match", json!({"currencies": ["USD"], "maxAmount": "50"}), ("priority", json!(7))));
    harness.routes.add("kenya", &with("match", json!({"countries": ["KE"]}), ("priority", json!(9))));
    for (field, value, route) in
        [("amount", json!("50"), "small"), ("amount", json!("50.01"), "payouts"), ("country", json!("KE"), "kenya")]
    {
        let mut body = payout_with("p", field, value);
        body.as_object_mut().unwrap().remove("route");
        let tested = post(&harness, "/test", &body).await;
        assert_eq!(tested.body["data"]["route"], json!(route), "{tested:?}");
    }
    let other = payout_with("p", "namespace", json!("other"));
    let unknown = post(&harness, "/decide", &other).await;
    assert_eq!((unknown.status, unknown.error()), (404, "route_not_found"), "{unknown:?}");
    let none = post(&harness, "/decide", &payout_with("p", "route", json!("none"))).await;
    assert_eq!((none.status, none.error()), (404, "route_not_found"));
    assert_eq!(recorded(&harness).await, 0);
}

#[tokio::test]
async fn rates_of_the_request_come_before_those_of_the_route() {
    let harness = golden().await;
    let mut body = payout_with("p-1", "currency", json!("XOF"));
    body["amount"] = json!(655_957);
    let unknown = post(&harness, "/test", &body).await;
    let costs: Vec<&Value> =
        unknown.body["data"]["candidates"].as_array().unwrap().iter().map(|one| &one["cost"]).collect();
    assert!(costs.iter().all(|cost| cost.is_null()), "the penalty is in USD: {costs:?}");
    body["rates"] = json!({"USD/XOF": {"rate": 655.957, "at": "2026-01-31T18:00:00Z"}});
    let known = post(&harness, "/test", &body).await;
    let total = |said: &super::Said| said.body["data"]["candidates"][0]["cost"]["total"].clone();
    assert!(total(&known).is_string(), "{known:?}");
    body["rates"] = json!({"XOF/USD": {"rate": "0.0015"}});
    assert!(total(&post(&harness, "/test", &body).await).is_string());
}

/// All banks of the route are out, each for another reason.
fn all_out(harness: &super::GatewayHarness) {
    harness.routes.circuit("bank-a", EffectiveState::Open);
    harness.routes.set("bank-b", ConnectionState::Missing);
    harness.routes.set("bank-c", ConnectionState::NotReady);
}

#[tokio::test]
async fn without_a_bank_a_route_that_holds_answers_503_with_the_reason_of_each() {
    let harness = golden().await;
    all_out(&harness);
    for path in ["/decide", "/test"] {
        let held = post(&harness, path, &payout("p-1")).await;
        assert_eq!((held.status, held.error()), (503, "no_route"), "{held:?}");
        assert!(held.header("retry-after").is_some_and(|seconds| seconds.parse::<u64>().unwrap() >= 1), "{held:?}");
        let details = &held.body["data"]["details"];
        let reasons = each(&details["candidates"], "reason");
        assert_eq!(each(&details["candidates"], "name"), ["bank-a", "bank-b", "bank-c"]);
        assert_eq!(reasons, ["CircuitOpen", "ConnectionNotFound", "ConnectionNotReady"]);
        assert_eq!(each(&details["candidates"], "state"), ["Excluded"; 3]);
    }
    assert_eq!(recorded(&harness).await, 0, "nothing is stored");
    harness.routes.circuit("bank-a", EffectiveState::Closed);
    assert_eq!(decided(&harness, &payout("p-1")).await["candidate"], json!("bank-a"), "the payout was not used up");
}

#[tokio::test]
async fn without_a_bank_a_route_that_rejects_answers_422_and_no_retry_time() {
    let harness = golden().await;
    let mut spec = golden_spec();
    spec["whenNoneAvailable"] = json!("Reject");
    harness.routes.add("payouts", &spec);
    all_out(&harness);
    for path in ["/decide", "/test"] {
        let rejected = post(&harness, path, &payout("p-1")).await;
        assert_eq!((rejected.status, rejected.error()), (422, "no_route"), "{rejected:?}");
        assert_eq!(rejected.header("retry-after"), None);
        assert_eq!(rejected.body["data"]["details"]["candidates"].as_array().unwrap().len(), 3);
    }
    assert_eq!(recorded(&harness).await, 0);
}

#[tokio::test]
async fn the_retry_time_is_that_of_the_first_circuit_that_is_tried_again() {
    let harness = golden().await;
    let now = crate::kit::time::now();
    for (bank, seconds) in [("bank-a", 300), ("bank-b", 120), ("bank-c", 240)] {
        harness.routes.circuit(bank, EffectiveState::Open);
        harness.routes.next_trial_at(bank, now + jiff::SignedDuration::from_secs(seconds));
    }
    let held = post(&harness, "/decide", &payout("p-1")).await;
    let seconds: u64 = held.header("retry-after").unwrap().parse().unwrap();
    assert!((60..=120).contains(&seconds), "{seconds}");
}

#[tokio::test]
async fn a_suspended_route_decides_nothing() {
    let harness = golden().await;
    for without_banks in ["Hold", "Reject"] {
        let mut spec = golden_spec();
        spec["suspend"] = json!(true);
        spec["whenNoneAvailable"] = json!(without_banks);
        harness.routes.add("payouts", &spec);
        let held = post(&harness, "/decide", &payout("p-1")).await;
        assert_eq!((held.status, held.error()), (503, "no_route"), "{without_banks}: {held:?}");
        assert_eq!(held.body["data"]["details"]["state"], json!("Suspended"));
        assert_eq!(recorded(&harness).await, 0);
    }
}

#[tokio::test]
async fn a_bank_whose_circuit_opens_is_left_at_once() {
    let harness = golden().await;
    assert_eq!(decided(&harness, &payout("p-1")).await["candidate"], json!("bank-c"));
    harness.routes.circuit("bank-c", EffectiveState::Open);
    let over = decided(&harness, &payout("p-2")).await;
    assert_eq!(over["candidate"], json!("bank-a"));
    assert_eq!(over["candidates"][2]["reason"], json!("CircuitOpen"));
    harness.routes.set("bank-c", live(995_000));
    assert_eq!(decided(&harness, &payout("p-3")).await["candidate"], json!("bank-c"));
}
