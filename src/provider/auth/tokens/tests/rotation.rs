//! Refresh tokens that the bank rotates, between replicas, a ledger that fails, keys that go and Secrets that change.

use super::*;
use crate::domain::key::ObjectKey;
use crate::ledger::sealed::Keyring;
use crate::ledger::{CredentialStore, KeptCredential, Lease, LedgerError, Reply};
use crate::provider::auth::vault::Vault;
use crate::provider::call::KeepProblem;

/// A store in memory that can be made to fail.
#[derive(Default)]
struct Store {
    rows: Mutex<std::collections::HashMap<ObjectKey, KeptCredential>>,
    lock: Mutex<Option<Lease>>,
    fails: AtomicBool,
}

impl Store {
    fn check(&self) -> Result<(), LedgerError> {
        if self.fails.load(Ordering::Relaxed) { Err(LedgerError::SchemaBehind) } else { Ok(()) }
    }
}

impl CredentialStore for Store {
    fn lock_credential<'a>(
        &'a self,
        connection: &'a ObjectKey,
        holder: &'a str,
        ttl: Duration,
        now: jiff::Timestamp,
    ) -> Reply<'a, Option<Lease>> {
        async move {
            self.check()?;
            let mut lock = self.lock.lock().unwrap();
            if lock.as_ref().is_some_and(|held| held.holder != holder && held.expires > now) {
                return Ok(None);
            }
            let (name, holder) = (connection.to_string(), holder.to_owned());
            *lock = Some(Lease { name, holder, fence: 1, expires: now + ttl });
            Ok(lock.clone())
        }
        .boxed()
    }

    fn unlock_credential<'a>(&'a self, lock: &'a Lease) -> Reply<'a, ()> {
        async move {
            assert_eq!(self.lock.lock().unwrap().take().as_ref(), Some(lock));
            Ok(())
        }
        .boxed()
    }

    fn load_credential<'a>(&'a self, connection: &'a ObjectKey) -> Reply<'a, Option<KeptCredential>> {
        async move { self.check().map(|()| self.rows.lock().unwrap().get(connection).cloned()) }.boxed()
    }

    fn keep_credential<'a>(
        &'a self,
        connection: &'a ObjectKey,
        kept: &'a KeptCredential,
        _: jiff::Timestamp,
    ) -> Reply<'a, Option<i64>> {
        async move {
            self.check()?;
            let mut rows = self.rows.lock().unwrap();
            if rows.get(connection).map_or(0, |row| row.version) != kept.version {
                return Ok(None);
            }
            let next = KeptCredential { version: kept.version + 1, ..kept.clone() };
            rows.insert(connection.clone(), next);
            Ok(Some(kept.version + 1))
        }
        .boxed()
    }
}

/// What the Secret says at this moment.
struct Now(Mutex<Option<String>>);

impl SecretSource for Now {
    fn settings<'a>(&'a self, _: &'a ObjectKey, _: Mono) -> BoxFuture<'a, Option<Settings>> {
        async {
            let now = self.0.lock().unwrap().as_deref().map(secret)?;
            Some((*of_secret(now)).clone())
        }
        .boxed()
    }
}

/// One operator's view: its keys and the ledger that it shares.
struct World {
    store: Arc<Store>,
    keys: tempfile::TempDir,
    bank: Arc<Bank>,
    secret_now: Arc<Now>,
}

impl World {
    fn new() -> Self {
        let keys = tempfile::tempdir().unwrap();
        std::fs::write(keys.path().join("1"), [1; 32]).unwrap();
        let bank = Arc::new(Bank { rotates: true, good: Mutex::new("canary-first".to_owned()), ..Bank::default() });
        Self { store: Arc::default(), keys, bank, secret_now: Arc::new(Now(Mutex::new(None))) }
    }

