//! `busbar check live` against a simulated bank: its output, its metrics file, its exit status.

use std::path::Path;

use busbar::testbed::sim::{
    AccountConfig, BankConfig, BankHandle, Behaviour, Garbage, RequiredAuth, Script, ScriptStep,
};

use crate::kit::banks::start_bank;
use crate::kit::binary::{busbar, run_async};

const SECRET: &str = "canary-secret-not-real";

fn finastra() -> BankConfig {
    BankConfig::new("bank").auth(RequiredAuth::OAuth2 {
        client_id: "canary-client".to_owned(),
        client_secret: SECRET.to_owned(),
        expires_in_seconds: 3600,
    })
}

/// Runs the check of Finastra with credentials, in an environment of its own.
async fn check(bank: &BankHandle, dir: &Path, more: &[&str], secret: Option<&str>) -> (bool, String) {
    let mut args = vec!["--parameter", "tenant=sandbox"];
    args.extend(more);
    let credentials = secret.map(|secret| [("CLIENT_ID", "canary-client"), ("CLIENT_SECRET", secret)]);
    check_at(&bank.base_url(), dir, &args, credentials.as_ref().map_or(&[], |pair| pair)).await
}

/// The same for any provider.
async fn check_at(url: &str, dir: &Path, more: &[&str], credentials: &[(&str, &str)]) -> (bool, String) {
    let mut command = busbar(&["check", "live", "--base-url", url, "--allow-provider-addresses", "127.0.0.0/8"]);
    command.arg("--metrics-file").arg(dir.join("metrics.txt")).args(more);
    for (name, value) in credentials {
        command.env(format!("BUSBAR_LIVE_{name}"), value);
    }
    let finished = run_async(command).await;
    let text = format!("{}{}", finished.stdout, finished.stderr);
    assert!(!text.contains("canary"), "no credential is printed: {text}");
    (finished.success(), text)
}

