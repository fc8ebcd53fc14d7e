//! Client certificates against a bank that speaks with nobody who shows none.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use busbar::domain::breaker::CallClass;
use busbar::domain::key::ObjectKey;
use busbar::domain::time::Mono;
use busbar::provider::auth::secret_source::SecretSource;
use busbar::provider::call::{CallError, ConnectError, Request};
use busbar::provider::connection::Connection;
use busbar::provider::registry::{Registry, RegistryOptions};
use busbar::settings::{ClientCertificate, Draft, MinVersion, Settings};
use busbar::testbed::sim::{BankConfig, BankHandle, Sim, SimConfig};
use futures::FutureExt as _;
use futures::future::{BoxFuture, join_all};

use super::{get, live, once, registry};
use crate::call_path::{bank, key};

async fn strict_bank() -> (Sim, BankHandle) {
    bank(BankConfig { demands_certificate: true, ..BankConfig::new("bank") }).await
}

/// What the Secret at `revision` makes of a connection.
fn with(sim: &Sim, bank: &BankHandle, authority: &Sim, revision: &str) -> Draft {
    let mut draft = once(bank.https_url());
    let (certificate, key) = authority.client_certificate("busbar", jiff::civil::date(2099, 12, 31)).unwrap();
    draft.tls.ca = Some(sim.ca_pem().into());
    draft.tls.client = Some(ClientCertificate { certificate: certificate.into(), key: key.into() });
    draft.tls.revision = format!("bank-tls@{revision}");
    draft
}

fn put(registry: &Registry, draft: Draft) -> Arc<Connection> {
    registry.apply(&key("bank"), "uid-1", Settings::resolve(draft).unwrap(), None)
}

const NO_TLS: Result<u16, CallError> = Err(CallError::Connect(ConnectError::Tls));
const NOT_OURS: Result<u16, CallError> = Err(CallError::Connect(ConnectError::CertificateRefused));

#[tokio::test]
async fn a_bank_that_demands_a_certificate_gets_ours_and_only_that() {
    let (sim, bank) = strict_bank().await;
    assert_eq!(get(&live(with(&sim, &bank, &sim, "1")), "/health").await, Ok(200));
    let mut bare = with(&sim, &bank, &sim, "1");
    bare.tls.client = None;
    assert_eq!(get(&live(bare), "/health").await, NOT_OURS, "without one");
    let stranger = Sim::start(SimConfig::default()).await.unwrap();
    assert_eq!(get(&live(with(&sim, &bank, &stranger, "1")), "/health").await, NOT_OURS, "one of another authority");
}

#[tokio::test]
async fn a_certificate_rotated_in_the_secret_is_shown_by_the_next_call() {
    let (sim, bank) = strict_bank().await;
    let stranger = Sim::start(SimConfig::default()).await.unwrap();
    let (registry, _) = registry(RegistryOptions::allowing_loopback());
    let live = put(&registry, with(&sim, &bank, &stranger, "1"));
    assert_eq!(get(&live, "/health").await, NOT_OURS);
    put(&registry, with(&sim, &bank, &sim, "2"));
    assert_eq!(get(&live, "/health").await, Ok(200), "the same connection object, another certificate");
    assert_eq!(get(&live, "/health").await, Ok(200));
    let before = bank.counters().connections;
    // Another good one: no kept-alive connection of the old one is used any more.
    put(&registry, with(&sim, &bank, &sim, "3"));
    assert_eq!(get(&live, "/health").await, Ok(200));
    assert_eq!(bank.counters().connections, before + 1);
    // And one that the bank does not take: the connection that the good one opened is not lent to it.
    put(&registry, with(&sim, &bank, &stranger, "4"));
    assert_eq!(get(&live, "/health").await, NOT_OURS);
    assert_eq!(registry.clients().len(), 1, "the clients of old certificates are gone");
}

/// A Secret that holds what it is told to, and how often it was read.
struct Kept(Draft, AtomicUsize);

impl SecretSource for Kept {
    fn settings<'a>(&'a self, _: &'a ObjectKey, _: Mono) -> BoxFuture<'a, Option<Arc<Settings>>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        async { Settings::resolve(self.0.clone()).ok().map(Arc::new) }.boxed()
    }
}

