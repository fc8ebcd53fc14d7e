//! Who refers to whom, so that a change reaches those who depend on it.
//!
//! Kept by the stores as objects come and go; read by whoever pokes, and for the count of a connection's consumers.
//! References are by name within a namespace, so an object that does not exist yet can be waited for too.

use std::collections::{BTreeSet, HashMap};
use std::sync::{PoisonError, RwLock};

use crate::domain::key::{Kind, ObjectKey};

type Node = (Kind, ObjectKey);

#[derive(Debug, Default)]
struct Maps {
    targets: HashMap<Node, Vec<Node>>,
    dependents: HashMap<Node, BTreeSet<Node>>,
}

/// A two-way index of references.
#[derive(Debug, Default)]
pub struct References {
    maps: RwLock<Maps>,
}

impl References {
    /// Replaces what `key` refers to.
    pub fn set(&self, kind: Kind, key: &ObjectKey, targets: Vec<Node>) {
        let mut maps = self.maps.write().unwrap_or_else(PoisonError::into_inner);
        let node = (kind, key.clone());
        maps.unlink(&node);
        for target in &targets {
            maps.dependents.entry(target.clone()).or_default().insert(node.clone());
        }
        if !targets.is_empty() {
            maps.targets.insert(node, targets);
        }
    }

    /// Forgets what `key` referred to; those who refer to it stay.
    pub fn remove(&self, kind: Kind, key: &ObjectKey) {
        self.maps.write().unwrap_or_else(PoisonError::into_inner).unlink(&(kind, key.clone()));
    }

    /// Those who refer to `key`, in a fixed order.
    pub fn dependents(&self, kind: Kind, key: &ObjectKey) -> Vec<Node> {
        let maps = self.maps.read().unwrap_or_else(PoisonError::into_inner);
        maps.dependents.get(&(kind, key.clone())).map(|set| set.iter().cloned().collect()).unwrap_or_default()
    }

    /// How many of `from` refer to `key`.
    pub fn count(&self, from: Kind, kind: Kind, key: &ObjectKey) -> usize {
        let maps = self.maps.read().unwrap_or_else(PoisonError::into_inner);
        maps.dependents.get(&(kind, key.clone())).map_or(0, |set| set.iter().filter(|(k, _)| *k == from).count())
    }
}

impl Maps {
    fn unlink(&mut self, node: &Node) {
        for target in self.targets.remove(node).unwrap_or_default() {
            if let Some(set) = self.dependents.get_mut(&target) {
                set.remove(node);
                if set.is_empty() {
                    self.dependents.remove(&target);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependents_follow_references_as_they_change() {
        let index = References::default();
        let (job, a, b) = (ObjectKey::new("ns", "job"), ObjectKey::new("ns", "a"), ObjectKey::new("ns", "b"));
        index.set(Kind::SyncJob, &job, vec![(Kind::ProviderConnection, a.clone())]);
        assert_eq!(index.dependents(Kind::ProviderConnection, &a), vec![(Kind::SyncJob, job.clone())]);
        index.set(Kind::SyncJob, &job, vec![(Kind::ProviderConnection, b.clone())]);
        assert!(index.dependents(Kind::ProviderConnection, &a).is_empty());
        assert_eq!(index.count(Kind::SyncJob, Kind::ProviderConnection, &b), 1);
        index.remove(Kind::SyncJob, &job);
        assert_eq!(index.count(Kind::SyncJob, Kind::ProviderConnection, &b), 0);
    }
}
