//! Reads followed payouts.

use uuid::Uuid;

use crate::domain::key::ObjectKey;
use crate::domain::payout::Payout;
use crate::ledger::payouts::{PayoutFilter, PayoutPage, StoredPayout, TimelineRow};
use crate::resolve::bank_route::RouteCandidate;
use crate::routing::error::RoutingError;
use crate::routing::service::DecisionService;

impl DecisionService {
    /// The payout.
    ///
    /// # Errors
    /// If it is not registered, or the ledger cannot be read.
    pub async fn get_payout(&self, namespace: &str, payout_id: &str) -> Result<StoredPayout, RoutingError> {
        let found = self.find_payout(namespace, payout_id).await?;
        found.ok_or_else(|| RoutingError::PayoutNotFound { payout_id: payout_id.to_owned() })
    }

    /// The payout; `None` if it is not registered.
    pub(crate) async fn find_payout(
        &self,
        namespace: &str,
        payout_id: &str,
    ) -> Result<Option<StoredPayout>, RoutingError> {
        let found = self.ledger.payout(namespace, payout_id).await;
        found.map_err(|error| RoutingError::ledger("reading a payout", &error))
    }

    /// What happened to a payout after the entry `after_seq`, oldest first.
    ///
    /// # Errors
    /// If the ledger cannot be read.
    pub async fn payout_timeline(
        &self,
        stored: &StoredPayout,
        after_seq: u64,
        limit: u32,
    ) -> Result<Vec<TimelineRow>, RoutingError> {
        let payout = &stored.payout;
        let rows = self.ledger.payout_timeline(&payout.namespace, &payout.payout_id, after_seq, limit).await;
        rows.map_err(|error| RoutingError::ledger("reading the timeline of a payout", &error))
    }

    /// At most `limit` matching payouts that were registered before the entry `before`, newest first.
    ///
    /// # Errors
    /// If the ledger cannot be read.
    pub async fn list_payouts(
        &self,
        filter: &PayoutFilter,
        before: Option<u64>,
        limit: u32,
    ) -> Result<PayoutPage, RoutingError> {
        let page = self.ledger.list_payouts(filter, before, limit).await;
        page.map_err(|error| RoutingError::ledger("listing payouts", &error))
    }

    /// The candidates of the payout's route with this `bankProfileID`, as the route is now.
    pub fn candidates_of_bank(&self, payout: &Payout, bank_profile_id: &str) -> Vec<String> {
        let route = self.routes.route(&ObjectKey::new(&*payout.namespace, &*payout.route));
        let Some(Ok(resolved)) = route.as_ref().map(|route| route.resolved.as_ref()) else { return Vec::new() };
        let is_of_bank = |one: &&RouteCandidate| one.bank_profile_id.as_deref() == Some(bank_profile_id);
        resolved.candidates.iter().filter(is_of_bank).map(|one| one.candidate.name.clone()).collect()
    }

    /// The decision of the attempt with this ID; `None` if no followed payout has it.
    pub(crate) async fn decision_of_attempt(&self, attempt: Uuid) -> Result<Option<Uuid>, RoutingError> {
        let found = self.ledger.payout_by_attempt(attempt).await;
        let found = found.map_err(|error| RoutingError::ledger("reading a payout", &error))?;
        let attempts = found.into_iter().flat_map(|stored| stored.payout.attempts);
        Ok(attempts.into_iter().find(|one| one.attempt_id == attempt).map(|one| one.plan.decision_id))
    }
}
