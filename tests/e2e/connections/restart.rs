//! The operator dies while a circuit is open.

use std::time::Duration;

use busbar::testbed::sim::{Behaviour, RequiredAuth};
use serde_json::{Value, json};

use super::{World, arrivals, circuit, connection, further, is, verified};
use crate::support::eventually;
use crate::support::plane::PATIENCE;

/// A dead holder's lease runs out after 15 s; a standby looks every second.
const TAKE_OVER: Duration = Duration::from_secs(17);

/// A lease that was given back is taken at the next look.
const HAND_OVER: Duration = Duration::from_secs(5);

async fn leads(world: &World) -> bool {
    world.operator.metric("leader_election_master_status", &[("name", "busbar")]).await == Some(1.0)
}

#[tokio::test]
async fn a_killed_operator_comes_back_with_the_circuit_as_it_was_and_writes_nothing_new() {
    let mut world = World::new("killed").await;
    world.quick_policy("default", "5m").await;
    let (down, well) = (world.bank("down", RequiredAuth::None).await, world.bank("well", RequiredAuth::None).await);
    let token = world.ns.canary("token");
    let guarded = world.bank("guarded", RequiredAuth::Bearer { token: token.clone() }).await;
    world.ns.secret("guarded", &[("token", token.as_bytes())]).await;
    world.put(&connection("down", &down.base_url(), json!({}))).await;
    world.put(&connection("well", &well.base_url(), json!({}))).await;
    let auth = json!({"auth": {"bearer": {"secretRef": {"name": "guarded"}}}});
    world.put(&connection("guarded", &guarded.base_url(), auth)).await;
    for name in ["down", "well", "guarded"] {
        world.until(name, "verified", verified).await;
    }
    down.fail_with(Behaviour::status(503)).await.unwrap();
    let settled = |o: &Value| {
        circuit(o, "Open") && is(o, "Healthy", "False", "ChecksFailing") && o["status"]["risk"] == "Critical"
    };
    let before = world.until("down", "Open and Unhealthy", settled).await;

    world.operator.kill9();
    let written: Vec<usize> = ["down", "well", "guarded"].map(|name| world.writes(name)).into();
    let asked = arrivals(&down, "/");
    world.operator.restart().await;
    eventually(TAKE_OVER, "the new process leads", async || leads(&world).await.then_some(())).await;
    // Three checks, as many as it takes to call a bank unhealthy.
    eventually(PATIENCE, "the bank is probed again", async || (arrivals(&down, "/") >= asked + 3).then_some(())).await;
    further(&well, "/", 1).await;
    further(&guarded, "/", 1).await;

    let labels = [("namespace", world.ns.name()), ("connection", "down"), ("state", "Open")];
    assert_eq!(world.operator.metric("busbar_breaker_state", &labels).await, Some(1.0));
    let now: Vec<usize> = ["down", "well", "guarded"].map(|name| world.writes(name)).into();
    assert_eq!(now, written, "nothing has changed, so a restart writes nothing");

    // The epoch rides along with the next write.
    world.annotate("down", "busbar.dev/requestedAt", "after-the-restart").await;
    let handled = |o: &Value| o["status"]["lastHandledReconcileAt"] == "after-the-restart";
    let after = world.until("down", "the request is acknowledged", handled).await;
    let (old, new) = (&before["status"]["circuitState"], &after["status"]["circuitState"]);
    for same in ["state", "lastTransitionTime", "nextTrialTime", "opens", "reason"] {
        assert_eq!(old[same], new[same], "{same}: {old} → {new}");
    }
    assert_eq!(new["epoch"].as_i64(), old["epoch"].as_i64().map(|epoch| epoch + 1));
    assert!(verified(&after) && settled(&after), "{:#}", after["status"]);

    // An end in order gives the lease back: the successor need not wait for it to run out.
    world.operator.sigterm().await;
    world.operator.restart().await;
    eventually(HAND_OVER, "the next process leads", async || leads(&world).await.then_some(())).await;
    further(&down, "/", 1).await;
    assert_eq!(world.operator.metric("busbar_breaker_state", &labels).await, Some(1.0));
    assert_eq!(world.now("down")["status"]["circuitState"], *new);
    world.finish().await;
}
