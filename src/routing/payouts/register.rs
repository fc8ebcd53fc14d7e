//! Registers a payout: its first decision, and the payout that is followed from then on, are stored together.

use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

use crate::domain::decision::{AttemptKey, DecisionRecord, DecisionRequest, Snapshot};
use crate::domain::key::ObjectKey;
use crate::domain::payout::{Applied, BankReport, NewPayout, PayoutInput, Refusal, apply, payout_events, register};
use crate::ledger::decisions::{EntryOutcome, NewEntry, StoredDecision};
use crate::ledger::payouts::{PayoutAct, PayoutCommit, PayoutOutcome, Registration, StoredPayout};
use crate::resolve::ResolvedRoute;
use crate::routing::decided::Decided;
use crate::routing::error::{ReplayProblem, RoutingError};
use crate::routing::metrics::DecisionResult;
use crate::routing::open_route::OpenRoute;
use crate::routing::payouts::act::reported;
use crate::routing::payouts::attempt::stuck_rules;
use crate::routing::route_choice::choose_route;
use crate::routing::service::{Actor, DecisionService};

/// A registered payout.
#[derive(Clone, Debug)]
pub struct RegisteredPayout {
    /// The decision of its first attempt. Replayed if the payout was registered, or decided, before.
    pub decided: Decided,
    /// The payout, as stored now.
    pub payout: StoredPayout,
}

/// A registration under way.
pub(crate) struct Registering<'a> {
    actor: &'a Actor,
    pub(crate) registration: Registration,
    /// The payout, once it is stored.
    stored: Option<StoredPayout>,
}

impl DecisionService {
    /// Decides which bank takes the payout, and follows it from then on. The same request again is answered with the same
    /// payout as it is by then. A payout that was decided before is followed with that decision. Without a bank nothing is
    /// stored.
    ///
    /// # Errors
    /// As of [`decide`](Self::decide), and if the idempotency key was used for another payout.
    pub async fn register(
        &self,
        request: DecisionRequest,
        idempotency_key: Option<String>,
        actor: &Actor,
    ) -> Result<RegisteredPayout, RoutingError> {
        let started = self.clock.now();
        let registration = Registration { idempotency_key, request_hash: request.hash() };
        let mut registering = Registering { actor, registration, stored: None };
        let (route, result) = self.register_or_replay(&request, &mut registering, started.wall).await;
        if let Some(route) = route {
            let counted = match &result {
                Ok(decided) if decided.replayed => DecisionResult::Replayed,
                Ok(_) => DecisionResult::Decided,
                Err(error) => DecisionResult::of(error),
            };
            self.metrics.count(&route, counted);
        }
        self.metrics.observe(self.clock.mono().since(started.mono));
        let decided = result?;
        let payout = registering.stored.ok_or(RoutingError::Defect("a registration stores a payout"))?;
        Ok(RegisteredPayout { decided, payout })
    }

    async fn register_or_replay(
        &self,
        request: &DecisionRequest,
        registering: &mut Registering<'_>,
        now: Timestamp,
    ) -> (Option<ObjectKey>, Result<Decided, RoutingError>) {
        let chosen = choose_route(&*self.routes, request, now);
        let (key, result) = match chosen {
            Ok(route) => {
                let key = route.key.clone();
                let decided = self.decide_on(route, request, registering.actor, now, Some(&mut *registering)).await;
                (Some(key), decided)
            }
            Err(error) => (None, Err(error)),
        };
        // The ledger replays while it stores. What never got there may have been registered before, when there was a bank;
        // and a payout whose earlier attempt is unproven must not be answered with the end of a route that has no bank.
        let result = match result {
            Err(
                error @ (RoutingError::RouteNotFound { .. }
                | RoutingError::RouteNotUsable { .. }
                | RoutingError::NoBank(_)),
            ) => self.registered_before(request, registering, now).await.and_then(|before| before.ok_or(error)),
            result => result,
        };
        (key, result)
    }

    /// The first decision of a payout that is registered already.
    async fn registered_before(
        &self,
        request: &DecisionRequest,
        registering: &mut Registering<'_>,
        now: Timestamp,
    ) -> Result<Option<Decided>, RoutingError> {
        self.assert_not_suspended().await?;
        let Some(stored) = self.find_payout(&request.namespace, &request.payout_id).await? else {
            let attempts = self.attempts(&request.namespace, &request.payout_id).await?;
            let last = attempts.last().map_or(0, |last| last.key.attempt_no);
            let next = AttemptKey { attempt_no: last.saturating_add(1), ..request.key() };
            self.check_attempt(&next, &attempts).await?;
            return Ok(None);
        };
        let requested = request.hash();
        if stored.request_hash != requested {
            return Err(RoutingError::Conflict { requested, stored: stored.request_hash });
        }
        let decision = self.first_decision(&stored).await?;
        registering.stored = Some(stored);
        self.explain(decision, true, now).await.map(Some)
    }

