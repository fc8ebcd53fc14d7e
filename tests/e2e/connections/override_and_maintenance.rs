//! What users set on a connection for a while: an override of its circuit, a maintenance window.

use busbar::clock::Clock;
use busbar::testbed::sim::RequiredAuth;
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::{ConnectionEnv, has_circuit, is, is_verified};
use crate::kit::banks::arrivals_at;
use crate::kit::objects::connection;

#[tokio::test]
async fn an_override_forces_the_circuit_until_it_expires() {
    let env = ConnectionEnv::new("override").await;
    let bank = env.add_bank("bank", RequiredAuth::None).await;
    env.put(&connection("bank", &bank.base_url(), json!({}))).await;
    env.until_connection("bank", "Verified", |o| is_verified(o) && has_circuit(o, "Closed")).await;

    let until = Clock::system().now().wall + SignedDuration::from_secs(12);
    let forced = json!({"mode": "ForcedOpen", "untilTime": until.to_string(), "reason": "a test"});
    env.put(&connection("bank", &bank.base_url(), json!({"circuitOverride": forced}))).await;
    let open = |o: &Value| has_circuit(o, "ForcedOpen") && is(o, "CircuitOpen", "True", "ForcedOpen");
    let object = env.until_connection("bank", "ForcedOpen", open).await;
    assert!(is_verified(&object), "an override leaves it verified: {:#}", object["status"]);
    env.until_connection_event("bank", "OverrideApplied").await;
    assert!(env.is_state_metric_set("bank", "ForcedOpen").await);

    env.until_connection("bank", "Closed again", |o| has_circuit(o, "Closed")).await;
    assert!(Clock::system().now().wall >= until, "not before its time");
    env.until_connection_event("bank", "OverrideExpired").await;
    let events = env.events("ProviderConnection", "bank").await;
    assert_eq!(events.iter().filter(|(reason, _)| reason == "OverrideApplied").count(), 1, "{events:?}");
    env.finish().await;
}

#[tokio::test]
async fn a_connection_in_maintenance_is_not_checked() {
    let env = ConnectionEnv::new("maintenance").await;
    let bank = env.add_bank("bank", RequiredAuth::None).await;
    let now = Clock::system().now().wall;
    let ends = now + SignedDuration::from_secs(10);
    let window = json!([{"name": "now", "startTime": (now - SignedDuration::from_secs(60)).to_string(),
        "endTime": ends.to_string()}]);
    env.put(&connection("bank", &bank.base_url(), json!({"maintenance": window}))).await;
    let in_maintenance = |o: &Value| is(o, "Ready", "True", "Unverified") && is(o, "Healthy", "Unknown", "Maintenance");
    env.until_connection("bank", "Ready, Unverified", in_maintenance).await;
    if Clock::system().now().wall < ends {
        assert_eq!(arrivals_at(&bank, "/"), 0);
    }
    env.until_connection("bank", "Verified", |o| is_verified(o) && is(o, "Healthy", "True", "ChecksPassing")).await;
    assert!(Clock::system().now().wall >= ends, "not before the window ended");
    env.finish().await;
}
