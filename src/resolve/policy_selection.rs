//! Selects a connection's breaker policy: the referenced one, else the one named `default`, else the profile's preset.
//! Pure.

use crate::api::v1alpha1::BreakerPolicy;
use crate::api::v1alpha1::provider_connection::{PolicySource, PolicyStatus, ProviderConnectionSpec};
use crate::api::v1alpha1::reasons::Reason;
use crate::domain::key::ObjectKey;
use crate::profile::Profile;
use crate::resolve::breaker_policy::{BreakerRules, breaker_policy, jitter_seed};
use crate::resolve::spec_error::SpecError;

/// Name of the policy for connections that reference none.
pub const DEFAULT_POLICY: &str = "default";

/// Name of the policy that the connection uses if it exists: the referenced one, else [`DEFAULT_POLICY`].
pub fn policy_name(spec: &ProviderConnectionSpec) -> &str {
    spec.breaker_policy_ref.as_ref().map_or(DEFAULT_POLICY, |reference| &*reference.name)
}

/// The breaker rules in effect for one connection.
#[derive(Clone, Debug, PartialEq)]
pub struct SelectedPolicy {
    /// The rules.
    pub rules: BreakerRules,
    /// Their source, for the status.
    pub status: PolicyStatus,
}

/// Selects and resolves the policy of the connection `key`. `stored` is the object that [`policy_name`] names, in the
/// same namespace.
pub fn select_policy(
    spec: &ProviderConnectionSpec,
    key: &ObjectKey,
    profile: &Profile,
    stored: Option<&BreakerPolicy>,
) -> Result<SelectedPolicy, SpecError> {
    let name = policy_name(spec);
    let (referenced, seed) = (spec.breaker_policy_ref.is_some(), jitter_seed(key));
    match stored {
        Some(stored) => {
            let rules = breaker_policy(&stored.spec, seed).map_err(|error| {
                let message = format!("BreakerPolicy {name:?} is invalid: {}", error.message);
                SpecError::waiting(Reason::PolicyInvalid, message)
            })?;
            let source = if referenced { PolicySource::Ref } else { PolicySource::NamespaceDefault };
            Ok(SelectedPolicy { rules, status: PolicyStatus { name: name.to_owned(), source } })
        }
        None if referenced => Err(SpecError::waiting(
            Reason::BreakerPolicyNotFound,
            format!("BreakerPolicy {name:?} (spec.breakerPolicyRef) not found: create it in this namespace"),
        )),
        None => Ok(SelectedPolicy {
            rules: BreakerRules::preset(profile.breaker, seed),
            status: PolicyStatus { name: profile.breaker.as_str().to_owned(), source: PolicySource::Preset },
        }),
    }
}
