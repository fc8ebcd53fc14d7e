//! Routes on a real API server: which bank a payout would take, how it moves when banks fail and come back, and what is
//! said about it.

use std::time::Duration;

use busbar::api::v1alpha1::bank_route::BankRouteStatus;
use busbar::api::v1alpha1::{BankRoute, ProviderConnection};
use busbar::testbed::control_plane::AuditQuery;
use jiff::Timestamp;
use serde_json::json;

use crate::support::plane::tell;
use crate::support::world::{condition, connection, down, route};
use crate::support::{Operator, World};

/// `(name, state, reason)` of every candidate.
fn standings(status: &BankRouteStatus) -> Vec<(&str, &str, &str)> {
    status.candidates.iter().map(|c| (c.name.as_str(), c.state.as_str(), c.reason.as_str())).collect()
}

fn is(status: &BankRouteStatus, kind: &str, value: &str, reason: &str) -> bool {
    condition(&status.conditions, kind) == Some((value.to_owned(), reason.to_owned()))
}

/// Waits until the route's status is as wanted.
async fn until(world: &World, what: &str, look: impl Fn(&BankRouteStatus) -> bool) -> BankRouteStatus {
    world
        .until::<BankRoute, _>("payouts", what, |route| route.status.as_ref().filter(|status| look(status)).cloned())
        .await
}

/// Waits until the route's active candidate is this one.
async fn until_active(world: &World, name: &str) -> BankRouteStatus {
    until(world, &format!("{name} is active"), |status| status.active.as_deref() == Some(name)).await
}

fn failover(status: &BankRouteStatus) -> (&str, Option<&str>, &str) {
    let last = status.last_failover.as_ref().expect("there was a failover");
    (&last.from, last.to.as_deref(), &last.reason)
}

#[tokio::test]
async fn payouts_move_to_the_next_cheapest_bank_when_one_fails_and_back_when_it_recovers() {
    let world = World::new("failover").await;
    let (a, b, c) = (world.bank("a").await, world.bank("b").await, world.bank("c").await);
    let fee = |fixed| format!("fees: [{{name: all, fixed: '{fixed}'}}]");
    let candidates = [
        ("a", "a", fee("0.30")),
        ("b", "b", fee("0.50")),
        // The cheapest of all, and still only for when there is no other.
        ("c", "c", format!("tier: Fallback, {}", fee("0.10"))),
    ];
    let candidates = candidates.each_ref().map(|(name, connection, fields)| (*name, *connection, fields.as_str()));
    world.put(&route("payouts", &candidates, "")).await;
    let operator = Operator::ready(&world.ns, &[]).await;

    let well = until(&world, "all three can take payouts", |s| s.candidate_summary.as_deref() == Some("3/3")).await;
    assert_eq!(
        standings(&well),
        [("a", "Preferred", "LowestCost"), ("b", "Standby", "HigherCost"), ("c", "Fallback", "PrimaryAvailable")]
    );
    assert_eq!(well.active.as_deref(), Some("a"));
    assert!(is(&well, "Available", "True", "CandidateAvailable") && is(&well, "Ready", "True", "Accepted"));
    assert_eq!((well.available_candidates, well.total_candidates), (Some(3), Some(3)));
    assert!(well.last_failover.is_none());

    a.fail_with(down()).await.unwrap();
    world.request::<ProviderConnection>("a").await;
    let moved = until_active(&world, "b").await;
    assert_eq!(failover(&moved), ("a", Some("b"), "CircuitOpen"));
    assert!(is(&moved, "Available", "True", "CandidateAvailable"));
    assert!(standings(&moved).contains(&("b", "Preferred", "LowestCost")));
    world.event("BankRoute", "payouts", "FailedOver", "failed over from a to b: a is excluded (CircuitOpen)").await;

    b.fail_with(down()).await.unwrap();
    world.request::<ProviderConnection>("b").await;
    let moved = until_active(&world, "c").await;
    assert_eq!(failover(&moved), ("b", Some("c"), "CircuitOpen"));
    world.event("BankRoute", "payouts", "FailedOver", "failed over from b to c: b is excluded (CircuitOpen)").await;
    assert!(standings(&moved).contains(&("c", "Preferred", "LowestCost")));

    c.fail_with(down()).await.unwrap();
    world.request::<ProviderConnection>("c").await;
    let none = until(&world, "no bank is left", |s| is(s, "Available", "False", "NoBankAvailable")).await;
    assert_eq!((none.active.as_deref(), none.candidate_summary.as_deref()), (None, Some("0/3")));
    assert!(is(&none, "Ready", "True", "Accepted"), "the route is well, its banks are not");
    assert_eq!(failover(&none), ("c", None, "CircuitOpen"));
    world.event("BankRoute", "payouts", "NoBankAvailable", "c is excluded too (CircuitOpen)").await;

    b.recover().await;
    let back = until_active(&world, "b").await;
    assert!(is(&back, "Available", "True", "CandidateAvailable"));
    world.event("BankRoute", "payouts", "FailedBack", "failed back to b").await;
    a.recover().await;
    c.recover().await;
    let well = until(&world, "all is as before", |s| s.candidate_summary.as_deref() == Some("3/3")).await;
    assert_eq!(well.active.as_deref(), Some("a"));
    assert_eq!(failover(&well), ("c", None, "CircuitOpen"), "the last failover stays told");
    world.event("BankRoute", "payouts", "FailedBack", "failed back to a").await;
    operator.finish(&world.ns).await;
}

