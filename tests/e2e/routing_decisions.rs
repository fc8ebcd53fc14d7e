//! Decisions on a real operator: who may ask, failover in answers and status, events of banks, pins of operations
//! staff.

use std::time::Duration;

use busbar::api::v1alpha1::bank_route::BankRouteStatus;
use busbar::api::v1alpha1::{BankRoute, ProviderConnection};
use busbar::testbed::control_plane::AuditQuery;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::cluster::bank_env::{BankEnv, bank_connection, has_condition};
use crate::cluster::control_planes::report;
use crate::cluster::gateway_calls::{apply_roles, caller_token, get};
use crate::cluster::operator::Operator;
use crate::kit::banks::unavailable;
use crate::kit::http::gateway_client;
use crate::kit::objects::{candidates, route};
use crate::kit::wait::eventually;

/// A response of the gateway.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<String>,
    pub(crate) body: Value,
}

/// Sends a POST request to the routing API.
pub(crate) async fn post(operator: &Operator, path: &str, token: &str, body: &Value) -> Answer {
    let url = format!("{}/api/treasury/routing/{path}", operator.gateway());
    let request = gateway_client().post(url).bearer_auth(token).header("content-type", "application/json");
    let response = request.body(body.to_string()).send().await.expect("a response of the gateway");
    let retry_after = response.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
    let status = response.status().as_u16();
    Answer { status, retry_after, body: serde_json::from_str(&response.text().await.unwrap()).expect("JSON") }
}

/// Asks which bank takes a payout through a route.
pub(crate) async fn decide(operator: &Operator, env: &BankEnv, token: &str, route: &str, payout: &str) -> Answer {
    let body = json!({
        "namespace": env.ns.name(), "route": route, "payout_id": payout, "amount": "1000", "currency": "EUR",
        "country": "NO",
    });
    post(operator, "decide", token, &body).await
}

/// Waits until the status of a route is as wanted.
pub(crate) async fn until_route(
    env: &BankEnv,
    name: &str,
    what: &str,
    look: impl Fn(&BankRouteStatus) -> bool,
) -> BankRouteStatus {
    env.until::<BankRoute, _>(name, what, |route| route.status.as_ref().filter(|status| look(status)).cloned()).await
}

pub(crate) async fn until_active(env: &BankEnv, route: &str, bank: &str) -> BankRouteStatus {
    until_route(env, route, &format!("{bank} is active"), |status| status.active.as_deref() == Some(bank)).await
}

/// A token of a member of staff with this role of config/rbac/users.yaml.
pub(crate) async fn staff_token(env: &BankEnv, name: &str, role: &str) -> String {
    apply_roles(&env.ns, "users.yaml").await;
    caller_token(&env.ns, name, Some(role)).await
}

/// The stored events of a type, oldest first.
pub(crate) async fn stored_events(operator: &Operator, env: &BankEnv, token: &str, event_type: &str) -> Vec<Value> {
    let path = format!("/api/events?namespace={}&type={event_type}&limit=500", env.ns.name());
    let (status, _, body) = get(operator, &path, token).await;
    assert_eq!(status, 200, "{body}");
    body["data"]["items"].as_array().cloned().unwrap_or_default()
}

fn moves(events: &[Value]) -> Vec<(Value, Value, Value)> {
    let said = |event: &Value| {
        let payload = &event["payload"];
        (payload["from"].clone(), payload["to"].clone(), payload["reason"].clone())
    };
    events.iter().map(said).collect()
}

