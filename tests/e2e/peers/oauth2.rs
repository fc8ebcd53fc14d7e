//! Tokens of an OAuth2 server that other people wrote: short lives, refused clients, rotated refresh tokens, an outage.

use std::time::Duration;

use busbar::clock::Clock;
use busbar::domain::breaker::BreakerState;
use busbar::domain::key::ObjectKey;
use busbar::ledger::encryption::Keyring;
use busbar::ledger::{self, LedgerUrl, OpenMode};
use busbar::metrics::Metrics;
use busbar::provider::auth::refresh_token_store::RefreshTokenStore;
use busbar::provider::call::{CallError, Request};
use busbar::provider::connection::Connection;
use busbar::provider::registry::{Registry, RegistryOptions};
use busbar::settings::{Auth, DEFAULT_REFRESH_BEFORE, Draft, Settings, TokenClient};
use secrecy::SecretString;
use serde_json::json;

use super::{circuit, draft, live};
use crate::support::Peer;

const ID: &str = "busbar";
const SECRET: &str = "canary-client-secret-not-real";

fn client(peer: &Peer) -> TokenClient {
    TokenClient {
        token_url: format!("{}/token", peer.base()),
        scopes: vec!["dummy".to_owned()],
        audience: None,
        refresh_before: DEFAULT_REFRESH_BEFORE,
        client_id: SecretString::from(ID),
        client_secret: SecretString::from(SECRET),
    }
}

fn connection(peer: &Peer, auth: Auth) -> Draft {
    let mut draft = draft("generic", peer.base().to_owned(), &[], &[]);
    draft.health_check.path = Some("/resource".to_owned());
    draft.auth = auth;
    draft
}

/// A server whose tokens live for `seconds` and that knows our client only.
async fn server(seconds: u64) -> Peer {
    let peer = Peer::oauth2().await;
    peer.set(json!({"expires_in": seconds, "client_id": ID, "client_secret": SECRET})).await;
    peer
}

async fn get(live: &Connection) -> Result<u16, CallError> {
    live.call(Request::get("resource", "/resource")).await.map(|answer| answer.status.as_u16())
}

#[tokio::test]
async fn tokens_of_two_seconds_are_replaced_in_time_and_a_thousand_callers_at_the_end_of_one_ask_once() {
    let peer = server(2).await;
    let live = live(connection(&peer, Auth::ClientCredentials(client(&peer))));
    let clock = Clock::system();
    let began = clock.mono();
    let mut calls = 0;
    while clock.mono().since(began) < Duration::from_secs(5) {
        assert_eq!(get(&live).await, Ok(200), "{}", peer.log());
        calls += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let counts = peer.counts().await;
    assert_eq!(counts["unauthorized"], 0, "no token was used after its end");
    assert!((3..=7).contains(&counts["requests"]), "{} tokens for {calls} calls", counts["requests"]);

    // The last one ends while nobody asks.
    let ends = live.token_expires_at().unwrap();
    clock.sleep_until(clock.mono() + ends.since(live.now()) + Duration::from_millis(50)).await;
    peer.set(json!({"expires_in": 3600, "delay_ms": 200})).await;
    let before = peer.counts().await["requests"];
    let ends = futures::future::join_all((0..1000).map(|_| get(&live))).await;
    assert!(ends.iter().all(|end| *end == Ok(200)), "{:?}", ends.iter().find(|end| **end != Ok(200)));
    assert_eq!(peer.counts().await["requests"], before + 1);
}

#[tokio::test]
async fn a_client_that_the_server_does_not_know_is_refused_and_not_sent_again_at_every_call() {
    let peer = server(3600).await;
    peer.set(json!({"client_secret": "another"})).await;
    let live = live(connection(&peer, Auth::ClientCredentials(client(&peer))));
    for _ in 0..20 {
        assert_eq!(get(&live).await, Err(CallError::CredentialsRefused { status: 401 }));
    }
    assert_eq!((peer.counts().await["requests"], circuit(&live)), (1, BreakerState::Closed));
}

#[tokio::test]
async fn an_outage_of_the_server_opens_its_own_circuit_and_not_the_providers() {
    let peer = server(3600).await;
    peer.set(json!({"status": 503})).await;
    let live = live(connection(&peer, Auth::ClientCredentials(client(&peer))));
    let mut last = get(&live).await.unwrap_err();
    for _ in 0..5 {
        last = get(&live).await.unwrap_err();
    }
    assert!(matches!(last, CallError::TokenCircuitOpen { .. }), "{last}");
    assert_eq!((peer.counts().await["requests"], circuit(&live)), (5, BreakerState::Closed));
}

#[tokio::test]
async fn rotated_refresh_tokens_are_each_used_once_over_the_end_of_the_process() {
    let peer = server(2).await;
    let first = "canary-refresh-not-real";
    peer.set(json!({"refresh_token": first, "rotate": true})).await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("keys")).unwrap();
    std::fs::write(folder.path().join("keys/1"), [3; 32]).unwrap();
    for round in 1..=3 {
        let ledger =
            ledger::open(&LedgerUrl::Sqlite(folder.path().join("busbar.db")), OpenMode::Migrate).await.unwrap();
        let keys = Keyring::open(&folder.path().join("keys")).unwrap();
        let access = RegistryOptions {
            refresh_tokens: Some(RefreshTokenStore::new(ledger, keys)),
            ..RegistryOptions::allowing_loopback()
        };
        let registry = Registry::new(Clock::system(), &Metrics::new(), access).unwrap();
        let auth = Auth::RefreshToken { client: client(&peer), refresh_token: SecretString::from(first) };
        let settings = Settings::resolve(connection(&peer, auth)).unwrap();
        let live = registry.apply(&ObjectKey::new("treasury", "bank"), "uid-1", settings, None);
        assert_eq!(get(&live).await, Ok(200), "round {round}: {}", peer.log());
        tokio::time::sleep(Duration::from_millis(2100)).await;
        assert_eq!(get(&live).await, Ok(200), "round {round}, the token after");
    }
    let counts = peer.counts().await;
    assert_eq!((counts["refreshed"], counts["rejected"]), (6, 0), "no spent token was sent");
}
