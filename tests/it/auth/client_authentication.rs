//! How an OAuth 2.0 client authenticates at a token endpoint (RFC 6749 §2.3.1), and what follows a refusal (§5.2).

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get as on_get, post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use busbar::provider::auth::token_fault::TokenFault;
use busbar::provider::call::CallError;
use busbar::provider::connection::Connection;
use busbar::provider::registry::Registry;
use busbar::settings::{Auth, ClientAuthentication, Draft, TokenClient};
use reqwest::Url;
use serde_json::json;

use crate::kit::connections::{apply, draft, get, registry, secret, token_client};
use crate::kit::time::ManualTime;

/// What a token endpoint accepts and what it was sent.
struct Endpoint {
    accepts_basic: bool,
    accepts_body: bool,
    /// Id and secret.
    client: Mutex<(&'static str, &'static str)>,
    /// The response to a client that it does not accept.
    refusal: (StatusCode, &'static str),
    /// Of each request, how the client authenticated.
    seen: Mutex<Vec<&'static str>>,
}

impl Endpoint {
    fn accepting(method: &str) -> Arc<Self> {
        Self::refusing(method, (StatusCode::UNAUTHORIZED, r#"{"error":"invalid_client"}"#))
    }

    fn refusing(method: &str, refusal: (StatusCode, &'static str)) -> Arc<Self> {
        let client = Mutex::new(("canary-client", "canary-secret"));
        let (accepts_basic, accepts_body) = (method == "basic", method == "body");
        Arc::new(Self { accepts_basic, accepts_body, client, refusal, seen: Mutex::default() })
    }

    /// Serves it next to a health check that accepts any token; returns the base URL.
    async fn serve(self: &Arc<Self>) -> String {
        let app = Router::new()
            .route("/token", post(answer))
            .route("/health", on_get(|| async { "{}" }))
            .with_state(Arc::clone(self));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        base
    }

    fn take_seen(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

async fn answer(State(endpoint): State<Arc<Endpoint>>, headers: HeaderMap, body: Bytes) -> Response {
    let form = Url::parse(&format!("http://form/?{}", String::from_utf8_lossy(&body))).unwrap();
    let field = |name: &str| form.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
    let basic = headers.get("authorization").map(|value| {
        let encoded = value.to_str().unwrap().strip_prefix("Basic ").unwrap();
        let pair = String::from_utf8(STANDARD.decode(encoded).unwrap()).unwrap();
        let (id, secret) = pair.split_once(':').unwrap();
        [id, secret].map(|text| {
            let form = Url::parse(&format!("http://form/?x={text}")).unwrap();
            form.query_pairs().next().unwrap().1.into_owned()
        })
    });
    let in_body = field("client_id").zip(field("client_secret"));
    let method = match (&basic, &in_body) {
        (Some(_), None) => "basic",
        (None, Some(_)) => "body",
        (Some(_), Some(_)) => "both",
        (None, None) => "none",
    };
    endpoint.seen.lock().unwrap().push(method);
    let (id, secret) = *endpoint.client.lock().unwrap();
    let right = match (basic, in_body) {
        (Some([i, s]), None) => endpoint.accepts_basic && i == id && s == secret,
        (None, Some((i, s))) => endpoint.accepts_body && i == id && s == secret,
        _ => false,
    };
    if !right {
        return endpoint.refusal.into_response();
    }
    axum::Json(json!({"access_token": "canary-access", "token_type": "Bearer", "expires_in": 60})).into_response()
}

fn with(base: &str, change: impl FnOnce(&mut TokenClient)) -> Draft {
    let mut client = token_client(format!("{base}/token"));
    change(&mut client);
    let mut draft = draft(base);
    draft.auth = Auth::ClientCredentials(client);
    draft
}

fn connected(registry: &Registry, base: &str, change: impl FnOnce(&mut TokenClient)) -> Arc<Connection> {
    apply(registry, with(base, change))
}

#[tokio::test]
async fn a_server_that_wants_basic_is_found_out_once_and_remembered() {
    let time = ManualTime::start();
    for refusal in [
        (StatusCode::UNAUTHORIZED, r#"{"error":"invalid_client"}"#),
        (StatusCode::BAD_REQUEST, r#"{"error":"invalid_client","error_description":"use Basic"}"#),
        (StatusCode::UNAUTHORIZED, r#"{"error":"unauthorized_client"}"#),
        (StatusCode::UNAUTHORIZED, ""),
        (StatusCode::UNAUTHORIZED, "<html>log in</html>"),
    ] {
        let endpoint = Endpoint::refusing("basic", refusal);
        let base = endpoint.serve().await;
        let (registry, _) = registry();
        let connection = connected(&registry, &base, |_| ());
        assert_eq!(get(&connection, "/health").await, Ok(200), "{refusal:?}");
        assert_eq!(endpoint.take_seen(), ["body", "basic"], "{refusal:?}");
        time.advance(Duration::from_secs(61)).await;
        assert_eq!(get(&connection, "/health").await, Ok(200));
        assert_eq!(endpoint.take_seen(), ["basic"], "the next token");
        // A rotated secret, and other settings.
        *endpoint.client.lock().unwrap() = ("canary-client", "canary-rotated");
        let mut rotated = with(&base, |client| client.client_secret = secret("canary-rotated"));
        rotated.credential_revision = "rotated".to_owned();
        let connection = apply(&registry, rotated);
        assert_eq!(get(&connection, "/health").await, Ok(200));
        assert_eq!(endpoint.take_seen(), ["basic"]);
        assert_eq!(connection.snapshot().token_fault, None);
        // The secret is rotated at the provider only: that is no reason to try the form.
        *endpoint.client.lock().unwrap() = ("canary-client", "canary-other");
        time.advance(Duration::from_secs(61)).await;
        assert!(get(&connection, "/health").await.is_err());
        assert_eq!(endpoint.take_seen(), ["basic"]);
    }
}

#[tokio::test]
async fn a_configured_method_is_kept_to() {
    for (configured, method, wanted) in [
        (ClientAuthentication::Basic, "basic", "basic"),
        (ClientAuthentication::Body, "body", "body"),
        (ClientAuthentication::Basic, "basic", "body"),
        (ClientAuthentication::Body, "body", "basic"),
        (ClientAuthentication::Auto, "body", "body"),
    ] {
        let endpoint = Endpoint::accepting(wanted);
        let base = endpoint.serve().await;
        let connection = connected(&registry().0, &base, |client| client.client_authentication = configured);
        let refused = Err(CallError::CredentialsRefused { status: 401 });
        let expected = if method == wanted { Ok(200) } else { refused };
        assert_eq!(get(&connection, "/health").await, expected, "{configured:?} {wanted}");
        assert_eq!(endpoint.take_seen(), [method], "{configured:?} {wanted}");
    }
}

#[tokio::test]
async fn id_and_secret_are_form_encoded_in_both_places() {
    let (id, word) = ("canary:id/1 +é%", "canary s:3+r&t=%7E\u{e9}");
    for method in ["basic", "body"] {
        let endpoint = Endpoint::accepting(method);
        *endpoint.client.lock().unwrap() = (id, word);
        let base = endpoint.serve().await;
        let connection = connected(&registry().0, &base, |client| {
            (client.client_id, client.client_secret) = (secret(id), secret(word));
        });
        assert_eq!(get(&connection, "/health").await, Ok(200), "{method}");
    }
}

#[tokio::test]
async fn a_client_that_is_wrong_is_sent_twice_at_first_and_then_once() {
    let time = ManualTime::start();
    let endpoint = Endpoint::accepting("neither");
    let connection = connected(&registry().0, &endpoint.serve().await, |_| ());
    let refused = CallError::CredentialsRefused { status: 401 };
    assert_eq!(get(&connection, "/health").await, Err(refused.clone()));
    assert_eq!(endpoint.take_seen(), ["body", "basic"]);
    // The delay grows: 5, 10, 20, 30, 30 s.
    for (wait, method) in [(5, "basic"), (10, "body"), (20, "basic"), (30, "body"), (30, "basic")] {
        time.advance(Duration::from_secs(wait - 1)).await;
        assert_eq!(get(&connection, "/health").await, Err(refused.clone()));
        assert!(endpoint.take_seen().is_empty(), "not sent again after {} s", wait - 1);
        time.advance(Duration::from_secs(1)).await;
        assert_eq!(get(&connection, "/health").await, Err(refused.clone()));
        assert_eq!(endpoint.take_seen(), [method]);
    }
    assert_eq!(connection.snapshot().token_fault, Some(TokenFault::Client));
}

#[tokio::test]
async fn other_refusals_change_nothing_and_are_blamed_on_what_is_at_fault() {
    for (status, body, fault) in [
        (400, r#"{"error":"invalid_scope"}"#, Some(TokenFault::Scope)),
        (400, r#"{"error":"unauthorized_client"}"#, Some(TokenFault::ClientNotAllowed)),
        (400, r#"{"error":"unsupported_grant_type"}"#, Some(TokenFault::GrantType)),
        (400, r#"{"error":"invalid_request"}"#, Some(TokenFault::Request)),
        (400, r#"{"error":"invalid_grant"}"#, Some(TokenFault::Grant)),
        (404, "<html>nothing here</html>", Some(TokenFault::NotFound)),
        (405, "", Some(TokenFault::NotFound)),
        (403, r#"{"error":"access_denied"}"#, None),
        (400, "", None),
        (429, "", Some(TokenFault::RateLimited)),
        (302, "", Some(TokenFault::Redirect)),
    ] {
        let endpoint = Endpoint::refusing("neither", (StatusCode::from_u16(status).unwrap(), body));
        let connection = connected(&registry().0, &endpoint.serve().await, |_| ());
        let error = get(&connection, "/health").await.unwrap_err();
        let refused = matches!(error, CallError::CredentialsRefused { status: seen } if seen == status);
        let failed = matches!(error, CallError::NoToken { status: Some(seen), .. } if seen == status);
        assert!(refused || failed, "{error:?}");
        assert_eq!(endpoint.take_seen(), ["body"], "{status} {body}");
        assert_eq!(connection.snapshot().token_fault, fault, "{status} {body}");
    }
}
