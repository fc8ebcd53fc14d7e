//! A job: its cadence, and what its runs do with the stream of its connection's profile.

use std::time::Duration;

use jiff::Timestamp;

use crate::api::v1alpha1::reasons::Reason;
use crate::api::v1alpha1::sync_job::SyncJobSpec;
use crate::controllers::resolve::Problem;
use crate::controllers::syncjob::plan::{self, Cadence};
use crate::domain::breaker::Policy;
use crate::domain::key::ObjectKey;
use crate::explain::sheet::Sheet;
use crate::explain::{Explained, Source, World, at, connection};
use crate::provider::classify::Classify;
use crate::provider::profile::{CommitScope, Profiles};
use crate::provider::settings::Settings;
use crate::sync::plan::SyncPlan;

/// Explains a job.
pub(super) fn explain(
    spec: &SyncJobSpec,
    key: &ObjectKey,
    world: &World,
    profiles: &Profiles,
    now: Timestamp,
) -> Explained {
    let mut problems: Vec<Problem> = plan::refuse_unimplemented(spec).err().into_iter().collect();
    let mut sheet = Sheet::new(spec, Source::Spec, "");
    match settings(spec, key, world, profiles).and_then(|settings| plan::sync(key, spec, &settings)) {
        Ok(plan) => run(&mut sheet, &plan),
        Err(problem) => problems.push(problem),
    }
    match plan::cadence(spec, now) {
        Ok(cadence) => when(&mut sheet, &cadence),
        Err(problem) => problems.push(problem),
    }
    constants(&mut sheet, spec);
    (sheet.finish(&plan::unread_fields(spec)), problems)
}

/// The settings of the job's connection, as far as a sync's plan looks at them: its profile and environment.
fn settings(spec: &SyncJobSpec, key: &ObjectKey, world: &World, profiles: &Profiles) -> Result<Settings, Problem> {
    let name = &*spec.connection_ref.name;
    let found = at(&world.connections, &key.sibling(name)).ok_or_else(|| {
        let message = format!("spec.connectionRef names ProviderConnection {name:?}, which is not here");
        Problem::waiting(Reason::ConnectionNotFound, message)
    })?;
    let unusable = |what: String| {
        Problem::waiting(Reason::ConnectionNotReady, format!("ProviderConnection {name:?} is not usable: {what}"))
    };
    let provider = &found.spec.provider;
    let draft = crate::controllers::providerconnection::plan::profile(provider, profiles.get(provider))
        .and_then(|profile| {
            let rules = (Policy::preset(profile.breaker), Classify::default());
            connection::draft(&found.spec, &profile, rules)
        })
        .map_err(|problem| unusable(problem.message))?;
    Settings::resolve(draft).map_err(|error| unusable(error.to_string()))
}

fn run(sheet: &mut Sheet, plan: &SyncPlan) {
    let SyncPlan {
        job: _,
        connection,
        provider,
        environment: _,
        stream_name,
        stream,
        // Told as the spec has them: they are nobody else's.
        partitions: _,
        start,
        lookback,
        run_timeout,
        dead_letter_budget_percent,
        mask: _,
        dry_run,
        // Caps of the process, not of the job.
        correlation: _,
        limits: _,
    } = plan;
    let profile = || Source::Profile(provider.clone());
    sheet.row("connectionRef.name", connection.as_str(), Source::Spec);
    sheet.row("stream", stream_name.as_str(), Source::Spec);
    // One that was set is shown as it was typed, with its offset.
    if let (None, Some(window)) = (start, &stream.window) {
        let text = format!("{} before the first run", super::sheet::length(window.initial));
        sheet.row("startTime", text, profile());
    }
    let by_stream = stream.window.as_ref().map(|window| window.lookback);
    sheet.duration("lookback", lookback.or(by_stream).unwrap_or(Duration::ZERO), profile());
    let scope = match stream.commit_scope {
        CommitScope::Page => "Page",
        CommitScope::Window => "Window",
    };
    // Another than the stream's is refused: see the problems.
    if !sheet.is_set("commitScope") {
        sheet.row("commitScope", scope, profile());
    }
    sheet.duration("runTimeout", *run_timeout, Source::Default);
    sheet.put("deadLetterBudgetPercent", *dead_letter_budget_percent, Source::Default);
    sheet.filled("dryRun", *dry_run, false);
}

fn when(sheet: &mut Sheet, cadence: &Cadence) {
    let Cadence { schedule: _, jitter_percent, starting_deadline, retry_interval, max_staleness, text: _ } = cadence;
    let gap = if sheet.is_set("interval") { "interval" } else { "schedule" };
    if gap == "schedule" {
        // Without one the line is read in UTC.
        sheet.put("timeZone", None::<String>, Source::Default);
    }
    sheet.put("jitterPercent", *jitter_percent, Source::Default);
    sheet.duration("startingDeadline", *starting_deadline, Source::Default);
    sheet.duration("retryInterval", *retry_interval, Source::From(gap));
    sheet.duration("sla.maxStaleness", *max_staleness, Source::From(gap));
}

/// Fields whose default is the schema's.
fn constants(sheet: &mut Sheet, spec: &SyncJobSpec) {
    let default = SyncJobSpec::default();
    sheet.filled("concurrencyPolicy", spec.concurrency_policy.as_str(), default.concurrency_policy.as_str());
    sheet.filled("events", spec.events.as_str(), default.events.as_str());
    sheet.filled("execution", spec.execution.as_str(), default.execution.as_str());
    sheet.filled("deletionPolicy", spec.deletion_policy.as_str(), default.deletion_policy.as_str());
    sheet.filled("suspend", spec.suspend, default.suspend);
    let mode = spec.retention.as_ref().map(|r| r.mode).unwrap_or_default();
    sheet.filled("retention.mode", mode.as_str(), crate::api::v1alpha1::sync_job::RetentionMode::default().as_str());
}
