//! The process around the work: its ports, gates and flags, and what it leaves alone.

use std::process::{Command, Output};

use busbar::api::v1alpha1::ProviderConnection;
use busbar::testbed::control_plane::AuditQuery;
use busbar::testbed::sim::BankConfig;

use crate::support::plane::PATIENCE;
use crate::support::world::connection;
use crate::support::{Operator, TestNs, World, eventually, metrics};

/// Runs the binary to its end, with nothing of this process's environment that it would read.
fn busbar(args: &[&str]) -> Output {
    let inherited = std::env::vars_os().map(|(name, _)| name).filter(|n| n.to_string_lossy().starts_with("BUSBAR_"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_busbar"));
    for name in inherited {
        command.env_remove(name);
    }
    command.args(args).output().expect("the binary runs")
}

#[test]
fn a_wrong_setting_ends_the_process_at_once_and_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let nowhere = directory.path().join("missing");
    let missing_ledger = format!("--ledger=sqlite:{}", nowhere.join("busbar.db").display());
    let missing_kubeconfig = format!("--kubeconfig={}", nowhere.display());
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
        let output = busbar(args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(named), "{args:?}: {}: {said}", output.status);
        assert!(!said.contains("panicked"), "{said}");
    }
}

#[test]
fn a_port_that_is_taken_ends_the_process_with_its_address() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = busbar(&["run", &format!("--admin-address={address}")]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains(&address) && said.contains("--admin-address") && said.contains("in use"), "{said}");
}

#[tokio::test]
async fn the_admin_port_tells_version_gates_and_numbers_and_takes_a_log_level() {
    let ns = TestNs::new("admin").await;
    let mut operator = Operator::ready(&ns, &[]).await;

    let version = busbar(&["--version"]);
    let version = String::from_utf8(version.stdout).unwrap();
    let info = metrics::find(&operator.metrics().await, "busbar_build_info", &[]).pop().expect("a build");
    let (number, commit) = (&info.labels["version"], &info.labels["commit"]);
    assert_eq!(version.trim(), format!("busbar {number} ({commit})"));

    assert_eq!(operator.get("/livez").await.0, 200);
    eventually(PATIENCE, "the operator leads", async || operator.leads().await.then_some(())).await;
    let (status, gates) = operator.get("/readyz").await;
    assert_eq!(status, 200);
    for gate in ["[+] ledger", "[+] crds", "[+] stores", "[+] running", "[+] leading"] {
        assert!(gates.contains(gate), "{gate} is not among\n{gates}");
    }

    assert_eq!(operator.get("/log-level").await, (200, "info\n".to_owned()));
    for nonsense in ["", "verbose", "busbar=loud"] {
        let (status, said) = operator.put_log_level(nonsense).await;
        assert!(status == 400 && said.contains("must be tracing directives"), "{nonsense:?}: {status} {said}");
    }
    assert_eq!(operator.get("/log-level").await.1, "info\n", "what was refused changed nothing");
    assert!(!operator.logs().contains("\"level\":\"DEBUG\""));
    assert_eq!(operator.put_log_level("debug").await.0, 204);
    assert_eq!(operator.get("/log-level").await.1, "debug\n");
    eventually(PATIENCE, "debug lines in the log", async || {
        operator.logs().contains("\"level\":\"DEBUG\"").then_some(())
    })
    .await;
    // Every line is JSON with a level, so that a collector can read it.
    for line in operator.logs().lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(line["level"].is_string() && line["message"].is_string(), "{line}");
    }
    assert_eq!(operator.sigterm().await.code(), Some(0));
    operator.finish(&ns).await;
}

#[tokio::test]
async fn a_namespace_that_is_not_watched_is_left_alone() {
    let world = World::new("watched").await;
    let other = World::new("unwatched").await;
    world.bank("bank").await;
    let bank = other.sim.add_bank(BankConfig::new("bank")).await.unwrap();
    other.put(&connection("bank", &bank, "")).await;
    let operator = Operator::ready(&world.ns, &[]).await;
    // Whatever it does at once for one namespace it has had the time to do for the other.
    world
        .until::<ProviderConnection, _>("bank", "the connection is verified", |c| c.status.as_ref()?.circuit.map(drop))
        .await;
    let untouched = other.ns.api::<ProviderConnection>().get("bank").await.unwrap();
    assert_eq!(untouched.status.unwrap().observed_generation, Some(-1));
    assert!(bank.arrivals().entries.is_empty());
    let there = AuditQuery { namespace: Some(other.ns.name()), ..operator.requests() };
    assert_eq!(operator.audit().requests(&there).unwrap(), []);
    let scrape = operator.metrics().await;
    assert!(!scrape.contains(other.ns.name()), "a series names the other namespace");
    operator.finish(&world.ns).await;
}
