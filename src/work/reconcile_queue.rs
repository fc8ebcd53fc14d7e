//! The reconcile queue: keys of objects to reconcile, from wherever something changed to the controller that owns them.
//!
//! An entry carries no content, so any number of them for one object are deduplicated into one. That bounds the memory
//! by the number of objects, however slow a controller is, and loses nothing: the reconcile reads the current state.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::Stream;
use tokio::sync::Notify;

pub use crate::domain::key::Kind;
use crate::domain::key::ObjectKey;

/// A FIFO queue of object keys, each queued at most once, that notifies its consumer.
#[derive(Default)]
pub(crate) struct KeyQueue {
    keys: Mutex<QueuedKeys>,
    changed: Notify,
}

#[derive(Default)]
struct QueuedKeys {
    order: VecDeque<ObjectKey>,
    members: HashSet<ObjectKey>,
}

impl KeyQueue {
    pub(crate) fn add(&self, key: &ObjectKey) {
        {
            let mut keys = self.lock();
            if keys.members.insert(key.clone()) {
                keys.order.push_back(key.clone());
            }
        }
        self.changed.notify_one();
    }

    pub(crate) fn try_pop(&self) -> Option<ObjectKey> {
        let mut keys = self.lock();
        let key = keys.order.pop_front()?;
        keys.members.remove(&key);
        Some(key)
    }

    /// Waits for the next key. Only one task may consume.
    pub(crate) async fn pop(&self) -> ObjectKey {
        loop {
            if let Some(key) = self.try_pop() {
                return key;
            }
            self.changed().await;
        }
    }

    /// Waits until the queue may be non-empty.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, QueuedKeys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The queues of one watched namespace (`None`: of all namespaces), one for each kind.
#[derive(Default)]
struct Scope {
    namespace: Option<Arc<str>>,
    queues: [KeyQueue; 4],
}

impl Scope {
    fn queue(&self, kind: Kind) -> &KeyQueue {
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
        let scope = self.scopes.iter().find(|s| s.namespace.as_ref().is_none_or(|ns| *ns == key.namespace));
        if let Some(scope) = scope {
            scope.queue(kind).add(key);
        }
    }

    /// The stream of enqueued keys of one kind and one of the constructor's namespaces. Each key goes to one consumer.
    pub fn subscribe(&self, kind: Kind, namespace: Option<&str>) -> impl Stream<Item = ObjectKey> + Send + 'static {
        let index = self.scopes.iter().position(|s| s.namespace.as_deref() == namespace);
        futures::stream::unfold(self.clone(), move |queues| async move {
            let scope = queues.scopes.get(index?)?;
            let key = scope.queue(kind).pop().await;
            Some((key, queues))
        })
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
