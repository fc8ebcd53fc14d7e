//! Responses of providers that are successful but hold no result, or the reverse.

use busbar::ledger::dead_requests::DeadRequestCounts;
use busbar::testbed::sim::{BankConfig, Behaviour};
use serde_json::json;

use super::harness::GatewayHarness;

fn says(code: u16, body: &str) -> Behaviour {
    Behaviour::Status { code, headers: [].into(), body: Some(body.to_owned()) }
}

#[tokio::test]
async fn an_unknown_ticker_is_item_not_found_and_not_a_failure() {
    let harness = GatewayHarness::new().await;
    harness.fmp.fail_with(says(200, "[]")).await.unwrap();
    let said = harness.get("/api/providers/treasury/fmp/quote?symbol=NONE").await;
    assert_eq!((said.status, said.error()), (404, "item_not_found"), "{said:?}");
    assert_eq!(said.body["data"]["details"], json!({"status_code": 200}));
    // An empty list is a list.
    let none = harness.get("/api/providers/treasury/fmp/earnings?symbol=NONE").await;
    assert_eq!(none.body["data"]["result"], json!({"records": [], "complete": true}), "{none:?}");
    assert_eq!(
        harness.ledger.count_dead_requests().await.unwrap(),
        DeadRequestCounts { pending: 0, parked: 0 },
        "no retry is stored"
    );
}

#[tokio::test]
async fn a_list_beyond_the_plan_is_returned_as_incomplete() {
    let harness = GatewayHarness::new().await;
    let newsapi = harness.sim.add_bank(BankConfig::new("newsapi")).await.unwrap();
    harness.connect("newsapi", &newsapi, |_| ());
    let path = "/api/providers/treasury/newsapi/articles?q=acme&page=9";
    for (code, body) in [
        (426, r#"{"status":"error","code":"maximumResultsReached","message":"You have requested too many results."}"#),
        (426, "Upgrade Required"),
    ] {
        newsapi.fail_with(says(code, body)).await.unwrap();
        let said = harness.get(path).await;
        assert_eq!(said.status, 200, "{said:?}");
        assert_eq!(said.body["data"]["result"], json!({"records": [], "complete": false}));
        assert_eq!(*said.meta("status_code"), code);
    }
    newsapi.fail_with(says(200, r#"{"status":"ok","articles":{}}"#)).await.unwrap();
    let said = harness.get(path).await;
    assert_eq!((said.status, &said.body["data"]["details"]["reason"]), (502, &json!("unexpected_shape")), "{said:?}");
}

#[tokio::test]
async fn a_providers_own_body_is_returned_if_it_is_json_of_limited_depth() {
    let harness = GatewayHarness::new().await;
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    for (depth, status) in [(60, 200), (65, 502)] {
        harness.fmp.fail_with(says(200, &nested(depth))).await.unwrap();
        let said = harness.get("/api/providers/treasury/fmp/quote?symbol=ACME&shape=provider").await;
        assert_eq!(said.status, status, "{depth}: {said:?}");
    }
}

#[tokio::test]
async fn an_exhausted_quota_reported_with_200_is_an_error_with_its_end() {
    let harness = GatewayHarness::new().await;
    harness.fmp.fail_with(says(200, r#"{"Error Message":"Limit Reach . Please upgrade your plan"}"#)).await.unwrap();
    for _ in 0..2 {
        let said = harness.get("/api/providers/treasury/fmp/quote?symbol=ACME").await;
        assert_eq!((said.status, said.error()), (503, "quota_exhausted"), "{said:?}");
        let wait: u64 = said.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=86_400).contains(&wait), "until the end of the provider's day: {wait}");
        assert!(!said.body.to_string().contains("upgrade"), "{said:?}");
    }
    assert_eq!(harness.fmp.counters().requests, 1, "no call is sent before that");
}
