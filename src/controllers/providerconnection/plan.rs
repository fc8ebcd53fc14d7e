//! From a connection's spec, its profile, its policy and its Secrets to the settings of a live connection. Pure.
//!
//! A set field wins over the profile, the profile over the defaults. What this version does not do yet is either
//! refused (where ignoring it would betray the user) or named in the message of
//! Ready (where calls merely go without it).

mod access;
mod manners;

use std::sync::Arc;
use std::time::Duration;

use crate::api::v1alpha1::provider_connection::{
    ApiKeyPlacement, Auth as AuthSpec, HealthCheckMode, OAuth2, OverrideMode as OverrideSpec, ProviderConnectionSpec,
};
use crate::api::v1alpha1::reasons::Reason;
use crate::controllers::resolve::{Found, Problem, duration, instant, windows};
use crate::domain::breaker::{OverrideMode, Policy};
use crate::provider::classify::Classify;
use crate::provider::profile::{CheckMode, Environment, Profile};
use crate::provider::settings::{
    Auth, CircuitOverride, ClientCertificate, DEFAULT_REFRESH_BEFORE, Draft, HealthCheck, Placement, Settings,
    SettingsError, Timeouts, with_path,
};

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

/// Fields whose being ignored would betray the user.
pub fn refuse_unimplemented(spec: &ProviderConnectionSpec) -> Result<(), Problem> {
    let set = [
        ("auth.oauth2RefreshToken", spec.auth.as_ref().is_some_and(|a| a.oauth2_refresh_token.is_some())),
    ];
    let names: Vec<_> = set.into_iter().filter(|(_, set)| *set).map(|(name, _)| format!("spec.{name}")).collect();
    if names.is_empty() {
        return Ok(());
    }
    let message = format!("{} cannot be honoured by this version of Busbar: remove the field", names.join(", "));
    Err(Problem::stalled(Reason::NotImplemented, message))
}

/// Set fields that no code reads yet; calls go without them.
pub fn unread_fields(spec: &ProviderConnectionSpec) -> Vec<&'static str> {
    let set = [
        ("webhook", spec.webhook.is_some()),
        ("payouts", spec.payouts.is_some()),
        ("tls.minVersion", spec.tls.as_ref().is_some_and(|t| t.min_version.is_some())),
    ];
    set.into_iter().filter(|(_, set)| *set).map(|(name, _)| name).collect()
}

/// The settings of a live connection.
pub fn settings(
    spec: &ProviderConnectionSpec,
    profile: Arc<Profile>,
    rules: (Policy, Classify),
    secrets: &FoundSecrets,
) -> Result<Settings, Problem> {
    refuse_unimplemented(spec)?;
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
        draft.auth = credentials(auth, found, &draft)?;
    }
    tls(spec, secrets, &mut draft)?;
    timeouts(spec, &mut draft)?;
    manners::apply(spec, &mut draft)?;
    health_check(spec, &mut draft)?;
    access::access(spec, &mut draft)?;
    Ok(draft)
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
        let plain = url.starts_with("http://");
        if plain && !(endpoint.insecure == Some(true) && draft.environment == Environment::Sandbox) {
            return Err(Problem::invalid(
                "endpoint.baseURL",
                "must be https unless endpoint.insecure is true and the environment is Sandbox",
            ));
        }
        url.to_string().clone_into(&mut draft.base_url);
    }
    if draft.base_url.is_empty() {
        return Err(Problem::invalid(
            "endpoint.baseURL",
            "is required: the provider's profile has no address of its own",
        ));
    }
    draft.parameters = endpoint.parameters.as_deref().cloned().unwrap_or_default();
    Ok(())
}

