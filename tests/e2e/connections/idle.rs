//! An operator with nothing to tell writes nothing.

use std::time::Duration;

use busbar::clock::Clock;
use busbar::testbed::control_plane::AuditQuery;
use busbar::testbed::sim::{BankHandle, RequiredAuth};
use serde_json::{Value, json};

use super::{World, arrivals, connection, is, object, verified};
use crate::support::eventually;
use crate::support::plane::{PATIENCE, tell};

/// Connections of the figure.
const CONNECTIONS: usize = 100;

/// How long nothing may be written.
const IDLE: Duration = Duration::from_mins(2);

fn name(number: usize) -> String {
    format!("bank-{number:03}")
}

async fn populate(world: &World, bank: &BankHandle, token: &str) {
    world.ns.secret("mono", &[("api-key", token.as_bytes())]).await;
    world.quick_policy("default", "5s").await;
    for number in 0..CONNECTIONS {
        let (name, url) = (name(number), format!("{}/v2", bank.labelled_url(&name(number))));
        let spec = json!({
            "provider": "mono",
            "auth": {"profile": {"secretRef": {"name": "mono"}}},
            "healthCheck": {"path": null, "interval": "10s"},
        });
        world.put(&connection(&name, &url, spec)).await;
    }
    for number in 0..3 {
        // The second job runs again and again and finds nothing new: that is no news either.
        let interval = if number == 1 { "15s" } else { "1h" };
        let job = json!({
            "connectionRef": {"name": name(number)}, "stream": "transactions",
            "parameters": {"accountId": "acc-1"}, "interval": interval, "retention": {"mode": "Off"},
        });
        world.put(&object("SyncJob", &format!("job-{number}"), &job)).await;
        let candidate = |n: usize| json!({"name": format!("bank-{n}"), "connectionRef": {"name": name(n)}});
        let route = json!({"referenceCurrency": "EUR", "candidates": [candidate(number), candidate(number + 1)]});
        world.put(&object("BankRoute", &format!("route-{number}"), &route)).await;
    }
}

#[tokio::test]
async fn an_idle_operator_with_a_hundred_connections_writes_no_status_for_two_minutes() {
    let world = World::new("idle").await;
    let key = world.ns.canary("key");
    let bank = world.bank("bank", RequiredAuth::mono(key.clone())).await;
    populate(&world, &bank, &key).await;
    for number in 0..CONNECTIONS {
        world.until(&name(number), "verified", verified).await;
    }
    let status_recorder = world.operator.status_recorder();
    for number in 0..3 {
        let ran = |o: &Value| is(o, "Ready", "True", "Accepted") && o["status"]["fresh"] == "True";
        status_recorder.until("SyncJob", &format!("job-{number}"), PATIENCE, "its first run has succeeded", ran).await;
        let chosen = |o: &Value| o["status"]["available"] == "True";
        status_recorder.until("BankRoute", &format!("route-{number}"), PATIENCE, "a bank is chosen", chosen).await;
    }
    let audit = world.operator.audit();
    let query = AuditQuery { verb: Some("patch"), subresource: Some("status"), ..world.operator.requests() };
    let clock = Clock::system();
    // Settled: what the last changes owed (paused for five seconds at most) has been written.
    let (mut position, mut since) = (audit.position().unwrap(), clock.mono());
    eventually(PATIENCE, "no status is written for eight seconds", async || {
        if !audit.requests_since(position, &query).unwrap().is_empty() {
            (position, since) = (audit.position().unwrap(), clock.mono());
        }
        (clock.mono().since(since) > Duration::from_secs(8)).then_some(())
    })
    .await;

    let (start, began, probes) = (audit.position().unwrap(), clock.mono(), arrivals(&bank, "/"));
    clock.sleep_until(began + IDLE).await;
    let written = audit.requests_since(start, &query).unwrap();
    tell(&format!("figure operator.idle_status_writes {} writes", written.len()));
    let of: Vec<_> = written.iter().map(|request| format!("{}/{}", request.resource, request.name)).collect();
    assert!(of.is_empty(), "{of:?}");
    // It was idle, not dead.
    assert!(arrivals(&bank, "/") >= probes + CONNECTIONS * 10, "the banks were not checked");
    world.finish().await;
}
