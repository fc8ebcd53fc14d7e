//! `--gateway-default-namespace`: the namespace of requests that name none.

use jiff::SignedDuration;
use serde_json::json;

use super::super::harness::Plan;
use super::{decided, each, get, golden, golden_with, payout, payout_with, post};

#[tokio::test]
async fn requests_without_a_namespace_are_of_the_default_one() {
    let harness = golden_with(Plan { default_namespace: Some("treasury"), ..Plan::default() }).await;
    let decision = decided(&harness, &payout_with("p-1", "namespace", json!(null))).await;
    assert_eq!(decision["namespace"], json!("treasury"));
    let named = decided(&harness, &payout("p-1")).await;
    assert_eq!(named["decision_id"], decision["decision_id"], "the same request");
    assert_eq!(each(&get(&harness, "/decisions").await.body["data"]["items"], "payout_id"), ["p-1"]);
    let expires = crate::kit::time::now() + SignedDuration::from_hours(1);
    let source = json!({"bank_profile_id": "profile-bank-a", "scope": "global", "weight": 0.5, "expires_at": expires});
    assert_eq!(post(&harness, "/adjustments", &source).await.status, 200);
    assert_eq!(get(&harness, "/adjustments").await.body["data"]["items"].as_array().unwrap().len(), 1);
    for path in ["/health", "/proposals"] {
        assert_eq!(get(&harness, path).await.status, 200, "{path}");
    }
    let other = post(&harness, "/test", &payout_with("p-2", "namespace", json!("other"))).await;
    assert_eq!(other.error(), "route_not_found", "a named one counts");
}

#[tokio::test]
async fn without_a_default_the_field_is_required() {
    let harness = golden().await;
    let refused = post(&harness, "/decide", &payout_with("p-1", "namespace", json!(null))).await;
    assert_eq!((refused.status, &refused.body["data"]["details"]["parameter"]), (400, &json!("namespace")));
    let said = refused.body["detail"]["status_description"].as_str().unwrap();
    assert!(said.contains("--gateway-default-namespace"), "{said}");
    assert_eq!(get(&harness, "/decisions").await.status, 200, "a list may be of all namespaces");
}
