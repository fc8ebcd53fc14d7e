//! The gateway while the ledger's volume is full, and after.

use std::sync::Arc;

use busbar::domain::rights::{LicenceProfile, LicenceSubject, Rights};
use busbar::ledger::{LedgerHealth, WriteFault};
use busbar::testbed::sim::Behaviour;
use serde_json::json;

use super::QUOTE;
use super::consumers::{create, keyed};
use super::harness::{GatewayHarness, said};
use super::later::fail;
use super::routing::{golden, payout, post};
use super::webhooks::{send, signature};
use crate::kit::small_volume::{FullVolume, run_ignored_tests};
use crate::kit::wait::eventually;

#[test]
fn a_full_volume_is_no_outage_of_the_gateway() {
    run_ignored_tests("gateway::ledger_faults");
}

#[tokio::test]
#[ignore = "runs on a volume of its own, in a child of the test above"]
async fn what_needs_the_ledger_is_unavailable_until_it_works_again() {
    let harness = GatewayHarness::new().await;
    // An open circuit would refuse the second call.
    harness.connect("fmp", &harness.fmp, |draft| draft.breaker.consecutive_failures = 0);
    harness.fmp.fail_with(Behaviour::status(503)).await.unwrap();
    let id = fail(&harness, QUOTE).await;
    let request = format!("/api/dead-requests/{id}");
    let full = FullVolume::begin();
    for _ in 0..3 {
        let refused = harness.ask("DELETE", &request, "token-ann", &[]).await;
        assert_eq!((refused.status, refused.error()), (503, "unavailable"), "{refused:?}");
        assert!(refused.header("retry-after").is_some());
        let listed = harness.get("/api/dead-requests?namespace=treasury").await;
        assert_eq!((listed.status, listed.body["data"].to_string().contains(&id.to_string())), (200, true));
    }
    let failed = harness.get("/api/providers/treasury/fmp/quote?symbol=OTHER").await;
    assert_eq!((failed.status, failed.error()), (502, "provider_failed"), "{failed:?}");
    assert!(failed.body["data"]["dead_request_id"].is_null(), "it could not be stored");
    assert_eq!(*harness.ledger.health().borrow(), LedgerHealth::Unwritable(WriteFault::Full));
    drop(full);
    assert_eq!(harness.ask("DELETE", &request, "token-ann", &[]).await.status, 200);
    assert_eq!(*harness.ledger.health().borrow(), LedgerHealth::Writable);
    assert!(harness.ledger.get_dead_request(id).await.unwrap().is_none());
}

#[tokio::test]
#[ignore = "runs on a volume of its own, in a child of the test above"]
async fn consumers_are_served_with_local_limits_and_webhooks_are_refused_for_a_retry() {
    let harness = GatewayHarness::new().await;
    let key = create(&harness, &json!({"name": "a"})).await;
    let (path, body) = ("/webhooks/treasury/mono", "{}");
    let signed = signature("s3cret", body);
    let full = FullVolume::begin();
    for _ in 0..3 {
        let events = keyed(&harness, "GET", "/api/events", &key, None).await;
        assert_eq!(events.status, 200, "{events:?}");
        let refused = send(&harness, path, body, &signed).await;
        assert_eq!((refused.status, refused.error()), (503, "unavailable"), "{refused:?}");
        let rotated = post_as_ann(&harness, "/api/consumers/a/rotate-key").await;
        assert_eq!(rotated, 503, "what cannot be recorded is not done");
    }
    drop(full);
    assert_eq!(send(&harness, path, body, &signed).await.status, 202);
    assert_eq!(keyed(&harness, "GET", "/api/events", &key, None).await.status, 200, "the old key still is the key");
    // A known key is served by the limits of this replica while the ledger is gone, and the metric says so.
    harness.ledger.close().await;
    eventually("the metric says that limits are not shared", async || {
        keyed(&harness, "GET", "/api/events", &key, None).await;
        let text = harness.metrics.render().unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix("busbar_gateway_rate_limit_unshared_total "));
        if value.is_some_and(|value| value != "0") { Ok(()) } else { Err(format!("{value:?}")) }
    })
    .await;
}

async fn post_as_ann(harness: &GatewayHarness, path: &str) -> u16 {
    said(harness.http.post(harness.url(path)).bearer_auth("token-ann")).await.status
}

#[tokio::test]
#[ignore = "runs on a volume of its own, in a child of the test above"]
async fn licensed_calls_go_on_and_their_audit_entries_follow() {
    let mut harness = GatewayHarness::new().await;
    let profile = LicenceProfile {
        name: "desk".into(),
        subjects: vec![LicenceSubject::User("ann".into())],
        actions: ["quote".to_owned()].into(),
        requests_per_day: Some(2),
    };
    harness.connect("fmp", &harness.fmp, |draft| draft.rights = Some(Arc::new(Rights { profiles: vec![profile] })));
    let full = FullVolume::begin();
    for _ in 0..3 {
        assert_eq!(harness.get(QUOTE).await.status, 200, "admitted although it cannot be counted");
    }
    let uncounted = |count: u64| format!("\nbusbar_ratelimit_fail_open_total {count}\n");
    assert!(harness.metrics.render().unwrap().contains(&uncounted(3)));
    drop(full);
    eventually("the entries of the calls are written", async || {
        harness.ledger.list_audit(None, None, 10).await.unwrap().len() == 3
    })
    .await;
    for (status, count) in [(200, 3), (200, 3), (429, 3)] {
        assert_eq!(harness.get(QUOTE).await.status, status, "counted again");
        assert!(harness.metrics.render().unwrap().contains(&uncounted(count)));
    }
    assert_eq!(harness.audit().await.len(), 6);
}

#[tokio::test]
#[ignore = "runs on a volume of its own, in a child of the test above"]
async fn nothing_is_decided_until_the_ledger_works_again() {
    let harness = golden().await;
    let first = post(&harness, "/decide", &payout("p-1")).await;
    assert_eq!(first.status, 200, "{first:?}");
    let expires = crate::kit::time::now() + jiff::SignedDuration::from_hours(1);
    let weight = json!({"namespace": "treasury", "candidate": "bank-c", "weight": 9, "expires_at": expires});
    let full = FullVolume::begin();
    for (path, body) in [("/decide", payout("p-2")), ("/decide", payout("p-2")), ("/adjustments", weight.clone())] {
        let refused = post(&harness, path, &body).await;
        assert_eq!((refused.status, refused.error()), (503, "unavailable"), "{refused:?}");
        assert!(refused.header("retry-after").is_some());
    }
    let again = post(&harness, "/decide", &payout("p-1")).await;
    if again.status == 200 {
        assert_eq!(again.body["data"]["decision_id"], first.body["data"]["decision_id"]);
    }
    assert_eq!(post(&harness, "/test", &payout("p-2")).await.status, 200, "a test reads only");
    drop(full);
    let decided = post(&harness, "/decide", &payout("p-2")).await;
    assert_eq!((decided.status, &decided.body["data"]["replayed"]), (200, &json!(false)), "{decided:?}");
    assert_eq!(decided.body["data"]["candidate"], json!("bank-c"), "the weight was not stored");
    assert_eq!(post(&harness, "/adjustments", &weight).await.status, 200);
    assert_eq!(harness.ledger.chain_head().await.unwrap().seq, 3);
}
