//! How many series name a connection.

use std::sync::Arc;

use super::*;
use crate::clock::Clock;
use crate::controllers::collector::series_of;
use crate::domain::breaker::{CallClass, OverrideMode as Forced};
use crate::domain::quota::{Limit, Scope, Unit};
use crate::metrics::Metrics;
use crate::provider::call::CallError;
use crate::provider::classify::Reading;
use crate::provider::course::Course;
use crate::provider::registry::{Access, Registry};
use crate::provider::settings::{CircuitOverride as Overlay, ClientCertificate, Settings};
use crate::provider::testkit::{answer, draft};

/// What an object may have.
const MOST: usize = 25;

/// A certificate and its key.
fn certificate() -> ClientCertificate {
    let key = rcgen::KeyPair::generate().unwrap();
    let cert = rcgen::CertificateParams::new(["x.test".to_owned()]).unwrap().self_signed(&key).unwrap();
    ClientCertificate { certificate: cert.pem().into_bytes(), key: key.serialize_pem().into() }
}

#[tokio::test(start_paused = true)]
async fn a_connection_with_everything_switched_on_has_at_most_twenty_five_series() {
    let (clock, metrics) = (Clock::starting_at(T0.parse().unwrap()), Metrics::new());
    let registry = Registry::new(clock, &metrics, Access::local()).unwrap();
    let mut draft = draft();
    draft.base_url = "https://bank.test".to_owned();
    draft.tls.client = Some(certificate());
    draft.breaker.consecutive_failures = 1;
    draft.breaker.open.base = Duration::from_secs(1);
    draft.breaker.half_open.required_successes = 1;
    draft.limits = vec![Limit {
        name: "all".to_owned(),
        scope: Scope::Connection,
        requests: 100,
        unit: Unit::Minute,
        burst: None,
        operations: Vec::new(),
    }];
    let plain = Settings::resolve(draft.clone()).unwrap();
    let live = registry.apply(&object_key(), "uid-1", plain, None);
    let core = live.core();

    // Operations and codes of every kind, and every move that calls can make.
    for (n, code) in (400_u16..430).chain(500..530).chain([200, 302]).enumerate() {
        for class in [CallClass::Probe, CallClass::Read, CallClass::Money] {
            let operation: Arc<str> = format!("operation-{n}").into();
            let started = clock.mono();
            match core.admit(class, started) {
                Ok(permit) => {
                    let ended = answer(code);
                    core.finished(
                        &live.settings(),
                        permit,
                        class,
                        &operation,
                        (started, &Course::default()),
                        Ok(&ended),
                    );
                }
                Err(_) => core.refused(&live.settings(), &operation),
            }
            let probe = core.admit(CallClass::Probe, clock.mono()).unwrap();
            core.skipped(&live.settings(), probe, &operation, &CallError::Suspended);
        }
        tokio::time::advance(Duration::from_secs(2)).await;
        let trial = core.admit(CallClass::Probe, clock.mono()).unwrap();
        let (operation, course, started) = ("trial".into(), Course::default(), clock.mono());
        core.finished(&live.settings(), trial, CallClass::Probe, &operation, (started, &course), Ok(&answer(200)));
    }
    core.token_asked(Ok(503), "failure");
    core.heard(&live.settings(), ("quote", None), Reading::of_status(429));
    // And a person who holds it open.
    draft.circuit_override =
        Some(Overlay { mode: Forced::ForcedOpen, until: clock.now().wall + jiff::SignedDuration::from_hours(1) });
    registry.apply(&object_key(), "uid-1", Settings::resolve(draft).unwrap(), None);

    let text = metrics.render().unwrap();
    let own: Vec<&str> = text.lines().filter(|line| line.contains(r#"connection="bank-a""#)).collect();
    for part in [
        "busbar_provider_requests_total{code=\"other\"",
        "outcome=\"success\"",
        "outcome=\"failure\"",
        "outcome=\"ignored\"",
        "from=\"other\"",
        "state=\"ForcedOpen\"} 1",
        "state=\"Open\"} 0",
        "busbar_risk_ratio",
        "busbar_probe_success",
        "busbar_credential_expiry_timestamp_seconds",
        "busbar_quota_remaining_ratio",
        "busbar_throttled_until_timestamp_seconds",
    ] {
        assert!(own.iter().any(|line| line.contains(part)), "{part} is missing: {own:#?}");
    }

    // Every condition that can stand beside the others.
    let mut whole = object();
    whole.spec.suspend = true;
    let worst = LiveView {
        effective: Effective::ForcedOpen,
        health: Health::Unhealthy,
        verdict: Verdict::Refused,
        authenticated: Some(false),
        throttled_until: Some(now().wall + jiff::SignedDuration::from_hours(1)),
        ..live_view()
    };
    whole.status = Some(status(&whole, None, &observed(Some(worst))));
    assert_eq!(whole.status.as_ref().unwrap().conditions.len(), 7);
    let of_the_object = series_of(whole);
    assert!(own.len() + of_the_object <= MOST, "{} and {of_the_object}:\n{}", own.len(), own.join("\n"));
}

fn object_key() -> crate::domain::key::ObjectKey {
    crate::domain::key::ObjectKey::new("ns", "bank-a")
}

/// The helper of the other tests, under a name that a running connection does not take.
fn live_view() -> LiveView {
    super::live()
}
