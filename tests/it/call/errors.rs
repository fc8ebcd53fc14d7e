//! Calls without a usable response: what the error says, and that it shows neither the URL nor a credential.

use std::collections::BTreeMap;
use std::time::Duration;

use busbar::domain::breaker::OnUnhealthy;
use busbar::provider::call::{CallError, ConnectError, Request};
use busbar::provider::monitor::Verification;
use busbar::settings::{Auth, Placement};
use busbar::testbed::sim::{BankConfig, Behaviour, Down, FailurePoint, Garbage, Sim, SimConfig};

use crate::kit::banks::{plain_bank, start_bank};
use crate::kit::connections::{connect, draft, get, probe, secret};
use crate::kit::time::ManualTime;

#[tokio::test]
async fn transport_errors_show_neither_url_nor_credentials() {
    let time = ManualTime::start();
    let (_sim, bank) = plain_bank().await;
    let mut draft = draft(bank.base_url());
    draft.timeouts.request = Duration::from_millis(300);
    draft.breaker.consecutive_failures = 0;
    draft.breaker.unhealthy = OnUnhealthy::Ignore;
    draft.auth = Auth::ApiKey {
        placement: Placement::Query,
        name: "apikey".to_owned(),
        prefix: String::new(),
        key: secret("canary-key"),
    };
    let connection = connect(draft);
    let network = CallError::Connect(ConnectError::Reset);
    let ways = [
        (Behaviour::Stall(FailurePoint::BeforeHead), CallError::Timeout),
        (Behaviour::Stall(FailurePoint::AfterHead), CallError::Timeout),
        (Behaviour::Reset(FailurePoint::BeforeHead), network.clone()),
        (Behaviour::Reset(FailurePoint::AfterHead), network.clone()),
        (Behaviour::Truncate { percent: 50 }, network.clone()),
        (Behaviour::Down(Down::Close), network),
        (Behaviour::Down(Down::Refuse), CallError::Connect(ConnectError::Refused)),
    ];
    for (behaviour, want) in ways {
        let label = behaviour.label();
        bank.set_script(behaviour).await.unwrap();
        let error = time.run(Duration::from_millis(100), get(&connection, "/v2/accounts")).await.unwrap_err();
        assert_eq!(error, want, "{label}");
        let printed = format!("{error} {error:?} {:?}", connection.snapshot());
        assert!(!printed.contains("canary") && !printed.contains("127.0.0.1"), "{printed}");
        bank.recover().await;
    }
    // A body that is not what was asked for is the caller's to judge.
    bank.set_script(Behaviour::Garbage(Garbage::Html)).await.unwrap();
    assert_eq!(get(&connection, "/v2/accounts").await, Ok(200));
}

#[tokio::test]
async fn an_unknown_host_is_a_dns_error() {
    let connection = connect(draft("http://nowhere.invalid"));
    assert_eq!(probe(&connection).await, Err(CallError::Connect(ConnectError::Dns)));
}

#[tokio::test]
async fn a_body_above_the_limit_is_not_read() {
    let (path, whole) = ("/big", 100_000);
    let canned = BTreeMap::from([(path.to_owned(), "x".repeat(whole))]);
    let (_sim, bank) = start_bank(BankConfig { canned, ..BankConfig::new("bank") }).await;
    let connection = connect(draft(bank.base_url()));
    let capped = |max_body| connection.call(Request { max_body, ..Request::get("transactions", path) });
    assert_eq!(capped(whole).await.unwrap().body.len(), whole);
    assert_eq!(capped(whole - 1).await.unwrap_err(), CallError::TooLarge { limit: whole - 1 });
    bank.set_script(Behaviour::Dribble { bytes: 512, every_ms: 1 }).await.unwrap();
    assert_eq!(capped(1000).await.unwrap_err(), CallError::TooLarge { limit: 1000 });
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let sim = Sim::start(SimConfig::default()).await.unwrap();
    let bank = sim.add_bank(BankConfig::new("bank")).await.unwrap();
    let redirect_target = sim.add_bank(BankConfig::new("target")).await.unwrap();
    let headers = BTreeMap::from([("location".to_owned(), redirect_target.base_url())]);
    bank.set_script(Behaviour::Status { code: 302, headers, body: None }).await.unwrap();
    let connection = connect(draft(bank.base_url()));
    assert_eq!(probe(&connection).await, Ok(302));
    assert!(matches!(connection.snapshot().verification, Verification::Inconclusive(_)));
    assert_eq!(redirect_target.counters().connections, 0);
}
