//! The only writer of `metadata.finalizers`: puts a mark of ours on an object, or takes it off.
//!
//! An object with a mark is not gone before the mark is taken off, so a mark is put only where there is something to
//! clean, and a missing operator must never make anything else hang. Others' marks are left alone: the list is replaced
//! as a whole, under the version it was read at, and only while this replica leads.

use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;

use crate::cluster::lease::Leave;
use crate::cluster::status::FIELD_MANAGER;
use crate::cluster::stores::Watched;
use crate::cluster::{ApiError, call};

/// Tries before the change is left to the next reconcile: somebody else writes the object at the same moment.
const TRIES: usize = 3;

/// Whether `object` carries `mark`.
pub fn carries<K: Watched>(object: &K, mark: &str) -> bool {
    object.finalizers().iter().any(|f| f == mark)
}

/// Puts `mark` on `object`, or takes it off. An object that is gone, or was replaced by another of its name, is left
/// alone, and so is one that is as it should be. Each write is made under the leave that `may` gives.
pub async fn set<K: Watched>(
    client: &Client,
    may: impl Fn() -> Result<Leave, ApiError>,
    object: &K,
    (mark, present): (&str, bool),
) -> Result<(), ApiError> {
    let key = object.key();
    let api: Api<K> = Api::namespaced(client.clone(), &key.namespace);
    let mut tried = 0;
    loop {
        // What the watch brought may be older than our own last write.
        let Some(now) = call(api.get_opt(&key.name)).await? else { return Ok(()) };
        if now.uid() != object.uid() || carries(&now, mark) == present {
            return Ok(());
        }
        let mut marks = now.finalizers().to_vec();
        marks.retain(|f| f != mark);
        if present {
            marks.push(mark.to_owned());
        }
        let metadata = json!({ "uid": now.uid(), "resourceVersion": now.resource_version(), "finalizers": marks });
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        tried += 1;
        let _leave = may()?;
        match call(api.patch(&key.name, &params, &Patch::Merge(json!({ "metadata": metadata })))).await {
            Ok(_) => return Ok(()),
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) if error.is_conflict() && tried < TRIES => {}
            Err(error) => return Err(error),
        }
    }
}
