//! Traits and types that the stores, the reflectors and the status writer share.
//!
//! [`WatchedResource`] is one of our kinds as it is watched, [`HasStatus`] one whose status Busbar writes, and
//! [`ObjectChange`] the notification that a reflector hands to its [`ChangeHandler`]. A file of its own, so that those
//! three modules do not depend on each other in a circle.

use std::fmt::Debug;
use std::sync::Arc;

use kube::core::NamespaceResourceScope;
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::{REQUESTED_AT, REQUESTED_AT_FLUX};
use crate::cluster::references::ReferenceIndex;
use crate::cluster::status_ownership::StatusOwnership;
use crate::domain::key::{Kind, ObjectKey};

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
        ObjectKey::new(self.namespace().unwrap_or_default(), self.name_any())
    }

    /// The value of the `requestedAt` annotation, if the object carries one.
    fn requested_at(&self) -> Option<&str> {
        [REQUESTED_AT, REQUESTED_AT_FLUX].into_iter().find_map(|name| self.annotations().get(name)).map(String::as_str)
    }
}

/// A kind whose status Busbar writes.
pub trait HasStatus: WatchedResource + Serialize {
    /// The type of its status.
    type Status: Clone + PartialEq + Serialize + Send + Sync + 'static;

    /// The status as last read from the API server.
    fn status(&self) -> Option<&Self::Status>;

    /// The status, mutable.
    fn status_mut(&mut self) -> &mut Option<Self::Status>;

    /// The status without its ride-along fields: if two are equal here, the difference need not be written soon.
    fn transition_fields(status: &Self::Status) -> Self::Status;

    /// Whether a change from `old` to `new` must be written at once.
    fn is_urgent(old: Option<&Self::Status>, new: &Self::Status) -> bool;
}

/// Notification of a change of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectChange {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace and name.
    pub key: ObjectKey,
    /// Whether the object was deleted.
    pub deleted: bool,
    /// Whether it replaced an object of the same name and another UID whose deletion was not reported.
    pub replaced: bool,
    /// Objects that it refers to since this change, or no longer refers to.
    pub retargeted: Vec<(Kind, ObjectKey)>,
}

/// Receives every [`ObjectChange`]; must not block.
pub type ChangeHandler = Arc<dyn Fn(ObjectChange) + Send + Sync>;

/// What all reflectors share.
#[derive(Clone)]
pub struct ReflectorDeps {
    /// The index of references; filled by the reflectors.
    pub references: Arc<ReferenceIndex>,
    /// Tells our own status writes from foreign ones.
    pub ownership: Arc<StatusOwnership>,
    /// Called for each change.
    pub on_change: ChangeHandler,
}

/// The object's resource version as a number. Versions of one resource are comparable decimal numbers; anything else
/// counts as newest, so that the API server's object is preferred.
pub(super) fn version(object: &impl ResourceExt) -> u64 {
    object.resource_version().and_then(|v| v.parse().ok()).unwrap_or(u64::MAX)
}
