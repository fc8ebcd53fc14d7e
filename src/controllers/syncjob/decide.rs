//! When a job runs next, and what its status says. Pure and total.
//!
//! While the connection's circuit keeps calls away no run is started: it would fail at once and count as a failure of
//! the job. Where probes bring the circuit back, runs wait for it to close; where there are none, a run is the trial.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::api::v1alpha1::SyncJob;
use crate::api::v1alpha1::common::Tri;
use crate::api::v1alpha1::reasons::{ConditionType, EventReason, Reason};
use crate::api::v1alpha1::sync_job::{RunResult as WireResult, SyncJobStatus};
use crate::cluster::events::Note;
use crate::cluster::stores::Watched as _;
use crate::controllers::conditions::Conditions;
use crate::controllers::resolve::Problem;
use crate::controllers::syncjob::plan::{Cadence, RETRY_CAP};
use crate::controllers::syncjob::status::{self, Facts};
use crate::controllers::{Decision, IDLE, USER_MUST_ACT};
use crate::domain::breaker::Effective;
use crate::domain::conditions::Status;
use crate::domain::schedule::Due;
use crate::domain::time::Now;
use crate::domain::window::Place;
use crate::ledger::{RunId, RunResult, RunTrigger};
use crate::work::pool::JobView;

/// A run is shown as active only once it has taken this long: shorter ones would cost writes for nothing.
const SHOW_ACTIVE_AFTER: SignedDuration = SignedDuration::from_secs(30);

/// A run that could not be written down is not tried again sooner: what keeps the ledger from taking it, or another
/// process that runs the job, needs a moment, and without a record nothing else paces the next try.
const HOLD_BACK: SignedDuration = SignedDuration::from_secs(5);

/// The job's connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionView {
    /// It is suspended.
    pub suspended: bool,
    /// Probes bring its circuit back.
    pub probed: bool,
    /// Its circuit.
    pub effective: Effective,
    /// When the next trial may pass.
    pub next_trial: Option<Timestamp>,
    /// Whether it is in a maintenance window.
    pub maintenance: Place,
}

/// What `observe` saw.
#[derive(Clone, Debug)]
pub struct Observed {
    /// How often it runs, or why it cannot.
    pub cadence: Result<Cadence, Problem>,
    /// Its connection, if it is usable.
    pub connection: Option<ConnectionView>,
    /// The run under way, and what the ledger knows of those before.
    pub runs: JobView,
    /// How many partitions there are.
    pub partitions: usize,
    /// Set fields that no code reads yet.
    pub unread: Vec<&'static str>,
}

/// One step of `act`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Start a run.
    Start {
        /// Why.
        trigger: RunTrigger,
        /// For which slot of the schedule.
        slot: Option<Timestamp>,
    },
    /// Stop the run at its next page boundary.
    Stop,
    /// Note that a slot was missed.
    Skip {
        /// Which.
        slot: Timestamp,
    },
}

/// What is due, and when the next thing is.
struct Plan {
    steps: Vec<Step>,
    next_slot: Option<Timestamp>,
    next_retry: Option<Timestamp>,
    missed: bool,
}

