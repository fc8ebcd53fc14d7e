//! Hosts over real sockets that log each credential they get, and issue tokens for it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// A credential that a host got: a key, a client secret, or the client secret that a token was issued for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Sighting {
    pub(super) host: usize,
    pub(super) credential: String,
}

/// What all hosts share.
#[derive(Default)]
struct Log {
    seen: BTreeSet<Sighting>,
    /// Tokens that a host got although another one had issued them.
    foreign_tokens: Vec<String>,
    /// What each answer was given to, by its number.
    answers: Vec<Sighting>,
}

/// The hosts, and what they got.
pub(super) struct Hosts {
    urls: Vec<String>,
    log: Arc<Mutex<Log>>,
    /// Whether a host refuses every credential.
    refusing: Arc<Mutex<[bool; 2]>>,
    /// Whether token requests wait.
    tokens_held: watch::Sender<bool>,
}

/// One host.
#[derive(Clone)]
struct Host {
    number: usize,
    log: Arc<Mutex<Log>>,
    refusing: Arc<Mutex<[bool; 2]>>,
    tokens_held: watch::Receiver<bool>,
}

impl Hosts {
    /// Two hosts that listen until the runtime ends.
    pub(super) async fn start() -> Self {
        let (log, refusing, tokens_held) = (Arc::default(), Arc::default(), watch::Sender::new(false));
        let mut urls = Vec::new();
        for number in 0..2 {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            urls.push(format!("http://{}", listener.local_addr().unwrap()));
            let (log, refusing, tokens_held) = (Arc::clone(&log), Arc::clone(&refusing), tokens_held.subscribe());
            let host = Host { number, log, refusing, tokens_held };
            tokio::spawn(axum::serve(listener, Router::new().fallback(answer).with_state(host)).into_future());
        }
        Self { urls, log, refusing, tokens_held }
    }

    pub(super) fn url(&self, host: usize) -> &str {
        &self.urls[host]
    }

    /// The host that a URL belongs to.
    pub(super) fn number(&self, url: &str) -> usize {
        self.urls.iter().position(|own| url.starts_with(own.as_str())).unwrap()
    }

    pub(super) fn refuse(&self, host: usize, refuses: bool) {
        self.refusing.lock().unwrap()[host] = refuses;
    }

    pub(super) fn hold_tokens(&self, held: bool) {
        self.tokens_held.send_replace(held);
    }

    pub(super) fn are_tokens_held(&self) -> bool {
        *self.tokens_held.borrow()
    }

    /// What the hosts got so far.
    pub(super) fn seen(&self) -> BTreeSet<Sighting> {
        self.log.lock().unwrap().seen.clone()
    }

    /// Forgets what the hosts got.
    pub(super) fn clear(&self) {
        self.log.lock().unwrap().seen.clear();
    }

    /// Tokens that a host got although another one had issued them.
    pub(super) fn foreign_tokens(&self) -> Vec<String> {
        self.log.lock().unwrap().foreign_tokens.clone()
    }

    /// Which host gave this answer, and to which credential.
    pub(super) fn answered(&self, body: &[u8]) -> Sighting {
        let number: usize = std::str::from_utf8(body).unwrap().parse().unwrap();
        self.log.lock().unwrap().answers[number].clone()
    }
}

async fn answer(State(mut host): State<Host>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let number = host.number;
    let refuses = host.refusing.lock().unwrap()[number];
    if uri.path() == "/token" {
        let form = String::from_utf8(body.to_vec()).unwrap();
        // In the form, or by Basic after the form was refused.
        let in_form = form.split('&').find_map(|pair| pair.strip_prefix("client_secret="));
        let credential = in_form.map_or_else(|| basic_secret(&headers), str::to_owned);
        host.log.lock().unwrap().seen.insert(Sighting { host: number, credential: credential.clone() });
        let released = host.tokens_held.wait_for(|held| !held).await.is_ok();
        assert!(released);
        if refuses {
            return StatusCode::UNAUTHORIZED.into_response();
        }
        let token = format!("{credential}~{number}");
        return format!(r#"{{"access_token": "{token}", "expires_in": 3600}}"#).into_response();
    }
    let sent = headers["authorization"].to_str().unwrap().strip_prefix("Bearer ").unwrap().to_owned();
    let mut log = host.log.lock().unwrap();
    let credential = match sent.rsplit_once('~') {
        Some((secret, issuer)) => {
            if issuer != number.to_string() {
                log.foreign_tokens.push(format!("{sent} at {number}"));
            }
            secret.to_owned()
        }
        None => sent,
    };
    let sighting = Sighting { host: number, credential };
    log.seen.insert(sighting.clone());
    if refuses {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    log.answers.push(sighting);
    (log.answers.len() - 1).to_string().into_response()
}

/// The client secret of an `Authorization: Basic` header.
fn basic_secret(headers: &HeaderMap) -> String {
    let encoded = headers["authorization"].to_str().unwrap().strip_prefix("Basic ").unwrap();
    let decoded = base64::engine::general_purpose::STANDARD.decode(encoded).unwrap();
    String::from_utf8(decoded).unwrap().split_once(':').unwrap().1.to_owned()
}
