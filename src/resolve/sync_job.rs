//! Resolves a job's spec and its connection's settings to a cadence and a sync plan. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::api::v1alpha1::reasons::Reason;
use crate::api::v1alpha1::sync_job as wire;
use crate::api::v1alpha1::sync_job::{CommitScope, Execution, Partition as PartitionSpec, SyncJobSpec};
use crate::domain::event::EventGranularity;
use crate::domain::key::ObjectKey;
use crate::domain::schedule::{Schedule, ScheduleError};
use crate::domain::sla::SlaLimits;
use crate::profile::{CUSTOM_PREFIX, CommitScope as StreamScope, Stream};
use crate::resolve::fields::{duration, number};
use crate::resolve::job_rules::{mask, validations};
use crate::resolve::job_stream::{NamedStream, stream};
use crate::resolve::operator::{JobSupport, OperatorOptions};
use crate::resolve::retention::{Retention, raw_retention, retention};
use crate::resolve::spec_error::SpecError;
use crate::settings::Settings;
use crate::settings::sync_plan::{Partition, PlanEndpoint, RunLimits, SyncPlan};

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

/// Another job, `older`, reads what this one would read in `partition` (empty: the only one).
pub fn duplicate_source(older: &str, partition: &str) -> SpecError {
    let partition = if partition.is_empty() { String::new() } else { format!(" of partition {partition:?}") };
    let message = format!(
        "the source{partition} is read by the older SyncJob {older:?} (same connection, stream and parameters): both would \
         write the same rows; change spec.parameters or spec.partitions, or delete one of the two jobs"
    );
    SpecError::stalled(Reason::DuplicateSource, message)
}

/// What an accepted spec says besides the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobSchedule {
    /// When the job runs.
    pub cadence: Cadence,
    /// What happens to raw payloads.
    pub retention: Retention,
}

/// Resolves when a job runs, or why this operator cannot run it.
pub fn job_schedule(
    spec: &SyncJobSpec,
    operator: OperatorOptions<'_>,
    now: Timestamp,
) -> Result<JobSchedule, SpecError> {
    let retention = accept(spec, operator)?;
    Ok(JobSchedule { cadence: cadence(spec, now)?, retention })
}

/// Rejects what the operator cannot do; returns the effective retention.
pub fn accept(spec: &SyncJobSpec, operator: OperatorOptions<'_>) -> Result<Retention, SpecError> {
    if spec.execution == Execution::Job {
        check_jobs(operator.jobs)?;
    }
    retention(spec, operator.has_key)
}

/// When the rows of the job take effect: as its spec says, else as the stream does.
fn commit_scope(spec: &SyncJobSpec, stream: &Stream) -> Result<StreamScope, SpecError> {
    match spec.commit_scope {
        None => Ok(stream.commit_scope),
        Some(CommitScope::Window) => Ok(StreamScope::Window),
        Some(CommitScope::Page) if stream.is_patch() => {
            let problem = "must be Window or unset: the stream returns changes, which take effect together";
            Err(SpecError::invalid("commitScope", problem))
        }
        Some(CommitScope::Page) => Ok(StreamScope::Page),
    }
}

/// Whether the operator can run Kubernetes Jobs.
fn check_jobs(support: JobSupport) -> Result<(), SpecError> {
    match support {
        JobSupport::Supported => Ok(()),
        JobSupport::LedgerNotShared => {
            let message = "spec.execution: Job requires a ledger that Pods can share, and SQLite is not: use InProcess, \
                           or start the operator with --ledger=postgres://…";
            Err(SpecError::stalled(Reason::LedgerNotShared, message))
        }
        JobSupport::NoImage => {
            let message = "spec.execution: Job requires the image of the Jobs: start the operator with --job-image, or \
                           use InProcess";
            Err(SpecError::stalled(Reason::JobImageMissing, message))
        }
    }
}

/// Whether a run on a connection of this provider can be a Kubernetes Job, if its spec wants that.
pub fn check_provider(spec: &SyncJobSpec, provider: &str) -> Result<(), SpecError> {
    if spec.execution == Execution::Job && provider.starts_with(CUSTOM_PREFIX) {
        let message = format!(
            "spec.execution: Job is not supported with provider {provider:?}: custom profiles are not in the Pods of Jobs; \
             set execution: InProcess"
        );
        return Err(SpecError::stalled(Reason::NotImplemented, message));
    }
    Ok(())
}

