//! Gives a source to one job: the oldest of those that read it.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;

use crate::api::v1alpha1::SyncJob;
use crate::cluster::resource::WatchedResource as _;
use crate::controllers::Ctx;
use crate::controllers::syncjob::resolution;
use crate::domain::key::{Kind, ObjectKey};
use crate::resolve::SpecError;
use crate::resolve::partitions_from::partitions_from;
use crate::resolve::sync_job::duplicate_source;
use crate::settings::Settings;
use crate::settings::sync_plan::SyncPlan;

/// The plan of `object`, unless an older job reads one of its sources. A dry run writes nothing, so it shares a source with
/// any job. Jobs whose state depends on that of this one are enqueued.
pub(super) fn resolve(ctx: &Ctx, object: &SyncJob, settings: &Settings) -> Result<Arc<SyncPlan>, SpecError> {
    let key = object.key();
    let connection = key.sibling(&*object.spec.connection_ref.name);
    let sources = &ctx.resolutions.sources;
    if !sources.has_connection(&connection, settings.revision()) {
        add_siblings(ctx, &connection, settings);
        sources.add_connection(&connection, settings.revision());
    }
    let plan = plan(ctx, object, settings);
    enqueue(ctx, add(ctx, object, plan.as_ref().ok()));
    let plan = plan?;
    let exists = |other: &ObjectKey| ctx.stores.jobs.get(other).is_some();
    match sources.older_reader(&key, exists) {
        Some((older, partition)) => Err(duplicate_source(&older.name, &partition)),
        None => Ok(plan),
    }
}

fn plan(ctx: &Ctx, object: &SyncJob, settings: &Settings) -> Result<Arc<SyncPlan>, SpecError> {
    let key = object.key();
    let exists = || ctx.stores.jobs.get(&key).is_some();
    let from = partitions_from(&key, &object.spec, settings, |key| ctx.stores.jobs.get(key))?;
    resolution::resolve(&ctx.resolutions.jobs, &key, object, settings, from, exists)
}

/// Adds all jobs of the connection to the index, as after a start of the operator: none of them may be taken for the oldest
/// only because it is reconciled first.
fn add_siblings(ctx: &Ctx, connection: &ObjectKey, settings: &Settings) {
    for (kind, key) in ctx.stores.references.dependents(Kind::ProviderConnection, connection) {
        if kind == Kind::SyncJob
            && let Some(job) = ctx.stores.jobs.get(&key)
        {
            add(ctx, &job, plan(ctx, &job, settings).as_ref().ok());
        }
    }
}

/// Records what a job reads; returns the jobs that this concerns.
fn add(ctx: &Ctx, object: &SyncJob, plan: Option<&Arc<SyncPlan>>) -> BTreeSet<ObjectKey> {
    let (key, sources) = (object.key(), &ctx.resolutions.sources);
    let concerned = match plan.filter(|plan| !plan.dry_run) {
        Some(plan) => {
            let created = object.metadata.creation_timestamp.as_ref().map_or(Timestamp::MAX, |time| time.0);
            sources.set(&key, created, plan)
        }
        None => sources.remove(&key),
    };
    // Deleted meanwhile: no delete event would remove it.
    if ctx.stores.jobs.get(&key).is_none() {
        sources.remove(&key);
    }
    concerned
}

fn enqueue(ctx: &Ctx, jobs: BTreeSet<ObjectKey>) {
    for job in jobs {
        ctx.reconcile_queue.enqueue(Kind::SyncJob, &job);
    }
}
