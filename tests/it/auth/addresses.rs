//! Which addresses calls may connect to.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use busbar::domain::health::Health;
use busbar::provider::call::CallError;
use busbar::provider::monitor::Verification;
use busbar::provider::probe::CallResult;
use busbar::provider::registry::RegistryOptions;
use busbar::settings::Auth;
use busbar::settings::addresses::{AddressDenied, AddressKind, AddressRules, EndpointRole};
use busbar::testbed::sim::{BankConfig, Behaviour, Rule, Script, ScriptStep, Sim, SimConfig};

use crate::kit::banks::plain_bank;
use crate::kit::connections::{apply, connect, draft, get, is_closed, registry_with, token_bank, token_client};

fn loopback(endpoint: EndpointRole) -> CallError {
    CallError::AddressRefused(AddressDenied { endpoint, kind: AddressKind::Loopback })
}

fn allowing(ranges: &[&str]) -> RegistryOptions {
    let addresses = AddressRules::allowing(ranges.iter().map(|range| range.parse().unwrap()));
    RegistryOptions { addresses, ..RegistryOptions::default() }
}

#[tokio::test]
async fn an_address_that_is_not_public_is_refused_in_every_notation() {
    let (sim, bank) = plain_bank().await;
    let port = bank.address().port();
    let hosts = ["127.0.0.1", "127.1", "0x7f000001", "2130706433", "localhost", "[::1]", "[::ffff:127.0.0.1]"];
    for host in hosts {
        let connection = apply(&registry_with(RegistryOptions::default()).0, draft(format!("http://{host}:{port}")));
        let error = connection.probe().await.unwrap().result.unwrap_err();
        assert_eq!(error, loopback(EndpointRole::Provider), "{host}");
        assert_eq!(error.code(), "address_refused");
        let text = error.to_string();
        assert!(text.contains("a loopback address") && text.contains("--allow-provider-addresses"), "{text}");
        assert!(!text.contains("127") && !text.contains(&port.to_string()), "{text}");
        let status = connection.snapshot();
        assert_eq!(
            status.verification,
            Verification::Inconclusive(CallResult::Error(loopback(EndpointRole::Provider)))
        );
    }
    // A server name resolves to another address than the host of the URL, and is checked as well.
    let mut named = draft(format!("https://localhost:{port}"));
    named.tls.ca = Some(sim.ca_pem().into());
    named.tls.server_name = Some("bank.sim.test".to_owned());
    assert_eq!(
        get(&apply(&registry_with(RegistryOptions::default()).0, named.clone()), "/health").await,
        Err(loopback(EndpointRole::Provider))
    );
    assert_eq!(bank.counters().connections, 0, "no connection was opened");
    assert_eq!(get(&apply(&registry_with(allowing(&["127.0.0.0/8", "::1"])).0, named), "/health").await, Ok(200));
}

#[tokio::test]
async fn a_provider_that_moved_to_a_refused_address_counts_as_failing() {
    let (_sim, bank) = plain_bank().await;
    let mut draft = draft(format!("http://localhost:{}", bank.address().port()));
    draft.breaker.consecutive_failures = 3;
    let connection = apply(&registry_with(RegistryOptions::default()).0, draft);
    for _ in 0..3 {
        assert_eq!(connection.probe().await.unwrap().result.unwrap_err(), loopback(EndpointRole::Provider));
    }
    assert!(!is_closed(&connection), "routes exclude it");
    assert_eq!(connection.snapshot().health, Health::Unhealthy);
}

#[tokio::test]
async fn a_refused_address_of_the_token_endpoint_leaves_the_circuit_closed() {
    let sim = Sim::start(SimConfig::default()).await.unwrap();
    let bank = sim.add_bank(BankConfig::new("bank")).await.unwrap();
    let listen: SocketAddr = "127.0.0.2:0".parse().unwrap();
    let login = sim.add_bank(BankConfig { listen, ..BankConfig::new("login") }).await.unwrap();
    let mut draft = draft(bank.base_url());
    draft.breaker.consecutive_failures = 1;
    draft.auth = Auth::ClientCredentials(token_client(login.token_url()));
    let connection = apply(&registry_with(allowing(&["127.0.0.1"])).0, draft);
    for _ in 0..3 {
        assert_eq!(get(&connection, "/health").await, Err(loopback(EndpointRole::TokenEndpoint)));
    }
    assert!(is_closed(&connection) && connection.snapshot().token_missing);
    assert_eq!((bank.counters().connections, login.counters().connections), (0, 0));
}

#[tokio::test]
async fn no_redirect_is_followed_even_to_the_same_origin() {
    let (_sim, bank) = plain_bank().await;
    for (code, location) in [(302, "/health"), (307, "/health"), (301, "")] {
        let headers = BTreeMap::from([("location".to_owned(), format!("{}{location}", bank.base_url()))]);
        bank.set_script(Behaviour::Status { code, headers, body: None }).await.unwrap();
        bank.clear_arrivals();
        assert_eq!(get(&connect(draft(bank.base_url())), "/v2/accounts").await, Ok(code));
        assert_eq!(bank.arrivals().entries.len(), 1);
    }
}

#[tokio::test]
async fn a_redirect_of_the_token_endpoint_is_not_followed() {
    let (sim, bank, draft) = token_bank(3600).await;
    let redirect_target = sim.add_bank(BankConfig::new("target")).await.unwrap();
    let headers = BTreeMap::from([("location".to_owned(), redirect_target.token_url())]);
    // 307 and 308 would have the form sent again.
    for code in [302, 307, 308] {
        let step = ScriptStep::from(Behaviour::Status { code, headers: headers.clone(), body: None });
        bank.set_script(Script { rules: vec![Rule::on("/oauth/token", [step])] }).await.unwrap();
        let error = get(&connect(draft.clone()), "/health").await.unwrap_err();
        assert!(matches!(error, CallError::NoToken { status: Some(status), .. } if status == code), "{error}");
    }
    assert_eq!(redirect_target.counters().connections, 0);
}