/// Set fields that this version does not use.
pub fn unused_fields(spec: &SyncJobSpec) -> Vec<&'static str> {
    let set = [("jobTemplate", spec.job_template.is_some() && spec.execution != Execution::Job)];
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

/// Resolves a `SyncJob` on the connection with these settings: stream, partitions, window and limits.
pub fn sync_job(job: &ObjectKey, spec: &SyncJobSpec, connection: &Settings) -> Result<SyncPlan, SpecError> {
    let NamedStream { name, stream } = stream(spec, connection)?;
    let shared = spec.parameters.as_deref().cloned().unwrap_or_default();
    let listed = spec.partitions.as_deref().unwrap_or_default();
    let given: Vec<_> = if listed.is_empty() && spec.partitions_from.is_some() {
        // Known when a run starts.
        Vec::new()
    } else if listed.is_empty() {
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
            let parameters = values.map_err(|error| {
                let field = parameters_field(spec, &name, Some(&error.field));
                SpecError::invalid(&field, format_args!("is invalid: {error}"))
            })?;
            Ok(Partition { name, parameters })
        })
        .collect::<Result<Vec<_>, SpecError>>()?;
    let start = spec
        .start_time
        .as_deref()
        .map(|text| text.parse().map_err(|_| SpecError::invalid("startTime", "must be an RFC 3339 instant")))
        .transpose()?;
    let validations = validations(spec, stream.record)?;
    let plan = SyncPlan {
        job: job.clone(),
        connection: spec.connection_ref.name.to_string(),
        provider: connection.provider().to_owned(),
        environment: connection.environment().as_str().to_owned(),
        stream_name: name.to_owned(),
        commit_scope: commit_scope(spec, &stream)?,
        stream,
        endpoint: PlanEndpoint::of(connection),
        request_id_header: connection.profile().correlation.clone(),
        partitions,
        start,
        lookback: spec.lookback.as_deref().map(|text| duration("lookback", Some(text), Duration::ZERO)).transpose()?,
        run_timeout: duration("runTimeout", spec.run_timeout.as_deref(), Duration::from_hours(1))?,
        dead_letter_budget_percent: u8::try_from(spec.dead_letter_budget_percent.unwrap_or(10)).unwrap_or(10),
        mask: mask(spec),
        validations,
        raw: raw_retention(spec)?,
        events: match spec.events {
            wire::EventGranularity::None => EventGranularity::None,
            wire::EventGranularity::Page => EventGranularity::Page,
            wire::EventGranularity::Record => EventGranularity::Record,
        },
        dry_run: spec.dry_run,
        limits: RunLimits::default(),
        sla: sla(spec)?,
        resync: None,
        partitions_from: None,
    };
    for partition in &plan.partitions {
        let field = || parameters_field(spec, &partition.name, None);
        plan.cursor_hash(partition).map_err(|error| SpecError::invalid(&field(), error))?;
    }
    Ok(plan)
}

/// Resolves the service-level thresholds.
fn sla(spec: &SyncJobSpec) -> Result<SlaLimits, SpecError> {
    let (sla, default) = (spec.sla.as_ref(), SlaLimits::default());
    let fetch_duration = sla.and_then(|sla| sla.fetch_duration.as_deref());
    Ok(SlaLimits {
        fetch_duration: duration("sla.fetchDuration", fetch_duration, default.fetch_duration)?,
        failure_streak: number("sla.failureStreak", sla.and_then(|sla| sla.failure_streak), default.failure_streak)?,
        empty_streak: number("sla.emptyStreak", sla.and_then(|sla| sla.empty_streak), default.empty_streak)?,
    })
}

