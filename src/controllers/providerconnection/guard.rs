//! Which rules guard a connection: those of the policy it names, of the policy `default`, or of its profile's preset. Pure.

use std::sync::Arc;

use crate::api::v1alpha1::BreakerPolicy;
use crate::api::v1alpha1::provider_connection::{PolicySource, PolicyStatus, ProviderConnectionSpec};
use crate::api::v1alpha1::reasons::Reason;
use crate::controllers::breakerpolicy::plan;
use crate::controllers::providerconnection::DEFAULT_POLICY;
use crate::controllers::resolve::Problem;
use crate::domain::breaker::Policy;
use crate::domain::key::ObjectKey;
use crate::provider::classify::Classify;
use crate::provider::profile::Profile;

/// The rules, and what the status says of where they come from. `find` looks a policy up.
pub fn rules(
    spec: &ProviderConnectionSpec,
    key: &ObjectKey,
    profile: &Profile,
    find: impl Fn(&ObjectKey) -> Option<Arc<BreakerPolicy>>,
) -> Result<((Policy, Classify), PolicyStatus), Problem> {
    let named = spec.breaker_policy_ref.as_ref().map(|r| r.name.to_string());
    let source = if named.is_some() { PolicySource::Ref } else { PolicySource::NamespaceDefault };
    let name = named.clone().unwrap_or_else(|| DEFAULT_POLICY.to_owned());
    match find(&key.sibling(name.as_str())) {
        Some(found) => {
            let rules = plan::rules(&found.spec, plan::seed(key)).map_err(|problem| {
                Problem::waiting(
                    Reason::PolicyInvalid,
                    format!("BreakerPolicy {name:?} cannot be used: {}", problem.message),
                )
            })?;
            Ok((rules, PolicyStatus { name, source }))
        }
        None if named.is_some() => Err(Problem::waiting(
            Reason::BreakerPolicyNotFound,
            format!(
                "spec.breakerPolicyRef names BreakerPolicy {name:?}, which does not exist: create it in this namespace"
            ),
        )),
        None => {
            let mut policy = Policy::preset(profile.breaker);
            policy.jitter_seed = plan::seed(key);
            let status = PolicyStatus { name: profile.breaker.as_str().to_owned(), source: PolicySource::Preset };
            Ok(((policy, Classify::default()), status))
        }
    }
}
