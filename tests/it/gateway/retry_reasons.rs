//! Every documented reason of a dead request that was not retried is emitted by the worker, and no other one is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use busbar::clock::Clock;
use busbar::ledger::dead_requests::{DeadRequestFilter, DeadRequestLimits, NewDeadRequest};
use busbar::profile::Profile;
use busbar::provider::failure_reason::FailureReason;
use busbar::settings::CachePolicy;
use busbar::testbed::sim::Behaviour;
use busbar::work::dead_requests::reason::RetryReason;
use jiff::SignedDuration;
use uuid::Uuid;

use super::QUOTE;
use super::harness::{GatewayHarness, key};
use super::later::fail;
use crate::kit::wait::eventually;

/// A profile whose operation writes, as a custom profile may be changed to.
const WRITES: &str = "id: own
title: Own
breaker: Api
healthCheck: {path: /}
operations:
  quote: {path: /quote, method: POST, class: Write}
";

/// Stores a variation of `request` that is due, with the reason it must end with as its name in the fingerprint.
async fn store(
    harness: &GatewayHarness,
    request: &NewDeadRequest,
    expected: &str,
    change: impl FnOnce(&mut NewDeadRequest),
) {
    let mut request = request.clone();
    (request.id, request.fingerprint) = (Uuid::new_v4(), expected.to_owned());
    change(&mut request);
    request.next = request.at;
    let limits = DeadRequestLimits { total: 100, connection: 100 };
    harness.ledger.add_dead_request(&request, limits).await.unwrap();
}

/// The reasons of all stored requests, by fingerprint.
async fn reasons(harness: &GatewayHarness) -> BTreeMap<String, String> {
    let all = harness.ledger.list_dead_requests(&DeadRequestFilter::default(), 100).await.unwrap();
    all.into_iter().map(|dead| (dead.request.fingerprint, dead.request.reason)).collect()
}

#[tokio::test]
async fn every_reason_of_a_dead_request_is_emitted() {
    let harness = GatewayHarness::new().await;
    let cache = CachePolicy { ttl: Duration::ZERO, max_stale: Duration::from_hours(1) };
    harness.connect("fmp", &harness.fmp, |draft| draft.breaker.consecutive_failures = 0);
    harness.connect("polygon", &harness.polygon, |_| ());
    harness.connect_as("suspended", "fmp", &harness.fmp, |draft| draft.suspended = true);
    harness.connect_as("denied", "fmp", &harness.fmp, |draft| draft.rights = Some(Arc::default()));
    harness.connect_as("stale", "fmp", &harness.fmp, |draft| draft.cache = Some(cache));
    harness.connect_by("own", Arc::new(Profile::parse("own.yaml", WRITES).unwrap()), &harness.fmp, |_| ());
    assert_eq!(harness.get("/api/providers/treasury/stale/quote?symbol=ACME").await.status, 200);
    harness.fmp.fail_with(Behaviour::status(503)).await.unwrap();
    let id = fail(&harness, QUOTE).await;
    let base = harness.ledger.get_dead_request(id).await.unwrap().unwrap().request;
    let on = |name: &'static str| {
        move |request: &mut NewDeadRequest| (request.connection, request.uid) = (key(name), format!("uid-{name}"))
    };
    // The review of the caller ends within the delay of a postponed retry.
    let reviewed = Clock::system().now().wall - SignedDuration::from_secs(15 * 60 - 20);
    store(&harness, &base, "connection_absent", |request| (request.connection, request.at) = (key("none"), reviewed))
        .await;
    store(&harness, &base, "suspended", |request| {
        on("suspended")(request);
        request.at = reviewed;
    })
    .await;
    store(&harness, &base, "review_expired", |request| request.at = reviewed - SignedDuration::from_mins(1)).await;
    store(&harness, &base, "connection_replaced", |request| request.uid = "uid-old".to_owned()).await;
    store(&harness, &base, "provider_changed", |request| request.provider = "polygon".to_owned()).await;
    store(&harness, &base, "unreadable", |request| request.parameters = b"{".to_vec()).await;
    store(&harness, &base, "operation_not_found", |request| request.operation = "none".to_owned()).await;
    store(&harness, &base, "not_repeatable", |request| {
        on("own")(request);
        request.provider = "own".to_owned();
    })
    .await;
    store(&harness, &base, "invalid_parameter", |request| request.parameters = br#"{"symbol":"a b"}"#.to_vec()).await;
    store(&harness, &base, "rights_denied", on("denied")).await;
    store(&harness, &base, "stale", on("stale")).await;
    let (stop, worker) = harness.worker_that_sweeps_nothing("a");
    eventually("each request has its reason", async || {
        let mut found = reasons(&harness).await;
        found.remove(&base.fingerprint);
        found.iter().all(|(expected, reason)| expected == reason)
    })
    .await;
    stop.cancel();
    worker.await.unwrap();
    let mut found: BTreeSet<_> = reasons(&harness).await.into_values().collect();
    for failure in FailureReason::ALL {
        found.remove(failure.as_str());
    }
    let documented: BTreeSet<_> = RetryReason::ALL.iter().map(|reason| reason.as_str().to_owned()).collect();
    assert_eq!(found, documented);
}
