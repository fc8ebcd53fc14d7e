//! `BankRoute`: which bank the reference payout would take now, and why not the others.
//!
//! The circuit comes from the live connection, not from its status: a trip pokes this controller at once.

pub mod decide;
pub mod plan;
#[cfg(test)]
mod tests;

use kube::ResourceExt as _;

use crate::api::v1alpha1::BankRoute;
use crate::api::v1alpha1::bank_route::{BankRouteStatus, CandidateState};
use crate::api::v1alpha1::common::Tri;
use crate::api::v1alpha1::reasons::ConditionType;
use crate::cluster::status::Reported;
use crate::cluster::stores::Watched;
use crate::controllers::conditions::status_of;
use crate::controllers::{Ctx, Decision, ReconcileError, Reconciler};
use crate::domain::breaker::Effective;
use crate::domain::conditions::Status;
use crate::domain::key::{Kind, ObjectKey};
use crate::domain::time::Now;

use self::decide::{ConnectionState, Observed};

impl Watched for BankRoute {
    const KIND: Kind = Kind::BankRoute;

    fn references(&self) -> Vec<(Kind, ObjectKey)> {
        let key = self.key();
        self.spec.candidates.iter().map(|c| (Kind::ProviderConnection, key.sibling(&*c.connection_ref.name))).collect()
    }
}

impl Reported for BankRoute {
    type Status = BankRouteStatus;

    fn status(&self) -> Option<&BankRouteStatus> {
        self.status.as_ref()
    }

    fn status_mut(&mut self) -> &mut Option<BankRouteStatus> {
        &mut self.status
    }

    fn transitions(status: &BankRouteStatus) -> BankRouteStatus {
        status.clone()
    }

    fn is_worse(old: Option<&BankRouteStatus>, new: &BankRouteStatus) -> bool {
        let empty = BankRouteStatus::default();
        let old = old.unwrap_or(&empty);
        let ready = |s: &BankRouteStatus| status_of(&s.conditions, ConditionType::Ready);
        let excluded =
            |s: &BankRouteStatus| s.candidates.iter().filter(|c| c.state == CandidateState::Excluded).count();
        new.active != old.active
            || (new.available == Some(Tri::False) && old.available != new.available)
            || excluded(new) > excluded(old)
            || (ready(old) == Status::True && ready(new) == Status::False)
    }
}

/// The reconciler of routes.
pub struct Routes;

impl Reconciler for Routes {
    type Object = BankRoute;
    type Observed = Observed;
    type Step = std::convert::Infallible;

    fn depends_on(object: &BankRoute) -> Vec<(Kind, ObjectKey)> {
        object.references()
    }

    async fn observe(ctx: &Ctx, object: &BankRoute) -> Result<Observed, ReconcileError> {
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
                    Some(found) => match ctx.registry.get(&connection) {
                        Some(live) if Some(&**live.uid()) == found.uid().as_deref() => ConnectionState::Live {
                            // A bank whose log-in fails has not failed, and cannot be paid through all the same.
                            effective: match live.observed().effective {
                                Effective::Closed if live.token_unavailable() => Effective::Open,
                                effective => effective,
                            },
                            suspended: live.settings().suspended(),
                            maintenance: live.settings().maintenance(now),
                        },
                        _ => ConnectionState::NotReady,
                    },
                }
            })
            .collect();
        Ok(Observed { connections })
    }

    fn decide(
        object: &BankRoute,
        previous: Option<&BankRouteStatus>,
        observed: &Observed,
        now: Now,
    ) -> Decision<BankRouteStatus, std::convert::Infallible> {
        decide::decide(object, previous, observed, now)
    }

    async fn act(_: &Ctx, _: &BankRoute, _: Observed, _: Vec<std::convert::Infallible>) -> Result<(), ReconcileError> {
        Ok(())
    }
}
