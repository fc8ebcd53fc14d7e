//! Reconciler of `ProviderConnection`: keeps a running connection for every valid spec.
//!
//! [`observe`] reads the current state and resolves the spec to settings, [`decide`] computes status and steps, [`act`]
//! applies them to the registry. It does not probe: the probe driver does, and enqueues the object when
//! something that the status reports has changed.

pub mod act;
mod credentials;
pub mod decide;
pub mod first_seen;
pub mod inputs;
pub mod observe;
mod outbox;
pub mod resolution;
pub mod restore;
pub mod secret_reload;
pub mod standby;
pub mod status;
#[cfg(test)]
pub(crate) mod testkit;
#[cfg(test)]
mod tests;
mod throttle;

use crate::api::v1alpha1::ProviderConnection;
use crate::api::v1alpha1::provider_connection::{
    CircuitStatus, ConnectionConsumers, HealthStatus, ProviderConnectionStatus,
};
use crate::api::v1alpha1::reasons::ConditionType;
use crate::cluster::resource::HasStatus;
use crate::cluster::resource::WatchedResource;
use crate::controllers::conditions::status_of;
use crate::controllers::{Ctx, Decision, ReconcileError, Reconciler};
use crate::domain::conditions::ConditionStatus;
use crate::domain::event::OutboxEvent;
use crate::domain::key::{Kind, ObjectKey};
use crate::domain::time::Now;
use crate::resolve::policy_name;

impl WatchedResource for ProviderConnection {
    const KIND: Kind = Kind::ProviderConnection;

    fn references(&self) -> Vec<(Kind, ObjectKey)> {
        vec![(Kind::BreakerPolicy, self.key().sibling(policy_name(&self.spec)))]
    }
}

impl HasStatus for ProviderConnection {
    type Status = ProviderConnectionStatus;

    fn status(&self) -> Option<&ProviderConnectionStatus> {
        self.status.as_ref()
    }

    fn status_mut(&mut self) -> &mut Option<ProviderConnectionStatus> {
        &mut self.status
    }

    fn transition_fields(status: &ProviderConnectionStatus) -> ProviderConnectionStatus {
        let mut transitions = status.clone();
        transitions.consumers = in_use(status);
        if let Some(circuit) = &mut transitions.circuit_state {
            circuit.epoch = 0;
            circuit.next_trial_time = None;
        }
        transitions
    }

    fn is_urgent(old: Option<&ProviderConnectionStatus>, new: &ProviderConnectionStatus) -> bool {
        let empty = ProviderConnectionStatus::default();
        let old = old.unwrap_or(&empty);
        let changed = |type_, from: ConditionStatus, to: ConditionStatus| {
            status_of(&old.conditions, type_) == from && status_of(&new.conditions, type_) == to
        };
        let throttled =
            |s: &ProviderConnectionStatus| status_of(&s.conditions, ConditionType::Throttled) == ConditionStatus::True;
        let blocked =
            |s: &ProviderConnectionStatus| matches!(s.circuit, Some(CircuitStatus::Open | CircuitStatus::ForcedOpen));
        (blocked(new) && !blocked(old))
            // Written at once, so that a process that starts after a crash respects it.
            || (throttled(new) && !throttled(old))
            || (new.health == Some(HealthStatus::Unhealthy) && old.health != new.health)
            || changed(ConditionType::Ready, ConditionStatus::True, ConditionStatus::False)
            || changed(ConditionType::Authenticated, ConditionStatus::True, ConditionStatus::False)
            // What the API server admits depends on it: `kubectl delete` waits for it.
            || in_use(old) != in_use(new)
            // The requester waits for it, and a restart before the write would repeat the request.
            || new.last_handled_reconcile_at != old.last_handled_reconcile_at
    }

    /// The first good health of a connection that is Ready already: routes read health from the running connection.
    fn may_wait(old: &ProviderConnectionStatus, new: &ProviderConnectionStatus) -> bool {
        let others = |status: &ProviderConnectionStatus| {
            let others = status.conditions.iter().filter(|c| c.type_ != ConditionType::Healthy.as_str());
            others.map(|c| (c.type_.clone(), c.status.clone(), c.reason.clone())).collect::<Vec<_>>()
        };
        let became_healthy = old.health == Some(HealthStatus::Unknown) && new.health == Some(HealthStatus::Healthy);
        became_healthy
            && !Self::is_urgent(Some(old), new)
            // A reader of the status waits until the generation is observed.
            && old.observed_generation == new.observed_generation
            && old.circuit == new.circuit
            && in_use(old) == in_use(new)
            && others(old) == others(new)
    }
}

/// Whether jobs and routes use it, with 1 for any number; `None` if nothing does. Their number rides along. Whether it is
/// 0 decides what admission policies require of a change (config/admission/override.yaml) and of a deletion (in-use.yaml).
fn in_use(status: &ProviderConnectionStatus) -> Option<ConnectionConsumers> {
    let consumers = status.consumers.as_ref()?;
    let any =
        ConnectionConsumers { sync_jobs: consumers.sync_jobs.signum(), bank_routes: consumers.bank_routes.signum() };
    (any != ConnectionConsumers::default()).then_some(any)
}

/// Reconciler of provider connections.
pub struct ProviderConnectionReconciler;

impl Reconciler for ProviderConnectionReconciler {
    type Object = ProviderConnection;
    type Observed = observe::ConnectionObservation;
    type Step = decide::ConnectionStep;

    async fn observe(ctx: &Ctx, object: &ProviderConnection) -> Result<observe::ConnectionObservation, ReconcileError> {
        observe::observe(ctx, object).await
    }

    fn decide(
        object: &ProviderConnection,
        previous: Option<&ProviderConnectionStatus>,
        observation: &observe::ConnectionObservation,
        now: Now,
    ) -> Decision<ProviderConnectionStatus, decide::ConnectionStep> {
        decide::decide(object, previous, &observation.inputs, now)
    }

    fn outbox_events(
        object: &ProviderConnection,
        previous: Option<&ProviderConnectionStatus>,
        status: &ProviderConnectionStatus,
    ) -> Vec<OutboxEvent> {
        outbox::circuit_event(object, previous, status).into_iter().collect()
    }

    async fn act(
        ctx: &Ctx,
        object: &ProviderConnection,
        observation: observe::ConnectionObservation,
        steps: Vec<decide::ConnectionStep>,
    ) -> Result<(), ReconcileError> {
        act::act(ctx, object, observation, steps);
        Ok(())
    }
}
