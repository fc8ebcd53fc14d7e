//! Whose time it was, over real sockets: the token endpoint's, the way's, the caller's own.

use std::time::Duration;

use busbar::domain::breaker::{CallClass, EffectiveState};
use busbar::domain::health::Health;
use busbar::provider::call::{CallError, ConnectError, Request};
use busbar::settings::ErrorClass;
use busbar::settings::{Auth, DEFAULT_REFRESH_BEFORE, TokenClient};
use busbar::testbed::sim::{BankConfig, Behaviour, FailurePoint, RequiredAuth, Rule, Script, ScriptStep};
use secrecy::SecretString;
use tokio::net::TcpListener;

use crate::call_path::{PATIENCE, apply, bank, draft, registry};

/// Longer than any test waits.
const NEVER: Duration = Duration::from_mins(2);

#[tokio::test]
async fn a_token_endpoint_that_stalls_is_not_the_providers_failure_and_nothing_is_sent() {
    let secret = || "canary-secret".to_owned();
    let wants =
        RequiredAuth::OAuth2 { client_id: "client".to_owned(), client_secret: secret(), expires_in_seconds: 3600 };
    let (_sim, bank) = bank(BankConfig::new("bank").auth(wants)).await;
    let path = reqwest::Url::parse(&bank.token_url()).unwrap().path().to_owned();
    let steps = vec![ScriptStep::from(Behaviour::Stall(FailurePoint::BeforeHead))];
    let rule = Rule { path: Some(path.clone()), steps, ..Rule::default() };
    bank.set_script(Script { rules: vec![rule] }).await.unwrap();
    let mut draft = draft(bank.base_url());
    draft.breaker.consecutive_failures = 1;
    draft.timeouts.total = Duration::from_millis(300);
    draft.timeouts.request = NEVER;
    draft.health_check.timeout = Duration::from_millis(300);
    draft.auth = Auth::ClientCredentials(TokenClient {
        token_url: bank.token_url(),
        scopes: vec![],
        audience: None,
        refresh_before: DEFAULT_REFRESH_BEFORE,
        client_id: SecretString::from("client"),
        client_secret: SecretString::from(secret()),
    });
    let (registry, metrics) = registry();
    let live = apply(&registry, draft);
    for class in [CallClass::Read, CallClass::Money, CallClass::Probe] {
        let end = live.call(Request { class, ..Request::get("test", "/health") }).await.unwrap_err();
        assert_eq!(end, CallError::NoToken { status: None, class: ErrorClass::Timeout });
        assert!(!end.was_sent());
    }
    let status = live.snapshot();
    assert_eq!((status.effective, status.health), (EffectiveState::Closed, Health::Unknown));
    assert!(status.token_missing);
    let asked = bank.arrivals().entries;
    assert!(asked.iter().all(|arrival| arrival.path == path), "{asked:?}");
    let text = metrics.render().unwrap();
    let own = |line: &&str| line.starts_with("busbar_provider_requests_total{") && line.contains(r#"operation="test""#);
    let lines: Vec<_> = text.lines().filter(own).collect();
    let ignored = |line: &&str| line.contains(r#"code="no_token""#) && line.contains(r#"outcome="ignored""#);
    assert!(!lines.is_empty() && lines.iter().all(ignored), "{lines:?}");
}

#[tokio::test]
async fn a_connection_that_does_not_come_about_in_time_has_sent_nothing() {
    // It takes the connection and says no word of TLS.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((socket, _)) = listener.accept().await {
            held.push(socket);
        }
    });
    let mut draft = draft(format!("https://{address}"));
    draft.timeouts.connect = Duration::from_millis(200);
    draft.timeouts.request = NEVER;
    draft.retry.retries = 1;
    draft.retry.base = Duration::from_millis(20);
    draft.breaker.consecutive_failures = 2;
    let live = apply(&registry().0, draft);
    for class in [CallClass::Read, CallClass::Money] {
        let call = live.call(Request { class, ..Request::get("test", "/") });
        let end = tokio::time::timeout(PATIENCE, call).await.expect("the time to connect ends it").unwrap_err();
        assert_eq!(end, CallError::Connect(ConnectError::TimedOut));
        assert!(!end.was_sent() && end.class() == Some(ErrorClass::Connect), "{end:?}");
    }
    assert_eq!(live.snapshot().effective, EffectiveState::Open, "it is the provider's failure all the same");
}
