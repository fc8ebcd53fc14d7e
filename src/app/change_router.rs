//! Routes changes to the reconcile queue: of objects, as the stores report them, of running connections, as the
//! registry reports them, of what the API adds to routes, and of the ledger's health, which every job depends on. Every
//! object whose status may depend on the change is enqueued, and work for an object that has ended is stopped.
//!
//! One task does both, so that an object's end is handled before anything that was enqueued later.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::api::v1alpha1::SyncJob;
use crate::cluster::reconcile_backoff::ReconcileBackoff;
use crate::cluster::references::ReferenceIndex;
use crate::cluster::resource::{ObjectChange, WatchedResource as _};
use crate::cluster::stores::KindStore;
use crate::controllers::resolutions::Resolutions;
use crate::domain::key::{Kind, ObjectKey};
use crate::ledger::HealthReceiver;
use crate::notify::KeyQueue;
use crate::provider::registry::Registry;
use crate::work::pool::SyncPool;
use crate::work::reconcile_queue::ReconcileQueue;

/// Routes changes until the process stops.
pub(super) struct ChangeRouter {
    /// Changes of objects, from the stores.
    pub(super) objects: Arc<KeyQueue<ObjectChange>>,
    /// Changes of running connections, from the registry.
    pub(super) connections: Arc<KeyQueue<ObjectKey>>,
    /// Routes whose weights, pins or approvals were changed through the API.
    pub(super) routes: Arc<KeyQueue<ObjectKey>>,
    pub(super) reconcile_queue: ReconcileQueue,
    pub(super) references: Arc<ReferenceIndex>,
    pub(super) registry: Registry,
    pub(super) pool: SyncPool,
    pub(super) backoff: Arc<ReconcileBackoff>,
    pub(super) resolutions: Arc<Resolutions>,
    /// Whether the ledger can be written.
    pub(super) ledger: HealthReceiver,
    /// All jobs: each waits for the ledger.
    pub(super) jobs: KindStore<SyncJob>,
}

impl ChangeRouter {
    /// Routes changes until `stop` is cancelled.
    pub(super) async fn run(self, stop: CancellationToken) {
        let mut ledger = self.ledger.clone();
        loop {
            tokio::select! {
                // In this order: the end of an object comes before news of its connection.
                biased;
                () = stop.cancelled() => return,
                change = self.objects.take() => self.route_object(&change),
                key = self.connections.take() => self.enqueue_with_dependents(Kind::ProviderConnection, &key),
                key = self.routes.take() => self.reconcile_queue.enqueue(Kind::BankRoute, &key),
                Ok(()) = ledger.changed() => {
                    self.jobs.list().iter().for_each(|job| self.reconcile_queue.enqueue(Kind::SyncJob, &job.key()));
                }
            }
        }
    }

    fn route_object(&self, change: &ObjectChange) {
        match change {
            ObjectChange::Changed(kind, key) => self.enqueue_with_dependents(*kind, key),
            ObjectChange::Ended { kind, key, uid } => {
                // Also if another object has taken the name: the reconcile of the successor may never get as far as
                // replacing what runs (its Secret is missing, its spec is invalid).
                self.backoff.forget(*kind, key);
                for job in self.resolutions.forget(*kind, key) {
                    self.reconcile_queue.enqueue(Kind::SyncJob, &job);
                }
                match kind {
                    Kind::ProviderConnection => drop(self.registry.remove_object(key, uid)),
                    Kind::SyncJob => self.pool.forget(key),
                    Kind::BankRoute | Kind::BreakerPolicy => {}
                }
                self.enqueue_with_dependents(*kind, key);
            }
            // The status of a policy and of a connection counts the objects that reference it; objects that depend on
            // them are not affected.
            ObjectChange::ReferrersChanged(kind, key) => self.reconcile_queue.enqueue(*kind, key),
        }
    }

    /// Enqueues `key` and every object that refers to it: their state may depend on its state.
    fn enqueue_with_dependents(&self, kind: Kind, key: &ObjectKey) {
        self.reconcile_queue.enqueue(kind, key);
        for (dependent, other) in self.references.dependents(kind, key) {
            self.reconcile_queue.enqueue(dependent, &other);
            if kind == Kind::SyncJob {
                self.enqueue_chain(&other);
            }
        }
    }

