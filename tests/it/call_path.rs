//! The call path against simulated banks, over real sockets: credentials, TLS, the circuit, what may never leak.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use busbar::clock::Clock;
use busbar::domain::breaker::{BreakerState, CallClass, EffectiveState};
use busbar::domain::health::Health;
use busbar::domain::key::ObjectKey;
use busbar::metrics::Metrics;
use busbar::profile::{Environment, Profiles};
use busbar::provider::call::{CallError, ConnectError, Request};
use busbar::provider::connection::Connection;
use busbar::provider::monitor::Verification;
use busbar::provider::registry::{Registry, RegistryOptions};
use busbar::settings::{Auth, ClientCertificate, DEFAULT_REFRESH_BEFORE, Draft, Placement, Settings, TokenClient};
use busbar::testbed::sim::{
    BankConfig, BankHandle, Behaviour, CertificateKind, Down, FailurePoint, Garbage, RequiredAuth, Sim, SimConfig,
};
use secrecy::SecretString;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Long enough for any condition on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `condition` holds.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "not within {PATIENCE:?}: {what}");
}

pub(crate) async fn bank(config: BankConfig) -> (Sim, BankHandle) {
    let sim = Sim::start(SimConfig::default()).await.unwrap();
    let bank = sim.add_bank(config).await.unwrap();
    (sim, bank)
}

pub(crate) fn key(name: &str) -> ObjectKey {
    ObjectKey::new("treasury", name)
}

/// A connection of the generic provider to `base_url`, checked at `/health`.
pub(crate) fn draft(base_url: impl Into<String>) -> Draft {
    let profile = Profiles::builtin().unwrap().get("generic").unwrap();
    let mut draft = Draft::new(profile, Environment::Sandbox);
    draft.base_url = base_url.into();
    draft.health_check.path = Some("/health".to_owned());
    draft.breaker.jitter_seed = 1;
    // Tries of their own are told in `call_troubles`; here a try is a call.
    draft.retry.retries = 0;
    draft
}

pub(crate) fn registry() -> (Registry, Metrics) {
    let metrics = Metrics::new();
    (Registry::new(Clock::system(), &metrics, RegistryOptions::allowing_loopback()).unwrap(), metrics)
}

pub(crate) fn apply(registry: &Registry, draft: Draft) -> Arc<Connection> {
    registry.apply(&key("bank"), "uid-1", Settings::resolve(draft).unwrap(), None)
}

fn live(draft: Draft) -> Arc<Connection> {
    apply(&registry().0, draft)
}

fn secret(text: &str) -> SecretString {
    SecretString::from(text)
}

fn client_credentials(bank: &BankHandle, client_secret: &str) -> Auth {
    Auth::ClientCredentials(TokenClient {
        token_url: bank.token_url(),
        scopes: vec!["openid".to_owned()],
        audience: None,
        refresh_before: DEFAULT_REFRESH_BEFORE,
        client_id: secret("canary-client"),
        client_secret: secret(client_secret),
    })
}

fn issues_tokens() -> RequiredAuth {
    RequiredAuth::OAuth2 {
        client_id: "canary-client".to_owned(),
        client_secret: "canary-secret".to_owned(),
        expires_in_seconds: 3600,
    }
}

async fn probe(live: &Connection) -> Result<u16, CallError> {
    live.probe().await.unwrap().map(|answer| answer.status.as_u16())
}

async fn get(live: &Connection, path: &str) -> Result<u16, CallError> {
    live.call(Request::get("test", path)).await.map(|answer| answer.status.as_u16())
}

#[tokio::test]
async fn each_kind_of_credential_is_taken_by_a_bank_that_wants_it() {
    let api_key = |placement, name: &str| Auth::ApiKey {
        placement,
        name: name.to_owned(),
        prefix: String::new(),
        key: secret("canary-key"),
    };
    let (name, value) = (|n: &str| n.to_owned(), "canary-key".to_owned());
    let kinds = [
        (RequiredAuth::Bearer { token: value.clone() }, Auth::Bearer { token: secret("canary-key") }),
        (
            RequiredAuth::Basic { username: name("ada"), password: value.clone() },
            Auth::Basic { username: secret("ada"), password: secret("canary-key") },
        ),
        (RequiredAuth::ApiKeyHeader { name: name("x-key"), value: value.clone() }, api_key(Placement::Header, "x-key")),
        (RequiredAuth::ApiKeyQuery { name: name("key"), value: value.clone() }, api_key(Placement::Query, "key")),
    ];
    for (wants, auth) in kinds {
        let (_sim, bank) = bank(BankConfig::new("bank").auth(wants)).await;
        let mut draft = draft(bank.base_url());
        draft.auth = auth;
        let live = live(draft);
        assert_eq!(live.snapshot().verification, Verification::Pending);
        assert_eq!(probe(&live).await, Ok(200));
        let status = live.snapshot();
        assert_eq!((status.verification, status.authenticated), (Verification::Verified, Some(true)));
        assert_eq!(status.health, Health::Healthy);
        assert!(status.last_probe.unwrap().success);
    }
}

