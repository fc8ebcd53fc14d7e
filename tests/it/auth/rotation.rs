//! A credential that is replaced in the Secret while calls are being made: a refused call finds the new one by itself.

use std::sync::Arc;

use busbar::provider::connection::Connection;
use busbar::provider::registry::Registry;
use busbar::settings::{Auth, Draft, Placement};
use busbar::testbed::sim::{BankConfig, BankHandle, RequiredAuth};
use futures::future::join_all;

use super::SecretStub;
use crate::kit::banks::{plain_bank, start_bank};
use crate::kit::connections::{apply, draft, get, registry, required_oauth2_with, secret, token_client};
use crate::kit::wait::eventually;

/// One kind of credential with `value`: what the bank requires, and what the connection sends.
fn credential(name: &str, value: &str, bank: &BankHandle) -> (RequiredAuth, Auth) {
    let text = || value.to_owned();
    let key =
        |placement| Auth::ApiKey { placement, name: "x-key".to_owned(), prefix: String::new(), key: secret(value) };
    match name {
        "bearer" => (RequiredAuth::Bearer { token: text() }, Auth::Bearer { token: secret(value) }),
        "basic" => (
            RequiredAuth::Basic { username: "busbar".to_owned(), password: text() },
            Auth::Basic { username: secret("busbar"), password: secret(value) },
        ),
        "header" => (RequiredAuth::ApiKeyHeader { name: "x-key".to_owned(), value: text() }, key(Placement::Header)),
        "query" => (RequiredAuth::ApiKeyQuery { name: "x-key".to_owned(), value: text() }, key(Placement::Query)),
        "profile" => (
            RequiredAuth::ApiKeyHeader { name: "x-key".to_owned(), value: text() },
            Auth::Profile { headers: vec![("x-key".to_owned(), secret(value))], query: Vec::new(), body: Vec::new() },
        ),
        _ => {
            let mut ours = token_client(bank.token_url());
            ours.client_secret = secret(value);
            (required_oauth2_with(value, 3600), Auth::ClientCredentials(ours))
        }
    }
}

const KINDS: [&str; 6] = ["bearer", "basic", "header", "query", "profile", "oauth"];

/// A connection, and the Secret that it would read.
fn connect_with(draft: Draft, in_secret: Option<Draft>) -> (Registry, Arc<Connection>, Arc<SecretStub>) {
    let (registry, _) = registry();
    let stub = SecretStub::install(&registry, in_secret);
    let connection = apply(&registry, draft);
    (registry, connection, stub)
}

fn drafted(bank: &BankHandle, auth: Auth, version: u32) -> Draft {
    let mut draft = draft(bank.base_url());
    draft.auth = auth;
    draft.credential_revision = format!("bank@{version}");
    draft
}

#[tokio::test]
async fn fifty_callers_during_a_rotation_see_no_failure() {
    for name in KINDS {
        let (_sim, bank) = plain_bank().await;
        let ((old_required, old), (new_required, new)) =
            (credential(name, "canary-old", &bank), credential(name, "canary-new", &bank));
        bank.set_auth(&old_required).unwrap();
        let (registry, connection, stub) = connect_with(drafted(&bank, old, 1), None);
        let changes = registry.subscribe_changes();
        assert_eq!(get(&connection, "/health").await, Ok(200), "{name}");
        while changes.try_take().is_some() {}
        let calling = join_all((0..50).map(|_| async {
            let mut ends = Vec::new();
            for _ in 0..20 {
                ends.push(get(&connection, "/health").await);
            }
            ends
        }));
        let rotating = async {
            // In the middle of the thousand calls.
            eventually("some calls are done", async || bank.counters().requests > 200).await;
            stub.put(drafted(&bank, new, 2));
            bank.set_auth(&new_required).unwrap();
            bank.revoke_tokens();
        };
        let (ends, ()) = futures::future::join(calling, rotating).await;
        assert!(ends.iter().flatten().all(|end| *end == Ok(200)), "{name}: {ends:?}");
        assert_eq!(get(&connection, "/health").await, Ok(200), "{name}");
        assert_eq!(stub.reads(), 1, "{name}: read once for all");
        assert!(changes.try_take().is_some(), "{name}: the controller is notified");
        assert_eq!(connection.snapshot().authenticated, Some(true), "{name}");
    }
}

#[tokio::test]
async fn one_refused_request_reveals_a_rotation() {
    for name in KINDS {
        let (_sim, bank) = plain_bank().await;
        let ((old_required, old), (new_required, new)) =
            (credential(name, "canary-old", &bank), credential(name, "canary-new", &bank));
        bank.set_auth(&old_required).unwrap();
        let (_registry, connection, stub) = connect_with(drafted(&bank, old, 1), None);
        assert_eq!(get(&connection, "/health").await, Ok(200), "{name}");
        stub.put(drafted(&bank, new, 2));
        bank.set_auth(&new_required).unwrap();
        bank.revoke_tokens();
        bank.clear_arrivals();
        for _ in 0..5 {
            assert_eq!(get(&connection, "/health").await, Ok(200), "{name}");
        }
        let refused = bank.arrivals().entries.iter().filter(|a| a.path == "/health" && a.status != Some(200)).count();
        assert_eq!(refused, 1, "{name}");
    }
}

#[tokio::test]
async fn a_wrong_credential_does_not_read_the_secret_at_every_call() {
    let (_sim, bank) =
        start_bank(BankConfig::new("bank").auth(RequiredAuth::Bearer { token: "canary-right".to_owned() })).await;
    let wrong = drafted(&bank, Auth::Bearer { token: secret("canary-wrong") }, 1);
    let (_registry, connection, stub) = connect_with(wrong.clone(), Some(wrong));
    let ends = join_all((0..50).map(|_| get(&connection, "/health"))).await;
    assert!(ends.iter().all(|end| *end == Ok(401)), "{ends:?}");
    assert_eq!((stub.reads(), bank.counters().requests), (1, 50), "nothing is sent twice for nothing");
    assert_eq!(connection.snapshot().authenticated, Some(false));
}

#[tokio::test]
async fn a_credential_of_another_endpoint_is_not_sent_to_the_old_one() {
    let (sim, bank) =
        start_bank(BankConfig::new("bank").auth(RequiredAuth::Bearer { token: "canary-right".to_owned() })).await;
    let elsewhere = sim.add_bank(BankConfig::new("elsewhere")).await.unwrap();
    let wrong = drafted(&bank, Auth::Bearer { token: secret("canary-wrong") }, 1);
    // The spec and its Secret changed together, and the spec is not applied yet.
    let moved = drafted(&elsewhere, Auth::Bearer { token: secret("canary-right") }, 2);
    let (_registry, connection, stub) = connect_with(wrong, Some(moved));
    assert_eq!(get(&connection, "/health").await, Ok(401));
    assert_eq!((stub.reads(), bank.counters().requests, elsewhere.counters().requests), (1, 1, 0));
}
