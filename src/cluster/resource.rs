//! Traits and types that the stores, the reflectors and the status writer share.
//!
//! [`WatchedResource`] is one of our kinds as it is watched, [`HasStatus`] one whose status Busbar writes, and
//! [`ObjectChange`] what a reflector reports. A file of its own, so that those three modules do not depend on each other
//! in a circle.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use kube::core::NamespaceResourceScope;
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::{REQUESTED_AT, REQUESTED_AT_FLUX};
use crate::cluster::references::ReferenceIndex;
use crate::cluster::watch_monitor::WatchMonitor;
use crate::domain::json_prefix::json_prefix;
use crate::domain::key::{Kind, ObjectKey};
use crate::notify::KeyQueue;

/// Minimum time between two writes that change only ride-along fields, unless a kind has its own.
pub const MIN_RIDE_ALONG_INTERVAL: Duration = Duration::from_mins(10);

/// Longest acknowledged request in bytes of JSON, as in the schema of `status.lastHandledReconcileAt`.
const MAX_REQUEST: usize = 256;

/// One of our kinds, as it is watched and stored.
pub trait WatchedResource:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
    /// The kind.
    const KIND: Kind;

    /// The objects that this one refers to: a change of one of them enqueues this one.
    fn references(&self) -> Vec<(Kind, ObjectKey)>;

    /// Namespace and name.
    fn key(&self) -> ObjectKey {
        let meta = self.meta();
        ObjectKey::new(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
    }

    /// The value of the `requestedAt` annotation, if the object carries one; its first characters if it is longer than
    /// the status that acknowledges it may be.
    fn requested_at(&self) -> Option<&str> {
        let value = [REQUESTED_AT, REQUESTED_AT_FLUX].into_iter().find_map(|name| self.annotations().get(name))?;
        Some(json_prefix(value, MAX_REQUEST))
    }
}

/// A kind whose status Busbar writes.
pub trait HasStatus: WatchedResource + Serialize {
    /// The type of its status.
    type Status: Clone + PartialEq + Serialize + Send + Sync + 'static;

    /// Minimum time between two writes that change only ride-along fields.
    const MIN_RIDE_ALONG_INTERVAL: Duration = MIN_RIDE_ALONG_INTERVAL;

    /// The status as last read from the API server.
    fn status(&self) -> Option<&Self::Status>;

    /// The status, mutable.
    fn status_mut(&mut self) -> &mut Option<Self::Status>;

    /// The status without its ride-along fields: if two are equal here, the difference need not be written soon.
    fn transition_fields(status: &Self::Status) -> Self::Status;

    /// Whether a change from `old` to `new` must be written at once.
    fn is_urgent(old: Option<&Self::Status>, new: &Self::Status) -> bool;

    /// Whether a change from `old` to `new` is good news that nothing waits for: while many objects are new, their first
    /// statuses come before it.
    fn may_wait(_old: &Self::Status, _new: &Self::Status) -> bool {
        false
    }
}

/// What a reflector reports. Added to a queue once the store shows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ObjectChange {
    /// The object is new, or changed in something that needs a reconcile.
    Changed(Kind, ObjectKey),
    /// The object was deleted, or another one has taken its name.
    Ended {
        /// Its kind.
        kind: Kind,
        /// Its namespace and name.
        key: ObjectKey,
        /// Its UID.
        uid: String,
    },
    /// Another object refers to this one since now, or no longer does.
    ReferrersChanged(Kind, ObjectKey),
}

/// What all reflectors share.
#[derive(Clone, Default)]
pub struct ReflectorDeps {
    /// The index of references; filled by the reflectors.
    pub references: Arc<ReferenceIndex>,
    /// Receives every change.
    pub changes: Arc<KeyQueue<ObjectChange>>,
    /// Notices silent watches.
    pub watches: WatchMonitor,
}

/// The object's resource version as a number. Versions of one resource are comparable decimal numbers; anything else
/// counts as newest, so that the API server's object is preferred.
pub(super) fn version(object: &impl ResourceExt) -> u64 {
    object.resource_version().and_then(|v| v.parse().ok()).unwrap_or(u64::MAX)
}