#[tokio::test]
async fn decide_follows_a_failover_and_each_transition_is_one_event() {
    let env = BankEnv::new("decide").await;
    let (a, b) = (env.bank("a").await, env.bank("b").await);
    // One late answer would open its circuit: it has the time that a busy machine takes.
    env.put(&bank_connection(&b, json!({"healthCheck": {"interval": "10s", "timeout": "5s"}}))).await;
    env.put(&route("payouts", &candidates(&["a", "b"]), json!({}))).await;
    let payouts = caller_token(&env.ns, "payouts", Some("busbar-payouts")).await;
    let stranger = caller_token(&env.ns, "stranger", None).await;
    let reader = caller_token(&env.ns, "reader", Some("busbar-events")).await;
    let mut operator = Operator::ready(&env.ns, &[]).await;
    until_route(&env, "payouts", "both are available", |s| s.candidate_summary.as_deref() == Some("2/2")).await;

    assert_eq!(decide(&operator, &env, &stranger, "payouts", "p-0").await.status, 403);
    let first = eventually("the role arrives, and a payout is decided", async || {
        let answer = decide(&operator, &env, &payouts, "payouts", "p-1").await;
        if answer.status == 200 { Ok(answer.body) } else { Err(format!("{} {}", answer.status, answer.body)) }
    })
    .await;
    assert_eq!((&first["data"]["candidate"], &first["data"]["replayed"]), (&json!("a"), &json!(false)), "{first}");

    a.fail_with(unavailable()).await.unwrap();
    env.request::<ProviderConnection>("a").await;
    let moved = until_active(&env, "payouts", "b").await;
    assert_eq!(moved.failovers, Some(1));
    let second = decide(&operator, &env, &payouts, "payouts", "p-2").await;
    assert_eq!((second.status, &second.body["data"]["candidate"]), (200, &json!("b")), "{}", second.body);
    let why = second.body["data"]["candidates"].as_array().unwrap().iter().find(|one| one["name"] == "a").unwrap();
    let reason = why["reason"].as_str().unwrap();
    assert!(why["state"] == "Excluded" && ["CircuitOpen", "CircuitHalfOpen"].contains(&reason), "{why}");
    let replayed = decide(&operator, &env, &payouts, "payouts", "p-1").await;
    let data = &replayed.body["data"];
    assert_eq!((&data["candidate"], &data["replayed"]), (&json!("a"), &json!(true)), "stored decisions stay");
    assert_within_a_second(&operator, &env);

    let failovers = eventually("the failover is stored", async || {
        let events = stored_events(&operator, &env, &reader, "bank.failover").await;
        if events.is_empty() { Err(()) } else { Ok(events) }
    })
    .await;
    assert_eq!(moves(&failovers), [(json!("a"), json!("b"), json!("CircuitOpen"))], "{failovers:?}");
    assert_eq!(failovers[0]["aggregate"], json!(format!("bankroute/{}/payouts", env.ns.name())));
    let circuits = stored_events(&operator, &env, &reader, "bank.circuit").await;
    let opened: Vec<_> = circuits.iter().filter(|event| event["payload"]["to"] == "Open").collect();
    assert_eq!(opened[0]["payload"]["from"], "Closed", "{circuits:?}");
    assert_eq!(opened[0]["aggregate"], json!(format!("providerconnection/{}/a", env.ns.name())));

    operator.kill9();
    operator.restart().await;
    let requested = env.request::<BankRoute>("payouts").await;
    until_route(&env, "payouts", "it is evaluated by the new process", |s| {
        s.last_handled_reconcile_at.as_ref() == Some(&requested) && s.active.as_deref() == Some("b")
    })
    .await;
    let repeated = stored_events(&operator, &env, &reader, "bank.failover").await;
    assert_eq!(repeated.len(), 1, "a restart is no failover: {repeated:?}");

    b.fail_with(unavailable()).await.unwrap();
    env.request::<ProviderConnection>("b").await;
    until_route(&env, "payouts", "no bank is left", |s| {
        has_condition(&s.conditions, "Available", "False", "NoBankAvailable")
    })
    .await;
    let held = decide(&operator, &env, &payouts, "payouts", "p-3").await;
    assert_eq!((held.status, &held.body["data"]["error"]), (503, &json!("no_route")), "{}", held.body);
    assert!(held.retry_after.is_some_and(|seconds| seconds.parse::<u64>().unwrap() >= 1));
    assert_eq!(held.body["data"]["details"]["candidates"].as_array().unwrap().len(), 2, "each with its reason");

    a.recover().await;
    b.recover().await;
    until_active(&env, "payouts", "a").await;
    env.until_event("BankRoute", "payouts", "FailedBack", "failed back to a").await;
    let back = decide(&operator, &env, &payouts, "payouts", "p-3").await;
    assert_eq!((back.status, &back.body["data"]["candidate"]), (200, &json!("a")), "nothing had been stored for it");
    let failovers = stored_events(&operator, &env, &reader, "bank.failover").await;
    let told = [(json!("a"), json!("b"), json!("CircuitOpen")), (json!("b"), Value::Null, json!("CircuitOpen"))];
    assert_eq!(moves(&failovers), told, "one for each failover");
    let ids: std::collections::BTreeSet<_> = failovers.iter().map(|event| event["id"].to_string()).collect();
    assert_eq!(ids.len(), 2);
    operator.finish(&env.ns).await;
}

/// The failover of `payouts` was received by the API server within a second of the open circuit of its bank.
fn assert_within_a_second(operator: &Operator, env: &BankEnv) {
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
    let gaps = moved.iter().flat_map(|moved| opened.iter().map(|at| moved.duration_since(*at).unsigned_abs()));
    let gap = gaps.min().expect("both were written");
    report(&format!("a route's status followed its bank's circuit within {gap:?}"));
    assert!(gap < Duration::from_secs(1), "{opened:?} {moved:?}");
}

