//! The only writer of `metadata.finalizers`: adds or removes a finalizer of ours.
//!
//! An object with a finalizer is not deleted before the finalizer is removed, so it is added only where there is
//! something to clean up; a stopped operator must not block any other deletion. Finalizers of others are kept: the list
//! is replaced as a whole, with the resource version it was read at as precondition, and only while this replica is the
//! leader.

use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;

use crate::cluster::lease::WritePermit;
use crate::cluster::resource::{WatchedResource, version};
use crate::cluster::status::FIELD_MANAGER;
use crate::cluster::{ApiError, call};

/// Attempts before the change is left to the next reconcile; each one conflicts with another writer of the object.
const MAX_ATTEMPTS: usize = 3;

/// Whether `object` has the finalizer.
pub fn contains<K: WatchedResource>(object: &K, finalizer: &str) -> bool {
    object.finalizers().iter().any(|f| f == finalizer)
}

/// Adds the finalizer to `object`, or removes it if not `present`. Does nothing if the object was deleted, was replaced
/// by another of the same name, or needs no change. `permit` is called before each write and can refuse it. Returns the
/// object's version after its own write: the watch returns it only later.
pub async fn set<K: WatchedResource>(
    client: &Client,
    permit: impl Fn() -> Result<WritePermit, ApiError>,
    object: &K,
    finalizer: &str,
    present: bool,
) -> Result<Option<u64>, ApiError> {
    let key = object.key();
    let api: Api<K> = Api::namespaced(client.clone(), &key.namespace);
    let mut attempts = 0;
    loop {
        // The watched object may be older than our own last write.
        let Some(now) = call(api.get_opt(&key.name)).await? else { return Ok(None) };
        if now.uid() != object.uid() || contains(&now, finalizer) == present {
            return Ok(None);
        }
        let mut finalizers = now.finalizers().to_vec();
        finalizers.retain(|f| f != finalizer);
        if present {
            finalizers.push(finalizer.to_owned());
        }
        let metadata = json!({ "uid": now.uid(), "resourceVersion": now.resource_version(), "finalizers": finalizers });
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        attempts += 1;
        let _permit = permit()?;
        match call(api.patch(&key.name, &params, &Patch::Merge(json!({ "metadata": metadata })))).await {
            Ok(now) => return Ok(Some(version(&now))),
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) if error.is_conflict() && attempts < MAX_ATTEMPTS => {}
            Err(error) => return Err(error),
        }
    }
}
