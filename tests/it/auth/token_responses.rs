//! What token endpoints answer in the wild: odd tokens, odd lifetimes, and requests to wait.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get as on_get, post};
use busbar::provider::auth::token_fault::TokenFault;
use busbar::provider::call::CallError;
use busbar::provider::connection::Connection;
use busbar::settings::{Auth, ErrorClass};

use crate::kit::connections::{connect, draft, get, token_client};
use crate::kit::time::ManualTime;

/// A token endpoint that answers with a status, a `Retry-After` and a body, and what it has seen.
#[derive(Default)]
struct Endpoint {
    answer: Mutex<(u16, &'static str, String)>,
    requests: Mutex<usize>,
    /// The credentials of the calls that followed.
    sent: Mutex<Vec<String>>,
}

impl Endpoint {
    async fn start(status: u16, retry_after: &'static str, body: &str) -> (Arc<Self>, Arc<Connection>) {
        let endpoint = Arc::new(Self::default());
        endpoint.set(status, retry_after, body);
        let app = Router::new()
            .route("/token", post(token))
            .route("/health", on_get(health))
            .with_state(Arc::clone(&endpoint));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        let mut draft = draft(base.as_str());
        draft.auth = Auth::ClientCredentials(token_client(format!("{base}/token")));
        (endpoint, connect(draft))
    }

    fn set(&self, status: u16, retry_after: &'static str, body: &str) {
        *self.answer.lock().unwrap() = (status, retry_after, body.to_owned());
    }

    fn requests(&self) -> usize {
        *self.requests.lock().unwrap()
    }
}

async fn token(State(endpoint): State<Arc<Endpoint>>) -> Response {
    *endpoint.requests.lock().unwrap() += 1;
    let (status, retry_after, body) = endpoint.answer.lock().unwrap().clone();
    let mut response = (StatusCode::from_u16(status).unwrap(), body).into_response();
    if !retry_after.is_empty() {
        response.headers_mut().insert("retry-after", retry_after.parse().unwrap());
    }
    response
}

async fn health(State(endpoint): State<Arc<Endpoint>>, headers: HeaderMap) -> &'static str {
    endpoint.sent.lock().unwrap().push(headers["authorization"].to_str().unwrap().to_owned());
    "{}"
}