/// The field that the parameters of the partition `name` come from: its own, unless the job sets `parameter` for all
/// partitions and this one does not. One that is missing is missing in the partition. By its index: a name may be the
/// number of an account.
fn parameters_field(spec: &SyncJobSpec, name: &str, parameter: Option<&str>) -> String {
    let listed = spec.partitions.as_deref().unwrap_or_default();
    let Some((index, own)) = listed.iter().enumerate().find(|(_, partition)| &*partition.name == name) else {
        return "parameters".to_owned();
    };
    let sets = |parameters: Option<&BTreeMap<String, String>>| {
        parameters.is_some_and(|set| parameter.is_some_and(|parameter| set.contains_key(parameter)))
    };
    if sets(spec.parameters.as_deref()) && !sets(own.parameters.as_deref()) {
        return "parameters".to_owned();
    }
    format!("partitions[{index}].parameters")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{Environment, Profiles};
    use crate::settings::Draft;

    /// Why a job with these fields on an account's transactions cannot be used.
    fn problem(fields: &str) -> String {
        let draft = Draft::new(Profiles::builtin().unwrap().get("mono").unwrap(), Environment::Sandbox);
        let text = format!("{{connectionRef: {{name: bank}}, interval: 1h, stream: transactions, {fields}}}");
        let spec: SyncJobSpec = serde_yaml::from_str(&text).unwrap();
        sync_job(&ObjectKey::new("team", "j"), &spec, &Settings::resolve(draft).unwrap()).unwrap_err().message
    }

    #[test]
    fn the_commit_scope_is_that_of_the_spec_unless_the_stream_returns_changes() {
        let scope = |stream: &str, more: &str| {
            let text = format!(
                "id: x\ntitle: X\nbaseURL: {{sandbox: 'https://x.example'}}\nbreaker: Api\nhealthCheck: {{path: /}}\nstreams:\n  rows: {{record: document, path: /r, records: [/a], key: /id, {stream}}}\n"
            );
            let profile = std::sync::Arc::new(crate::profile::Profile::parse("x.yaml", &text).unwrap());
            let settings = Settings::resolve(Draft::new(profile, Environment::Sandbox)).unwrap();
            let spec = format!("{{connectionRef: {{name: bank}}, interval: 1h, stream: rows, {more}}}");
            let spec: SyncJobSpec = serde_yaml::from_str(&spec).unwrap();
            let plan = sync_job(&ObjectKey::new("team", "j"), &spec, &settings);
            plan.map(|plan| plan.commit_scope).map_err(|error| error.message)
        };
        let list = "pagination: {kind: none}";
        let patch = "commitScope: Window, pagination: {kind: token, from: {kind: body, pointers: [/next]}, to: {kind: query, parameter: after}}";
        assert_eq!(scope(list, ""), Ok(StreamScope::Page));
        assert_eq!(scope(list, "commitScope: Window"), Ok(StreamScope::Window));
        assert_eq!(scope(patch, ""), Ok(StreamScope::Window));
        assert_eq!(scope(&format!("commitScope: Window, {list}"), "commitScope: Page"), Ok(StreamScope::Page));
        let refused = scope(patch, "commitScope: Page").unwrap_err();
        assert!(refused.starts_with("spec.commitScope must be Window or unset"), "{refused}");
    }

    #[test]
    fn a_job_in_a_pod_needs_a_provider_that_is_known_there() {
        let checked = |execution: &str, provider: &str| {
            let text = format!("{{connectionRef: {{name: bank}}, interval: 1h, stream: rows, execution: {execution}}}");
            check_provider(&serde_yaml::from_str(&text).unwrap(), provider)
        };
        for (execution, provider) in [("Job", "mono"), ("InProcess", "mono"), ("InProcess", "profile:acme")] {
            assert_eq!(checked(execution, provider), Ok(()), "{execution} {provider}");
        }
        let refused = checked("Job", "profile:acme").unwrap_err();
        assert_eq!(refused.reason, Reason::NotImplemented);
        assert!(refused.message.ends_with("set execution: InProcess"), "{}", refused.message);
    }

    #[test]
    fn a_wrong_parameter_is_named_where_it_was_set_or_is_missing() {
        let (good, long) = ("parameters: {accountId: a1}", "x".repeat(65));
        for (fields, field) in [
            ("parameters: {account: a1}".to_owned(), "spec.parameters "),
            (format!("partitions: [{{name: '1', {good}}}, {{name: '2'}}]"), "spec.partitions[1].parameters "),
            (
                format!("partitions: [{{name: '1', {good}}}, {{name: '2', parameters: {{accountId: {long}}}}}]"),
                "spec.partitions[1].parameters ",
            ),
            (
                format!("{good}, partitions: [{{name: '1', parameters: {{page: '2'}}}}]"),
                "spec.partitions[0].parameters ",
            ),
            // Set for all partitions, and replaced by one of them.
            (
                format!("parameters: {{accountId: {long}}}, partitions: [{{name: '1', {good}}}, {{name: '2'}}]"),
                "spec.parameters ",
            ),
        ] {
            let problem = problem(&fields);
            assert!(problem.starts_with(field), "{fields}: {problem}");
            assert!(!problem.contains(&long), "{problem}");
        }
    }
}
