//! `ProviderConnection`: a live connection for every spec that can be put to work.
//!
//! [`plan`] resolves the spec to settings, [`observe`] reads what there is, [`decide`] judges, [`act`] brings the
//! registry there. Probing is not done here: it belongs to the probe driver, which pokes this controller when something
//! that status shows has changed.

pub mod act;
pub mod decide;
pub mod follow;
pub mod guard;
pub mod memory;
pub mod observe;
pub mod plan;
pub mod reread;
pub mod status;
#[cfg(test)]
mod tests;
mod throttle;

use crate::api::v1alpha1::ProviderConnection;
use crate::api::v1alpha1::provider_connection::{CircuitStatus, HealthStatus, ProviderConnectionStatus};
use crate::api::v1alpha1::reasons::ConditionType;
use crate::cluster::status::Reported;
use crate::cluster::stores::Watched;
use crate::controllers::conditions::status_of;
use crate::controllers::{Ctx, Decision, ReconcileError, Reconciler};
use crate::domain::conditions::Status;
use crate::domain::key::{Kind, ObjectKey};
use crate::domain::time::Now;

/// The name of the policy that guards connections which name none.
pub const DEFAULT_POLICY: &str = "default";

impl Watched for ProviderConnection {
    const KIND: Kind = Kind::ProviderConnection;

    fn references(&self) -> Vec<(Kind, ObjectKey)> {
        let name = self.spec.breaker_policy_ref.as_ref().map_or(DEFAULT_POLICY, |r| &r.name);
        vec![(Kind::BreakerPolicy, self.key().sibling(name))]
    }
}

impl Reported for ProviderConnection {
    type Status = ProviderConnectionStatus;

    fn status(&self) -> Option<&ProviderConnectionStatus> {
        self.status.as_ref()
    }

    fn status_mut(&mut self) -> &mut Option<ProviderConnectionStatus> {
        &mut self.status
    }

    fn transitions(status: &ProviderConnectionStatus) -> ProviderConnectionStatus {
        let mut core = status.clone();
        core.consumers = None;
        if let Some(circuit) = &mut core.circuit_state {
            circuit.epoch = 0;
            circuit.next_trial_time = None;
        }
        core
    }

    fn is_worse(old: Option<&ProviderConnectionStatus>, new: &ProviderConnectionStatus) -> bool {
        let empty = ProviderConnectionStatus::default();
        let old = old.unwrap_or(&empty);
        let falls = |type_, from: Status, to: Status| {
            status_of(&old.conditions, type_) == from && status_of(&new.conditions, type_) == to
        };
        let paused = |s: &ProviderConnectionStatus| status_of(&s.conditions, ConditionType::Throttled) == Status::True;
        let blocked =
            |s: &ProviderConnectionStatus| matches!(s.circuit, Some(CircuitStatus::Open | CircuitStatus::ForcedOpen));
        (blocked(new) && !blocked(old))
            // A process that dies meanwhile must leave word of it.
            || (paused(new) && !paused(old))
            || (new.health == Some(HealthStatus::Unhealthy) && old.health != new.health)
            || falls(ConditionType::Ready, Status::True, Status::False)
            || falls(ConditionType::Authenticated, Status::True, Status::False)
            // Somebody waits for it; and until it is written, the request would be met again.
            || new.last_handled_reconcile_at != old.last_handled_reconcile_at
    }
}

/// The reconciler of connections.
pub struct Connections;

impl Reconciler for Connections {
    type Object = ProviderConnection;
    type Observed = observe::Seen;
    type Step = decide::Step;

    async fn observe(ctx: &Ctx, object: &ProviderConnection) -> Result<observe::Seen, ReconcileError> {
        observe::observe(ctx, object).await
    }

    fn decide(
        object: &ProviderConnection,
        previous: Option<&ProviderConnectionStatus>,
        observed: &observe::Seen,
        now: Now,
    ) -> Decision<ProviderConnectionStatus, decide::Step> {
        decide::decide(object, previous, &observed.view, now)
    }

    async fn act(
        ctx: &Ctx,
        object: &ProviderConnection,
        observed: observe::Seen,
        steps: Vec<decide::Step>,
    ) -> Result<(), ReconcileError> {
        act::act(ctx, object, observed, steps);
        Ok(())
    }
}
