//! The next attempt of a payout without a person: another bank than those that were tried, if one can take the payout and
//! costs little more.
//!
//! It is asked for by the state machine, once every earlier attempt is proven not to have been executed or two people
//! accepted the risk, and the ledger asks the gate again. It is recorded as an override of the last decision, because it is
//! not the choice of the route alone: the banks that were tried come last.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use rust_decimal::Decimal;

use crate::domain::decision::{Ask, DecisionRecord, DecisionRequest, Override, decide};
use crate::domain::key::ObjectKey;
use crate::domain::payout::{Payout, PayoutInput};
use crate::domain::route::{CandidateStanding, Evaluation, StandingState};
use crate::ledger::decisions::EntryOutcome;
use crate::ledger::payouts::{PayoutAct, StoredPayout};
use crate::provider::payouts::NextAttempts;
use crate::routing::decided::Decided;
use crate::routing::error::{ReplayProblem, RoutingError};
use crate::routing::open_route::OpenRoute;
use crate::routing::payouts::act::PayoutRequest;
use crate::routing::service::{Actor, DecisionService};

/// The operator itself, as it is recorded with what it decides.
const SUBJECT: &str = "busbar";

/// Basis points of a whole.
const WHOLE: Decimal = Decimal::from_parts(10_000, 0, 0, false, 0);

/// What became of a proposal.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Rerouted {
    /// The next attempt is stored, now or before.
    Stored,
    /// No bank can take the payout now.
    NoBank,
    /// Another bank costs more than `spec.stuck.maxRerouteCostBasisPoints` allows without a person.
    CostsMore,
    /// The gate, or another attempt, stands in the way.
    Refused,
}

impl NextAttempts for DecisionService {
    fn decide<'a>(&'a self, payout: &'a Payout, attempt_no: u32) -> BoxFuture<'a, ()> {
        async move {
            let (namespace, route) = (payout.namespace.as_str(), payout.route.as_str());
            match self.reroute(payout, attempt_no).await {
                Ok(Rerouted::Stored) => tracing::info!(namespace, route, attempt_no, "payout rerouted"),
                Ok(Rerouted::NoBank) => {
                    tracing::warn!(namespace, route, attempt_no, "payout not rerouted: no bank is available; retrying");
                }
                Ok(Rerouted::CostsMore) => tracing::warn!(
                    namespace,
                    route,
                    attempt_no,
                    "payout held: another bank costs more than spec.stuck.maxRerouteCostBasisPoints allows; decide the \
                     attempt, or raise the limit and resume the payout"
                ),
                Ok(Rerouted::Refused) => {
                    tracing::info!(namespace, route, attempt_no, "payout not rerouted: superseded");
                }
                Err(error) => tracing::warn!(namespace, route, attempt_no, %error, "payout not rerouted; retrying"),
            }
        }
        .boxed()
    }
}

