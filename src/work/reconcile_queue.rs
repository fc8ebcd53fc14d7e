//! The reconcile queue: keys of objects to reconcile, from wherever something changed to the controller that owns them.
//!
//! A map of [`KeyQueue`]s by namespace and kind: an entry carries no content, because the reconcile reads the current
//! state. The controller takes a key at once and keeps it until one of its reconciles is free, so what waits is counted
//! apart, from the enqueue until the reconcile starts (`workqueue_depth`).

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::Stream;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntGaugeVec, Opts};

pub use crate::domain::key::Kind;
use crate::domain::key::ObjectKey;
use crate::metrics::{Metrics, MetricsError};
use crate::notify::KeyQueue;

/// The queues of one watched namespace (`None`: of all namespaces), one for each kind.
#[derive(Default)]
struct Scope {
    namespace: Option<Arc<str>>,
    queues: [KindQueue; 4],
}

/// The queue of one kind.
#[derive(Default)]
struct KindQueue {
    keys: KeyQueue<ObjectKey>,
    /// Enqueued, and their reconcile has not started.
    waiting: Mutex<HashSet<ObjectKey>>,
    /// Whether a controller takes the keys; none does on a standby.
    served: AtomicBool,
}

impl KindQueue {
    fn waiting(&self) -> MutexGuard<'_, HashSet<ObjectKey>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn depth(&self) -> usize {
        if self.served.load(Ordering::Relaxed) { self.waiting().len() } else { 0 }
    }
}

impl Scope {
    fn queue(&self, kind: Kind) -> &KindQueue {
        let [connections, jobs, routes, policies] = &self.queues;
        match kind {
            Kind::ProviderConnection => connections,
            Kind::SyncJob => jobs,
            Kind::BankRoute => routes,
            Kind::BreakerPolicy => policies,
        }
    }
}

/// Queues of objects to reconcile, by namespace and kind. Cloning shares them.
#[derive(Clone)]
pub struct ReconcileQueue {
    scopes: Arc<[Scope]>,
}

impl Default for ReconcileQueue {
    fn default() -> Self {
        Self::new()
    }
}

impl ReconcileQueue {
    /// A queue for all namespaces.
    pub fn new() -> Self {
        Self { scopes: Arc::new([Scope::default()]) }
    }

    /// A queue with one consumer per namespace; objects elsewhere are dropped. An empty list means all namespaces.
    pub fn for_namespaces<'a>(namespaces: impl IntoIterator<Item = &'a str>) -> Self {
        let scopes: Vec<_> =
            namespaces.into_iter().map(|ns| Scope { namespace: Some(ns.into()), ..Scope::default() }).collect();
        if scopes.is_empty() { Self::new() } else { Self { scopes: scopes.into() } }
    }

    /// Enqueues `key` for reconciliation; no effect if it is already queued.
    pub fn enqueue(&self, kind: Kind, key: &ObjectKey) {
        if let Some(queue) = self.queue_of(kind, key) {
            queue.waiting().insert(key.clone());
            queue.keys.add(key);
        }
    }

    /// The reconcile of `key` starts, or nothing is left to reconcile: it does not wait any longer.
    pub fn started(&self, kind: Kind, key: &ObjectKey) {
        if let Some(queue) = self.queue_of(kind, key) {
            queue.waiting().remove(key);
        }
    }

    /// The number of objects of `kind` that wait for a reconcile; 0 while no controller runs.
    pub fn depth(&self, kind: Kind) -> usize {
        self.scopes.iter().map(|scope| scope.queue(kind).depth()).sum()
    }

    /// Registers `workqueue_depth`.
    ///
    /// # Errors
    /// If it is registered already.
    pub fn register(&self, metrics: &Metrics) -> Result<(), MetricsError> {
        let help = "Objects that wait for a reconcile, by controller; 0 on a standby.";
        let gauge = IntGaugeVec::new(Opts::new("workqueue_depth", help), &["name"])?;
        metrics.collector(Box::new(DepthCollector { gauge, queue: self.clone() }))
    }

    fn queue_of(&self, kind: Kind, key: &ObjectKey) -> Option<&KindQueue> {
        let scope = self.scopes.iter().find(|s| s.namespace.as_ref().is_none_or(|ns| *ns == key.namespace))?;
        Some(scope.queue(kind))
    }

    /// The stream of enqueued keys of one kind and one of the constructor's namespaces. Each key goes to one consumer.
    pub fn subscribe(&self, kind: Kind, namespace: Option<&str>) -> impl Stream<Item = ObjectKey> + Send + 'static {
        let index = self.scopes.iter().position(|s| s.namespace.as_deref() == namespace);
        if let Some(scope) = index.and_then(|index| self.scopes.get(index)) {
            scope.queue(kind).served.store(true, Ordering::Relaxed);
        }
        futures::stream::unfold(self.clone(), move |queues| async move {
            let scope = queues.scopes.get(index?)?;
            let key = scope.queue(kind).keys.take().await;
            Some((key, queues))
        })
    }
}

