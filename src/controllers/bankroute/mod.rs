//! Reconciler of `BankRoute`: selects the bank for the reference payout and records why the others are excluded.
//!
//! Reads circuit and health from the running connection, not from its status: a change of either enqueues the route at
//! once.

pub mod decide;
mod evaluation;
mod failover;
pub mod inputs;
pub mod legacy_metrics;
pub mod metrics;
mod observe;
mod outbox;
mod payouts;
mod proposal;
pub mod resolution;
#[cfg(test)]
mod tests;

use crate::api::v1alpha1::BankRoute;
use crate::api::v1alpha1::bank_route::{BankRouteStatus, CandidateState};
use crate::api::v1alpha1::common::TriState;
use crate::api::v1alpha1::reasons::ConditionType;
use crate::cluster::events::EventDraft;
use crate::cluster::resource::HasStatus;
use crate::cluster::resource::WatchedResource;
use crate::controllers::conditions::status_of;
use crate::controllers::{Ctx, Decision, ReconcileError, Reconciler};
use crate::domain::conditions::ConditionStatus;
use crate::domain::event::OutboxEvent;
use crate::domain::key::{Kind, ObjectKey};
use crate::domain::time::Now;

use self::inputs::{RouteInputs, RouteStep};

impl WatchedResource for BankRoute {
    const KIND: Kind = Kind::BankRoute;

    fn references(&self) -> Vec<(Kind, ObjectKey)> {
        let key = self.key();
        let candidates = self.spec.candidates.iter().map(|candidate| &candidate.connection_ref);
        let connections = candidates.chain(self.spec.scorer.as_ref().map(|scorer| &scorer.connection_ref));
        connections.map(|reference| (Kind::ProviderConnection, key.sibling(&*reference.name))).collect()
    }
}

impl HasStatus for BankRoute {
    type Status = BankRouteStatus;

    fn status(&self) -> Option<&BankRouteStatus> {
        self.status.as_ref()
    }

    fn status_mut(&mut self) -> &mut Option<BankRouteStatus> {
        &mut self.status
    }

    fn transition_fields(status: &BankRouteStatus) -> BankRouteStatus {
        status.clone()
    }

    fn is_urgent(old: Option<&BankRouteStatus>, new: &BankRouteStatus) -> bool {
        let empty = BankRouteStatus::default();
        let old = old.unwrap_or(&empty);
        let ready = |s: &BankRouteStatus| status_of(&s.conditions, ConditionType::Ready);
        let excluded =
            |s: &BankRouteStatus| s.candidates.iter().filter(|c| c.state == CandidateState::Excluded).count();
        let held = |s: &BankRouteStatus| s.held_payouts.unwrap_or_default();
        new.active != old.active
            || held(new) > held(old)
            || (new.available == Some(TriState::False) && old.available != new.available)
            || excluded(new) > excluded(old)
            || (ready(old) == ConditionStatus::True && ready(new) == ConditionStatus::False)
    }
}

/// Reconciler of bank routes.
pub struct BankRouteReconciler;

impl Reconciler for BankRouteReconciler {
    type Object = BankRoute;
    type Observed = RouteInputs;
    type Step = RouteStep;

    fn depends_on(object: &BankRoute) -> Vec<(Kind, ObjectKey)> {
        object.references()
    }

    async fn observe(ctx: &Ctx, object: &BankRoute) -> Result<RouteInputs, ReconcileError> {
        Ok(observe::observe(ctx, object).await)
    }

    fn decide(
        object: &BankRoute,
        previous: Option<&BankRouteStatus>,
        inputs: &RouteInputs,
        now: Now,
    ) -> Decision<BankRouteStatus, RouteStep> {
        decide::decide(object, previous, inputs, now)
    }

    fn outbox_events(
        object: &BankRoute,
        previous: Option<&BankRouteStatus>,
        status: &BankRouteStatus,
    ) -> Vec<OutboxEvent> {
        outbox::failover_event(object, previous, status).into_iter().collect()
    }

    fn reported(ctx: &Ctx, object: &BankRoute, events: &[EventDraft]) {
        ctx.failovers.count(&object.key(), events);
    }

    async fn act(ctx: &Ctx, object: &BankRoute, _: RouteInputs, steps: Vec<RouteStep>) -> Result<(), ReconcileError> {
        observe::act(ctx, object, steps).await;
        Ok(())
    }
}
