//! TLS of calls: trust, server names, client certificates.

use busbar::provider::call::{CallError, ConnectError, Request};
use busbar::settings::{ClientCertificate, Settings};
use busbar::testbed::sim::{BankConfig, CertificateKind, Sim, SimConfig};

use crate::kit::banks::{plain_bank, start_bank};
use crate::kit::connections::{connect, draft, key, probe, registry};

#[tokio::test]
async fn a_configured_ca_is_the_only_one_trusted() {
    let (sim, bank) = plain_bank().await;
    let mut with_ca = draft(bank.https_url());
    with_ca.tls.ca = Some(sim.ca_pem().into());
    assert_eq!(probe(&connect(with_ca)).await, Ok(200));

    let other = Sim::start(SimConfig::default()).await.unwrap();
    let mut wrong_ca = draft(bank.https_url());
    wrong_ca.tls.ca = Some(other.ca_pem().into());
    assert_eq!(probe(&connect(wrong_ca)).await, Err(CallError::Connect(ConnectError::UnknownIssuer)));
}

#[tokio::test]
async fn the_server_name_of_the_spec_is_verified() {
    let config = BankConfig { certificate: CertificateKind::WrongName, ..BankConfig::new("bank") };
    let (sim, bank) = start_bank(config).await;
    let named = |name: Option<&str>| {
        let mut draft = draft(bank.https_url());
        draft.tls.ca = Some(sim.ca_pem().into());
        draft.tls.server_name = name.map(str::to_owned);
        connect(draft)
    };
    let wrong = Err(CallError::Connect(ConnectError::WrongName));
    assert_eq!(probe(&named(None)).await, wrong);
    assert_eq!(probe(&named(Some("bank.sim.test"))).await, wrong);
    assert_eq!(probe(&named(Some("elsewhere.sim.test"))).await, Ok(200));
    let arrivals = bank.arrivals().entries;
    assert_eq!(arrivals.len(), 1, "nothing is sent before the name is verified");
    assert!(arrivals[0].tls);
}

#[tokio::test]
async fn a_server_name_leaves_the_host_header_as_it_is() {
    let (sim, bank) = plain_bank().await;
    let mut draft = draft(bank.https_url());
    draft.tls.ca = Some(sim.ca_pem().into());
    draft.tls.server_name = Some("bank.sim.test".to_owned());
    let connection = connect(draft);
    let request = Request::get("transactions", "/v2/accounts/acc-1/transactions").with_query("limit", "10");
    let answer = connection.call(request).await.unwrap();
    let body = std::str::from_utf8(&answer.body).unwrap();
    // The simulated bank builds its links from the Host header.
    assert!(body.contains(&bank.https_url()), "{body}");
    assert!(!body.contains("bank.sim.test"));
}

#[tokio::test]
async fn a_client_certificate_has_an_http_client_of_its_own() {
    let (sim, bank) = plain_bank().await;
    let made = rcgen::generate_simple_self_signed(["operator.test".to_owned()]).unwrap();
    let (registry, _) = registry();
    let mut plain = draft(bank.https_url());
    plain.tls.ca = Some(sim.ca_pem().into());
    let mut mutual = plain.clone();
    mutual.tls.client =
        Some(ClientCertificate { certificate: made.cert.pem().into(), key: made.signing_key.serialize_pem().into() });
    mutual.tls.revision = "tls/2".to_owned();
    let resolve = |draft| Settings::resolve(draft).unwrap();
    let one = registry.apply(&key("one"), "1", resolve(plain), None);
    let two = registry.apply(&key("two"), "2", resolve(mutual.clone()), None);
    assert_eq!((probe(&one).await, probe(&two).await), (Ok(200), Ok(200)));
    assert_eq!(registry.clients().len(), 2, "a certificate is never shown in another connection's name");

    // The certificate of one pair with the key of another is invalid before any call.
    let other = rcgen::KeyPair::generate().unwrap();
    let client = mutual.tls.client.as_mut().unwrap();
    client.key = other.serialize_pem().into();
    assert_eq!(Settings::resolve(mutual).unwrap_err().field, "tls.certSecretRef");
}

#[tokio::test]
async fn an_expired_server_certificate_is_reported_as_expired() {
    let (sim, bank) = start_bank(BankConfig { certificate: CertificateKind::Expired, ..BankConfig::new("bank") }).await;
    let mut draft = draft(bank.https_url());
    draft.tls.ca = Some(sim.ca_pem().into());
    assert_eq!(probe(&connect(draft)).await, Err(CallError::Connect(ConnectError::Expired)));
}
