//! Jobs over the runs of the pool, and jobs whose spec cannot be used.

use std::sync::Arc;

use super::{Emitted, at};
use crate::api::v1alpha1::SyncJob;
use crate::api::v1alpha1::sync_job::{SyncJobSpec, SyncJobStatus};
use crate::controllers::conditions::time;
use crate::controllers::syncjob::decide::{ConnectionView, JobInputs, decide};
use crate::controllers::syncjob::ledger_state::LedgerState;
use crate::controllers::syncjob::requests::RequestedWork;
use crate::controllers::syncjob::source_events;
use crate::domain::breaker::EffectiveState;
use crate::domain::key::ObjectKey;
use crate::domain::run_reason::RunReason;
use crate::domain::sla::SlaLimits;
use crate::domain::window::WindowPosition;
use crate::domain::write_fault::WriteFault;
use crate::ledger::{Erasure, RunResult};
use crate::profile::{Environment, Profiles};
use crate::resolve::partitions_from::partitions_from;
use crate::resolve::sync_job::{accept, connection_not_found, connection_not_ready, duplicate_source, unused_fields};
use crate::resolve::{JobSchedule, JobSupport, OperatorOptions, SpecError, job_schedule, sync_job};
use crate::settings::addresses::AddressRules;
use crate::settings::{Draft, Settings};
use crate::sync::tests::NOW;
use crate::work::pool::JobView;

/// Half a minute after the runs.
const AFTER: &str = "2026-09-10T12:00:30Z";
/// A day and an hour later.
const MUCH_LATER: &str = "2026-09-11T13:00:00Z";

const STREAM: &str = "stream: transactions, parameters: {accountId: acc-000000001}";

fn job(cadence: &str, fields: &str) -> SyncJob {
    let spec = format!("{{connectionRef: {{name: bank}}, {cadence}, {fields}}}");
    let mut job = SyncJob::new("j", serde_yaml::from_str(&spec).unwrap());
    job.metadata.generation = Some(1);
    job.metadata.creation_timestamp = Some(time(NOW.parse().unwrap()));
    job
}

/// The schedule, or why the spec cannot be used, as `observe` determines it for a job of a running connection and an
/// operator without an encryption key.
fn resolved(job: &SyncJob) -> Result<JobSchedule, SpecError> {
    let operator = OperatorOptions { has_key: false, addresses: &AddressRules::default(), jobs: JobSupport::default() };
    let schedule = job_schedule(&job.spec, operator, NOW.parse().unwrap())?;
    let profile = Profiles::builtin().unwrap().get("mono").unwrap();
    let connection = Settings::resolve(Draft::new(Arc::clone(&profile), Environment::Sandbox)).unwrap();
    sync_job(&ObjectKey::new("team", "j"), &job.spec, &connection)?;
    Ok(schedule)
}

/// One decision about a job.
struct Case<'a> {
    job: &'a SyncJob,
    schedule: Result<JobSchedule, SpecError>,
    previous: Option<&'a SyncJobStatus>,
    runs: &'a JobView,
    now: &'static str,
    ledger: LedgerState,
}

impl<'a> Case<'a> {
    fn of(job: &'a SyncJob, runs: &'a JobView) -> Self {
        Self { job, schedule: resolved(job), previous: None, runs, now: AFTER, ledger: LedgerState::Working }
    }

    fn decide(self, emitted: &mut Emitted) -> SyncJobStatus {
        let connection = ConnectionView {
            suspended: false,
            probed: true,
            effective: EffectiveState::Closed,
            next_trial: None,
            maintenance: WindowPosition::default(),
        };
        let inputs = JobInputs {
            schedule: self.schedule,
            connection: Some(connection),
            runs: self.runs.clone(),
            partitions: 1,
            unused_fields: unused_fields(&self.job.spec),
            ledger: self.ledger,
            requested: RequestedWork::default(),
            sla: SlaLimits::default(),
            lost: Vec::new(),
        };
        let decision = decide(self.job, self.previous, &inputs, at(self.now));
        let status = decision.status.unwrap();
        emitted.add_conditions(&status.conditions);
        emitted.add_events(&decision.events);
        emitted.runs.extend(status.history.iter().filter_map(|entry| entry.reason.clone()));
        status
    }
}

