//! Decides when a job runs next and computes its status. Pure and total.
//!
//! While the connection's circuit is open no run is started: it would fail fast and count as a failure of the job.
//! Where probes close the circuit, runs wait for that; where there are none, a run is the trial call.

use std::time::Duration;

use jiff::Timestamp;

use crate::api::v1alpha1::SyncJob;
use crate::api::v1alpha1::common::TriState;
use crate::api::v1alpha1::reasons::{ConditionType, Reason};
use crate::api::v1alpha1::sync_job::SyncJobStatus;
use crate::cluster::resource::WatchedResource as _;
use crate::controllers::conditions::{Conditions, unused_fields_note};
use crate::controllers::syncjob::due;
use crate::controllers::syncjob::events::{Transition, events};
use crate::controllers::syncjob::freshness::{self, FreshnessInputs};
use crate::controllers::syncjob::ledger_state::{self, LedgerState};
use crate::controllers::syncjob::overlap;
use crate::controllers::syncjob::requests::{Closing, PendingResync, RequestedWork};
use crate::controllers::syncjob::source_events;
use crate::controllers::syncjob::status::{self, StatusInputs};
use crate::controllers::{DEFAULT_REQUEUE, Decision};
use crate::domain::breaker::EffectiveState;
use crate::domain::clock_skew::after;
use crate::domain::conditions::ConditionStatus;
use crate::domain::run_reason::RunReason;
use crate::domain::schedule::Due;
use crate::domain::sla::SlaLimits;
use crate::domain::time::Now;
use crate::domain::window::WindowPosition;
use crate::ledger::{RunId, RunResult, RunTrigger};
use crate::resolve::{Cadence, JobSchedule, SpecError};
use crate::work::pool::{JobView, RunRequest};

/// A run appears in the status only after this long: shorter ones are not worth a status write.
const SHOW_ACTIVE_AFTER: Duration = Duration::from_secs(30);

/// Delay of the next look at a job with a run that was lost.
const LOST_RECHECK: Duration = Duration::from_secs(5);

/// State of the job's connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionView {
    /// Whether it is suspended.
    pub suspended: bool,
    /// Whether active probes close its circuit.
    pub probed: bool,
    /// Effective circuit state.
    pub effective: EffectiveState,
    /// When the next trial call is admitted.
    pub next_trial: Option<Timestamp>,
    /// Position relative to its maintenance windows.
    pub maintenance: WindowPosition,
}

/// Inputs of [`decide`]: the result of `observe` without the sync plan.
#[derive(Clone, Debug)]
pub struct JobInputs {
    /// When the job runs, or why its spec cannot be used.
    pub schedule: Result<JobSchedule, SpecError>,
    /// State of the connection, if it is running.
    pub connection: Option<ConnectionView>,
    /// The active run, and the recorded runs from the ledger.
    pub runs: JobView,
    /// Number of partitions.
    pub partitions: usize,
    /// Set fields that this version does not use.
    pub unused_fields: Vec<&'static str>,
    /// Whether runs can be recorded and read.
    pub ledger: LedgerState,
    /// What is asked of the job beside its schedule.
    pub requested: RequestedWork,
    /// The service-level thresholds.
    pub sla: SlaLimits,
    /// Runs whose Kubernetes Job failed before they recorded their end.
    pub lost: Vec<RunRequest>,
}

/// One step of `act`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobStep {
    /// Start a run.
    Start {
        /// What triggered the run.
        trigger: RunTrigger,
        /// Slot of the schedule that it serves.
        slot: Option<Timestamp>,
    },
    /// Start the run of a request over HTTP.
    StartRequested {
        /// Its ID.
        run: RunId,
        /// What triggers it: a user, or a webhook.
        trigger: RunTrigger,
    },
    /// Start a run of a resync.
    StartResync(PendingResync),
    /// Close a request over HTTP.
    Close(Closing),
    /// Record a run whose Kubernetes Job failed.
    RecordLost(RunRequest),
    /// Stop the run at its next page boundary.
    Stop,
    /// Record a missed slot.
    Skip {
        /// The missed slot.
        slot: Timestamp,
    },
}

impl JobStep {
    /// Whether it starts a run.
    pub fn starts(&self) -> bool {
        matches!(self, Self::Start { .. } | Self::StartRequested { .. } | Self::StartResync(_))
    }
}

/// What is due now, and when the next run is.
struct DueWork {
    steps: Vec<JobStep>,
    next_slot: Option<Timestamp>,
    next_retry: Option<Timestamp>,
    missed: bool,
    /// When a run that goes on, or the next attempt of a resync, must be looked at again.
    look_again: Option<Timestamp>,
}

