//! `busbar route explain --gateway`: the evaluation of a running operator, in the table of the offline one.

use std::net::SocketAddr;
use std::path::Path;

use busbar::domain::key::ObjectKey;
use busbar::ledger::{self, LedgerUrl, OpenMode};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::kit::binary::{Finished, busbar, run_async};
use crate::kit::decision_server::{BANKS, NAMESPACE, ROUTE, RunningDecisions, TOKEN, route_spec};

/// A gateway, and the files of its caller.
struct Fixture {
    service: RunningDecisions,
    address: SocketAddr,
    folder: tempfile::TempDir,
}

impl Fixture {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = LedgerUrl::Sqlite(folder.path().join("ledger.db"));
        let ledger = ledger::open(&url, OpenMode::Migrate).await.unwrap();
        let service = RunningDecisions::start(&ledger);
        let address = service.serve(&ledger, TcpListener::bind("127.0.0.1:0").await.unwrap(), None);
        std::fs::write(folder.path().join("token"), format!("{TOKEN}\n")).unwrap();
        Self { service, address, folder }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_string_lossy().into_owned()
    }

    async fn explain(&self, more: &[&str]) -> Finished {
        let (url, token) = (format!("http://{}", self.address), self.path("token"));
        let target = format!("broute/{ROUTE}");
        let args = ["-n", NAMESPACE, "--gateway", &url, "--token-file", &token, "--currency", "EUR", "--country", "DE"];
        run_async(busbar(&[&["route", "explain", &target], &args[..], more].concat())).await
    }
}

/// The lines of the candidates in a table.
fn rows(text: &str) -> Vec<&str> {
    text.lines().filter(|line| BANKS.iter().any(|bank| line.starts_with(bank))).collect()
}

async fn offline(folder: &Path, more: &[&str]) -> String {
    let file = folder.join("route.yaml");
    let route = json!({
        "apiVersion": "busbar.dev/v1alpha1", "kind": "BankRoute", "metadata": {"name": ROUTE, "namespace": NAMESPACE},
        "spec": route_spec(),
    });
    std::fs::write(&file, route.to_string()).unwrap();
    let args = ["route", "explain", file.to_str().unwrap(), "--currency", "EUR", "--country", "DE"];
    run_async(busbar(&[&args[..], more].concat())).await.ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_answers_the_table_of_the_offline_evaluation() {
    let fixture = Fixture::new().await;
    for (payout, down) in [
        (&["--amount", "1250", "--rail", "SEPA"] as &[&str], None),
        (&["--amount", "99.5"], None),
        (&["--amount", "1250", "--rail", "SEPA", "--merchant", "m-7"], Some("bank-a")),
    ] {
        let assumed: Vec<&str> = down.into_iter().flat_map(|bank| ["--assume-down", bank]).collect();
        if let Some(bank) = down {
            // Forced open on the running connection.
            let connection = fixture.service.registry.get(&ObjectKey::new(NAMESPACE, bank)).unwrap();
            let mut draft = crate::kit::decision_server::passive();
            draft.circuit_override = Some(busbar::settings::CircuitOverride {
                mode: busbar::domain::breaker::OverrideMode::ForcedOpen,
                until: jiff::Timestamp::MAX,
            });
            crate::kit::decision_server::connect(&fixture.service.registry, bank, connection.uid(), draft);
        }
        let online = fixture.explain(payout).await.ok();
        let offline = offline(fixture.folder.path(), &[payout, &assumed].concat()).await;
        let known = |text: &str| {
            text.replace("CircuitOpen", "ForcedOpen").split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(rows(&online).len(), BANKS.len(), "{online}");
        for (online, offline) in rows(&online).into_iter().zip(rows(&offline)) {
            assert_eq!(known(online), known(offline));
        }
        let chosen = if down.is_some() { "bank-b" } else { "bank-a" };
        let beginning = format!("{NAMESPACE}/{ROUTE}: {chosen} for a payout of {}", payout[1]);
        assert!(online.starts_with(&beginning) && offline.starts_with(&beginning), "{online}\n{offline}");
        assert!(online.contains("\nLowestCost: "), "reasons are explained: {online}");
        assert!(!online.contains("Assumed:"), "nothing is assumed: {online}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_of_a_gateway_is_printed_as_json() {
    let fixture = Fixture::new().await;
    let text = fixture.explain(&["--amount", "1250", "-o", "json"]).await.ok();
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&answer["candidate"], &answer["route"]), (&json!("bank-a"), &json!(ROUTE)));
    assert_eq!(answer["candidates"].as_array().unwrap().len(), BANKS.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_without_a_bank_is_a_table_of_reasons() {
    let fixture = Fixture::new().await;
    for bank in BANKS {
        fixture.service.registry.remove(&ObjectKey::new(NAMESPACE, bank)).unwrap();
    }
    let text = fixture.explain(&["--amount", "1250"]).await.ok();
    assert!(
        text.starts_with(&format!("{NAMESPACE}/{ROUTE}: no bank for a payout of 1250 EUR, country DE at ")),
        "{text}"
    );
    assert!(rows(&text).iter().all(|row| row.contains("Excluded") && row.contains("ConnectionNotFound")), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_gateway_cannot_answer_is_an_error_with_a_remedy() {
    let fixture = Fixture::new().await;
    let url = format!("http://{}", fixture.address);
    let (good, bad) = (fixture.path("token"), fixture.path("bad-token"));
    std::fs::write(&bad, "canary-not-a-token").unwrap();
    let payout = ["--amount", "1", "--currency", "EUR", "--country", "DE"];
    let cases: &[(&str, &[&str], &str)] = &[
        ("broute/other", &["-n", NAMESPACE, "--gateway", &url, "--token-file", &good], "404 route_not_found"),
        ("broute/payouts", &["-n", NAMESPACE, "--gateway", &url, "--token-file", &bad], "401 unauthenticated"),
        ("broute/payouts", &["-n", NAMESPACE, "--gateway", &url], "401 unauthenticated"),
        ("broute/payouts", &["-n", NAMESPACE, "--gateway", &url, "--token-file", "/nowhere"], "--token-file /nowhere"),
        (
            "broute/payouts",
            &["-n", NAMESPACE, "--gateway", "http://busbar.example"],
            "plain HTTP is used on loopback only",
        ),
        ("broute/payouts", &["-n", NAMESPACE, "--gateway", "http://127.0.0.1:9"], "gateway not reached"),
        ("pconn/bank", &["-n", NAMESPACE, "--gateway", &url, "--token-file", &good], "is not broute/NAME"),
    ];
    for (target, args, says) in cases {
        let all = [&["route", "explain", *target], *args, &payout[..]].concat();
        let refused = run_async(busbar(&all)).await;
        assert!(!refused.success() && refused.stderr.contains(says), "{target} {args:?}: {}", refused.stderr);
        assert!(!refused.stderr.contains("canary"), "{}", refused.stderr);
    }
    for (args, says) in [
        (&["--gateway", &*url] as &[&str], "--amount"),
        (
            &["--gateway", &*url, "--amount", "1", "--currency", "EUR", "--country", "DE", "--assume-down", "a"],
            "cannot be used",
        ),
        (&["--token-file", &*good], "--gateway"),
    ] {
        let refused = run_async(busbar(&[&["route", "explain", "broute/payouts"], args].concat())).await;
        assert!(!refused.success() && refused.stderr.contains(says), "{args:?}: {}", refused.stderr);
    }
}