    /// Enqueues the jobs whose partitions come, directly or not, from those of `job`: a cycle that one of them closed or
    /// opened concerns all of them.
    fn enqueue_chain(&self, job: &ObjectKey) {
        let (mut seen, mut next) = (BTreeSet::from([job.clone()]), vec![job.clone()]);
        while let Some(job) = next.pop() {
            for (kind, other) in self.references.dependents(Kind::SyncJob, &job) {
                if kind == Kind::SyncJob && seen.insert(other.clone()) {
                    self.reconcile_queue.enqueue(kind, &other);
                    next.push(other);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, StreamExt as _};
    use kube::runtime::reflector;
    use kube::runtime::watcher::Event;
    use serde_json::json;

    use super::*;
    use crate::clock::Clock;
    use crate::ledger::faulty::FaultyLedger;
    use crate::metrics::Metrics;
    use crate::provider::registry::RegistryOptions;
    use crate::provider::testkit::draft;
    use crate::settings::Settings;
    use crate::work::pool::PoolOptions;

    /// A router, its registry's metrics, and its ledger.
    async fn router() -> (ChangeRouter, Metrics, FaultyLedger) {
        let disk = FaultyLedger::new().await;
        let ledger = Arc::clone(&disk.ledger);
        let (clock, metrics, reconcile_queue) = (Clock::system(), Metrics::new(), ReconcileQueue::new());
        let registry = Registry::new(clock, &metrics, RegistryOptions::allowing_loopback()).unwrap();
        let router = ChangeRouter {
            objects: Arc::default(),
            connections: registry.subscribe_changes(),
            routes: Arc::default(),
            ledger: ledger.health(),
            jobs: KindStore::from_store(reflector::store().0),
            pool: SyncPool::new(ledger, reconcile_queue.clone(), clock, &metrics, PoolOptions::new("me")).unwrap(),
            reconcile_queue,
            references: Arc::default(),
            registry,
            backoff: Arc::default(),
            resolutions: Arc::default(),
        };
        (router, metrics, disk)
    }

    fn ended(key: &ObjectKey, uid: &str) -> ObjectChange {
        ObjectChange::Ended { kind: Kind::ProviderConnection, key: key.clone(), uid: uid.to_owned() }
    }

    #[tokio::test]
    async fn a_connection_ends_with_its_object_and_not_with_another_of_its_name() {
        let (router, metrics, _dir) = router().await;
        let mut enqueued = std::pin::pin!(router.reconcile_queue.subscribe(Kind::ProviderConnection, None));
        let key = ObjectKey::new("team", "bank");
        router.registry.apply(&key, "uid-2", Settings::resolve(draft()).unwrap(), None);
        let changed = ObjectChange::Changed(Kind::ProviderConnection, key.clone());
        for (change, ends) in [(changed, false), (ended(&key, "uid-1"), false), (ended(&key, "uid-2"), true)] {
            router.route_object(&change);
            assert_eq!(router.registry.get(&key).is_none(), ends, "{change:?}");
            assert_eq!(enqueued.next().now_or_never(), Some(Some(key.clone())), "it is enqueued");
        }
        assert!(!metrics.render().unwrap().contains("connection=\"bank\""), "its series are removed with it");
    }

    #[tokio::test]
    async fn a_change_of_the_ledgers_health_enqueues_every_job() {
        let (mut router, _metrics, disk) = router().await;
        let (store, mut writer) = reflector::store();
        let mut job =
            SyncJob::new("books", serde_json::from_value(json!({"connectionRef": {"name": "bank"}})).unwrap());
        job.metadata.namespace = Some("team".into());
        writer.apply_watcher_event(&Event::Apply(job));
        router.jobs = KindStore::from_store(store);
        let mut jobs = std::pin::pin!(router.reconcile_queue.subscribe(Kind::SyncJob, None));
        let stop = CancellationToken::new();
        let running = tokio::spawn(router.run(stop.clone()));
        for works in [false, true] {
            if works {
                disk.recover();
            } else {
                disk.fail_writes();
            }
            assert_eq!(disk.ledger.ping().await.is_ok(), works);
            assert_eq!(jobs.next().await, Some(ObjectKey::new("team", "books")));
        }
        stop.cancel();
        running.await.unwrap();
    }

    #[tokio::test]
    async fn queued_changes_are_routed_and_enqueue_dependents() {
        let (router, _metrics, _dir) = router().await;
        let (bank, route) = (ObjectKey::new("team", "bank"), ObjectKey::new("team", "route"));
        router.references.set(Kind::BankRoute, &route, vec![(Kind::ProviderConnection, bank.clone())]);
        let (registry, objects, queue) =
            (router.registry.clone(), Arc::clone(&router.objects), router.reconcile_queue.clone());
        let stop = CancellationToken::new();
        let running = tokio::spawn(router.run(stop.clone()));
        let mut connections = std::pin::pin!(queue.subscribe(Kind::ProviderConnection, None));
        let mut dependents = std::pin::pin!(queue.subscribe(Kind::BankRoute, None));
        registry.apply(&bank, "uid-1", Settings::resolve(draft()).unwrap(), None);
        assert_eq!((connections.next().await, dependents.next().await), (Some(bank.clone()), Some(route.clone())));
        objects.add(&ended(&bank, "uid-1"));
        assert_eq!((connections.next().await, dependents.next().await), (Some(bank.clone()), Some(route)));
        assert!(registry.get(&bank).is_none());
        stop.cancel();
        running.await.unwrap();
    }
}