#[tokio::test]
async fn a_profile_says_how_its_secret_becomes_credentials() {
    let (_sim, bank) = bank(BankConfig::mono("bank", "canary-key")).await;
    let profile = Profiles::builtin().unwrap().get("mono").unwrap();
    let mut draft = Draft::new(Arc::clone(&profile), Environment::Sandbox);
    draft.base_url = format!("{}/v2", bank.base_url());
    let value = |key: &str| (key == "api-key").then(|| secret("canary-key"));
    draft.auth = Auth::from_profile(profile.auth.as_ref().unwrap(), &draft.base_url, &BTreeMap::new(), value).unwrap();
    let live = live(draft);
    assert_eq!(probe(&live).await, Ok(200), "the profile's own check");
    assert_eq!(live.snapshot().verification, Verification::Verified);
}

#[tokio::test]
async fn refused_credentials_are_a_verdict_and_never_open_the_circuit() {
    let (_sim, bank) = bank(BankConfig::new("bank").auth(RequiredAuth::Bearer { token: "right".to_owned() })).await;
    let mut draft = draft(bank.base_url());
    draft.breaker.consecutive_failures = 2;
    draft.auth = Auth::Bearer { token: secret("wrong") };
    let live = live(draft);
    for _ in 0..5 {
        assert_eq!(probe(&live).await, Ok(401));
    }
    let status = live.snapshot();
    assert_eq!(status.verification, Verification::AuthenticationFailed { status: 401 });
    assert_eq!((status.authenticated, status.effective), (Some(false), EffectiveState::Closed));
    assert_eq!(status.health, Health::Unknown, "a refusal says nothing about the bank");

    bank.set_auth(&RequiredAuth::Bearer { token: "wrong".to_owned() }).unwrap();
    assert_eq!(probe(&live).await, Ok(200));
    assert_eq!(live.snapshot().verification, Verification::Verified);
    bank.set_auth(&RequiredAuth::Bearer { token: "right".to_owned() }).unwrap();
    assert_eq!(probe(&live).await, Ok(401));
    let status = live.snapshot();
    assert_eq!(
        (status.verification, status.authenticated),
        (Verification::Verified, Some(false)),
        "verified stays verified"
    );
}

#[tokio::test]
async fn an_outage_leaves_the_verdict_open_until_somebody_answers() {
    let (_sim, bank) = bank(BankConfig::new("bank")).await;
    bank.set_script(Behaviour::status(503)).await.unwrap();
    let live = live(draft(bank.base_url()));
    assert_eq!(probe(&live).await, Ok(503));
    let status = live.snapshot();
    assert!(matches!(status.verification, Verification::Inconclusive(_)), "{:?}", status.verification);
    assert_eq!(status.authenticated, None);
    bank.recover().await;
    assert_eq!(probe(&live).await, Ok(200));
    assert_eq!(live.snapshot().verification, Verification::Verified);
}

#[tokio::test]
async fn a_thousand_callers_without_a_token_cause_one_token_request() {
    let (_sim, bank) = bank(BankConfig::new("bank").auth(issues_tokens())).await;
    let mut draft = draft(bank.base_url());
    draft.auth = client_credentials(&bank, "canary-secret");
    let live = live(draft);
    let calls = (0..1000).map(|_| get(&live, "/health"));
    let ends = futures::future::join_all(calls).await;
    assert!(ends.iter().all(|end| *end == Ok(200)));
    assert_eq!(bank.counters().tokens_issued, 1);
    assert!(live.token_expires_at().is_some());
}

