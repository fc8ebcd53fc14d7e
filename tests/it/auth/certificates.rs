//! Client certificates, at a bank that requires one.

use std::sync::Arc;

use busbar::domain::breaker::CallClass;
use busbar::provider::call::{CallError, ConnectError, Request};
use busbar::provider::connection::Connection;
use busbar::provider::registry::Registry;
use busbar::settings::{ClientCertificate, Draft, MinVersion, Settings};
use busbar::testbed::sim::{BankConfig, BankHandle, Sim, SimConfig};
use futures::future::join_all;

use super::SecretStub;
use crate::kit::banks::start_bank;
use crate::kit::connections::{connect, draft, get, key, registry};
use crate::kit::wait::PATIENCE;

async fn bank_requiring_a_certificate() -> (Sim, BankHandle) {
    start_bank(BankConfig { demands_certificate: true, ..BankConfig::new("bank") }).await
}

/// What the Secret at `revision` makes of a connection.
fn with(sim: &Sim, bank: &BankHandle, authority: &Sim, revision: &str) -> Draft {
    let mut draft = draft(bank.https_url());
    let (certificate, key) = authority.client_certificate("busbar", jiff::civil::date(2099, 12, 31)).unwrap();
    draft.tls.ca = Some(sim.ca_pem().into());
    draft.tls.client = Some(ClientCertificate { certificate: certificate.into(), key: key.into() });
    draft.tls.revision = format!("bank-tls@{revision}");
    draft
}

fn put(registry: &Registry, draft: Draft) -> Arc<Connection> {
    registry.apply(&key("bank"), "uid-1", Settings::resolve(draft).unwrap(), None)
}

const HANDSHAKE_FAILED: Result<u16, CallError> = Err(CallError::Connect(ConnectError::Tls));

const REFUSED: Result<u16, CallError> = Err(CallError::Connect(ConnectError::CertificateRefused));

#[tokio::test]
async fn only_the_certificate_of_the_spec_is_presented() {
    let (sim, bank) = bank_requiring_a_certificate().await;
    assert_eq!(get(&connect(with(&sim, &bank, &sim, "1")), "/health").await, Ok(200));
    let mut bare = with(&sim, &bank, &sim, "1");
    bare.tls.client = None;
    assert_eq!(get(&connect(bare), "/health").await, REFUSED, "without one");
    let other_sim = Sim::start(SimConfig::default()).await.unwrap();
    assert_eq!(get(&connect(with(&sim, &bank, &other_sim, "1")), "/health").await, REFUSED, "one of another authority");
}

#[tokio::test]
async fn a_rotated_certificate_is_presented_by_the_next_call() {
    let (sim, bank) = bank_requiring_a_certificate().await;
    let other_sim = Sim::start(SimConfig::default()).await.unwrap();
    let (registry, _) = registry();
    let connection = put(&registry, with(&sim, &bank, &other_sim, "1"));
    assert_eq!(get(&connection, "/health").await, REFUSED);
    put(&registry, with(&sim, &bank, &sim, "2"));
    assert_eq!(get(&connection, "/health").await, Ok(200), "the same connection object, another certificate");
    assert_eq!(get(&connection, "/health").await, Ok(200));
    let before = bank.counters().connections;
    // Another good one: no kept-alive connection of the old one is used any more.
    put(&registry, with(&sim, &bank, &sim, "3"));
    assert_eq!(get(&connection, "/health").await, Ok(200));
    assert_eq!(bank.counters().connections, before + 1);
    // And one that the bank refuses: it does not use the connection that the good one opened.
    put(&registry, with(&sim, &bank, &other_sim, "4"));
    assert_eq!(get(&connection, "/health").await, REFUSED);
    assert_eq!(registry.clients().len(), 1, "the clients of old certificates are gone");
}

