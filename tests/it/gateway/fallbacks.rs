//! Answers while the provider fails: by a fallback, or from the cache.

use std::sync::Arc;
use std::time::Duration;

use busbar::clock::Clock;
use busbar::settings::{CachePolicy, RetryPolicy};
use busbar::testbed::sim::{Behaviour, Down, FailurePoint};
use serde_json::json;

use super::QUOTE;
use super::harness::{GatewayHarness, fallback};

#[tokio::test]
async fn a_fallback_answers_within_three_seconds_while_the_called_connection_fails() {
    let harness = GatewayHarness::new().await;
    // The default settings except for the breaker: each call must reach the failing provider.
    harness.connect("fmp", &harness.fmp, |draft| {
        draft.fallback = vec![fallback("polygon")];
        draft.retry = RetryPolicy::default();
        draft.breaker.consecutive_failures = 0;
    });
    let earnings = "/api/providers/treasury/fmp/earnings?symbol=ACME&limit=5";
    let refused = Behaviour::Down(Down::Refuse);
    for trouble in [Behaviour::status(503), Behaviour::Stall(FailurePoint::BeforeHead), refused] {
        harness.fmp.fail_with(trouble.clone()).await.unwrap();
        for (path, field, wanted) in
            [(QUOTE, "/price", json!("101.30")), (earnings, "/records/0/eps_actual", json!("1.5"))]
        {
            let met = harness.fmp.counters().requests;
            let (clock, began) = (Clock::system(), Clock::system().mono());
            let said = harness.get(path).await;
            let took = clock.mono().since(began);
            assert_eq!(said.status, 200, "{trouble:?} {path}: {said:?}");
            let asked = harness.fmp.counters().requests > met;
            assert!(asked || trouble == Behaviour::Down(Down::Refuse), "{trouble:?} {path} did not reach the provider");
            assert_eq!(*said.meta("provider_used"), "polygon_fallback");
            assert_eq!(*said.meta("provider"), "fmp");
            assert_eq!(said.body["data"]["result"].pointer(field), Some(&wanted), "{}", said.body);
            assert!(took < Duration::from_secs(3), "{took:?}");
        }
    }
    harness.fmp.fail_with(Behaviour::status(503)).await.unwrap();
    // The provider's own body has no fallback: it differs between providers.
    let own = harness.get(&format!("{QUOTE}&shape=provider&deadline_ms=300")).await;
    assert!(matches!(own.status, 502 | 503), "{own:?}");
    // The licence profiles of the fallback apply too.
    harness.connect("polygon", &harness.polygon, |draft| draft.rights = Some(Arc::default()));
    let refused = harness.get(&format!("{QUOTE}&deadline_ms=300")).await;
    assert!(matches!(refused.status, 502 | 503), "{refused:?}");
    assert_eq!(refused.body["data"]["details"]["stand_ins"][0]["code"], "refused");
}

#[tokio::test]
async fn an_open_circuit_returns_a_stale_answer_or_the_time_of_its_next_trial() {
    let harness = GatewayHarness::new().await;
    let cached = CachePolicy { ttl: Duration::ZERO, max_stale: Duration::from_hours(1) };
    harness.connect("fmp", &harness.fmp, |draft| {
        draft.cache = Some(cached);
        draft.breaker.consecutive_failures = 1;
    });
    assert_eq!(harness.get(QUOTE).await.status, 200);
    harness.fmp.fail_with(Behaviour::status(503)).await.unwrap();
    for what in ["the provider fails", "the circuit is open"] {
        let stale = harness.get(QUOTE).await;
        assert_eq!((stale.status, stale.header("x-data-stale")), (200, Some("true")), "{what}: {stale:?}");
        assert_eq!((stale.meta("stale"), stale.meta("cached")), (&json!(true), &json!(true)));
    }
    let met = harness.fmp.counters().requests;
    assert_eq!(harness.get(QUOTE).await.header("x-data-stale"), Some("true"));
    assert_eq!(harness.fmp.counters().requests, met, "no request is made while the circuit is open");
    // No response for another share is cached.
    let none = harness.get("/api/providers/treasury/fmp/quote?symbol=OTHER").await;
    assert_eq!((none.status, none.error()), (503, "circuit_open"), "{none:?}");
    let wait: u64 = none.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "the open time of the circuit: {wait}");
    assert!(uuid::Uuid::parse_str(none.body["data"]["dead_request_id"].as_str().unwrap()).is_ok());
    // A fresh answer of a fallback takes precedence over a stale one of the called connection.
    harness.connect("fmp", &harness.fmp, |draft| {
        draft.cache = Some(cached);
        draft.breaker.consecutive_failures = 1;
        draft.fallback = vec![fallback("polygon")];
    });
    let fresh = harness.get(QUOTE).await;
    assert_eq!((fresh.meta("provider_used"), fresh.meta("stale")), (&json!("polygon_fallback"), &json!(false)));
    harness.polygon.fail_with(Behaviour::status(500)).await.unwrap();
    let stale = harness.get(QUOTE).await;
    assert_eq!((stale.meta("provider_used"), stale.meta("stale")), (&json!("fmp"), &json!(true)));
    // A response older than maxStale is not returned.
    harness.connect("fmp", &harness.fmp, |draft| {
        draft.cache = Some(CachePolicy { max_stale: Duration::from_millis(1), ..cached });
        draft.breaker.consecutive_failures = 1;
    });
    let over = harness.get(QUOTE).await;
    assert_eq!((over.status, over.error(), over.header("x-data-stale")), (503, "circuit_open", None), "{over:?}");
}