#[tokio::test]
async fn a_token_that_is_refused_is_fetched_anew_once_and_then_the_call_gives_up() {
    let (_sim, bank) = bank(BankConfig::new("bank").auth(issues_tokens())).await;
    let mut draft = draft(bank.base_url());
    draft.auth = client_credentials(&bank, "canary-secret");
    let live = live(draft);
    assert_eq!(get(&live, "/health").await, Ok(200));
    bank.revoke_tokens();
    let ends = futures::future::join_all((0..50).map(|_| get(&live, "/health"))).await;
    assert!(ends.iter().all(|end| *end == Ok(200)), "nobody notices: {ends:?}");
    assert_eq!(bank.counters().tokens_issued, 2);

    bank.set_script(Behaviour::status(401)).await.unwrap();
    bank.clear_arrivals();
    assert_eq!(get(&live, "/health").await, Ok(401));
    let tries = bank.arrivals().entries.iter().filter(|arrival| arrival.path == "/health").count();
    assert_eq!(tries, 2);
    assert_eq!(live.snapshot().authenticated, Some(false));
}

#[tokio::test]
async fn a_refused_client_secret_is_refused_credentials() {
    let (_sim, bank) = bank(BankConfig::new("bank").auth(issues_tokens())).await;
    let mut draft = draft(bank.base_url());
    draft.auth = client_credentials(&bank, "canary-wrong");
    let live = live(draft);
    let error = probe(&live).await.unwrap_err();
    assert_eq!(error, CallError::CredentialsRefused { status: 401 });
    let status = live.snapshot();
    assert_eq!(status.verification, Verification::AuthenticationFailed { status: 401 });
    assert_eq!(status.effective, EffectiveState::Closed);
    assert!(!format!("{error} {error:?} {status:?}").contains("canary"));
}

#[tokio::test]
async fn a_given_ca_is_the_only_one_trusted() {
    let (sim, bank) = bank(BankConfig::new("bank")).await;
    let mut with_ca = draft(bank.https_url());
    with_ca.tls.ca = Some(sim.ca_pem().into());
    assert_eq!(probe(&live(with_ca)).await, Ok(200));

    let other = Sim::start(SimConfig::default()).await.unwrap();
    let mut wrong_ca = draft(bank.https_url());
    wrong_ca.tls.ca = Some(other.ca_pem().into());
    assert_eq!(probe(&live(wrong_ca)).await, Err(CallError::Connect(ConnectError::UnknownIssuer)));
}

