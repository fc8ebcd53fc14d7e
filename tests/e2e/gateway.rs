//! The gateway and a real API server: real tokens, real RBAC, an API server that does not answer, two replicas.

use std::time::Duration;

use busbar::clock::Clock;
use busbar::ledger::{self, LedgerUrl, OpenMode};
use busbar::testbed::control_plane::{Component, Options};
use busbar::testbed::sim::{BankConfig, BankHandle};
use serde_json::{Value, json};

use crate::cluster::bank_env::BankEnv;
use crate::cluster::control_planes::own_plane;
use crate::cluster::gateway_calls::{caller_token, get, until_response};
use crate::cluster::namespace::TestNs;
use crate::cluster::operator::Operator;
use crate::kit::objects::{merged_patches, profile_auth, profile_connection};
use crate::kit::wait::PATIENCE;

const QUOTE_BODY: &str = r#"[{"symbol":"ACME","price":101.25,"timestamp":1767225600}]"#;

/// A provider that answers quotes, and its connection `fmp`.
async fn fmp(env: &BankEnv, patch: Value) -> BankHandle {
    let mut config = BankConfig::new("fmp");
    config.canned.insert("/quote".to_owned(), QUOTE_BODY.to_owned());
    let bank = env.sim.add_bank(config).await.expect("a bank");
    env.ns.secret("fmp-credentials", &[("api-key", env.ns.canary("fmp").as_bytes())]).await;
    env.put(&fmp_connection(&bank, patch)).await;
    bank
}

fn fmp_connection(bank: &BankHandle, patch: Value) -> Value {
    profile_connection("fmp", "fmp", &bank.base_url(), merged_patches(profile_auth("fmp-credentials"), patch))
}

fn quote(ns: &TestNs) -> String {
    format!("/api/providers/{}/fmp/quote?symbol=ACME", ns.name())
}

#[tokio::test]
async fn a_revoked_right_is_forbidden_within_ten_seconds() {
    let env = BankEnv::new("gateway").await;
    let bank = fmp(&env, json!({})).await;
    let desk = caller_token(&env.ns, "desk", Some("busbar-caller")).await;
    let guest = caller_token(&env.ns, "guest", None).await;
    let operator = Operator::ready(&env.ns, &[]).await;
    let path = quote(&env.ns);
    until_response(&operator, &path, &desk, (200, "")).await;
    let (_, _, body) = get(&operator, &path, &desk).await;
    assert_eq!(body["data"]["result"]["price"], "101.25", "{body}");
    assert!(bank.arrivals().entries.iter().all(|a| a.path.starts_with("/quote")));
    for (token, wanted) in
        [("", (401, "unauthenticated")), ("forged", (401, "unauthenticated")), (&guest, (403, "forbidden"))]
    {
        let (status, error, body) = get(&operator, &path, token).await;
        assert_eq!((status, error.as_str()), wanted, "{body}");
    }
    let list = format!("/api/dead-requests?namespace={}", env.ns.name());
    assert_eq!(get(&operator, &list, &desk).await.0, 403, "the right to call is no right to list");
    let ops = caller_token(&env.ns, "ops", Some("busbar-dead-requests")).await;
    until_response(&operator, &list, &ops, (200, "")).await;
    assert_eq!(get(&operator, "/api/dead-requests", &ops).await.0, 403, "not in all namespaces");

    let clock = Clock::system();
    env.ns.kubectl(&["delete", "rolebinding", "desk"]).await.ok();
    let began = clock.mono();
    until_response(&operator, &path, &desk, (403, "forbidden")).await;
    let took = clock.mono().since(began);
    assert!(took < Duration::from_secs(12), "ten seconds, and the time of the API server: {took:?}");
    let scrape = operator.metrics().await;
    assert!(scrape.contains("busbar_gateway_requests_total{method=\"GET\",route=\"/api/providers/{namespace}/{connection}/{operation}\",status=\"200\"}"), "{scrape}");
    assert!(!operator.logs().contains("ACME"), "the query is in no log");
    operator.finish(&env.ns).await;
}

