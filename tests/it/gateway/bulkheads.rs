//! A provider that hangs, a caller and a namespace slow only themselves, under four times the load that they may have.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use busbar::domain::key::ObjectKey;
use busbar::profile::{Environment, Profiles};
use busbar::settings::{Draft, Settings};
use busbar::testbed::sim::{BankHandle, Behaviour, FailurePoint};
use futures::future::join_all;
use tokio::task::JoinHandle;

use super::harness::{GatewayHarness, Plan, Said, fallback, said};
use crate::kit::wait::eventually;

/// Calls of one connection that may be in flight.
const CALLS: u16 = 16;

fn quote(connection: &str) -> String {
    format!("/api/providers/treasury/{connection}/quote?symbol=ACME&deadline_ms=60000")
}

/// A connection that waits for its bank longer than any test lasts.
fn patient(draft: &mut Draft) {
    draft.breaker.consecutive_failures = 0;
    draft.timeouts.request = Duration::from_mins(5);
    draft.timeouts.total = Duration::from_mins(5);
}

/// Makes the bank hang: it accepts requests and never responds.
pub(super) async fn hang(bank: &BankHandle) {
    bank.fail_with(Behaviour::Stall(FailurePoint::BeforeHead)).await.unwrap();
}

/// Sends `count` requests of `user` at the same time.
pub(super) fn send(harness: &GatewayHarness, path: &str, user: &str, count: usize) -> Vec<JoinHandle<Said>> {
    let request = |_| {
        let request = harness.http.get(harness.url(path)).bearer_auth(format!("token-{user}"));
        tokio::spawn(said(request))
    };
    (0..count).map(request).collect()
}

/// Waits until `count` requests have reached the bank.
pub(super) async fn arrived(bank: &BankHandle, count: usize) {
    eventually(format!("{count} requests are with the bank"), async || match bank.arrivals().entries.len() {
        seen if seen == count => Ok(()),
        seen => Err(format!("{seen}")),
    })
    .await;
}

/// The responses that are there already, by status and error.
async fn responses(requests: &mut Vec<JoinHandle<Said>>) -> BTreeMap<(u16, String), usize> {
    let mut counts = BTreeMap::new();
    let mut left = Vec::new();
    for request in requests.drain(..) {
        if request.is_finished() {
            let said = request.await.unwrap();
            assert!(said.status == 200 || said.header("retry-after").is_some(), "{said:?}");
            *counts.entry((said.status, said.error().to_owned())).or_default() += 1;
        } else {
            left.push(request);
        }
    }
    *requests = left;
    counts
}

/// The responses to a request for a connection with too many calls in flight, and to one of a caller with too many.
pub(super) async fn overload() -> [Said; 2] {
    let harness = GatewayHarness::with(Plan { under_way: 16, calls: Some(4), ..Plan::default() }).await;
    hang(&harness.fmp).await;
    let mut calls = Vec::new();
    let mut hold = |name: &str, count| {
        harness.connect_as(name, "fmp", &harness.fmp, patient);
        calls.extend(send(&harness, &quote(name), "ann", count));
    };
    // The fourth is another caller's.
    hold("hung-0", 3);
    arrived(&harness.fmp, 3).await;
    let connection = harness.get(&quote("hung-0")).await;
    for n in 1..5 {
        hold(&format!("hung-{n}"), 3);
    }
    hold("hung-5", 1);
    arrived(&harness.fmp, 16).await;
    let caller = harness.get(&quote("polygon")).await;
    for request in calls {
        request.abort();
    }
    [connection, caller]
}

#[tokio::test]
async fn beside_a_bank_that_hangs_under_load_all_calls_of_another_are_answered() {
    let harness = GatewayHarness::with(Plan { calls: Some(CALLS), ..Plan::default() }).await;
    harness.connect("fmp", &harness.fmp, patient);
    hang(&harness.fmp).await;
    // Four times what may be in flight, of many callers, before anything is known of the bank.
    let load = usize::from(CALLS) * 4;
    let mut hung: Vec<_> = (0..load).flat_map(|n| send(&harness, &quote("fmp"), &format!("user-{n}"), 1)).collect();
    arrived(&harness.fmp, usize::from(CALLS)).await;
    let mut rejected = BTreeMap::new();
    eventually("all others are rejected", async || {
        for (code, count) in responses(&mut hung).await {
            *rejected.entry(code).or_insert(0) += count;
        }
        if hung.len() == usize::from(CALLS) { Ok(()) } else { Err(format!("{} in flight, {rejected:?}", hung.len())) }
    })
    .await;
    let expected = BTreeMap::from([((503, "bulkhead_full".to_owned()), load - usize::from(CALLS))]);
    assert_eq!(rejected, expected, "for this connection, with its own code");
    // The other bank has its own load, of the same callers, while the hung one is called again and again.
    for _ in 0..10 {
        let again = send(&harness, &quote("fmp"), "user-0", usize::from(CALLS));
        let good = (0..CALLS).flat_map(|n| send(&harness, &quote("polygon"), &format!("user-{n}"), 1));
        for said in join_all(good).await {
            let said = said.unwrap();
            assert_eq!(said.status, 200, "{said:?}");
        }
        for said in join_all(again).await {
            assert_eq!(said.unwrap().error(), "bulkhead_full");
        }
    }
    assert_eq!(harness.fmp.arrivals().entries.len(), usize::from(CALLS), "the hung bank got no further request");
    assert_eq!(harness.polygon.arrivals().entries.len(), usize::from(CALLS) * 10, "the other got each once");
    let text = harness.metrics.render().unwrap();
    for series in [
        "busbar_bulkhead_in_use{provider=\"fmp\"} 16",
        "busbar_bulkhead_limit 16",
        "busbar_bulkhead_rejected_total{provider=\"polygon\"} 0",
    ] {
        assert!(text.contains(series), "{series}:\n{text}");
    }
    let rejected = crate::kit::metrics::value(&text, "busbar_bulkhead_rejected_total", &[("provider", "fmp")]);
    assert!(rejected > Some(0.0), "{text}");
    for request in hung {
        request.abort();
    }
}