impl DecisionService {
    /// Decides the attempt `attempt_no` of a followed payout, and stores it with the payout.
    pub(super) async fn reroute(&self, payout: &Payout, attempt_no: u32) -> Result<Rerouted, RoutingError> {
        let stored = self.get_payout(&payout.namespace, &payout.payout_id).await?;
        let payout = &stored.payout;
        if payout.next_attempt_no() != attempt_no || payout.may_attempt(attempt_no).is_err() {
            return Ok(Rerouted::Refused);
        }
        let Some(last) = payout.attempts.last() else { return Ok(Rerouted::Refused) };
        let now = self.clock.now().wall;
        let decision = self.stored(last.plan.decision_id).await?;
        let unreadable =
            |_| RoutingError::Unreplayable { id: decision.id, problem: ReplayProblem::Unreadable("record") };
        let asked = DecisionRecord::decode(&decision.body).map_err(unreadable)?.request;
        let request = DecisionRequest { attempt_no, ..asked };
        let key = ObjectKey::new(&*payout.namespace, &*payout.route);
        let route = self.routes.route(&key).ok_or_else(|| RoutingError::RouteNotFound {
            namespace: payout.namespace.clone(),
            route: Some(payout.route.clone()),
        })?;
        let open = match self.open(route, request.hash(), now).await {
            Err(RoutingError::NoBank(_)) => return Ok(Rerouted::NoBank),
            open => open?,
        };
        let before = self.explain(decision, true, now).await?;
        let mut usage = self.usage(&open.current.sealed.snapshot, now).await?;
        // Each round but the last finds one more candidate whose limit is used up.
        for _ in 0..=open.current.sealed.snapshot.candidates.len() {
            let evaluation = decide(&request, &open.current.sealed.snapshot, &usage, now);
            let Some(chosen) = self.another(&evaluation, payout, &open) else { return Ok(Rerouted::NoBank) };
            if !is_affordable(chosen, &before, payout, &open) {
                self.hold_for_cost(stored.clone()).await?;
                return Ok(Rerouted::CostsMore);
            }
            let ask = Ask {
                request: &request,
                request_id: None,
                snapshot: &open.current.sealed,
                subject: SUBJECT,
                usage: &usage,
            };
            let to = Override {
                candidate: chosen.name.clone(),
                reason: format!("rerouted: attempt {} was {}", last.plan.attempt_no, last.state),
                supersedes: before.record.id,
            };
            let Ok(decided) = DecisionRecord::override_to(&ask, to, now) else { return Ok(Rerouted::NoBank) };
            let record = Arc::new(decided.record);
            match self.commit_attempt(&open, &request, &record, stored.clone()).await? {
                EntryOutcome::Stored(_) | EntryOutcome::Replayed(_) => return Ok(Rerouted::Stored),
                EntryOutcome::LimitReached(used) => {
                    usage.0.insert(record.candidate.clone(), used);
                }
                EntryOutcome::PayoutsSuspended => return Err(RoutingError::PayoutsSuspended),
                _ => return Ok(Rerouted::Refused),
            }
        }
        Ok(Rerouted::NoBank)
    }

    /// The best bank that can take the payout: one that was not tried, else any. After a restart a bank that was not tried may
    /// not run here yet; the payout waits for it rather than go back to a bank that did not execute it.
    fn another<'e>(
        &self,
        evaluation: &'e Evaluation,
        payout: &Payout,
        open: &OpenRoute,
    ) -> Option<&'e CandidateStanding> {
        let tried: BTreeSet<&str> = payout.attempts.iter().map(|attempt| attempt.plan.bank.as_str()).collect();
        let snapshot = &open.current.sealed.snapshot;
        let is_tried = |one: &CandidateStanding| {
            snapshot.candidate(&one.name).is_none_or(|candidate| tried.contains(candidate.connection.as_str()))
        };
        let mut available =
            evaluation.ranked().into_iter().filter(|one| one.state != StandingState::Excluded).peekable();
        let first = available.peek().copied();
        let fresh = available.find(|&one| !is_tried(one));
        let is_awaited = || self.starting(open, evaluation).any(|one| !tried.contains(one.connection.as_str()));
        fresh.or_else(|| first.filter(|_| !is_awaited()))
    }

    /// Has a person decide on an attempt that costs more.
    async fn hold_for_cost(&self, stored: StoredPayout) -> Result<(), RoutingError> {
        let request = PayoutRequest {
            act: PayoutAct::Tick,
            input: PayoutInput::CostsMore,
            namespace: stored.payout.namespace.clone(),
            payout_id: stored.payout.payout_id.clone(),
            reason: None,
        };
        let operator = Actor { request_id: None, subject: SUBJECT.to_owned() };
        self.act_on(stored, &request, &operator).await.map(|_| ())
    }
}

/// Whether the bank costs no more, than the one before did, than the route allows without a person. An unknown cost is more.
fn is_affordable(chosen: &CandidateStanding, before: &Decided, payout: &Payout, open: &OpenRoute) -> bool {
    let allowed = open.resolved.stuck.max_reroute_cost_basis_points.unwrap_or(Decimal::ZERO);
    let cost_before = before.evaluation.standing(&before.record.candidate).and_then(|one| one.cost.as_ref());
    let (Some(cost), Some(cost_before)) = (chosen.cost.as_ref(), cost_before) else { return false };
    let more = cost.total.checked_sub(cost_before.total).and_then(|more| more.checked_mul(WHOLE));
    let most = payout.amount.checked_mul(allowed);
    matches!((more, most), (Some(more), Some(most)) if more <= most)
}
