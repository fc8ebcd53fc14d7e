//! The process: its ports, readiness gates and flags, and the namespaces that it does not watch.

use busbar::api::v1alpha1::ProviderConnection;
use busbar::testbed::control_plane::AuditQuery;
use busbar::testbed::sim::BankConfig;
use serde_json::json;

use crate::cluster::bank_env::{BankEnv, bank_connection};
use crate::cluster::namespace::TestNs;
use crate::cluster::operator::Operator;
use crate::kit::binary::{busbar, run};
use crate::kit::metrics;
use crate::kit::wait::eventually;

#[test]
fn the_start_fails_for_an_invalid_setting_and_names_it() {
    let directory = tempfile::tempdir().unwrap();
    let missing_dir = directory.path().join("missing");
    let missing_ledger = format!("--ledger=sqlite:{}", missing_dir.join("busbar.db").display());
    let missing_kubeconfig = format!("--kubeconfig={}", missing_dir.display());
    let ledger = format!("--ledger=sqlite:{}", directory.path().join("busbar.db").display());
    let free = "--admin-address=127.0.0.1:0";
    let cases: [(&[&str], &str); 11] = [
        (&["run", "--no-such-flag"], "--no-such-flag"),
        (&["run", "--sync-concurrency=0"], "--sync-concurrency"),
        (&["run", "--secret-refresh=2h"], "--secret-refresh"),
        (&["run", "--shutdown-grace=soon"], "--shutdown-grace"),
        (&["run", "--admin-address=localhost"], "--admin-address"),
        (&["run", "--watch-namespaces=a,,b"], "--watch-namespaces"),
        (&["run", "--watch-namespaces="], "--watch-namespaces"),
        (&["run", "--log-level=verbose"], "--log-level"),
        (&["run", "--ledger=mysql:x"], "--ledger"),
        (&["run", free, &missing_ledger], "missing/busbar.db"),
        (&["run", free, &ledger, &missing_kubeconfig], "missing"),
    ];
    for (args, named) in cases {
        let output = run(busbar(args));
        let stderr = &output.stderr;
        assert!(!output.success() && stderr.contains(named), "{args:?}: {}: {stderr}", output.status);
        assert!(!stderr.contains("panicked"), "{stderr}");
    }
}

#[test]
fn the_start_fails_for_a_port_in_use_and_names_it() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = run(busbar(&["run", &format!("--admin-address={address}")]));
    let stderr = &output.stderr;
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.contains(&address) && stderr.contains("--admin-address") && stderr.contains("in use"), "{stderr}");
}

#[tokio::test]
async fn the_admin_port_serves_gates_metrics_and_the_log_level() {
    let ns = TestNs::new("admin").await;
    let mut operator = Operator::ready(&ns, &[]).await;

    let version = run(busbar(&["--version"])).ok();
    let info = metrics::find(&operator.metrics().await, "busbar_build_info", &[]).pop().expect("a build");
    let (number, commit) = (&info.labels["version"], &info.labels["commit"]);
    assert_eq!(version.trim(), format!("busbar {number} ({commit})"));

    assert_eq!(operator.get("/livez").await.0, 200);
    operator.wait_leading().await;
    let (status, gates) = operator.get("/readyz").await;
    assert_eq!(status, 200);
    for gate in ["[+] ledger", "[+] crds", "[+] stores", "[+] running", "[+] leading"] {
        assert!(gates.contains(gate), "{gate} is missing in\n{gates}");
    }

    assert_eq!(operator.get("/log-level").await, (200, "info\n".to_owned()));
    for nonsense in ["", "verbose", "busbar=loud"] {
        let (status, body) = operator.put_log_level(nonsense).await;
        assert!(status == 400 && body.contains("must be tracing directives"), "{nonsense:?}: {status} {body}");
    }
    assert_eq!(operator.put_log_level(&"x".repeat(5_000)).await.0, 413, "directives are short");
    assert_eq!(operator.get("/log-level").await.1, "info\n", "a rejected level changes nothing");
    assert!(!operator.logs().contains("\"level\":\"DEBUG\""));
    assert_eq!(operator.put_log_level("debug").await.0, 204);
    assert_eq!(operator.get("/log-level").await.1, "debug\n");
    eventually("debug lines in the log", async || operator.logs().contains("\"level\":\"DEBUG\"")).await;
    // Every line is JSON with a level, so that a collector can read it.
    for line in operator.logs().lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(line["level"].is_string() && line["message"].is_string(), "{line}");
    }
    assert_eq!(operator.sigterm().await.code(), Some(0));
    operator.finish(&ns).await;
}

#[tokio::test]
async fn a_namespace_that_is_not_watched_is_not_touched() {
    let env = BankEnv::new("watched").await;
    let other = BankEnv::new("unwatched").await;
    env.bank("bank").await;
    let bank = other.sim.add_bank(BankConfig::new("bank")).await.unwrap();
    other.put(&bank_connection(&bank, json!({"auth": null}))).await;
    let operator = Operator::ready(&env.ns, &[]).await;
    // What it does for one namespace it would have done for the other by now.
    env.until::<ProviderConnection, _>("bank", "the connection is verified", |c| c.status.as_ref()?.circuit.map(drop))
        .await;
    let untouched = other.get::<ProviderConnection>("bank").await;
    assert_eq!(untouched.status.unwrap().observed_generation, Some(-1));
    assert!(bank.arrivals().entries.is_empty());
    let there = AuditQuery { namespace: Some(other.ns.name()), ..operator.requests() };
    assert_eq!(operator.audit().requests(&there).unwrap(), []);
    let scrape = operator.metrics().await;
    assert!(!scrape.contains(other.ns.name()), "a series has the other namespace");
    operator.finish(&env.ns).await;
}
