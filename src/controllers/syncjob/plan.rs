//! Resolves a job's spec and its connection's settings to a sync plan. Pure.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::api::v1alpha1::reasons::Reason;
use crate::api::v1alpha1::sync_job::{
    CommitScope, ConcurrencyPolicy, Execution, MaskRule, Partition as PartitionSpec, RetentionMode, SyncJobSpec,
};
use crate::controllers::resolve::{SpecError, duration};
use crate::domain::key::ObjectKey;
use crate::domain::schedule::{Schedule, ScheduleError};
use crate::profile::Stream;
use crate::settings::Settings;
use crate::sync::plan::{Partition, RunLimits, SyncPlan};
use crate::sync::{Mask, MaskRules};

/// When a job runs, is retried, and counts as late.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cadence {
    /// When runs are due.
    pub schedule: Schedule,
    /// Start jitter, in percent of the gap between runs.
    pub jitter_percent: u8,
    /// A slot later than this is missed.
    pub starting_deadline: Duration,
    /// Delay after the first failed run; doubles up to [`MAX_RETRY_INTERVAL`].
    pub retry_interval: Duration,
    /// Data older than this is stale.
    pub max_staleness: Duration,
    /// For display: `every 15m` or the cron line.
    pub text: String,
}

/// Longest delay between retries of a failing job.
pub const MAX_RETRY_INTERVAL: Duration = Duration::from_hours(6);

/// The connection of the job, `name`, does not exist.
pub fn connection_not_found(name: &str) -> SpecError {
    let message = format!("ProviderConnection {name:?} (spec.connectionRef) not found: create it in this namespace");
    SpecError::waiting(Reason::ConnectionNotFound, message)
}

/// The connection of the job, `name`, exists but is not running.
pub fn connection_not_ready(name: &str) -> SpecError {
    let message = format!("ProviderConnection {name:?} (spec.connectionRef) not ready; check its conditions");
    SpecError::waiting(Reason::ConnectionNotReady, message)
}

/// Rejects set fields that this version does not implement and that would be unsafe to ignore.
pub fn reject_unimplemented(spec: &SyncJobSpec) -> Result<(), SpecError> {
    let mode = spec.retention.as_ref().map(|r| r.mode).unwrap_or_default();
    let set = [
        ("spec.retention.mode other than \"Off\"", mode != RetentionMode::Off),
        ("spec.commitScope: Window", spec.commit_scope == Some(CommitScope::Window)),
        ("spec.partitionsFrom", spec.partitions_from.is_some()),
        ("spec.resync", spec.resync.is_some()),
        ("spec.concurrencyPolicy: Replace", spec.concurrency_policy == ConcurrencyPolicy::Replace),
    ];
    let names: Vec<_> = set.into_iter().filter(|(_, set)| *set).map(|(name, _)| name).collect();
    if spec.execution == Execution::Job {
        let message = "spec.execution: Job requires a ledger that Pods can share, and SQLite is not: use InProcess";
        return Err(SpecError::stalled(Reason::LedgerNotShared, message));
    }
    if names.is_empty() {
        return Ok(());
    }
    let message = format!("{} not supported by this version of Busbar: change the field", names.join(", "));
    Err(SpecError::stalled(Reason::NotImplemented, message))
}

/// Set fields that this version does not use.
pub fn unused_fields(spec: &SyncJobSpec) -> Vec<&'static str> {
    let sla = spec.sla.as_ref();
    let set = [
        ("validations", spec.validations.is_some()),
        ("jobTemplate", spec.job_template.is_some()),
        ("sla.fetchDuration", sla.is_some_and(|s| s.fetch_duration.is_some())),
        ("sla.failureStreak", sla.is_some_and(|s| s.failure_streak.is_some())),
        ("sla.emptyStreak", sla.is_some_and(|s| s.empty_streak.is_some())),
    ];
    set.into_iter().filter(|(_, set)| *set).map(|(name, _)| name).collect()
}

/// Resolves schedule, retry interval and staleness limit.
pub fn cadence(spec: &SyncJobSpec, now: Timestamp) -> Result<Cadence, SpecError> {
    let schedule_error = |e: ScheduleError| SpecError::stalled(Reason::InvalidSchedule, format!("spec.{e}"));
    let (schedule, text) = match (&spec.schedule, &spec.interval) {
        (Some(line), _) => {
            let schedule = Schedule::cron(line, spec.time_zone.as_deref()).map_err(schedule_error)?;
            let zone = spec.time_zone.as_deref().map(|z| format!(" {z}")).unwrap_or_default();
            (schedule, format!("{}{zone}", &**line))
        }
        (None, Some(text)) => {
            let length = duration("interval", Some(text), Duration::ZERO)?;
            (Schedule::interval(length).map_err(schedule_error)?, format!("every {}", &**text))
        }
        (None, None) => return Err(SpecError::invalid("interval", "or spec.schedule must be set")),
    };
    let gap = schedule.gap(now);
    let late = match &schedule {
        Schedule::Interval(length) => *length * 3,
        Schedule::Cron(_) => gap.saturating_mul(2),
    };
    let max_staleness = spec.sla.as_ref().and_then(|s| s.max_staleness.as_deref());
    Ok(Cadence {
        schedule,
        jitter_percent: u8::try_from(spec.jitter_percent.unwrap_or(10)).unwrap_or(10),
        starting_deadline: duration("startingDeadline", spec.starting_deadline.as_deref(), Duration::from_hours(1))?,
        retry_interval: duration("retryInterval", spec.retry_interval.as_deref(), gap.min(Duration::from_mins(15)))?,
        max_staleness: duration("sla.maxStaleness", max_staleness, late)?,
        text,
    })
}

