//! Where calls may go.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use busbar::domain::health::Health;
use busbar::provider::call::CallError;
use busbar::provider::monitor::{CallResult, Verification};
use busbar::provider::registry::RegistryOptions;
use busbar::settings::Auth;
use busbar::settings::addresses::{AddressDenied, AddressKind, AddressRules, EndpointRole};
use busbar::testbed::sim::{BankConfig, Behaviour, Rule, Script, ScriptStep, Sim, SimConfig};

use super::{client, closed, get, live, once, registry, token_bank};
use crate::call_path::{apply, bank};

fn loopback(peer: EndpointRole) -> CallError {
    CallError::AddressRefused(AddressDenied { endpoint: peer, kind: AddressKind::Loopback })
}

fn only(ranges: &[&str]) -> RegistryOptions {
    let addresses = AddressRules::allowing(ranges.iter().map(|range| range.parse().unwrap()));
    RegistryOptions { addresses, ..RegistryOptions::default() }
}

#[tokio::test]
async fn an_address_that_is_not_public_is_not_connected_to_in_whatever_form() {
    let (sim, bank) = bank(BankConfig::new("bank")).await;
    let port = bank.address().port();
    let hosts = ["127.0.0.1", "127.1", "0x7f000001", "2130706433", "localhost", "[::1]", "[::ffff:127.0.0.1]"];
    for host in hosts {
        let live = apply(&registry(RegistryOptions::default()).0, once(format!("http://{host}:{port}")));
        let error = live.probe().await.unwrap().unwrap_err();
        assert_eq!(error, loopback(EndpointRole::Provider), "{host}");
        assert_eq!(error.code(), "address_refused");
        let told = error.to_string();
        assert!(told.contains("a loopback address") && told.contains("--allow-provider-addresses"), "{told}");
        assert!(!told.contains("127") && !told.contains(&port.to_string()), "{told}");
        let seen = live.snapshot();
        assert_eq!(seen.verification, Verification::Inconclusive(CallResult::Error(loopback(EndpointRole::Provider))));
    }
    // A server name leads elsewhere than the URL says, and is looked at all the same.
    let mut named = once(format!("https://localhost:{port}"));
    named.tls.ca = Some(sim.ca_pem().into());
    named.tls.server_name = Some("bank.sim.test".to_owned());
    assert_eq!(
        get(&apply(&registry(RegistryOptions::default()).0, named.clone()), "/health").await,
        Err(loopback(EndpointRole::Provider))
    );
    assert_eq!(bank.counters().connections, 0, "nobody knocked");
    assert_eq!(get(&apply(&registry(only(&["127.0.0.0/8", "::1"])).0, named), "/health").await, Ok(200));
}

#[tokio::test]
async fn a_provider_that_moved_to_a_refused_address_counts_as_failing() {
    let (_sim, bank) = bank(BankConfig::new("bank")).await;
    let mut draft = once(format!("http://localhost:{}", bank.address().port()));
    draft.breaker.consecutive_failures = 3;
    let live = apply(&registry(RegistryOptions::default()).0, draft);
    for _ in 0..3 {
        assert_eq!(live.probe().await.unwrap().unwrap_err(), loopback(EndpointRole::Provider));
    }
    assert!(!closed(&live), "routes avoid it");
    assert_eq!(live.snapshot().health, Health::Unhealthy);
}

#[tokio::test]
async fn a_token_endpoint_has_to_have_an_allowed_address_as_well_and_is_no_fault_of_the_providers() {
    let sim = Sim::start(SimConfig::default()).await.unwrap();
    let bank = sim.add_bank(BankConfig::new("bank")).await.unwrap();
    let listen: SocketAddr = "127.0.0.2:0".parse().unwrap();
    let login = sim.add_bank(BankConfig { listen, ..BankConfig::new("login") }).await.unwrap();
    let mut draft = once(bank.base_url());
    draft.breaker.consecutive_failures = 1;
    draft.auth = Auth::ClientCredentials(client(login.token_url()));
    let live = apply(&registry(only(&["127.0.0.1"])).0, draft);
    for _ in 0..3 {
        assert_eq!(get(&live, "/health").await, Err(loopback(EndpointRole::TokenEndpoint)));
    }
    assert!(closed(&live) && live.snapshot().token_missing);
    assert_eq!((bank.counters().connections, login.counters().connections), (0, 0));
}

#[tokio::test]
async fn no_redirect_is_followed_not_even_to_the_same_origin() {
    let (_sim, bank) = bank(BankConfig::new("bank")).await;
    for (code, location) in [(302, "/health"), (307, "/health"), (301, "")] {
        let headers = BTreeMap::from([("location".to_owned(), format!("{}{location}", bank.base_url()))]);
        bank.set_script(Behaviour::Status { code, headers, body: None }).await.unwrap();
        bank.clear_arrivals();
        assert_eq!(get(&live(once(bank.base_url())), "/v2/accounts").await, Ok(code));
        assert_eq!(bank.arrivals().entries.len(), 1);
    }
}

#[tokio::test]
async fn a_token_endpoint_that_redirects_gets_the_credentials_once_and_nobody_else_gets_them() {
    let (sim, bank, draft) = token_bank(3600).await;
    let thief = sim.add_bank(BankConfig::new("thief")).await.unwrap();
    let headers = BTreeMap::from([("location".to_owned(), thief.token_url())]);
    // 307 and 308 would have the form sent again.
    for code in [302, 307, 308] {
        let step = ScriptStep::from(Behaviour::Status { code, headers: headers.clone(), body: None });
        bank.set_script(Script { rules: vec![Rule::on("/oauth/token", [step])] }).await.unwrap();
        let error = get(&live(draft.clone()), "/health").await.unwrap_err();
        assert!(matches!(error, CallError::NoToken { status: Some(status), .. } if status == code), "{error}");
    }
    assert_eq!(thief.counters().connections, 0);
}