#[tokio::test]
async fn a_service_account_without_rights_has_one_rate_limit_and_few_audit_rows() {
    let env = BankEnv::new("strangers").await;
    fmp(&env, json!({})).await;
    let mut tokens = vec![caller_token(&env.ns, "guest", None).await];
    for _ in 0..3 {
        // Each has an ID of its own in its extra information.
        tokens.push(env.ns.kubectl(&["create", "token", "guest"]).await.ok().trim().to_owned());
    }
    let mut operator = Operator::ready(&env.ns, &["--gateway-caller-rate=20/m"]).await;
    let (mut refused, mut limited) = (0, 0);
    for token in tokens.iter().cycle().take(100) {
        match get(&operator, &quote(&env.ns), token).await {
            (403, _, _) => refused += 1,
            (429, _, _) => limited += 1,
            (status, _, body) => panic!("{status} {body}"),
        }
    }
    assert!(refused >= 20 && limited > 0, "{refused} refused, {limited} limited");
    assert_eq!(operator.sigterm().await.code(), Some(0));
    let url = LedgerUrl::Sqlite(env.ns.ledger_file("a"));
    let ledger = ledger::open(&url, OpenMode::ReadOnly).await.expect("the operator's ledger");
    let rows = ledger.list_audit(Some(env.ns.name()), None, 1_000).await.expect("the audit");
    let guest = format!("system:serviceaccount:{}:guest", env.ns.name());
    let counted = rows.iter().filter(|row| row.entry.subject == guest).map(|row| row.entry.count()).sum::<u64>();
    assert_eq!(counted, refused, "every refusal is counted");
    assert!(rows.len() < 12, "{} rows", rows.len());
    ledger.close().await;
    operator.finish(&env.ns).await;
}

#[tokio::test]
async fn licence_profiles_are_bound_to_service_accounts() {
    let env = BankEnv::new("rights").await;
    let rights = |subject: Value| json!({"rights": {"profiles": [{"name": "desk", "subjects": [subject], "actions": ["quote"]}]}});
    let account = format!("{}:desk", env.ns.name());
    let bank = fmp(&env, rights(json!({"name": "desk", "kind": "ServiceAccount", "value": account}))).await;
    let desk = caller_token(&env.ns, "desk", Some("busbar-caller")).await;
    let other = caller_token(&env.ns, "other", Some("busbar-caller")).await;
    let operator = Operator::ready(&env.ns, &[]).await;
    until_response(&operator, &quote(&env.ns), &desk, (200, "")).await;
    until_response(&operator, &quote(&env.ns), &other, (403, "rights_denied")).await;
    let earnings = quote(&env.ns).replace("/quote", "/earnings");
    assert_eq!(get(&operator, &earnings, &desk).await.1, "rights_denied");
    let shop = json!({"name": "shop", "kind": "Consumer", "value": "shop"});
    env.put(&fmp_connection(&bank, rights(shop))).await;
    until_response(&operator, &quote(&env.ns), &desk, (403, "rights_denied")).await;
    operator.finish(&env.ns).await;
}

#[tokio::test]
async fn no_new_caller_is_authorized_while_the_api_server_is_paused() {
    let plane = own_plane(Options::default()).await;
    let env = BankEnv::on(&plane, "away").await;
    fmp(&env, json!({})).await;
    let desk = caller_token(&env.ns, "desk", Some("busbar-caller")).await;
    let operator = Operator::ready(&env.ns, &[]).await;
    until_response(&operator, &quote(&env.ns), &desk, (200, "")).await;
    plane.pause(Component::ApiServer).await.expect("the API server is paused");
    until_response(&operator, &quote(&env.ns), &desk, (503, "authorization_unavailable")).await;
    plane.resume(Component::ApiServer).await.expect("the API server is resumed");
    until_response(&operator, &quote(&env.ns), &desk, (200, "")).await;
    operator.finish(&env.ns).await;
}

#[tokio::test]
async fn a_standby_answers_calls_also_while_it_takes_over() {
    let env = BankEnv::new("standby").await;
    let bank = fmp(&env, json!({})).await;
    let desk = caller_token(&env.ns, "desk", Some("busbar-caller")).await;
    let ledger = env.ns.ledger_flag("a");
    let mut replicas = Vec::new();
    for name in ["a", "b"] {
        let mut operator = Operator::start_replica(&env.ns, name, &[&ledger]).await;
        operator.wait_ready().await;
        if replicas.is_empty() {
            operator.wait_leading().await;
        }
        replicas.push(operator);
    }
    let path = quote(&env.ns);
    for operator in &replicas {
        until_response(operator, &path, &desk, (200, "")).await;
    }
    assert!(!replicas[1].leads().await, "it answers as a standby");
    // Changes of the spec reach it too.
    env.put(&fmp_connection(&bank, json!({"suspend": true}))).await;
    until_response(&replicas[1], &path, &desk, (503, "suspended")).await;
    env.put(&fmp_connection(&bank, json!({"suspend": false}))).await;
    until_response(&replicas[1], &path, &desk, (200, "")).await;

    let status = replicas[0].sigterm().await;
    assert!(status.success(), "{status}");
    let clock = Clock::system();
    let deadline = clock.mono() + PATIENCE;
    while !replicas[1].leads().await {
        assert!(clock.mono() < deadline, "the standby does not take over");
        let (status, error, body) = get(&replicas[1], &path, &desk).await;
        assert_eq!((status, error.as_str()), (200, ""), "while it takes over: {body}");
    }
    until_response(&replicas[1], &path, &desk, (200, "")).await;
    for operator in replicas {
        operator.finish(&env.ns).await;
    }
}
