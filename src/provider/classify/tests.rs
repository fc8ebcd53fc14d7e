use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::*;
use crate::provider::call::{ConnectProblem, Meta};

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
