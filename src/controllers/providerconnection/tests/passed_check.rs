//! Whether a connection has ever passed a health check, and what Ready says of the check.

use super::*;
use crate::api::v1alpha1::provider_connection::PassedCheck;
use crate::resolve::DesiredConnection;

/// A connection that has passed no check.
fn never() -> LiveConnection {
    LiveConnection {
        verification: VerificationState::Inconclusive,
        authenticated: None,
        health: Health::Unknown,
        ever_healthy: false,
        ..live()
    }
}

fn for_target(target: &str, live: LiveConnection) -> ConnectionInputs {
    let desired = DesiredConnection { target: target.into(), ..desired() };
    ConnectionInputs { desired: Ok(desired.into()), ..inputs(Some(live)) }
}

/// What a process that starts with this status restores: whether a check has ever passed, and whether the last failed.
fn restored(previous: &ProviderConnectionStatus, target: &str) -> (bool, bool) {
    let starting = ConnectionInputs { live: None, ..for_target(target, live()) };
    match decide(&object(), Some(previous), &starting, now()).steps.first() {
        Some(ConnectionStep::Apply { ever_healthy, unhealthy, .. }) => (*ever_healthy, *unhealthy),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_first_passed_check_is_kept_until_endpoint_or_auth_change() {
    let none = status(&object(), None, &for_target("t1", never()));
    assert_eq!(none.passed_check, Some(PassedCheck { target: "t1".into(), passed: false }));
    assert_eq!(restored(&none, "t1"), (false, false));

    let passed = status(&object(), Some(&none), &for_target("t1", live()));
    assert!(passed.passed_check.as_ref().is_some_and(|check| check.passed));
    assert_eq!(restored(&passed, "t1"), (true, false));

    let down = LiveConnection { health: Health::Unhealthy, ..live() };
    let down = status(&object(), Some(&passed), &for_target("t1", down));
    assert_eq!(down.passed_check, passed.passed_check, "an outage does not take it away");
    assert_eq!(restored(&down, "t1"), (true, true));

    let moved = status(&object(), Some(&down), &for_target("t2", never()));
    assert_eq!(moved.passed_check, Some(PassedCheck { target: "t2".into(), passed: false }));
    assert!(!restored(&moved, "t2").0);
    assert!(!restored(&down, "t2").0, "also if it moved while no process ran");
}

#[test]
fn a_bank_whose_health_was_lost_passes_a_check_before_it_is_used() {
    let passed = status(&object(), None, &for_target("t1", live()));
    let down =
        status(&object(), Some(&passed), &for_target("t1", LiveConnection { health: Health::Unhealthy, ..live() }));
    for reason in [Reason::SecretNotFound, Reason::SecretKeyMissing, Reason::InvalidSpec] {
        for before in [&passed, &down] {
            let rejected = ConnectionInputs { desired: Err(SpecError::waiting(reason, "x")), ..inputs(None) };
            let rejected = status(&object(), Some(before), &rejected);
            assert_eq!(restored(&rejected, "t1"), (false, false), "{reason:?}");
            assert_eq!(rejected.passed_check, before.passed_check, "the status keeps it: {reason:?}");
        }
    }
    let maintenance = WindowPosition::Inside { until: now().wall };
    for live in [LiveConnection { token_missing: true, ..live() }, LiveConnection { maintenance, ..live() }] {
        let unknown = status(&object(), Some(&down), &for_target("t1", live));
        assert_eq!((unknown.health, restored(&unknown, "t1")), (Some(HealthStatus::Unknown), (false, false)));
    }
}

#[test]
fn an_invalid_spec_keeps_the_first_passed_check() {
    let passed = status(&object(), None, &for_target("t1", live()));
    let rejected = SpecError::stalled(Reason::InvalidSpec, "x");
    let inputs = ConnectionInputs { desired: Err(rejected), ..inputs(None) };
    assert_eq!(status(&object(), Some(&passed), &inputs).passed_check, passed.passed_check);
}

#[test]
fn ready_says_that_only_the_status_is_checked() {
    let message = |checks_status_only| {
        let desired = DesiredConnection { checks_status_only, ..desired() };
        let inputs = ConnectionInputs { desired: Ok(desired.into()), ..inputs(Some(live())) };
        let status = status(&object(), None, &inputs);
        status.conditions.iter().find(|c| c.type_ == "Ready").unwrap().message.clone()
    };
    assert!(message(true).contains("compare the status only") && message(true).contains("expectedContentType"));
    assert_eq!(message(false), "verified: the provider accepts calls");
}