/// Judges.
pub fn decide(
    object: &SyncJob,
    previous: Option<&SyncJobStatus>,
    observed: &Observed,
    now: Now,
) -> Decision<SyncJobStatus, Step> {
    let generation = object.metadata.generation.unwrap_or_default();
    let mut conditions = Conditions::new(generation, now.wall);
    // A maintenance window is a suspension that ends by itself.
    let suspended =
        object.spec.suspend || observed.connection.as_ref().is_some_and(|c| c.suspended || c.maintenance.is_inside());
    let (due, fresh, next) = match &observed.cadence {
        Err(problem) => {
            conditions.set(ConditionType::Ready, false, problem.reason, problem.message.clone());
            let (type_, next) = if problem.waiting {
                (ConditionType::Reconciling, IDLE)
            } else {
                (ConditionType::Stalled, USER_MUST_ACT)
            };
            conditions.set(type_, true, problem.reason, problem.message.clone());
            conditions.set(ConditionType::Fresh, Status::Unknown, problem.reason, "not judged: see Ready");
            let steps = if observed.runs.active.is_some() { vec![Step::Stop] } else { Vec::new() };
            (Plan { steps, next_slot: None, next_retry: None, missed: false }, Tri::Unknown, next)
        }
        Ok(cadence) => {
            let unread = if observed.unread.is_empty() {
                String::new()
            } else {
                format!("; not used by this version yet: spec.{}", observed.unread.join(", spec."))
            };
            conditions.set(ConditionType::Ready, true, Reason::Accepted, format!("runs when it is due{unread}"));
            let fresh = freshness(&mut conditions, object, cadence, &observed.runs, now.wall);
            let due = plan(object, previous, observed, cadence, suspended, now.wall);
            let next = wait(&due, observed, cadence, now.wall);
            (due, fresh, next)
        }
    };
    drifted(&mut conditions, &observed.runs);
    conditions.set_if(
        object.spec.suspend,
        ConditionType::Suspended,
        Reason::Suspended,
        "spec.suspend is true: no run is started",
    );
    let facts = Facts {
        generation,
        handled: acknowledged(object, previous, observed, &due),
        cadence: observed.cadence.as_ref().ok().map(|c| c.text.clone()),
        fresh,
        next_slot: due.next_slot,
        next_retry: due.next_retry,
        active: observed.runs.active.as_ref().filter(|a| now.wall.duration_since(a.since) >= SHOW_ACTIVE_AFTER),
        partitions: observed.partitions,
    };
    let status = status::build(&facts, &observed.runs, conditions.merged(previous.map_or(&[], |s| &s.conditions)));
    let notes = notes(previous, &status, due.missed);
    Decision { status: Some(status), steps: due.steps, notes, next }
}

/// The id of the run that answers the object's request for one, if there is a request: the same however often it is
/// looked at, so that one request is one run even if its acknowledgement is written later, or not at all.
pub fn requested_run(object: &SyncJob) -> Option<RunId> {
    let uid = object.metadata.uid.as_deref().unwrap_or_default();
    object.requested_at().map(|request| RunId::of_request(uid, request))
}

/// Whether the requested run was started.
fn begun(history: &JobView, id: RunId) -> bool {
    history.active.as_ref().is_some_and(|run| run.id == id) || history.last.iter().any(|run| run.id == id)
}

/// The last request whose run has been started. One that has to wait (a run is under way, the circuit is open, the job is
/// suspended) is acknowledged when its run starts, or it would be lost.
fn acknowledged(object: &SyncJob, previous: Option<&SyncJobStatus>, observed: &Observed, due: &Plan) -> Option<String> {
    let manual = |step: &Step| matches!(step, Step::Start { trigger: RunTrigger::Manual, .. });
    let begun = requested_run(object).is_some_and(|id| begun(&observed.runs, id));
    if begun || due.steps.iter().any(manual) {
        object.requested_at().map(str::to_owned)
    } else {
        previous.and_then(|s| s.last_handled_reconcile_at.clone())
    }
}