    fn rotation(&self, origin: &str, revision: &str, token_url: &str) -> Rotation {
        let store = Arc::clone(&self.store) as Arc<dyn CredentialStore>;
        let safe = Safe {
            vault: Vault::new(store, Keyring::open(self.keys.path()).unwrap()),
            clock: Clock::starting_at("2026-01-01T00:00:00Z".parse().unwrap()),
            connection: ObjectKey::new("ns", "bank"),
            token_url: token_url.to_owned(),
            secret: revision.to_owned(),
            longest: Duration::from_secs(30),
        };
        Rotation { origin: secret(origin), safe, secrets: Arc::clone(&self.secret_now) as Arc<dyn SecretSource> }
    }

    /// A process of its own, with the Secret as it was when it looked.
    fn replica(&self, origin: &str) -> Arc<Tokens> {
        self.replica_on(&core(&settings(|_| {})), origin)
    }

    fn replica_on(&self, core: &Arc<Core>, origin: &str) -> Arc<Tokens> {
        tokens_of(core, &self.bank, Some(self.rotation(origin, "bank@1", "https://bank.test/token")))
    }

    fn version(&self) -> i64 {
        self.store.rows.lock().unwrap().values().next().map_or(0, |row| row.version)
    }

    fn sent(&self) -> Vec<String> {
        std::mem::take(&mut self.bank.sent.lock().unwrap())
    }
}

