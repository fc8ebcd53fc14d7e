//! Tokens of an OAuth2 server of another project: short lifetimes, unknown clients, rotated refresh tokens, an outage.

use std::time::Duration;

use busbar::clock::Clock;
use busbar::domain::breaker::BreakerState;
use busbar::ledger::encryption::Keyring;
use busbar::ledger::{self, LedgerUrl, OpenMode};
use busbar::provider::auth::refresh_token_store::RefreshTokenStore;
use busbar::provider::call::CallError;
use busbar::provider::connection::Connection;
use busbar::provider::registry::RegistryOptions;
use busbar::settings::{Auth, Draft, TokenClient};
use serde_json::json;

use super::{circuit, peer_draft};
use crate::cluster::peer_server::PeerServer;
use crate::kit::connections::{CLIENT_ID, CLIENT_SECRET, apply, connect, get, registry_with, secret, token_client};

fn server_client(peer: &PeerServer) -> TokenClient {
    TokenClient { scopes: vec!["dummy".to_owned()], ..token_client(format!("{}/token", peer.base())) }
}

fn resource_draft(peer: &PeerServer, auth: Auth) -> Draft {
    let mut draft = peer_draft("generic", peer.base().to_owned(), &[], &[]);
    draft.health_check.path = Some("/resource".to_owned());
    draft.auth = auth;
    draft
}

/// A server whose tokens connection for `seconds` and that knows our client only.
async fn server(seconds: u64) -> PeerServer {
    let peer = PeerServer::oauth2().await;
    peer.set(json!({"expires_in": seconds, "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET})).await;
    peer
}

async fn get_resource(connection: &Connection) -> Result<u16, CallError> {
    get(connection, "/resource").await
}

#[tokio::test]
async fn tokens_are_replaced_before_they_expire() {
    let peer = server(2).await;
    let connection = connect(resource_draft(&peer, Auth::ClientCredentials(server_client(&peer))));
    let clock = Clock::system();
    let began = clock.mono();
    let mut calls = 0;
    while clock.mono().since(began) < Duration::from_secs(5) {
        assert_eq!(get_resource(&connection).await, Ok(200), "{}", peer.log());
        calls += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let counts = peer.counts().await;
    assert_eq!(counts["unauthorized"], 0, "no token was used after its expiry");
    assert!((3..=7).contains(&counts["requests"]), "{} tokens for {calls} calls", counts["requests"]);

    // The last one expires without calls.
    let ends = connection.token_expires_at().unwrap();
    clock.sleep_until(clock.mono() + ends.since(connection.now()) + Duration::from_millis(50)).await;
    peer.set(json!({"expires_in": 3600, "delay_ms": 200})).await;
    let before = peer.counts().await["requests"];
    let ends = futures::future::join_all((0..1000).map(|_| get_resource(&connection))).await;
    assert!(ends.iter().all(|end| *end == Ok(200)), "{:?}", ends.iter().find(|end| **end != Ok(200)));
    assert_eq!(peer.counts().await["requests"], before + 1);
}

#[tokio::test]
async fn an_unknown_client_is_not_sent_at_every_call() {
    let peer = server(3600).await;
    peer.set(json!({"client_secret": "another"})).await;
    let connection = connect(resource_draft(&peer, Auth::ClientCredentials(server_client(&peer))));
    for _ in 0..20 {
        assert_eq!(get_resource(&connection).await, Err(CallError::CredentialsRefused { status: 401 }));
    }
    // Once in the form and once by Basic: it is not known yet which of them the server wants.
    assert_eq!((peer.counts().await["requests"], circuit(&connection)), (2, BreakerState::Closed));
}

#[tokio::test]
async fn an_outage_of_the_token_server_opens_its_own_circuit() {
    let peer = server(3600).await;
    peer.set(json!({"status": 503})).await;
    let connection = connect(resource_draft(&peer, Auth::ClientCredentials(server_client(&peer))));
    let mut last = get_resource(&connection).await.unwrap_err();
    for _ in 0..5 {
        last = get_resource(&connection).await.unwrap_err();
    }
    assert!(matches!(last, CallError::TokenCircuitOpen { .. }), "{last}");
    assert_eq!((peer.counts().await["requests"], circuit(&connection)), (5, BreakerState::Closed));
}

#[tokio::test]
async fn rotated_refresh_tokens_are_used_once_across_restarts() {
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
        let (registry, _) = registry_with(access);
        let auth = Auth::RefreshToken { client: server_client(&peer), refresh_token: secret(first) };
        let connection = apply(&registry, resource_draft(&peer, auth));
        assert_eq!(get_resource(&connection).await, Ok(200), "round {round}: {}", peer.log());
        tokio::time::sleep(Duration::from_millis(2100)).await;
        assert_eq!(get_resource(&connection).await, Ok(200), "round {round}, the token after");
    }
    let counts = peer.counts().await;
    assert_eq!((counts["refreshed"], counts["rejected"]), (6, 0), "no spent token was sent");
}