#[tokio::test]
async fn a_token_is_sent_without_the_white_space_around_it() {
    for written in ["canary\\n", "canary ", " canary", "\\tcanary\\r\\n"] {
        let (endpoint, connection) = Endpoint::start(200, "", &format!(r#"{{"access_token":"{written}"}}"#)).await;
        assert_eq!(get(&connection, "/health").await, Ok(200), "{written:?}");
        assert_eq!(*endpoint.sent.lock().unwrap(), ["Bearer canary"]);
    }
}

#[tokio::test]
async fn a_useless_token_is_the_endpoints_fault_and_no_call_is_made() {
    for (body, fault) in [
        (r#"{"access_token":"can\nary"}"#, TokenFault::TokenCharacters),
        (r#"{"access_token":"canary\u0000"}"#, TokenFault::TokenCharacters),
        (r#"{"access_token":"canäry"}"#, TokenFault::TokenCharacters),
        (r#"{"access_token":"can ary"}"#, TokenFault::TokenCharacters),
        (r#"{"access_token":""}"#, TokenFault::TokenCharacters),
        (r#"{"access_token":"\n"}"#, TokenFault::TokenCharacters),
        (r#"{"access_token":"canary","token_type":"mac"}"#, TokenFault::TokenType),
        (r#"{"access_token":"canary","token_type":"DPoP"}"#, TokenFault::TokenType),
        (r#"{"access_token":null}"#, TokenFault::NoToken),
        (r#"{"error":"invalid_client"}"#, TokenFault::NoToken),
        ("<html>log in</html>", TokenFault::NoToken),
        ("", TokenFault::NoToken),
    ] {
        let (endpoint, connection) = Endpoint::start(200, "", body).await;
        let error = get(&connection, "/health").await.unwrap_err();
        assert_eq!(error, CallError::NoToken { status: Some(200), class: ErrorClass::Body }, "{body}");
        let seen = connection.snapshot();
        assert_eq!(seen.token_fault, Some(fault), "{body}");
        assert_eq!((seen.authenticated, seen.token_missing), (None, true), "the credentials are not at fault");
        assert!(endpoint.sent.lock().unwrap().is_empty());
        endpoint.set(200, "", r#"{"access_token":"canary"}"#);
        assert_eq!(get(&connection, "/health").await, Ok(200), "{body}");
        assert_eq!(connection.snapshot().token_fault, None);
    }
}

#[tokio::test]
async fn an_odd_lifetime_is_the_default_one_and_none_outlives_an_hour() {
    let _time = ManualTime::start();
    for (written, seconds) in [
        ("-1", 300),
        ("\"soon\"", 300),
        ("1e400", 300),
        ("null", 300),
        ("{}", 300),
        ("\"60\"", 60),
        ("99999999999999999", 3600),
        ("\"31536000\"", 3600),
    ] {
        let body = format!(r#"{{"access_token":"canary","token_type":"bearer","expires_in":{written}}}"#);
        let (_endpoint, connection) = Endpoint::start(200, "", &body).await;
        assert_eq!(get(&connection, "/health").await, Ok(200), "{written}");
        let left = connection.token_expires_at().unwrap().since(connection.now());
        assert!((seconds - 1..=seconds).contains(&left.as_secs()), "{written}: {left:?}");
    }
}

#[tokio::test]
async fn token_requests_wait_for_the_longer_of_retry_after_and_a_growing_backoff() {
    let time = ManualTime::start();
    for (status, retry_after, waits) in [
        (429, "1", [1_u64, 2, 4, 8]),
        (429, "", [1, 2, 4, 8]),
        (429, "5", [5, 5, 5, 8]),
        (429, "-5", [1, 2, 4, 8]),
        (429, "Sun, 06 Nov 1994 08:49:37 GMT", [1, 2, 4, 8]),
        (503, "1", [1, 2, 4, 8]),
        (503, "99999999999999999999", [86_400; 4]),
        (429, "Wed, 01 Jan 2031 00:00:00 GMT", [86_400; 4]),
        (403, "60", [60; 4]),
    ] {
        let (endpoint, connection) = Endpoint::start(status, retry_after, "{}").await;
        for (round, wait) in waits.into_iter().enumerate() {
            assert!(get(&connection, "/health").await.is_err());
            assert_eq!(endpoint.requests(), round + 1, "{status} {retry_after:?}");
            time.advance(Duration::from_millis(wait * 1_000 - 100)).await;
            assert!(get(&connection, "/health").await.is_err());
            assert_eq!(endpoint.requests(), round + 1, "{status} {retry_after:?}: asked before {wait} s");
            time.advance(Duration::from_millis(100)).await;
        }
        endpoint.set(200, "", r#"{"access_token":"canary"}"#);
        assert_eq!(get(&connection, "/health").await, Ok(200));
    }
}

#[tokio::test]
async fn a_requested_check_asks_for_a_token_once_although_the_endpoint_said_wait() {
    let time = ManualTime::start();
    let (endpoint, connection) = Endpoint::start(429, "Wed, 01 Jan 2031 00:00:00 GMT", "").await;
    assert!(get(&connection, "/health").await.is_err());
    for _ in 0..20 {
        assert!(connection.probe_requested().await.unwrap().result.is_err());
    }
    assert_eq!(endpoint.requests(), 2, "once in a while");
    endpoint.set(200, "", r#"{"access_token":"canary"}"#);
    assert!(get(&connection, "/health").await.is_err(), "calls still wait");
    time.advance(Duration::from_secs(11)).await;
    assert_eq!(connection.probe_requested().await.unwrap().result.unwrap().status, 200);
    assert_eq!(get(&connection, "/health").await, Ok(200));
    assert_eq!(endpoint.requests(), 3);
}
