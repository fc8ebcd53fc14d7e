//! Connections that are moved, deleted or given another credential while a call waits for its turn: what is sent is decided
//! when it is sent.

use std::sync::Arc;
use std::time::Duration;

use busbar::domain::quota::{Limit, LimitScope, LimitUnit};
use busbar::provider::call::{CallError, Request};
use busbar::provider::connection::Connection;
use busbar::provider::registry::Registry;
use busbar::settings::{Auth, Draft, Settings, TokenClient};
use busbar::testbed::sim::{BankConfig, BankHandle, RequiredAuth, Sim};
use tokio::task::JoinHandle;

use super::SecretStub;
use crate::kit::banks::start_bank;
use crate::kit::connections::{
    apply, client_credentials, draft, get, key, registry, required_oauth2, required_oauth2_with, secret, token_client,
};
use crate::kit::time::ManualTime;

/// Two banks with keys of their own, and a connection to the first that may make one request a minute.
struct Waiting {
    time: ManualTime,
    sim: Sim,
    bank: BankHandle,
    registry: Registry,
    connection: Arc<Connection>,
    draft: Draft,
}

fn limited(bank: &BankHandle, auth: Auth) -> Draft {
    let mut draft = draft(bank.base_url());
    draft.auth = auth;
    "bank@1".clone_into(&mut draft.credential_revision);
    draft.timeouts.total = Duration::from_mins(5);
    let (name, scope, operations) = ("minute".to_owned(), LimitScope::Connection, Vec::new());
    draft.limits = vec![Limit { name, scope, requests: 1, unit: LimitUnit::Minute, burst: None, operations }];
    draft
}

impl Waiting {
    /// The first request is made.
    async fn new(required: RequiredAuth, auth: impl FnOnce(&BankHandle) -> Auth) -> Self {
        let time = ManualTime::start();
        let (sim, bank) = start_bank(BankConfig::new("bank").auth(required)).await;
        let draft = limited(&bank, auth(&bank));
        let registry = registry().0;
        let connection = apply(&registry, draft.clone());
        assert_eq!(get(&connection, "/health").await, Ok(200));
        Self { time, sim, bank, registry, connection, draft }
    }

    async fn with_bearer() -> Self {
        let required = RequiredAuth::Bearer { token: "canary-one".to_owned() };
        Self::new(required, |_| Auth::Bearer { token: secret("canary-one") }).await
    }

    /// A second call, which waits for its quota.
    async fn call(&self) -> JoinHandle<Result<u16, CallError>> {
        let connection = Arc::clone(&self.connection);
        let call = tokio::spawn(async move { get(&connection, "/health").await });
        self.time.advance(Duration::from_secs(1)).await;
        assert!(!call.is_finished());
        call
    }

    async fn end(&self, call: JoinHandle<Result<u16, CallError>>) -> Result<u16, CallError> {
        self.time.run(Duration::from_secs(5), call).await.unwrap()
    }
}

#[tokio::test]
async fn a_waiting_call_is_not_sent_after_its_connection_was_moved() {
    let waiting = Waiting::with_bearer().await;
    let elsewhere = waiting.sim.add_bank(BankConfig::new("elsewhere")).await.unwrap();
    let call = waiting.call().await;
    apply(&waiting.registry, Draft { base_url: elsewhere.base_url(), ..waiting.draft.clone() });
    assert_eq!(waiting.end(call).await, Err(CallError::Superseded));
    assert_eq!((waiting.bank.counters().requests, elsewhere.counters().requests), (1, 0));
}

#[tokio::test]
async fn a_waiting_call_is_not_sent_after_its_connection_was_deleted() {
    let waiting = Waiting::with_bearer().await;
    let call = waiting.call().await;
    waiting.registry.remove(&key("bank")).unwrap();
    assert_eq!(waiting.end(call).await, Err(CallError::Superseded));
    assert_eq!(waiting.bank.counters().requests, 1);
}

#[tokio::test]
async fn a_waiting_call_is_not_sent_after_another_object_took_the_name() {
    let waiting = Waiting::with_bearer().await;
    let call = waiting.call().await;
    waiting.registry.apply(&key("bank"), "another uid", Settings::resolve(waiting.draft.clone()).unwrap(), None);
    assert_eq!(waiting.end(call).await, Err(CallError::Superseded), "though it calls the same bank");
    assert_eq!(waiting.bank.counters().requests, 1);
}

