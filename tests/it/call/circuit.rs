//! The circuit of a connection, as its calls and its restart see it.

use std::sync::Arc;
use std::time::Duration;

use busbar::domain::breaker::{BreakerState, EffectiveState};
use busbar::provider::call::CallError;
use busbar::provider::restore::Restore;
use busbar::settings::Settings;
use busbar::testbed::sim::{Behaviour, FailurePoint};

use crate::kit::banks::plain_bank;
use crate::kit::connections::{connect, draft, get, key, registry};
use crate::kit::time::ManualTime;
use crate::kit::wait::eventually;

/// How long the circuits of these tests stay open, without jitter.
const OPEN: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_circuit_opened_by_failures_closes_after_a_successful_trial() {
    let time = ManualTime::start();
    let (_sim, bank) = plain_bank().await;
    bank.set_script(Behaviour::status(500)).await.unwrap();
    let mut draft = draft(bank.base_url());
    draft.breaker.consecutive_failures = 3;
    draft.breaker.open.base = OPEN;
    let connection = connect(draft);
    for _ in 0..3 {
        assert_eq!(get(&connection, "/v2/accounts").await, Ok(500));
    }
    assert_eq!(connection.snapshot().effective, EffectiveState::Open);
    let before = bank.counters().requests;
    assert!(matches!(get(&connection, "/v2/accounts").await, Err(CallError::CircuitOpen { .. })));
    assert_eq!(bank.counters().requests, before);
    bank.recover().await;
    assert!(matches!(get(&connection, "/v2/accounts").await, Err(CallError::CircuitOpen { .. })));
    time.advance(2 * OPEN).await;
    assert_eq!(get(&connection, "/v2/accounts").await, Ok(200), "the trial");
    assert_eq!(connection.snapshot().effective, EffectiveState::Closed);
}

#[tokio::test]
async fn a_dropped_call_returns_its_permit() {
    let time = ManualTime::start();
    let (_sim, bank) = plain_bank().await;
    bank.set_script(Behaviour::status(500)).await.unwrap();
    let mut draft = draft(bank.base_url());
    draft.breaker.consecutive_failures = 1;
    draft.breaker.open.base = OPEN;
    let connection = connect(draft);
    assert_eq!(get(&connection, "/health").await, Ok(500));
    bank.set_script(Behaviour::Stall(FailurePoint::BeforeHead)).await.unwrap();
    time.advance(2 * OPEN).await;
    let trial = tokio::spawn({
        let connection = Arc::clone(&connection);
        async move { get(&connection, "/health").await }
    });
    eventually("the trial hangs", async || bank.counters().requests == 2).await;
    assert_eq!(connection.snapshot().effective, EffectiveState::HalfOpen);
    trial.abort();
    assert!(trial.await.is_err());
    bank.recover().await;
    assert_eq!(get(&connection, "/health").await, Ok(200), "the dropped trial holds nothing");
    assert_eq!(connection.snapshot().effective, EffectiveState::Closed);
}

#[tokio::test]
async fn an_open_circuit_is_restored_after_a_restart() {
    let (_sim, bank) = plain_bank().await;
    bank.set_script(Behaviour::status(500)).await.unwrap();
    let mut strict = draft(bank.base_url());
    strict.breaker.consecutive_failures = 1;
    let before = connect(strict.clone());
    assert_eq!(get(&before, "/health").await, Ok(500));
    let left = before.circuit_snapshot();
    assert_eq!(left.state, BreakerState::Open);
    let (registry, _) = registry();
    let restore = Restore { circuit: Some(left.clone()), ..Restore::default() };
    let after = registry.apply(&key("bank"), "uid-1", Settings::resolve(strict).unwrap(), Some(restore));
    let status = after.snapshot();
    assert_eq!(status.effective, EffectiveState::Open);
    assert_eq!(status.circuit.last_transition, left.last_transition);
    assert!(matches!(get(&after, "/health").await, Err(CallError::CircuitOpen { .. })));
}
