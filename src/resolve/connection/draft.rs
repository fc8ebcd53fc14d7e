//! Fills the draft of a connection's settings from its spec, profile, policy and Secrets. Pure.
//!
//! A set field overrides the profile, the profile overrides the defaults. A field that this version does not implement
//! is rejected where ignoring it would be unsafe; otherwise the message of Ready names it as not used.

use std::sync::Arc;
use std::time::Duration;

use crate::api::v1alpha1::provider_connection::{
    Environment as EnvironmentSpec, HealthCheck as HealthCheckSpec, HealthCheckMode, OverrideMode as OverrideSpec,
    ProviderConnectionSpec,
};
use crate::domain::breaker::OverrideMode;
use crate::domain::window::TimeWindow;
use crate::profile::{CheckMode, Environment, ExpectedContent, Profile, StatusPattern};
use crate::resolve::breaker_policy::BreakerRules;
use crate::resolve::connection::checks::require_https;
use crate::resolve::connection::{access, call_policy, credentials, payouts};
use crate::resolve::fields::{duration, instant, windows};
use crate::resolve::secrets::ReferencedSecrets;
use crate::resolve::spec_error::SpecError;
use crate::settings::{CircuitOverride, Draft, HealthCheck, Timeouts};

/// The settings before validation. `busbar explain` prints them, so that it shows what the operator uses.
pub fn draft(
    spec: &ProviderConnectionSpec,
    profile: Arc<Profile>,
    rules: BreakerRules,
    secrets: &ReferencedSecrets<'_>,
) -> Result<Draft, SpecError> {
    let environment = match spec.environment {
        EnvironmentSpec::Sandbox => Environment::Sandbox,
        EnvironmentSpec::Production => Environment::Production,
    };
    let mut draft = Draft::new(profile, environment);
    draft.breaker = rules.policy;
    draft.failure_criteria = rules.failure_criteria;
    draft.suspended = spec.suspend;
    draft.circuit_override = circuit_override(spec)?;
    draft.maintenance = maintenance_windows(spec)?;
    endpoint(spec, &mut draft)?;
    if let Some(auth) = &spec.auth {
        let secret = secrets
            .auth
            .as_ref()
            .ok_or_else(|| SpecError::invalid("auth", "must set exactly one authentication method"))?;
        draft.credential_revision = secret.revision();
        let renamed = auth.bearer.as_ref().map(|bearer| &bearer.secret_ref);
        let renamed = renamed.or(auth.api_key.as_ref().map(|api_key| &api_key.secret_ref));
        let key = renamed.and_then(|reference| reference.key.as_deref()).unwrap_or_default();
        draft.auth_reference = format!("{} {} {key}", secret.field, secret.name);
        draft.auth = credentials::auth(spec, auth, secret, &draft)?;
    }
    credentials::tls(spec, secrets, &mut draft)?;
    timeouts(spec, &mut draft)?;
    call_policy::apply(spec, &mut draft)?;
    health_check(spec, &mut draft)?;
    access::access(spec, &mut draft)?;
    payouts::narrow(spec, &mut draft)?;
    Ok(draft)
}

/// The circuit override; the breaker ignores an expired one.
fn circuit_override(spec: &ProviderConnectionSpec) -> Result<Option<CircuitOverride>, SpecError> {
    let Some(circuit_override) = &spec.circuit_override else { return Ok(None) };
    let mode = match circuit_override.mode {
        OverrideSpec::ForcedOpen => OverrideMode::ForcedOpen,
        OverrideSpec::ForcedClosed => OverrideMode::ForcedClosed,
        OverrideSpec::Shadow => OverrideMode::Shadow,
    };
    let until = instant("circuitOverride.untilTime", &circuit_override.until_time)?;
    Ok(Some(CircuitOverride { mode, until }))
}

/// The maintenance windows of a connection.
pub fn maintenance_windows(spec: &ProviderConnectionSpec) -> Result<Vec<TimeWindow>, SpecError> {
    windows("maintenance", spec.maintenance.as_deref())
}

