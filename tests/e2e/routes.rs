//! Routes on a real API server: which bank is active, how that changes when banks fail and recover, and what is reported.

use std::time::Duration;

use busbar::api::v1alpha1::bank_route::BankRouteStatus;
use busbar::api::v1alpha1::{BankRoute, ProviderConnection};
use busbar::testbed::control_plane::AuditQuery;
use busbar::testbed::sim::BankConfig;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::cluster::bank_env::{BankEnv, bank_connection, condition_of, has_condition};
use crate::cluster::control_planes::report;
use crate::cluster::operator::Operator;
use crate::kit::banks::unavailable;
use crate::kit::objects::{candidate, candidates, merged, route};

/// `(name, state, reason)` of every candidate.
fn candidate_states(status: &BankRouteStatus) -> Vec<(&str, &str, &str)> {
    status.candidates.iter().map(|c| (c.name.as_str(), c.state.as_str(), c.reason.as_str())).collect()
}

fn is(status: &BankRouteStatus, condition_type: &str, value: &str, reason: &str) -> bool {
    has_condition(&status.conditions, condition_type, value, reason)
}

/// Waits until the route's status is as wanted.
async fn until_route(env: &BankEnv, what: &str, look: impl Fn(&BankRouteStatus) -> bool) -> BankRouteStatus {
    env.until::<BankRoute, _>("payouts", what, |route| route.status.as_ref().filter(|status| look(status)).cloned())
        .await
}

/// Waits until the route's active candidate is this one.
async fn until_active(env: &BankEnv, name: &str) -> BankRouteStatus {
    until_route(env, &format!("{name} is active"), |status| status.active.as_deref() == Some(name)).await
}

/// A flat fee.
fn fee(fixed: &str) -> Value {
    json!({"fees": [{"name": "all", "fixed": fixed}]})
}

fn failover(status: &BankRouteStatus) -> (&str, Option<&str>, &str) {
    let last = status.last_failover.as_ref().expect("there was a failover");
    (&last.from, last.to.as_deref(), &last.reason)
}

#[tokio::test]
async fn a_route_fails_over_to_the_next_cheapest_bank_and_back() {
    let env = BankEnv::new("failover").await;
    let (a, b, c) = (env.bank("a").await, env.bank("b").await, env.bank("c").await);
    let candidates = [
        candidate("a", "a", fee("0.30")),
        candidate("b", "b", fee("0.50")),
        // The cheapest of all, but only a fallback.
        candidate("c", "c", merged(json!({"tier": "Fallback"}), fee("0.10"))),
    ];
    env.put(&route("payouts", &candidates, json!({}))).await;
    let operator = Operator::ready(&env.ns, &[]).await;

    let healthy = until_route(&env, "all three are available", |s| s.candidate_summary.as_deref() == Some("3/3")).await;
    assert_eq!(
        candidate_states(&healthy),
        [("a", "Preferred", "LowestCost"), ("b", "Standby", "HigherCost"), ("c", "Fallback", "PrimaryAvailable")]
    );
    assert_eq!(healthy.active.as_deref(), Some("a"));
    assert!(is(&healthy, "Available", "True", "CandidateAvailable") && is(&healthy, "Ready", "True", "Accepted"));
    assert_eq!((healthy.available_candidates, healthy.total_candidates), (Some(3), Some(3)));
    assert!(healthy.last_failover.is_none());

    a.fail_with(unavailable()).await.unwrap();
    env.request::<ProviderConnection>("a").await;
    let moved = until_active(&env, "b").await;
    assert_eq!(failover(&moved), ("a", Some("b"), "CircuitOpen"));
    assert!(is(&moved, "Available", "True", "CandidateAvailable"));
    assert!(candidate_states(&moved).contains(&("b", "Preferred", "LowestCost")));
    env.until_event("BankRoute", "payouts", "FailedOver", "failed over from a to b: a is excluded (CircuitOpen)").await;

    b.fail_with(unavailable()).await.unwrap();
    env.request::<ProviderConnection>("b").await;
    let moved = until_active(&env, "c").await;
    assert_eq!(failover(&moved), ("b", Some("c"), "CircuitOpen"));
    env.until_event("BankRoute", "payouts", "FailedOver", "failed over from b to c: b is excluded (CircuitOpen)").await;
    assert!(candidate_states(&moved).contains(&("c", "Preferred", "LowestCost")));

    c.fail_with(unavailable()).await.unwrap();
    env.request::<ProviderConnection>("c").await;
    let none = until_route(&env, "no bank is left", |s| is(s, "Available", "False", "NoBankAvailable")).await;
    assert_eq!((none.active.as_deref(), none.candidate_summary.as_deref()), (None, Some("0/3")));
    assert!(is(&none, "Ready", "True", "Accepted"), "the route is valid, its banks fail");
    assert_eq!(failover(&none), ("c", None, "CircuitOpen"));
    env.until_event("BankRoute", "payouts", "NoBankAvailable", "c is excluded too (CircuitOpen)").await;

    b.recover().await;
    let back = until_active(&env, "b").await;
    assert!(is(&back, "Available", "True", "CandidateAvailable"));
    env.until_event("BankRoute", "payouts", "FailedBack", "failed back to b").await;
    a.recover().await;
    c.recover().await;
    let healthy = until_route(&env, "all are available again", |s| s.candidate_summary.as_deref() == Some("3/3")).await;
    assert_eq!(healthy.active.as_deref(), Some("a"));
    assert_eq!(failover(&healthy), ("c", None, "CircuitOpen"), "the last failover is still reported");
    env.until_event("BankRoute", "payouts", "FailedBack", "failed back to a").await;
    operator.finish(&env.ns).await;
}

