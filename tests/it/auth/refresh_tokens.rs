//! Refresh tokens that a bank rotates, kept in a ledger file across restarts.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use busbar::ledger::encryption::Keyring;
use busbar::ledger::{self, CredentialStore, Ledger, LedgerUrl, OpenMode};
use busbar::provider::auth::refresh_token_store::RefreshTokenStore;
use busbar::provider::call::{CallError, TokenStoreError};
use busbar::provider::registry::{Registry, RegistryOptions};
use busbar::settings::{Auth, Draft, Settings};
use busbar::testbed::sim::{BankConfig, BankHandle, RequiredAuth, Sim};

use crate::kit::banks::start_bank;
use crate::kit::connections::{apply, draft, get, key, registry, registry_with, secret, token_client};
use crate::kit::time::ManualTime;

fn required(refresh_token: &str, seconds: u64) -> RequiredAuth {
    RequiredAuth::RefreshToken {
        client_id: "canary-client".to_owned(),
        client_secret: "canary-secret".to_owned(),
        refresh_token: refresh_token.to_owned(),
        expires_in_seconds: seconds,
    }
}

/// A token of two seconds has ended, by the bank's clock too.
const AFTER_TWO_SECONDS: Duration = Duration::from_millis(2_050);

async fn rotating(seconds: u64) -> (Sim, BankHandle) {
    start_bank(BankConfig::new("bank").auth(required("canary-refresh-1", seconds))).await
}

fn refresh_draft(bank: &BankHandle, refresh_token: &str, revision: &str) -> Draft {
    let mut draft = draft(bank.base_url());
    draft.auth = Auth::RefreshToken { client: token_client(bank.token_url()), refresh_token: secret(refresh_token) };
    draft.credential_revision = format!("bank@{revision}");
    draft
}

/// An operator with this ledger and these keys.
async fn operator(folder: &Path) -> (Registry, Arc<dyn Ledger>) {
    let ledger = ledger::open(&LedgerUrl::Sqlite(folder.join("ledger.db")), OpenMode::Migrate).await.unwrap();
    let keys = Keyring::open(&folder.join("keys")).unwrap();
    let refresh_tokens = Some(RefreshTokenStore::new(Arc::clone(&ledger) as Arc<dyn CredentialStore>, keys));
    (registry_with(RegistryOptions { refresh_tokens, ..RegistryOptions::allowing_loopback() }).0, ledger)
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("keys")).unwrap();
    std::fs::write(folder.path().join("keys/2026-11-22"), [7; 32]).unwrap();
    folder
}

#[tokio::test]
async fn a_rotated_refresh_token_survives_a_restart_encrypted() {
    let time = ManualTime::start();
    let (_sim, bank) = rotating(2).await;
    let folder = folder();
    let (first, ledger) = operator(folder.path()).await;
    let connection = apply(&first, refresh_draft(&bank, "canary-refresh-1", "1"));
    assert_eq!(get(&connection, "/health").await, Ok(200));
    time.advance(AFTER_TWO_SECONDS).await;
    assert_eq!(get(&connection, "/health").await, Ok(200), "with the second refresh token");
    ledger.close().await;
    drop((first, connection));
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            let readable = bytes.windows(11).any(|part| part == b"sim-refresh" || part == b"canary-refr");
            assert!(!readable, "{}", path.display());
        }
    }

    let (second, _ledger) = operator(folder.path()).await;
    let connection = apply(&second, refresh_draft(&bank, "canary-refresh-1", "1"));
    assert_eq!(get(&connection, "/health").await, Ok(200), "the token of the Secret was spent long ago");
    assert_eq!(bank.counters().tokens_refused, 0, "no spent token was sent");
}

#[tokio::test]
async fn only_a_new_refresh_token_in_the_secret_replaces_the_stored_one() {
    let (_sim, bank) = rotating(3600).await;
    let folder = folder();
    let (registry, _ledger) = operator(folder.path()).await;
    let connection = apply(&registry, refresh_draft(&bank, "canary-refresh-1", "1"));
    assert_eq!(get(&connection, "/health").await, Ok(200));
    // A label: another version of the Secret, the same token, which is spent.
    apply(&registry, refresh_draft(&bank, "canary-refresh-1", "2"));
    assert_eq!(get(&connection, "/health").await, Ok(200));
    assert_eq!((bank.counters().tokens_issued, bank.counters().tokens_refused), (2, 0));
    // The user gave a new consent.
    bank.set_auth(&required("canary-refresh-9", 3600)).unwrap();
    apply(&registry, refresh_draft(&bank, "canary-refresh-9", "3"));
    assert_eq!(get(&connection, "/health").await, Ok(200));
    assert_eq!((bank.counters().tokens_issued, bank.counters().tokens_refused), (3, 0));
}

#[tokio::test]
async fn two_processes_on_one_ledger_share_the_rotated_token() {
    let (_sim, bank) = rotating(3600).await;
    let folder = folder();
    let ((one, _a), (two, _b)) = (operator(folder.path()).await, operator(folder.path()).await);
    let (first, second) = (
        apply(&one, refresh_draft(&bank, "canary-refresh-1", "1")),
        apply(&two, refresh_draft(&bank, "canary-refresh-1", "1")),
    );
    let calls = (get(&first, "/health"), get(&second, "/health"));
    assert_eq!(futures::future::join(calls.0, calls.1).await, (Ok(200), Ok(200)));
    for _ in 0..3 {
        bank.revoke_tokens();
        assert_eq!(get(&first, "/health").await, Ok(200));
        assert_eq!(get(&second, "/health").await, Ok(200));
    }
}

#[tokio::test]
async fn without_a_key_for_rotated_tokens_nothing_is_sent() {
    let (_sim, bank) = rotating(3600).await;
    let (registry, _) = registry();
    let connection = registry.apply(
        &key("bank"),
        "uid-1",
        Settings::resolve(refresh_draft(&bank, "canary-refresh-1", "1")).unwrap(),
        None,
    );
    assert_eq!(get(&connection, "/health").await, Err(CallError::TokenStore(TokenStoreError::NoKey)));
    assert_eq!(bank.counters().connections, 0);
}
