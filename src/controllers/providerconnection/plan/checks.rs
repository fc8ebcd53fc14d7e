//! Checks and error conversions shared by the parts of `plan`. Pure.

use crate::api::v1alpha1::provider_connection::{Environment, ProviderConnectionSpec};
use crate::api::v1alpha1::reasons::Reason;
use crate::controllers::resolve::SpecError;
use crate::settings::SettingsError;

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
