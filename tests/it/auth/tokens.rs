//! Tokens over sockets: their life, their endpoint's own circuit, and calls as a profile says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get as on_get, post};
use axum::{Json, Router};
use busbar::domain::health::Health;
use busbar::profile::{Environment, Profiles};
use busbar::provider::call::{CallError, Request};
use busbar::provider::connection::Connection;
use busbar::provider::registry::RegistryOptions;
use busbar::settings::{Auth, Draft};
use busbar::testbed::sim::{Behaviour, Rule, Script, ScriptStep};
use serde_json::{Value, json};

use super::{after, closed, get, issues, live, registry, secret, token_bank};
use crate::call_path::apply;

#[tokio::test]
async fn a_thousand_callers_at_the_end_of_a_token_cause_one_token_request() {
    let (_sim, bank, draft) = token_bank(2).await;
    let live = live(draft);
    assert_eq!(get(&live, "/health").await, Ok(200));
    after(2).await;
    // However long a thousand calls take here: the next token outlives them.
    bank.set_auth(&issues(3600)).unwrap();
    let ends = futures::future::join_all((0..1000).map(|_| get(&live, "/health"))).await;
    assert!(ends.iter().all(|end| *end == Ok(200)), "{:?}", ends.iter().find(|end| **end != Ok(200)));
    assert_eq!(bank.counters().tokens_issued, 2);
}

/// Answers `status` to whoever asks for a token.
async fn fail(bank: &busbar::testbed::sim::BankHandle, status: u16) {
    let rule = Rule::on("/oauth/token", [ScriptStep::from(Behaviour::status(status))]);
    bank.set_script(Script { rules: vec![rule] }).await.unwrap();
}

#[tokio::test]
async fn a_token_endpoint_that_fails_has_a_circuit_of_its_own_and_the_providers_stays_closed() {
    let (_sim, bank, mut draft) = token_bank(3600).await;
    draft.breaker.consecutive_failures = 1;
    let (registry, metrics) = registry(RegistryOptions::allowing_loopback());
    let live = apply(&registry, draft);
    fail(&bank, 503).await;
    for _ in 0..5 {
        let error = live.probe().await.unwrap().result.unwrap_err();
        assert!(matches!(error, CallError::NoToken { status: Some(503), .. }), "{error}");
    }
    let before = bank.counters().requests;
    let error = get(&live, "/health").await.unwrap_err();
    assert!(matches!(error, CallError::TokenCircuitOpen { retry_in: Some(wait) } if wait <= Duration::from_secs(30)));
    assert_eq!(error.code(), "token_circuit_open");
    assert_eq!(bank.counters().requests, before, "nobody is asked");
    assert!(closed(&live) && live.token_unavailable());
    let seen = live.snapshot();
    assert_eq!((seen.health, seen.authenticated, seen.token_missing), (Health::Unknown, None, true));
    let text = metrics.render().unwrap();
    let series =
        r#"busbar_provider_requests_total{code="503",connection="bank",namespace="treasury",operation="token""#;
    assert!(text.contains(series), "{text}");
}

#[tokio::test]
async fn an_outage_of_the_token_endpoint_is_not_seen_while_a_token_is_left() {
    let (_sim, bank, draft) = token_bank(3600).await;
    let live = live(draft);
    assert_eq!(get(&live, "/health").await, Ok(200));
    fail(&bank, 500).await;
    for _ in 0..10 {
        assert_eq!(get(&live, "/health").await, Ok(200));
    }
    assert!(!live.snapshot().token_missing && !live.token_unavailable());
}

#[tokio::test]
async fn a_token_that_the_provider_ends_early_costs_one_more_request_and_no_call() {
    let (_sim, bank, draft) = token_bank(3600).await;
    let live = live(draft);
    assert_eq!(get(&live, "/health").await, Ok(200));
    bank.revoke_tokens();
    assert_eq!(get(&live, "/health").await, Ok(200));
    assert_eq!(bank.counters().tokens_issued, 2);
}

#[derive(Clone, Default)]
struct Asked(Arc<std::sync::Mutex<Vec<Value>>>);

/// `GoCardless`' own pair: no OAuth2, one JSON object.
async fn gocardless(asked: Asked) -> String {
    async fn token(State(Asked(asked)): State<Asked>, Json(body): Json<Value>) -> (StatusCode, Json<Value>) {
        let right = body == json!({"secret_id": "canary-id", "secret_key": "canary-key"});
        asked.lock().unwrap().push(body);
        if !right {
            return (StatusCode::UNAUTHORIZED, Json(json!({"detail": "Invalid secrets id/secret pair"})));
        }
        let given = json!({"access": "canary-access", "access_expires": 86400, "refresh": "canary-refresh"});
        (StatusCode::OK, Json(given))
    }
    async fn institutions(headers: HeaderMap) -> StatusCode {
        let right = headers.get("authorization").is_some_and(|value| value == "Bearer canary-access");
        if right { StatusCode::OK } else { StatusCode::UNAUTHORIZED }
    }
    let routes = Router::new()
        .route("/api/v2/token/new/", post(token))
        .route("/api/v2/institutions/", on_get(institutions))
        .with_state(asked);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/api/v2", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, routes).await });
    base
}

fn connection(base: &str, key: &'static str) -> Arc<Connection> {
    let profile = Profiles::builtin().unwrap().get("gocardless").unwrap();
    let mut draft = Draft::new(Arc::clone(&profile), Environment::Sandbox);
    base.clone_into(&mut draft.base_url);
    draft.retry.retries = 0;
    let value = |name: &str| Some(secret(if name == "client-id" { "canary-id" } else { key }));
    draft.auth = Auth::from_profile(profile.auth.as_ref().unwrap(), base, &BTreeMap::new(), value).unwrap();
    live(draft)
}

#[tokio::test]
async fn a_profile_says_how_a_token_is_asked_for_and_where_it_is_in_the_answer() {
    let asked = Asked::default();
    let base = gocardless(asked.clone()).await;
    let live_one = connection(&base, "canary-key");
    let call =
        || async { live_one.call(Request::get("test", "/institutions/")).await.map(|answer| answer.status.as_u16()) };
    assert_eq!((call().await, call().await), (Ok(200), Ok(200)));
    assert_eq!(asked.0.lock().unwrap().len(), 1, "one token for all");
    let life = live_one.token_expires_at().unwrap().since(live_one.now());
    assert!(life <= Duration::from_hours(1), "a day, kept for an hour: {life:?}");
    let refused = get(&connection(&base, "canary-wrong"), "/institutions/").await.unwrap_err();
    assert_eq!(refused, CallError::CredentialsRefused { status: 401 });
}
