//! Providers as users of the operator see them: a custom profile, a fallback, the legacy metrics and spans of calls, and a
//! dead request that survives a restart.

use std::path::Path;

use busbar::api::v1alpha1::ProviderConnection;
use busbar::ledger::dead_requests::{DeadRequest, DeadRequestFilter, DeadRequestState};
use busbar::ledger::{self, LedgerUrl, OpenMode};
use busbar::testbed::sim::otlp::{Span, TraceCollector};
use busbar::testbed::sim::{BankConfig, BankHandle, Behaviour};
use serde_json::{Value, json};

use crate::cluster::bank_env::{BankEnv, condition_of, secret_name};
use crate::cluster::gateway_calls::{caller_token, get, until_response};
use crate::cluster::operator::Operator;
use crate::kit::banks::unavailable;
use crate::kit::objects::{bearer_auth, merged_patches, profile_auth, profile_connection};
use crate::kit::wait::eventually;

const FMP_QUOTE: &str = r#"[{"symbol":"ACME","price":101.25,"timestamp":1767225600}]"#;

const POLYGON_QUOTE: &str = r#"{"status":"OK","ticker":{"ticker":"ACME","todaysChange":1.2,"todaysChangePerc":1.1,
    "day":{"o":100.1,"h":102,"l":99,"c":101,"v":1000},"lastTrade":{"p":101.30},"prevDay":{"c":100},"updated":1767225600000000000}}"#;

/// A custom profile.
const CUSTOM_PROFILE: &str = r"id: acme-rates
title: Acme exchange rates
breaker: Api
healthCheck: {path: /health}
operations:
  rate:
    path: /rates/{pair}
    parameters: {pair: {kind: word, required: true, maxLength: 6, public: true}}
  order:
    path: /orders
    method: POST
    class: Money
";

/// A provider that answers `path` with `body` and requires no credentials.
async fn provider(env: &BankEnv, name: &str, path: &str, body: &str) -> BankHandle {
    let mut config = BankConfig::new(name);
    config.canned.insert(path.to_owned(), body.to_owned());
    env.sim.add_bank(config).await.expect("a bank")
}

/// A market data provider with its built-in profile, and its connection with further fields.
async fn market_data(env: &BankEnv, name: &str, (path, body): (&str, &str), spec: Value) -> BankHandle {
    let bank = provider(env, name, path, body).await;
    let secret = secret_name(&bank);
    env.ns.secret(&secret, &[("api-key", env.ns.canary(name).as_bytes())]).await;
    let spec = merged_patches(profile_auth(&secret), spec);
    env.put(&profile_connection(name, name, &bank.base_url(), spec)).await;
    bank
}

