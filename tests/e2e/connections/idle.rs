//! An operator without changes writes no status.

use std::time::Duration;

use busbar::clock::Clock;
use busbar::testbed::control_plane::AuditQuery;
use busbar::testbed::sim::{BankHandle, RequiredAuth};
use serde_json::{Value, json};

use super::{ConnectionEnv, is};
use crate::cluster::control_planes::report;
use crate::kit::banks::arrivals_at;
use crate::kit::objects::{connection, object};
use crate::kit::wait::eventually;

/// Connections of the figure.
const CONNECTIONS: usize = 100;

/// The job that runs while nothing changes.
const BUSY_JOB: &str = "syncjobs/job-1";

/// How long no status may be written.
const IDLE: Duration = Duration::from_mins(2);

fn name(number: usize) -> String {
    format!("bank-{number:03}")
}

async fn populate(env: &ConnectionEnv, bank: &BankHandle, token: &str) {
    env.ns.secret("mono", &[("api-key", token.as_bytes())]).await;
    env.put_quick_policy("default", "5s").await;
    for number in 0..CONNECTIONS {
        let (name, url) = (name(number), format!("{}/v2", bank.labelled_url(&name(number))));
        let spec = json!({
            "provider": "mono",
            "auth": {"profile": {"secretRef": {"name": "mono"}}},
            "healthCheck": {"path": null, "interval": "10s"},
        });
        env.put(&connection(&name, &url, spec)).await;
    }
    for number in 0..3 {
        // The second job runs again and again and finds nothing new: only its columns follow, once a minute.
        let interval = if number == 1 { "15s" } else { "1h" };
        let job = json!({
            "connectionRef": {"name": name(number)}, "stream": "transactions",
            "parameters": {"accountId": "acc-1"}, "interval": interval, "retention": {"mode": "Off"},
        });
        env.put(&object("SyncJob", &format!("job-{number}"), job)).await;
        let candidate = |n: usize| json!({"name": format!("bank-{n}"), "connectionRef": {"name": name(n)}});
        let route = json!({"referenceCurrency": "EUR", "candidates": [candidate(number), candidate(number + 1)]});
        env.put(&object("BankRoute", &format!("route-{number}"), route)).await;
    }
}

#[tokio::test]
async fn an_idle_operator_with_100_connections_writes_no_status() {
    let env = ConnectionEnv::new("idle").await;
    let key = env.ns.canary("key");
    let bank = env.add_bank("bank", RequiredAuth::mono(key.clone())).await;
    populate(&env, &bank, &key).await;
    for number in 0..CONNECTIONS {
        env.until_verified(&name(number)).await;
    }
    let recorder = env.operator.status_recorder();
    for number in 0..3 {
        let ran = |o: &Value| is(o, "Ready", "True", "Accepted") && o["status"]["fresh"] == "True";
        recorder.until("SyncJob", &format!("job-{number}"), "its first run has succeeded", ran).await;
        let chosen = |o: &Value| o["status"]["available"] == "True";
        recorder.until("BankRoute", &format!("route-{number}"), "a bank is chosen", chosen).await;
    }
    let audit = env.operator.audit();
    let query = AuditQuery { verb: Some("update"), subresource: Some("status"), ..env.operator.requests() };
    let clock = Clock::system();
    // Settled: pending writes of the last changes (at most five seconds late) are done.
    let (mut position, mut since) = (audit.position().unwrap(), clock.mono());
    eventually("no status is written for eight seconds", async || {
        if !audit.requests_since(position, &query).unwrap().is_empty() {
            (position, since) = (audit.position().unwrap(), clock.mono());
        }
        clock.mono().since(since) > Duration::from_secs(8)
    })
    .await;

    let (start, began, probes) = (audit.position().unwrap(), clock.mono(), arrivals_at(&bank, "/"));
    clock.sleep_until(began + IDLE).await;
    let written = audit.requests_since(start, &query).unwrap();
    let (columns, of): (Vec<_>, Vec<_>) =
        written.iter().map(|request| format!("{}/{}", request.resource, request.name)).partition(|it| it == BUSY_JOB);
    report(&format!("figure operator.idle_status_writes {} writes", of.len()));
    assert!(of.is_empty(), "{of:?}");
    let minutes = usize::try_from(IDLE.as_secs() / 60).unwrap();
    assert!(columns.len() <= minutes + 1, "{} writes of {BUSY_JOB} in {minutes} min", columns.len());
    // It was idle, not stopped.
    assert!(arrivals_at(&bank, "/") >= probes + CONNECTIONS * 10, "the banks were not checked");
    env.finish().await;
}