/// Computes status, steps and events.
pub fn decide(
    object: &SyncJob,
    previous: Option<&SyncJobStatus>,
    inputs: &JobInputs,
    now: Now,
) -> Decision<SyncJobStatus, JobStep> {
    let generation = object.metadata.generation.unwrap_or_default();
    let mut conditions = Conditions::new(generation, now.wall);
    if let LedgerState::Unreadable(_) = inputs.ledger {
        return ledger_state::unreadable(previous, generation, inputs.ledger, conditions);
    }
    // A clock that was ahead when a run was recorded must not hide a later one.
    let inputs = &JobInputs { runs: inputs.runs.as_of(now), ..inputs.clone() };
    // A maintenance window is a suspension that ends by itself.
    let suspended =
        object.spec.suspend || inputs.connection.as_ref().is_some_and(|c| c.suspended || c.maintenance.is_inside());
    let (mut due, fresh, requeue_after) = match &inputs.schedule {
        Err(error) => {
            let unevaluated = [(ConditionType::Fresh, ConditionStatus::Unknown)];
            let requeue_after = conditions.reject_spec(error, &unevaluated, DEFAULT_REQUEUE);
            let steps = if inputs.runs.active.is_some() { vec![JobStep::Stop] } else { Vec::new() };
            (
                DueWork { steps, next_slot: None, next_retry: None, missed: false, look_again: None },
                TriState::Unknown,
                requeue_after,
            )
        }
        Ok(JobSchedule { cadence, retention }) => {
            let unused = unused_fields_note(&inputs.unused_fields);
            let message = format!("spec accepted; runs on schedule{}{unused}", retention.note());
            inputs.ledger.set_ready(&mut conditions, message);
            let created = due::created(object, previous, now.wall);
            let (history, partitions) = (&inputs.runs, inputs.partitions);
            let sla = &inputs.sla;
            let judged = FreshnessInputs { created, cadence, history, previous, partitions, sla, now: now.wall };
            let fresh = freshness::judge(&mut conditions, &judged);
            let due = due_work(object, previous, inputs, cadence, suspended, now);
            let requeue_after = requeue_after(&due, inputs, cadence, now);
            (due, fresh, requeue_after)
        }
    };
    schema_conditions(&mut conditions, &inputs.runs);
    conditions.set_if(
        object.spec.suspend,
        ConditionType::Suspended,
        Reason::Suspended,
        "spec.suspend is true: no runs are started",
    );
    let status_inputs = StatusInputs {
        generation,
        handled: acknowledged(object, previous, inputs),
        cadence: inputs.schedule.as_ref().ok().map(|s| s.cadence.text.clone()),
        fresh,
        next_slot: due.next_slot,
        next_retry: due.next_retry,
        active: inputs.runs.active.as_ref().filter(|a| now.mono.since(a.since_mono) >= SHOW_ACTIVE_AFTER),
        partitions: inputs.partitions,
    };
    let mut status =
        status::build(&status_inputs, &inputs.runs, conditions.merged(previous.map_or(&[], |s| &s.conditions)));
    if is_about_to_end(inputs, &due, now) {
        status::hold_times(&mut status, previous);
    }
    let created = due::created(object, previous, now.wall);
    status::name_requests(&mut status, object, previous);
    due.steps.extend(inputs.lost.iter().copied().map(JobStep::RecordLost));
    due.steps.extend(inputs.requested.closings.iter().cloned().map(JobStep::Close));
    let (runs, partitions) = (&inputs.runs, inputs.partitions);
    let mut events = events(&Transition { previous, new: &status, runs, partitions, created, missed: due.missed });
    events.extend(source_events::duplicate(previous, inputs.schedule.as_ref().err()));
    Decision { status: Some(status), steps: due.steps, events, requeue_after }
}

/// Whether a run has just started or starts now: most runs end within seconds, and the status is written then.
fn is_about_to_end(inputs: &JobInputs, due: &DueWork, now: Now) -> bool {
    let starts = due.steps.iter().any(JobStep::starts);
    // Its end is in the ledger a moment before the pool forgets it.
    let has_ended = |id| inputs.runs.last.iter().any(|run| run.id == id && run.result.is_some());
    let active = inputs.runs.active.as_ref().filter(|run| !has_ended(run.id));
    starts || active.is_some_and(|run| now.mono.since(run.since_mono) < SHOW_ACTIVE_AFTER)
}