fn endpoint(spec: &ProviderConnectionSpec, draft: &mut Draft) -> Result<(), SpecError> {
    let Some(endpoint) = &spec.endpoint else {
        return if draft.base_url.is_empty() {
            Err(SpecError::invalid("endpoint.baseURL", "is required: the profile has no base URL"))
        } else {
            Ok(())
        };
    };
    if let Some(url) = &endpoint.base_url {
        require_https(spec, "endpoint.baseURL", url)?;
        url.to_string().clone_into(&mut draft.base_url);
    }
    if draft.base_url.is_empty() {
        return Err(SpecError::invalid("endpoint.baseURL", "is required: the profile has no base URL"));
    }
    let given = endpoint.parameters.as_deref().cloned().unwrap_or_default();
    draft.parameters = draft
        .profile
        .endpoint_parameters(&given)
        .map_err(|error| SpecError::invalid("endpoint.parameters", format_args!("is invalid: {error}")))?;
    Ok(())
}

fn timeouts(spec: &ProviderConnectionSpec, draft: &mut Draft) -> Result<(), SpecError> {
    let Some(timeout) = &spec.timeout else { return Ok(()) };
    let Timeouts { connect, request, total, .. } = draft.timeouts;
    draft.timeouts = Timeouts {
        connect: duration("timeout.connect", timeout.connect.as_deref(), connect)?,
        request: duration("timeout.request", timeout.request.as_deref(), request)?,
        total: duration("timeout.total", timeout.total.as_deref(), total)?,
        ..draft.timeouts
    };
    Ok(())
}

/// What the check expects besides the status. What the profile expects is about a good response: it does not apply to a
/// connection that expects none, and JSON is not expected of one that expects another type, such as the text of a `/ping`.
fn expected_content(check: &HealthCheckSpec, statuses: &[StatusPattern], profile: ExpectedContent) -> ExpectedContent {
    let expects_success = (200..300).any(|status| statuses.iter().any(|pattern| pattern.matches(status)));
    let profile = if expects_success { profile } else { ExpectedContent::default() };
    let other_type =
        check.expected_content_type.as_ref().is_some_and(|text| !text.to_ascii_lowercase().ends_with("json"));
    ExpectedContent {
        content_type: check.expected_content_type.clone().or(profile.content_type),
        pointer: check.expected_json_pointer.clone().or(profile.pointer.filter(|_| !other_type)),
    }
}

fn health_check(spec: &ProviderConnectionSpec, draft: &mut Draft) -> Result<(), SpecError> {
    let Some(check) = &spec.health_check else { return Ok(()) };
    let base = draft.health_check.clone();
    let interval = duration("healthCheck.interval", check.interval.as_deref(), base.interval)?;
    // An interval below the default timeout shortens the timeout too: a probe ends before the next one starts.
    let timeout = duration("healthCheck.timeout", check.timeout.as_deref(), base.timeout.min(interval))?;
    let statuses = match &check.expected_statuses {
        None => base.expected_statuses,
        Some(list) => list
            .iter()
            .map(|s| {
                s.parse().map_err(|_| {
                    SpecError::invalid("healthCheck.expectedStatuses", "must hold statuses such as 204 or 2xx")
                })
            })
            .collect::<Result<_, _>>()?,
    };
    let threshold = |field: &str, set: Option<i32>, default: u32| match set {
        None => Ok(default),
        Some(n) => {
            u32::try_from(n).ok().filter(|n| *n > 0).ok_or_else(|| SpecError::invalid(field, "must be at least 1"))
        }
    };
    draft.health_check = HealthCheck {
        mode: match check.mode {
            None => base.mode,
            Some(HealthCheckMode::Active) => CheckMode::Active,
            Some(HealthCheckMode::Passive) => CheckMode::Passive,
        },
        interval,
        timeout,
        path: check.path.clone().or(base.path),
        expected_content: expected_content(check, &statuses, base.expected_content),
        expected_statuses: statuses,
        healthy_threshold: threshold("healthCheck.healthyThreshold", check.healthy_threshold, base.healthy_threshold)?,
        unhealthy_threshold: threshold(
            "healthCheck.unhealthyThreshold",
            check.unhealthy_threshold,
            base.unhealthy_threshold,
        )?,
        latency_threshold: check
            .latency_threshold
            .as_deref()
            .map(|text| duration("healthCheck.latencyThreshold", Some(text), Duration::ZERO))
            .transpose()?,
    };
    Ok(())
}
