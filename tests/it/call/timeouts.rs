//! Which timeout ended a call: that of the token endpoint, or that of the connect.

use std::time::Duration;

use busbar::domain::breaker::{CallClass, EffectiveState};
use busbar::domain::health::Health;
use busbar::provider::call::{CallError, ConnectError, Request};
use busbar::settings::ErrorClass;
use busbar::testbed::sim::{Behaviour, FailurePoint, Rule, Script, ScriptStep};
use tokio::net::TcpListener;

use crate::kit::connections::{apply, connect, draft, registry, token_bank};
use crate::kit::time::ManualTime;

/// A timeout that must not be what ends the call.
const LONG: Duration = Duration::from_mins(2);

/// By how much the clock is advanced while a call waits.
const STEP: Duration = Duration::from_millis(50);

#[tokio::test]
async fn a_stalling_token_endpoint_is_no_failure_of_the_provider() {
    let time = ManualTime::start();
    let (_sim, bank, mut draft) = token_bank(3600).await;
    let path = reqwest::Url::parse(&bank.token_url()).unwrap().path().to_owned();
    let steps = vec![ScriptStep::from(Behaviour::Stall(FailurePoint::BeforeHead))];
    let rule = Rule { path: Some(path.clone()), steps, ..Rule::default() };
    bank.set_script(Script { rules: vec![rule] }).await.unwrap();
    draft.breaker.consecutive_failures = 1;
    draft.timeouts.total = Duration::from_millis(300);
    draft.timeouts.request = LONG;
    draft.health_check.timeout = Duration::from_millis(300);
    let (registry, metrics) = registry();
    let connection = apply(&registry, draft);
    for class in [CallClass::Read, CallClass::Money, CallClass::Probe] {
        let call = connection.call(Request { class, ..Request::get("test", "/health") });
        let error = time.run(STEP, call).await.unwrap_err();
        assert_eq!(error, CallError::NoToken { status: None, class: ErrorClass::Timeout });
        assert!(!error.was_sent());
    }
    let status = connection.snapshot();
    assert_eq!((status.effective, status.health), (EffectiveState::Closed, Health::Unknown));
    assert!(status.token_missing);
    let arrivals = bank.arrivals().entries;
    assert!(arrivals.iter().all(|arrival| arrival.path == path), "{arrivals:?}");
    let text = metrics.render().unwrap();
    let own = |line: &&str| line.starts_with("busbar_provider_requests_total{") && line.contains(r#"operation="test""#);
    let lines: Vec<_> = text.lines().filter(own).collect();
    let ignored = |line: &&str| line.contains(r#"code="no_token""#) && line.contains(r#"outcome="ignored""#);
    assert!(!lines.is_empty() && lines.iter().all(ignored), "{lines:?}");
}

#[tokio::test]
async fn a_connect_timeout_is_a_failure_of_the_provider_that_sent_nothing() {
    let time = ManualTime::start();
    // It accepts the connection and does not answer the TLS handshake.
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
    draft.timeouts.request = LONG;
    draft.retry.retries = 1;
    draft.retry.base = Duration::from_millis(20);
    draft.breaker.consecutive_failures = 2;
    let connection = connect(draft);
    for class in [CallClass::Read, CallClass::Money] {
        let call = connection.call(Request { class, ..Request::get("test", "/") });
        let error = time.run(STEP, call).await.unwrap_err();
        assert_eq!(error, CallError::Connect(ConnectError::TimedOut));
        assert!(!error.was_sent() && error.class() == Some(ErrorClass::Connect), "{error:?}");
    }
    assert_eq!(connection.snapshot().effective, EffectiveState::Open, "it is the provider's failure all the same");
}
