//! Pokes: "look at this object again", from wherever something changed to the controller that owns it.
//!
//! A poke carries no content, so any number of them for one object are one. That bounds the memory by the number of
//! objects, however slow a controller is, and loses nothing: whoever takes a poke reads what is true then.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::Stream;
use tokio::sync::Notify;

pub use crate::domain::key::Kind;
use crate::domain::key::ObjectKey;

/// Names waiting to be taken, in the order they came, each once, with a bell.
#[derive(Default)]
pub(crate) struct Waiting {
    names: Mutex<Names>,
    bell: Notify,
}

#[derive(Default)]
struct Names {
    queue: VecDeque<ObjectKey>,
    queued: HashSet<ObjectKey>,
}

impl Waiting {
    pub(crate) fn add(&self, key: &ObjectKey) {
        {
            let mut names = self.lock();
            if names.queued.insert(key.clone()) {
                names.queue.push_back(key.clone());
            }
        }
        self.bell.notify_one();
    }

    pub(crate) fn try_take(&self) -> Option<ObjectKey> {
        let mut names = self.lock();
        let key = names.queue.pop_front()?;
        names.queued.remove(&key);
        Some(key)
    }

    /// Waits for the next name. Only one task may take.
    pub(crate) async fn take(&self) -> ObjectKey {
        loop {
            if let Some(key) = self.try_take() {
                return key;
            }
            self.rung().await;
        }
    }

    /// Waits until something may be there.
    pub(crate) async fn rung(&self) {
        self.bell.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The waiting objects of one watched namespace (`None`: of all), by kind.
#[derive(Default)]
struct Scope {
    namespace: Option<Arc<str>>,
    waiting: [Waiting; 4],
}

impl Scope {
    fn of(&self, kind: Kind) -> &Waiting {
        let [connections, jobs, routes, policies] = &self.waiting;
        match kind {
            Kind::ProviderConnection => connections,
            Kind::SyncJob => jobs,
            Kind::BankRoute => routes,
            Kind::BreakerPolicy => policies,
        }
    }
}

/// Where pokes go. Cloning shares it.
#[derive(Clone)]
pub struct Pokes {
    scopes: Arc<[Scope]>,
}

impl Default for Pokes {
    fn default() -> Self {
        Self::new()
    }
}

impl Pokes {
    /// For all namespaces at once.
    pub fn new() -> Self {
        Self { scopes: Arc::new([Scope::default()]) }
    }

    /// One taker per namespace; pokes of objects elsewhere are dropped. An empty list means all namespaces.
    pub fn of_namespaces<'a>(namespaces: impl IntoIterator<Item = &'a str>) -> Self {
        let scopes: Vec<_> =
            namespaces.into_iter().map(|ns| Scope { namespace: Some(ns.into()), ..Scope::default() }).collect();
        if scopes.is_empty() { Self::new() } else { Self { scopes: scopes.into() } }
    }

    /// Asks for another look at `key`.
    pub fn poke(&self, kind: Kind, key: &ObjectKey) {
        let scope = self.scopes.iter().find(|s| s.namespace.as_ref().is_none_or(|ns| *ns == key.namespace));
        if let Some(scope) = scope {
            scope.of(kind).add(key);
        }
    }

    /// What is poked of one kind in one of the scopes this was made with. Each poke goes to one taker.
    pub fn subscribe(&self, kind: Kind, namespace: Option<&str>) -> impl Stream<Item = ObjectKey> + Send + 'static {
        let index = self.scopes.iter().position(|s| s.namespace.as_deref() == namespace);
        futures::stream::unfold(self.clone(), move |pokes| async move {
            let scope = pokes.scopes.get(index?)?;
            let key = scope.of(kind).take().await;
            Some((key, pokes))
        })
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, StreamExt as _};

    use super::*;

    #[tokio::test]
    async fn many_pokes_of_one_object_are_one_and_kinds_do_not_mix() {
        let pokes = Pokes::new();
        let key = ObjectKey::new("ns", "a");
        for _ in 0..1000 {
            pokes.poke(Kind::ProviderConnection, &key);
        }
        pokes.poke(Kind::BankRoute, &key.sibling("r"));
        let mut connections = std::pin::pin!(pokes.subscribe(Kind::ProviderConnection, None));
        assert_eq!(connections.next().await, Some(key));
        assert!(connections.next().now_or_never().is_none());
        let mut routes = std::pin::pin!(pokes.subscribe(Kind::BankRoute, None));
        assert_eq!(routes.next().await.unwrap().to_string(), "ns/r");
    }

    #[tokio::test]
    async fn a_poke_that_comes_while_the_taker_waits_wakes_it() {
        let pokes = Pokes::new();
        let taker = tokio::spawn({
            let pokes = pokes.clone();
            async move { std::pin::pin!(pokes.subscribe(Kind::SyncJob, None)).next().await }
        });
        tokio::task::yield_now().await;
        pokes.poke(Kind::SyncJob, &ObjectKey::new("ns", "late"));
        assert_eq!(taker.await.unwrap(), Some(ObjectKey::new("ns", "late")));
    }

    #[tokio::test]
    async fn a_poke_during_the_handling_of_another_is_not_lost() {
        let pokes = Pokes::new();
        let key = ObjectKey::new("ns", "a");
        let mut stream = std::pin::pin!(pokes.subscribe(Kind::SyncJob, None));
        pokes.poke(Kind::SyncJob, &key);
        assert_eq!(stream.next().await.as_ref(), Some(&key));
        pokes.poke(Kind::SyncJob, &key);
        assert_eq!(stream.next().await, Some(key));
    }
}
