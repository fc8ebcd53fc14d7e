//! Decides on a payout: choose the route, read the state of its banks, evaluate, commit, answer.
//!
//! The ledger has the last word: in the transaction that appends the decision it replays an equal earlier one, refuses
//! another body, asks the gate of further attempts, and reserves the daily limit. What it finds sends the decision back at
//! most once for each limited candidate.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::domain::breaker::EffectiveState;
use crate::domain::decision::{
    Ask, AttemptKey, DecisionRecord, DecisionRequest, Hash, NotDecided, Snapshot, SnapshotCandidate, Usage, may_attempt,
};
use crate::domain::key::ObjectKey;
use crate::domain::route::{CandidateReason, Evaluation};
use crate::ledger::decisions::{EntryOutcome, EntryPosition, LimitDay, NewEntry, StoredDecision, earlier_attempts};
use crate::routing::decided::{Decided, Tested};
use crate::routing::error::{NoBank, RoutingError, UnavailableCause};
use crate::routing::metrics::DecisionResult;
use crate::routing::open_route::OpenRoute;
use crate::routing::payouts::register::Registering;
use crate::routing::route_choice::choose_route;
use crate::routing::service::{Actor, DecisionService};
use crate::routing::source::LiveRoute;

/// The least and the longest time after which a caller asks again while no bank is available: a bank may recover, or an
/// operator act, at any time.
const RETRY_AFTER: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(5));
/// The time after which a caller asks again where nothing says when a bank may be available.
const RETRY_AFTER_UNKNOWN: Duration = Duration::from_secs(30);

impl DecisionService {
    /// Decides which bank takes the payout. The same request again is answered with the same decision. Without a bank
    /// nothing is stored.
    ///
    /// # Errors
    /// If there is no route or no bank, the attempt conflicts with an earlier one, or the ledger does not store it.
    pub async fn decide(&self, request: DecisionRequest, actor: &Actor) -> Result<Decided, RoutingError> {
        let started = self.clock.now();
        let (route, result) = self.decide_or_replay(&request, actor, started.wall).await;
        if let Some(route) = route {
            self.metrics.count(
                &route,
                match &result {
                    Ok(decided) if decided.replayed => DecisionResult::Replayed,
                    Ok(_) => DecisionResult::Decided,
                    Err(error) => DecisionResult::of(error),
                },
            );
        }
        self.metrics.observe(self.clock.mono().since(started.mono));
        result
    }

    /// What [`decide`](Self::decide) would choose now. Stores nothing, asks for no proof of earlier attempts, and has no
    /// effect on limits.
    ///
    /// # Errors
    /// If there is no route or no bank, or the ledger cannot be read.
    pub async fn test(&self, request: &DecisionRequest) -> Result<Tested, RoutingError> {
        let now = self.clock.now().wall;
        let route = choose_route(&*self.routes, request, now)?;
        let open = self.open(route, request.hash(), now).await?;
        let usage = self.usage(&open.current.sealed.snapshot, now).await?;
        let snapshot = Arc::clone(&open.current.sealed);
        let evaluation = crate::domain::decision::decide(request, &snapshot.snapshot, &usage, now);
        if evaluation.active.is_none() {
            return Err(self.no_bank(&open, evaluation, now));
        }
        Ok(Tested { at: now, evaluation, snapshot })
    }

    /// The decision, and the route that decided.
    async fn decide_or_replay(
        &self,
        request: &DecisionRequest,
        actor: &Actor,
        now: Timestamp,
    ) -> (Option<ObjectKey>, Result<Decided, RoutingError>) {
        let chosen = choose_route(&*self.routes, request, now);
        let (key, result) = match chosen {
            Ok(route) => (Some(route.key.clone()), self.decide_on(route, request, actor, now, None).await),
            Err(error) => (None, Err(error)),
        };
        // The ledger replays while it stores, and asks for proof of earlier attempts. What never got there may have been
        // decided before, by another route or when there was a bank; and a payout whose earlier attempt is unproven must
        // not be answered with the end of a route that has no bank.
        let result = match result {
            Err(
                error @ (RoutingError::RouteNotFound { .. }
                | RoutingError::RouteNotUsable { .. }
                | RoutingError::NoBank(_)),
            ) => self.earlier(request, now).await.and_then(|earlier| earlier.ok_or(error)),
            result => result,
        };
        (key, result)
    }