fn plan(
    object: &SyncJob,
    previous: Option<&SyncJobStatus>,
    observed: &Observed,
    cadence: &Cadence,
    suspended: bool,
    now: Timestamp,
) -> Plan {
    let created = object.metadata.creation_timestamp.as_ref().map_or(now, |t| t.0);
    let uid = object.metadata.uid.clone().unwrap_or_default();
    let history = &observed.runs;
    let due =
        cadence.schedule.due(history.last_slot, created, now, &uid, cadence.jitter_percent, cadence.starting_deadline);
    let next_slot = match due {
        Due::Wait { until, .. } => Some(until),
        Due::Start { slot, .. } | Due::Missed { slot } => {
            Some(cadence.schedule.next_after(Some(slot.max(now)), now, &uid, cadence.jitter_percent))
        }
    };
    let next_retry = retry_at(history, cadence);
    let mut plan = Plan { steps: Vec::new(), next_slot, next_retry, missed: false };
    if suspended {
        if observed.runs.active.is_some() {
            plan.steps.push(Step::Stop);
        }
        (plan.next_slot, plan.next_retry) = (None, None);
        return plan;
    }
    let held = observed.runs.active.is_some() || held_back_until(history).is_some_and(|until| now < until);
    if held || !admits(observed.connection.as_ref(), now) {
        return plan;
    }
    let handled = previous.and_then(|s| s.last_handled_reconcile_at.as_deref());
    if object.requested_at() != handled && requested_run(object).is_some_and(|id| !begun(history, id)) {
        plan.steps.push(Step::Start { trigger: RunTrigger::Manual, slot: None });
        return plan;
    }
    match due {
        Due::Start { slot, missed } => {
            // While the job fails it is paced by its retries: a schedule faster than they are would undo them.
            if next_retry.is_none_or(|at| at <= now) {
                let trigger = if missed { RunTrigger::CatchUp } else { RunTrigger::Schedule };
                plan.steps.push(Step::Start { trigger, slot: Some(slot) });
            }
        }
        Due::Missed { slot } => {
            plan.missed = true;
            plan.steps.push(Step::Skip { slot });
        }
        Due::Wait { .. } if next_retry.is_some_and(|at| at <= now) => {
            plan.steps.push(Step::Start { trigger: RunTrigger::Retry, slot: None });
        }
        Due::Wait { .. } if next_retry.is_none() && cut_short(history) => {
            plan.steps.push(Step::Start { trigger: RunTrigger::CatchUp, slot: None });
        }
        Due::Wait { .. } => {}
    }
    plan
}

/// Whether the last run ended because its process did, or because it was told to stop: nothing was wrong with it, and it
/// goes on from its last page now rather than at the next slot, which may be a day away.
fn cut_short(history: &JobView) -> bool {
    let last = history.last.iter().find(|r| r.result != Some(RunResult::Skipped));
    last.is_some_and(|r| matches!(r.result, None | Some(RunResult::Interrupted | RunResult::Cancelled)))
}

/// Until when no run is tried, because the last one left no record.
fn held_back_until(history: &JobView) -> Option<Timestamp> {
    let last = history.last_outcome.as_ref().filter(|outcome| !outcome.recorded)?;
    last.at.checked_add(HOLD_BACK).ok()
}

/// Whether a run started now has a chance.
fn admits(connection: Option<&ConnectionView>, now: Timestamp) -> bool {
    let Some(connection) = connection else { return false };
    match connection.effective {
        _ if connection.maintenance.is_inside() => false,
        Effective::Closed | Effective::ForcedClosed | Effective::Shadow => true,
        Effective::ForcedOpen => false,
        Effective::HalfOpen => !connection.probed,
        Effective::Open => !connection.probed && connection.next_trial.is_none_or(|at| at <= now),
    }
}

/// When a failing job is tried again: when the provider said, or else after the retry interval, doubled with every
/// further failure. What the provider said is not written down: after a restart it may say so again.
fn retry_at(history: &JobView, cadence: &Cadence) -> Option<Timestamp> {
    if history.failure_streak == 0 {
        return None;
    }
    let last = history.last.iter().find(|r| r.result.is_some_and(|r| r != RunResult::Skipped))?;
    if let Some(outcome) = history.last_outcome.as_ref().filter(|outcome| outcome.id == last.id)
        && let Some(pause) = outcome.report.retry_in
    {
        return later(outcome.at, pause);
    }
    let doublings = (history.failure_streak - 1).min(16);
    let pause = cadence.retry_interval.saturating_mul(1 << doublings).min(RETRY_CAP);
    last.ended.unwrap_or(last.started).checked_add(SignedDuration::try_from(pause).ok()?).ok()
}

