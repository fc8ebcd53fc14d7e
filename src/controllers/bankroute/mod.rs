//! Reconciler of `BankRoute`: selects the bank for the reference payout and records why the others are excluded.
//!
//! Reads circuit and health from the running connection, not from its status: a change of either enqueues the route at
//! once.

pub mod decide;
pub mod metrics;
pub mod resolution;
#[cfg(test)]
mod tests;

use jiff::Timestamp;

use crate::api::v1alpha1::BankRoute;
use crate::api::v1alpha1::bank_route::{BankRouteStatus, CandidateState};
use crate::api::v1alpha1::common::TriState;
use crate::api::v1alpha1::reasons::ConditionType;
use crate::cluster::events::EventDraft;
use crate::cluster::resource::HasStatus;
use crate::cluster::resource::WatchedResource;
use crate::controllers::conditions::status_of;
use crate::controllers::{Ctx, Decision, ReconcileError, Reconciler};
use crate::domain::breaker::EffectiveState;
use crate::domain::conditions::ConditionStatus;
use crate::domain::key::{Kind, ObjectKey};
use crate::domain::route::CandidateHealth;
use crate::domain::time::Now;
use crate::profile::CheckMode;
use crate::provider::connection::Connection;

use self::decide::{ConnectionState, RouteInputs};

impl WatchedResource for BankRoute {
    const KIND: Kind = Kind::BankRoute;

    fn references(&self) -> Vec<(Kind, ObjectKey)> {
        let key = self.key();
        self.spec.candidates.iter().map(|c| (Kind::ProviderConnection, key.sibling(&*c.connection_ref.name))).collect()
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
        new.active != old.active
            || (new.available == Some(TriState::False) && old.available != new.available)
            || excluded(new) > excluded(old)
            || (ready(old) == ConditionStatus::True && ready(new) == ConditionStatus::False)
    }
}

/// The state of a running connection, as far as it decides on payouts.
fn connection_state(live: &Connection, now: Timestamp) -> ConnectionState {
    let (snapshot, settings) = (live.snapshot(), live.settings());
    let passive = settings.health_check().mode == CheckMode::Passive;
    ConnectionState::Live {
        // Without an access token the bank is not at fault, but payouts through it would fail.
        effective: match snapshot.effective {
            EffectiveState::Closed if live.token_unavailable() => EffectiveState::Open,
            effective => effective,
        },
        health: CandidateHealth::of(snapshot.unhealthy, snapshot.ever_healthy, passive),
        suspended: settings.suspended(),
        maintenance: settings.maintenance(now),
        // In steps of a thousandth: the estimate of a bank that is well moves by less with each check.
        success: snapshot.success.get().next_multiple_of(1_000),
    }
}

/// Reconciler of bank routes.
pub struct BankRouteReconciler;

impl Reconciler for BankRouteReconciler {
    type Object = BankRoute;
    type Observed = RouteInputs;
    type Step = std::convert::Infallible;

    fn depends_on(object: &BankRoute) -> Vec<(Kind, ObjectKey)> {
        object.references()
    }

    async fn observe(ctx: &Ctx, object: &BankRoute) -> Result<RouteInputs, ReconcileError> {
        let key = object.key();
        let now = ctx.clock.now().wall;
        let connections = object
            .spec
            .candidates
            .iter()
            .map(|candidate| {
                let connection = key.sibling(&*candidate.connection_ref.name);
                match ctx.stores.connections.get(&connection) {
                    None => ConnectionState::Missing,
                    Some(stored) => match ctx.registry.get(&connection) {
                        Some(live) if Some(&**live.uid()) == stored.metadata.uid.as_deref() => {
                            connection_state(&live, now)
                        }
                        _ => ConnectionState::NotReady,
                    },
                }
            })
            .collect();
        let exists = || ctx.stores.routes.get(&key).is_some();
        let route = resolution::resolve(&ctx.resolutions.routes, &key, object, exists);
        Ok(RouteInputs { route, connections })
    }

    fn decide(
        object: &BankRoute,
        previous: Option<&BankRouteStatus>,
        inputs: &RouteInputs,
        now: Now,
    ) -> Decision<BankRouteStatus, std::convert::Infallible> {
        decide::decide(object, previous, inputs, now)
    }

    fn reported(ctx: &Ctx, object: &BankRoute, events: &[EventDraft]) {
        ctx.failovers.count(&object.key(), events);
    }

    async fn act(
        _: &Ctx,
        _: &BankRoute,
        _: RouteInputs,
        _: Vec<std::convert::Infallible>,
    ) -> Result<(), ReconcileError> {
        Ok(())
    }
}
