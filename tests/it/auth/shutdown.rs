//! A token refresh that is under way when the process ends: the provider has spent the refresh token, so its successor
//! must be stored.

use std::path::Path;
use std::sync::Arc;

use busbar::ledger::encryption::Keyring;
use busbar::ledger::{self, CredentialStore, Ledger, LedgerUrl, OpenMode};
use busbar::provider::auth::refresh_token_store::RefreshTokenStore;
use busbar::provider::registry::{Registry, RegistryOptions};
use busbar::settings::{Auth, Draft};
use busbar::tasks::TaskGroups;

use crate::kit::connections::{apply, draft, get, registry_with, secret, token_client};
use crate::kit::token_server::TokenServer;
use crate::kit::wait::PATIENCE;

struct Process {
    registry: Registry,
    ledger: Arc<dyn Ledger>,
    groups: TaskGroups,
}

impl Process {
    async fn start(folder: &Path) -> Self {
        let ledger = ledger::open(&LedgerUrl::Sqlite(folder.join("ledger.db")), OpenMode::Migrate).await.unwrap();
        let groups = TaskGroups::default();
        let keys = Keyring::open(&folder.join("keys")).unwrap();
        let options = RegistryOptions {
            refresh_tokens: Some(RefreshTokenStore::new(Arc::clone(&ledger) as Arc<dyn CredentialStore>, keys)),
            tasks: groups.effects.clone(),
            ..RegistryOptions::allowing_loopback()
        };
        Self { registry: registry_with(options).0, ledger, groups }
    }
}

fn refresh_draft(server: &TokenServer) -> Draft {
    let mut draft = draft(server.url());
    draft.auth =
        Auth::RefreshToken { client: token_client(server.token_url()), refresh_token: secret("canary-refresh-1") };
    "bank@1".clone_into(&mut draft.credential_revision);
    draft
}

#[tokio::test]
async fn a_refresh_under_way_at_the_end_is_waited_for_and_stored() {
    let server = TokenServer::start("canary-refresh-1", 3600).await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("keys")).unwrap();
    std::fs::write(folder.path().join("keys/2026-11-22"), [7; 32]).unwrap();
    let first = Process::start(folder.path()).await;
    let connection = apply(&first.registry, refresh_draft(&server));
    server.hold();
    let call = tokio::spawn(async move { get(&connection, "/health").await });
    server.arrived(1).await;
    // The caller is gone, as at the end of the process.
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    drop(first.registry);
    // Polled in this order: the drain begins before the answer comes.
    let release = async { server.release() };
    let (running, ()) = tokio::join!(biased; first.groups.effects.drain(PATIENCE), release);
    assert_eq!(running, [""; 0]);
    first.ledger.close().await;

    let second = Process::start(folder.path()).await;
    let connection = apply(&second.registry, refresh_draft(&server));
    assert_eq!(get(&connection, "/health").await, Ok(200));
    assert_eq!(server.sent(), ["canary-refresh-1", "canary-rotated-1"], "no spent token was sent");
}
