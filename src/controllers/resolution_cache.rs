//! Caches what objects were resolved to: a reconcile that something else than a change of its sources enqueued, such as
//! the result of a probe, resolves nothing.
//!
//! One entry per object name, so the cache is bounded by the number of objects. An entry is replaced when its sources
//! change, another UID of the same name included, and removed with the object.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kube::Resource;
use kube::api::ObjectMeta;

use crate::domain::key::ObjectKey;

/// Identity and generation of an object: what a resolution of its spec alone depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectStamp {
    uid: Option<String>,
    generation: Option<i64>,
}

impl ObjectStamp {
    /// The stamp of `object` now.
    pub fn of(object: &impl Resource) -> Self {
        let meta = object.meta();
        Self { uid: meta.uid.clone(), generation: meta.generation }
    }

    /// Whether `object` is still the same at the same generation. Compares without copying.
    pub fn matches(&self, object: &impl Resource) -> bool {
        self.matches_meta(object.meta())
    }

    /// The same for the metadata of an object.
    pub fn matches_meta(&self, meta: &ObjectMeta) -> bool {
        self.uid == meta.uid && self.generation == meta.generation
    }
}

/// Resolutions by object; each with a stamp `S` of the sources it was made from.
#[derive(Debug)]
pub struct ResolutionCache<S, T> {
    entries: Mutex<HashMap<ObjectKey, (S, T)>>,
}

impl<S, T> Default for ResolutionCache<S, T> {
    fn default() -> Self {
        Self { entries: Mutex::default() }
    }
}

impl<S, T: Clone> ResolutionCache<S, T> {
    /// The resolution of the object `key`, if `is_current` accepts its stamp.
    pub fn get(&self, key: &ObjectKey, is_current: impl FnOnce(&S) -> bool) -> Option<T> {
        self.lock().get(key).filter(|(stamp, _)| is_current(stamp)).map(|(_, resolved)| resolved.clone())
    }

    /// Stores a resolution of the object `key` in place of an earlier one. `exists` is asked afterwards, and the entry is
    /// removed if it says no: the object may have been deleted while its sources were read, and no delete event would
    /// remove the entry then.
    pub fn insert(&self, key: &ObjectKey, stamp: S, resolved: T, exists: impl FnOnce() -> bool) {
        self.lock().insert(key.clone(), (stamp, resolved));
        if !exists() {
            self.forget(key);
        }
    }

    /// Removes the entry of a deleted object.
    pub fn forget(&self, key: &ObjectKey) {
        self.lock().remove(key);
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ObjectKey, (S, T)>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1alpha1::{BreakerPolicy, BreakerPolicySpec};

    fn object(uid: &str, generation: i64) -> BreakerPolicy {
        let mut object = BreakerPolicy::new("a", BreakerPolicySpec::default());
        (object.metadata.uid, object.metadata.generation) = (Some(uid.into()), Some(generation));
        object
    }

    #[test]
    fn an_entry_is_current_for_the_same_uid_and_generation_only() {
        let (cache, key) = (ResolutionCache::default(), ObjectKey::new("ns", "a"));
        let get = |object: &BreakerPolicy| cache.get(&key, |stamp: &ObjectStamp| stamp.matches(object));
        assert_eq!(get(&object("1", 1)), None);
        cache.insert(&key, ObjectStamp::of(&object("1", 1)), "resolved", || true);
        assert_eq!(get(&object("1", 1)), Some("resolved"));
        assert_eq!((get(&object("1", 2)), get(&object("2", 1))), (None, None));
    }

    #[test]
    fn there_is_one_entry_per_name_and_none_without_an_object() {
        let (cache, key) = (ResolutionCache::default(), ObjectKey::new("ns", "a"));
        cache.insert(&key, 1, (), || true);
        cache.insert(&key, 2, (), || true);
        assert_eq!(cache.len(), 1, "a new UID of the same name replaces the entry");
        cache.forget(&key);
        assert!(cache.is_empty());
        cache.insert(&key, 3, (), || false);
        assert!(cache.is_empty(), "deleted while it was resolved");
    }
}
