//! Outcomes of payouts, as the caller reports them: stored with the decision, and told to the bank's health once.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::domain::canonical::to_millis;
use crate::domain::decision::{EarlierAttempt, OutcomeClass, may_attempt};
use crate::domain::key::ObjectKey;
use crate::ledger::decisions::{EntryOutcome, NewEntry, NewOutcome, StoredDecision, StoredOutcome};
use crate::routing::committer::Submitted;
use crate::routing::entry_id::outcome_id;
use crate::routing::error::RoutingError;
use crate::routing::service::{Actor, DecisionService};
use crate::routing::source::PayoutFeedback;
use crate::routing::untold::Awaited;

/// Reports of one call.
const MAX_REPORTS: usize = 500;
/// Decisions of reports that are read at a time.
const READS_AT_ONCE: usize = 8;
/// How far ahead of this clock a reported instant may be.
const MAX_SKEW: SignedDuration = SignedDuration::from_mins(5);

/// What became of a decision's payout, as reported.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OutcomeReport {
    /// When it happened; `None`: now.
    pub at: Option<Timestamp>,
    /// What happened.
    pub class: OutcomeClass,
    /// The decision, or the attempt of a followed payout.
    pub decision: Uuid,
    /// How long the bank took.
    pub latency: Option<Duration>,
}

/// What became of a report.
#[derive(Debug)]
pub struct OutcomeResult {
    /// The decision.
    pub decision: Uuid,
    /// Whether the report is stored.
    pub result: Result<OutcomeStored, RoutingError>,
}

/// How a report is stored.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum OutcomeStored {
    /// By this call.
    Stored,
    /// By an earlier one: the same class at the same time.
    Repeated,
}

impl DecisionService {
    /// Stores what became of payouts that were decided in `namespace`; one result for each report, in order.
    ///
    /// # Errors
    /// If there are too many reports; each report has an error of its own.
    pub async fn outcomes(
        &self,
        namespace: &str,
        reports: Vec<OutcomeReport>,
        actor: &Actor,
    ) -> Result<Vec<OutcomeResult>, RoutingError> {
        if reports.len() > MAX_REPORTS {
            return Err(RoutingError::TooMany { what: "outcomes", limit: MAX_REPORTS });
        }
        let now = self.clock.now().wall;
        let mut checked = Vec::with_capacity(reports.len());
        for some in reports.chunks(READS_AT_ONCE) {
            checked.extend(join_all(some.iter().map(|report| self.check_report(namespace, report, now))).await);
        }
        let mut places = Places::default();
        // All are queued, in their order, before the first is awaited: they are one commit.
        let submitted: Vec<Result<Queued, RoutingError>> = reports
            .iter()
            .zip(checked)
            .map(|(report, checked)| {
                let decision = checked?;
                let place = places.next(report, &decision, now);
                let new = new_outcome(report, decision.id, place, actor, now);
                let id = new.id;
                let submitted = self.queue.submit_outcome(NewEntry::Outcome(new))?;
                Ok(Queued { decision: decision.id, submitted, awaited: self.untold.awaiting(id) })
            })
            .collect();
        let mut results = Vec::with_capacity(reports.len());
        for (report, submitted) in reports.iter().zip(submitted) {
            let (decision, result) = match submitted {
                Ok(queued) => (queued.decision, self.stored_outcome(report, queued, actor, now).await),
                Err(error) => (report.decision, Err(error)),
            };
            results.push(OutcomeResult { decision, result });
        }
        Ok(results)
    }

    /// The decision of a report, which is one of the namespace.
    async fn check_report(
        &self,
        namespace: &str,
        report: &OutcomeReport,
        now: Timestamp,
    ) -> Result<StoredDecision, RoutingError> {
        if report.at.is_some_and(|at| at > now + MAX_SKEW) {
            let problem = "is in the future; send the time at which the outcome was known".to_owned();
            return Err(RoutingError::Invalid { field: "at", problem });
        }
        let id = report.decision;
        let decision = match self.stored(id).await {
            Err(RoutingError::DecisionNotFound { .. }) => match self.decision_of_attempt(id).await? {
                Some(decision) => self.stored(decision).await?,
                None => return Err(RoutingError::DecisionNotFound { id }),
            },
            found => found?,
        };
        if decision.key.namespace == namespace { Ok(decision) } else { Err(RoutingError::DecisionNotFound { id }) }
    }