/// The depth of each kind's queue, read at scrape time.
struct DepthCollector {
    gauge: IntGaugeVec,
    queue: ReconcileQueue,
}

impl Collector for DepthCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.gauge.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        for kind in Kind::ALL {
            let depth = i64::try_from(self.queue.depth(kind)).unwrap_or(i64::MAX);
            self.gauge.with_label_values(&[kind.as_str()]).set(depth);
        }
        self.gauge.collect()
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, StreamExt as _};

    use super::*;

    #[tokio::test]
    async fn repeated_enqueues_are_deduplicated_and_kinds_are_separate() {
        let queue = ReconcileQueue::new();
        let key = ObjectKey::new("ns", "a");
        for _ in 0..1000 {
            queue.enqueue(Kind::ProviderConnection, &key);
        }
        queue.enqueue(Kind::BankRoute, &key.sibling("r"));
        let mut connections = std::pin::pin!(queue.subscribe(Kind::ProviderConnection, None));
        assert_eq!(connections.next().await, Some(key));
        assert!(connections.next().now_or_never().is_none());
        let mut routes = std::pin::pin!(queue.subscribe(Kind::BankRoute, None));
        assert_eq!(routes.next().await.unwrap().to_string(), "ns/r");
    }

    #[test]
    fn the_depth_counts_objects_until_their_reconcile_starts() {
        let (queue, metrics) = (ReconcileQueue::for_namespaces(["a", "b"]), Metrics::new());
        queue.register(&metrics).unwrap();
        let depth = |expected: u8| {
            let line = format!("workqueue_depth{{name=\"SyncJob\"}} {expected}\n");
            let text = metrics.render().unwrap();
            assert!(text.contains(&line), "{line} {text}");
        };
        let keys = [ObjectKey::new("a", "x"), ObjectKey::new("a", "y"), ObjectKey::new("b", "x")];
        for key in keys.iter().chain(&keys) {
            queue.enqueue(Kind::SyncJob, key);
        }
        depth(0);
        let _controllers = ["a", "b"].map(|namespace| {
            let mut taken = Box::pin(queue.subscribe(Kind::SyncJob, Some(namespace)));
            // The controller holds the key, and has not started its reconcile.
            assert!(taken.next().now_or_never().is_some());
            taken
        });
        depth(3);
        queue.started(Kind::SyncJob, &keys[0]);
        queue.started(Kind::BankRoute, &keys[1]);
        depth(2);
        queue.enqueue(Kind::SyncJob, &keys[0]);
        depth(3);
    }

    #[tokio::test]
    async fn an_enqueue_wakes_a_waiting_consumer() {
        let queue = ReconcileQueue::new();
        let consumer = tokio::spawn({
            let queue = queue.clone();
            async move { std::pin::pin!(queue.subscribe(Kind::SyncJob, None)).next().await }
        });
        tokio::task::yield_now().await;
        queue.enqueue(Kind::SyncJob, &ObjectKey::new("ns", "late"));
        assert_eq!(consumer.await.unwrap(), Some(ObjectKey::new("ns", "late")));
    }

    #[tokio::test]
    async fn an_enqueue_while_the_key_is_being_processed_is_not_lost() {
        let queue = ReconcileQueue::new();
        let key = ObjectKey::new("ns", "a");
        let mut stream = std::pin::pin!(queue.subscribe(Kind::SyncJob, None));
        queue.enqueue(Kind::SyncJob, &key);
        assert_eq!(stream.next().await.as_ref(), Some(&key));
        queue.enqueue(Kind::SyncJob, &key);
        assert_eq!(stream.next().await, Some(key));
    }
}
