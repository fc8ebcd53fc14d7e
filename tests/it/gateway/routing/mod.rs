//! `/api/treasury/routing` over real sockets: every call, good and bad.

mod adjustments;
mod attempts;
mod decide;
mod default_namespace;
mod outcomes;
pub(super) mod payouts;
mod predictions;
mod proposals;
mod reading;
mod refusals;
mod rights;

use busbar::domain::breaker::EffectiveState;
use serde_json::{Value, json};

use super::harness::{GatewayHarness, Plan, Said, said};

pub(super) const ROUTING: &str = "/api/treasury/routing";

/// A gateway with the route `payouts` of the golden table: of 1000 USD `bank-c` takes 7.40, `bank-a` 7.70, `bank-b` 9.50.
pub(super) async fn golden() -> GatewayHarness {
    golden_with(Plan::default()).await
}

pub(super) async fn golden_with(plan: Plan) -> GatewayHarness {
    let harness = GatewayHarness::with(plan).await;
    harness.routes.add_golden();
    harness
}

/// The body of a decision on 1000 USD.
pub(super) fn payout(id: &str) -> Value {
    json!({
        "namespace": "treasury", "route": "payouts", "payout_id": id, "amount": "1000", "currency": "USD", "country": "SN",
    })
}

/// The same with one field changed; null removes it.
fn payout_with(id: &str, field: &str, value: Value) -> Value {
    let mut body = payout(id);
    if value.is_null() {
        body.as_object_mut().unwrap().remove(field);
    } else {
        body[field] = value;
    }
    body
}

/// Posts JSON as ann.
pub(super) async fn post(harness: &GatewayHarness, path: &str, body: &Value) -> Said {
    post_text(harness, path, "token-ann", body.to_string()).await
}

async fn post_text(harness: &GatewayHarness, path: &str, token: &str, body: impl Into<reqwest::Body>) -> Said {
    let request = harness.http.post(harness.url(&format!("{ROUTING}{path}"))).bearer_auth(token);
    said(request.header("content-type", "application/json").body(body)).await
}

async fn get(harness: &GatewayHarness, path: &str) -> Said {
    harness.get(&format!("{ROUTING}{path}")).await
}

/// Decides and returns the decision.
async fn decided(harness: &GatewayHarness, body: &Value) -> Value {
    let said = post(harness, "/decide", body).await;
    assert_eq!(said.status, 200, "{said:?}");
    said.body["data"].clone()
}

/// Reports an outcome.
async fn report(harness: &GatewayHarness, decision: &Value, class: &str) {
    let outcome = json!({"decision_id": decision["decision_id"], "class": class});
    let said = post(harness, "/outcomes", &json!({"namespace": "treasury", "outcomes": [outcome]})).await;
    assert_eq!((said.status, &said.body["data"]["items"][0]["result"]), (200, &json!("stored")), "{said:?}");
}

/// The records of the audit.
async fn recorded(harness: &GatewayHarness) -> u64 {
    harness.ledger.chain_head().await.unwrap().seq
}

/// One response for each error code of routing.
pub(super) async fn errors(harness: &GatewayHarness) -> Vec<Said> {
    harness.routes.add_golden();
    let route = post(harness, "/decide", &payout_with("p-1", "route", json!("none"))).await;
    let decision = get(harness, "/decisions/0f8fad5b-d9cb-469f-a165-70867728950e").await;
    decided(harness, &payout("p-1")).await;
    let attempt = post(harness, "/decide", &payout_with("p-1", "attempt_no", json!(2))).await;
    let payouts = payouts::errors(harness).await;
    for bank in ["bank-a", "bank-b", "bank-c"] {
        harness.routes.circuit(bank, EffectiveState::Open);
    }
    let no_route = post(harness, "/decide", &payout("p-2")).await;
    harness.ledger.accept_loss().await.unwrap();
    let suspended = post(harness, "/decide", &payout("p-3")).await;
    payouts.into_iter().chain([route, decision, attempt, suspended, no_route]).collect()
}

/// The value of `field` of each item of a list.
fn each<'a>(items: &'a Value, field: &str) -> Vec<&'a str> {
    items.as_array().unwrap().iter().map(|item| item[field].as_str().unwrap_or_default()).collect()
}
