//! Rotated refresh tokens: with several replicas, a failing ledger, removed keys and changed Secrets.

use std::sync::atomic::AtomicBool;

use super::*;
use crate::domain::key::ObjectKey;
use crate::ledger::encryption::Keyring;
use crate::ledger::lease_holder::memory::MemoryLeases;
use crate::ledger::{
    CredentialStore, Lease, LeaseOutcome, LeaseStore, LedgerError, LedgerFuture, StoredCredential, StoredLease,
};
use crate::provider::auth::refresh_token_store::{RefreshTokenBinding, RefreshTokenStore, RotatedToken};
use crate::provider::call::TokenStoreError;

/// An in-memory store that can be made to fail.
#[derive(Default)]
pub(super) struct MemoryStore {
    rows: Mutex<std::collections::HashMap<ObjectKey, StoredCredential>>,
    pub(super) leases: MemoryLeases,
    /// Whether it takes no credential.
    refuses: AtomicBool,
}

impl LeaseStore for MemoryStore {
    fn acquire_lease<'a>(
        &'a self,
        name: &'a str,
        holder: &'a str,
        ttl: Duration,
        now: jiff::Timestamp,
        stale: Option<StoredLease>,
    ) -> LedgerFuture<'a, LeaseOutcome> {
        self.leases.acquire_lease(name, holder, ttl, now, stale)
    }

    fn renew_lease<'a>(&'a self, lease: &'a Lease, ttl: Duration, now: jiff::Timestamp) -> LedgerFuture<'a, bool> {
        self.leases.renew_lease(lease, ttl, now)
    }

    fn release_lease<'a>(&'a self, lease: &'a Lease) -> LedgerFuture<'a, ()> {
        self.leases.release_lease(lease)
    }
}

impl CredentialStore for MemoryStore {
    fn load_credential<'a>(&'a self, connection: &'a ObjectKey) -> LedgerFuture<'a, Option<StoredCredential>> {
        async move { self.leases.check().map(|()| self.rows.lock().unwrap().get(connection).cloned()) }.boxed()
    }

    fn store_credential<'a>(
        &'a self,
        connection: &'a ObjectKey,
        credential: &'a StoredCredential,
        _: jiff::Timestamp,
    ) -> LedgerFuture<'a, Option<i64>> {
        async move {
            self.leases.check()?;
            if self.refuses.load(Ordering::Relaxed) {
                return Err(LedgerError::SchemaOutdated);
            }
            let mut rows = self.rows.lock().unwrap();
            if rows.get(connection).map_or(0, |row| row.version) != credential.version {
                return Ok(None);
            }
            let next = StoredCredential { version: credential.version + 1, ..credential.clone() };
            rows.insert(connection.clone(), next);
            Ok(Some(credential.version + 1))
        }
        .boxed()
    }
}

/// The current refresh token in the Secret.
pub(super) struct CurrentSecret(pub(super) Mutex<Option<String>>);

impl SecretSource for CurrentSecret {
    fn settings<'a>(&'a self, _: &'a ObjectKey, _: Mono) -> BoxFuture<'a, Option<Arc<Settings>>> {
        async {
            let now = self.0.lock().unwrap().clone()?;
            Some(RefreshSpec { refresh_token: &now, ..REFRESH }.settings())
        }
        .boxed()
    }
}

/// An operator's keys, the shared ledger, the token server and the Secret.
pub(super) struct RotationFixture {
    pub(super) store: Arc<MemoryStore>,
    keys: tempfile::TempDir,
    pub(super) server: Arc<FakeTokenServer>,
    pub(super) secret_now: Arc<CurrentSecret>,
}

impl RotationFixture {
    pub(super) fn new() -> Self {
        let keys = tempfile::tempdir().unwrap();
        std::fs::write(keys.path().join("1"), [1; 32]).unwrap();
        let server = Arc::new(FakeTokenServer {
            rotates: true,
            valid_token: Mutex::new("canary-first".to_owned()),
            ..FakeTokenServer::default()
        });
        Self { store: Arc::default(), keys, server, secret_now: Arc::new(CurrentSecret(Mutex::new(None))) }
    }

