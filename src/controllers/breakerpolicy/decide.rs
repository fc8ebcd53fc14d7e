//! Computes a policy's status: whether its spec can be used. Pure and total.

use std::convert::Infallible;

use crate::api::v1alpha1::BreakerPolicy;
use crate::api::v1alpha1::breaker_policy::{BreakerPolicyStatus, PolicyConnections};
use crate::api::v1alpha1::reasons::{ConditionType, Reason};
use crate::cluster::resource::WatchedResource as _;
use crate::controllers::conditions::Conditions;
use crate::controllers::{DEFAULT_REQUEUE, Decision};
use crate::domain::time::Now;
use crate::resolve::breaker_policy;

/// Computes the status of a policy that `connections` connections use.
pub fn decide(
    object: &BreakerPolicy,
    previous: Option<&BreakerPolicyStatus>,
    connections: usize,
    now: Now,
) -> Decision<BreakerPolicyStatus, Infallible> {
    let generation = object.metadata.generation.unwrap_or_default();
    let mut conditions = Conditions::new(generation, now.wall);
    let requeue_after = match breaker_policy(&object.spec, 0) {
        Ok(_) => {
            let message = "spec accepted; applied to the connections that reference it";
            conditions.set(ConditionType::Ready, true, Reason::Accepted, message);
            DEFAULT_REQUEUE
        }
        Err(error) => conditions.reject_spec(&error, &[], DEFAULT_REQUEUE),
    };
    let status = BreakerPolicyStatus {
        observed_generation: Some(generation),
        conditions: conditions.merged(previous.map_or(&[], |s| &s.conditions)),
        last_handled_reconcile_at: object.requested_at().map(str::to_owned),
        connections: Some(PolicyConnections { total: i32::try_from(connections).unwrap_or(i32::MAX) }),
    };
    Decision { status: Some(status), steps: Vec::new(), events: Vec::new(), requeue_after }
}