/// Resolves the sync: stream, partitions, window and limits.
pub fn sync(job: &ObjectKey, spec: &SyncJobSpec, connection: &Settings) -> Result<SyncPlan, SpecError> {
    let name = spec.stream.as_deref().ok_or_else(|| SpecError::invalid("stream", "must be set"))?;
    let stream = stream(connection, name)?;
    let unsupported = stream.unsupported_features();
    if !unsupported.is_empty() {
        let text = format!(
            "stream {name:?} (spec.stream) uses features not supported by this version of Busbar: {}; choose another \
             stream",
            unsupported.join(", ")
        );
        return Err(SpecError::stalled(Reason::NotImplemented, text));
    }
    let shared = spec.parameters.as_deref().cloned().unwrap_or_default();
    let listed = spec.partitions.as_deref().unwrap_or_default();
    let given: Vec<_> = if listed.is_empty() {
        vec![(String::new(), shared)]
    } else {
        let merged = |p: &PartitionSpec| {
            let mut parameters = shared.clone();
            parameters.extend(p.parameters.as_deref().cloned().unwrap_or_default());
            (p.name.to_string(), parameters)
        };
        listed.iter().map(merged).collect()
    };
    let partitions = given
        .into_iter()
        .map(|(name, given)| {
            let values = stream.effective_values(&given, connection.parameters());
            let parameters = values.map_err(|e| SpecError::invalid("parameters", format_args!("is invalid: {e}")))?;
            Ok(Partition { name, parameters })
        })
        .collect::<Result<Vec<_>, SpecError>>()?;
    let start = spec
        .start_time
        .as_deref()
        .map(|text| text.parse().map_err(|_| SpecError::invalid("startTime", "must be an RFC 3339 instant")))
        .transpose()?;
    let plan = SyncPlan {
        job: job.clone(),
        connection: spec.connection_ref.name.to_string(),
        provider: connection.provider().to_owned(),
        environment: connection.environment().as_str().to_owned(),
        stream_name: name.to_owned(),
        stream,
        request_id_header: connection.profile().correlation.clone(),
        partitions,
        start,
        lookback: spec.lookback.as_deref().map(|text| duration("lookback", Some(text), Duration::ZERO)).transpose()?,
        run_timeout: duration("runTimeout", spec.run_timeout.as_deref(), Duration::from_hours(1))?,
        dead_letter_budget_percent: u8::try_from(spec.dead_letter_budget_percent.unwrap_or(10)).unwrap_or(10),
        mask: mask(spec)?,
        dry_run: spec.dry_run,
        limits: RunLimits::default(),
    };
    for partition in &plan.partitions {
        plan.cursor_hash(partition).map_err(|e| SpecError::invalid("parameters", e))?;
    }
    Ok(plan)
}

fn stream(connection: &Settings, name: &str) -> Result<Arc<Stream>, SpecError> {
    let streams = &connection.profile().streams;
    streams.get(name).cloned().ok_or_else(|| {
        let known: Vec<_> = streams.keys().map(String::as_str).collect();
        let known = if known.is_empty() {
            "it has no streams in this version".to_owned()
        } else {
            format!("available: {}", known.join(", "))
        };
        SpecError::stalled(
            Reason::StreamNotFound,
            format!("stream {name:?} (spec.stream) not found in profile {:?}; {known}", connection.provider()),
        )
    })
}

fn mask(spec: &SyncJobSpec) -> Result<MaskRules, SpecError> {
    let mut rules = MaskRules::default();
    for (field, rule) in spec.mask.iter().flatten() {
        let rule = match rule {
            MaskRule::Drop => Mask::Drop,
            MaskRule::Last4 => Mask::Last4,
            MaskRule::Token => {
                let message =
                    format!("spec.mask.{field}: Token is not supported by this version of Busbar: use Drop or Last4");
                return Err(SpecError::stalled(Reason::NotImplemented, message));
            }
        };
        rules.fields.insert(field.clone(), rule);
    }
    Ok(rules)
}
