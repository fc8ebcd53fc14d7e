//! The gateway while the ledger's volume is full, and after.

use std::sync::Arc;

use busbar::domain::rights::{LicenceProfile, LicenceSubject, Rights};
use busbar::ledger::{LedgerHealth, WriteFault};
use busbar::testbed::sim::Behaviour;

use super::QUOTE;
use super::harness::GatewayHarness;
use super::later::fail;
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