    /// Stores the decision and the payout. The outcome is that of the decision.
    pub(crate) async fn commit_registration(
        &self,
        open: &OpenRoute,
        request: &DecisionRequest,
        record: &Arc<DecisionRecord>,
        registering: &mut Registering<'_>,
    ) -> Result<EntryOutcome, RoutingError> {
        let applied = self.registration(&open.resolved, record, &open.current.sealed.snapshot)?;
        let payout = Box::new(registering.commit(&applied, record.at));
        let decision = Box::new(open.decision(request, record));
        match self.queue.commit(NewEntry::Attempt { decision, payout }).await? {
            EntryOutcome::Payout(PayoutOutcome::Stored { position, decision: Some(decided), version }) => {
                self.registered(registering, applied, record.at, position.seq, version);
                Ok(EntryOutcome::Stored(decided))
            }
            EntryOutcome::Replayed(decision) => self.follow_decision(open, *decision, registering).await,
            outcome => self.registration_refused(outcome, registering).await,
        }
    }

    /// Follows a payout from a decision that was made before. What was reported of it counts.
    async fn follow_decision(
        &self,
        open: &OpenRoute,
        decision: StoredDecision,
        registering: &mut Registering<'_>,
    ) -> Result<EntryOutcome, RoutingError> {
        let unreadable =
            |_| RoutingError::Unreplayable { id: decision.id, problem: ReplayProblem::Unreadable("record") };
        let record = DecisionRecord::decode(&decision.body).map_err(unreadable)?;
        let snapshot = self.snapshot(&decision).await?;
        let mut applied = self.registration(&open.resolved, &record, &snapshot.snapshot)?;
        for outcome in &decision.outcomes {
            let Some(report) = BankReport::from_outcome(outcome.class) else { continue };
            let evidence = reported(outcome.seq, outcome.at, &outcome.subject);
            let attempt_no = record.request.attempt_no;
            let next = apply(&applied.payout, &PayoutInput::Report { attempt_no, report, evidence }, outcome.at);
            applied.effects.extend(next.effects);
            applied.transitions.extend(next.transitions);
            applied.payout = next.payout;
        }
        let now = self.clock.now().wall;
        let payout = Box::new(registering.commit(&applied, now));
        match self.queue.commit(NewEntry::Payout(payout)).await? {
            EntryOutcome::Payout(PayoutOutcome::Stored { position, version, .. }) => {
                self.registered(registering, applied, now, position.seq, version);
                Ok(EntryOutcome::Replayed(Box::new(decision)))
            }
            outcome => self.registration_refused(outcome, registering).await,
        }
    }

    /// The outcome of the first decision where the payout was not stored by this call.
    async fn registration_refused(
        &self,
        outcome: EntryOutcome,
        registering: &mut Registering<'_>,
    ) -> Result<EntryOutcome, RoutingError> {
        match outcome {
            EntryOutcome::Payout(PayoutOutcome::Replayed(stored)) => {
                let decision = self.first_decision(&stored).await?;
                registering.stored = Some(*stored);
                Ok(EntryOutcome::Replayed(Box::new(decision)))
            }
            EntryOutcome::Payout(PayoutOutcome::Conflict { stored }) => Ok(EntryOutcome::Conflict { stored }),
            EntryOutcome::Payout(PayoutOutcome::KeyReused { payout_id }) => Err(RoutingError::KeyReused { payout_id }),
            outcome => Ok(outcome),
        }
    }

    /// The payout with its first attempt, as of the decision.
    fn registration(
        &self,
        resolved: &ResolvedRoute,
        record: &DecisionRecord,
        snapshot: &Snapshot,
    ) -> Result<Applied, RoutingError> {
        let request = &record.request;
        let plan = self.attempt_plan(record, snapshot)?;
        let new = NewPayout {
            amount: request.payout.amount,
            currency: request.payout.currency,
            namespace: request.namespace.clone(),
            payout_id: request.payout_id.clone(),
            route: snapshot.route.clone(),
            rules: stuck_rules(resolved, snapshot, request, record.at),
        };
        let applied = register(new, plan, record.at);
        match applied.refused {
            None => Ok(applied),
            Some(Refusal::Gate(unresolved)) => Err(RoutingError::Unresolved(unresolved)),
            Some(Refusal::Payout { .. }) => Err(RoutingError::Defect("a registration was refused")),
        }
    }

    /// Keeps the payout that was stored, with its place and its version.
    fn registered(&self, registering: &mut Registering<'_>, applied: Applied, at: Timestamp, seq: u64, version: u64) {
        self.payouts.metrics.count(PayoutAct::Register, None, &applied, at);
        self.follow(&applied);
        let request_hash = registering.registration.request_hash;
        registering.stored = Some(StoredPayout { payout: applied.payout, request_hash, seq, updated_at: at, version });
    }

    /// The decision of a payout's first attempt.
    async fn first_decision(&self, stored: &StoredPayout) -> Result<StoredDecision, RoutingError> {
        let first = stored.payout.attempts.first().ok_or(RoutingError::Defect("a payout has an attempt"))?;
        self.stored(first.plan.decision_id).await
    }
}

impl Registering<'_> {
    fn commit(&self, applied: &Applied, at: Timestamp) -> PayoutCommit {
        let correlation = self.actor.request_id.unwrap_or_else(Uuid::new_v4);
        PayoutCommit::new(PayoutAct::Register, &*self.actor.subject, 0, applied, at)
            .registering(self.registration.clone())
            .with_events(payout_events(1, applied, correlation))
            .requested(self.actor.request_id, None)
    }
}
