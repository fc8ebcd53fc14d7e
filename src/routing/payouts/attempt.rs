//! The next attempt of a followed payout: its decision and the payout with it are stored together.

use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

use crate::domain::decision::{DecisionRecord, DecisionRequest, Snapshot};
use crate::domain::key::ObjectKey;
use crate::domain::payout::{Attempt, AttemptPlan, PayoutInput, Refusal, StuckRules, apply, payout_events};
use crate::ledger::decisions::{EntryOutcome, NewEntry};
use crate::ledger::payouts::{PayoutAct, PayoutCommit, PayoutOutcome, StoredPayout};
use crate::resolve::ResolvedRoute;
use crate::routing::error::{RoutingError, UnavailableCause};
use crate::routing::open_route::OpenRoute;
use crate::routing::service::DecisionService;

/// How often an act is applied again because another one was stored first: of acts on one payout at the same time, one is
/// stored in each round.
pub(super) const MAX_ROUNDS: usize = 64;

/// Decimal places of a converted limit: more than any currency has.
const LIMIT_PLACES: u32 = 8;

/// How the route handles a payout that is stuck, with the limit of the risk of a duplicate in the payout's currency. Rates
/// that came with the request do not count: a caller must not raise the limit.
pub(super) fn stuck_rules(
    resolved: &ResolvedRoute,
    snapshot: &Snapshot,
    request: &DecisionRequest,
    now: Timestamp,
) -> StuckRules {
    let rules = resolved.stuck.rules.clone();
    let rates = snapshot.rules.rates.at(now);
    let converted =
        rules.duplicate_risk_limit.and_then(|limit| rates.convert(limit, rates.reference(), request.payout.currency));
    StuckRules { duplicate_risk_limit: converted.map(|limit| limit.round_dp(LIMIT_PLACES).normalize()), ..rules }
}

impl DecisionService {
    /// The attempt that a decision is.
    pub(super) fn attempt_plan(
        &self,
        record: &DecisionRecord,
        snapshot: &Snapshot,
    ) -> Result<AttemptPlan, RoutingError> {
        let candidate = snapshot.candidate(&record.candidate);
        let candidate = candidate.ok_or(RoutingError::Defect("a decision names a candidate of its snapshot"))?;
        let connection = ObjectKey::new(&*record.request.namespace, &*candidate.connection);
        Ok(AttemptPlan {
            attempt_no: record.request.attempt_no,
            bank: candidate.connection.clone(),
            candidate: record.candidate.clone(),
            decision_id: record.id,
            promises: self.routes.promises(&connection),
            send_by: record.expires_at,
        })
    }

    /// What the connection of an attempt leads to now; empty if it does not run.
    pub fn target_of(&self, namespace: &str, attempt: &Attempt) -> String {
        self.routes.promises(&ObjectKey::new(namespace, &*attempt.plan.bank)).target
    }

    /// Stores a decision as the next attempt of the followed payout `stored`. The outcome is that of the decision.
    pub(crate) async fn commit_attempt(
        &self,
        open: &OpenRoute,
        request: &DecisionRequest,
        record: &Arc<DecisionRecord>,
        mut stored: StoredPayout,
    ) -> Result<EntryOutcome, RoutingError> {
        let plan = self.attempt_plan(record, &open.current.sealed.snapshot)?;
        let input = PayoutInput::Attempt(Box::new(plan));
        for _ in 0..MAX_ROUNDS {
            let applied = apply(&stored.payout, &input, record.at);
            match applied.refused {
                None => {}
                Some(Refusal::Gate(unresolved)) => return Ok(EntryOutcome::Unresolved(unresolved)),
                Some(refusal @ Refusal::Payout { .. }) => {
                    return Err(RoutingError::ActRefused { payout: Box::new(stored.payout), refusal });
                }
            }
            let correlation = record.request_id.unwrap_or_else(Uuid::new_v4);
            let commit = PayoutCommit::new(PayoutAct::Attempt, &*record.subject, stored.version, &applied, record.at);
            let commit = commit
                .with_events(payout_events(stored.version.saturating_add(1), &applied, correlation))
                .requested(record.request_id, record.reason.clone());
            let (decision, payout) = (Box::new(open.decision(request, record)), Box::new(commit));
            match self.queue.commit(NewEntry::Attempt { decision, payout }).await? {
                EntryOutcome::Payout(PayoutOutcome::Stored { decision: Some(position), .. }) => {
                    self.payouts.metrics.count(PayoutAct::Attempt, Some(&stored.payout), &applied, record.at);
                    self.follow(&applied);
                    return Ok(EntryOutcome::Stored(position));
                }
                EntryOutcome::Payout(PayoutOutcome::Changed(Some(changed))) => stored = *changed,
                outcome => return Ok(outcome),
            }
        }
        Err(RoutingError::unavailable(UnavailableCause::Ledger))
    }
}
