//! Health checks: each that does not end in the expected response has failed, whatever its cause.

use proptest::prelude::*;

use super::*;
use crate::domain::breaker::{Breaker, Policy, Preset};
use crate::domain::health::{Health, HealthMonitor, Thresholds};
use crate::domain::time::Mono;
use crate::provider::access_denial::AccessDenial;
use crate::provider::call::TokenStoreError;
use crate::settings::addresses::{AddressDenied, AddressKind, EndpointRole};

/// Every way in which a check ends without a response; the second value tells whether a check was made at all.
fn errors() -> Vec<(CallError, bool)> {
    use ConnectError::{
        CertificateRefused, Dns, Expired, Network, Refused, Reset, TimedOut, Tls, UnknownIssuer, WrongName,
    };
    let connect = [Dns, Refused, UnknownIssuer, WrongName, Expired, CertificateRefused, Tls, Network, TimedOut, Reset];
    let class = ErrorClass::Connect;
    let denied = |endpoint| CallError::AddressRefused(AddressDenied { endpoint, kind: AddressKind::Loopback });
    let failed = [
        CallError::Timeout,
        CallError::Malformed,
        CallError::TooComplex,
        CallError::TooLarge { limit: 1 },
        CallError::CredentialsRefused { status: 400 },
        CallError::NoToken { status: None, class },
        CallError::TokenCircuitOpen { retry_in: None },
        CallError::TokenStore(TokenStoreError::Ledger),
        CallError::InvalidRequest("x"),
        CallError::Client("x".into()),
        denied(EndpointRole::Provider),
        denied(EndpointRole::TokenEndpoint),
    ];
    let none = [
        CallError::CircuitOpen { retry_in: None },
        CallError::Suspended,
        CallError::Superseded,
        CallError::BulkheadFull,
        CallError::Denied(AccessDenial::Quota { retry_in: Duration::ZERO }),
        CallError::Overloaded,
        CallError::QuotaExhausted { retry_in: Duration::ZERO },
        CallError::Throttled { retry_in: Duration::ZERO },
    ];
    let failed = connect.map(CallError::Connect).into_iter().chain(failed).map(|error| (error, true));
    failed.chain(none.map(|error| (error, false))).collect()
}

fn classified(status: u16, class: ResponseClass) -> Response {
    let classification = Classification { class, ..Classification::of_status(status) };
    Response { classification, ..response(status) }
}

/// Whether the breaker counts a call with this outcome as a failure.
fn is_failure(outcome: CallOutcome) -> bool {
    let mut policy = Policy::preset(Preset::Bank);
    policy.consecutive_failures = 2;
    let mut breaker = Breaker::new(policy, Mono::ZERO);
    let mut record = |outcome| {
        let permit = breaker.admit(CallClass::Probe, Mono::ZERO).expect("a probe is never rejected");
        breaker.record(permit, outcome, Duration::ZERO, Mono::ZERO)
    };
    let _ = record(outcome);
    record(CallOutcome::Failure).is_some()
}

/// The health of a bank that was well once, after three checks with this end.
fn health_after(assessment: CallAssessment) -> Health {
    let mut monitor = HealthMonitor::new(Thresholds::default());
    let _ = monitor.observe_check(true, Duration::ZERO, Mono::ZERO);
    for _ in 0..3 {
        if assessment.health != CallOutcome::Ignored {
            let _ = monitor.observe_check(assessment.health == CallOutcome::Success, Duration::ZERO, Mono::ZERO);
        }
    }
    monitor.health()
}

#[test]
fn each_error_fails_a_check_unless_no_check_was_made() {
    let lenient = FailureCriteria { failure_errors: vec![], failure_statuses: vec![], ignore_statuses: vec![] };
    for (error, made) in errors() {
        for criteria in [&FailureCriteria::default(), &lenient] {
            let found = assess(criteria, CallClass::Probe, &expecting(&[StatusPattern::Class(2)]), Err(&error));
            let wanted = if made { CallOutcome::Failure } else { CallOutcome::Ignored };
            assert_eq!(found.health, wanted, "{error:?}");
            assert_eq!(is_failure(found.outcome), made, "for the breaker too: {error:?}");
            assert_ne!(found.credentials, CredentialResult::Accepted, "{error:?}");
            assert_eq!(health_after(found) == Health::Unhealthy, made, "{error:?}");
        }
    }
}

