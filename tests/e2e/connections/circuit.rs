//! Outages of a bank: when the circuit opens, and when it closes.

use std::time::Duration;

use busbar::clock::Clock;
use busbar::domain::time::Mono;
use busbar::testbed::sim::{BankHandle, Behaviour, Down, FailurePoint, RequiredAuth, Script};
use futures::future::join_all;
use serde_json::{Value, json};

use super::{ConnectionEnv, has_circuit, is, is_verified};
use crate::kit::banks::unavailable;
use crate::kit::objects::{INTERVAL_SECONDS, connection, policy};
use crate::kit::wait::within;

/// Failures in a row that open the circuits of these tests.
const FAILURES: u64 = 2;

/// The documented bound: (consecutiveFailures + 1) × interval + timeout.
const BOUND: Duration = Duration::from_secs((FAILURES + 1) * INTERVAL_SECONDS + 1);

/// Kinds of outages.
fn outages() -> [(&'static str, Script); 3] {
    [
        ("refused", Behaviour::Down(Down::Refuse).into()),
        ("failing", unavailable().into()),
        ("silent", Behaviour::Stall(FailurePoint::BeforeHead).into()),
    ]
}

/// Waits until status and metric say `Open`, within what is left of the bound since `began`.
async fn opens_in_time(env: &ConnectionEnv, name: &str, clock: Clock, began: Mono) -> Value {
    let left = BOUND.saturating_sub(clock.mono().since(began));
    within(left, format!("{name} is Open in status and metric"), async || {
        let object = env.latest(name);
        (has_circuit(&object, "Open") && env.is_state_metric_set(name, "Open").await).then_some(object)
    })
    .await
}

async fn put(env: &ConnectionEnv, name: &str, bank: &BankHandle, label: &str, more: Value) {
    env.put(&connection(name, &bank.labelled_url(label), more)).await;
}

#[tokio::test]
async fn every_kind_of_outage_opens_the_circuit_in_time() {
    let env = ConnectionEnv::new("outage").await;
    env.put_quick_policy("default", "10s").await;
    let clock = Clock::system();
    let mut banks = Vec::new();
    for (name, _) in outages() {
        let bank = env.add_bank(name, RequiredAuth::None).await;
        put(&env, name, &bank, "first", json!({})).await;
        banks.push(bank);
    }
    put(&env, "edited", &banks[1], "edited", json!({})).await;
    for name in ["refused", "failing", "silent", "edited"] {
        env.until_verified(name).await;
    }

    let mut began = Vec::new();
    for (bank, (_, script)) in banks.iter().zip(outages()) {
        bank.fail_with(script).await.unwrap();
        began.push(clock.mono());
    }
    // Applied, and edited to another address, while the bank is down.
    put(&env, "late", &banks[1], "late", json!({})).await;
    put(&env, "edited", &banks[1], "edited-again", json!({})).await;
    let applied = clock.mono();
    // An edit that leaves provider, address, credential and TLS as they are keeps the verification.
    put(&env, "silent", &banks[2], "first", json!({"healthCheck": {"unhealthyThreshold": 2}})).await;
    env.until_connection("silent", "still Verified after an edit", is_verified).await;
    let unverified = |o: &Value| is(o, "Ready", "True", "Unverified");
    let opening = banks.iter().zip(&began).map(|(bank, began)| opens_in_time(&env, bank.name(), clock, *began));
    let (opened, late, edited) = tokio::join!(
        join_all(opening),
        async {
            let object = env.until_connection("late", "Ready, Unverified", unverified).await;
            assert!(!is(&object, "Healthy", "True", "ChecksPassing"));
            opens_in_time(&env, "late", clock, applied).await
        },
        async {
            env.until_connection("edited", "Ready, Unverified", unverified).await;
            opens_in_time(&env, "edited", clock, applied).await
        },
    );
    for object in &opened {
        assert!(is_verified(object), "an outage leaves it Ready: {:#}", object["status"]);
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
        env.until_connection(name, "Unhealthy", unhealthy).await;
        env.until_connection_event(name, "CircuitOpened").await;
        // One for the first check, one for the circuit, one for the health.
        assert!(env.status_writes(name) <= 4, "{name}: {} status writes", env.status_writes(name));
    }

    for bank in &banks {
        bank.recover().await;
    }
    for name in ["refused", "failing", "silent", "late", "edited"] {
        // The checks pass again at once; the risk falls over minutes.
        let healthy = |o: &Value| is(o, "Healthy", "True", "ChecksPassing") || is(o, "Healthy", "True", "RiskElevated");
        let closed = |o: &Value| has_circuit(o, "Closed") && is_verified(o) && healthy(o);
        let object = env.until_connection(name, "Closed, Verified and Healthy again", closed).await;
        assert!(!is(&object, "CircuitOpen", "True", "CircuitOpen"));
        env.until_connection_event(name, "CircuitClosed").await;
        assert!(env.is_state_metric_set(name, "Closed").await);
    }
    env.finish().await;
}

#[tokio::test]
async fn the_preset_bank_opens_the_circuit_of_an_unhealthy_bank() {
    let env = ConnectionEnv::new("unhealthy").await;
    // Failures in a row are off, and ratios are off in every preset: only health is left.
    env.put(&policy("default", json!({"preset": "Bank", "trip": {"consecutiveFailures": 0}}))).await;
    let bank = env.add_bank("bank", RequiredAuth::None).await;
    put(&env, "bank", &bank, "bank", json!({})).await;
    env.until_verified("bank").await;
    bank.fail_with(unavailable()).await.unwrap();
    let object = env.until_connection("bank", "Open", |o| has_circuit(o, "Open")).await;
    assert_eq!(object["status"]["circuitState"]["reason"], "Health", "{:#}", object["status"]);
    assert!(is(&object, "CircuitOpen", "True", "CircuitOpen"));
    env.until_connection("bank", "Unhealthy", |o| is(o, "Healthy", "False", "ChecksFailing")).await;
    env.until_connection_event("bank", "CircuitOpened").await;
    let labels = [("namespace", env.ns.name()), ("connection", "bank"), ("reason", "Health"), ("to", "Open")];
    assert_eq!(env.operator.metric("busbar_breaker_transitions_total", &labels).await, Some(1.0));
    env.finish().await;
}