#[tokio::test]
async fn a_refused_call_does_not_take_the_credential_of_another_object() {
    let required = RequiredAuth::Bearer { token: "canary-theirs".to_owned() };
    let (_sim, bank) = start_bank(BankConfig::new("bank").auth(required)).await;
    let of = |owner: &str, token| {
        let mut draft = draft(bank.base_url());
        (draft.owner, draft.auth) = (owner.into(), Auth::Bearer { token: secret(token) });
        draft
    };
    let registry = registry().0;
    // The namespace was created anew, and the end of the former object is not known yet.
    let stub = SecretStub::install(&registry, Some(of("uid-2", "canary-theirs")));
    let connection = apply(&registry, of("uid-1", "canary-ours"));
    assert_eq!(get(&connection, "/health").await, Ok(401));
    assert_eq!((stub.reads(), bank.counters().requests), (1, 1));
}

#[tokio::test]
async fn a_waiting_call_is_sent_with_the_credential_that_was_rotated_meanwhile() {
    let waiting = Waiting::with_bearer().await;
    let call = waiting.call().await;
    waiting.bank.set_auth(&RequiredAuth::Bearer { token: "canary-two".to_owned() }).unwrap();
    let mut rotated = waiting.draft.clone();
    (rotated.auth, rotated.credential_revision) = (Auth::Bearer { token: secret("canary-two") }, "bank@2".to_owned());
    apply(&waiting.registry, rotated);
    assert_eq!(waiting.end(call).await, Ok(200), "it never sends the old one");
    assert_eq!(waiting.bank.counters().requests, 2);
}

#[tokio::test]
async fn a_token_dies_with_the_credential_that_obtained_it() {
    let waiting = Waiting::new(required_oauth2(3600), client_credentials).await;
    let call = waiting.call().await;
    // The same values in another version of the Secret: what happened in between is unknown.
    apply(&waiting.registry, Draft { credential_revision: "bank@2".to_owned(), ..waiting.draft.clone() });
    assert_eq!(waiting.end(call).await, Ok(200));
    assert_eq!(waiting.bank.counters().tokens_issued, 2);
}

#[tokio::test]
async fn a_request_built_for_one_endpoint_is_not_sent_to_another() {
    let waiting = Waiting::with_bearer().await;
    let elsewhere = waiting.sim.add_bank(BankConfig::new("elsewhere")).await.unwrap();
    let settings = waiting.connection.settings();
    apply(&waiting.registry, Draft { base_url: elsewhere.base_url(), ..waiting.draft.clone() });
    let end = waiting.connection.call_with(&settings, Request::get("page", "/accounts/1")).await;
    assert_eq!(end.err(), Some(CallError::Superseded));
    assert_eq!(elsewhere.counters().requests, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_during_many_moves_send_each_bank_its_own_credential_only() {
    let (sim, one) = start_bank(BankConfig::new("one").auth(required_oauth2_with("canary-one", 3600))).await;
    let other = sim.add_bank(BankConfig::new("other").auth(required_oauth2_with("canary-other", 3600))).await.unwrap();
    let to = |bank: &BankHandle, client_secret: &str, version: u32| {
        let mut draft = draft(bank.base_url());
        let client = TokenClient { client_secret: secret(client_secret), ..token_client(bank.token_url()) };
        (draft.auth, draft.credential_revision) = (Auth::ClientCredentials(client), format!("bank@{version}"));
        draft
    };
    let registry = registry().0;
    let connection = apply(&registry, to(&one, "canary-one", 0));
    let calls = (0..8).map(|_| {
        let connection = Arc::clone(&connection);
        tokio::spawn(async move {
            let (mut answered, mut superseded) = (0, 0);
            while answered < 20 {
                match connection.call_with(&connection.settings(), Request::get("test", "/health")).await {
                    Ok(response) => {
                        assert_eq!(response.status.as_u16(), 200, "the credential of the other bank");
                        answered += 1;
                    }
                    Err(CallError::Superseded) => superseded += 1,
                    Err(error) => panic!("{error}"),
                }
                assert!(superseded < 100_000);
            }
        })
    });
    let calls: Vec<_> = calls.collect();
    for version in 1.. {
        let (bank, client_secret) = if version % 2 == 0 { (&one, "canary-one") } else { (&other, "canary-other") };
        apply(&registry, to(bank, client_secret, version));
        if calls.iter().all(JoinHandle::is_finished) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for call in calls {
        call.await.unwrap();
    }
    for bank in [&one, &other] {
        let refused = bank.arrivals().entries.into_iter().find(|arrival| arrival.status != Some(200));
        assert!(refused.is_none(), "{refused:?}");
    }
}
