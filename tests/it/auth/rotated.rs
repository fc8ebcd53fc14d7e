//! A key that somebody replaces in the Secret while calls are being made: who is refused finds the new one by itself.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use busbar::domain::key::ObjectKey;
use busbar::domain::time::Mono;
use busbar::provider::auth::secret_source::SecretSource;
use busbar::provider::changes::ConnectionChange;
use busbar::provider::connection::Connection;
use busbar::provider::registry::{Registry, RegistryOptions};
use busbar::settings::{Auth, Draft, Placement, Settings};
use busbar::testbed::sim::{BankConfig, BankHandle, RequiredAuth};
use futures::FutureExt as _;
use futures::future::{BoxFuture, join_all};

use super::{client, get, once, registry, secret};
use crate::call_path::{apply, bank};

/// The Secret, which is read at the speed of an API server.
pub(super) struct Kept {
    draft: Mutex<Option<Draft>>,
    reads: AtomicUsize,
}

impl Kept {
    pub(super) fn with(draft: Option<Draft>) -> Arc<Self> {
        Arc::new(Self { draft: Mutex::new(draft), reads: AtomicUsize::new(0) })
    }

    fn put(&self, draft: Draft) {
        *self.draft.lock().unwrap() = Some(draft);
    }

    pub(super) fn reads(&self) -> usize {
        self.reads.load(Ordering::Relaxed)
    }
}

impl SecretSource for Kept {
    fn settings<'a>(&'a self, _: &'a ObjectKey, _: Mono) -> BoxFuture<'a, Option<Settings>> {
        async move {
            self.reads.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(20)).await;
            let draft = self.draft.lock().unwrap().clone();
            draft.map(|draft| Settings::resolve(draft).unwrap())
        }
        .boxed()
    }
}

/// One way to prove who we are with `value`, as the bank and as the connection see it.
fn way(name: &str, value: &str, bank: &BankHandle) -> (RequiredAuth, Auth) {
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
            Auth::Profile { headers: vec![("x-key".to_owned(), secret(value))], query: Vec::new() },
        ),
        _ => {
            let mut ours = client(bank.token_url());
            ours.client_secret = secret(value);
            let wants = RequiredAuth::OAuth2 {
                client_id: "canary-client".to_owned(),
                client_secret: text(),
                expires_in_seconds: 3600,
            };
            (wants, Auth::ClientCredentials(ours))
        }
    }
}

const WAYS: [&str; 6] = ["bearer", "basic", "header", "query", "profile", "oauth"];

fn connected(draft: Draft, kept: &Arc<Kept>) -> (Registry, Arc<Connection>) {
    let registry = registry(RegistryOptions::allowing_loopback()).0;
    registry.set_secret_source(Arc::clone(kept) as Arc<dyn SecretSource>);
    let live = apply(&registry, draft);
    (registry, live)
}

fn drafted(bank: &BankHandle, auth: Auth, version: u32) -> Draft {
    let mut draft = once(bank.base_url());
    draft.auth = auth;
    draft.credential_revision = format!("bank@{version}");
    draft
}

#[tokio::test]
async fn fifty_callers_across_a_rotation_see_no_failure_and_the_secret_is_read_once() {
    for name in WAYS {
        let (_sim, bank) = bank(BankConfig::new("bank")).await;
        let ((old_wants, old), (new_wants, new)) = (way(name, "canary-old", &bank), way(name, "canary-new", &bank));
        bank.set_auth(&old_wants).unwrap();
        let kept = Kept::with(None);
        let (registry, live) = connected(drafted(&bank, old, 1), &kept);
        let told = Arc::new(AtomicUsize::new(0));
        registry.on_change({
            let told = Arc::clone(&told);
            move |change| {
                if matches!(change, ConnectionChange::StatusChanged(_)) {
                    told.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        assert_eq!(get(&live, "/health").await, Ok(200), "{name}");
        let before = told.load(Ordering::Relaxed);
        let calling = join_all((0..50).map(|_| async {
            let mut ends = Vec::new();
            for _ in 0..20 {
                ends.push(get(&live, "/health").await);
            }
            ends
        }));
        let rotating = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            kept.put(drafted(&bank, new, 2));
            bank.set_auth(&new_wants).unwrap();
            bank.revoke_tokens();
        };
        let (ends, ()) = futures::future::join(calling, rotating).await;
        assert!(ends.iter().flatten().all(|end| *end == Ok(200)), "{name}: {ends:?}");
        assert_eq!(get(&live, "/health").await, Ok(200), "{name}");
        assert_eq!(kept.reads(), 1, "{name}: one look for all");
        assert!(told.load(Ordering::Relaxed) > before, "{name}: whoever keeps the settings is told to look");
        assert_eq!(live.snapshot().authenticated, Some(true), "{name}");
    }
}

#[tokio::test]
async fn one_request_reveals_a_rotation_and_no_call_fails() {
    for name in WAYS {
        let (_sim, bank) = bank(BankConfig::new("bank")).await;
        let ((old_wants, old), (new_wants, new)) = (way(name, "canary-old", &bank), way(name, "canary-new", &bank));
        bank.set_auth(&old_wants).unwrap();
        let kept = Kept::with(None);
        let (_registry, live) = connected(drafted(&bank, old, 1), &kept);
        assert_eq!(get(&live, "/health").await, Ok(200), "{name}");
        kept.put(drafted(&bank, new, 2));
        bank.set_auth(&new_wants).unwrap();
        bank.revoke_tokens();
        bank.clear_arrivals();
        for _ in 0..5 {
            assert_eq!(get(&live, "/health").await, Ok(200), "{name}");
        }
        let refused = bank.arrivals().entries.iter().filter(|a| a.path == "/health" && a.status != Some(200)).count();
        assert_eq!(refused, 1, "{name}");
    }
}

#[tokio::test]
async fn a_key_that_stays_wrong_is_answered_at_once_and_the_secret_is_not_read_at_every_call() {
    let (_sim, bank) =
        bank(BankConfig::new("bank").auth(RequiredAuth::Bearer { token: "canary-right".to_owned() })).await;
    let wrong = drafted(&bank, Auth::Bearer { token: secret("canary-wrong") }, 1);
    let kept = Kept::with(Some(wrong.clone()));
    let (_registry, live) = connected(wrong, &kept);
    let ends = join_all((0..50).map(|_| get(&live, "/health"))).await;
    assert!(ends.iter().all(|end| *end == Ok(401)), "{ends:?}");
    assert_eq!((kept.reads(), bank.counters().requests), (1, 50), "nothing is sent twice for nothing");
    assert_eq!(live.snapshot().authenticated, Some(false));
}

#[tokio::test]
async fn the_credential_of_another_place_is_never_sent_to_the_old_one() {
    let (sim, bank) =
        bank(BankConfig::new("bank").auth(RequiredAuth::Bearer { token: "canary-right".to_owned() })).await;
    let elsewhere = sim.add_bank(BankConfig::new("elsewhere")).await.unwrap();
    let wrong = drafted(&bank, Auth::Bearer { token: secret("canary-wrong") }, 1);
    // The spec and its Secret changed together, and nobody has applied the spec yet.
    let kept = Kept::with(Some(drafted(&elsewhere, Auth::Bearer { token: secret("canary-right") }, 2)));
    let (_registry, live) = connected(wrong, &kept);
    assert_eq!(get(&live, "/health").await, Ok(401));
    assert_eq!((kept.reads(), bank.counters().requests, elsewhere.counters().requests), (1, 1, 0));
}
