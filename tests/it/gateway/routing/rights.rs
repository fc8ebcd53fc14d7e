//! Every call needs its own right, and tells nothing without it.

use serde_json::{Value, json};

use super::super::harness::{GatewayHarness, Said};
use super::{ROUTING, decided, golden, payout, post_text};

/// Each call: method, path, body, and the verb and subresource that it needs.
fn calls(decision: &str) -> Vec<(&'static str, String, Option<Value>, &'static str, &'static str)> {
    let id = "0f8fad5b-d9cb-469f-a165-70867728950e";
    let in_namespace = |path: &str| format!("{path}?namespace=treasury");
    let outcome = json!({"namespace": "treasury", "outcomes": [{"decision_id": decision, "class": "success"}]});
    let weight =
        json!({"namespace": "treasury", "candidate": "bank-a", "weight": 2, "expires_at": "2030-01-01T00:00:00Z"});
    let predictions = json!({"namespace": "treasury", "predictions": []});
    let simulation = json!({"namespace": "treasury", "route": "payouts", "spec": {}});
    vec![
        ("POST", "/decide".into(), Some(payout("p-2")), "create", "decisions"),
        ("POST", "/test".into(), Some(payout("p-2")), "get", "decisions"),
        ("GET", in_namespace("/decisions"), None, "list", "decisions"),
        ("GET", format!("/decisions/{decision}"), None, "get", "decisions"),
        ("GET", in_namespace("/health"), None, "list", ""),
        ("POST", format!("/override/{decision}"), Some(json!({"candidate": "bank-a"})), "update", "override"),
        ("GET", in_namespace("/adjustments"), None, "get", "adjustments"),
        ("POST", "/adjustments".into(), Some(weight), "create", "adjustments"),
        ("DELETE", in_namespace(&format!("/adjustments/{id}")), None, "delete", "adjustments"),
        ("GET", in_namespace("/proposals"), None, "list", "decisions"),
        ("POST", in_namespace(&format!("/proposals/{id}/approve")), None, "update", "override"),
        ("POST", in_namespace(&format!("/proposals/{id}/reject")), None, "update", "override"),
        ("POST", "/outcomes".into(), Some(outcome), "create", "outcomes"),
        ("POST", "/predictions".into(), Some(predictions), "create", "predictions"),
        ("POST", "/simulate".into(), Some(simulation), "list", "decisions"),
        ("GET", "/audit/verify".into(), None, "get", "audit"),
    ]
}

async fn call(harness: &GatewayHarness, method: &str, path: &str, body: Option<&Value>, token: &str) -> Said {
    match body {
        Some(body) => post_text(harness, path, token, body.to_string()).await,
        None => harness.ask(method, &format!("{ROUTING}{path}"), token, &[]).await,
    }
}

#[tokio::test]
async fn each_call_needs_its_right_and_that_right_is_enough() {
    let harness = golden().await;
    let decision = decided(&harness, &payout("p-1")).await;
    let decision = decision["decision_id"].as_str().unwrap();
    for (method, path, body, verb, subresource) in calls(decision) {
        let denied = call(&harness, method, &path, body.as_ref(), "token-outsider").await;
        assert_eq!((denied.status, denied.error()), (403, "forbidden"), "{path}: {denied:?}");
        let details = &denied.body["data"]["details"];
        let resource =
            if subresource.is_empty() { "bankroutes".to_owned() } else { format!("bankroutes/{subresource}") };
        assert_eq!((&details["verb"], &details["resource"]), (&json!(verb), &json!(resource)), "{path}");
        let allowed = call(&harness, method, &path, body.as_ref(), &format!("token-may-{verb}-{subresource}")).await;
        assert!(!matches!(allowed.status, 401 | 403 | 405), "{path}: {allowed:?}");
        for (_, _, _, other_verb, other) in calls(decision) {
            if (other_verb, other) != (verb, subresource) {
                let token = format!("token-may-{other_verb}-{other}");
                let denied = call(&harness, method, &path, body.as_ref(), &token).await;
                assert_eq!(denied.status, 403, "{path} as {token}: {denied:?}");
            }
        }
        let unknown = call(&harness, method, &path, body.as_ref(), "").await;
        assert_eq!((unknown.status, unknown.error()), (401, "unauthenticated"), "{path}");
    }
}

