//! From a job's spec and its connection to a sync that can run. Pure.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::api::v1alpha1::reasons::Reason;
use crate::api::v1alpha1::sync_job::{
    CommitScope, ConcurrencyPolicy, Execution, MaskRule, Partition as PartitionSpec, RetentionMode, SyncJobSpec,
};
use crate::controllers::resolve::{Problem, duration};
use crate::domain::key::ObjectKey;
use crate::domain::schedule::{Schedule, ScheduleError};
use crate::provider::profile::Stream;
use crate::provider::settings::Settings;
use crate::sync::plan::{Limits, Partition, SyncPlan};
use crate::sync::{Mask, MaskRules};

/// How often a job runs, and what counts as late.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cadence {
    /// When runs are due.
    pub schedule: Schedule,
    /// Start of a run is spread over so many percent of the gap.
    pub jitter_percent: u8,
    /// A slot that is later than this is missed.
    pub starting_deadline: Duration,
    /// First pause after a failed run; doubles up to [`RETRY_CAP`].
    pub retry_interval: Duration,
    /// Older than this, the data is stale.
    pub max_staleness: Duration,
    /// For people: `every 15m` or the cron line.
    pub text: String,
}

/// Longest pause between retries of a failing job.
pub const RETRY_CAP: Duration = Duration::from_hours(6);

/// Fields whose being ignored would betray the user.
pub fn refuse_unimplemented(spec: &SyncJobSpec) -> Result<(), Problem> {
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
        let message = "spec.execution: Job needs a ledger that Pods can share, and SQLite is none: use InProcess";
        return Err(Problem::stalled(Reason::LedgerNotShared, message));
    }
    if names.is_empty() {
        return Ok(());
    }
    let message = format!("{} cannot be honoured by this version of Busbar: change the field", names.join(", "));
    Err(Problem::stalled(Reason::NotImplemented, message))
}

/// Set fields that no code reads yet; runs go without them.
pub fn unread_fields(spec: &SyncJobSpec) -> Vec<&'static str> {
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

/// When the job runs.
pub fn cadence(spec: &SyncJobSpec, now: Timestamp) -> Result<Cadence, Problem> {
    let schedule_problem = |e: ScheduleError| Problem::stalled(Reason::InvalidSchedule, format!("spec.{e}"));
    let (schedule, text) = match (&spec.schedule, &spec.interval) {
        (Some(line), _) => {
            let schedule = Schedule::cron(line, spec.time_zone.as_deref()).map_err(schedule_problem)?;
            let zone = spec.time_zone.as_deref().map(|z| format!(" {z}")).unwrap_or_default();
            (schedule, format!("{}{zone}", &**line))
        }
        (None, Some(text)) => {
            let length = duration("interval", Some(text), Duration::ZERO)?;
            (Schedule::interval(length).map_err(schedule_problem)?, format!("every {}", &**text))
        }
        (None, None) => return Err(Problem::invalid("interval", "or spec.schedule must be set")),
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

/// The sync itself.
pub fn sync(job: &ObjectKey, spec: &SyncJobSpec, connection: &Settings) -> Result<SyncPlan, Problem> {
    let name = spec.stream.as_deref().ok_or_else(|| Problem::invalid("stream", "must be set"))?;
    let stream = stream(connection, name)?;
    let later = stream.not_run_yet();
    if !later.is_empty() {
        let text = format!(
            "spec.stream {name:?} needs what this version of Busbar cannot sync: {}; choose another stream",
            later.join(", ")
        );
        return Err(Problem::stalled(Reason::NotImplemented, text));
    }
    let shared = spec.parameters.as_deref().cloned().unwrap_or_default();
    let listed = spec.partitions.as_deref().unwrap_or_default();
    let given: Vec<_> = if listed.is_empty() {
        vec![(String::new(), shared)]
    } else {
        let laid_over = |p: &PartitionSpec| {
            let mut parameters = shared.clone();
            parameters.extend(p.parameters.as_deref().cloned().unwrap_or_default());
            (p.name.to_string(), parameters)
        };
        listed.iter().map(laid_over).collect()
    };
    let partitions = given
        .into_iter()
        .map(|(name, given)| {
            let values = stream.values(&given, connection.parameters());
            let parameters = values.map_err(|e| Problem::invalid("parameters", format_args!("is not usable: {e}")))?;
            Ok(Partition { name, parameters })
        })
        .collect::<Result<Vec<_>, Problem>>()?;
    let start = spec
        .start_time
        .as_deref()
        .map(|text| text.parse().map_err(|_| Problem::invalid("startTime", "must be an RFC 3339 instant")))
        .transpose()?;
    let plan = SyncPlan {
        job: job.clone(),
        connection: spec.connection_ref.name.to_string(),
        provider: connection.provider().to_owned(),
        environment: connection.environment().as_str().to_owned(),
        stream_name: name.to_owned(),
        stream,
        correlation: connection.profile().correlation.clone(),
        partitions,
        start,
        lookback: spec.lookback.as_deref().map(|text| duration("lookback", Some(text), Duration::ZERO)).transpose()?,
        run_timeout: duration("runTimeout", spec.run_timeout.as_deref(), Duration::from_hours(1))?,
        dead_letter_budget_percent: u8::try_from(spec.dead_letter_budget_percent.unwrap_or(10)).unwrap_or(10),
        mask: mask(spec)?,
        dry_run: spec.dry_run,
        limits: Limits::default(),
    };
    for partition in &plan.partitions {
        plan.cursor_hash(partition).map_err(|e| Problem::invalid("parameters", e))?;
    }
    Ok(plan)
}

fn stream(connection: &Settings, name: &str) -> Result<Arc<Stream>, Problem> {
    let streams = &connection.profile().streams;
    streams.get(name).cloned().ok_or_else(|| {
        let known: Vec<_> = streams.keys().map(String::as_str).collect();
        let known = if known.is_empty() {
            "it has none in this version".to_owned()
        } else {
            format!("it has: {}", known.join(", "))
        };
        Problem::stalled(
            Reason::StreamNotFound,
            format!("spec.stream {name:?} is no stream of provider {:?}; {known}", connection.provider()),
        )
    })
}

fn mask(spec: &SyncJobSpec) -> Result<MaskRules, Problem> {
    let mut rules = MaskRules::default();
    for (field, rule) in spec.mask.iter().flatten() {
        let rule = match rule {
            MaskRule::Drop => Mask::Drop,
            MaskRule::Last4 => Mask::Last4,
            MaskRule::Token => {
                let message =
                    format!("spec.mask.{field}: Token cannot be honoured by this version of Busbar: use Drop or Last4");
                return Err(Problem::stalled(Reason::NotImplemented, message));
            }
        };
        rules.fields.insert(field.clone(), rule);
    }
    Ok(rules)
}