    async fn stored_outcome(
        &self,
        report: &OutcomeReport,
        queued: Queued,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<OutcomeStored, RoutingError> {
        let Queued { decision: id, submitted, awaited } = queued;
        let result = match submitted.outcome().await? {
            EntryOutcome::OutcomeStored { position, decision, earlier, repeated, .. } => {
                // Also of a repeated report: the first call may have ended between the two.
                self.report_to_payout(&decision, report.class, report.at, position.seq, actor).await?;
                // Also of one that an earlier call stored, whose caller was not answered.
                if awaited.take_untold() || !repeated {
                    self.feed_back(&decision, &earlier, report, now).await;
                }
                Ok(if repeated { OutcomeStored::Repeated } else { OutcomeStored::Stored })
            }
            EntryOutcome::OutcomesFull => Err(RoutingError::OutcomesFull { id }),
            EntryOutcome::NotFound => Err(RoutingError::DecisionNotFound { id }),
            _ => Err(RoutingError::Defect("the ledger answered an outcome with that of another entry")),
        };
        awaited.told();
        result
    }

    /// Tells the bank's connection. `earlier`: the outcomes before the report.
    async fn feed_back(
        &self,
        decision: &StoredDecision,
        earlier: &[OutcomeClass],
        report: &OutcomeReport,
        now: Timestamp,
    ) {
        let says = |class| matches!(class, OutcomeClass::Success | OutcomeClass::BankFailure | OutcomeClass::Timeout);
        let heard = earlier.iter().any(|class| says(*class));
        // The outcome is stored whatever becomes of this: health is an estimate, and the next outcome is one too.
        let Ok(snapshot) = self.snapshot(decision).await else { return };
        let Some(candidate) = snapshot.snapshot.candidate(&decision.candidate) else { return };
        let connection = ObjectKey::new(&*decision.key.namespace, &*candidate.connection);
        let feedback = PayoutFeedback {
            at: report.at.unwrap_or(now),
            candidate: decision.candidate.clone(),
            class: report.class,
            decision: decision.id,
            latency: report.latency,
            route: ObjectKey::new(&*decision.key.namespace, &*decision.route),
            says_health: says(report.class) && !heard,
        };
        self.routes.observe(&connection, &feedback);
    }
}

/// A report that is queued.
struct Queued {
    decision: Uuid,
    submitted: Submitted,
    awaited: Awaited,
}

/// Where the outcomes of each decision stand, while the reports of one call are queued.
#[derive(Default)]
struct Places(BTreeMap<Uuid, Vec<Known>>);

/// An outcome that is stored or queued.
struct Known {
    class: OutcomeClass,
    /// When it happened, as reported.
    at: Option<Timestamp>,
    /// When it happened, or else was received.
    effective: Timestamp,
}

impl Places {
    /// The place of the report among the outcomes of `decision`. A report that repeats one has the place of that: its caller
    /// did not get the answer.
    fn next(&mut self, report: &OutcomeReport, decision: &StoredDecision, now: Timestamp) -> usize {
        let known = self.0.entry(decision.id).or_insert_with(|| decision.outcomes.iter().map(Known::from).collect());
        let one = Known { class: report.class, at: report.at.map(to_millis), effective: report.at.unwrap_or(now) };
        if let Some(place) = repeated(known, &one) {
            return place;
        }
        known.push(one);
        known.len() - 1
    }
}

impl From<&StoredOutcome> for Known {
    fn from(stored: &StoredOutcome) -> Self {
        let &StoredOutcome { class, occurred_at, at, .. } = stored;
        Self { class, at: occurred_at, effective: occurred_at.unwrap_or(at) }
    }
}

/// The place of the outcome that `one` repeats: that of its class and time, or the last one if neither has a time. A report
/// that would change whether the payout is proven not to have been executed is a new word on it, unless it is older than the last
/// word against it: a queue that delivers reports again neither doubts what was proven later, nor proves what was doubted later.
fn repeated(known: &[Known], one: &Known) -> Option<usize> {
    let place = known.iter().rposition(|earlier| earlier.class == one.class && earlier.at == one.at)?;
    if place + 1 == known.len() {
        return Some(place);
    }
    one.at?;
    let mut classes: Vec<_> = known.iter().map(|earlier| earlier.class).collect();
    let before = is_proven(classes.clone());
    classes.push(one.class);
    let after = is_proven(classes);
    let last = |is_against: fn(OutcomeClass) -> bool| known.iter().rev().find(|earlier| is_against(earlier.class));
    let is_old_doubt = before && last(OutcomeClass::is_proof).is_some_and(|proof| one.effective <= proof.effective);
    let is_old_proof = after && last(OutcomeClass::contradicts).is_some_and(|doubt| one.effective < doubt.effective);
    (before == after || is_old_doubt || is_old_proof).then_some(place)
}

/// Whether the outcomes are proof that the payout was not executed.
fn is_proven(outcomes: Vec<OutcomeClass>) -> bool {
    may_attempt(2, &[EarlierAttempt { attempt_no: 1, outcomes, followed: None }]).is_ok()
}

/// The audit entry of a report.
fn new_outcome(report: &OutcomeReport, decision: Uuid, place: usize, actor: &Actor, now: Timestamp) -> NewOutcome {
    let latency_ms = report.latency.map(|latency| u64::try_from(latency.as_millis()).unwrap_or(u64::MAX));
    NewOutcome {
        // As it is stored: an equal entry is found again.
        at: to_millis(now),
        class: report.class,
        decision,
        id: outcome_id(decision, report.class, report.at, place),
        latency_ms,
        occurred_at: report.at.map(to_millis),
        subject: actor.subject.clone(),
    }
}