proptest! {
    #[test]
    fn no_status_or_class_but_the_expected_leaves_a_bank_healthy(
        status in 100u16..600, class in prop::sample::select(ResponseClass::ALL.to_vec()),
        expected in prop::collection::vec(prop_oneof![
            (1u16..6).prop_map(StatusPattern::Class), (100u16..600).prop_map(StatusPattern::Exact),
        ], 1..4),
        ignored in prop::collection::vec((1u16..6).prop_map(StatusPattern::Class), 0..3),
    ) {
        let criteria = FailureCriteria { ignore_statuses: ignored, ..FailureCriteria::default() };
        let found = assess(&criteria, CallClass::Probe, &expecting(&expected), Ok(&classified(status, class)));
        let by_status = expected.iter().any(|pattern| pattern.matches(status));
        prop_assert_ne!(found.health, CallOutcome::Ignored, "a response is always a result");
        if !by_status || (class == ResponseClass::Auth && status != 401) {
            prop_assert_eq!(found.health, CallOutcome::Failure);
            prop_assert!(is_failure(found.outcome), "for the breaker too");
            prop_assert_eq!(health_after(found), Health::Unhealthy);
        }
        if matches!(status, 401 | 403 | 429) {
            prop_assert_ne!(found.outcome, CallOutcome::Failure, "these never trip the circuit");
        }
        if found.health == CallOutcome::Success {
            prop_assert!(by_status && found.outcome == CallOutcome::Success);
        }
    }
}

#[test]
fn a_call_that_is_its_own_check_fails_without_an_answer_whatever_a_policy_counts() {
    let passive = HealthCheck { mode: CheckMode::Passive, ..expecting(&[StatusPattern::Class(2)]) };
    let lenient = FailureCriteria { failure_errors: vec![], failure_statuses: vec![], ignore_statuses: vec![] };
    for (error, _) in errors() {
        let found = assess(&lenient, CallClass::Read, &passive, Err(&error));
        let sized = matches!(error, CallError::TooLarge { .. } | CallError::TooComplex);
        let wanted = if error.class().is_some() && !sized { CallOutcome::Failure } else { CallOutcome::Ignored };
        assert_eq!((found.outcome, found.health), (CallOutcome::Ignored, wanted), "{error:?}");
        let active = assess(&lenient, CallClass::Read, &expecting(&[]), Err(&error));
        assert_eq!(active.health, CallOutcome::Ignored, "probes decide: {error:?}");
    }
    let health = |status, class| assess(&lenient, CallClass::Read, &passive, Ok(&classified(status, class))).health;
    for (status, class) in [(200, ResponseClass::Retry), (301, ResponseClass::Fatal), (308, ResponseClass::Fatal)] {
        assert_eq!(health(status, class), CallOutcome::Failure, "{status} {class:?}");
    }
    for (status, class) in [(200, ResponseClass::Ok), (200, ResponseClass::NotFound), (404, ResponseClass::NotFound)] {
        assert_eq!(health(status, class), CallOutcome::Success, "{status} {class:?}");
    }
}

#[test]
fn an_error_in_a_good_response_fails_a_check() {
    let check = expecting(&[StatusPattern::Class(2)]);
    for class in [ResponseClass::Retry, ResponseClass::Fatal, ResponseClass::RateLimited, ResponseClass::Rights] {
        let found = assess(&FailureCriteria::default(), CallClass::Probe, &check, Ok(&classified(200, class)));
        assert_eq!(found.health, CallOutcome::Failure, "{class:?}");
    }
    for class in [ResponseClass::NotFound, ResponseClass::EndOfData] {
        let found = assess(&FailureCriteria::default(), CallClass::Probe, &check, Ok(&classified(200, class)));
        assert_eq!(found.health, CallOutcome::Success, "an empty answer: {class:?}");
    }
}

#[test]
fn a_page_in_front_of_a_json_provider_verifies_nothing() {
    let json = ExpectedContent { content_type: None, pointer: Some(String::new()) };
    let check = HealthCheck { expected_content: json, ..expecting(&[StatusPattern::Class(2)]) };
    let with_body =
        |status, body: &'static str| Response { body: Bytes::from_static(body.as_bytes()), ..response(status) };
    let assessed = |found: &Response| assess(&FailureCriteria::default(), CallClass::Probe, &check, Ok(found));
    for page in ["<!doctype html><html><body>Sign in</body></html>", "", "SSH-2.0-x"] {
        let found = assessed(&with_body(200, page));
        assert_eq!((found.outcome, found.health), (CallOutcome::Failure, CallOutcome::Failure));
        assert_eq!((found.credentials, found.mismatch), (CredentialResult::Unknown, Some(ContentMismatch::NotJson)));
    }
    assert_eq!(assessed(&with_body(204, "")).mismatch, Some(ContentMismatch::WithoutBody));
    assert_eq!(assessed(&with_body(200, "[]")).health, CallOutcome::Success);
    let named = HealthCheck { expected_statuses: vec![StatusPattern::Exact(204)], ..check };
    let found = assess(&FailureCriteria::default(), CallClass::Probe, &named, Ok(&response(204)));
    assert_eq!(found.health, CallOutcome::Success, "named, so that no body is expected");
}