pub(super) fn emit(views: &[JobView], emitted: &mut Emitted) {
    let every_minute = job("interval: 60s", STREAM);
    for view in views {
        Case::of(&every_minute, view).decide(emitted);
    }
    let ended = |result| views.iter().find(|view| view.last.first().is_some_and(|run| run.result == Some(result)));
    let (failed, succeeded) = (ended(RunResult::Failed).unwrap(), ended(RunResult::Succeeded).unwrap());
    let failing = Case::of(&every_minute, failed).decide(emitted);
    let fresh = Case { previous: Some(&failing), ..Case::of(&every_minute, succeeded) }.decide(emitted);
    Case { previous: Some(&fresh), now: MUCH_LATER, ..Case::of(&every_minute, succeeded) }.decide(emitted);

    let cut_short = views.iter().find(|view| view.last.first().is_some_and(|run| run.failure.cut_short));
    Case { previous: Some(&fresh), ..Case::of(&every_minute, cut_short.unwrap()) }.decide(emitted);

    let daily = job("schedule: 0 12 * * *, startingDeadline: 10m", STREAM);
    Case { now: MUCH_LATER, ..Case::of(&daily, succeeded) }.decide(emitted);
    let mut suspended = every_minute.clone();
    suspended.spec.suspend = true;
    Case::of(&suspended, succeeded).decide(emitted);

    let none = JobView::default();
    for ledger in [LedgerState::Unwritable(WriteFault::Full), LedgerState::Unreadable(WriteFault::Io)] {
        Case { ledger, ..Case::of(&every_minute, &none) }.decide(emitted);
    }
    for (cadence, fields) in [
        ("schedule: 61 * * * *", STREAM),
        ("interval: 60s", "stream: transactions"),
        ("interval: 60s", "stream: horoscopes"),
        ("interval: 60s, execution: Job", STREAM),
        ("interval: 60s, retention: {mode: Encrypted}", STREAM),
    ] {
        let unusable = job(cadence, fields);
        let case = Case::of(&unusable, &none);
        assert!(case.schedule.is_err(), "{cadence}, {fields}");
        case.decide(emitted);
    }
    streaks(&every_minute, failed, succeeded, emitted);
    let cycle: SyncJobSpec = serde_yaml::from_str(
        "{connectionRef: {name: bank}, stream: transactions, partitionsFrom: {syncJobRef: {name: j}, field: id}}",
    )
    .unwrap();
    let profile = Profiles::builtin().unwrap().get("mono").unwrap();
    let connection = Settings::resolve(Draft::new(profile, Environment::Sandbox)).unwrap();
    let with_image = OperatorOptions { has_key: false, addresses: &AddressRules::default(), jobs: JobSupport::NoImage };
    let as_job = job("interval: 60s, execution: Job", STREAM);
    for error in [
        partitions_from(&ObjectKey::new("team", "j"), &cycle, &connection, |_| None).unwrap_err(),
        partitions_from(&ObjectKey::new("team", "other"), &cycle, &connection, |_| None).unwrap_err(),
        accept(&as_job.spec, with_image).unwrap_err(),
    ] {
        Case { schedule: Err(error), ..Case::of(&every_minute, &none) }.decide(emitted);
    }
    emitted.add_events(&[source_events::erased(None, &Erasure::default())]);
    for error in [connection_not_found("bank"), connection_not_ready("bank"), duplicate_source("books", "a")] {
        Case { schedule: Err(error), ..Case::of(&every_minute, &none) }.decide(emitted);
    }
}

/// Streaks that reach their thresholds, a schema that drifts, and a resync that is completed.
fn streaks(job: &SyncJob, failed: &JobView, succeeded: &JobView, emitted: &mut Emitted) {
    let before = Case::of(job, succeeded).decide(emitted);
    let recent = succeeded.last_success;
    for view in [
        JobView { failure_streak: 5, last_success: recent, ..failed.clone() },
        JobView { empty_streak: 3, ..succeeded.clone() },
        JobView { last_resync: Some("may".into()), ..succeeded.clone() },
        drifted(failed),
        slow(succeeded),
    ] {
        Case { previous: Some(&before), ..Case::of(job, &view) }.decide(emitted);
    }
}

fn slow(succeeded: &JobView) -> JobView {
    let mut view = succeeded.clone();
    view.last[0].failure.slow = 1;
    view
}

fn drifted(failed: &JobView) -> JobView {
    let mut view = failed.clone();
    view.last[0].reason = Some(RunReason::SchemaDrifted);
    view
}