#[tokio::test(start_paused = true)]
async fn a_rotated_refresh_token_is_kept_before_its_access_token_is_used_and_outlives_the_process() {
    let world = World::new();
    let first = world.replica("canary-first");
    first.get().await.unwrap();
    assert_eq!((world.version(), world.sent()), (1, vec!["canary-first".to_owned()]));
    let sealed = world.store.rows.lock().unwrap().values().next().unwrap().sealed.clone();
    assert!(!sealed.windows(6).any(|bytes| bytes == b"canary"));
    drop(first);
    world.replica("canary-first").get().await.unwrap();
    assert_eq!((world.version(), world.sent()), (2, vec!["canary-rotated-1".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn while_the_ledger_fails_no_access_token_is_used_and_no_rotated_token_is_lost() {
    let world = World::new();
    let tokens = world.replica("canary-first");
    let failed = Some(CallError::NotKept(KeepProblem::Ledger));
    world.store.fails.store(true, Ordering::Relaxed);
    assert_eq!(tokens.get().await.err(), failed);
    assert_eq!(world.bank.asked(), 0, "what is not read is not spent");
    world.store.fails.store(false, Ordering::Relaxed);
    // It fails just between the reading and the writing.
    let (store, call) = (Arc::clone(&world.store), tokens.get());
    let fail = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        store.fails.store(true, Ordering::Relaxed);
    };
    assert_eq!(futures::future::join(call, fail).await.0.err(), failed);
    assert_eq!(tokens.get().await.err(), failed);
    assert_eq!((world.bank.asked(), world.version()), (1, 0), "the spent token is not sent again");
    world.store.fails.store(false, Ordering::Relaxed);
    assert_eq!(tokens.get().await.unwrap().header(), "Bearer canary-1");
    assert_eq!((world.bank.asked(), world.version()), (1, 1));
    pass(3600).await;
    tokens.get().await.unwrap();
    assert_eq!(world.sent(), ["canary-first", "canary-rotated-1"]);
}

#[tokio::test(start_paused = true)]
async fn two_callers_of_one_connection_send_one_refresh_token_and_share_what_it_brings() {
    let world = World::new();
    let tokens = world.replica("canary-first");
    let (one, two) = futures::future::join(tokens.get(), tokens.get()).await;
    assert_eq!(one.unwrap().header(), two.unwrap().header());
    assert_eq!((world.sent(), world.version()), (vec!["canary-first".to_owned()], 1));
}

#[tokio::test(start_paused = true)]
async fn two_callers_in_one_process_never_send_the_same_refresh_token() {
    let world = World::new();
    // The Secret got a label: new settings, and with them new tokens, while a call with the old ones is on its way.
    let core = core(&settings(|_| {}));
    let (old, new) = (world.replica_on(&core, "canary-first"), world.replica_on(&core, "canary-first"));
    let (one, two) = futures::future::join(old.get(), new.get()).await;
    assert!(one.is_ok() && two.is_ok());
    assert_eq!(world.sent(), ["canary-first", "canary-rotated-1"]);
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_comes_second_goes_on_with_what_the_first_kept() {
    let world = World::new();
    let (one, two) = (world.replica("canary-first"), world.replica("canary-first"));
    let (first, second) = futures::future::join(one.get(), two.get()).await;
    assert!(first.is_ok() && second.is_ok(), "{:?}", second.err());
    assert_eq!(world.sent(), ["canary-first", "canary-rotated-1"], "the second waited");
    assert_eq!(world.version(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_slept_through_a_change_does_not_undo_it() {
    let world = World::new();
    let slow = world.replica("canary-first");
    let (store, bank) = (Arc::clone(&world.store), Arc::clone(&world.bank));
    let meanwhile = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        // Another replica was faster, and the provider lets both pass.
        let safe = world.rotation("canary-first", "bank@1", "https://bank.test/token").safe;
        assert!(safe.keep(0, &secret("canary-theirs"), &secret("canary-first")).await.unwrap());
        tokio::time::sleep(Duration::from_millis(100)).await;
        *bank.good.lock().unwrap() = "canary-theirs".to_owned();
    };
    let (token, ()) = futures::future::join(slow.get(), meanwhile).await;
    assert!(token.is_ok(), "{:?}", token.err());
    assert_eq!(world.sent(), ["canary-first", "canary-theirs"]);
    assert_eq!(store.rows.lock().unwrap().values().next().unwrap().version, 2);
}

#[tokio::test(start_paused = true)]
async fn a_new_token_in_the_secret_supersedes_the_kept_one() {
    let world = World::new();
    world.replica("canary-first").get().await.unwrap();
    *world.bank.good.lock().unwrap() = "canary-second".to_owned();
    world.replica("canary-second").get().await.unwrap();
    assert_eq!(world.sent(), ["canary-first", "canary-second"]);
    assert_eq!(world.version(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_secret_rotated_a_moment_ago_is_found_by_the_call_that_would_fail() {
    let world = World::new();
    *world.bank.good.lock().unwrap() = "canary-second".to_owned();
    *world.secret_now.0.lock().unwrap() = Some("canary-second".to_owned());
    let tokens = world.replica("canary-first");
    assert!(tokens.get().await.is_ok());
    assert_eq!(world.sent(), ["canary-first", "canary-second"]);
    // What came of it descends from the new one.
    world.replica("canary-second").get().await.unwrap();
    assert_eq!(world.sent(), ["canary-rotated-2"]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_refresh_token_is_looked_for_once_and_then_refused() {
    let world = World::new();
    *world.bank.good.lock().unwrap() = "canary-nobody-has".to_owned();
    let tokens = world.replica("canary-first");
    assert_eq!(tokens.get().await.err(), Some(CallError::CredentialsRefused { status: 400 }));
    *world.secret_now.0.lock().unwrap() = Some("canary-also-wrong".to_owned());
    pass(6).await;
    assert_eq!(tokens.get().await.err(), Some(CallError::CredentialsRefused { status: 400 }));
    assert_eq!(world.sent(), ["canary-first", "canary-first", "canary-also-wrong"]);
}

#[tokio::test(start_paused = true)]
async fn a_kept_token_is_never_sent_to_another_token_url() {
    let world = World::new();
    world.replica("canary-first").get().await.unwrap();
    world.sent();
    *world.bank.good.lock().unwrap() = "canary-first".to_owned();
    let rotation = world.rotation("canary-first", "bank@1", "https://evil.test/token");
    let moved = tokens_of(&core(&settings(|_| {})), &world.bank, Some(rotation));
    moved.get().await.unwrap();
    assert_eq!(world.sent(), ["canary-first"]);
}

#[tokio::test(start_paused = true)]
async fn without_the_key_that_sealed_it_the_spent_token_is_not_tried() {
    let world = World::new();
    world.replica("canary-first").get().await.unwrap();
    world.sent();
    std::fs::remove_file(world.keys.path().join("1")).unwrap();
    std::fs::write(world.keys.path().join("2"), [2; 32]).unwrap();
    let tokens = world.replica("canary-first");
    assert_eq!(tokens.get().await.err(), Some(CallError::NotKept(KeepProblem::UnknownKey)));
    assert_eq!(world.sent(), Vec::<String>::new());
    // A Secret that is another by now is a new beginning.
    *world.bank.good.lock().unwrap() = "canary-new".to_owned();
    let rotation = world.rotation("canary-new", "bank@2", "https://bank.test/token");
    assert!(tokens_of(&core(&settings(|_| {})), &world.bank, Some(rotation)).get().await.is_ok());
    // The new key opens what the new key sealed, and the old one may come back beside it.
    std::fs::write(world.keys.path().join("1"), [1; 32]).unwrap();
    assert!(world.replica("canary-new").get().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_label_on_the_secret_is_no_new_beginning_though_the_key_is_gone() {
    let world = World::new();
    world.replica("canary-first").get().await.unwrap();
    world.sent();
    std::fs::remove_file(world.keys.path().join("1")).unwrap();
    std::fs::write(world.keys.path().join("2"), [2; 32]).unwrap();
    let labelled = world.rotation("canary-first", "bank@2", "https://bank.test/token");
    let end = tokens_of(&core(&settings(|_| {})), &world.bank, Some(labelled)).get().await;
    assert_eq!(end.err(), Some(CallError::NotKept(KeepProblem::UnknownKey)));
    assert_eq!(world.sent(), Vec::<String>::new(), "the spent token is not sent");
    let note = world.store.rows.lock().unwrap().values().next().unwrap().secret.clone();
    assert!(note.starts_with("bank@1#") && !note.contains("canary"), "{note}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_made_anew_during_a_refresh_does_not_send_the_same_refresh_token() {
    let world = World::new();
    // One process, one vault: another object of the same name has another core.
    let rotation = |vault: &Vault| {
        let made = world.rotation("canary-first", "bank@1", "https://bank.test/token");
        Rotation { safe: Safe { vault: vault.clone(), ..made.safe }, ..made }
    };
    let vault = world.rotation("canary-first", "bank@1", "https://bank.test/token").safe.vault;
    let of = |vault: &Vault| tokens_of(&core(&settings(|_| {})), &world.bank, Some(rotation(vault)));
    let (deleted, anew) = (of(&vault), of(&vault));
    let (one, two) = futures::future::join(deleted.get(), anew.get()).await;
    assert!(one.is_ok() && two.is_ok(), "{:?}", two.err());
    assert_eq!(world.sent(), ["canary-first", "canary-rotated-1"]);
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_does_not_rotate_leaves_nothing_in_the_ledger() {
    let mut world = World::new();
    world.bank = Arc::new(Bank { good: Mutex::new("canary-first".to_owned()), ..Bank::default() });
    let tokens = world.replica("canary-first");
    tokens.get().await.unwrap();
    pass(3600).await;
    tokens.get().await.unwrap();
    assert_eq!((world.version(), world.sent().len()), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_died_with_the_lock_is_waited_for_no_longer_than_it_could_work() {
    let world = World::new();
    let gone = world.rotation("canary-first", "bank@1", "https://bank.test/token").safe;
    gone.lock("a replica that is gone").await.unwrap();
    let tokens = world.replica("canary-first");
    assert_eq!(tokens.get().await.err(), Some(CallError::NotKept(KeepProblem::Busy)));
    assert_eq!(world.bank.asked(), 0);
    pass(70).await;
    assert!(tokens.get().await.is_ok());
}