#[tokio::test]
async fn a_failover_is_written_at_once_however_recent_the_last_write() {
    let world = World::new("atonce").await;
    let a = world.bank("a").await;
    world.bank("b").await;
    world.put(&route("payouts", &[("a", "a", ""), ("b", "b", "")], "")).await;
    let operator = Operator::ready(&world.ns, &[]).await;
    // Equal fees: the name decides.
    let well = until(&world, "both can take payouts", |s| s.candidate_summary.as_deref() == Some("2/2")).await;
    assert_eq!(standings(&well), [("a", "Preferred", "LowestCost"), ("b", "Standby", "TieBrokenByName")]);

    // A write that is no news, just before the news.
    let asked = world.request::<BankRoute>("payouts").await;
    until(&world, "the request is acknowledged", |s| s.last_handled_reconcile_at.as_ref() == Some(&asked)).await;
    a.fail_with(down()).await.unwrap();
    world.request::<ProviderConnection>("a").await;
    until_active(&world, "b").await;

    // When the API server heard of both, by its own clock: the circuit that opened, and the route that moved.
    let heard = |resource, name| -> Vec<Timestamp> {
        let query = AuditQuery {
            verb: Some("patch"),
            resource: Some(resource),
            subresource: Some("status"),
            name: Some(name),
            ..operator.requests()
        };
        let requests = operator.audit().requests(&query).unwrap();
        requests.iter().filter(|r| r.namespace == world.ns.name()).map(|r| r.received.parse().unwrap()).collect()
    };
    let (opened, moved) = (heard("providerconnections", "a"), heard("bankroutes", "payouts"));
    let after: Vec<Duration> = moved
        .iter()
        .flat_map(|moved| opened.iter().map(|opened| moved.duration_since(*opened).unsigned_abs()))
        .collect();
    let gap = after.iter().min().unwrap();
    tell(&format!("a route's status followed its bank's circuit within {gap:?}"));
    // Not the 5 s that are between writes of less urgent news.
    assert!(*gap < Duration::from_secs(3), "{opened:?} {moved:?}");
    operator.finish(&world.ns).await;
}