    /// Decides by this route; with `registering`, the payout is followed from then on.
    pub(super) async fn decide_on(
        &self,
        route: Arc<LiveRoute>,
        request: &DecisionRequest,
        actor: &Actor,
        now: Timestamp,
        mut registering: Option<&mut Registering<'_>>,
    ) -> Result<Decided, RoutingError> {
        let hash = registering.as_ref().map_or_else(|| request.hash(), |it| it.registration.request_hash);
        let open = self.open(route, hash, now).await?;
        let mut usage = self.usage(&open.current.sealed.snapshot, now).await?;
        // Each round but the last finds one more candidate whose limit is used up.
        for _ in 0..=open.current.sealed.snapshot.candidates.len() {
            let ask = Ask {
                request,
                request_id: actor.request_id,
                snapshot: &open.current.sealed,
                subject: &actor.subject,
                usage: &usage,
            };
            let decided = match DecisionRecord::decide(&ask, now) {
                Ok(decided) => decided,
                Err(NotDecided::NoRoute(evaluation)) => return Err(self.no_bank(&open, *evaluation, now)),
                Err(NotDecided::NotEligible(_)) => return Err(RoutingError::Defect("a decision names no candidate")),
            };
            let record = Arc::new(decided.record);
            let committed = match registering.as_deref_mut() {
                Some(registering) => self.commit_registration(&open, request, &record, registering).await?,
                None => self.commit(&open, request, &record).await?,
            };
            match committed {
                EntryOutcome::Stored(EntryPosition { seq, hash }) => {
                    return Ok(Decided {
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
                    });
                }
                EntryOutcome::Replayed(stored) => return self.explain(*stored, true, now).await,
                EntryOutcome::LimitReached(used) => {
                    usage.0.insert(record.candidate.clone(), used);
                }
                other => return Err(refused(other, request)),
            }
        }
        Err(RoutingError::unavailable(UnavailableCause::Ledger))
    }

    /// Appends the record to the audit; together with the payout, if it is followed.
    pub(super) async fn commit(
        &self,
        open: &OpenRoute,
        request: &DecisionRequest,
        record: &Arc<DecisionRecord>,
    ) -> Result<EntryOutcome, RoutingError> {
        let entry = NewEntry::Decision(Box::new(open.decision(request, record)));
        match self.queue.commit(entry).await? {
            EntryOutcome::Followed(stored) => self.commit_attempt(open, request, record, *stored).await,
            outcome => Ok(outcome),
        }
    }

    /// The current snapshot of a route that may decide on the request of this hash.
    pub(super) async fn open(
        &self,
        route: Arc<LiveRoute>,
        request_hash: Hash,
        now: Timestamp,
    ) -> Result<OpenRoute, RoutingError> {
        let resolved = match &route.resolved {
            Ok(resolved) => Arc::clone(resolved),
            Err(error) => {
                return Err(RoutingError::RouteNotUsable { route: route.key.clone(), error: error.clone() });
            }
        };
        if route.suspended {
            return Err(RoutingError::NoBank(Box::new(NoBank {
                evaluation: None,
                // A suspension ends: it is no reason to cancel a payout, whatever the route does without banks.
                holds: true,
                retry_after: RETRY_AFTER_UNKNOWN,
                route: route.key.clone(),
                snapshot: None,
            })));
        }
        let ops = self.ops.loaded().await.map_err(|error| RoutingError::ledger("reading adjustments", &error))?;
        let current = self.cache.current(&route, &resolved, &ops, now);
        let current = current.map_err(|_| RoutingError::Defect("the snapshot cannot be encoded"))?;
        Ok(OpenRoute { request_hash, route, resolved, current })
    }

    /// What is used of the daily limits of a snapshot's candidates today; reads nothing if there are none.
    pub(super) async fn usage(&self, snapshot: &Snapshot, now: Timestamp) -> Result<Usage, RoutingError> {
        let limited = snapshot.candidates.iter().filter_map(|one| Some((one, one.daily_limit.as_ref()?)));
        let days: Vec<_> = limited
            .map(|(one, limit)| LimitDay {
                namespace: snapshot.namespace.clone(),
                route: snapshot.route.clone(),
                candidate: one.candidate.name.clone(),
                day: limit.day(now),
                currency: snapshot.rules.rates.reference(),
            })
            .collect();
        if days.is_empty() {
            return Ok(Usage::default());
        }
        let used = self.ledger.day_usages(&days).await;
        let used = used.map_err(|error| RoutingError::ledger("reading daily limits", &error))?;
        Ok(Usage(days.into_iter().map(|day| day.candidate).zip(used).collect()))
    }

    /// An earlier decision of the same attempt; an error if the attempt may not be made.
    async fn earlier(&self, request: &DecisionRequest, now: Timestamp) -> Result<Option<Decided>, RoutingError> {
        // As the ledger does: after a loss of entries an attempt may be missing.
        self.assert_not_suspended().await?;
        let attempts = self.attempts(&request.namespace, &request.payout_id).await?;
        let Some(stored) = attempts.iter().find(|stored| stored.key.attempt_no == request.attempt_no).cloned() else {
            self.check_attempt(&request.key(), &attempts).await?;
            return Ok(None);
        };
        let requested = request.hash();
        if stored.request_hash != requested {
            return Err(RoutingError::Conflict { requested, stored: stored.request_hash });
        }
        self.explain(stored, true, now).await.map(Some)
    }