    pub(super) fn rotation(&self, spec: RefreshSpec<'_>) -> Rotation {
        let store = Arc::clone(&self.store) as Arc<dyn CredentialStore>;
        let entry = RefreshTokenEntry {
            store: RefreshTokenStore::new(store, Keyring::open(self.keys.path()).unwrap()),
            clock: Clock::starting_at("2026-01-01T00:00:00Z".parse().unwrap()),
            connection: ObjectKey::new("ns", "bank"),
            request_timeout: Duration::from_secs(30),
            tasks: crate::tasks::TaskGroup::default(),
        };
        Rotation { settings: spec.settings(), entry, secrets: Arc::clone(&self.secret_now) as Arc<dyn SecretSource> }
    }

    /// Another process, whose connection is this one.
    pub(super) fn process(&self, spec: RefreshSpec<'_>) -> Arc<AccessTokenCache> {
        tokens_of(&monitor(&settings(|_| {})), &self.server, Some(self.rotation(spec)))
    }

    /// Another replica, with the Secret as it was when it read it.
    fn replica(&self, origin: &str) -> Arc<AccessTokenCache> {
        self.process(RefreshSpec { refresh_token: origin, ..REFRESH })
    }

    fn replica_on(&self, monitor: &Arc<ConnectionMonitor>, origin: &str) -> Arc<AccessTokenCache> {
        tokens_of(monitor, &self.server, Some(self.rotation(RefreshSpec { refresh_token: origin, ..REFRESH })))
    }

    pub(super) fn version(&self) -> i64 {
        self.store.rows.lock().unwrap().values().next().map_or(0, |row| row.version)
    }

    pub(super) fn sent(&self) -> Vec<String> {
        std::mem::take(&mut self.server.received.lock().unwrap())
    }
}

