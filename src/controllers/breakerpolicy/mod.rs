//! Reconciler of `BreakerPolicy`: validates the policy and counts the connections that use it.
//!
//! It applies nothing: a change of the policy enqueues the connections that reference it.

pub mod decide;
#[cfg(test)]
mod tests;

use crate::api::v1alpha1::BreakerPolicy;
use crate::api::v1alpha1::breaker_policy::BreakerPolicyStatus;
use crate::api::v1alpha1::reasons::ConditionType;
use crate::cluster::resource::HasStatus;
use crate::cluster::resource::WatchedResource;
use crate::controllers::conditions::status_of;
use crate::controllers::{Ctx, Decision, ReconcileError, Reconciler};
use crate::domain::conditions::ConditionStatus;
use crate::domain::key::{Kind, ObjectKey};
use crate::domain::time::Now;

impl WatchedResource for BreakerPolicy {
    const KIND: Kind = Kind::BreakerPolicy;

    fn references(&self) -> Vec<(Kind, ObjectKey)> {
        Vec::new()
    }
}

impl HasStatus for BreakerPolicy {
    type Status = BreakerPolicyStatus;

    fn status(&self) -> Option<&BreakerPolicyStatus> {
        self.status.as_ref()
    }

    fn status_mut(&mut self) -> &mut Option<BreakerPolicyStatus> {
        &mut self.status
    }

    // The connection count is a transition too: it changes only when objects are created or deleted.
    fn transition_fields(status: &BreakerPolicyStatus) -> BreakerPolicyStatus {
        status.clone()
    }

    fn is_urgent(old: Option<&BreakerPolicyStatus>, new: &BreakerPolicyStatus) -> bool {
        let ready = |s: &BreakerPolicyStatus| status_of(&s.conditions, ConditionType::Ready);
        let in_use = |s: &BreakerPolicyStatus| s.connections.as_ref().is_some_and(|connections| connections.total > 0);
        (old.map(ready) == Some(ConditionStatus::True) && ready(new) == ConditionStatus::False)
            // Whether the API server admits a deletion depends on it (config/admission/in-use.yaml).
            || old.is_some_and(in_use) != in_use(new)
    }
}

/// Reconciler of breaker policies.
pub struct BreakerPolicyReconciler;

impl Reconciler for BreakerPolicyReconciler {
    type Object = BreakerPolicy;
    /// Number of connections that use the policy.
    type Observed = usize;
    type Step = std::convert::Infallible;

    async fn observe(ctx: &Ctx, object: &BreakerPolicy) -> Result<usize, ReconcileError> {
        Ok(ctx.stores.references.count(Kind::ProviderConnection, Kind::BreakerPolicy, &object.key()))
    }

    fn decide(
        object: &BreakerPolicy,
        previous: Option<&BreakerPolicyStatus>,
        connections: &usize,
        now: Now,
    ) -> Decision<BreakerPolicyStatus, std::convert::Infallible> {
        decide::decide(object, previous, *connections, now)
    }

    async fn act(_: &Ctx, _: &BreakerPolicy, _: usize, _: Vec<std::convert::Infallible>) -> Result<(), ReconcileError> {
        Ok(())
    }
}