#[tokio::test]
async fn a_failover_is_written_at_once_despite_a_recent_write() {
    let env = BankEnv::new("atonce").await;
    let a = env.bank("a").await;
    env.bank("b").await;
    env.put(&route("payouts", &candidates(&["a", "b"]), json!({}))).await;
    let operator = Operator::ready(&env.ns, &[]).await;
    let healthy = until_route(&env, "both are available", |s| s.candidate_summary.as_deref() == Some("2/2")).await;
    assert_eq!(candidate_states(&healthy), [("a", "Preferred", "LowestCost"), ("b", "Standby", "HigherCost")]);

    // A write without urgency, just before an urgent one.
    let requested = env.request::<BankRoute>("payouts").await;
    until_route(&env, "the request is acknowledged", |s| s.last_handled_reconcile_at.as_ref() == Some(&requested))
        .await;
    a.fail_with(unavailable()).await.unwrap();
    env.request::<ProviderConnection>("a").await;
    until_active(&env, "b").await;

    // When the API server received both writes, by its own clock: the open circuit, and the failover.
    let received = |resource, name| -> Vec<Timestamp> {
        let query = AuditQuery {
            verb: Some("update"),
            resource: Some(resource),
            subresource: Some("status"),
            name: Some(name),
            ..operator.requests()
        };
        let requests = operator.audit().requests(&query).unwrap();
        requests.iter().filter(|r| r.namespace == env.ns.name()).map(|r| r.received.parse().unwrap()).collect()
    };
    let (opened, moved) = (received("providerconnections", "a"), received("bankroutes", "payouts"));
    let after: Vec<Duration> = moved
        .iter()
        .flat_map(|moved| opened.iter().map(|opened| moved.duration_since(*opened).unsigned_abs()))
        .collect();
    let gap = after.iter().min().unwrap();
    report(&format!("a route's status followed its bank's circuit within {gap:?}"));
    // Not the 5 s between writes without urgency.
    assert!(*gap < Duration::from_secs(3), "{opened:?} {moved:?}");
    operator.finish(&env.ns).await;
}

