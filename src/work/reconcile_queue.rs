//! The reconcile queue: keys of objects to reconcile, from wherever something changed to the controller that owns them.
//!
//! A map of [`KeyQueue`]s by namespace and kind: an entry carries no content, because the reconcile reads the current
//! state.

use std::sync::Arc;

use futures::Stream;

pub use crate::domain::key::Kind;
use crate::domain::key::ObjectKey;
use crate::notify::KeyQueue;

/// The queues of one watched namespace (`None`: of all namespaces), one for each kind.
#[derive(Default)]
struct Scope {
    namespace: Option<Arc<str>>,
    queues: [KeyQueue<ObjectKey>; 4],
}

impl Scope {
    fn queue(&self, kind: Kind) -> &KeyQueue<ObjectKey> {
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
            let key = scope.queue(kind).take().await;
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
