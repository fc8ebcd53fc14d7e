//! Settings that change while a connection runs.

use std::sync::Arc;
use std::time::Duration;

use busbar::domain::breaker::{CallClass, EffectiveState};
use busbar::domain::health::Health;
use busbar::provider::call::{CallError, Request};
use busbar::provider::monitor::Verification;
use busbar::settings::{Auth, Settings};
use busbar::testbed::sim::{BankConfig, Behaviour, RequiredAuth, ScriptStep};

use crate::kit::banks::{plain_bank, start_bank};
use crate::kit::connections::{apply, connect, draft, get, key, probe, registry, secret};
use crate::kit::wait::eventually;

#[tokio::test]
async fn a_new_endpoint_resets_the_verification_and_keeps_the_circuit() {
    let (_sim, bank) = plain_bank().await;
    let (registry, _) = registry();
    let first = draft(bank.base_url());
    let connection = apply(&registry, first.clone());
    assert_eq!(probe(&connection).await, Ok(200));

    let again = apply(&registry, first.clone());
    assert!(Arc::ptr_eq(&connection, &again));
    assert_eq!(connection.snapshot().verification, Verification::Verified);

    let mut stricter = first.clone();
    stricter.breaker.consecutive_failures = 1;
    apply(&registry, stricter.clone());
    assert_eq!(connection.snapshot().verification, Verification::Verified, "a policy is no endpoint");
    bank.set_script(Behaviour::status(500)).await.unwrap();
    assert_eq!(get(&connection, "/health").await, Ok(500));
    assert_eq!(connection.snapshot().effective, EffectiveState::Open, "the new policy is in force");

    let mut moved = stricter;
    moved.base_url = bank.labelled_url("moved");
    apply(&registry, moved.clone());
    let status = connection.snapshot();
    assert_eq!((status.verification, status.effective), (Verification::Pending, EffectiveState::Open));
    assert_eq!(status.health, Health::Unknown);

    let other = registry.apply(&key("bank"), "uid-2", Settings::resolve(moved).unwrap(), None);
    assert!(!Arc::ptr_eq(&connection, &other), "another UID is another object");
    assert_eq!(other.snapshot().effective, EffectiveState::Closed);
}

#[tokio::test]
async fn a_call_in_flight_does_not_verify_newer_settings() {
    let (_sim, bank) =
        start_bank(BankConfig::new("bank").auth(RequiredAuth::Bearer { token: "right".to_owned() })).await;
    let (registry, _) = registry();
    let mut old = draft(bank.base_url());
    old.auth = Auth::Bearer { token: secret("wrong") };
    old.credential_revision = "secret/1".to_owned();
    let connection = apply(&registry, old.clone());
    let slow = ScriptStep::slow(Duration::from_millis(300));
    bank.set_script(slow).await.unwrap();
    let call = tokio::spawn({
        let connection = Arc::clone(&connection);
        async move { probe(&connection).await }
    });
    eventually("the call is on its way", async || bank.counters().connections_open > 0).await;
    let mut new = old;
    new.auth = Auth::Bearer { token: secret("right") };
    new.credential_revision = "secret/2".to_owned();
    apply(&registry, new);
    assert_eq!(call.await.unwrap(), Ok(401));
    assert_eq!(connection.snapshot().verification, Verification::Pending);
    assert_eq!(probe(&connection).await, Ok(200));
    assert_eq!(connection.snapshot().verification, Verification::Verified);
}

#[tokio::test]
async fn a_suspended_connection_sends_nothing() {
    let (_sim, bank) = plain_bank().await;
    let mut draft = draft(bank.base_url());
    draft.suspended = true;
    let connection = connect(draft);
    let call = Request { class: CallClass::Money, ..Request::get("test", "/health") };
    assert_eq!(connection.call(call).await.unwrap_err(), CallError::Suspended);
    assert_eq!(bank.counters().connections, 0);
}