/// Waits until a condition of a connection has this status and reason.
async fn until_condition(env: &BankEnv, name: &str, condition_type: &str, expected: (&str, &str)) {
    let what = format!("{condition_type} is {expected:?}");
    env.until::<ProviderConnection, _>(name, &what, |object| {
        let now = condition_of(&object.status.as_ref()?.conditions, condition_type)?;
        ((now.0.as_str(), now.1.as_str()) == expected).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_custom_profile_is_called_like_a_built_in_one() {
    let env = BankEnv::new("own").await;
    let profiles = tempfile::tempdir().unwrap();
    std::fs::write(profiles.path().join("acme-rates.yaml"), CUSTOM_PROFILE).unwrap();
    let bank = provider(&env, "acme", "/rates/EURUSD", r#"{"mid":"1.0842"}"#).await;
    env.put(&profile_connection("acme", "profile:acme-rates", &bank.base_url(), json!({}))).await;
    env.put(&profile_connection("unknown", "profile:nope", &bank.base_url(), json!({}))).await;
    let desk = caller_token(&env.ns, "desk", Some("busbar-caller")).await;
    let operator = Operator::ready(&env.ns, &[&format!("--profiles-dir={}", profiles.path().display())]).await;
    env.until::<ProviderConnection, _>("acme", "it is Ready", |object| {
        let now = condition_of(&object.status.as_ref()?.conditions, "Ready")?;
        (now.0 == "True").then_some(())
    })
    .await;
    until_condition(&env, "unknown", "Stalled", ("True", "ProfileNotFound")).await;
    let path = format!("/api/providers/{}/acme/rate?pair=EURUSD", env.ns.name());
    until_response(&operator, &path, &desk, (200, "")).await;
    let (_, _, body) = get(&operator, &path, &desk).await;
    assert_eq!(body["data"]["result"]["mid"], "1.0842", "{body}");
    assert_eq!(body["data"]["meta"]["provider"], "profile:acme-rates", "{body}");
    // The gateway does not call operations that move money, whatever the profile.
    let order = format!("/api/providers/{}/acme/order", env.ns.name());
    assert_eq!(get(&operator, &order, &desk).await.1, "not_callable");
    operator.finish(&env.ns).await;
}

#[tokio::test]
async fn a_fallback_answers_and_the_spans_show_both_calls() {
    let env = BankEnv::new("fallback").await;
    let collector = TraceCollector::start().await.unwrap();
    let quotes = ("/v2/snapshot/locale/us/markets/stocks/tickers/ACME", POLYGON_QUOTE);
    market_data(&env, "polygon", quotes, json!({})).await;
    let target = json!({"name": "polygon", "operations": ["quote"], "connectionRef": {"name": "polygon"}});
    let fmp = market_data(&env, "fmp", ("/quote", FMP_QUOTE), json!({"fallback": [target]})).await;
    let finastra = env.bank_with_secret("finastra").await;
    let auth = bearer_auth(&secret_name(&finastra));
    env.put(&profile_connection("finastra", "finastra", &finastra.base_url(), auth)).await;
    let desk = caller_token(&env.ns, "desk", Some("busbar-caller")).await;
    let endpoint = format!("--otlp-endpoint={}", collector.endpoint());
    let operator = Operator::ready(&env.ns, &["--compat-metrics=finastra,providers", &endpoint]).await;
    let call = |connection: &str, rest: &str| format!("/api/providers/{}/{connection}/{rest}", env.ns.name());
    // Another symbol than the one that the fallback is to answer: the cached response would be used.
    let quote = call("fmp", "quote?symbol=OTHER");
    until_response(&operator, &quote, &desk, (200, "")).await;
    until_response(&operator, &call("polygon", "quote?symbol=ACME"), &desk, (200, "")).await;
    until_response(&operator, &call("finastra", "collaterals"), &desk, (200, "")).await;
    let (_, _, body) = get(&operator, &quote, &desk).await;
    assert_eq!(body["data"]["meta"]["provider_used"], "fmp", "{body}");

    fmp.fail_with(unavailable()).await.unwrap();
    let other = call("fmp", "quote?symbol=ACME");
    let body = eventually("polygon answers as fallback", async || {
        let (status, _, body) = get(&operator, &other, &desk).await;
        (status == 200 && body["data"]["meta"]["provider_used"] == "polygon_fallback").then_some(body)
    })
    .await;
    assert_eq!(body["data"]["meta"]["provider"], "fmp", "{body}");
    assert_eq!(body["data"]["result"]["price"], "101.30", "{body}");

    for (series, labels) in [
        ("provider_requests_total", [("provider", "fmp"), ("endpoint", "quote"), ("status", "503")].as_slice()),
        ("provider_requests_total", &[("provider", "polygon"), ("endpoint", "quote"), ("status", "200")]),
        ("finastra_api_calls_total", &[("endpoint", "collaterals"), ("status", "200")]),
    ] {
        assert!(operator.metric(series, labels).await.is_some_and(|calls| calls >= 1.0), "{series}{labels:?}");
    }
    eventually("the spans of both calls arrive", async || {
        let (calls, requests) = (collector.spans_named("provider.call"), collector.spans_named("gateway.request"));
        let of = |provider: &str, request: &Span| {
            calls.iter().any(|call| call.parent_id == request.span_id && call.attributes["provider"] == provider)
        };
        // Both of one request: the one that the fallback answered.
        requests.iter().any(|request| of("fmp", request) && of("polygon", request))
    })
    .await;
    operator.finish(&env.ns).await;
}

async fn dead_requests(file: &Path) -> Vec<DeadRequest> {
    let ledger =
        ledger::open(&LedgerUrl::Sqlite(file.to_owned()), OpenMode::ReadOnly).await.expect("the ledger can be read");
    ledger.list_dead_requests(&DeadRequestFilter::default(), 10).await.expect("its dead requests")
}

#[tokio::test]
async fn a_dead_request_is_retried_after_a_restart() {
    let env = BankEnv::new("killed").await;
    let fmp = market_data(&env, "fmp", ("/quote", FMP_QUOTE), json!({})).await;
    let desk = caller_token(&env.ns, "desk", Some("busbar-caller")).await;
    let mut operator = Operator::ready(&env.ns, &[]).await;
    let file = env.ns.ledger_file("a");
    let quote = |symbol: &str| format!("/api/providers/{}/fmp/quote?symbol={symbol}", env.ns.name());
    until_response(&operator, &quote("ACME"), &desk, (200, "")).await;
    // The pause keeps it pending while the process is killed.
    let pause = Behaviour::rate_limited("8");
    fmp.fail_with(pause.clone()).await.unwrap();
    until_response(&operator, &quote("OTHER"), &desk, (503, "quota_exhausted")).await;
    let pending = dead_requests(&file).await;
    assert_eq!((pending.len(), pending[0].state, pending[0].tries), (1, DeadRequestState::Pending, 0), "{pending:?}");
    operator.kill9();
    fmp.recover().await;
    let before = fmp.arrivals().next;
    operator.restart().await;
    eventually("it is done after the restart", async || {
        let now = dead_requests(&file).await;
        if now.len() == 1 && now[0].state == DeadRequestState::Done && now[0].tries == 1 { Ok(()) } else { Err(now) }
    })
    .await;
    let arrivals = fmp.arrivals_since(before).entries;
    assert_eq!(arrivals.iter().filter(|arrival| arrival.path.starts_with("/quote")).count(), 1, "{arrivals:?}");

    // And one that would never succeed is parked.
    fmp.fail_with(pause).await.unwrap();
    until_response(&operator, &quote("THIRD"), &desk, (503, "quota_exhausted")).await;
    operator.kill9();
    fmp.fail_with(Behaviour::status(403)).await.unwrap();
    operator.restart().await;
    eventually("it is parked after the restart", async || {
        dead_requests(&file).await.iter().any(|dead| dead.state == DeadRequestState::Parked)
    })
    .await;
    operator.finish(&env.ns).await;
}
