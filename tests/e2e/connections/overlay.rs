//! What people lay over a connection for a while: an override of its circuit, a maintenance window.

use busbar::clock::Clock;
use busbar::testbed::sim::RequiredAuth;
use jiff::SignedDuration;
use serde_json::json;

use super::{World, arrivals, circuit, connection, is, verified};

#[tokio::test]
async fn an_override_forces_the_circuit_until_its_time_and_is_told_twice() {
    let world = World::new("override").await;
    let bank = world.bank("bank", RequiredAuth::None).await;
    world.put(&connection("bank", &bank.base_url(), json!({}))).await;
    world.until("bank", "Verified", |o| verified(o) && circuit(o, "Closed")).await;

    let until = Clock::system().now().wall + SignedDuration::from_secs(12);
    let forced = json!({"mode": "ForcedOpen", "untilTime": until.to_string(), "reason": "a test"});
    world.put(&connection("bank", &bank.base_url(), json!({"circuitOverride": forced}))).await;
    let open = |o: &serde_json::Value| circuit(o, "ForcedOpen") && is(o, "CircuitOpen", "True", "ForcedOpen");
    let object = world.until("bank", "ForcedOpen", open).await;
    assert!(verified(&object), "an override takes no verdict: {:#}", object["status"]);
    world.event("bank", "OverrideApplied").await;
    let labels = [("namespace", world.ns.name()), ("connection", "bank"), ("state", "ForcedOpen")];
    assert_eq!(world.operator.metric("busbar_breaker_state", &labels).await, Some(1.0));

    world.until("bank", "Closed again", |o| circuit(o, "Closed")).await;
    assert!(Clock::system().now().wall >= until, "not before its time");
    world.event("bank", "OverrideExpired").await;
    assert_eq!(world.events("bank", "OverrideApplied").await.len(), 1);
    world.finish().await;
}

#[tokio::test]
async fn a_connection_in_maintenance_is_ready_and_left_alone_until_the_window_ends() {
    let world = World::new("maintenance").await;
    let bank = world.bank("bank", RequiredAuth::None).await;
    let now = Clock::system().now().wall;
    let ends = now + SignedDuration::from_secs(10);
    let window = json!([{"name": "now", "startTime": (now - SignedDuration::from_secs(60)).to_string(),
        "endTime": ends.to_string()}]);
    world.put(&connection("bank", &bank.base_url(), json!({"maintenance": window}))).await;
    let resting =
        |o: &serde_json::Value| is(o, "Ready", "True", "Unverified") && is(o, "Healthy", "Unknown", "Maintenance");
    world.until("bank", "Ready without a verdict", resting).await;
    if Clock::system().now().wall < ends {
        assert_eq!(arrivals(&bank, "/"), 0);
    }
    world.until("bank", "Verified", |o| verified(o) && is(o, "Healthy", "True", "ChecksPassing")).await;
    assert!(Clock::system().now().wall >= ends, "not before the window ended");
    world.finish().await;
}
