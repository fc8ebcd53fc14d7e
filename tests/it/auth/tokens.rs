//! Access tokens: their lifetime, the circuit of their endpoint, and requests as a profile defines them.

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
use busbar::settings::{Auth, Draft};
use busbar::testbed::sim::{BankHandle, Behaviour, Rule, Script, ScriptStep};
use serde_json::{Value, json};

use crate::kit::connections::{apply, connect, get, is_closed, registry, required_oauth2, secret, token_bank};
use crate::kit::time::ManualTime;

#[tokio::test]
async fn a_thousand_callers_with_an_expired_token_cause_one_token_request() {
    let time = ManualTime::start();
    let (_sim, bank, draft) = token_bank(2).await;
    let connection = connect(draft);
    assert_eq!(get(&connection, "/health").await, Ok(200));
    time.advance(Duration::from_millis(2_050)).await;
    // However long a thousand calls take here: the next token outlives them.
    bank.set_auth(&required_oauth2(3600)).unwrap();
    let ends = futures::future::join_all((0..1000).map(|_| get(&connection, "/health"))).await;
    assert!(ends.iter().all(|end| *end == Ok(200)), "{:?}", ends.iter().find(|end| **end != Ok(200)));
    assert_eq!(bank.counters().tokens_issued, 2);
}

/// Answers every token request with `status`.
async fn fail_token_requests(bank: &BankHandle, status: u16) {
    let rule = Rule::on("/oauth/token", [ScriptStep::from(Behaviour::status(status))]);
    bank.set_script(Script { rules: vec![rule] }).await.unwrap();
}

#[tokio::test]
async fn a_failing_token_endpoint_opens_its_own_circuit() {
    let (_sim, bank, mut draft) = token_bank(3600).await;
    draft.breaker.consecutive_failures = 1;
    let (registry, metrics) = registry();
    let connection = apply(&registry, draft);
    fail_token_requests(&bank, 503).await;
    for _ in 0..5 {
        let error = connection.probe().await.unwrap().result.unwrap_err();
        assert!(matches!(error, CallError::NoToken { status: Some(503), .. }), "{error}");
    }
    let before = bank.counters().requests;
    let error = get(&connection, "/health").await.unwrap_err();
    assert!(matches!(error, CallError::TokenCircuitOpen { retry_in: Some(wait) } if wait <= Duration::from_secs(30)));
    assert_eq!(error.code(), "token_circuit_open");
    assert_eq!(bank.counters().requests, before, "no request is sent");
    assert!(is_closed(&connection) && connection.token_unavailable());
    let status = connection.snapshot();
    assert_eq!((status.health, status.authenticated, status.token_missing), (Health::Unknown, None, true));
    let text = metrics.render().unwrap();
    let series =
        r#"busbar_provider_requests_total{code="503",connection="bank",namespace="treasury",operation="token""#;
    assert!(text.contains(series), "{text}");
}

#[tokio::test]
async fn an_outage_of_the_token_endpoint_has_no_effect_while_a_token_is_valid() {
    let (_sim, bank, draft) = token_bank(3600).await;
    let connection = connect(draft);
    assert_eq!(get(&connection, "/health").await, Ok(200));
    fail_token_requests(&bank, 500).await;
    for _ in 0..10 {
        assert_eq!(get(&connection, "/health").await, Ok(200));
    }
    assert!(!connection.snapshot().token_missing && !connection.token_unavailable());
}

#[tokio::test]
async fn a_token_revoked_early_fails_no_call() {
    let (_sim, bank, draft) = token_bank(3600).await;
    let connection = connect(draft);
    assert_eq!(get(&connection, "/health").await, Ok(200));
    bank.revoke_tokens();
    assert_eq!(get(&connection, "/health").await, Ok(200));
    assert_eq!(bank.counters().tokens_issued, 2);
}

#[derive(Clone, Default)]
struct TokenRequests(Arc<std::sync::Mutex<Vec<Value>>>);

/// `GoCardless`' own pair: no OAuth2, one JSON object.
async fn gocardless(requests: TokenRequests) -> String {
    async fn token(
        State(TokenRequests(requests)): State<TokenRequests>,
        Json(body): Json<Value>,
    ) -> (StatusCode, Json<Value>) {
        let right = body == json!({"secret_id": "canary-id", "secret_key": "canary-key"});
        requests.lock().unwrap().push(body);
        if !right {
            return (StatusCode::UNAUTHORIZED, Json(json!({"detail": "Invalid secrets id/secret pair"})));
        }
        let granted = json!({"access": "canary-access", "access_expires": 86400, "refresh": "canary-refresh"});
        (StatusCode::OK, Json(granted))
    }
    async fn institutions(headers: HeaderMap) -> StatusCode {
        let right = headers.get("authorization").is_some_and(|value| value == "Bearer canary-access");
        if right { StatusCode::OK } else { StatusCode::UNAUTHORIZED }
    }
    let routes = Router::new()
        .route("/api/v2/token/new/", post(token))
        .route("/api/v2/institutions/", on_get(institutions))
        .with_state(requests);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/api/v2", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, routes).await });
    base
}

fn connect_gocardless(base: &str, key: &'static str) -> Arc<Connection> {
    let profile = Profiles::builtin().unwrap().get("gocardless").unwrap();
    let mut draft = Draft::new(Arc::clone(&profile), Environment::Sandbox);
    base.clone_into(&mut draft.base_url);
    draft.retry.retries = 0;
    let value = |name: &str| Some(secret(if name == "client-id" { "canary-id" } else { key }));
    draft.auth = Auth::from_profile(profile.auth.as_ref().unwrap(), base, &BTreeMap::new(), value).unwrap();
    connect(draft)
}

#[tokio::test]
async fn a_profile_defines_the_token_request_and_response() {
    let requests = TokenRequests::default();
    let base = gocardless(requests.clone()).await;
    let connected = connect_gocardless(&base, "canary-key");
    let call =
        || async { connected.call(Request::get("test", "/institutions/")).await.map(|answer| answer.status.as_u16()) };
    assert_eq!((call().await, call().await), (Ok(200), Ok(200)));
    assert_eq!(requests.0.lock().unwrap().len(), 1, "one token for all");
    let life = connected.token_expires_at().unwrap().since(connected.now());
    assert!(life <= Duration::from_hours(1), "a day, kept for an hour: {life:?}");
    let refused = get(&connect_gocardless(&base, "canary-wrong"), "/institutions/").await.unwrap_err();
    assert_eq!(refused, CallError::CredentialsRefused { status: 401 });
}