fn credentials(auth: &AuthSpec, found: &Found, draft: &Draft) -> Result<Auth, Problem> {
    let key = |named: Option<&str>, usual: &str| found.text(named.unwrap_or(usual));
    if let Some(bearer) = &auth.bearer {
        return Ok(Auth::Bearer { token: key(bearer.secret_ref.key.as_deref(), "token")? });
    }
    if auth.basic.is_some() {
        return Ok(Auth::Basic { username: found.text("username")?, password: found.text("password")? });
    }
    if let Some(api_key) = &auth.api_key {
        return Ok(Auth::ApiKey {
            placement: match api_key.placement {
                ApiKeyPlacement::Header => Placement::Header,
                ApiKeyPlacement::Query => Placement::Query,
            },
            name: api_key.name.clone(),
            prefix: api_key.prefix.clone().unwrap_or_default(),
            key: key(api_key.secret_ref.key.as_deref(), "api-key")?,
        });
    }
    if let Some(oauth) = &auth.oauth2_client_credentials {
        return client_credentials(oauth, found, draft);
    }
    if auth.profile.is_some() {
        let mapping = draft.profile.auth.as_ref().ok_or_else(|| {
            Problem::invalid(
                "auth.profile",
                "cannot be used: the provider's profile does not say how to authenticate; use another member of auth",
            )
        })?;
        // Each key is read first, so that a missing one is told with the Secret's name.
        for key in mapping.secret_keys() {
            found.text(key)?;
        }
        return Auth::from_profile(mapping, &draft.base_url, &draft.parameters, |key| found.text(key).ok())
            .map_err(|e| problem(&e));
    }
    Err(Problem::invalid("auth", "must set exactly one way to authenticate"))
}

/// The token's address: the full one, else the authorisation host's with the profile's path, else the base URL's.
fn client_credentials(oauth: &OAuth2, found: &Found, draft: &Draft) -> Result<Auth, Problem> {
    const FIELD: &str = "auth.oauth2ClientCredentials";
    let profile_call = draft.profile.auth.as_ref().and_then(|auth| auth.token.as_ref());
    let token_url = if let Some(url) = &oauth.token_url {
        url.to_string()
    } else {
        let call = profile_call.ok_or_else(|| {
            Problem::invalid(
                "auth.oauth2ClientCredentials.tokenURL",
                "is required: the provider's profile does not know where tokens are given",
            )
        })?;
        let host = oauth.auth_base_url.as_deref().unwrap_or(&draft.base_url);
        let path = call.path.path(&draft.parameters).map_err(|e| Problem::invalid("endpoint.parameters", e))?;
        with_path(host, &path)
            .ok_or_else(|| Problem::invalid("auth.oauth2ClientCredentials.authBaseURL", "must be a URL"))?
    };
    let scopes = oauth.scopes.clone().or_else(|| profile_call.map(|c| c.scopes.clone())).unwrap_or_default();
    Ok(Auth::ClientCredentials {
        token_url,
        scopes,
        audience: oauth.audience.clone(),
        refresh_before: duration(
            &format!("{FIELD}.refreshBefore"),
            oauth.refresh_before.as_deref(),
            DEFAULT_REFRESH_BEFORE,
        )?,
        client_id: found.text("client-id")?,
        client_secret: found.text("client-secret")?,
    })
}

fn tls(spec: &ProviderConnectionSpec, secrets: &FoundSecrets, draft: &mut Draft) -> Result<(), Problem> {
    let Some(tls) = &spec.tls else { return Ok(()) };
    draft.tls.server_name.clone_from(&tls.server_name);
    let Some(found) = &secrets.tls else { return Ok(()) };
    found.data()?;
    draft.tls.revision = found.revision();
    if found.has("ca.crt") {
        draft.tls.ca = Some(found.copy("ca.crt")?);
    }
    if found.has("tls.crt") || found.has("tls.key") {
        let certificate = found.copy("tls.crt")?;
        draft.tls.client = Some(ClientCertificate { certificate, key: found.text("tls.key")? });
    }
    if draft.tls.ca.is_none() && draft.tls.client.is_none() {
        return Err(Problem::waiting(
            Reason::SecretKeyMissing,
            format!(
                "Secret {:?} (spec.tls.certSecretRef) has neither \"ca.crt\" nor \"tls.crt\" with \"tls.key\": add one",
                found.name
            ),
        ));
    }
    Ok(())
}

fn timeouts(spec: &ProviderConnectionSpec, draft: &mut Draft) -> Result<(), Problem> {
    let Some(timeout) = &spec.timeout else { return Ok(()) };
    let Timeouts { connect, request, total } = draft.timeouts;
    draft.timeouts = Timeouts {
        connect: duration("timeout.connect", timeout.connect.as_deref(), connect)?,
        request: duration("timeout.request", timeout.request.as_deref(), request)?,
        total: duration("timeout.total", timeout.total.as_deref(), total)?,
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