#[tokio::test]
async fn a_fallback_answers_at_once_for_a_connection_whose_bulkhead_is_full() {
    let harness = GatewayHarness::with(Plan { calls: Some(4), ..Plan::default() }).await;
    harness.connect("fmp", &harness.fmp, |draft| {
        patient(draft);
        draft.fallback = vec![fallback("polygon")];
    });
    hang(&harness.fmp).await;
    // Each holds the first connection until its share of the time is over, and beyond: the reads run on.
    let path = "/api/providers/treasury/fmp/quote?symbol=ACME&deadline_ms=8000";
    let first = ["ann", "bob"].into_iter().flat_map(|user| send(&harness, path, user, 2));
    for said in join_all(first).await {
        assert_eq!(*said.unwrap().meta("provider_used"), "polygon_fallback");
    }
    let said = harness.ask("GET", path, "token-eve", &[]).await;
    assert_eq!((said.status, said.meta("provider_used").as_str()), (200, Some("polygon_fallback")), "{said:?}");
    assert_eq!(harness.fmp.arrivals().entries.len(), 4, "nothing was sent to the first one");
    // It is not stored for later: that would be more load.
    harness.connect("fmp", &harness.fmp, patient);
    let said = harness.ask("GET", path, "token-eve", &[]).await;
    assert_eq!((said.status, said.error()), (503, "bulkhead_full"), "{said:?}");
    assert_eq!(said.body["data"]["details"]["reason"], "bulkhead_full");
    assert!(said.body["data"].get("dead_request_id").is_none(), "{said:?}");
    assert!(said.header("retry-after").is_some());
}

#[tokio::test]
async fn a_caller_with_requests_to_many_hung_banks_leaves_the_others_theirs() {
    let harness = GatewayHarness::with(Plan { under_way: 64, ..Plan::default() }).await;
    hang(&harness.fmp).await;
    for n in 0..8 {
        harness.connect_as(&format!("hung-{n}"), "fmp", &harness.fmp, patient);
    }
    // Half of the gateway's requests, and a share of further connections.
    let mut held: Vec<_> = (0..2).flat_map(|n| send(&harness, &quote(&format!("hung-{n}")), "ann", 16)).collect();
    arrived(&harness.fmp, 32).await;
    held.extend((2..4).flat_map(|n| send(&harness, &quote(&format!("hung-{n}")), "ann", 8)));
    arrived(&harness.fmp, 48).await;
    let said = harness.get(&quote("polygon")).await;
    assert_eq!((said.status, said.error()), (429, "concurrency_limited"), "{said:?}");
    assert!(said.header("retry-after").is_some());
    // Others fill the rest.
    held.extend((4..6).flat_map(|n| send(&harness, &quote(&format!("hung-{n}")), "bob", 8)));
    arrived(&harness.fmp, 64).await;
    let full = harness.ask("GET", &quote("hung-0"), "token-eve", &[]).await;
    assert_eq!((full.status, full.error()), (503, "bulkhead_full"), "{full:?}");
    // All requests of the gateway are taken, by one namespace: a connection with fewer is served all the same.
    for user in ["bob", "eve"] {
        let said = harness.ask("GET", &quote("polygon"), &format!("token-{user}"), &[]).await;
        assert_eq!(said.status, 200, "{said:?}");
    }
    for request in held {
        request.abort();
    }
    eventually("the requests are released", async || {
        let said = harness.get(&quote("polygon")).await;
        if said.status == 200 { Ok(()) } else { Err(format!("{said:?}")) }
    })
    .await;
}

#[tokio::test]
async fn a_namespace_that_holds_all_requests_leaves_another_its_share() {
    let harness = GatewayHarness::with(Plan { under_way: 64, ..Plan::default() }).await;
    hang(&harness.fmp).await;
    for n in 0..8 {
        harness.connect_as(&format!("hung-{n}"), "fmp", &harness.fmp, patient);
    }
    let mut draft = Draft::new(Profiles::builtin().unwrap().get("polygon").unwrap(), Environment::Sandbox);
    draft.base_url = harness.polygon.base_url();
    draft.limits.clear();
    draft.cache = None;
    let settings = Arc::new(Settings::resolve(draft).unwrap());
    harness.registry.apply(&ObjectKey::new("trading", "polygon"), "uid-trading", settings, None);
    let held: Vec<_> =
        (0..8).flat_map(|n| send(&harness, &quote(&format!("hung-{n}")), &format!("user-{n}"), 8)).collect();
    arrived(&harness.fmp, 64).await;
    let path = quote("hung-0");
    let full = harness.ask("GET", &path, "token-eve", &[]).await;
    assert_eq!((full.status, full.error()), (503, "unavailable"), "no more than its share: {full:?}");
    let good = send(&harness, &quote("polygon").replace("/treasury/", "/trading/"), "eve", 12);
    for said in join_all(good).await {
        let said = said.unwrap();
        assert_eq!(said.status, 200, "{said:?}");
    }
    let text = harness.metrics.render().unwrap();
    for series in
        ["busbar_gateway_concurrency_limit 64", "busbar_gateway_concurrency_rejected_total{limit=\"replica\"} 1"]
    {
        assert!(text.contains(series), "{series}");
    }
    for request in held {
        request.abort();
    }
}