    /// Refuses what is not committed, and so not refused by the ledger: replays, and what ends before. A later attempt may
    /// be missing.
    pub(super) async fn assert_not_suspended(&self) -> Result<(), RoutingError> {
        match self.ledger.payouts_suspended().await {
            Ok(false) => Ok(()),
            Ok(true) => Err(RoutingError::PayoutsSuspended),
            Err(error) => Err(RoutingError::ledger("reading whether payouts are suspended", &error)),
        }
    }

    /// The decisions of a payout, by attempt.
    pub(super) async fn attempts(&self, namespace: &str, payout_id: &str) -> Result<Vec<StoredDecision>, RoutingError> {
        let read = self.ledger.attempts(namespace, payout_id).await;
        read.map_err(|error| RoutingError::ledger("reading the attempts of a payout", &error))
    }

    /// Asks the gate of further attempts after the `decisions` of the payout, as the ledger does while it stores.
    pub(super) async fn check_attempt(
        &self,
        key: &AttemptKey,
        decisions: &[StoredDecision],
    ) -> Result<(), RoutingError> {
        let followed = self.find_payout(&key.namespace, &key.payout_id).await?;
        let earlier = earlier_attempts(decisions, followed.as_ref().map(|stored| &stored.payout));
        may_attempt(key.attempt_no, &earlier).map_err(RoutingError::Unresolved)
    }

    /// That all candidates are excluded, and when one may not be any more.
    pub(super) fn no_bank(&self, open: &OpenRoute, evaluation: Evaluation, now: Timestamp) -> RoutingError {
        // Where a bank does not run here yet the payout is not at its end, whatever the route says: the bank may take it in
        // a moment, on another replica now.
        let is_starting = self.starting(open, &evaluation).next().is_some();
        let retry_after = if is_starting { RETRY_AFTER.0 } else { self.retry_after(open, now) };
        RoutingError::NoBank(Box::new(NoBank {
            evaluation: Some(evaluation),
            holds: open.resolved.holds || is_starting,
            retry_after,
            route: open.route.key.clone(),
            snapshot: Some(Arc::clone(&open.current.sealed)),
        }))
    }

    /// The candidates that do not run here yet: what they could do for a payout is not known.
    pub(super) fn starting<'a>(
        &'a self,
        open: &'a OpenRoute,
        evaluation: &'a Evaluation,
    ) -> impl Iterator<Item = &'a SnapshotCandidate> {
        let candidates = open.current.sealed.snapshot.candidates.iter();
        let not_ready = candidates.filter(|one| is_not_ready(evaluation, &one.candidate.name));
        not_ready.filter(|one| self.routes.is_starting(&open.route.key.sibling(&*one.connection)))
    }

    /// When the first open circuit is tried again.
    fn retry_after(&self, open: &OpenRoute, now: Timestamp) -> Duration {
        let candidates = &open.current.sealed.snapshot.candidates;
        let opened = candidates.iter().filter(|one| one.candidate.circuit == Some(EffectiveState::Open));
        let trials = opened.filter_map(|one| self.routes.next_trial(&open.route.key.sibling(&*one.connection)));
        let first = trials.map(|at| Duration::try_from(at.duration_since(now)).unwrap_or_default()).min();
        first.unwrap_or(RETRY_AFTER_UNKNOWN).clamp(RETRY_AFTER.0, RETRY_AFTER.1)
    }
}

/// Whether the candidate is excluded because its connection does not run here.
fn is_not_ready(evaluation: &Evaluation, candidate: &str) -> bool {
    evaluation.standing(candidate).is_some_and(|standing| standing.reason == CandidateReason::ConnectionNotReady)
}

/// Why the ledger did not store a decision.
pub(super) fn refused(outcome: EntryOutcome, request: &DecisionRequest) -> RoutingError {
    match outcome {
        EntryOutcome::Conflict { stored } => RoutingError::Conflict { requested: request.hash(), stored },
        EntryOutcome::Unresolved(unresolved) => RoutingError::Unresolved(unresolved),
        EntryOutcome::Superseded { by } => RoutingError::AlreadySuperseded { by },
        EntryOutcome::PayoutsSuspended => RoutingError::PayoutsSuspended,
        EntryOutcome::Followed(stored) => RoutingError::Followed { payout_id: stored.payout.payout_id },
        _ => RoutingError::Defect("the ledger answered a decision with the outcome of another entry"),
    }
}
