use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;

use super::*;
use crate::domain::quota::LimitScope;
use crate::profile::{Classification, ExpectedContent, Profiles, ResponseView};
use crate::provider::call::{ConnectError, ResponseMeta};
use crate::provider::memory::Reservation;
use crate::settings::ErrorClass;
use crate::settings::testkit::draft;

mod checks;

/// That of the generic profile; a property test is many.
static CHECK: LazyLock<HealthCheck> = LazyLock::new(|| draft().health_check);

/// A health check that expects one of these statuses.
fn expecting(statuses: &[StatusPattern]) -> HealthCheck {
    HealthCheck { expected_statuses: statuses.to_vec(), ..CHECK.clone() }
}

fn response(status: u16) -> Response {
    Response {
        status: StatusCode::from_u16(status).unwrap(),
        headers: HeaderMap::new(),
        body: Bytes::new(),
        elapsed: Duration::ZERO,
        classification: Classification::of_status(status),
        meta: ResponseMeta::default(),
        memory: Reservation::default(),
    }
}

/// How the profile of `provider` classifies it, and how a read with it is assessed.
fn read_by(provider: &str, status: u16, headers: HeaderMap, body: &'static str) -> (ResponseClass, CallAssessment) {
    let profile = Profiles::builtin().unwrap().get(provider).unwrap();
    let mut result = Response { headers, body: Bytes::from_static(body.as_bytes()), ..response(status) };
    result.classification =
        profile.classify(&ResponseView::new(status, &result.headers, &result.body), Timestamp::UNIX_EPOCH);
    (result.classification.class, assess(&FailureCriteria::default(), CallClass::Read, &expecting(&[]), Ok(&result)))
}

fn outcome(rules: &FailureCriteria, class: CallClass, status: u16) -> CallOutcome {
    assess(rules, class, &expecting(&[StatusPattern::Class(2)]), Ok(&response(status))).outcome
}

#[test]
fn by_default_5xx_connection_failures_and_timeouts_count_as_failures() {
    let rules = FailureCriteria::default();
    for status in [500, 502, 503, 504, 599] {
        assert_eq!(outcome(&rules, CallClass::Read, status), CallOutcome::Failure, "{status}");
    }
    for status in [200, 204, 302, 400, 402, 404, 409, 410, 423] {
        assert_eq!(outcome(&rules, CallClass::Read, status), CallOutcome::Success, "{status}");
    }
    for status in [401, 403, 429] {
        assert_eq!(outcome(&rules, CallClass::Read, status), CallOutcome::Ignored, "{status}");
        assert_eq!(outcome(&rules, CallClass::Probe, status), CallOutcome::OwnFault, "{status}");
    }
    let ended = |error: &CallError| assess(&rules, CallClass::Read, &expecting(&[]), Err(error)).outcome;
    for (error, class) in [
        (CallError::Timeout, ErrorClass::Timeout),
        (CallError::Connect(ConnectError::Refused), ErrorClass::Connect),
        (CallError::Connect(ConnectError::TimedOut), ErrorClass::Connect),
        (CallError::Connect(ConnectError::Expired), ErrorClass::Tls),
        (CallError::Connect(ConnectError::Tls), ErrorClass::Tls),
        (CallError::Connect(ConnectError::Reset), ErrorClass::Reset),
    ] {
        assert_eq!((error.class(), ended(&error)), (Some(class), CallOutcome::Failure), "{error:?}");
    }
    for error in [
        CallError::TooLarge { limit: 1 },
        CallError::Malformed,
        CallError::NoToken { status: None, class: ErrorClass::Timeout },
        CallError::TokenCircuitOpen { retry_in: None },
        CallError::QuotaExhausted { retry_in: Duration::ZERO },
    ] {
        assert_eq!(ended(&error), CallOutcome::Ignored, "{error:?}");
    }
}

#[test]
fn configured_list_replaces_the_default_and_ignore_outranks_failure() {
    let rules = FailureCriteria {
        failure_statuses: vec![StatusPattern::Exact(404), StatusPattern::Class(5)],
        failure_errors: vec![],
        ignore_statuses: vec![StatusPattern::Exact(503)],
    };
    assert_eq!(outcome(&rules, CallClass::Read, 404), CallOutcome::Failure);
    assert_eq!(outcome(&rules, CallClass::Read, 503), CallOutcome::Ignored);
    assert_eq!(
        assess(&rules, CallClass::Read, &expecting(&[]), Err(&CallError::Timeout)).outcome,
        CallOutcome::Ignored
    );
}

#[test]
fn health_check_without_an_expected_status_has_failed() {
    let rules = FailureCriteria::default();
    assert_eq!(outcome(&rules, CallClass::Probe, 404), CallOutcome::Failure);
    let expected = [StatusPattern::Exact(401)];
    let result = assess(&rules, CallClass::Probe, &expecting(&expected), Ok(&response(401)));
    assert_eq!(result, CallAssessment::of(CallOutcome::Success, CredentialResult::Accepted));
}

#[test]
fn health_check_without_a_response_has_failed_whatever_a_policy_counts() {
    let nothing_counts = FailureCriteria { failure_errors: vec![], ..FailureCriteria::default() };
    for error in [
        CallError::Timeout,
        CallError::Connect(ConnectError::Dns),
        CallError::Connect(ConnectError::Refused),
        CallError::Connect(ConnectError::Reset),
        CallError::Connect(ConnectError::Tls),
        CallError::Malformed,
        CallError::TooLarge { limit: 1 },
        CallError::TooComplex,
    ] {
        for rules in [&nothing_counts, &FailureCriteria::default()] {
            assert_eq!(
                assess(rules, CallClass::Probe, &expecting(&[]), Err(&error)).outcome,
                CallOutcome::Failure,
                "{error:?}"
            );
        }
        assert_eq!(
            assess(&nothing_counts, CallClass::Read, &expecting(&[]), Err(&error)).outcome,
            CallOutcome::Ignored
        );
    }
}