/// ID of the run for the object's requested-at annotation. Derived from the request, so that one request is one run
/// even if its acknowledgement is written late or never.
pub fn requested_run(object: &SyncJob) -> Option<RunId> {
    let uid = object.metadata.uid.as_deref().unwrap_or_default();
    object.requested_at().map(|request| RunId::of_request(uid, request))
}

/// Whether the run with this ID was started.
fn has_started(history: &JobView, id: RunId) -> bool {
    history.active.as_ref().is_some_and(|run| run.id == id) || history.last.iter().any(|run| run.id == id)
}

/// The last request whose run is stored: in the ledger, or as a Kubernetes Job. One that waits (a run is active, the
/// circuit is open, the job is suspended, the pool is busy) would be lost with the process if it was acknowledged earlier.
fn acknowledged(object: &SyncJob, previous: Option<&SyncJobStatus>, inputs: &JobInputs) -> Option<String> {
    let runs = &inputs.runs;
    let is_active = |id| runs.active.as_ref().is_some_and(|active| active.id == id && !active.queued);
    let is_stored = |id| is_active(id) || runs.last.iter().any(|run| run.id == id);
    if requested_run(object).is_some_and(is_stored) {
        object.requested_at().map(str::to_owned)
    } else {
        previous.and_then(|s| s.last_handled_reconcile_at.clone())
    }
}

fn due_work(
    object: &SyncJob,
    previous: Option<&SyncJobStatus>,
    inputs: &JobInputs,
    cadence: &Cadence,
    suspended: bool,
    now: Now,
) -> DueWork {
    let uid = object.metadata.uid.as_deref().unwrap_or_default();
    let history = &inputs.runs;
    let created = due::created(object, previous, now.wall);
    let due = due::evaluate(cadence, history, created, uid, now.wall);
    let next_slot = match due {
        Due::Wait { until, .. } => Some(until),
        Due::Start { slot, .. } | Due::Missed { slot } => {
            Some(cadence.schedule.next_after(Some(slot), now.wall, uid, cadence.jitter_percent))
        }
    };
    let next_retry = due::retry_at(history, cadence, now);
    let mut plan = DueWork { steps: Vec::new(), next_slot, next_retry, missed: false, look_again: None };
    if suspended {
        if inputs.runs.active.is_some() {
            plan.steps.push(JobStep::Stop);
        }
        (plan.next_slot, plan.next_retry) = (None, None);
        return plan;
    }
    if !inputs.lost.is_empty() {
        // Recorded first, so that its failure counts for the backoff. Its lease may have to expire before.
        plan.look_again = Some(after(now.wall, LOST_RECHECK));
        return plan;
    }
    let blocked = !inputs.ledger.is_writable() || due::blocked_until(history).is_some_and(|until| now.mono < until);
    if blocked || !allows_run(inputs.connection.as_ref(), now.wall) {
        return plan;
    }
    let handled = previous.and_then(|s| s.last_handled_reconcile_at.as_deref());
    let annotated =
        object.requested_at() != handled && requested_run(object).is_some_and(|id| !has_started(history, id));
    if let Some(active) = &history.active {
        // Not the slot that the active run serves: one that came since.
        let slot =
            matches!(due, Due::Start { slot, .. } if slot > active.since) && next_retry.is_none_or(|at| at <= now.wall);
        let retry = active.trigger == RunTrigger::Resync && next_retry.is_some_and(|at| at <= now.wall);
        let is_due = annotated || inputs.requested.run.is_some() || slot || retry;
        let (stop, look_again) = overlap::of(object.spec.concurrency_policy, active, is_due, next_slot, now);
        plan.steps.extend(stop.then_some(JobStep::Stop));
        plan.look_again = look_again;
        return plan;
    }
    if annotated {
        plan.steps.push(JobStep::Start { trigger: RunTrigger::Manual, slot: None });
        return plan;
    }
    if let Some(run) = inputs.requested.run {
        let trigger = if inputs.requested.is_webhook { RunTrigger::Webhook } else { RunTrigger::Manual };
        plan.steps.push(JobStep::StartRequested { run, trigger });
        return plan;
    }
    let (mono, now) = (now.mono, now.wall);
    match due {
        Due::Start { slot, missed } => {
            // While the job fails, the retry backoff limits runs: a faster schedule would defeat it.
            if next_retry.is_none_or(|at| at <= now) {
                let trigger = if missed { RunTrigger::CatchUp } else { RunTrigger::Schedule };
                plan.steps.push(JobStep::Start { trigger, slot: Some(slot) });
            }
        }
        Due::Missed { slot } => {
            // A slot before the object existed was missed by an earlier one of its name.
            plan.missed = slot >= created;
            plan.steps.push(JobStep::Skip { slot });
        }
        Due::Wait { .. } if next_retry.is_some_and(|at| at <= now) => {
            plan.steps.push(JobStep::Start { trigger: RunTrigger::Retry, slot: None });
        }
        Due::Wait { .. } if next_retry.is_none() && due::was_interrupted(history) => {
            plan.steps.push(JobStep::Start { trigger: RunTrigger::CatchUp, slot: None });
        }
        Due::Wait { .. } => {}
    }
    // Between two runs of the schedule: the newest data comes first. Not while the job fails: its backoff limits the rate at
    // which the provider is asked.
    let idle = next_retry.is_none() && !plan.steps.iter().any(JobStep::starts);
    if let Some(resync) = inputs.requested.resync.as_ref().filter(|_| idle) {
        match due::resync_at(history, cadence, &resync.plan.id, Now { mono, wall: now }) {
            Some(at) if now < at => plan.look_again = Some(at),
            _ => plan.steps.push(JobStep::StartResync(resync.clone())),
        }
    }
    plan
}

