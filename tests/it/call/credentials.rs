//! Credentials of calls: each kind, what a refusal means, and how few tokens are asked for.

use std::collections::BTreeMap;

use busbar::domain::breaker::EffectiveState;
use busbar::domain::health::Health;
use busbar::provider::call::CallError;
use busbar::provider::monitor::Verification;
use busbar::settings::{Auth, Placement};
use busbar::testbed::sim::{BankConfig, Behaviour, RequiredAuth};

use crate::kit::banks::{plain_bank, start_bank};
use crate::kit::connections::{
    builtin_profile, connect, draft, get, probe, profile_draft, secret, token_bank, token_client,
};

#[tokio::test]
async fn each_kind_of_credential_is_accepted_by_a_bank_that_requires_it() {
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
    for (required, auth) in kinds {
        let (_sim, bank) = start_bank(BankConfig::new("bank").auth(required)).await;
        let mut draft = draft(bank.base_url());
        draft.auth = auth;
        let connection = connect(draft);
        assert_eq!(connection.snapshot().verification, Verification::Pending);
        assert_eq!(probe(&connection).await, Ok(200));
        let status = connection.snapshot();
        assert_eq!((status.verification, status.authenticated), (Verification::Verified, Some(true)));
        assert_eq!(status.health, Health::Healthy);
        assert!(status.last_probe.unwrap().success);
    }
}

#[tokio::test]
async fn a_profile_maps_its_secret_to_credentials() {
    let (_sim, bank) = start_bank(BankConfig::mono("bank", "canary-key")).await;
    let profile = builtin_profile("mono");
    let mut draft = profile_draft("mono", format!("{}/v2", bank.base_url()));
    let value = |key: &str| (key == "api-key").then(|| secret("canary-key"));
    draft.auth = Auth::from_profile(profile.auth.as_ref().unwrap(), &draft.base_url, &BTreeMap::new(), value).unwrap();
    let connection = connect(draft);
    assert_eq!(probe(&connection).await, Ok(200), "the profile's own check");
    assert_eq!(connection.snapshot().verification, Verification::Verified);
}

#[tokio::test]
async fn rejected_credentials_never_open_the_circuit() {
    let (_sim, bank) =
        start_bank(BankConfig::new("bank").auth(RequiredAuth::Bearer { token: "right".to_owned() })).await;
    let mut draft = draft(bank.base_url());
    draft.breaker.consecutive_failures = 2;
    draft.auth = Auth::Bearer { token: secret("wrong") };
    let connection = connect(draft);
    for _ in 0..5 {
        assert_eq!(probe(&connection).await, Ok(401));
    }
    let status = connection.snapshot();
    assert_eq!(status.verification, Verification::AuthenticationFailed { status: 401 });
    assert_eq!((status.authenticated, status.effective), (Some(false), EffectiveState::Closed));
    assert_eq!(status.health, Health::Unhealthy, "a bank that rejects our calls takes no payout either");

    bank.set_auth(&RequiredAuth::Bearer { token: "wrong".to_owned() }).unwrap();
    assert_eq!(probe(&connection).await, Ok(200));
    assert_eq!(connection.snapshot().verification, Verification::Verified);
    bank.set_auth(&RequiredAuth::Bearer { token: "right".to_owned() }).unwrap();
    assert_eq!(probe(&connection).await, Ok(401));
    let status = connection.snapshot();
    assert_eq!(
        (status.verification, status.authenticated),
        (Verification::Verified, Some(false)),
        "verified stays verified"
    );
}

#[tokio::test]
async fn an_outage_leaves_the_verification_inconclusive() {
    let (_sim, bank) = plain_bank().await;
    bank.set_script(Behaviour::status(503)).await.unwrap();
    let connection = connect(draft(bank.base_url()));
    assert_eq!(probe(&connection).await, Ok(503));
    let status = connection.snapshot();
    assert!(matches!(status.verification, Verification::Inconclusive(_)), "{:?}", status.verification);
    assert_eq!(status.authenticated, None);
    bank.recover().await;
    assert_eq!(probe(&connection).await, Ok(200));
    assert_eq!(connection.snapshot().verification, Verification::Verified);
}

#[tokio::test]
async fn a_thousand_callers_without_a_token_cause_one_token_request() {
    let (_sim, bank, draft) = token_bank(3600).await;
    let connection = connect(draft);
    let calls = (0..1000).map(|_| get(&connection, "/health"));
    let ends = futures::future::join_all(calls).await;
    assert!(ends.iter().all(|end| *end == Ok(200)));
    assert_eq!(bank.counters().tokens_issued, 1);
    assert!(connection.token_expires_at().is_some());
}

#[tokio::test]
async fn a_rejected_token_is_replaced_once_per_call() {
    let (_sim, bank, draft) = token_bank(3600).await;
    let connection = connect(draft);
    assert_eq!(get(&connection, "/health").await, Ok(200));
    bank.revoke_tokens();
    let ends = futures::future::join_all((0..50).map(|_| get(&connection, "/health"))).await;
    assert!(ends.iter().all(|end| *end == Ok(200)), "no caller notices: {ends:?}");
    assert_eq!(bank.counters().tokens_issued, 2);

    bank.set_script(Behaviour::status(401)).await.unwrap();
    bank.clear_arrivals();
    assert_eq!(get(&connection, "/health").await, Ok(401));
    let tries = bank.arrivals().entries.iter().filter(|arrival| arrival.path == "/health").count();
    assert_eq!(tries, 2);
    assert_eq!(connection.snapshot().authenticated, Some(false));
}

#[tokio::test]
async fn a_rejected_client_secret_is_an_authentication_failure() {
    let (_sim, bank, mut draft) = token_bank(3600).await;
    let mut client = token_client(bank.token_url());
    client.client_secret = secret("canary-wrong");
    draft.auth = Auth::ClientCredentials(client);
    let connection = connect(draft);
    let error = probe(&connection).await.unwrap_err();
    assert_eq!(error, CallError::CredentialsRefused { status: 401 });
    let status = connection.snapshot();
    assert_eq!(status.verification, Verification::AuthenticationFailed { status: 401 });
    assert_eq!(status.effective, EffectiveState::Closed);
    assert!(!format!("{error} {error:?} {status:?}").contains("canary"));
}
