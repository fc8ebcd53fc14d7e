//! The operator is killed while a circuit is open.

use std::time::Duration;

use busbar::testbed::sim::RequiredAuth;
use serde_json::{Value, json};

use super::{ConnectionEnv, has_circuit, is, is_verified};
use crate::kit::banks::{arrivals_at, further_arrivals, unavailable};
use crate::kit::objects::{bearer_auth, connection};
use crate::kit::wait::{eventually, within};

/// The lease of a killed holder expires after 15 s; a standby looks every second.
const AFTER_KILL: Duration = Duration::from_secs(17);

/// A released lease is taken at the next look.
const AFTER_RELEASE: Duration = Duration::from_secs(5);

async fn leads(env: &ConnectionEnv) -> bool {
    env.operator.metric("leader_election_master_status", &[("name", "busbar")]).await == Some(1.0)
}

#[tokio::test]
async fn a_restarted_operator_restores_the_circuit_without_a_status_write() {
    let mut env = ConnectionEnv::new("killed").await;
    env.put_quick_policy("default", "5m").await;
    let (down, healthy) =
        (env.add_bank("down", RequiredAuth::None).await, env.add_bank("healthy", RequiredAuth::None).await);
    let token = env.ns.canary("token");
    let guarded = env.add_bank("guarded", RequiredAuth::Bearer { token: token.clone() }).await;
    env.ns.secret("guarded", &[("token", token.as_bytes())]).await;
    env.put(&connection("down", &down.base_url(), json!({}))).await;
    env.put(&connection("healthy", &healthy.base_url(), json!({}))).await;
    let auth = bearer_auth("guarded");
    env.put(&connection("guarded", &guarded.base_url(), auth)).await;
    for name in ["down", "healthy", "guarded"] {
        env.until_verified(name).await;
    }
    down.fail_with(unavailable()).await.unwrap();
    // Critical only with twenty outcomes.
    let settled = |o: &Value| {
        let risk = o["status"]["risk"].as_str();
        let at_risk = risk.is_some_and(|risk| ["High", "Critical"].contains(&risk));
        has_circuit(o, "Open") && is(o, "Healthy", "False", "ChecksFailing") && at_risk
    };
    let before = env.until_connection("down", "Open and Unhealthy", settled).await;

    env.operator.kill9();
    let written: Vec<usize> = ["down", "healthy", "guarded"].map(|name| env.status_writes(name)).into();
    let requests = arrivals_at(&down, "/");
    env.operator.restart().await;
    within(AFTER_KILL, "the new process leads", async || leads(&env).await).await;
    // Three checks, as many as it takes to find a bank unhealthy.
    eventually("the bank is probed again", async || arrivals_at(&down, "/") >= requests + 3).await;
    further_arrivals(&healthy, "/", 1).await;
    further_arrivals(&guarded, "/", 1).await;

    assert!(env.is_state_metric_set("down", "Open").await);
    let now: Vec<usize> = ["down", "healthy", "guarded"].map(|name| env.status_writes(name)).into();
    assert_eq!(now, written, "nothing has changed, so a restart writes nothing");

    // The epoch is written with the next change.
    env.annotate_connection("down", "busbar.dev/requestedAt", "after-the-restart").await;
    let handled = |o: &Value| o["status"]["lastHandledReconcileAt"] == "after-the-restart";
    let after = env.until_connection("down", "the request is acknowledged", handled).await;
    let (old, new) = (&before["status"]["circuitState"], &after["status"]["circuitState"]);
    for same in ["state", "lastTransitionTime", "nextTrialTime", "opens", "reason"] {
        assert_eq!(old[same], new[same], "{same}: {old} → {new}");
    }
    assert_eq!(new["epoch"].as_i64(), old["epoch"].as_i64().map(|epoch| epoch + 1));
    assert!(is_verified(&after) && settled(&after), "{:#}", after["status"]);

    // An orderly exit releases the lease: the successor need not wait until it expires.
    env.operator.sigterm().await;
    env.operator.restart().await;
    within(AFTER_RELEASE, "the next process leads", async || leads(&env).await).await;
    further_arrivals(&down, "/", 1).await;
    assert!(env.is_state_metric_set("down", "Open").await);
    assert_eq!(env.latest("down")["status"]["circuitState"], *new);
    env.finish().await;
}
