//! `BreakerPolicy`: is it usable, and how many connections does it guard. What it means for a connection is that
//! connection's business; a change of the policy pokes it.

pub mod plan;

use kube::Resource as _;

use crate::api::v1alpha1::BreakerPolicy;
use crate::api::v1alpha1::breaker_policy::{BreakerPolicyStatus, PolicyConnections};
use crate::api::v1alpha1::reasons::{ConditionType, Reason};
use crate::cluster::status::Reported;
use crate::cluster::stores::Watched;
use crate::controllers::conditions::{Conditions, status_of};
use crate::controllers::{Ctx, Decision, IDLE, ReconcileError, Reconciler, USER_MUST_ACT};
use crate::domain::conditions::Status;
use crate::domain::key::{Kind, ObjectKey};
use crate::domain::time::Now;

impl Watched for BreakerPolicy {
    const KIND: Kind = Kind::BreakerPolicy;

    fn references(&self) -> Vec<(Kind, ObjectKey)> {
        Vec::new()
    }
}

impl Reported for BreakerPolicy {
    type Status = BreakerPolicyStatus;

    fn status(&self) -> Option<&BreakerPolicyStatus> {
        self.status.as_ref()
    }

    fn status_mut(&mut self) -> &mut Option<BreakerPolicyStatus> {
        &mut self.status
    }

    // The count is what a user looks a policy up for, and moves only when somebody creates or deletes objects.
    fn transitions(status: &BreakerPolicyStatus) -> BreakerPolicyStatus {
        status.clone()
    }

    fn is_worse(old: Option<&BreakerPolicyStatus>, new: &BreakerPolicyStatus) -> bool {
        let ready = |s: &BreakerPolicyStatus| status_of(&s.conditions, ConditionType::Ready);
        old.map(ready) == Some(Status::True) && ready(new) == Status::False
    }
}

/// The reconciler of policies.
pub struct Policies;

impl Reconciler for Policies {
    type Object = BreakerPolicy;
    /// How many connections refer to the policy.
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
        let next = match plan::rules(&object.spec, 0) {
            Ok(_) => {
                conditions.set(
                    ConditionType::Ready,
                    true,
                    Reason::Accepted,
                    "the policy is in force where it is referenced",
                );
                IDLE
            }
            Err(problem) => {
                conditions.set(ConditionType::Ready, false, problem.reason, problem.message.clone());
                conditions.set(ConditionType::Stalled, true, problem.reason, problem.message);
                USER_MUST_ACT
            }
        };
        let status = BreakerPolicyStatus {
            observed_generation: Some(generation),
            conditions: conditions.merged(previous.map_or(&[], |s| &s.conditions)),
            last_handled_reconcile_at: object.requested_at().map(str::to_owned),
            connections: Some(PolicyConnections { total: i32::try_from(*connections).unwrap_or(i32::MAX) }),
        };
        Decision { status: Some(status), steps: Vec::new(), notes: Vec::new(), next }
    }

    async fn act(_: &Ctx, _: &BreakerPolicy, _: usize, _: Vec<std::convert::Infallible>) -> Result<(), ReconcileError> {
        Ok(())
    }
}