#[test]
fn credentials_are_refused_by_401_and_by_403_to_a_health_check() {
    let rules = FailureCriteria::default();
    let result = |class, status| {
        assess(&rules, class, &expecting(&[StatusPattern::Class(2)]), Ok(&response(status))).credentials
    };
    assert_eq!(result(CallClass::Read, 401), CredentialResult::Refused);
    assert_eq!(result(CallClass::Read, 403), CredentialResult::Unknown);
    assert_eq!(result(CallClass::Probe, 403), CredentialResult::Refused);
    assert_eq!(result(CallClass::Read, 200), CredentialResult::Accepted);
    assert_eq!(result(CallClass::Read, 503), CredentialResult::Unknown);
}

#[test]
fn class_not_status_decides_about_credentials() {
    let rules = FailureCriteria::default();
    let assessed = |call, status, class| {
        let result = Response {
            classification: Classification { class, retry_after: None, scope: LimitScope::Connection },
            ..response(status)
        };
        assess(&rules, call, &expecting(&[StatusPattern::Class(2)]), Ok(&result))
    };
    for status in [200, 302, 400, 401, 402, 403, 404, 429, 500, 503] {
        for class in ResponseClass::ALL {
            let wanted = match class {
                ResponseClass::Auth => CredentialResult::Refused,
                ResponseClass::Ok => CredentialResult::Accepted,
                ResponseClass::NotFound
                | ResponseClass::ItemGone
                | ResponseClass::RestartWindow
                | ResponseClass::ResetCursor
                | ResponseClass::EndOfData
                    if status == 200 =>
                {
                    CredentialResult::Accepted
                }
                _ => CredentialResult::Unknown,
            };
            let read = assessed(CallClass::Read, status, class);
            assert_eq!(read.credentials, wanted, "{status} {class:?}");
            assert_eq!(assessed(CallClass::Money, status, class), read, "{status} {class:?}");
            if class == ResponseClass::Auth {
                assert_eq!(
                    read.outcome,
                    CallOutcome::Ignored,
                    "a rejected key is not the provider's failure: {status}"
                );
                let probe = assessed(CallClass::Probe, status, class);
                assert_eq!(probe.credentials, read.credentials, "{status}");
                let failed = (CallOutcome::OwnFault, CallOutcome::Failure);
                assert_eq!((probe.outcome, probe.health), failed, "but the check has failed: {status}");
            }
        }
    }
    // A health check is known to be allowed by the plan.
    assert_eq!(assessed(CallClass::Probe, 403, ResponseClass::Rights).credentials, CredentialResult::Refused);
    assert_eq!(assessed(CallClass::Probe, 403, ResponseClass::Quota).credentials, CredentialResult::Unknown);
    assert_eq!(assessed(CallClass::Probe, 401, ResponseClass::Rights).credentials, CredentialResult::Unknown);
}

#[test]
fn rejected_key_with_status_200_refuses_credentials() {
    let body = r#"{"Error Message": "Invalid API KEY. Feel free to create a Free API Key"}"#;
    let (class, result) = read_by("fmp", 200, HeaderMap::new(), body);
    assert_eq!(
        (class, result.credentials, result.outcome),
        (ResponseClass::Auth, CredentialResult::Refused, CallOutcome::Ignored)
    );
    assert_eq!(read_by("fmp", 200, HeaderMap::new(), "[]").1.credentials, CredentialResult::Accepted);
}

#[test]
fn rejected_key_with_status_400_refuses_credentials() {
    let body =
        r#"{"error_code": 400, "error_message": "Bad Request. The value for variable api_key is not registered."}"#;
    let (class, result) = read_by("fred", 400, HeaderMap::new(), body);
    assert_eq!(
        (class, result.credentials, result.outcome),
        (ResponseClass::Auth, CredentialResult::Refused, CallOutcome::Ignored)
    );
    let other = r#"{"error_code": 400, "error_message": "Bad Request. The series does not exist."}"#;
    assert_eq!(read_by("fred", 400, HeaderMap::new(), other).1.credentials, CredentialResult::Unknown);
}

#[test]
fn expired_customer_consent_says_nothing_about_the_credentials() {
    let mut reauth = HeaderMap::new();
    reauth.insert("x-reauth-required", http::HeaderValue::from_static("true"));
    let over =
        r#"{"summary": "End User Agreement (EUA) has expired", "status_code": 401, "type": "AccessExpiredError"}"#;
    let revoked = r#"{"Errors": [{"ErrorCode": "UK.OBIE.Reauthenticate"}]}"#;
    for (provider, headers, body) in
        [("mono", reauth, "{}"), ("gocardless", HeaderMap::new(), over), ("open-banking-uk", HeaderMap::new(), revoked)]
    {
        let (class, result) = read_by(provider, 401, headers, body);
        assert_eq!((class, result.credentials), (ResponseClass::Rights, CredentialResult::Unknown), "{provider}");
        // Without that marker a 401 is about the credentials.
        let (class, result) = read_by(provider, 401, HeaderMap::new(), "{}");
        assert_eq!((class, result.credentials), (ResponseClass::Auth, CredentialResult::Refused), "{provider}");
    }
}