#[tokio::test]
async fn the_server_name_is_what_is_asked_for_and_verified() {
    let config = BankConfig { certificate: CertificateKind::WrongName, ..BankConfig::new("bank") };
    let (sim, bank) = bank(config).await;
    let named = |name: Option<&str>| {
        let mut draft = draft(bank.https_url());
        draft.tls.ca = Some(sim.ca_pem().into());
        draft.tls.server_name = name.map(str::to_owned);
        live(draft)
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
async fn under_a_server_name_the_host_header_stays_the_base_urls() {
    let (sim, bank) = bank(BankConfig::new("bank")).await;
    let mut draft = draft(bank.https_url());
    draft.tls.ca = Some(sim.ca_pem().into());
    draft.tls.server_name = Some("bank.sim.test".to_owned());
    let live = live(draft);
    let request = Request::get("transactions", "/v2/accounts/acc-1/transactions").with_query("limit", "10");
    let answer = live.call(request).await.unwrap();
    let body = std::str::from_utf8(&answer.body).unwrap();
    // The simulated bank builds its links from the Host header.
    assert!(body.contains(&bank.https_url()), "{body}");
    assert!(!body.contains("bank.sim.test"));
}

#[tokio::test]
async fn a_client_certificate_makes_a_client_of_its_own() {
    let (sim, bank) = bank(BankConfig::new("bank")).await;
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

    // The chain of one pair with the key of another is told before any call.
    let other = rcgen::KeyPair::generate().unwrap();
    let client = mutual.tls.client.as_mut().unwrap();
    client.key = other.serialize_pem().into();
    assert_eq!(Settings::resolve(mutual).unwrap_err().field, "tls.certSecretRef");
}

#[tokio::test]
async fn an_expired_certificate_is_told_as_such() {
    let (sim, bank) = bank(BankConfig { certificate: CertificateKind::Expired, ..BankConfig::new("bank") }).await;
    let mut draft = draft(bank.https_url());
    draft.tls.ca = Some(sim.ca_pem().into());
    assert_eq!(probe(&live(draft)).await, Err(CallError::Connect(ConnectError::Expired)));
}

#[tokio::test]
async fn every_way_of_not_answering_is_told_in_our_words_without_the_url() {
    let (_sim, bank) = bank(BankConfig::new("bank")).await;
    let mut draft = draft(bank.base_url());
    draft.timeouts.request = Duration::from_millis(300);
    draft.breaker.consecutive_failures = 0;
    draft.breaker.unhealthy = busbar::domain::breaker::OnUnhealthy::Ignore;
    draft.auth = Auth::ApiKey {
        placement: Placement::Query,
        name: "apikey".to_owned(),
        prefix: String::new(),
        key: secret("canary-key"),
    };
    let live = live(draft);
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
        let error = get(&live, "/v2/accounts").await.unwrap_err();
        assert_eq!(error, want, "{label}");
        let printed = format!("{error} {error:?} {:?}", live.snapshot());
        assert!(!printed.contains("canary") && !printed.contains("127.0.0.1"), "{printed}");
        bank.recover().await;
    }
    // A body that is not what was asked for is the caller's to judge.
    bank.set_script(Behaviour::Garbage(Garbage::Html)).await.unwrap();
    assert_eq!(get(&live, "/v2/accounts").await, Ok(200));
}

#[tokio::test]
async fn a_name_without_an_address_is_told_as_such() {
    let live = live(draft("http://nowhere.invalid"));
    assert_eq!(probe(&live).await, Err(CallError::Connect(ConnectError::Dns)));
}

#[tokio::test]
async fn a_body_above_the_cap_is_not_read() {
    let (path, whole) = ("/big", 100_000);
    let canned = BTreeMap::from([(path.to_owned(), "x".repeat(whole))]);
    let (_sim, bank) = bank(BankConfig { canned, ..BankConfig::new("bank") }).await;
    let live = live(draft(bank.base_url()));
    let capped = |max_body| live.call(Request { max_body, ..Request::get("transactions", path) });
    assert_eq!(capped(whole).await.unwrap().body.len(), whole);
    assert_eq!(capped(whole - 1).await.unwrap_err(), CallError::TooLarge { limit: whole - 1 });
    bank.set_script(Behaviour::Dribble { bytes: 512, every_ms: 1 }).await.unwrap();
    assert_eq!(capped(1000).await.unwrap_err(), CallError::TooLarge { limit: 1000 });
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let sim = Sim::start(SimConfig::default()).await.unwrap();
    let bank = sim.add_bank(BankConfig::new("bank")).await.unwrap();
    let thief = sim.add_bank(BankConfig::new("thief")).await.unwrap();
    let headers = BTreeMap::from([("location".to_owned(), thief.base_url())]);
    bank.set_script(Behaviour::Status { code: 302, headers, body: None }).await.unwrap();
    let live = live(draft(bank.base_url()));
    assert_eq!(probe(&live).await, Ok(302));
    assert!(matches!(live.snapshot().verification, Verification::Inconclusive(_)));
    assert_eq!(thief.counters().connections, 0);
}

#[tokio::test]
async fn the_circuit_opens_by_failures_fails_fast_and_closes_by_a_trial() {
    let (_sim, bank) = bank(BankConfig::new("bank")).await;
    bank.set_script(Behaviour::status(500)).await.unwrap();
    let mut draft = draft(bank.base_url());
    draft.breaker.consecutive_failures = 3;
    draft.breaker.open.base = Duration::from_millis(400);
    let live = live(draft);
    for _ in 0..3 {
        assert_eq!(get(&live, "/v2/accounts").await, Ok(500));
    }
    assert_eq!(live.snapshot().effective, EffectiveState::Open);
    let before = bank.counters().requests;
    assert!(matches!(get(&live, "/v2/accounts").await, Err(CallError::CircuitOpen { .. })));
    assert_eq!(bank.counters().requests, before);
    bank.recover().await;
    eventually("a trial closes the circuit", async || get(&live, "/v2/accounts").await == Ok(200)).await;
    assert_eq!(live.snapshot().effective, EffectiveState::Closed);
}

#[tokio::test]
async fn a_call_that_is_dropped_gives_its_permit_back() {
    let (_sim, bank) = bank(BankConfig::new("bank")).await;
    bank.set_script(Behaviour::status(500)).await.unwrap();
    let mut draft = draft(bank.base_url());
    draft.breaker.consecutive_failures = 1;
    draft.breaker.open.base = Duration::from_millis(100);
    let live = live(draft);
    assert_eq!(get(&live, "/health").await, Ok(500));
    bank.set_script(Behaviour::Stall(FailurePoint::BeforeHead)).await.unwrap();
    eventually("a trial is taken and hangs", async || {
        let call = get(&live, "/health");
        let cut = tokio::time::timeout(Duration::from_millis(50), call).await;
        cut.is_err() && live.snapshot().effective == EffectiveState::HalfOpen
    })
    .await;
    bank.recover().await;
    assert_eq!(get(&live, "/health").await, Ok(200), "the dropped trial holds nothing");
    assert_eq!(live.snapshot().effective, EffectiveState::Closed);
}

#[tokio::test]
async fn new_settings_keep_the_circuit_and_a_new_endpoint_takes_the_verdict() {
    let (_sim, bank) = bank(BankConfig::new("bank")).await;
    let (registry, _) = registry();
    let first = draft(bank.base_url());
    let live = apply(&registry, first.clone());
    assert_eq!(probe(&live).await, Ok(200));

    let again = apply(&registry, first.clone());
    assert!(Arc::ptr_eq(&live, &again));
    assert_eq!(live.snapshot().verification, Verification::Verified);

    let mut stricter = first.clone();
    stricter.breaker.consecutive_failures = 1;
    apply(&registry, stricter.clone());
    assert_eq!(live.snapshot().verification, Verification::Verified, "a policy is no endpoint");
    bank.set_script(Behaviour::status(500)).await.unwrap();
    assert_eq!(get(&live, "/health").await, Ok(500));
    assert_eq!(live.snapshot().effective, EffectiveState::Open, "the new policy is in force");

    let mut moved = stricter;
    moved.base_url = bank.labelled_url("moved");
    apply(&registry, moved.clone());
    let status = live.snapshot();
    assert_eq!((status.verification, status.effective), (Verification::Pending, EffectiveState::Open));
    assert_eq!(status.health, Health::Unknown);

    let other = registry.apply(&key("bank"), "uid-2", Settings::resolve(moved).unwrap(), None);
    assert!(!Arc::ptr_eq(&live, &other), "another UID is another object");
    assert_eq!(other.snapshot().effective, EffectiveState::Closed);
}

#[tokio::test]
async fn a_call_under_way_keeps_its_settings_and_says_nothing_about_the_new_ones() {
    let (_sim, bank) = bank(BankConfig::new("bank").auth(RequiredAuth::Bearer { token: "right".to_owned() })).await;
    let (registry, _) = registry();
    let mut old = draft(bank.base_url());
    old.auth = Auth::Bearer { token: secret("wrong") };
    old.credential_revision = "secret/1".to_owned();
    let live = apply(&registry, old.clone());
    let slow = busbar::testbed::sim::ScriptStep::slow(Duration::from_millis(300));
    bank.set_script(slow).await.unwrap();
    let call = tokio::spawn({
        let live = Arc::clone(&live);
        async move { probe(&live).await }
    });
    eventually("the call is on its way", async || bank.counters().connections_open > 0).await;
    let mut new = old;
    new.auth = Auth::Bearer { token: secret("right") };
    new.credential_revision = "secret/2".to_owned();
    apply(&registry, new);
    assert_eq!(call.await.unwrap(), Ok(401));
    assert_eq!(live.snapshot().verification, Verification::Pending);
    assert_eq!(probe(&live).await, Ok(200));
    assert_eq!(live.snapshot().verification, Verification::Verified);
}

#[tokio::test]
async fn a_circuit_comes_back_open_after_a_restart() {
    let (_sim, bank) = bank(BankConfig::new("bank")).await;
    bank.set_script(Behaviour::status(500)).await.unwrap();
    let mut strict = draft(bank.base_url());
    strict.breaker.consecutive_failures = 1;
    let before = live(strict.clone());
    assert_eq!(get(&before, "/health").await, Ok(500));
    let left = before.circuit_snapshot();
    assert_eq!(left.state, BreakerState::Open);
    let (registry, _) = registry();
    let after = registry.apply(&key("bank"), "uid-1", Settings::resolve(strict).unwrap(), Some(&left));
    let status = after.snapshot();
    assert_eq!(status.effective, EffectiveState::Open);
    assert_eq!(status.circuit.last_transition, left.last_transition);
    assert!(matches!(get(&after, "/health").await, Err(CallError::CircuitOpen { .. })));
}

#[tokio::test]
async fn the_series_of_a_connection_are_few_and_vanish_with_it() {
    let (_sim, bank) = bank(BankConfig::new("bank")).await;
    let (registry, metrics) = registry();
    let mut draft = draft(bank.base_url());
    draft.breaker.consecutive_failures = 1;
    draft.breaker.open.base = Duration::from_millis(1);
    let live = apply(&registry, draft);
    for code in 400..430 {
        bank.set_script(Behaviour::status(code)).await.unwrap();
        assert_eq!(get(&live, "/health").await, Ok(code));
        bank.set_script(Behaviour::status(code + 100)).await.unwrap();
        let _ = probe(&live).await;
        tokio::time::sleep(Duration::from_millis(2)).await;
        bank.recover().await;
        let _ = probe(&live).await;
    }
    let text = metrics.render().unwrap();
    let own = text.lines().filter(|line| line.contains(r#"connection="bank""#)).count();
    assert!(own <= 17, "{own} series:\n{text}");
    for series in [
        r#"busbar_breaker_state{connection="bank",namespace="treasury",state="Closed"} 1"#,
        r#"busbar_breaker_state{connection="bank",namespace="treasury",state="Open"} 0"#,
        r#"busbar_probe_success{connection="bank",namespace="treasury"} 1"#,
        r#"busbar_breaker_transitions_total{connection="bank",from="Closed",namespace="treasury","#,
        r#"busbar_provider_requests_total{code="other",connection="bank",namespace="treasury","#,
        r#"busbar_provider_request_duration_seconds_count{operation="probe",provider="generic"}"#,
        r#"busbar_probe_duration_seconds_count{provider="generic"}"#,
    ] {
        assert!(text.contains(series), "{series} is missing:\n{text}");
    }
    registry.remove(&key("bank"));
    assert!(!metrics.render().unwrap().contains(r#"connection="bank""#));
}

#[tokio::test]
async fn requests_say_who_asks_and_go_below_the_base_url() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(socket.read_u8().await.unwrap());
        }
        socket.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        String::from_utf8(head).unwrap().to_lowercase()
    });
    let live = live(draft(format!("http://{address}/v1/")));
    assert_eq!(probe(&live).await, Ok(204));
    let head = seen.await.unwrap();
    assert!(head.starts_with("get /v1/health http/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("host: {address}\r\n")), "{head}");
    assert!(head.contains(concat!("user-agent: busbar/", env!("CARGO_PKG_VERSION"), "\r\n")), "{head}");
}

#[tokio::test]
async fn a_call_goes_straight_to_the_bank() {
    let (_sim, bank) = bank(BankConfig::new("bank").auth(issues_tokens())).await;
    let mut draft = draft(bank.base_url());
    draft.auth = client_credentials(&bank, "canary-secret");
    assert_eq!(probe(&live(draft)).await, Ok(200));
}

#[tokio::test]
async fn the_environments_proxies_are_not_used() {
    let proxy = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", proxy.local_addr().unwrap());
    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "call_path::a_call_goes_straight_to_the_bank"]).kill_on_drop(true);
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        child.env(name, &url);
    }
    for name in ["NO_PROXY", "no_proxy"] {
        child.env_remove(name);
    }
    let output = tokio::time::timeout(PATIENCE, child.output()).await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    let nobody = tokio::time::timeout(Duration::from_millis(10), proxy.accept()).await;
    assert!(nobody.is_err(), "somebody asked the proxy");
}

#[tokio::test]
async fn a_suspended_connection_answers_so_and_sends_nothing() {
    let (_sim, bank) = bank(BankConfig::new("bank")).await;
    let mut draft = draft(bank.base_url());
    draft.suspended = true;
    let live = live(draft);
    let call = Request { class: CallClass::Money, ..Request::get("test", "/health") };
    assert_eq!(live.call(call).await.unwrap_err(), CallError::Suspended);
    assert_eq!(bank.counters().connections, 0);
}
