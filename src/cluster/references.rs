//! Index of references between objects, so that a change of one enqueues those that depend on it.
//!
//! Filled by the reflectors as objects change; read to enqueue dependents and to count a connection's consumers.
//! References are by name within a namespace, so a reference to an object that does not exist yet is indexed too.

use std::collections::{BTreeSet, HashMap};
use std::sync::{PoisonError, RwLock};

use crate::domain::key::{Kind, ObjectKey};

type Node = (Kind, ObjectKey);

#[derive(Debug, Default)]
struct Maps {
    targets: HashMap<Node, Vec<Node>>,
    dependents: HashMap<Node, BTreeSet<Node>>,
}

/// Two-way index of references.
#[derive(Debug, Default)]
pub struct ReferenceIndex {
    maps: RwLock<Maps>,
}

impl ReferenceIndex {
    /// Replaces the references of `key`; returns the objects that gained or lost it as a dependent.
    pub fn set(&self, kind: Kind, key: &ObjectKey, targets: Vec<Node>) -> Vec<Node> {
        let mut maps = self.maps.write().unwrap_or_else(PoisonError::into_inner);
        let node = (kind, key.clone());
        let old = maps.unlink(&node);
        let gained = targets.iter().filter(|target| !old.contains(target));
        let changed = gained.chain(old.iter().filter(|target| !targets.contains(target))).cloned().collect();
        for target in &targets {
            maps.dependents.entry(target.clone()).or_default().insert(node.clone());
        }
        if !targets.is_empty() {
            maps.targets.insert(node, targets);
        }
        changed
    }

    /// Removes the references of `key` and returns their targets; references to `key` stay.
    pub fn remove(&self, kind: Kind, key: &ObjectKey) -> Vec<Node> {
        self.maps.write().unwrap_or_else(PoisonError::into_inner).unlink(&(kind, key.clone()))
    }

    /// The objects that refer to `key`, in a fixed order.
    pub fn dependents(&self, kind: Kind, key: &ObjectKey) -> Vec<Node> {
        let maps = self.maps.read().unwrap_or_else(PoisonError::into_inner);
        maps.dependents.get(&(kind, key.clone())).map(|set| set.iter().cloned().collect()).unwrap_or_default()
    }

    /// The number of objects of kind `from` that refer to `key`.
    pub fn count(&self, from: Kind, kind: Kind, key: &ObjectKey) -> usize {
        let maps = self.maps.read().unwrap_or_else(PoisonError::into_inner);
        maps.dependents.get(&(kind, key.clone())).map_or(0, |set| set.iter().filter(|(k, _)| *k == from).count())
    }
}

impl Maps {
    fn unlink(&mut self, node: &Node) -> Vec<Node> {
        let targets = self.targets.remove(node).unwrap_or_default();
        for target in &targets {
            if let Some(set) = self.dependents.get_mut(target) {
                set.remove(node);
                if set.is_empty() {
                    self.dependents.remove(target);
                }
            }
        }
        targets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependents_follow_references_as_they_change() {
        let index = ReferenceIndex::default();
        let (job, a, b) = (ObjectKey::new("ns", "job"), ObjectKey::new("ns", "a"), ObjectKey::new("ns", "b"));
        let (to_a, to_b) = ((Kind::ProviderConnection, a.clone()), (Kind::ProviderConnection, b.clone()));
        assert_eq!(index.set(Kind::SyncJob, &job, vec![to_a.clone()]), vec![to_a.clone()]);
        assert_eq!(index.dependents(Kind::ProviderConnection, &a), vec![(Kind::SyncJob, job.clone())]);
        assert_eq!(index.set(Kind::SyncJob, &job, vec![to_b.clone()]), vec![to_b.clone(), to_a]);
        assert!(index.set(Kind::SyncJob, &job, vec![to_b.clone()]).is_empty(), "no target gained or lost it");
        assert!(index.dependents(Kind::ProviderConnection, &a).is_empty());
        assert_eq!(index.count(Kind::SyncJob, Kind::ProviderConnection, &b), 1);
        assert_eq!(index.remove(Kind::SyncJob, &job), vec![to_b]);
        assert_eq!(index.count(Kind::SyncJob, Kind::ProviderConnection, &b), 0);
    }
}
