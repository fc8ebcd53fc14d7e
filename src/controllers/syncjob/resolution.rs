//! Resolves jobs through the cache: anew only when the job or its connection's settings changed.

use std::sync::Arc;

use crate::api::v1alpha1::SyncJob;
use crate::controllers::resolution_cache::{ObjectStamp, ResolutionCache};
use crate::domain::key::ObjectKey;
use crate::resolve::{self, SpecError};
use crate::settings::Settings;
use crate::settings::sync_plan::{PartitionsFromPlan, SyncPlan};

/// The resolved jobs.
pub type JobCache = ResolutionCache<JobStamp, Result<Arc<SyncPlan>, SpecError>>;

/// The versions of everything that a job was resolved from.
#[derive(Debug)]
pub struct JobStamp {
    object: ObjectStamp,
    /// Revision of the connection's settings.
    connection: Arc<str>,
    /// What `spec.partitionsFrom` refers to.
    partitions_from: Option<PartitionsFromPlan>,
}

/// The plan of `object` on the connection with these settings, from the cache if neither changed. `exists` tells whether
/// the object is still stored.
pub fn resolve(
    cache: &JobCache,
    key: &ObjectKey,
    object: &SyncJob,
    connection: &Settings,
    partitions_from: Option<PartitionsFromPlan>,
    exists: impl FnOnce() -> bool,
) -> Result<Arc<SyncPlan>, SpecError> {
    let is_current = |stamp: &JobStamp| {
        stamp.object.matches(object)
            && stamp.connection == *connection.revision()
            && stamp.partitions_from == partitions_from
    };
    if let Some(cached) = cache.get(key, is_current) {
        return cached;
    }
    let plan = resolve::sync_job(key, &object.spec, connection)
        .map(|plan| Arc::new(SyncPlan { partitions_from: partitions_from.clone(), ..plan }));
    let connection = Arc::clone(connection.revision());
    let stamp = JobStamp { object: ObjectStamp::of(object), connection, partitions_from };
    cache.insert(key, stamp, plan.clone(), exists);
    plan
}