#[tokio::test]
async fn a_candidate_without_a_connection_degrades_the_route() {
    let env = BankEnv::new("missing").await;
    let bank = env.sim.add_bank(BankConfig::new("late")).await.unwrap();
    let candidates = [candidate("expensive", "present", fee("9")), candidate("cheap", "late", fee("0.10"))];
    env.put(&route("payouts", &candidates, json!({}))).await;
    let operator = Operator::ready(&env.ns, &[]).await;

    let waiting = until_route(&env, "the route waits for a connection", |s| {
        is(s, "Ready", "False", "ConnectionNotFound") && is(s, "Reconciling", "True", "ConnectionNotFound")
    })
    .await;
    assert!(condition_of(&waiting.conditions, "Stalled").is_none(), "another object can fix it");
    assert!(is(&waiting, "Available", "False", "NoBankAvailable"));
    assert_eq!(
        candidate_states(&waiting),
        [("cheap", "Excluded", "ConnectionNotFound"), ("expensive", "Excluded", "ConnectionNotFound")]
    );

    env.bank("present").await;
    let degraded = until_active(&env, "expensive").await;
    assert!(is(&degraded, "Ready", "True", "Accepted") && is(&degraded, "Degraded", "True", "CandidatesUnresolved"));
    assert!(condition_of(&degraded.conditions, "Reconciling").is_none());
    let message = &degraded.conditions.iter().find(|c| c.type_ == "Degraded").unwrap().message;
    assert!(message.contains("not found for candidates cheap:"), "{message}");

    env.put(&bank_connection(&bank, json!({"auth": null}))).await;
    let resolved = until_active(&env, "cheap").await;
    assert!(condition_of(&resolved.conditions, "Degraded").is_none());
    assert!(resolved.last_failover.is_none(), "the more expensive bank did not fail");
    let events = env.events("BankRoute", "payouts").await;
    assert!(events.iter().all(|(reason, _)| reason != "FailedOver" && reason != "FailedBack"), "{events:?}");

    env.delete("ProviderConnection", "late").await;
    let moved = until_active(&env, "expensive").await;
    assert_eq!(failover(&moved), ("cheap", Some("expensive"), "ConnectionNotFound"));
    operator.finish(&env.ns).await;
}

/// Reasons of the events about the route.
async fn event_reasons(env: &BankEnv) -> Vec<String> {
    env.events("BankRoute", "payouts").await.into_iter().map(|(reason, _)| reason).collect()
}

#[tokio::test]
async fn an_edit_of_the_route_is_no_failover() {
    let env = BankEnv::new("edited").await;
    for name in ["a", "b", "c"] {
        env.bank(name).await;
    }
    let all = [("a", "0.10"), ("b", "0.20"), ("c", "0.30")];
    let of = |names: &[&str], patch: &Value| -> Vec<Value> {
        let chosen = all.iter().filter(|(name, _)| names.contains(name));
        chosen.map(|(name, fixed)| candidate(name, name, merged(fee(fixed), patch.clone()))).collect()
    };
    env.put(&route("payouts", &of(&["a", "b", "c"], &json!({})), json!({}))).await;
    let operator = Operator::ready(&env.ns, &[]).await;
    until_active(&env, "a").await;
    // The active candidate is removed, renamed away, and excluded by its own limits.
    env.put(&route("payouts", &of(&["b", "c"], &json!({})), json!({}))).await;
    let removed = until_active(&env, "b").await;
    assert!(removed.last_failover.is_none(), "{:?}", removed.last_failover);
    let renamed = [candidate("other", "b", fee("0.20")), candidate("c", "c", fee("0.30"))];
    env.put(&route("payouts", &renamed, json!({}))).await;
    until_active(&env, "other").await;
    let limited =
        [candidate("other", "b", merged(fee("0.20"), json!({"maxAmount": "1"}))), candidate("c", "c", json!({}))];
    env.put(&route("payouts", &limited, json!({}))).await;
    let limited = until_active(&env, "c").await;
    assert!(candidate_states(&limited).contains(&("other", "Excluded", "AmountOutOfRange")));
    assert!(limited.last_failover.is_none(), "{:?}", limited.last_failover);

    // Deleted and created again, with another active bank than before.
    env.delete("BankRoute", "payouts").await;
    env.put(&route("payouts", &of(&["a", "b"], &json!({})), json!({}))).await;
    until_active(&env, "a").await;
    // A bank that fails is one, afterwards as before.
    env.delete("ProviderConnection", "a").await;
    let moved = until_active(&env, "b").await;
    assert_eq!(failover(&moved), ("a", Some("b"), "ConnectionNotFound"));
    env.until_event("BankRoute", "payouts", "FailedOver", "failed over from a to b").await;
    let failovers = event_reasons(&env).await.into_iter().filter(|reason| reason == "FailedOver").count();
    assert_eq!(failovers, 1, "{:?}", env.events("BankRoute", "payouts").await);
    operator.finish(&env.ns).await;
}

