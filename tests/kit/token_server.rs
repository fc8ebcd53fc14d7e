//! A token endpoint that rotates refresh tokens and can hold its answer, for tests of what happens meanwhile.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use reqwest::Url;
use serde_json::json;
use tokio::sync::watch;

use super::wait::eventually;

/// The endpoint, and a health check next to it that accepts any token. Dropping it closes its port.
pub(crate) struct TokenServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    _serving: tokio_util::task::AbortOnDropHandle<()>,
}

struct Shared {
    /// The only refresh token that is valid.
    valid: Mutex<String>,
    /// The refresh tokens that were sent.
    sent: Mutex<Vec<String>>,
    /// Whether answers are held. The token is spent before.
    held: watch::Sender<bool>,
    expires_in_seconds: u64,
}

impl TokenServer {
    /// Starts one whose first valid refresh token is `first`.
    pub(crate) async fn start(first: &str, expires_in_seconds: u64) -> Self {
        let shared = Arc::new(Shared {
            valid: Mutex::new(first.to_owned()),
            sent: Mutex::default(),
            held: watch::Sender::new(false),
            expires_in_seconds,
        });
        let app = Router::new()
            .route("/token", post(answer))
            .route("/health", get(|| async { "{}" }))
            .with_state(Arc::clone(&shared));
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move { drop(axum::serve(listener, app).await) });
        Self { address, shared, _serving: tokio_util::task::AbortOnDropHandle::new(serving) }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn token_url(&self) -> String {
        format!("{}/token", self.url())
    }

    /// Holds all answers until [`Self::release`].
    pub(crate) fn hold(&self) {
        self.shared.held.send_replace(true);
    }

    pub(crate) fn release(&self) {
        self.shared.held.send_replace(false);
    }

    /// The refresh tokens that were sent so far.
    pub(crate) fn sent(&self) -> Vec<String> {
        self.shared.sent.lock().unwrap().clone()
    }

    /// Waits until `count` requests have arrived in all.
    pub(crate) async fn arrived(&self, count: usize) {
        eventually(format!("{count} token requests"), async || self.sent().len() >= count).await;
    }
}

async fn answer(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    let form = Url::parse(&format!("http://form/?{}", String::from_utf8_lossy(&body))).unwrap();
    let sent = form.query_pairs().find(|(name, _)| name == "refresh_token").map(|(_, token)| token.into_owned());
    let sent = sent.expect("a refresh token");
    let number = {
        let mut all = shared.sent.lock().unwrap();
        all.push(sent.clone());
        all.len()
    };
    let rotated = format!("canary-rotated-{number}");
    {
        let mut valid = shared.valid.lock().unwrap();
        if *valid != sent {
            return (StatusCode::BAD_REQUEST, axum::Json(json!({"error": "invalid_grant"}))).into_response();
        }
        valid.clone_from(&rotated);
    }
    let mut held = shared.held.subscribe();
    drop(held.wait_for(|held| !held).await);
    let token = json!({
        "access_token": format!("canary-access-{number}"), "token_type": "Bearer",
        "expires_in": shared.expires_in_seconds, "refresh_token": rotated,
    });
    axum::Json(token).into_response()
}
