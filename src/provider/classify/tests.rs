use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::*;
use crate::provider::call::{ConnectProblem, Meta};
use crate::provider::profile::Profiles;

fn answer(status: u16) -> Answer {
    Answer {
        status: StatusCode::from_u16(status).unwrap(),
        headers: HeaderMap::new(),
        body: Bytes::new(),
        elapsed: Duration::ZERO,
        reading: Reading::of_status(status),
        meta: Meta::default(),
    }
}

/// What `provider` means by it, and what that says of the credentials of a read.
fn read_by(provider: &str, status: u16, headers: HeaderMap, body: &'static str) -> (Class, Judgement) {
    let profile = Profiles::builtin().unwrap().get(provider).unwrap();
    let mut said = Answer { headers, body: Bytes::from_static(body.as_bytes()), ..answer(status) };
    said.reading = profile.read(&said, Timestamp::UNIX_EPOCH);
    (said.reading.class, judge(&Classify::default(), CallClass::Read, &[], Ok(&said)))
}

fn outcome(rules: &Classify, class: CallClass, status: u16) -> Outcome {
    judge(rules, class, &[StatusPattern::Class(2)], Ok(&answer(status))).outcome
}

#[test]
fn by_default_only_5xx_connect_with_its_finer_kinds_and_timeout_count_against_the_provider() {
    let rules = Classify::default();
    for status in [500, 502, 503, 504, 599] {
        assert_eq!(outcome(&rules, CallClass::Read, status), Outcome::Failure, "{status}");
    }
    for status in [200, 204, 302, 400, 402, 404, 409, 410, 423] {
        assert_eq!(outcome(&rules, CallClass::Read, status), Outcome::Success, "{status}");
    }
    for status in [401, 403, 429] {
        assert_eq!(outcome(&rules, CallClass::Read, status), Outcome::Ignored, "{status}");
        assert_eq!(outcome(&rules, CallClass::Probe, status), Outcome::Ignored, "{status}");
    }
    let ended = |error: &CallError| judge(&rules, CallClass::Read, &[], Err(error)).outcome;
    for (error, class) in [
        (CallError::Timeout, ErrorClass::Timeout),
        (CallError::Connect(ConnectProblem::Refused), ErrorClass::Connect),
        (CallError::Connect(ConnectProblem::TimedOut), ErrorClass::Connect),
        (CallError::Connect(ConnectProblem::Expired), ErrorClass::Tls),
        (CallError::Connect(ConnectProblem::Tls), ErrorClass::Tls),
        (CallError::Connect(ConnectProblem::Reset), ErrorClass::Reset),
    ] {
        assert_eq!((error.class(), ended(&error)), (Some(class), Outcome::Failure), "{error:?}");
    }
    for error in [
        CallError::TooLarge { limit: 1 },
        CallError::Malformed,
        CallError::NoToken { status: None, class: ErrorClass::Timeout },
        CallError::TokenCircuitOpen { retry_in: None },
        CallError::QuotaExhausted { retry_in: Duration::ZERO },
    ] {
        assert_eq!(ended(&error), Outcome::Ignored, "{error:?}");
    }
}

#[test]
fn a_set_list_replaces_the_default_and_ignore_outranks_failure() {
    let rules = Classify {
        failure_statuses: vec![StatusPattern::Exact(404), StatusPattern::Class(5)],
        failure_errors: vec![],
        ignore_statuses: vec![StatusPattern::Exact(503)],
    };
    assert_eq!(outcome(&rules, CallClass::Read, 404), Outcome::Failure);
    assert_eq!(outcome(&rules, CallClass::Read, 503), Outcome::Ignored);
    assert_eq!(judge(&rules, CallClass::Read, &[], Err(&CallError::Timeout)).outcome, Outcome::Ignored);
}

#[test]
fn a_health_check_that_is_not_answered_as_expected_has_failed() {
    let rules = Classify::default();
    assert_eq!(outcome(&rules, CallClass::Probe, 404), Outcome::Failure);
    let expected = [StatusPattern::Exact(401)];
    let said = judge(&rules, CallClass::Probe, &expected, Ok(&answer(401)));
    assert_eq!(said, Judgement { outcome: Outcome::Success, credentials: Credentials::Accepted });
}

#[test]
fn credentials_are_refused_by_401_and_by_a_health_checks_403() {
    let rules = Classify::default();
    let said = |class, status| judge(&rules, class, &[StatusPattern::Class(2)], Ok(&answer(status))).credentials;
    assert_eq!(said(CallClass::Read, 401), Credentials::Refused);
    assert_eq!(said(CallClass::Read, 403), Credentials::Silent);
    assert_eq!(said(CallClass::Probe, 403), Credentials::Refused);
    assert_eq!(said(CallClass::Read, 200), Credentials::Accepted);
    assert_eq!(said(CallClass::Read, 503), Credentials::Silent);
}