#[tokio::test]
async fn a_route_whose_banks_never_answered_is_not_available() {
    let env = BankEnv::new("never").await;
    let refused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let down = env.bank_with_secret("down").await;
    down.fail_with(unavailable()).await.unwrap();
    // A threshold that is not reached soon: neither is unhealthy yet, and its circuit is closed.
    let patient = json!({"healthCheck": {"unhealthyThreshold": 10}, "breakerPolicyRef": null});
    env.put(&bank_connection(&down, patient.clone())).await;
    let unreachable = merged(patient, json!({"endpoint": {"baseURL": format!("http://{refused}")}}));
    env.put(&crate::kit::objects::connection("unreachable", &format!("http://{refused}"), unreachable)).await;
    env.put(&route("payouts", &candidates(&["down", "unreachable"]), json!({}))).await;
    let operator = Operator::ready(&env.ns, &[]).await;
    for name in ["down", "unreachable"] {
        let checked = |c: &ProviderConnection| {
            let conditions = &c.status.as_ref()?.conditions;
            has_condition(conditions, "Ready", "True", "Unverified").then_some(())
        };
        env.until(name, "checked, without an answer", checked).await;
    }
    let status = until_route(&env, "both are excluded", |s| s.candidate_summary.as_deref() == Some("0/2")).await;
    assert!(is(&status, "Available", "False", "NoBankAvailable") && status.active.is_none());
    assert!(event_reasons(&env).await.iter().all(|reason| reason != "FailedOver"));
    down.recover().await;
    env.request::<ProviderConnection>("down").await;
    let status = until_active(&env, "down").await;
    assert!(is(&status, "Available", "True", "CandidateAvailable"));
    operator.finish(&env.ns).await;
}

#[tokio::test]
async fn a_suspended_route_or_connection_is_excluded() {
    let env = BankEnv::new("suspend").await;
    for name in ["a", "b"] {
        env.bank(name).await;
    }
    env.put(&route("payouts", &candidates(&["a", "b"]), json!({}))).await;
    let operator = Operator::ready(&env.ns, &[]).await;
    until_active(&env, "a").await;

    env.patch_spec::<ProviderConnection>("a", json!({"suspend": true})).await;
    let moved = until_active(&env, "b").await;
    assert!(candidate_states(&moved).contains(&("a", "Excluded", "Suspended")));
    assert_eq!(failover(&moved), ("a", Some("b"), "Suspended"));
    env.patch_spec::<ProviderConnection>("a", json!({"suspend": false})).await;
    until_active(&env, "a").await;

    env.patch_spec::<BankRoute>("payouts", json!({"suspend": true})).await;
    let suspended = until_route(&env, "the route is suspended", |s| is(s, "Suspended", "True", "Suspended")).await;
    assert_eq!(suspended.active, None);
    assert!(is(&suspended, "Available", "False", "Suspended") && is(&suspended, "Ready", "True", "Accepted"));
    env.patch_spec::<BankRoute>("payouts", json!({"suspend": false})).await;
    let resumed = until_active(&env, "a").await;
    assert!(condition_of(&resumed.conditions, "Suspended").is_none());
    let events = env.events("BankRoute", "payouts").await;
    assert!(events.iter().all(|(reason, _)| reason != "NoBankAvailable"), "suspending is no failure: {events:?}");

    env.patch_spec::<BankRoute>("payouts", json!({"stuck": {"after": "45m"}, "mode": "Hybrid"})).await;
    until_route(&env, "Ready names no field without effect, and that no prediction counts", |s| {
        let ready = s.conditions.iter().find(|c| c.type_ == "Ready" && c.status == "True");
        ready.is_some_and(|c| {
            c.message.contains("no prediction is in use") && !c.message.contains("not used by this version")
        })
    })
    .await;
    operator.finish(&env.ns).await;
}
