//! `busbar check live` as a process, against a simulated bank: what it prints, what it leaves, how it ends.

use std::path::Path;
use std::process::Output;

use busbar::testbed::sim::{Auth as Wants, BankConfig, BankHandle, Behaviour, Script, Step};
use tokio::process::Command;

use crate::call_path::bank;

const SECRET: &str = "canary-secret-not-real";

fn finastra() -> BankConfig {
    BankConfig::new("bank").auth(Wants::OAuth2 {
        client_id: "canary-client".to_owned(),
        client_secret: SECRET.to_owned(),
        expires_in_seconds: 3600,
    })
}

/// Runs the check with credentials, in an environment of its own.
async fn check(bank: &BankHandle, dir: &Path, more: &[&str], secret: Option<&str>) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_busbar"));
    command
        .args(["check", "live", "--base-url", &bank.base_url(), "--parameter", "tenant=sandbox"])
        .args(["--allow-provider-addresses", "127.0.0.0/8", "--metrics-file"])
        .arg(dir.join("metrics.txt"))
        .args(more)
        .env_clear()
        .kill_on_drop(true);
    if let Some(secret) = secret {
        command.env("BUSBAR_LIVE_CLIENT_ID", "canary-client").env("BUSBAR_LIVE_CLIENT_SECRET", secret);
    }
    let Output { status, stdout, stderr } = command.output().await.unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(!text.contains("canary"), "no credential is printed: {text}");
    (status.success(), text)
}

#[tokio::test]
async fn with_credentials_it_lists_reads_one_record_and_leaves_its_scrape() {
    let (_sim, bank) = bank(finastra()).await;
    let dir = tempfile::tempdir().unwrap();
    let (ok, text) = check(&bank, dir.path(), &["--strict"], Some(SECRET)).await;
    assert!(ok, "{text}");
    let lines: Vec<&str> = text.lines().map(|line| line.split(',').next().unwrap()).collect();
    assert!(lines[0] == "list: ok (collaterals: HTTP 200" && lines[1] == "by id: ok (collateral: HTTP 200", "{text}");
    assert!(lines.len() == 3 && lines[2].starts_with("metrics: ok ("), "{text}");
    let scrape = std::fs::read_to_string(dir.path().join("metrics.txt")).unwrap();
    for line in [
        r#"finastra_api_calls_total{endpoint="collaterals",status="200"} 1"#,
        r#"finastra_breaker_state{client="collateral"} 0"#,
        r#"provider_requests_total{endpoint="collateral",provider="finastra",status="200"} 1"#,
    ] {
        assert!(scrape.contains(line), "{line}\n{scrape}");
    }
    assert!(!scrape.contains("canary"));
}

#[tokio::test]
async fn a_record_that_does_not_exist_is_good_enough_unless_strict() {
    let (_sim, bank) = bank(finastra()).await;
    let dir = tempfile::tempdir().unwrap();
    let (ok, text) = check(&bank, dir.path(), &["--id", "no-such"], Some(SECRET)).await;
    assert!(ok && text.contains("by id: ok (collateral: HTTP 404"), "{text}");
    let (ok, text) = check(&bank, dir.path(), &["--id", "no-such", "--strict"], Some(SECRET)).await;
    assert!(!ok && text.contains("by id: HTTP status 404, wanted 200 (--strict)"), "{text}");
}

#[tokio::test]
async fn without_credentials_or_switched_off_it_says_why_and_calls_nobody() {
    let (_sim, bank) = bank(finastra()).await;
    let dir = tempfile::tempdir().unwrap();
    let (ok, text) = check(&bank, dir.path(), &[], None).await;
    let wanted = "skipped: no credentials (set BUSBAR_LIVE_CLIENT_ID, BUSBAR_LIVE_CLIENT_SECRET)";
    assert_eq!((ok, text.trim()), (true, wanted));
    let (ok, text) = check(&bank, dir.path(), &[], Some("")).await;
    assert_eq!((ok, text.trim()), (true, "skipped: no credentials (set BUSBAR_LIVE_CLIENT_SECRET)"));
    let (ok, text) = check(&bank, dir.path(), &["--skip"], Some(SECRET)).await;
    assert_eq!((ok, text.trim()), (true, "skipped: switched off (--skip, BUSBAR_LIVE_SKIP)"));
    assert!(!dir.path().join("metrics.txt").exists());
    assert_eq!(bank.counts().requests, 0);
}

#[tokio::test]
async fn refused_credentials_and_a_failing_provider_fail_the_check() {
    let (_sim, bank) = bank(finastra()).await;
    let dir = tempfile::tempdir().unwrap();
    let (ok, text) = check(&bank, dir.path(), &[], Some("canary-wrong")).await;
    assert!(!ok && text.contains("list: ") && text.contains("credentials_refused"), "{text}");
    bank.set_script(Script::from(Step::from(Behaviour::status(400)))).await.unwrap();
    let (ok, text) = check(&bank, dir.path(), &[], Some(SECRET)).await;
    assert!(!ok && text.contains("list: HTTP status 400, wanted 2xx"), "{text}");
}
