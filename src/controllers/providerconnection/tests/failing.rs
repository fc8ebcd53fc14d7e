//! What failing health checks say: the class of the failure, in condition and event.

use super::*;
use crate::domain::check_failure::CheckFailure;

fn failing(health: Health, failure: CheckFailure) -> LiveConnection {
    let verification = VerificationState::Inconclusive;
    LiveConnection { health, verification, check_failure: Some(failure), ..live() }
}

fn message(status: &ProviderConnectionStatus) -> &str {
    let healthy = status.conditions.iter().find(|c| c.type_ == ConditionType::Healthy.as_str()).unwrap();
    &healthy.message
}

#[test]
fn the_class_of_the_failure_is_in_the_condition_and_in_one_event() {
    let healthy = status(&object(), None, &inputs(Some(live())));
    for (failure, text) in [
        (CheckFailure::Dns, "host name could not be resolved (DNS)"),
        (CheckFailure::Connect("connection refused"), "connection refused (connect)"),
        (CheckFailure::Tls("TLS handshake failed"), "TLS handshake failed (TLS)"),
        (CheckFailure::Timeout, "timed out without a complete response (timeout)"),
        (CheckFailure::Status(503), "unexpected HTTP status 503 (status)"),
        (CheckFailure::Body("response larger than the limit"), "response larger than the limit (body)"),
    ] {
        let down = inputs(Some(failing(Health::Unhealthy, failure.clone())));
        let decision = decide(&object(), Some(&healthy), &down, now());
        let status = decision.status.unwrap();
        assert!(message(&status).starts_with(&format!("health checks fail: {text}; ")), "{}", message(&status));
        let events: Vec<_> = decision.events.iter().filter(|e| e.reason == EventReason::ChecksFailing).collect();
        assert!(events.len() == 1 && events[0].warning && events[0].message == message(&status));
        let repeated = decide(&object(), Some(&status), &down, now()).events;
        assert!(repeated.is_empty(), "a restart or a later check is no transition: {repeated:?}");
    }
}

#[test]
fn the_first_failures_say_their_class_before_the_threshold() {
    let first = status(&object(), None, &inputs(Some(failing(Health::Unknown, CheckFailure::Dns))));
    assert!(
        message(&first).starts_with("first health checks failed: host name could not be resolved (DNS); fewer than")
    );
}

#[test]
fn an_opening_circuit_says_the_class_of_the_last_check() {
    let closed = status(&object(), None, &inputs(Some(live())));
    let mut open = failing(Health::Healthy, CheckFailure::Status(500));
    (open.effective, open.circuit) = (EffectiveState::Open, snapshot(BreakerState::Open));
    let events = decide(&object(), Some(&closed), &inputs(Some(open)), now()).events;
    let opened = events.iter().find(|event| event.reason == EventReason::CircuitOpened).unwrap();
    assert!(opened.message.ends_with("; last health check: unexpected HTTP status 500 (status)"), "{}", opened.message);
}
