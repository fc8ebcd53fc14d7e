//! Selects a connection's breaker policy: the referenced one, else the one named `default`, else the profile's preset.
//! Pure.

use std::sync::Arc;

use crate::api::v1alpha1::BreakerPolicy;
use crate::api::v1alpha1::provider_connection::{PolicySource, PolicyStatus, ProviderConnectionSpec};
use crate::api::v1alpha1::reasons::Reason;
use crate::controllers::breakerpolicy::plan;
use crate::controllers::resolve::SpecError;
use crate::domain::breaker::Policy;
use crate::domain::key::ObjectKey;
use crate::profile::Profile;
use crate::settings::FailureCriteria;

/// Name of the policy for connections that reference none.
pub const DEFAULT_POLICY: &str = "default";

/// The breaker rules, and their source for the status. `find` looks a policy up by key.
pub fn breaker_rules(
    spec: &ProviderConnectionSpec,
    key: &ObjectKey,
    profile: &Profile,
    find: impl Fn(&ObjectKey) -> Option<Arc<BreakerPolicy>>,
) -> Result<((Policy, FailureCriteria), PolicyStatus), SpecError> {
    let referenced = spec.breaker_policy_ref.as_ref().map(|r| r.name.to_string());
    let source = if referenced.is_some() { PolicySource::Ref } else { PolicySource::NamespaceDefault };
    let name = referenced.clone().unwrap_or_else(|| DEFAULT_POLICY.to_owned());
    match find(&key.sibling(name.as_str())) {
        Some(stored) => {
            let rules = plan::rules(&stored.spec, plan::seed(key)).map_err(|error| {
                SpecError::waiting(
                    Reason::PolicyInvalid,
                    format!("BreakerPolicy {name:?} is invalid: {}", error.message),
                )
            })?;
            Ok((rules, PolicyStatus { name, source }))
        }
        None if referenced.is_some() => Err(SpecError::waiting(
            Reason::BreakerPolicyNotFound,
            format!("BreakerPolicy {name:?} (spec.breakerPolicyRef) not found: create it in this namespace"),
        )),
        None => {
            let mut policy = Policy::preset(profile.breaker);
            policy.jitter_seed = plan::seed(key);
            let status = PolicyStatus { name: profile.breaker.as_str().to_owned(), source: PolicySource::Preset };
            Ok(((policy, FailureCriteria::default()), status))
        }
    }
}