#[tokio::test(start_paused = true)]
async fn a_rotated_refresh_token_is_stored_encrypted_and_outlives_the_process() {
    let fixture = RotationFixture::new();
    let first = fixture.replica("canary-first");
    first.get().await.unwrap();
    assert_eq!((fixture.version(), fixture.sent()), (1, vec!["canary-first".to_owned()]));
    let sealed = fixture.store.rows.lock().unwrap().values().next().unwrap().ciphertext.clone();
    assert!(!sealed.windows(6).any(|bytes| bytes == b"canary"));
    drop(first);
    fixture.replica("canary-first").get().await.unwrap();
    assert_eq!((fixture.version(), fixture.sent()), (2, vec!["canary-rotated-1".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn no_access_token_is_used_and_no_rotation_lost_while_the_ledger_fails() {
    let fixture = RotationFixture::new();
    let tokens = fixture.replica("canary-first");
    let failed = Some(CallError::TokenStore(TokenStoreError::Ledger));
    fixture.store.leases.set_unavailable(true);
    assert_eq!(tokens.get().await.err(), failed);
    assert_eq!(fixture.server.requests(), 0, "an unread token is not spent");
    fixture.store.leases.set_unavailable(false);
    // The ledger fails between the read and the write.
    let (store, call) = (Arc::clone(&fixture.store), tokens.get());
    let fail = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        store.leases.set_unavailable(true);
    };
    assert_eq!(futures::future::join(call, fail).await.0.err(), failed);
    assert_eq!(tokens.get().await.err(), failed);
    assert_eq!((fixture.server.requests(), fixture.version()), (1, 0), "the spent token is not sent again");
    fixture.store.leases.set_unavailable(false);
    assert_eq!(tokens.get().await.unwrap().header(), "Bearer canary-1");
    assert_eq!((fixture.server.requests(), fixture.version()), (1, 1));
    sleep_secs(3600).await;
    tokens.get().await.unwrap();
    assert_eq!(fixture.sent(), ["canary-first", "canary-rotated-1"]);
}

#[tokio::test(start_paused = true)]
async fn concurrent_callers_send_one_refresh_token_and_share_the_access_token() {
    let fixture = RotationFixture::new();
    let tokens = fixture.replica("canary-first");
    let (one, two) = futures::future::join(tokens.get(), tokens.get()).await;
    assert_eq!(one.unwrap().header(), two.unwrap().header());
    assert_eq!((fixture.sent(), fixture.version()), (vec!["canary-first".to_owned()], 1));
}

#[tokio::test(start_paused = true)]
async fn a_settings_change_during_a_refresh_never_reuses_the_refresh_token() {
    let fixture = RotationFixture::new();
    // A label on the Secret makes new settings and a new token cache while a call with the old ones is in flight.
    let monitor = monitor(&settings(|_| {}));
    let (old, new) = (fixture.replica_on(&monitor, "canary-first"), fixture.replica_on(&monitor, "canary-first"));
    let (one, two) = futures::future::join(old.get(), new.get()).await;
    assert!(one.is_ok() && two.is_ok());
    assert_eq!(fixture.sent(), ["canary-first", "canary-rotated-1"]);
}

#[tokio::test(start_paused = true)]
async fn a_second_replica_continues_with_the_token_the_first_one_stored() {
    let fixture = RotationFixture::new();
    let (one, two) = (fixture.replica("canary-first"), fixture.replica("canary-first"));
    let (first, second) = futures::future::join(one.get(), two.get()).await;
    assert!(first.is_ok() && second.is_ok(), "{:?}", second.err());
    assert_eq!(fixture.sent(), ["canary-first", "canary-rotated-1"], "the second waited");
    assert_eq!(fixture.version(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_slow_writer_does_not_overwrite_a_newer_stored_token() {
    let fixture = RotationFixture::new();
    let slow = fixture.replica("canary-first");
    let (store, server) = (Arc::clone(&fixture.store), Arc::clone(&fixture.server));
    let meanwhile = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        // Another replica was faster, and the provider accepts both.
        let Rotation { entry, settings, .. } = fixture.rotation(REFRESH);
        let (theirs, first) = (secret("canary-theirs"), secret(REFRESH.refresh_token));
        let binding = &RefreshTokenBinding::of(&settings).unwrap();
        let theirs = RotatedToken { version: 0, token: &theirs, origin: &first, binding, secret: "bank@1" };
        assert!(entry.store(theirs).await.unwrap());
        tokio::time::sleep(Duration::from_millis(100)).await;
        *server.valid_token.lock().unwrap() = "canary-theirs".to_owned();
    };
    let (token, ()) = futures::future::join(slow.get(), meanwhile).await;
    assert!(token.is_ok(), "{:?}", token.err());
    assert_eq!(fixture.sent(), ["canary-first", "canary-theirs"]);
    assert_eq!(store.rows.lock().unwrap().values().next().unwrap().version, 2);
}

#[tokio::test(start_paused = true)]
async fn a_new_token_in_the_secret_supersedes_the_stored_one() {
    let fixture = RotationFixture::new();
    fixture.replica("canary-first").get().await.unwrap();
    *fixture.server.valid_token.lock().unwrap() = "canary-second".to_owned();
    fixture.replica("canary-second").get().await.unwrap();
    assert_eq!(fixture.sent(), ["canary-first", "canary-second"]);
    assert_eq!(fixture.version(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refused_call_finds_the_secret_that_was_rotated_just_now() {
    let fixture = RotationFixture::new();
    *fixture.server.valid_token.lock().unwrap() = "canary-second".to_owned();
    *fixture.secret_now.0.lock().unwrap() = Some("canary-second".to_owned());
    let tokens = fixture.replica("canary-first");
    assert!(tokens.get().await.is_ok());
    assert_eq!(fixture.sent(), ["canary-first", "canary-second"]);
    // The stored token descends from the new one.
    fixture.replica("canary-second").get().await.unwrap();
    assert_eq!(fixture.sent(), ["canary-rotated-2"]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_refresh_token_is_reread_once_and_then_reported_refused() {
    let fixture = RotationFixture::new();
    *fixture.server.valid_token.lock().unwrap() = "canary-unknown".to_owned();
    let tokens = fixture.replica("canary-first");
    assert_eq!(tokens.get().await.err(), Some(CallError::CredentialsRefused { status: 400 }));
    *fixture.secret_now.0.lock().unwrap() = Some("canary-also-wrong".to_owned());
    sleep_secs(6).await;
    assert_eq!(tokens.get().await.err(), Some(CallError::CredentialsRefused { status: 400 }));
    assert_eq!(fixture.sent(), ["canary-first", "canary-first", "canary-also-wrong"]);
}

#[tokio::test(start_paused = true)]
async fn without_the_encryption_key_the_spent_token_is_not_sent() {
    let fixture = RotationFixture::new();
    fixture.replica("canary-first").get().await.unwrap();
    fixture.sent();
    std::fs::remove_file(fixture.keys.path().join("1")).unwrap();
    std::fs::write(fixture.keys.path().join("2"), [2; 32]).unwrap();
    let tokens = fixture.replica("canary-first");
    assert_eq!(tokens.get().await.err(), Some(CallError::TokenStore(TokenStoreError::UnknownKey)));
    assert_eq!(fixture.sent(), Vec::<String>::new());
    // Another token in the Secret starts a new grant.
    *fixture.server.valid_token.lock().unwrap() = "canary-new".to_owned();
    let new = RefreshSpec { refresh_token: "canary-new", revision: "bank@2", ..REFRESH };
    assert!(fixture.process(new).get().await.is_ok());
    // The new key decrypts what it encrypted, also after the old key is added again.
    std::fs::write(fixture.keys.path().join("1"), [1; 32]).unwrap();
    assert!(fixture.replica("canary-new").get().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_label_on_the_secret_does_not_revive_a_spent_token() {
    let fixture = RotationFixture::new();
    fixture.replica("canary-first").get().await.unwrap();
    fixture.sent();
    std::fs::remove_file(fixture.keys.path().join("1")).unwrap();
    std::fs::write(fixture.keys.path().join("2"), [2; 32]).unwrap();
    let end = fixture.process(RefreshSpec { revision: "bank@2", ..REFRESH }).get().await;
    assert_eq!(end.err(), Some(CallError::TokenStore(TokenStoreError::UnknownKey)));
    assert_eq!(fixture.sent(), Vec::<String>::new(), "the spent token is not sent");
    let note = fixture.store.rows.lock().unwrap().values().next().unwrap().secret.clone();
    assert!(note.starts_with("bank@1#") && !note.contains("canary"), "{note}");
}

#[tokio::test(start_paused = true)]
async fn without_rotation_nothing_is_stored_in_the_ledger() {
    let mut fixture = RotationFixture::new();
    fixture.server =
        Arc::new(FakeTokenServer { valid_token: Mutex::new("canary-first".to_owned()), ..FakeTokenServer::default() });
    let tokens = fixture.replica("canary-first");
    tokens.get().await.unwrap();
    sleep_secs(3600).await;
    tokens.get().await.unwrap();
    assert_eq!((fixture.version(), fixture.sent().len()), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn the_lock_of_a_dead_replica_expires() {
    let fixture = RotationFixture::new();
    let gone = fixture.rotation(REFRESH).entry;
    gone.lock("dead replica").await.unwrap();
    let tokens = fixture.replica("canary-first");
    assert_eq!(tokens.get().await.err(), Some(CallError::TokenStore(TokenStoreError::Busy)));
    assert_eq!(fixture.server.requests(), 0);
    sleep_secs(70).await;
    assert!(tokens.get().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn while_a_rotation_waits_to_be_stored_no_other_replica_sends_its_predecessor() {
    let fixture = RotationFixture::new();
    let (one, two) = (fixture.replica("canary-first"), fixture.replica("canary-first"));
    fixture.store.refuses.store(true, Ordering::Relaxed);
    assert_eq!(one.get().await.err(), Some(CallError::TokenStore(TokenStoreError::Ledger)));
    assert_eq!(two.get().await.err(), Some(CallError::TokenStore(TokenStoreError::Busy)));
    assert_eq!((fixture.server.requests(), fixture.version()), (1, 0));
    fixture.store.refuses.store(false, Ordering::Relaxed);
    sleep_secs(60).await;
    assert_eq!(fixture.version(), 1, "the first one stored it");
    assert!(two.get().await.is_ok());
    assert_eq!(fixture.sent(), ["canary-first", "canary-rotated-1"]);
}
