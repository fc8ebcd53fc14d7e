//! From a connection's spec, its profile, its policy and its Secrets to the settings of a live connection. Pure.
//!
//! A set field wins over the profile, the profile over the defaults. What this version does not do yet is
//! refused where ignoring it would betray the user, and else named in the message of Ready: calls merely go without it.

mod access;
mod credentials;
mod manners;

use std::sync::Arc;
use std::time::Duration;

use crate::api::v1alpha1::provider_connection::{
    HealthCheckMode, OverrideMode as OverrideSpec, ProviderConnectionSpec,
};
use crate::api::v1alpha1::reasons::Reason;
use crate::controllers::resolve::{Found, Problem, duration, instant, windows};
use crate::domain::breaker::{OverrideMode, Policy};
use crate::provider::addresses::{AddressProblem, AddressRules, Peer};
use crate::provider::classify::Classify;
use crate::provider::profile::{CheckMode, Environment, Profile};
use crate::provider::settings::{CircuitOverride, Draft, HealthCheck, Settings, SettingsError, Timeouts};

/// The Secrets a spec names, as they were found.
#[derive(Clone, Debug, Default)]
pub struct FoundSecrets {
    /// Of `auth`.
    pub auth: Option<Found>,
    /// Of `tls.certSecretRef`.
    pub tls: Option<Found>,
}

/// A field below `spec`, and the Secret that it names.
pub type Named<'a> = (&'static str, &'a str);

/// The Secrets that `spec` names: that of `auth`, and that of `tls`.
pub fn needed_secrets(spec: &ProviderConnectionSpec) -> (Option<Named<'_>>, Option<Named<'_>>) {
    let auth = spec.auth.as_ref().and_then(|auth| {
        auth.profile
            .as_ref()
            .map(|a| ("auth.profile.secretRef", &*a.secret_ref.name))
            .or(auth.bearer.as_ref().map(|a| ("auth.bearer.secretRef", &*a.secret_ref.name)))
            .or(auth.basic.as_ref().map(|a| ("auth.basic.secretRef", &*a.secret_ref.name)))
            .or(auth.api_key.as_ref().map(|a| ("auth.apiKey.secretRef", &*a.secret_ref.name)))
            .or(auth
                .oauth2_client_credentials
                .as_ref()
                .map(|a| ("auth.oauth2ClientCredentials.secretRef", &*a.secret_ref.name)))
            .or(auth.oauth2_refresh_token.as_ref().map(|a| ("auth.oauth2RefreshToken.secretRef", &*a.secret_ref.name)))
    });
    let tls = spec.tls.as_ref().and_then(|tls| tls.cert_secret_ref.as_ref()).map(|r| ("tls.certSecretRef", &*r.name));
    (auth, tls)
}

/// The profile that `spec.provider` names.
pub fn profile(provider: &str, known: Option<Arc<Profile>>) -> Result<Arc<Profile>, Problem> {
    known.ok_or_else(|| {
        let message = format!("spec.provider {provider:?} is a profile that this operator has not loaded");
        Problem::stalled(Reason::ProfileNotFound, message)
    })
}

/// Whether the operator's set-up lets this connection work: a key for what must be kept encrypted, and leave to connect to
/// addresses that the spec spells out. Names are judged when they are resolved.
pub fn refuse_unallowed(
    spec: &ProviderConnectionSpec,
    settings: &Settings,
    has_key: bool,
    rules: &AddressRules,
) -> Result<(), Problem> {
    if !has_key && spec.auth.as_ref().is_some_and(|auth| auth.oauth2_refresh_token.is_some()) {
        let message = "spec.auth.oauth2RefreshToken needs a place for refresh tokens that the provider replaces, and they \
                       are kept encrypted only: give the operator --key-secret";
        return Err(Problem::stalled(Reason::KeyMissing, message));
    }
    let hosts =
        [(Peer::Provider, Some(settings.base_url().clone())), (Peer::TokenEndpoint, settings.auth().token_url())];
    for (peer, url) in hosts {
        if let Some(Err(kind)) = url.map(|url| rules.check_url(&url)) {
            let problem = AddressProblem { peer, kind };
            let message = format!("{problem}: use a public address, or have the operator's owner allow the range");
            return Err(Problem::stalled(Reason::AddressNotAllowed, message));
        }
    }
    Ok(())
}

/// Set fields that no code reads yet; calls go without them.
pub fn unread_fields(spec: &ProviderConnectionSpec) -> Vec<&'static str> {
    let set = [("webhook", spec.webhook.is_some()), ("payouts", spec.payouts.is_some())];
    set.into_iter().filter(|(_, set)| *set).map(|(name, _)| name).collect()
}

/// The settings of a live connection.
pub fn settings(
    spec: &ProviderConnectionSpec,
    profile: Arc<Profile>,
    rules: (Policy, Classify),
    secrets: &FoundSecrets,
) -> Result<Settings, Problem> {
    Settings::resolve(draft(spec, profile, rules, secrets)?).map_err(|e| problem(&e))
}

