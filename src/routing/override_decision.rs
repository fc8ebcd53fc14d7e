//! Overrides a decision: operations staff name another bank of the same route.
//!
//! An override is the payout's next attempt: it supersedes the decision, asks the same proof that no earlier attempt was
//! executed, and its bank must be able to take the payout now.

use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

use crate::domain::decision::{
    Ask, AttemptKey, DecisionRecord, DecisionRequest, NotDecided, NotEligible, Override, RecordKind,
};
use crate::domain::key::ObjectKey;
use crate::domain::route::CandidateReason;
use crate::ledger::decisions::{AdjustmentTarget, EntryOutcome, EntryPosition, StoredDecision};
use crate::resolve::ResolvedRoute;
use crate::routing::decide::refused;
use crate::routing::decided::Decided;
use crate::routing::error::{ReplayProblem, RoutingError};
use crate::routing::metrics::DecisionResult;
use crate::routing::ops::targets;
use crate::routing::service::{Actor, DecisionService};

/// Another bank for a decided payout.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OverrideRequest {
    /// The bank.
    pub bank: AdjustmentTarget,
    /// The decision to replace.
    pub decision: Uuid,
    /// Why.
    pub reason: String,
}

impl DecisionService {
    /// Replaces a decision by one for the named bank. The same override again is answered with the same decision.
    ///
    /// # Errors
    /// If the bank cannot take the payout, the decision was replaced already, or an earlier attempt may have been executed.
    pub async fn override_decision(&self, request: OverrideRequest, actor: &Actor) -> Result<Decided, RoutingError> {
        let started = self.clock.now();
        let stored = self.stored(request.decision).await?;
        let route = ObjectKey::new(&*stored.key.namespace, &*stored.route);
        let result = self.replace(&route, stored, request, actor, started.wall).await;
        if self.routes.route(&route).is_some() {
            self.metrics.count(
                &route,
                match &result {
                    Ok(decided) if decided.replayed => DecisionResult::Replayed,
                    Ok(_) => DecisionResult::Overridden,
                    Err(error) => DecisionResult::of(error),
                },
            );
        }
        self.metrics.observe(self.clock.mono().since(started.mono));
        result
    }

    async fn replace(
        &self,
        route: &ObjectKey,
        stored: StoredDecision,
        request: OverrideRequest,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<Decided, RoutingError> {
        let unreadable = |_| RoutingError::Unreplayable { id: stored.id, problem: ReplayProblem::Unreadable("record") };
        let asked = DecisionRecord::decode(&stored.body).map_err(unreadable)?.request;
        let attempt_no = asked.attempt_no.saturating_add(1);
        // The gate comes first: without proof no other error may suggest that the payout has ended.
        self.assert_not_suspended().await?;
        let attempts = self.attempts(&stored.key.namespace, &stored.key.payout_id).await?;
        let next = attempts.iter().find(|one| one.key.attempt_no > stored.key.attempt_no).map(|one| one.id);
        if next.is_none() {
            self.check_attempt(&AttemptKey { attempt_no, ..stored.key.clone() }, &attempts).await?;
        }
        let live = self.routes.route(route).ok_or_else(|| RoutingError::RouteNotFound {
            namespace: stored.key.namespace.clone(),
            route: Some(stored.route.clone()),
        })?;
        if let Some(by) = stored.superseded_by.or(next) {
            return self.repeated(by, &request, live.resolved.as_deref().ok(), now).await;
        }
        let open = self.open(live, asked.hash(), now).await?;
        let candidate = named(&request.bank, &open.resolved)?;
        let asked = DecisionRequest { attempt_no, ..asked };
        let usage = self.usage(&open.current.sealed.snapshot, now).await?;
        let ask = Ask {
            request: &asked,
            request_id: actor.request_id,
            snapshot: &open.current.sealed,
            subject: &actor.subject,
            usage: &usage,
        };
        let to = Override { candidate: candidate.clone(), reason: request.reason, supersedes: stored.id };
        let decided = DecisionRecord::override_to(&ask, to, now).map_err(|error| match error {
            NotDecided::NotEligible(NotEligible { candidate, reason: Some(reason) }) => {
                RoutingError::CandidateExcluded { candidate, reason }
            }
            NotDecided::NotEligible(NotEligible { candidate, reason: None }) => {
                RoutingError::CandidateNotFound { bank: candidate }
            }
            NotDecided::NoRoute(_) => RoutingError::Defect("an override has a bank"),
        })?;
        let record = Arc::new(decided.record);
        match self.commit(&open, &asked, &record).await? {
            EntryOutcome::Stored(EntryPosition { seq, hash }) => Ok(Decided {
                evaluation: decided.evaluation,
                expired: false,
                hash,
                outcomes: Vec::new(),
                record,
                replayed: false,
                request_hash: open.request_hash,
                seq,
                snapshot: Arc::clone(&open.current.sealed),
                superseded_by: None,
            }),
            EntryOutcome::Replayed(stored) => self.explain(*stored, true, now).await,
            EntryOutcome::LimitReached(_) => {
                Err(RoutingError::CandidateExcluded { candidate, reason: CandidateReason::DailyLimitReached })
            }
            EntryOutcome::NotFound => Err(RoutingError::DecisionNotFound { id: stored.id }),
            other => Err(refused(other, &asked)),
        }
    }

    /// The override `by` of a decision that is replaced already, if it is the same one.
    async fn repeated(
        &self,
        by: Uuid,
        request: &OverrideRequest,
        route: Option<&ResolvedRoute>,
        now: Timestamp,
    ) -> Result<Decided, RoutingError> {
        let stored = self.stored(by).await?;
        let candidates = route.map_or(&[][..], |route| &route.candidates);
        let same = targets(&request.bank, candidates).any(|name| name == stored.candidate);
        if stored.kind == RecordKind::Override && same {
            return self.explain(stored, true, now).await;
        }
        Err(RoutingError::AlreadySuperseded { by })
    }

    /// The stored decision with this ID.
    pub(super) async fn stored(&self, id: Uuid) -> Result<StoredDecision, RoutingError> {
        let stored = self.ledger.decision(id).await;
        let stored = stored.map_err(|error| RoutingError::ledger("reading a decision", &error))?;
        stored.ok_or(RoutingError::DecisionNotFound { id })
    }
}

/// The candidate that `bank` names.
fn named(bank: &AdjustmentTarget, route: &ResolvedRoute) -> Result<String, RoutingError> {
    let mut names = targets(bank, &route.candidates);
    match (names.next(), names.next()) {
        (Some(name), None) => Ok(name.to_owned()),
        (None, _) => Err(RoutingError::CandidateNotFound { bank: target_text(bank).to_owned() }),
        (Some(_), Some(_)) => Err(RoutingError::Invalid {
            field: "bank_profile_id",
            problem: "several candidates of the route have it; name the candidate instead".to_owned(),
        }),
    }
}

/// How a caller named the bank.
pub(super) fn target_text(bank: &AdjustmentTarget) -> &str {
    match bank {
        AdjustmentTarget::Candidate(text) | AdjustmentTarget::BankProfile(text) => text,
    }
}