/// Whether the connection admits a run now.
fn allows_run(connection: Option<&ConnectionView>, now: Timestamp) -> bool {
    let Some(connection) = connection else { return false };
    match connection.effective {
        _ if connection.maintenance.is_inside() => false,
        EffectiveState::Closed | EffectiveState::ForcedClosed | EffectiveState::Shadow => true,
        EffectiveState::ForcedOpen => false,
        EffectiveState::HalfOpen => !connection.probed,
        EffectiveState::Open => !connection.probed && connection.next_trial.is_none_or(|at| at <= now),
    }
}

/// Delay until the next event: a slot, a retry, the staleness limit, or a run that is due to appear in the status.
fn requeue_after(plan: &DueWork, inputs: &JobInputs, cadence: &Cadence, now: Now) -> Duration {
    let starts = plan.steps.iter().any(JobStep::starts);
    let shown = match &inputs.runs.active {
        Some(active) => Some(now.wall_at(active.since_mono + SHOW_ACTIVE_AFTER)),
        None => starts.then(|| now.wall_at(now.mono + SHOW_ACTIVE_AFTER)),
    };
    let unblocked = due::blocked_until(&inputs.runs).map(|at| now.wall_at(at));
    let now = now.wall;
    let stale = inputs.runs.last_success.map(|at| after(at, cadence.max_staleness)).filter(|at| *at > now);
    let shown = shown.filter(|at| *at > now);
    let unblocked = unblocked.filter(|at| *at > now);
    let blocked = inputs.runs.active.is_some()
        || !inputs.ledger.is_writable()
        || unblocked.is_some()
        || !allows_run(inputs.connection.as_ref(), now);
    let trial = inputs.connection.as_ref().and_then(|c| c.next_trial).filter(|at| *at > now);
    let edge = inputs.connection.as_ref().and_then(|c| c.maintenance.next_change());
    let due = if blocked { [None, None] } else { [plan.next_slot, plan.next_retry] };
    due.into_iter()
        .chain([stale, shown, trial, unblocked, edge, plan.look_again.filter(|at| *at > now)])
        .flatten()
        .min()
        .map_or(DEFAULT_REQUEUE, |at| {
            Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO).max(Duration::from_millis(10))
        })
        .min(DEFAULT_REQUEUE)
}

fn schema_conditions(conditions: &mut Conditions, history: &JobView) {
    let last = history.last.iter().find(|run| due::counts(run) && run.result.is_some());
    let failed = last.filter(|run| run.result == Some(RunResult::Failed)).and_then(|run| run.reason);
    let drifted = match failed {
        Some(RunReason::SchemaDrifted) => Some(Reason::NoValidRecords),
        Some(RunReason::DeadLetterBudgetExceeded) => Some(Reason::DeadLetterBudgetExceeded),
        _ => None,
    };
    let detail = last.and_then(|run| run.failure.detail.as_deref()).map(|detail| format!(" ({detail})"));
    conditions.set_if(
        drifted.is_some(),
        ConditionType::SchemaDrifted,
        drifted.unwrap_or(Reason::NoValidRecords),
        format!(
            "provider records do not match the stream's schema{}: the page was not committed, no data is lost",
            detail.unwrap_or_default()
        ),
    );
    let is_committed = |result| matches!(result, Some(RunResult::Succeeded | RunResult::Incomplete));
    let rejected = last.is_some_and(|run| is_committed(run.result) && run.counts.rejected > 0);
    conditions.set_if(
        rejected,
        ConditionType::DeadLetters,
        Reason::RecordsRejected,
        "records rejected and stored as dead letters; list them with busbar ledger dead-letters",
    );
}