/// Until something is due: a slot, a retry, the end of freshness, or a run that becomes worth showing.
fn wait(plan: &Plan, observed: &Observed, cadence: &Cadence, now: Timestamp) -> Duration {
    let stale = observed.runs.last_success.and_then(|at| later(at, cadence.max_staleness)).filter(|at| *at > now);
    let shown =
        observed.runs.active.as_ref().and_then(|a| a.since.checked_add(SHOW_ACTIVE_AFTER).ok()).filter(|at| *at > now);
    let unheld = held_back_until(&observed.runs).filter(|at| *at > now);
    let held = observed.runs.active.is_some() || unheld.is_some() || !admits(observed.connection.as_ref(), now);
    let trial = observed.connection.as_ref().and_then(|c| c.next_trial).filter(|at| *at > now);
    let edge = observed.connection.as_ref().and_then(|c| c.maintenance.edge());
    let due = if held { [None, None] } else { [plan.next_slot, plan.next_retry] };
    due.into_iter()
        .chain([stale, shown, trial, unheld, edge])
        .flatten()
        .min()
        .map_or(IDLE, |at| {
            Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO).max(Duration::from_millis(10))
        })
        .min(IDLE)
}

fn later(at: Timestamp, by: Duration) -> Option<Timestamp> {
    at.checked_add(SignedDuration::try_from(by).ok()?).ok()
}

fn freshness(
    conditions: &mut Conditions,
    object: &SyncJob,
    cadence: &Cadence,
    history: &JobView,
    now: Timestamp,
) -> Tri {
    let born = object.metadata.creation_timestamp.as_ref().map_or(now, |t| t.0);
    let since = history.last_success.unwrap_or(born);
    let stale = later(since, cadence.max_staleness).is_some_and(|end| now >= end);
    let (tri, status, reason, message) = match (history.last_success, stale) {
        (Some(_), false) => (Tri::True, Status::True, Reason::WithinStaleness, "the last success is recent enough"),
        (None, false) => (Tri::Unknown, Status::Unknown, Reason::NeverSucceeded, "no run has succeeded yet"),
        (Some(_), true) => (
            Tri::False,
            Status::False,
            Reason::StalenessExceeded,
            "the last success is too long ago: see lastResult and history",
        ),
        (None, true) => (
            Tri::False,
            Status::False,
            Reason::NeverSucceeded,
            "no run has succeeded for longer than the data may be old",
        ),
    };
    conditions.set(ConditionType::Fresh, status, reason, message);
    tri
}

fn drifted(conditions: &mut Conditions, history: &JobView) {
    let last = history.last.iter().find(|r| r.result.is_some_and(|r| r != RunResult::Skipped));
    let drifted =
        last.is_some_and(|r| r.result == Some(RunResult::Failed) && r.reason.as_deref() == Some("SchemaDrifted"));
    conditions.set_if(
        drifted,
        ConditionType::SchemaDrifted,
        Reason::DeadLetterBudgetExceeded,
        "the provider's records are not as the stream promises: the page was not committed, nothing is lost",
    );
    let rejected = last.is_some_and(|r| r.result == Some(RunResult::Succeeded) && r.counts.rejected > 0);
    conditions.set_if(
        rejected,
        ConditionType::DeadLetters,
        Reason::RecordsRejected,
        "records were set aside as dead letters",
    );
}

fn notes(previous: Option<&SyncJobStatus>, new: &SyncJobStatus, missed: bool) -> Vec<Note> {
    let empty = SyncJobStatus::default();
    let old = previous.unwrap_or(&empty);
    let mut notes = Vec::new();
    if new.last_result != old.last_result {
        match new.last_result {
            Some(WireResult::Succeeded) => {
                notes.push(Note::normal(
                    EventReason::SyncSucceeded,
                    "the run succeeded; the next one follows when it is due",
                ));
            }
            Some(WireResult::Failed) => {
                let why = new.history.first().and_then(|h| h.reason.as_deref()).unwrap_or("see history");
                let message =
                    format!("the run failed ({why}); nothing committed is lost, it is tried again with growing pauses");
                notes.push(Note::warning(EventReason::SyncFailed, message));
            }
            _ => {}
        }
    }
    if new.fresh == Some(Tri::False) && old.fresh != new.fresh {
        notes.push(Note::warning(
            EventReason::StalenessExceeded,
            "the data is older than it may be; runs go on: see lastResult and history",
        ));
    }
    if missed {
        notes.push(Note::warning(
            EventReason::SyncMissed,
            "a slot was missed by more than the starting deadline; the next slot is served",
        ));
    }
    notes
}
