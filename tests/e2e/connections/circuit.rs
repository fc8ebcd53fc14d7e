//! A bank goes down and comes back.

use std::time::Duration;

use busbar::clock::Clock;
use busbar::domain::time::Mono;
use busbar::testbed::sim::{BankHandle, Behaviour, Down, FailurePoint, RequiredAuth, Script};
use futures::future::join_all;
use serde_json::{Value, json};

use super::{INTERVAL, World, circuit, connection, is, policy, verified};
use crate::support::eventually;

/// Failures in a row that open the circuits of these tests.
const FAILURES: u64 = 2;

/// The promise: (consecutiveFailures + 1) × interval + timeout.
const PROMISED: Duration = Duration::from_secs((FAILURES + 1) * INTERVAL + 1);

/// Ways of being down.
fn outages() -> [(&'static str, Script); 3] {
    [
        ("refused", Behaviour::Down(Down::Refuse).into()),
        ("failing", Behaviour::status(503).into()),
        ("silent", Behaviour::Stall(FailurePoint::BeforeHead).into()),
    ]
}

/// Waits until status and metric say `Open`, within what is left of the promise since `began`.
async fn opens_in_time(world: &World, name: &str, clock: Clock, began: Mono) -> Value {
    let left = PROMISED.saturating_sub(clock.mono().since(began));
    eventually(left, &format!("{name} is Open in status and metric"), async || {
        let object = world.now(name);
        let labels = [("namespace", world.ns.name()), ("connection", name), ("state", "Open")];
        let metric = world.operator.metric("busbar_breaker_state", &labels).await;
        (circuit(&object, "Open") && metric == Some(1.0)).then_some(object)
    })
    .await
}

async fn put(world: &World, name: &str, bank: &BankHandle, label: &str, more: Value) {
    world.put(&connection(name, &bank.labelled_url(label), more)).await;
}

#[tokio::test]
async fn an_outage_opens_the_circuit_in_time_whatever_kind_it_is_and_its_end_closes_it() {
    let world = World::new("outage").await;
    world.quick_policy("default", "10s").await;
    let clock = Clock::system();
    let mut banks = Vec::new();
    for (name, _) in outages() {
        let bank = world.bank(name, RequiredAuth::None).await;
        put(&world, name, &bank, "first", json!({})).await;
        banks.push(bank);
    }
    put(&world, "edited", &banks[1], "edited", json!({})).await;
    for name in ["refused", "failing", "silent", "edited"] {
        world.until(name, "verified", verified).await;
    }

    let mut began = Vec::new();
    for (bank, (_, script)) in banks.iter().zip(outages()) {
        bank.fail_with(script).await.unwrap();
        began.push(clock.mono());
    }
    // Applied, and edited to another address, while the bank is down.
    put(&world, "late", &banks[1], "late", json!({})).await;
    put(&world, "edited", &banks[1], "edited-again", json!({})).await;
    let applied = clock.mono();
    // An edit that leaves provider, address, credential and TLS alone keeps the verdict.
    put(&world, "silent", &banks[2], "first", json!({"healthCheck": {"unhealthyThreshold": 2}})).await;
    world.until("silent", "still Verified after an edit", verified).await;
    let unverified = |o: &Value| is(o, "Ready", "True", "Unverified");
    let watched = banks.iter().zip(&began).map(|(bank, began)| opens_in_time(&world, bank.name(), clock, *began));
    let (opened, late, edited) = tokio::join!(
        join_all(watched),
        async {
            let object = world.until("late", "Ready without a verdict", unverified).await;
            assert!(!is(&object, "Healthy", "True", "ChecksPassing"));
            opens_in_time(&world, "late", clock, applied).await
        },
        async {
            world.until("edited", "Ready without a verdict", unverified).await;
            opens_in_time(&world, "edited", clock, applied).await
        },
    );
    for object in &opened {
        assert!(verified(object), "an outage takes Ready away: {:#}", object["status"]);
        assert!(is(object, "CircuitOpen", "True", "CircuitOpen"));
        let state = &object["status"]["circuitState"];
        assert_eq!((&state["state"], &state["opens"]), (&json!("Open"), &json!(1)), "{state}");
        assert!(state["nextTrialTime"].is_string() && state["reason"] == "ConsecutiveFailures", "{state}");
    }
    for object in [&late, &edited] {
        assert!(unverified(object), "{:#}", object["status"]);
        assert!(is(object, "Healthy", "Unknown", "ChecksFailing") || is(object, "Healthy", "False", "ChecksFailing"));
    }
    let unhealthy = |o: &Value| is(o, "Healthy", "False", "ChecksFailing") && o["status"]["health"] == "Unhealthy";
    for name in ["refused", "failing", "silent", "late", "edited"] {
        world.until(name, "Unhealthy", unhealthy).await;
        world.event(name, "CircuitOpened").await;
        // One word of the first check, one of the circuit, one of the health.
        assert!(world.writes(name) <= 4, "{name}: {} status writes", world.writes(name));
    }

    for bank in &banks {
        bank.recover().await;
    }
    for name in ["refused", "failing", "silent", "late", "edited"] {
        // The checks pass again at once; what happened is forgotten over minutes.
        let answers = |o: &Value| is(o, "Healthy", "True", "ChecksPassing") || is(o, "Healthy", "True", "RiskElevated");
        let closed = |o: &Value| circuit(o, "Closed") && verified(o) && answers(o);
        let object = world.until(name, "Closed, Verified and Healthy again", closed).await;
        assert!(!is(&object, "CircuitOpen", "True", "CircuitOpen"));
        world.event(name, "CircuitClosed").await;
        let labels = [("namespace", world.ns.name()), ("connection", name), ("state", "Closed")];
        assert_eq!(world.operator.metric("busbar_breaker_state", &labels).await, Some(1.0));
    }
    world.finish().await;
}

#[tokio::test]
async fn the_preset_bank_opens_for_the_reason_health_where_nothing_else_could() {
    let world = World::new("unhealthy").await;
    // Failures in a row are off, and ratios are off in every preset: what is left is health.
    world.put(&policy("default", json!({"preset": "Bank", "trip": {"consecutiveFailures": 0}}))).await;
    let bank = world.bank("bank", RequiredAuth::None).await;
    put(&world, "bank", &bank, "bank", json!({})).await;
    world.until("bank", "verified", verified).await;
    bank.fail_with(Behaviour::status(503)).await.unwrap();
    let object = world.until("bank", "Open", |o| circuit(o, "Open")).await;
    assert_eq!(object["status"]["circuitState"]["reason"], "Health", "{:#}", object["status"]);
    assert!(is(&object, "CircuitOpen", "True", "CircuitOpen"));
    world.until("bank", "Unhealthy", |o| is(o, "Healthy", "False", "ChecksFailing")).await;
    world.event("bank", "CircuitOpened").await;
    let labels = [("namespace", world.ns.name()), ("connection", "bank"), ("reason", "Health"), ("to", "Open")];
    assert_eq!(world.operator.metric("busbar_breaker_transitions_total", &labels).await, Some(1.0));
    world.finish().await;
}
