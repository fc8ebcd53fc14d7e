//! Which callers a fallback serves.

use std::time::Duration;

use busbar::gateway::fallback_authorization::FallbackAuthorization;
use busbar::settings::RetryPolicy;
use busbar::testbed::sim::Behaviour;
use serde_json::json;

use super::QUOTE;
use super::harness::{GatewayHarness, Plan, Said, fallback};

/// A harness whose connection `fmp` fails and has the fallback `polygon`.
async fn failing(plan: Plan) -> GatewayHarness {
    let harness = GatewayHarness::with(plan).await;
    harness.connect("fmp", &harness.fmp, |draft| {
        draft.fallback = vec![fallback("polygon")];
        draft.breaker.consecutive_failures = 0;
    });
    harness.fmp.fail_with(Behaviour::status(503)).await.unwrap();
    harness
}

async fn quote_as(harness: &GatewayHarness, user: &str) -> Said {
    harness.ask("GET", QUOTE, &format!("token-{user}"), &[]).await
}

#[tokio::test]
async fn a_fallback_serves_only_callers_who_may_call_it() {
    let mut harness = failing(Plan::default()).await;
    let ann = quote_as(&harness, "ann").await;
    assert_eq!((ann.status, ann.meta("provider_used")), (200, &json!("polygon_fallback")), "{ann:?}");
    let served = harness.polygon.counters().requests;
    for (user, code) in [("desk", "forbidden"), ("cut-off", "authorization_unavailable")] {
        let failed = quote_as(&harness, user).await;
        assert_eq!((failed.status, failed.error()), (502, "provider_failed"), "{failed:?}");
        let tried = &failed.body["data"]["details"]["stand_ins"];
        assert_eq!(*tried, json!([{"provider": "polygon", "code": code}]));
    }
    assert_eq!(harness.polygon.counters().requests, served, "nothing was sent through the fallback");
    // While the first connection answers, the fallback is no matter.
    harness.fmp.recover().await;
    assert_eq!(quote_as(&harness, "desk").await.meta("provider_used"), &json!("fmp"));
    let denied = harness.audit().await.into_iter().filter(|entry| !entry.allowed);
    let denied: Vec<_> = denied.map(|e| (e.subject, e.connection, e.reason)).collect();
    assert_eq!(denied, [("desk".to_owned(), "polygon".to_owned(), Some("rbac".to_owned()))]);
}

#[tokio::test]
async fn a_caller_without_a_fallback_has_the_whole_time_and_all_retries() {
    let harness = GatewayHarness::new().await;
    harness.connect("fmp", &harness.fmp, |draft| {
        draft.fallback = vec![fallback("polygon")];
        draft.breaker.consecutive_failures = 0;
        draft.retry =
            RetryPolicy { retries: 1, base: Duration::from_millis(1), budget_percent: 100, ..RetryPolicy::default() };
    });
    harness.fmp.fail_with(Behaviour::status(503)).await.unwrap();
    for (user, requests) in [("ann", 1), ("desk", 2)] {
        let before = harness.fmp.counters().requests;
        quote_as(&harness, user).await;
        assert_eq!(harness.fmp.counters().requests - before, requests, "{user}");
    }
}

#[tokio::test]
async fn with_the_authors_right_a_fallback_serves_every_caller_of_the_first() {
    let harness = failing(Plan { fallbacks: FallbackAuthorization::Author, ..Plan::default() }).await;
    for user in ["ann", "desk", "cut-off"] {
        let served = quote_as(&harness, user).await;
        assert_eq!((served.status, served.meta("provider_used")), (200, &json!("polygon_fallback")), "{served:?}");
    }
    let direct = QUOTE.replace("/fmp/", "/polygon/");
    let denied = harness.ask("GET", &direct, "token-desk", &[]).await;
    assert_eq!((denied.status, denied.error()), (403, "forbidden"), "a call of its own requires the caller's right");
}
