//! Checks and error conversions shared by the parts of a connection. Pure.

use std::sync::Arc;

use crate::api::v1alpha1::provider_connection::{Environment, ProviderConnectionSpec};
use crate::api::v1alpha1::reasons::Reason;
use crate::profile::Profile;
use crate::resolve::operator::OperatorOptions;
use crate::resolve::spec_error::SpecError;
use crate::settings::addresses::{AddressDenied, EndpointRole};
use crate::settings::{Settings, SettingsError};

/// The loaded profile, or `ProfileNotFound` for the `provider` of a spec.
pub fn profile<'a>(provider: &str, loaded: Option<&'a Arc<Profile>>) -> Result<&'a Arc<Profile>, SpecError> {
    loaded.ok_or_else(|| {
        let message = format!(
            "profile {provider:?} (spec.provider) not loaded: name a built-in profile, or one in --profiles-dir"
        );
        SpecError::stalled(Reason::ProfileNotFound, message)
    })
}

/// Rejects settings that the operator's flags do not allow: refresh tokens without an encryption key, and literal
/// addresses outside the allowed ranges. Host names are checked when they are resolved.
pub(super) fn check_operator_allows(
    spec: &ProviderConnectionSpec,
    settings: &Settings,
    operator: OperatorOptions<'_>,
) -> Result<(), SpecError> {
    if !operator.has_key && spec.auth.as_ref().is_some_and(|auth| auth.oauth2_refresh_token.is_some()) {
        let message = "spec.auth.oauth2RefreshToken requires encrypted storage for rotated refresh tokens: start the \
                       operator with --key-secret";
        return Err(SpecError::stalled(Reason::KeyMissing, message));
    }
    let hosts = [
        (EndpointRole::Provider, Some(settings.base_url().clone())),
        (EndpointRole::TokenEndpoint, settings.auth().token_url()),
    ];
    for (endpoint, url) in hosts {
        if let Some(Err(kind)) = url.map(|url| operator.addresses.check_url(&url)) {
            let denied = AddressDenied { endpoint, kind };
            let message = format!("{denied}: use a public address, or allow the range on the operator");
            return Err(SpecError::stalled(Reason::AddressNotAllowed, message));
        }
    }
    Ok(())
}

/// Set fields that have no effect: `webhook` without a header, because neither it nor the profile names one.
pub fn unused_fields(spec: &ProviderConnectionSpec, profile: Option<&Profile>) -> Vec<&'static str> {
    let Some(webhook) = &spec.webhook else { return Vec::new() };
    let secret = webhook.hmac_sha512.as_ref().or(webhook.static_secret.as_ref());
    let is_named = secret.is_some_and(|secret| secret.header.is_some());
    let is_known = is_named || profile.is_some_and(|profile| profile.webhook.is_some());
    if is_known { Vec::new() } else { vec!["webhook"] }
}

/// Rejects plain HTTP for an address that credentials are sent to, unless the spec is an insecure sandbox.
pub(super) fn require_https(spec: &ProviderConnectionSpec, field: &str, url: &str) -> Result<(), SpecError> {
    let insecure = spec.endpoint.as_ref().is_some_and(|endpoint| endpoint.insecure == Some(true));
    let sandbox = spec.environment == Environment::Sandbox;
    // URL schemes are case-insensitive.
    let https = url.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"));
    if https || (insecure && sandbox) {
        return Ok(());
    }
    let problem = "must be https unless spec.endpoint.insecure is true and spec.environment is Sandbox";
    Err(SpecError::invalid(field, problem))
}

/// Converts a settings error: waiting for the Secret if the field references one, else stalled.
pub(super) fn spec_error(error: &SettingsError) -> SpecError {
    let message = format!("spec.{}: {}", error.field, error.problem);
    if error.field.ends_with("ecretRef") {
        SpecError::waiting(Reason::SecretKeyInvalid, message)
    } else {
        SpecError::stalled(Reason::InvalidSpec, message)
    }
}