#[tokio::test]
async fn a_read_refused_for_its_certificate_is_sent_again_with_that_of_the_secret() {
    let (sim, bank) = bank_requiring_a_certificate().await;
    let other_sim = Sim::start(SimConfig::default()).await.unwrap();
    let (registry, _) = registry();
    let secret = SecretStub::install(&registry, Some(with(&sim, &bank, &sim, "2")));
    let connection = put(&registry, with(&sim, &bank, &other_sim, "1"));
    let changes = registry.subscribe_changes();
    let calls = join_all((0..20).map(|_| get(&connection, "/health"))).await;
    assert!(calls.iter().all(|end| *end == Ok(200)), "{calls:?}");
    assert_eq!(secret.reads(), 1, "read once for all");
    tokio::time::timeout(PATIENCE, changes.take()).await.unwrap();
    assert_eq!(get(&connection, "/health").await, Ok(200));
    assert_eq!(registry.clients().len(), 2, "that of the settings, and that of the Secret");
    // As the controller does.
    put(&registry, with(&sim, &bank, &sim, "2"));
    assert_eq!(get(&connection, "/health").await, Ok(200));
    assert_eq!((registry.clients().len(), secret.reads()), (1, 1));
}

#[tokio::test]
async fn a_write_refused_for_its_certificate_is_not_sent_again() {
    for class in [CallClass::Money, CallClass::Write] {
        refused_then_sent_with_the_new_certificate(class).await;
    }
}

async fn refused_then_sent_with_the_new_certificate(class: CallClass) {
    let (sim, bank) = bank_requiring_a_certificate().await;
    let other_sim = Sim::start(SimConfig::default()).await.unwrap();
    let (registry, _) = registry();
    SecretStub::install(&registry, Some(with(&sim, &bank, &sim, "2")));
    let connection = put(&registry, with(&sim, &bank, &other_sim, "1"));
    let pay = || Request { class, ..Request::get("pay", "/health") };
    let refused = connection.call(pay()).await.map(|answer| answer.status.as_u16());
    assert_eq!((refused, bank.counters().requests), (REFUSED, 0), "the call that reveals it");
    assert_eq!(connection.call(pay()).await.map(|answer| answer.status.as_u16()), Ok(200));
    assert_eq!(bank.counters().requests, 1);
}

#[tokio::test]
async fn a_refused_certificate_that_the_secret_still_holds_is_not_presented_again() {
    let (sim, bank) = bank_requiring_a_certificate().await;
    let other_sim = Sim::start(SimConfig::default()).await.unwrap();
    let theirs = with(&sim, &bank, &other_sim, "1");
    let (registry, _) = registry();
    let secret = SecretStub::install(&registry, Some(theirs.clone()));
    let connection = put(&registry, theirs);
    for _ in 0..3 {
        assert_eq!(get(&connection, "/health").await, REFUSED);
    }
    assert_eq!(secret.reads(), 1, "read less and less often");
}

#[tokio::test]
async fn connections_with_different_certificates_share_no_http_connection() {
    let (sim, bank) = bank_requiring_a_certificate().await;
    let (registry, _) = registry();
    let ours = put(&registry, with(&sim, &bank, &sim, "1"));
    assert_eq!(get(&ours, "/health").await, Ok(200));
    let mut bare = with(&sim, &bank, &sim, "1");
    bare.tls.client = None;
    let theirs = registry.apply(&key("other"), "uid-2", Settings::resolve(bare).unwrap(), None);
    assert_eq!(get(&theirs, "/health").await, REFUSED);
}

#[tokio::test]
async fn tls_1_2_is_not_used_where_the_spec_requires_1_3() {
    let (sim, bank) = start_bank(BankConfig { only_tls12: true, ..BankConfig::new("bank") }).await;
    let mut draft = draft(bank.https_url());
    draft.tls.ca = Some(sim.ca_pem().into());
    assert_eq!(get(&connect(draft.clone()), "/health").await, Ok(200));
    draft.tls.min_version = MinVersion::Tls13;
    assert_eq!(get(&connect(draft), "/health").await, HANDSHAKE_FAILED);
}

#[tokio::test]
async fn the_expiry_of_a_certificate_is_known() {
    let (sim, bank) = bank_requiring_a_certificate().await;
    let settings = Settings::resolve(with(&sim, &bank, &sim, "1")).unwrap();
    assert_eq!(settings.tls().expires().unwrap().to_string(), "2099-12-31T00:00:00Z");
    assert_eq!(Settings::resolve(draft(bank.https_url())).unwrap().tls().expires(), None);
}

#[test]
fn a_server_name_that_is_an_address_is_invalid() {
    for name in ["0x7f000001", "127.0.0.1", "2130706433", "0x7f.1"] {
        let mut draft = draft("https://bank.test");
        draft.tls.server_name = Some(name.to_owned());
        assert_eq!(Settings::resolve(draft).unwrap_err().field, "tls.serverName", "{name}");
    }
}
