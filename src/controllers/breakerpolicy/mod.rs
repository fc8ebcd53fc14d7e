//! Reconciler of `BreakerPolicy`: validates the policy and counts the connections that use it.
//!
//! It applies nothing: a change of the policy enqueues the connections that reference it.

use kube::Resource as _;

use crate::api::v1alpha1::BreakerPolicy;
use crate::api::v1alpha1::breaker_policy::{BreakerPolicyStatus, PolicyConnections};
use crate::api::v1alpha1::reasons::{ConditionType, Reason};
use crate::cluster::resource::HasStatus;
use crate::cluster::resource::WatchedResource;
use crate::controllers::conditions::{Conditions, status_of};
use crate::controllers::{Ctx, DEFAULT_REQUEUE, Decision, ReconcileError, Reconciler, STALLED_REQUEUE};
use crate::domain::conditions::ConditionStatus;
use crate::domain::key::{Kind, ObjectKey};
use crate::domain::time::Now;
use crate::resolve::breaker_policy;

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
        old.map(ready) == Some(ConditionStatus::True) && ready(new) == ConditionStatus::False
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
        let generation = object.meta().generation.unwrap_or_default();
        let mut conditions = Conditions::new(generation, now.wall);
        let requeue_after = match breaker_policy(&object.spec, 0) {
            Ok(_) => {
                conditions.set(
                    ConditionType::Ready,
                    true,
                    Reason::Accepted,
                    "spec accepted; applied to the connections that reference it",
                );
                DEFAULT_REQUEUE
            }
            Err(error) => {
                conditions.set(ConditionType::Ready, false, error.reason, error.message.clone());
                conditions.set(ConditionType::Stalled, true, error.reason, error.message);
                STALLED_REQUEUE
            }
        };
        let status = BreakerPolicyStatus {
            observed_generation: Some(generation),
            conditions: conditions.merged(previous.map_or(&[], |s| &s.conditions)),
            last_handled_reconcile_at: object.requested_at().map(str::to_owned),
            connections: Some(PolicyConnections { total: i32::try_from(*connections).unwrap_or(i32::MAX) }),
        };
        Decision { status: Some(status), steps: Vec::new(), events: Vec::new(), requeue_after }
    }

    async fn act(_: &Ctx, _: &BreakerPolicy, _: usize, _: Vec<std::convert::Infallible>) -> Result<(), ReconcileError> {
        Ok(())
    }
}
