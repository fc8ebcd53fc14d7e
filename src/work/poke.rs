//! Pokes: "look at this object again", from wherever something changed to the controller that owns it.
//!
//! A poke carries no content, so any number of them for one object are one. That bounds the memory by the number of
//! objects, however slow a controller is, and loses nothing: whoever takes a poke reads what is true then.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::Stream;
use tokio::sync::Notify;

use crate::domain::key::ObjectKey;

/// The kind of the object to look at.
#[derive(Copy, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// A ProviderConnection.
    ProviderConnection,
    /// A `SyncJob`.
    SyncJob,
    /// A `BankRoute`.
    BankRoute,
    /// A `BreakerPolicy`.
    BreakerPolicy,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::ProviderConnection, Self::SyncJob, Self::BankRoute, Self::BreakerPolicy];
}

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

/// Where pokes go. Cloning shares it.
#[derive(Clone, Default)]
pub struct Pokes {
    waiting: Arc<[Waiting; 4]>,
}

impl Pokes {
    /// No poke yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for another look at an object. Never blocks; a poke that is already waiting is enough.
    pub fn poke(&self, kind: Kind, key: &ObjectKey) {
        self.of(kind).add(key);
    }

    /// The pokes of one kind, as they come. There is one taker per kind: two would share the pokes, not each see all.
    pub fn subscribe(&self, kind: Kind) -> impl Stream<Item = ObjectKey> + Send + 'static {
        futures::stream::unfold(self.clone(), move |pokes| async move {
            let key = pokes.of(kind).take().await;
            Some((key, pokes))
        })
    }

    fn of(&self, kind: Kind) -> &Waiting {
        let [connections, jobs, routes, policies] = &*self.waiting;
        match kind {
            Kind::ProviderConnection => connections,
            Kind::SyncJob => jobs,
            Kind::BankRoute => routes,
            Kind::BreakerPolicy => policies,
        }
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
        let mut connections = std::pin::pin!(pokes.subscribe(Kind::ProviderConnection));
        assert_eq!(connections.next().await, Some(key));
        assert!(connections.next().now_or_never().is_none());
        let mut routes = std::pin::pin!(pokes.subscribe(Kind::BankRoute));
        assert_eq!(routes.next().await.unwrap().to_string(), "ns/r");
    }

    #[tokio::test]
    async fn a_poke_that_comes_while_the_taker_waits_wakes_it() {
        let pokes = Pokes::new();
        let taker = tokio::spawn({
            let pokes = pokes.clone();
            async move { std::pin::pin!(pokes.subscribe(Kind::SyncJob)).next().await }
        });
        tokio::task::yield_now().await;
        pokes.poke(Kind::SyncJob, &ObjectKey::new("ns", "late"));
        assert_eq!(taker.await.unwrap(), Some(ObjectKey::new("ns", "late")));
    }

    #[tokio::test]
    async fn a_poke_during_the_handling_of_another_is_not_lost() {
        let pokes = Pokes::new();
        let key = ObjectKey::new("ns", "a");
        let mut stream = std::pin::pin!(pokes.subscribe(Kind::SyncJob));
        pokes.poke(Kind::SyncJob, &key);
        assert_eq!(stream.next().await.as_ref(), Some(&key));
        pokes.poke(Kind::SyncJob, &key);
        assert_eq!(stream.next().await, Some(key));
    }
}
