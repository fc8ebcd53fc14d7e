//! The number of metric series per connection is bounded.

use std::sync::Arc;

use super::*;
use crate::clock::Clock;
use crate::controllers::collector::series_count;
use crate::domain::breaker::{CallClass, OverrideMode as Forced};
use crate::domain::quota::{Limit, LimitScope, LimitUnit};
use crate::metrics::Metrics;
use crate::profile::Classification;
use crate::provider::call::CallError;
use crate::provider::call_progress::CallProgress;
use crate::provider::metrics::ResultCode;
use crate::provider::monitor::CompletedCall;
use crate::provider::registry::{Registry, RegistryOptions};
use crate::provider::testkit::{draft, response};
use crate::settings::{CircuitOverride as Overlay, ClientCertificate, Settings};

/// Upper bound of series per connection.
const MAX_SERIES: usize = 25;

/// A self-signed client certificate and its key.
fn certificate() -> ClientCertificate {
    let key = rcgen::KeyPair::generate().unwrap();
    let cert = rcgen::CertificateParams::new(["x.test".to_owned()]).unwrap().self_signed(&key).unwrap();
    ClientCertificate { certificate: cert.pem().into_bytes(), key: key.serialize_pem().into() }
}

#[tokio::test(start_paused = true)]
async fn a_connection_with_all_features_has_at_most_twenty_five_series() {
    let (clock, metrics) = (Clock::starting_at(T0.parse().unwrap()), Metrics::new());
    let registry = Registry::new(clock, &metrics, RegistryOptions::allowing_loopback()).unwrap();
    let mut draft = draft();
    draft.base_url = "https://bank.test".to_owned();
    draft.tls.client = Some(certificate());
    draft.breaker.consecutive_failures = 1;
    draft.breaker.open.base = Duration::from_secs(1);
    draft.breaker.half_open.required_successes = 1;
    draft.limits = vec![Limit {
        name: "all".to_owned(),
        scope: LimitScope::Connection,
        requests: 100,
        unit: LimitUnit::Minute,
        burst: None,
        operations: Vec::new(),
    }];
    let plain = Settings::resolve(draft.clone()).unwrap();
    let live = registry.apply(&object_key(), "uid-1", plain, None);
    let monitor = live.monitor();

    // All kinds of operations and status codes, and all circuit transitions that calls can cause.
    let record = |permit, class, operation: &Arc<str>, started, code| {
        let (response, progress) = (response(code), CallProgress::default());
        let call = CompletedCall { permit, class, operation, started, progress: &progress, result: Ok(&response) };
        monitor.record(&live.settings(), &call);
    };
    for (n, code) in (400_u16..430).chain(500..530).chain([200, 302]).enumerate() {
        for class in [CallClass::Probe, CallClass::Read, CallClass::Money] {
            let operation: Arc<str> = format!("operation-{n}").into();
            let started = clock.mono();
            match monitor.admit(class, started) {
                Ok(permit) => record(permit, class, &operation, started, code),
                Err(_) => monitor.record_refused(&operation),
            }
            let probe = monitor.admit(CallClass::Probe, clock.mono()).unwrap();
            monitor.record_skipped(&live.settings(), probe, &operation, &CallError::Suspended);
        }
        tokio::time::advance(Duration::from_secs(2)).await;
        let started = clock.mono();
        let trial = monitor.admit(CallClass::Probe, started).unwrap();
        record(trial, CallClass::Probe, &"trial".into(), started, 200);
    }
    monitor.record_token_request(ResultCode::Status(503), "failure");
    monitor.observe_rate_limit(&live.settings(), CallClass::Read, "quote", None, Classification::of_status(429));
    // And a circuit override.
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

    // All conditions that can be present at once.
    let mut object = object();
    object.spec.suspend = true;
    let worst = LiveConnection {
        effective: EffectiveState::ForcedOpen,
        health: Health::Unhealthy,
        verification: VerificationState::Rejected,
        authenticated: Some(false),
        throttled_until: Some(now().wall + jiff::SignedDuration::from_hours(1)),
        ..live_view()
    };
    object.status = Some(status(&object, None, &inputs(Some(worst))));
    assert_eq!(object.status.as_ref().unwrap().conditions.len(), 7);
    let object_series = series_count(object);
    assert!(own.len() + object_series <= MAX_SERIES, "{} and {object_series}:\n{}", own.len(), own.join("\n"));
}

fn object_key() -> crate::domain::key::ObjectKey {
    crate::domain::key::ObjectKey::new("ns", "bank-a")
}

/// `live()` of the parent module, which the local variable `live` hides.
fn live_view() -> LiveConnection {
    super::live()
}
