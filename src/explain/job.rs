//! Rows of a job: its cadence, and its sync of the profile's stream.

use std::time::Duration;

use jiff::Timestamp;

use crate::api::v1alpha1::reasons::Reason;
use crate::api::v1alpha1::sync_job::SyncJobSpec;
use crate::domain::key::ObjectKey;
use crate::explain::connection;
use crate::explain::manifests::{Manifests, find};
use crate::explain::setting::{Explained, Source};
use crate::explain::settings_table::SettingsTable;
use crate::profile::{CommitScope, Profiles};
use crate::resolve::sync_job::{accept, unused_fields};
use crate::resolve::{
    BreakerRules, Cadence, JobSupport, OperatorOptions, Retention, RetentionSource, SpecError, cadence,
    connection as resolve_connection, sync_job,
};
use crate::settings::Settings;
use crate::settings::addresses::AddressRules;
use crate::settings::sync_plan::SyncPlan;

/// Explains a `SyncJob`.
pub(super) fn explain(
    spec: &SyncJobSpec,
    key: &ObjectKey,
    manifests: &Manifests,
    profiles: &Profiles,
    now: Timestamp,
) -> Explained {
    let (mut problems, addresses) = (Vec::<SpecError>::new(), AddressRules::default());
    let mut table = SettingsTable::new(spec, Source::Spec, "");
    // The operator's keys are not known here: assumed, so that nothing is reported that may not be a problem.
    match accept(spec, OperatorOptions { has_key: true, addresses: &addresses, jobs: JobSupport::Supported }) {
        Ok(retention) => retention_row(&mut table, retention),
        Err(problem) => problems.push(problem),
    }
    match settings(spec, key, manifests, profiles).and_then(|settings| sync_job(key, spec, &settings)) {
        Ok(plan) => sync_rows(&mut table, &plan),
        Err(problem) => problems.push(problem),
    }
    match cadence(spec, now) {
        Ok(cadence) => cadence_rows(&mut table, &cadence),
        Err(problem) => problems.push(problem),
    }
    schema_default_rows(&mut table, spec);
    (table.finish(&unused_fields(spec)), problems)
}

/// Settings of the job's connection, as far as a sync plan uses them: profile and environment.
fn settings(
    spec: &SyncJobSpec,
    key: &ObjectKey,
    manifests: &Manifests,
    profiles: &Profiles,
) -> Result<Settings, SpecError> {
    let name = &*spec.connection_ref.name;
    let found = find(&manifests.connections, &key.sibling(name)).ok_or_else(|| {
        let message = format!("ProviderConnection {name:?} (spec.connectionRef) not found among the given objects");
        SpecError::waiting(Reason::ConnectionNotFound, message)
    })?;
    let not_ready = |cause: String| {
        SpecError::waiting(
            Reason::ConnectionNotReady,
            format!("ProviderConnection {name:?} (spec.connectionRef) cannot be used: {cause}"),
        )
    };
    let provider = &found.spec.provider;
    let loaded = profiles.get(provider);
    let draft = resolve_connection::profile(provider, loaded.as_ref())
        .and_then(|profile| connection::draft(&found.spec, profile, BreakerRules::preset(profile.breaker, 0)))
        .map_err(|error| not_ready(error.message))?;
    Settings::resolve(draft).map_err(|error| not_ready(error.to_string()))
}

fn sync_rows(table: &mut SettingsTable, plan: &SyncPlan) {
    let SyncPlan {
        job: _,
        connection,
        provider,
        environment: _,
        stream_name,
        stream,
        // Shown as the spec has them: there is no other source.
        partitions: _,
        start,
        lookback,
        run_timeout,
        dead_letter_budget_percent,
        mask: _,
        validations: _,
        raw,
        events: _,
        dry_run,
        // Limits of the process, not of the job.
        endpoint: _,
        commit_scope: _,
        request_id_header: _,
        limits: _,
        sla,
        resync: _,
        partitions_from: _,
    } = plan;
    let profile = || Source::Profile(provider.clone());
    table.add("connectionRef.name", connection.as_str(), Source::Spec);
    if table.is_set("stream") {
        table.add("stream", stream_name.as_str(), Source::Spec);
    }
    // A set value is shown as written, with its offset.
    if let (None, Some(window)) = (start, &stream.window) {
        let text = format!("{} before the first run", super::settings_table::format_duration(window.initial));
        table.add("startTime", text, profile());
    }
    let by_stream = stream.window.as_ref().map(|window| window.lookback);
    table.add_duration("lookback", lookback.or(by_stream).unwrap_or(Duration::ZERO), profile());
    let scope = match stream.commit_scope {
        CommitScope::Page => "Page",
        CommitScope::Window => "Window",
    };
    // A set value is shown as written.
    if !table.is_set("commitScope") {
        table.add("commitScope", scope, profile());
    }
    table.add_duration("runTimeout", *run_timeout, Source::Default);
    table.add_duration("sla.fetchDuration", sla.fetch_duration, Source::Default);
    table.add_or("sla.failureStreak", sla.failure_streak, Source::Default);
    table.add_or("sla.emptyStreak", sla.empty_streak, Source::Default);
    table.add_or("deadLetterBudgetPercent", *dead_letter_budget_percent, Source::Default);
    table.add_defaulted("dryRun", *dry_run, false);
    table.add_duration("retention.raw", raw.ttl, Source::Default);
}

fn cadence_rows(table: &mut SettingsTable, cadence: &Cadence) {
    let Cadence { schedule: _, jitter_percent, starting_deadline, retry_interval, max_staleness, text: _ } = cadence;
    let gap = if table.is_set("interval") { "interval" } else { "schedule" };
    if gap == "schedule" {
        // Default: UTC.
        table.add_or("timeZone", None::<String>, Source::Default);
    }
    table.add_or("jitterPercent", *jitter_percent, Source::Default);
    table.add_duration("startingDeadline", *starting_deadline, Source::Default);
    table.add_duration("retryInterval", *retry_interval, Source::From(gap));
    table.add_duration("sla.maxStaleness", *max_staleness, Source::From(gap));
}

/// Rows of fields with a schema default.
fn schema_default_rows(table: &mut SettingsTable, spec: &SyncJobSpec) {
    let default = SyncJobSpec::default();
    table.add_defaulted("concurrencyPolicy", spec.concurrency_policy.as_str(), default.concurrency_policy.as_str());
    table.add_defaulted("events", spec.events.as_str(), default.events.as_str());
    table.add_defaulted("execution", spec.execution.as_str(), default.execution.as_str());
    table.add_defaulted("deletionPolicy", spec.deletion_policy.as_str(), default.deletion_policy.as_str());
    table.add_defaulted("suspend", spec.suspend, default.suspend);
}

/// The row of the effective retention mode. One that the operator would reject is shown as written.
fn retention_row(table: &mut SettingsTable, retention: Retention) {
    let source = match retention.source {
        RetentionSource::Spec => Source::Spec,
        RetentionSource::NoKey | RetentionSource::Key => Source::Default,
    };
    let mode = match retention.source {
        // The command does not know the operator's keys.
        RetentionSource::Key | RetentionSource::NoKey => "Encrypted with --key-secret, else Off",
        RetentionSource::Spec => retention.mode.as_str(),
    };
    table.add("retention.mode", mode, source);
}
