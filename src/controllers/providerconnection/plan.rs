//! Resolves a connection's spec, profile, policy and Secrets to its settings. Pure.
//!
//! A set field overrides the profile, the profile overrides the defaults. A field that this version does not implement
//! is rejected where ignoring it would be unsafe; otherwise the message of Ready names it as not used.

mod access;
mod call_policy;
mod checks;
mod credentials;
mod secrets;

use std::sync::Arc;
use std::time::Duration;

use crate::api::v1alpha1::provider_connection::{
    HealthCheckMode, OverrideMode as OverrideSpec, ProviderConnectionSpec,
};
use crate::api::v1alpha1::reasons::Reason;
use crate::controllers::resolve::{SpecError, duration, instant, windows};
use crate::domain::breaker::{OverrideMode, Policy};
use crate::profile::{CheckMode, Environment, Profile};
use crate::settings::FailureCriteria;
use crate::settings::addresses::{AddressDenied, AddressRules, EndpointRole};
use crate::settings::{CircuitOverride, Draft, HealthCheck, Settings, Timeouts};

use self::checks::{require_https, spec_error};
pub use self::secrets::{ReferencedSecrets, SecretReference, referenced_secrets};

/// The profile that `spec.provider` names, or `ProfileNotFound`.
pub fn profile(provider: &str, known: Option<Arc<Profile>>) -> Result<Arc<Profile>, SpecError> {
    known.ok_or_else(|| {
        let message = format!(
            "profile {provider:?} (spec.provider) not loaded: name a built-in profile, or one in --profiles-dir"
        );
        SpecError::stalled(Reason::ProfileNotFound, message)
    })
}

/// Rejects settings that the operator's flags do not allow: refresh tokens without an encryption key, and literal
/// addresses outside the allowed ranges. Host names are checked when they are resolved.
pub fn check_operator_allows(
    spec: &ProviderConnectionSpec,
    settings: &Settings,
    has_key: bool,
    rules: &AddressRules,
) -> Result<(), SpecError> {
    if !has_key && spec.auth.as_ref().is_some_and(|auth| auth.oauth2_refresh_token.is_some()) {
        let message = "spec.auth.oauth2RefreshToken requires encrypted storage for rotated refresh tokens: start the \
                       operator with --key-secret";
        return Err(SpecError::stalled(Reason::KeyMissing, message));
    }
    let hosts = [
        (EndpointRole::Provider, Some(settings.base_url().clone())),
        (EndpointRole::TokenEndpoint, settings.auth().token_url()),
    ];
    for (endpoint, url) in hosts {
        if let Some(Err(kind)) = url.map(|url| rules.check_url(&url)) {
            let denied = AddressDenied { endpoint, kind };
            let message = format!("{denied}: use a public address, or allow the range on the operator");
            return Err(SpecError::stalled(Reason::AddressNotAllowed, message));
        }
    }
    Ok(())
}

/// Set fields that this version does not use.
pub fn unused_fields(spec: &ProviderConnectionSpec) -> Vec<&'static str> {
    let set = [("webhook", spec.webhook.is_some()), ("payouts", spec.payouts.is_some())];
    set.into_iter().filter(|(_, set)| *set).map(|(name, _)| name).collect()
}

/// The validated settings of the connection.
pub fn settings(
    spec: &ProviderConnectionSpec,
    profile: Arc<Profile>,
    rules: (Policy, FailureCriteria),
    secrets: &ReferencedSecrets,
) -> Result<Settings, SpecError> {
    Settings::resolve(draft(spec, profile, rules, secrets)?).map_err(|e| spec_error(&e))
}

/// The settings before validation. `busbar explain` prints them, so that it shows what the operator uses.
pub fn draft(
    spec: &ProviderConnectionSpec,
    profile: Arc<Profile>,
    (policy, failure_criteria): (Policy, FailureCriteria),
    secrets: &ReferencedSecrets,
) -> Result<Draft, SpecError> {
    let environment = match spec.environment {
        crate::api::v1alpha1::provider_connection::Environment::Sandbox => Environment::Sandbox,
        crate::api::v1alpha1::provider_connection::Environment::Production => Environment::Production,
    };
    let mut draft = Draft::new(profile, environment);
    draft.breaker = policy;
    draft.failure_criteria = failure_criteria;
    draft.suspended = spec.suspend;
    draft.circuit_override = circuit_override(spec)?;
    draft.maintenance = windows("maintenance", spec.maintenance.as_deref())?;
    endpoint(spec, &mut draft)?;
    if let Some(auth) = &spec.auth {
        let secret = secrets
            .auth
            .as_ref()
            .ok_or_else(|| SpecError::invalid("auth", "must set exactly one authentication method"))?;
        draft.credential_revision = secret.revision();
        draft.auth = credentials::auth(spec, auth, secret, &draft)?;
    }
    credentials::tls(spec, secrets, &mut draft)?;
    timeouts(spec, &mut draft)?;
    call_policy::apply(spec, &mut draft)?;
    health_check(spec, &mut draft)?;
    access::access(spec, &mut draft)?;
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