#[test]
fn patterns_read_what_specs_may_write() {
    assert_eq!("5xx".parse(), Ok(StatusPattern::Class(5)));
    assert_eq!("404".parse(), Ok(StatusPattern::Exact(404)));
    for bad in ["6xx", "0xx", "99", "600", "x", "5XX", ""] {
        assert!(bad.parse::<StatusPattern>().is_err(), "{bad}");
    }
}

#[test]
fn of_the_credentials_speaks_the_class_and_not_the_status() {
    let rules = Classify::default();
    let told = |call, status, class| {
        let said = Answer { reading: Reading { class, wait: None, scope: Scope::Connection }, ..answer(status) };
        judge(&rules, call, &[StatusPattern::Class(2)], Ok(&said))
    };
    for status in [200, 302, 400, 401, 402, 403, 404, 429, 500, 503] {
        for class in Class::ALL {
            let wanted = match class {
                Class::Auth => Credentials::Refused,
                Class::Ok => Credentials::Accepted,
                Class::NotFound | Class::ItemGone | Class::RestartWindow | Class::ResetCursor | Class::EndOfData
                    if status == 200 =>
                {
                    Credentials::Accepted
                }
                _ => Credentials::Silent,
            };
            let read = told(CallClass::Read, status, class);
            assert_eq!(read.credentials, wanted, "{status} {class:?}");
            assert_eq!(told(CallClass::Money, status, class), read, "{status} {class:?}");
            if class == Class::Auth {
                assert_eq!(read.outcome, Outcome::Ignored, "a refused key is no fault of the provider's: {status}");
                assert_eq!(told(CallClass::Probe, status, class), read, "{status}");
            }
        }
    }
    // A health check is known to be allowed.
    assert_eq!(told(CallClass::Probe, 403, Class::Rights).credentials, Credentials::Refused);
    assert_eq!(told(CallClass::Probe, 403, Class::Quota).credentials, Credentials::Silent);
    assert_eq!(told(CallClass::Probe, 401, Class::Rights).credentials, Credentials::Silent);
}

#[test]
fn a_refused_key_is_refused_though_it_comes_with_200() {
    let body = r#"{"Error Message": "Invalid API KEY. Feel free to create a Free API Key"}"#;
    let (class, said) = read_by("fmp", 200, HeaderMap::new(), body);
    assert_eq!((class, said.credentials, said.outcome), (Class::Auth, Credentials::Refused, Outcome::Ignored));
    assert_eq!(read_by("fmp", 200, HeaderMap::new(), "[]").1.credentials, Credentials::Accepted);
}

#[test]
fn a_refused_key_is_refused_though_it_comes_with_400() {
    let body =
        r#"{"error_code": 400, "error_message": "Bad Request. The value for variable api_key is not registered."}"#;
    let (class, said) = read_by("fred", 400, HeaderMap::new(), body);
    assert_eq!((class, said.credentials, said.outcome), (Class::Auth, Credentials::Refused, Outcome::Ignored));
    let other = r#"{"error_code": 400, "error_message": "Bad Request. The series does not exist."}"#;
    assert_eq!(read_by("fred", 400, HeaderMap::new(), other).1.credentials, Credentials::Silent);
}

#[test]
fn the_consent_of_one_customer_says_nothing_of_the_connections_credentials() {
    let mut reauth = HeaderMap::new();
    reauth.insert("x-reauth-required", http::HeaderValue::from_static("true"));
    let over =
        r#"{"summary": "End User Agreement (EUA) has expired", "status_code": 401, "type": "AccessExpiredError"}"#;
    let revoked = r#"{"Errors": [{"ErrorCode": "UK.OBIE.Reauthenticate"}]}"#;
    for (provider, headers, body) in
        [("mono", reauth, "{}"), ("gocardless", HeaderMap::new(), over), ("open-banking-uk", HeaderMap::new(), revoked)]
    {
        let (class, said) = read_by(provider, 401, headers, body);
        assert_eq!((class, said.credentials), (Class::Rights, Credentials::Silent), "{provider}");
        // Without that word a 401 is about the credentials, as everywhere.
        let (class, said) = read_by(provider, 401, HeaderMap::new(), "{}");
        assert_eq!((class, said.credentials), (Class::Auth, Credentials::Refused), "{provider}");
    }
}