#[tokio::test]
async fn a_candidate_without_a_connection_degrades_the_route_until_it_is_created() {
    let world = World::new("missing").await;
    let bank = world.sim.add_bank(busbar::testbed::sim::BankConfig::new("late")).await.unwrap();
    let cheap = "fees: [{name: all, fixed: '0.10'}]";
    world
        .put(&route("payouts", &[("dear", "present", "fees: [{name: all, fixed: '9'}]"), ("cheap", "late", cheap)], ""))
        .await;
    let operator = Operator::ready(&world.ns, &[]).await;

    let waiting = until(&world, "the route waits for a connection", |s| {
        is(s, "Ready", "False", "ConnectionNotFound") && is(s, "Reconciling", "True", "ConnectionNotFound")
    })
    .await;
    assert!(condition(&waiting.conditions, "Stalled").is_none(), "somebody else can repair it");
    assert!(is(&waiting, "Available", "False", "NoBankAvailable"));
    assert_eq!(
        standings(&waiting),
        [("cheap", "Excluded", "ConnectionNotFound"), ("dear", "Excluded", "ConnectionNotFound")]
    );

    world.bank("present").await;
    let degraded = until_active(&world, "dear").await;
    assert!(is(&degraded, "Ready", "True", "Accepted") && is(&degraded, "Degraded", "True", "CandidatesUnresolved"));
    assert!(condition(&degraded.conditions, "Reconciling").is_none());
    let message = &degraded.conditions.iter().find(|c| c.type_ == "Degraded").unwrap().message;
    assert!(message.contains("not found for candidates cheap:"), "{message}");

    let open = connection("late", &bank, "").replace("auth: {bearer: {secretRef: {name: late-credentials}}},", "");
    world.put(&open).await;
    let whole = until_active(&world, "cheap").await;
    assert!(condition(&whole.conditions, "Degraded").is_none());
    assert!(whole.last_failover.is_none(), "the dearer bank did not fail");
    let failures = world.events("BankRoute", "payouts").await;
    assert!(failures.iter().all(|(reason, _)| reason != "FailedOver" && reason != "FailedBack"), "{failures:?}");

    world.ns.api::<ProviderConnection>().delete("late", &kube::api::DeleteParams::default()).await.unwrap();
    let moved = until_active(&world, "dear").await;
    assert_eq!(failover(&moved), ("cheap", Some("dear"), "ConnectionNotFound"));
    operator.finish(&world.ns).await;
}

#[tokio::test]
async fn a_suspended_route_or_connection_takes_no_payout_and_fields_without_effect_are_named() {
    let world = World::new("suspend").await;
    for name in ["a", "b"] {
        world.bank(name).await;
    }
    world.put(&route("payouts", &[("a", "a", ""), ("b", "b", "")], "")).await;
    let operator = Operator::ready(&world.ns, &[]).await;
    until_active(&world, "a").await;

    world.patch::<ProviderConnection>("a", json!({"suspend": true})).await;
    let moved = until_active(&world, "b").await;
    assert!(standings(&moved).contains(&("a", "Excluded", "Suspended")));
    assert_eq!(failover(&moved), ("a", Some("b"), "Suspended"));
    world.patch::<ProviderConnection>("a", json!({"suspend": false})).await;
    until_active(&world, "a").await;

    world.patch::<BankRoute>("payouts", json!({"suspend": true})).await;
    let off = until(&world, "the route is suspended", |s| is(s, "Suspended", "True", "Suspended")).await;
    assert_eq!(off.active, None);
    assert!(is(&off, "Available", "False", "Suspended") && is(&off, "Ready", "True", "Accepted"));
    world.patch::<BankRoute>("payouts", json!({"suspend": false})).await;
    let on = until_active(&world, "a").await;
    assert!(condition(&on.conditions, "Suspended").is_none());
    let quiet = world.events("BankRoute", "payouts").await;
    assert!(quiet.iter().all(|(reason, _)| reason != "NoBankAvailable"), "suspending is no failure: {quiet:?}");

    world.patch::<BankRoute>("payouts", json!({"stuck": {"after": "45m"}, "mode": "Hybrid"})).await;
    until(&world, "Ready names what has no effect yet", |s| {
        let ready = s.conditions.iter().find(|c| c.type_ == "Ready");
        ready.is_some_and(|c| c.status == "True" && c.message.contains("spec.mode") && c.message.contains("spec.stuck"))
    })
    .await;
    operator.finish(&world.ns).await;
}
