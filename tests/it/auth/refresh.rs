//! Refresh tokens that a bank rotates, kept in a real ledger over the end of the process.

use std::path::Path;
use std::sync::Arc;

use busbar::ledger::encryption::Keyring;
use busbar::ledger::sqlite::SqliteLedger;
use busbar::ledger::{CredentialStore, Ledger as _};
use busbar::provider::auth::refresh_token_store::RefreshTokenStore;
use busbar::provider::call::{CallError, TokenStoreError};
use busbar::provider::registry::{Registry, RegistryOptions};
use busbar::settings::{Auth, Draft};
use busbar::testbed::sim::{BankConfig, BankHandle, RequiredAuth, Sim};

use super::{after, client, get, once, registry, secret};
use crate::call_path::{apply, bank, key};

fn wants(refresh_token: &str, seconds: u64) -> RequiredAuth {
    RequiredAuth::RefreshToken {
        client_id: "canary-client".to_owned(),
        client_secret: "canary-secret".to_owned(),
        refresh_token: refresh_token.to_owned(),
        expires_in_seconds: seconds,
    }
}

async fn rotating(seconds: u64) -> (Sim, BankHandle) {
    bank(BankConfig::new("bank").auth(wants("canary-refresh-1", seconds))).await
}

fn draft(bank: &BankHandle, refresh_token: &str, revision: &str) -> Draft {
    let mut draft = once(bank.base_url());
    draft.auth = Auth::RefreshToken { client: client(bank.token_url()), refresh_token: secret(refresh_token) };
    draft.credential_revision = format!("bank@{revision}");
    draft
}

/// An operator with this ledger and these keys.
async fn operator(folder: &Path) -> (Registry, Arc<SqliteLedger>) {
    let ledger = Arc::new(SqliteLedger::open(folder.join("ledger.db")).await.unwrap());
    let keys = Keyring::open(&folder.join("keys")).unwrap();
    let refresh_tokens = Some(RefreshTokenStore::new(Arc::clone(&ledger) as Arc<dyn CredentialStore>, keys));
    (registry(RegistryOptions { refresh_tokens, ..RegistryOptions::allowing_loopback() }).0, ledger)
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("keys")).unwrap();
    std::fs::write(folder.path().join("keys/2026-11-22"), [7; 32]).unwrap();
    folder
}

#[tokio::test]
async fn a_rotated_refresh_token_outlives_the_process_and_no_file_holds_it_readably() {
    let (_sim, bank) = rotating(2).await;
    let folder = folder();
    let (first, ledger) = operator(folder.path()).await;
    let live = apply(&first, draft(&bank, "canary-refresh-1", "1"));
    assert_eq!(get(&live, "/health").await, Ok(200));
    after(2).await;
    assert_eq!(get(&live, "/health").await, Ok(200), "with the second refresh token");
    ledger.close().await;
    drop((first, live));
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            let readable = bytes.windows(11).any(|part| part == b"sim-refresh" || part == b"canary-refr");
            assert!(!readable, "{}", path.display());
        }
    }

    let (second, _ledger) = operator(folder.path()).await;
    let live = apply(&second, draft(&bank, "canary-refresh-1", "1"));
    assert_eq!(get(&live, "/health").await, Ok(200), "the Secret's own token is spent since long");
    assert_eq!(bank.counters().tokens_refused, 0, "no spent token was sent");
}

#[tokio::test]
async fn a_new_refresh_token_in_the_secret_takes_over_and_a_mere_label_does_not() {
    let (_sim, bank) = rotating(3600).await;
    let folder = folder();
    let (registry, _ledger) = operator(folder.path()).await;
    let live = apply(&registry, draft(&bank, "canary-refresh-1", "1"));
    assert_eq!(get(&live, "/health").await, Ok(200));
    // A label: another version of the Secret, the same token, which is spent.
    apply(&registry, draft(&bank, "canary-refresh-1", "2"));
    assert_eq!(get(&live, "/health").await, Ok(200));
    assert_eq!((bank.counters().tokens_issued, bank.counters().tokens_refused), (2, 0));
    // The user gave a new consent.
    bank.set_auth(&wants("canary-refresh-9", 3600)).unwrap();
    apply(&registry, draft(&bank, "canary-refresh-9", "3"));
    assert_eq!(get(&live, "/health").await, Ok(200));
    assert_eq!((bank.counters().tokens_issued, bank.counters().tokens_refused), (3, 0));
}

#[tokio::test]
async fn two_processes_on_one_ledger_go_on_with_what_the_other_kept() {
    let (_sim, bank) = rotating(3600).await;
    let folder = folder();
    let ((one, _a), (two, _b)) = (operator(folder.path()).await, operator(folder.path()).await);
    let (first, second) =
        (apply(&one, draft(&bank, "canary-refresh-1", "1")), apply(&two, draft(&bank, "canary-refresh-1", "1")));
    let calls = (get(&first, "/health"), get(&second, "/health"));
    assert_eq!(futures::future::join(calls.0, calls.1).await, (Ok(200), Ok(200)));
    for _ in 0..3 {
        bank.revoke_tokens();
        assert_eq!(get(&first, "/health").await, Ok(200));
        assert_eq!(get(&second, "/health").await, Ok(200));
    }
}

#[tokio::test]
async fn without_a_place_to_keep_a_rotated_token_nothing_is_sent() {
    let (_sim, bank) = rotating(3600).await;
    let (registry, _) = registry(RegistryOptions::allowing_loopback());
    let live = registry.apply(
        &key("bank"),
        "uid-1",
        busbar::settings::Settings::resolve(draft(&bank, "canary-refresh-1", "1")).unwrap(),
        None,
    );
    assert_eq!(get(&live, "/health").await, Err(CallError::TokenStore(TokenStoreError::NoKey)));
    assert_eq!(bank.counters().connections, 0);
}