#[tokio::test]
async fn calls_go_on_with_the_certificate_that_is_in_the_secret_by_now_before_anybody_changes_the_settings() {
    let (sim, bank) = strict_bank().await;
    let stranger = Sim::start(SimConfig::default()).await.unwrap();
    let kept = Arc::new(Kept(with(&sim, &bank, &sim, "2"), AtomicUsize::new(0)));
    let registry = registry(RegistryOptions::allowing_loopback()).0;
    registry.set_secret_source(Arc::clone(&kept) as Arc<dyn SecretSource>);
    let live = put(&registry, with(&sim, &bank, &stranger, "1"));
    let changes = registry.subscribe_changes();
    let calls = join_all((0..20).map(|_| get(&live, "/health"))).await;
    assert!(calls.iter().all(|end| *end == Ok(200)), "{calls:?}");
    assert_eq!(kept.1.load(Ordering::Relaxed), 1, "read once for all");
    tokio::time::timeout(Duration::from_secs(10), changes.take()).await.unwrap();
    assert_eq!(get(&live, "/health").await, Ok(200));
    assert_eq!(registry.clients().len(), 2, "that of the settings, and that of the Secret");
    // As the controller does who is told.
    put(&registry, kept.0.clone());
    assert_eq!(get(&live, "/health").await, Ok(200));
    assert_eq!((registry.clients().len(), kept.1.load(Ordering::Relaxed)), (1, 1));
}

#[tokio::test]
async fn money_and_writes_are_not_sent_again_with_another_certificate_and_the_next_call_has_it() {
    for class in [CallClass::Money, CallClass::Write] {
        ends_and_the_next_goes_on(class).await;
    }
}

async fn ends_and_the_next_goes_on(class: CallClass) {
    let (sim, bank) = strict_bank().await;
    let stranger = Sim::start(SimConfig::default()).await.unwrap();
    let kept = Arc::new(Kept(with(&sim, &bank, &sim, "2"), AtomicUsize::new(0)));
    let registry = registry(RegistryOptions::allowing_loopback()).0;
    registry.set_secret_source(kept as Arc<dyn SecretSource>);
    let live = put(&registry, with(&sim, &bank, &stranger, "1"));
    let pay = || Request { class, ..Request::get("pay", "/health") };
    let refused = live.call(pay()).await.map(|answer| answer.status.as_u16());
    assert_eq!((refused, bank.counters().requests), (NOT_OURS, 0), "the call that reveals it");
    assert_eq!(live.call(pay()).await.map(|answer| answer.status.as_u16()), Ok(200));
    assert_eq!(bank.counters().requests, 1);
}

#[tokio::test]
async fn a_certificate_that_is_refused_and_stands_in_the_secret_still_is_not_shown_again_by_the_same_call() {
    let (sim, bank) = strict_bank().await;
    let stranger = Sim::start(SimConfig::default()).await.unwrap();
    let theirs = with(&sim, &bank, &stranger, "1");
    let kept = Arc::new(Kept(theirs.clone(), AtomicUsize::new(0)));
    let registry = registry(RegistryOptions::allowing_loopback()).0;
    registry.set_secret_source(Arc::clone(&kept) as Arc<dyn SecretSource>);
    let live = put(&registry, theirs);
    for _ in 0..3 {
        assert_eq!(get(&live, "/health").await, NOT_OURS);
    }
    assert_eq!(kept.1.load(Ordering::Relaxed), 1, "looked for ever more seldom");
}

#[tokio::test]
async fn two_connections_to_one_bank_never_share_what_a_certificate_opened() {
    let (sim, bank) = strict_bank().await;
    let (registry, _) = registry(RegistryOptions::allowing_loopback());
    let ours = put(&registry, with(&sim, &bank, &sim, "1"));
    assert_eq!(get(&ours, "/health").await, Ok(200));
    let mut bare = with(&sim, &bank, &sim, "1");
    bare.tls.client = None;
    let theirs = registry.apply(&key("other"), "uid-2", Settings::resolve(bare).unwrap(), None);
    assert_eq!(get(&theirs, "/health").await, NOT_OURS);
}

#[tokio::test]
async fn an_old_tls_is_not_spoken_where_the_spec_says_so() {
    let (sim, bank) = bank(BankConfig { only_tls12: true, ..BankConfig::new("bank") }).await;
    let mut draft = once(bank.https_url());
    draft.tls.ca = Some(sim.ca_pem().into());
    assert_eq!(get(&live(draft.clone()), "/health").await, Ok(200));
    draft.tls.min_version = MinVersion::Tls13;
    assert_eq!(get(&live(draft), "/health").await, NO_TLS);
}

#[tokio::test]
async fn the_end_of_a_certificate_is_known() {
    let (sim, bank) = strict_bank().await;
    let settings = Settings::resolve(with(&sim, &bank, &sim, "1")).unwrap();
    assert_eq!(settings.tls().expires().unwrap().to_string(), "2099-12-31T00:00:00Z");
    assert_eq!(Settings::resolve(once(bank.https_url())).unwrap().tls().expires(), None);
}

#[test]
fn a_server_name_that_a_url_takes_for_an_address_is_refused() {
    for name in ["0x7f000001", "127.0.0.1", "2130706433", "0x7f.1"] {
        let mut draft = once("https://bank.test");
        draft.tls.server_name = Some(name.to_owned());
        assert_eq!(Settings::resolve(draft).unwrap_err().field, "tls.serverName", "{name}");
    }
}