#[tokio::test]
async fn a_check_reads_a_list_and_one_record() {
    let (_sim, bank) = start_bank(finastra()).await;
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
async fn a_missing_record_fails_the_check_only_if_strict() {
    let (_sim, bank) = start_bank(finastra()).await;
    let dir = tempfile::tempdir().unwrap();
    let (ok, text) = check(&bank, dir.path(), &["--id", "no-such"], Some(SECRET)).await;
    assert!(ok && text.contains("by id: ok (collateral: HTTP 404"), "{text}");
    let (ok, text) = check(&bank, dir.path(), &["--id", "no-such", "--strict"], Some(SECRET)).await;
    assert!(!ok && text.contains("by id: HTTP status 404, expected 200 (--strict)"), "{text}");
}

#[tokio::test]
async fn a_check_without_credentials_is_skipped() {
    let (_sim, bank) = start_bank(finastra()).await;
    let dir = tempfile::tempdir().unwrap();
    let (ok, text) = check(&bank, dir.path(), &[], None).await;
    let wanted = "skipped: no credentials (set BUSBAR_LIVE_CLIENT_ID, BUSBAR_LIVE_CLIENT_SECRET)";
    assert_eq!((ok, text.trim()), (true, wanted));
    let (ok, text) = check(&bank, dir.path(), &[], Some("")).await;
    assert_eq!((ok, text.trim()), (true, "skipped: no credentials (set BUSBAR_LIVE_CLIENT_SECRET)"));
    let (ok, text) = check(&bank, dir.path(), &["--skip"], Some(SECRET)).await;
    assert_eq!((ok, text.trim()), (true, "skipped: switched off (--skip, BUSBAR_LIVE_SKIP)"));
    assert!(!dir.path().join("metrics.txt").exists());
    assert_eq!(bank.counters().requests, 0);
}

#[tokio::test]
async fn rejected_credentials_fail_the_check() {
    let (_sim, bank) = start_bank(finastra()).await;
    let dir = tempfile::tempdir().unwrap();
    let (ok, text) = check(&bank, dir.path(), &[], Some("canary-wrong")).await;
    assert!(!ok && text.contains("list: ") && text.contains("credentials_refused"), "{text}");
    bank.set_script(Script::from(ScriptStep::from(Behaviour::status(400)))).await.unwrap();
    let (ok, text) = check(&bank, dir.path(), &[], Some(SECRET)).await;
    assert!(!ok && text.contains("list: HTTP status 400, expected 2xx"), "{text}");
}

#[tokio::test]
async fn a_page_of_html_with_status_200_fails_the_check() {
    let (_sim, bank) = start_bank(finastra()).await;
    let dir = tempfile::tempdir().unwrap();
    let rule = Script::from(ScriptStep::from(Behaviour::Garbage(Garbage::Html)));
    bank.set_script(rule).await.unwrap();
    let (ok, text) = check(&bank, dir.path(), &[], Some(SECRET)).await;
    let wanted = "list: HTTP status 200, but the profile classifies it as retry, expected ok";
    assert!(!ok && text.contains(wanted), "{text}");
}

#[tokio::test]
async fn each_profile_names_the_operations_of_its_check() {
    let dir = tempfile::tempdir().unwrap();
    let (_sim, mono) = start_bank(BankConfig::mono("bank", SECRET).accounts([AccountConfig::new("acc-7", 3)])).await;
    let url = format!("{}/v2", mono.base_url());
    let args = ["--provider", "mono", "--strict"];
    let (ok, text) = check_at(&url, dir.path(), &args, &[("API_KEY", SECRET)]).await;
    assert!(
        ok && text.contains("list: ok (accounts: HTTP 200") && text.contains("by id: ok (account: HTTP 200"),
        "{text}"
    );
    assert!(
        mono.arrivals().entries.iter().any(|arrival| arrival.path == "/v2/accounts/acc-7"),
        "the id is the list's first"
    );

    let required = RequiredAuth::Bearer { token: SECRET.to_owned() };
    let canned = [
        ("/charges".to_owned(), r#"{"object": "list", "data": [{"id": "ch_1"}], "has_more": false}"#.to_owned()),
        ("/charges/ch_1".to_owned(), r#"{"id": "ch_1"}"#.to_owned()),
    ];
    let (_sim, stripe) =
        start_bank(BankConfig { canned: canned.into(), ..BankConfig::new("bank").auth(required) }).await;
    let args = ["--provider", "stripe", "--strict"];
    let (ok, text) = check_at(&stripe.base_url(), dir.path(), &args, &[("API_KEY", SECRET)]).await;
    assert!(
        ok && text.contains("list: ok (charges: HTTP 200") && text.contains("by id: ok (charge: HTTP 200"),
        "{text}"
    );
}

#[tokio::test]
async fn a_custom_profile_names_the_operations_of_its_check() {
    let dir = tempfile::tempdir().unwrap();
    let own = "id: acme\ntitle: Acme\nbreaker: Api\nhealthCheck: {path: /}\nauth: {headers: [{name: x-key, secretKey: acme-key}]}\noperations:\n  rows: {path: /rows}\n  row: {path: '/rows/{n}', parameters: {n: {required: true}}}\n";
    let live = "liveCheck: {list: rows, byId: row, id: [/0/number]}\n";
    std::fs::write(dir.path().join("acme.yaml"), format!("{own}{live}")).unwrap();
    std::fs::write(dir.path().join("mute.yaml"), own.replace("id: acme", "id: mute")).unwrap();
    let folder = dir.path().display().to_string();
    let required = RequiredAuth::ApiKeyHeader { name: "x-key".to_owned(), value: SECRET.to_owned() };
    let canned = [("/rows".to_owned(), r#"[{"number": 7}]"#.to_owned()), ("/rows/7".to_owned(), "{}".to_owned())];
    let (_sim, bank) = start_bank(BankConfig { canned: canned.into(), ..BankConfig::new("bank").auth(required) }).await;
    let args = ["--provider", "profile:acme", "--profiles-dir", &folder, "--strict"];
    let (ok, text) = check_at(&bank.base_url(), dir.path(), &args, &[("ACME_KEY", SECRET)]).await;
    assert!(ok && text.contains("by id: ok (row: HTTP 200"), "{text}");
    let (ok, text) = check_at(&bank.base_url(), dir.path(), &args, &[]).await;
    assert_eq!((ok, text.trim()), (true, "skipped: no credentials (set BUSBAR_LIVE_ACME_KEY)"));

    let args = ["--provider", "profile:mute", "--profiles-dir", &folder];
    let (ok, text) = check_at(&bank.base_url(), dir.path(), &args, &[("ACME_KEY", SECRET)]).await;
    assert!(!ok && text.contains("profile profile:mute has no liveCheck"), "{text}");
    let (ok, text) = check_at(&bank.base_url(), dir.path(), &["--provider", "profile:none"], &[]).await;
    assert!(!ok && text.contains("profile profile:none not found"), "{text}");
}

#[tokio::test]
async fn a_live_sync_persists_and_sums_up_counts_duplicates_and_masking() {
    let accounts = [AccountConfig::new("acc-1", 250)];
    let (_sim, bank) = start_bank(BankConfig::mono("bank", "canary-key-not-real").accounts(accounts)).await;
    let (dir, url) = (tempfile::tempdir().unwrap(), format!("{}/v2", bank.base_url()));
    let key = [("API_KEY", "canary-key-not-real")];
    let ledger = format!("sqlite:{}", dir.path().join("staging.db").display());
    let given = ["--provider=mono", "--sync", "--stream-parameter=accountId=acc-1"];
    for (more, place) in [(vec![], "a throw-away ledger"), (vec!["--ledger", &ledger], "the ledger of --ledger")] {
        let (ok, text) = check_at(&url, dir.path(), &[given.as_slice(), &more].concat(), &key).await;
        assert!(ok, "{text}");
        for said in [
            "sync counts: 250 fetched, 250 new, 0 changed, 0 same, 0 rejected",
            "read again: 0 inserted, 0 changed",
            "250 of 250 account numbers masked",
            &format!("sync: ok (persisted to {place})"),
        ] {
            assert!(text.contains(said), "{said}: {text}");
        }
    }
    let (ok, text) = check_at(&url, dir.path(), &given, &[]).await;
    assert_eq!((ok, text.trim()), (true, "skipped: no credentials (set BUSBAR_LIVE_API_KEY)"));
    bank.set_script(Behaviour::status(503)).await.unwrap();
    let (ok, text) = check_at(&url, dir.path(), &given, &key).await;
    assert!(!ok && text.contains("list: HTTP status 503"), "{text}");
}
