//! Which jobs read which sources: two jobs on one source would write the same rows, so the younger of them does not run.
//!
//! An index, because a connection may have thousands of jobs: a reconcile looks up the sources of one job. It is filled from
//! the store once for each version of a connection, and follows the jobs as they are reconciled.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use crate::domain::key::ObjectKey;
use crate::settings::sync_plan::{SourceId, SyncPlan};

/// The sources of all jobs.
#[derive(Debug, Default)]
pub struct JobSources {
    index: Mutex<Index>,
}

#[derive(Debug, Default)]
struct Index {
    jobs: HashMap<ObjectKey, Reader>,
    /// The readers of each source, the oldest first; of one second, by name.
    readers: HashMap<SourceId, BTreeSet<(Timestamp, ObjectKey)>>,
    /// The connections whose jobs are in the index, each with the revision of its settings.
    connections: HashMap<ObjectKey, Arc<str>>,
}

#[derive(Debug)]
struct Reader {
    created: Timestamp,
    plan: Arc<SyncPlan>,
    sources: Vec<SourceId>,
}

impl JobSources {
    /// Whether the jobs of the connection are in the index, as of this revision of its settings.
    pub fn has_connection(&self, connection: &ObjectKey, revision: &Arc<str>) -> bool {
        self.lock().connections.get(connection) == Some(revision)
    }

    /// Records that the jobs of the connection are in the index.
    pub fn add_connection(&self, connection: &ObjectKey, revision: &Arc<str>) {
        self.lock().connections.insert(connection.clone(), Arc::clone(revision));
    }

    /// Removes a connection that has ended.
    pub fn forget_connection(&self, connection: &ObjectKey) {
        self.lock().connections.remove(connection);
    }

    /// Records what the job `key` reads; returns the other jobs that this concerns: those that share a source with it, or
    /// did until now.
    pub fn set(&self, key: &ObjectKey, created: Timestamp, plan: &Arc<SyncPlan>) -> BTreeSet<ObjectKey> {
        let mut index = self.lock();
        if index.jobs.get(key).is_some_and(|known| known.created == created && Arc::ptr_eq(&known.plan, plan)) {
            return BTreeSet::new();
        }
        let reader = Reader { created, plan: Arc::clone(plan), sources: plan.source_ids() };
        if let Some(known) = index.jobs.get_mut(key)
            && known.created == created
            && known.sources == reader.sources
        {
            *known = reader;
            return BTreeSet::new();
        }
        let mut concerned = index.remove(key);
        for source in &reader.sources {
            let readers = index.readers.entry(*source).or_default();
            concerned.extend(readers.iter().map(|(_, other)| other.clone()));
            readers.insert((created, key.clone()));
        }
        index.jobs.insert(key.clone(), reader);
        concerned.remove(key);
        concerned
    }

    /// Removes a job that reads nothing or has ended; returns the other jobs that this concerns.
    pub fn remove(&self, key: &ObjectKey) -> BTreeSet<ObjectKey> {
        self.lock().remove(key)
    }

    /// The oldest job that reads a source of the job `key` and is older, of those that exist; and the partition of the
    /// source, empty for a job without partitions.
    pub fn older_reader(&self, key: &ObjectKey, exists: impl Fn(&ObjectKey) -> bool) -> Option<(ObjectKey, String)> {
        let index = self.lock();
        let reader = index.jobs.get(key)?;
        let of_source = |source: &SourceId| {
            let older = index.readers.get(source)?.iter().take_while(|(_, other)| other != key);
            older.map(|(_, other)| other).find(|other| exists(other)).cloned()
        };
        // The last one may be that of the partitions that come from another job: it has no name.
        let name = |index: usize| reader.plan.partitions.get(index).map(|partition| partition.name.clone());
        let mut shared = reader.sources.iter().enumerate();
        shared.find_map(|(index, source)| Some((of_source(source)?, name(index).unwrap_or_default())))
    }

    fn lock(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Index {
    fn remove(&mut self, key: &ObjectKey) -> BTreeSet<ObjectKey> {
        let Some(known) = self.jobs.remove(key) else { return BTreeSet::new() };
        let mut concerned = BTreeSet::new();
        for source in &known.sources {
            let Some(readers) = self.readers.get_mut(source) else { continue };
            readers.remove(&(known.created, key.clone()));
            concerned.extend(readers.iter().map(|(_, other)| other.clone()));
            if readers.is_empty() {
                self.readers.remove(source);
            }
        }
        concerned
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::sync_plan::Partition;
    use crate::sync::tests::{partition, plan};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new("team", name)
    }

    fn reading(partitions: Vec<Partition>) -> Arc<SyncPlan> {
        Arc::new(SyncPlan { partitions, ..plan(10) })
    }

    fn keys<const N: usize>(names: [&str; N]) -> BTreeSet<ObjectKey> {
        names.into_iter().map(key).collect()
    }

    #[test]
    fn the_younger_of_two_readers_of_one_source_has_an_older_one() {
        let sources = JobSources::default();
        let older = |name: &str| sources.older_reader(&key(name), |_| true).map(|(other, _)| other);
        assert!(sources.set(&key("b"), at(2), &reading(vec![partition("", "one")])).is_empty());
        assert_eq!(sources.set(&key("c"), at(3), &reading(vec![partition("", "one")])), keys(["b"]));
        assert!(sources.set(&key("d"), at(1), &reading(vec![partition("", "two")])).is_empty());
        assert_eq!((older("b"), older("c"), older("d"), older("x")), (None, Some(key("b")), None, None));
        // An equal age is decided by name, and a still older one takes over.
        assert_eq!(sources.set(&key("a"), at(2), &reading(vec![partition("", "one")])), keys(["b", "c"]));
        assert_eq!((older("a"), older("b"), older("c")), (None, Some(key("a")), Some(key("a"))));
        assert_eq!(sources.older_reader(&key("c"), |other| *other != key("a")).unwrap().0, key("b"), "`a` is gone");
        // It reads something else; it ends.
        assert_eq!(sources.set(&key("a"), at(2), &reading(vec![partition("", "two")])), keys(["b", "c", "d"]));
        assert_eq!((older("a"), older("b")), (Some(key("d")), None));
        assert_eq!(sources.remove(&key("b")), keys(["c"]));
        assert_eq!(older("c"), None);
    }

    #[test]
    fn one_shared_partition_is_enough_and_is_named() {
        let sources = JobSources::default();
        sources.set(&key("a"), at(1), &reading(vec![partition("x", "one"), partition("y", "two")]));
        sources.set(&key("b"), at(2), &reading(vec![partition("z", "one"), partition("y", "two")]));
        assert_eq!(sources.older_reader(&key("b"), |_| true), Some((key("a"), "y".to_owned())));
        // The same names, other accounts.
        sources.set(&key("c"), at(3), &reading(vec![partition("x", "three"), partition("y", "four")]));
        assert_eq!(sources.older_reader(&key("c"), |_| true), None);
    }

    #[test]
    fn an_unchanged_job_concerns_no_other() {
        let sources = JobSources::default();
        let shared = reading(vec![partition("", "one")]);
        sources.set(&key("a"), at(1), &shared);
        assert_eq!(sources.set(&key("b"), at(2), &shared), keys(["a"]));
        assert!(sources.set(&key("b"), at(2), &shared).is_empty());
        assert!(sources.set(&key("b"), at(2), &reading(vec![partition("", "one")])).is_empty(), "another schedule");
        assert_eq!(sources.set(&key("b"), at(0), &shared), keys(["a"]), "created again");
    }
}
