//! Temporary weights and pins of operations staff that are kept in the ledger, beside those of the routes' specs.

use jiff::{SignedDuration, Timestamp};
use rust_decimal::Decimal;
use uuid::Uuid;

use crate::domain::canonical::to_millis;
use crate::domain::key::ObjectKey;
use crate::domain::route::AdjustmentScope;
use crate::ledger::decisions::{
    AdjustmentChange, AdjustmentEffect, AdjustmentTarget, EntryOutcome, MAX_ADJUSTMENTS, NewEntry, RouteAdjustment,
};
use crate::routing::entry_id::new_id;
use crate::routing::error::RoutingError;
use crate::routing::ops::targets;
use crate::routing::override_decision::target_text;
use crate::routing::service::{Actor, DecisionService};

/// Bounds of a weight, as in the spec of a route.
const WEIGHTS: (Decimal, Decimal) = (Decimal::from_parts(1, 0, 0, false, 1), Decimal::TEN);
/// The longest time that an adjustment lasts: it is temporary, what lasts longer belongs into the spec.
const MAX_DURATION: SignedDuration = SignedDuration::from_hours(366 * 24);

/// A new adjustment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AdjustmentRequest {
    /// What it does.
    pub action: AdjustmentEffect,
    /// The bank.
    pub bank: AdjustmentTarget,
    /// Its end.
    pub expires_at: Timestamp,
    /// The namespace of the routes.
    pub namespace: String,
    /// Why.
    pub reason: Option<String>,
    /// The route; all routes of the namespace that have the bank without one.
    pub route: Option<String>,
    /// The payouts that it applies to.
    pub scope: AdjustmentScope,
}

impl DecisionService {
    /// The adjustments of a namespace that are in effect, newest first.
    ///
    /// # Errors
    /// If the ledger cannot be read.
    pub async fn adjustments(&self, namespace: &str) -> Result<Vec<RouteAdjustment>, RoutingError> {
        let read = self.ledger.adjustments(Some(namespace), self.clock.now().wall).await;
        let mut adjustments = read.map_err(|error| RoutingError::ledger("reading adjustments", &error))?;
        adjustments.sort_by(|a, b| b.created_at.cmp(&a.created_at).then_with(|| b.id.cmp(&a.id)));
        Ok(adjustments)
    }

    /// Stores an adjustment. Decisions of this replica that start after the answer follow it, those of others within a
    /// second.
    ///
    /// # Errors
    /// If the bank is no candidate, a value is not accepted, or the ledger does not store it.
    pub async fn create_adjustment(
        &self,
        request: AdjustmentRequest,
        actor: &Actor,
    ) -> Result<RouteAdjustment, RoutingError> {
        let now = self.clock.now().wall;
        self.check(&request, now)?;
        let AdjustmentRequest { action, bank, expires_at, namespace, reason, route, scope } = request;
        // As it is stored, so that the answer is what is listed later.
        let adjustment = RouteAdjustment {
            created_at: to_millis(now),
            created_by: actor.subject.clone(),
            effect: action,
            expires_at: to_millis(expires_at),
            id: new_id(now),
            namespace,
            reason,
            route,
            scope,
            target: bank,
        };
        let entry = NewEntry::Adjustment(AdjustmentChange::Create(adjustment.clone()));
        match self.queue.commit(entry).await? {
            EntryOutcome::Stored(_) => {
                self.apply_now().await;
                Ok(adjustment)
            }
            EntryOutcome::TooManyAdjustments => {
                let limit = usize::try_from(MAX_ADJUSTMENTS).unwrap_or(usize::MAX);
                Err(RoutingError::TooMany { what: "adjustments of the namespace", limit })
            }
            _ => Err(RoutingError::Defect("the ledger answered an adjustment with the outcome of another entry")),
        }
    }

    /// Ends an adjustment of the namespace.
    ///
    /// # Errors
    /// If there is none with this ID in effect, or the ledger does not store it.
    pub async fn delete_adjustment(&self, namespace: &str, id: Uuid, actor: &Actor) -> Result<(), RoutingError> {
        let now = self.clock.now().wall;
        let change = AdjustmentChange::Delete {
            adjustment: id,
            at: now,
            id: new_id(now),
            namespace: namespace.to_owned(),
            subject: actor.subject.clone(),
        };
        match self.queue.commit(NewEntry::Adjustment(change)).await? {
            EntryOutcome::Stored(_) => {
                self.apply_now().await;
                Ok(())
            }
            EntryOutcome::NotFound => Err(RoutingError::AdjustmentNotFound { id }),
            _ => Err(RoutingError::Defect("the ledger answered an adjustment with the outcome of another entry")),
        }
    }

    /// Puts what is stored in force here before the caller is answered.
    pub(super) async fn apply_now(&self) {
        if let Err(error) = self.ops.refresh().await {
            // It is stored: the next reading applies it.
            tracing::warn!(%error, "stored rules not read back; they apply within seconds of the ledger's recovery");
        }
    }

    fn check(&self, request: &AdjustmentRequest, now: Timestamp) -> Result<(), RoutingError> {
        let invalid = |field, problem: &str| RoutingError::Invalid { field, problem: problem.to_owned() };
        if let AdjustmentEffect::Weight(weight) = request.action
            && !(WEIGHTS.0..=WEIGHTS.1).contains(&weight)
        {
            return Err(invalid("weight", "must be from 0.1 to 10; below 1 favors the bank, above 1 penalizes it"));
        }
        if request.expires_at <= now {
            return Err(invalid("expires_at", "has passed; give an instant in the future"));
        }
        if request.expires_at > now + MAX_DURATION {
            return Err(invalid("expires_at", "is more than 366 days ahead; change the route's spec instead"));
        }
        let routes = match &request.route {
            None => self.routes.routes(&request.namespace),
            Some(name) => {
                let route = self.routes.route(&ObjectKey::new(&*request.namespace, &**name));
                let missing =
                    || RoutingError::RouteNotFound { namespace: request.namespace.clone(), route: Some(name.clone()) };
                vec![route.ok_or_else(missing)?]
            }
        };
        let mut resolved = routes.iter().filter_map(|route| route.resolved.as_ref().ok());
        if resolved.any(|route| targets(&request.bank, &route.candidates).next().is_some()) {
            return Ok(());
        }
        Err(RoutingError::CandidateNotFound { bank: target_text(&request.bank).to_owned() })
    }
}