/// The same before it is checked: what `busbar explain` prints, so that it tells what the operator does.
pub fn draft(
    spec: &ProviderConnectionSpec,
    profile: Arc<Profile>,
    (policy, classify): (Policy, Classify),
    secrets: &FoundSecrets,
) -> Result<Draft, Problem> {
    let environment = match spec.environment {
        crate::api::v1alpha1::provider_connection::Environment::Sandbox => Environment::Sandbox,
        crate::api::v1alpha1::provider_connection::Environment::Production => Environment::Production,
    };
    let mut draft = Draft::new(profile, environment);
    draft.breaker = policy;
    draft.classify = classify;
    draft.suspended = spec.suspend;
    draft.circuit_override = circuit_override(spec)?;
    draft.maintenance = windows("maintenance", spec.maintenance.as_deref())?;
    endpoint(spec, &mut draft)?;
    if let Some(auth) = &spec.auth {
        let found = secrets
            .auth
            .as_ref()
            .ok_or_else(|| Problem::invalid("auth", "must set exactly one way to authenticate"))?;
        draft.credential_revision = found.revision();
        draft.auth = credentials::auth(spec, auth, found, &draft)?;
    }
    credentials::tls(spec, secrets, &mut draft)?;
    timeouts(spec, &mut draft)?;
    manners::apply(spec, &mut draft)?;
    health_check(spec, &mut draft)?;
    access::access(spec, &mut draft)?;
    Ok(draft)
}

/// What is sent in the clear only in a sandbox that says so: the rule for every address that credentials go to.
fn secure(spec: &ProviderConnectionSpec, field: &str, url: &str) -> Result<(), Problem> {
    let insecure = spec.endpoint.as_ref().is_some_and(|endpoint| endpoint.insecure == Some(true));
    let sandbox = spec.environment == crate::api::v1alpha1::provider_connection::Environment::Sandbox;
    // Schemes are read without regard to case, as URLs are.
    let https = url.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"));
    if https || (insecure && sandbox) {
        return Ok(());
    }
    let problem = "must be https unless endpoint.insecure is true and the environment is Sandbox";
    Err(Problem::invalid(field, problem))
}

/// What Ops want of the circuit for a while; one that is past its time is none to the breaker.
fn circuit_override(spec: &ProviderConnectionSpec) -> Result<Option<CircuitOverride>, Problem> {
    let Some(wanted) = &spec.circuit_override else { return Ok(None) };
    let mode = match wanted.mode {
        OverrideSpec::ForcedOpen => OverrideMode::ForcedOpen,
        OverrideSpec::ForcedClosed => OverrideMode::ForcedClosed,
        OverrideSpec::Shadow => OverrideMode::Shadow,
    };
    let until = instant("circuitOverride.untilTime", &wanted.until_time)?;
    Ok(Some(CircuitOverride { mode, until }))
}

fn endpoint(spec: &ProviderConnectionSpec, draft: &mut Draft) -> Result<(), Problem> {
    let Some(endpoint) = &spec.endpoint else {
        return if draft.base_url.is_empty() {
            Err(Problem::invalid("endpoint.baseURL", "is required: the provider's profile has no address of its own"))
        } else {
            Ok(())
        };
    };
    if let Some(url) = &endpoint.base_url {
        secure(spec, "endpoint.baseURL", url)?;
        url.to_string().clone_into(&mut draft.base_url);
    }
    if draft.base_url.is_empty() {
        return Err(Problem::invalid(
            "endpoint.baseURL",
            "is required: the provider's profile has no address of its own",
        ));
    }
    let given = endpoint.parameters.as_deref().cloned().unwrap_or_default();
    draft.parameters = draft
        .profile
        .endpoint_parameters(&given)
        .map_err(|error| Problem::invalid("endpoint.parameters", format_args!("is not usable: {error}")))?;
    Ok(())
}

fn timeouts(spec: &ProviderConnectionSpec, draft: &mut Draft) -> Result<(), Problem> {
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

fn health_check(spec: &ProviderConnectionSpec, draft: &mut Draft) -> Result<(), Problem> {
    let Some(check) = &spec.health_check else { return Ok(()) };
    let base = draft.health_check.clone();
    let interval = duration("healthCheck.interval", check.interval.as_deref(), base.interval)?;
    // A shorter interval than the default time-out shortens the time-out too: a probe ends before the next begins.
    let timeout = duration("healthCheck.timeout", check.timeout.as_deref(), base.timeout.min(interval))?;
    let statuses = match &check.expected_statuses {
        None => base.expected_statuses,
        Some(list) => list
            .iter()
            .map(|s| {
                s.parse().map_err(|_| {
                    Problem::invalid("healthCheck.expectedStatuses", "must hold statuses such as 204 or 2xx")
                })
            })
            .collect::<Result<_, _>>()?,
    };
    let threshold = |field: &str, set: Option<i32>, default: u32| match set {
        None => Ok(default),
        Some(n) => {
            u32::try_from(n).ok().filter(|n| *n > 0).ok_or_else(|| Problem::invalid(field, "must be at least 1"))
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

/// A setting that cannot be used is the Secret's fault where the field names one, else the spec's.
fn problem(error: &SettingsError) -> Problem {
    let message = format!("spec.{}: {}", error.field, error.problem);
    if error.field.ends_with("ecretRef") {
        Problem::waiting(Reason::SecretKeyInvalid, message)
    } else {
        Problem::stalled(Reason::InvalidSpec, message)
    }
}