#[tokio::test]
async fn a_right_on_one_route_is_enough_for_its_adjustments_and_for_no_others() {
    let harness = golden().await;
    let body = |route: Option<&str>| {
        let end = crate::kit::time::now() + jiff::SignedDuration::from_hours(1);
        json!({"namespace": "treasury", "route": route, "candidate": "bank-a", "weight": 2, "expires_at": end})
    };
    let create = async |token: &str, route: Option<&str>| {
        post_text(&harness, "/adjustments", token, body(route).to_string()).await
    };
    let bound = "token-bound-payouts";
    let own = create(bound, Some("payouts")).await;
    assert_eq!(own.status, 200, "{own:?}");
    assert_eq!(create(bound, None).await.status, 403);
    let of_all = create("token-ann", None).await;
    let list = async |token: &str, query: &str| {
        harness.ask("GET", &format!("{ROUTING}/adjustments?namespace=treasury{query}"), token, &[]).await
    };
    assert_eq!(list(bound, "").await.status, 403);
    assert_eq!(list(bound, "&route=other").await.status, 403);
    assert_eq!(list("token-ann", "&route=A_B").await.error(), "invalid_request");
    let count = |said: &Said| said.body["data"]["items"].as_array().map(Vec::len);
    let listed = list(bound, "&route=payouts").await;
    assert_eq!((listed.status, count(&listed)), (200, Some(2)), "its own, and the one of all routes: {listed:?}");
    assert_eq!(count(&list("token-ann", "&route=other").await), Some(1));
    let delete = async |token: &str, id: &str| {
        harness.ask("DELETE", &format!("{ROUTING}/adjustments/{id}?namespace=treasury"), token, &[]).await
    };
    let id = |said: &Said| said.body["data"]["id"].as_str().unwrap().to_owned();
    for unknown in [&*id(&of_all), "0f8fad5b-d9cb-469f-a165-70867728950e", "x"] {
        assert_eq!(delete(bound, unknown).await.status, 403, "{unknown}");
    }
    assert_eq!(delete("token-bound-other", &id(&own)).await.status, 403);
    assert_eq!(delete(bound, &id(&own)).await.status, 200);
    assert_eq!(delete("token-ann", &id(&of_all)).await.status, 200);
}

#[tokio::test]
async fn a_caller_without_the_right_is_not_told_whether_a_decision_exists() {
    let harness = golden().await;
    let decision = decided(&harness, &payout("p-1")).await;
    let known = decision["decision_id"].as_str().unwrap();
    for id in [known, "0f8fad5b-d9cb-469f-a165-70867728950e", "x"] {
        let one = harness.ask("GET", &format!("{ROUTING}/decisions/{id}"), "token-outsider", &[]).await;
        assert_eq!((one.status, one.error()), (403, "forbidden"), "{id}");
        let body = json!({"candidate": "bank-a"}).to_string();
        let over = post_text(&harness, &format!("/override/{id}"), "token-outsider", body).await;
        assert_eq!((over.status, over.error()), (403, "forbidden"), "{id}");
    }
}

#[tokio::test]
async fn no_answer_of_the_api_server_is_a_denial() {
    let harness = golden().await;
    harness.api.down.store(true, std::sync::atomic::Ordering::Relaxed);
    let denied = post_text(&harness, "/decide", "token-ann", payout("p-1").to_string()).await;
    assert_eq!((denied.status, denied.error()), (503, "authorization_unavailable"), "{denied:?}");
    assert_eq!(super::recorded(&harness).await, 0);
}
