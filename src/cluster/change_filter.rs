//! Decides which watch events of an object need a reconcile.

use std::collections::{HashMap, HashSet};

use kube::ResourceExt as _;

use crate::cluster::resource::WatchedResource;
use crate::domain::key::ObjectKey;

/// The fields of an object whose change needs a reconcile.
#[derive(PartialEq, Eq)]
struct Fingerprint {
    uid: String,
    generation: Option<i64>,
    requested_at: Option<String>,
    deleting: bool,
}

impl Fingerprint {
    fn of<K: WatchedResource>(object: &K) -> Self {
        Self {
            uid: object.uid().unwrap_or_default(),
            generation: object.meta().generation,
            requested_at: object.requested_at().map(str::to_owned),
            deleting: object.meta().deletion_timestamp.is_some(),
        }
    }
}

/// How an object differs from its last known state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ChangeKind {
    /// Not in anything that needs a reconcile.
    Unchanged,
    /// It is new, or its fingerprint changed.
    Changed,
    /// It is another object of the same name.
    Replaced {
        /// The UID of the object that had the name before.
        ended: String,
    },
}

/// Remembers the last fingerprint of every object, and which objects the running relist has returned.
#[derive(Default)]
pub(super) struct ChangeFilter {
    fingerprints: HashMap<ObjectKey, Fingerprint>,
    listed: Option<HashSet<ObjectKey>>,
}

impl ChangeFilter {
    /// Compares the object with its last known state and remembers the new one.
    pub(super) fn classify<K: WatchedResource>(&mut self, object: &K) -> ChangeKind {
        let fingerprint = Fingerprint::of(object);
        let key = object.key();
        self.mark_listed(&key);
        let change = match self.fingerprints.get(&key) {
            Some(last) if *last == fingerprint => return ChangeKind::Unchanged,
            Some(last) if last.uid != fingerprint.uid => ChangeKind::Replaced { ended: last.uid.clone() },
            Some(_) | None => ChangeKind::Changed,
        };
        self.fingerprints.insert(key, fingerprint);
        change
    }

    /// Forgets a deleted object; returns its UID if it was known.
    pub(super) fn forget(&mut self, key: &ObjectKey) -> Option<String> {
        self.fingerprints.remove(key).map(|last| last.uid)
    }

    /// Begins a relist.
    pub(super) fn begin_list(&mut self) {
        self.listed = Some(HashSet::new());
    }

    /// Marks `key` as returned by the running relist; returns whether one is running.
    pub(super) fn mark_listed(&mut self, key: &ObjectKey) -> bool {
        self.listed.as_mut().map(|listed| listed.insert(key.clone())).is_some()
    }

    /// Ends a relist and returns the known objects that it did not return, each with its UID: they were deleted.
    pub(super) fn end_list(&mut self) -> Vec<(ObjectKey, String)> {
        let Some(listed) = self.listed.take() else { return Vec::new() };
        let deleted = self.fingerprints.extract_if(|key, _| !listed.contains(key));
        deleted.map(|(key, last)| (key, last.uid)).collect()
    }
}