#[tokio::test]
async fn a_route_that_rejects_answers_422_and_one_that_is_suspended_has_no_bank() {
    let env = BankEnv::new("reject").await;
    let a = env.bank("a").await;
    env.put(&route("payouts", &candidates(&["a"]), json!({"whenNoneAvailable": "Reject"}))).await;
    let payouts = caller_token(&env.ns, "payouts", Some("busbar-payouts")).await;
    let operator = Operator::ready(&env.ns, &[]).await;
    until_active(&env, "payouts", "a").await;
    a.fail_with(unavailable()).await.unwrap();
    env.request::<ProviderConnection>("a").await;
    let none = until_route(&env, "payouts", "no bank is left", |s| s.active.is_none() && s.available.is_some()).await;
    let available = none.conditions.iter().find(|c| c.type_ == "Available").unwrap();
    assert!(available.message.contains("payouts are rejected"), "{}", available.message);
    eventually("the answer is 422 no_route", async || {
        let answer = decide(&operator, &env, &payouts, "payouts", "p-1").await;
        let is_rejected = (answer.status, &answer.body["data"]["error"]) == (422, &json!("no_route"));
        if is_rejected { Ok(()) } else { Err(format!("{} {}", answer.status, answer.body)) }
    })
    .await;
    env.until_event("BankRoute", "payouts", "NoBankAvailable", "payouts are rejected").await;
    a.recover().await;
    until_active(&env, "payouts", "a").await;
    env.patch_spec::<BankRoute>("payouts", json!({"suspend": true})).await;
    until_route(&env, "payouts", "it is suspended", |s| has_condition(&s.conditions, "Suspended", "True", "Suspended"))
        .await;
    let suspended = decide(&operator, &env, &payouts, "payouts", "p-2").await;
    assert_eq!(suspended.body["data"]["error"], json!("no_route"), "{}", suspended.body);
    operator.finish(&env.ns).await;
}

#[tokio::test]
async fn a_pin_of_the_api_moves_the_route_and_says_when_it_has_no_effect() {
    let env = BankEnv::new("pins").await;
    env.bank("a").await;
    let b = env.bank("b").await;
    env.put(&route("payouts", &candidates(&["a", "b"]), json!({}))).await;
    let payouts = caller_token(&env.ns, "payouts", Some("busbar-payouts")).await;
    let ops = staff_token(&env, "ops", "busbar-finance-ops").await;
    let operator = Operator::ready(&env.ns, &[]).await;
    until_route(&env, "payouts", "both are available", |s| s.candidate_summary.as_deref() == Some("2/2")).await;
    let until = env.now() + jiff::SignedDuration::from_hours(1);
    let pin = json!({"namespace": env.ns.name(), "candidate": "b", "pin": true, "expires_at": until.to_string()});
    eventually("the pin is stored", async || {
        let answer = post(&operator, "adjustments", &ops, &pin).await;
        if answer.status / 100 == 2 { Ok(()) } else { Err(format!("{} {}", answer.status, answer.body)) }
    })
    .await;
    let pinned = until_active(&env, "payouts", "b").await;
    assert!(pinned.candidates.iter().any(|c| c.name == "b" && c.reason == "PinnedByOps"), "{pinned:?}");
    assert_eq!((pinned.failovers, &pinned.last_failover), (None, &None), "a pin is no failover");
    let decided = eventually("the pin counts for payouts", async || {
        let answer = decide(&operator, &env, &payouts, "payouts", "p-1").await;
        if answer.status == 200 { Ok(answer.body) } else { Err(format!("{} {}", answer.status, answer.body)) }
    })
    .await;
    let data = &decided["data"];
    assert_eq!((&data["candidate"], &data["reason"]), (&json!("b"), &json!("PinnedByOps")), "{decided}");

    b.fail_with(unavailable()).await.unwrap();
    env.request::<ProviderConnection>("b").await;
    let moved = until_active(&env, "payouts", "a").await;
    assert!(has_condition(&moved.conditions, "Available", "True", "PinWithoutEffect"), "{:?}", moved.conditions);
    env.until_event("BankRoute", "payouts", "PinWithoutEffect", "the pin of the API to b has no effect").await;
    let other = decide(&operator, &env, &payouts, "payouts", "p-2").await;
    assert_eq!(other.body["data"]["candidate"], json!("a"), "{}", other.body);
    let pins = other.body["data"]["ineffective_pins"].as_array().unwrap();
    assert_eq!((pins.len(), &pins[0]["candidate"]), (1, &json!("b")), "{}", other.body);
    b.recover().await;
    until_active(&env, "payouts", "b").await;
    operator.finish(&env.ns).await;
}
