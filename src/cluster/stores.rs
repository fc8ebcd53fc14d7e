//! Mirrors of our four kinds, and word of what changed in them.
//!
//! One watch per kind and watched namespace fills a store and tells a sink which objects deserve a reconcile. Writes of
//! `status` of our own are no news: only a new generation, a fresh `requestedAt`, a deletion mark, another UID, a status
//! that somebody else wrote or the object's end are. A relist that finds an object gone says so too, so nothing outlives
//! its object because a delete was missed.
//!
//! A status that somebody else wrote is not believed either: the object is kept with the last status of our own.

use std::fmt::Debug;
use std::sync::Arc;

use kube::core::NamespaceResourceScope;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

use crate::api::v1alpha1::{BankRoute, BreakerPolicy, ProviderConnection, SyncJob};
use crate::cluster::claims::Claims;
use crate::cluster::guard::Guarded;
use crate::cluster::mirror::Filling;
use crate::cluster::references::References;
use crate::cluster::status::Reported;
use crate::domain::key::{Kind, ObjectKey};

/// The annotation that asks for an act now, and the one Flux writes for the same purpose; ours wins.
const REQUESTED_AT: [&str; 2] = ["busbar.dev/requestedAt", "reconcile.fluxcd.io/requestedAt"];

/// One of our kinds, as the stores see it.
pub trait Watched:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
    /// Which of the four it is.
    const KIND: Kind;

    /// The objects whose change this one must hear of.
    fn references(&self) -> Vec<(Kind, ObjectKey)>;

    /// Where the object is.
    fn key(&self) -> ObjectKey {
        ObjectKey::new(self.namespace().unwrap_or_default(), self.name_any())
    }

    /// The request to act now that the object carries, if any.
    fn requested_at(&self) -> Option<&str> {
        REQUESTED_AT.iter().find_map(|name| self.annotations().get(*name)).map(String::as_str)
    }
}

/// Word of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its kind.
    pub kind: Kind,
    /// Where it is, or was.
    pub key: ObjectKey,
    /// Whether it is there no more.
    pub gone: bool,
    /// Whether another of its name was there before, whose end nobody told.
    pub replaced: bool,
    /// Whom it refers to since this change, or no longer does.
    pub touched: Vec<(Kind, ObjectKey)>,
}

/// Takes word of changes; must not block.
pub type Sink = Arc<dyn Fn(Change) + Send + Sync>;

/// What all mirrors share.
#[derive(Clone)]
pub struct Shared {
    /// Who refers to whom; filled by the mirrors.
    pub references: Arc<References>,
    /// Whose a status is.
    pub claims: Arc<Claims>,
    /// Who hears of changes.
    pub sink: Sink,
}

/// The mirror of one kind, over one store per watched namespace.
#[derive(Clone, Debug)]
pub struct KindStore<K: Watched> {
    scopes: Vec<(Option<Arc<str>>, Store<K>)>,
}

impl<K: Watched> KindStore<K> {
    /// One of all namespaces.
    #[cfg(test)]
    pub(crate) fn over(store: Store<K>) -> Self {
        Self { scopes: vec![(None, store)] }
    }

    /// The object at `key`.
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<K>> {
        let object = ObjectRef::new(&key.name).within(&key.namespace);
        self.scopes
            .iter()
            .filter(|(ns, _)| ns.as_ref().is_none_or(|ns| *ns == key.namespace))
            .find_map(|(_, s)| s.get(&object))
    }

    /// Every object.
    pub fn list(&self) -> Vec<Arc<K>> {
        self.scopes.iter().flat_map(|(_, store)| store.state()).collect()
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.scopes.iter().map(|(_, store)| store.len()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The stores, each with the namespace it is bound to (`None`: all).
    pub fn scopes(&self) -> &[(Option<Arc<str>>, Store<K>)] {
        &self.scopes
    }

    /// Returns once every store has seen its first list.
    pub async fn ready(&self) {
        for (_, store) in &self.scopes {
            // An error means the writer is gone: the process is ending, and its task says why.
            let _ = store.wait_until_ready().await;
        }
    }
}

/// The four mirrors and the index of who refers to whom.
#[derive(Clone, Debug)]
pub struct Stores {
    /// Connections.
    pub connections: KindStore<ProviderConnection>,
    /// Jobs.
    pub jobs: KindStore<SyncJob>,
    /// Routes.
    pub routes: KindStore<BankRoute>,
    /// Policies.
    pub policies: KindStore<BreakerPolicy>,
    /// Who refers to whom.
    pub references: Arc<References>,
}

/// A task that runs one watch for as long as the process lives.
pub type Mirror = futures::future::BoxFuture<'static, ()>;

impl Stores {
    /// Stores for `namespaces` (empty: all) and the tasks that fill them, not yet running.
    pub fn new(client: &Client, namespaces: &[String], shared: &Shared) -> (Self, Vec<Mirror>) {
        let mut mirrors = Vec::new();
        let stores = Self {
            connections: open(client, namespaces, shared, &mut mirrors),
            jobs: open(client, namespaces, shared, &mut mirrors),
            routes: open(client, namespaces, shared, &mut mirrors),
            policies: open(client, namespaces, shared, &mut mirrors),
            references: Arc::clone(&shared.references),
        };
        (stores, mirrors)
    }

    /// Returns once all four kinds are mirrored.
    pub async fn ready(&self) {
        self.connections.ready().await;
        self.jobs.ready().await;
        self.routes.ready().await;
        self.policies.ready().await;
    }

    /// Whether there is an object of this kind at `key`.
    pub fn contains(&self, kind: Kind, key: &ObjectKey) -> bool {
        match kind {
            Kind::ProviderConnection => self.connections.get(key).is_some(),
            Kind::SyncJob => self.jobs.get(key).is_some(),
            Kind::BankRoute => self.routes.get(key).is_some(),
            Kind::BreakerPolicy => self.policies.get(key).is_some(),
        }
    }

    /// Everything that exists, for the first reconcile of all.
    pub fn all(&self) -> Vec<(Kind, ObjectKey)> {
        fn keys<K: Watched>(store: &KindStore<K>) -> impl Iterator<Item = (Kind, ObjectKey)> {
            store.list().into_iter().map(|o| (K::KIND, o.key()))
        }
        keys(&self.policies).chain(keys(&self.connections)).chain(keys(&self.jobs)).chain(keys(&self.routes)).collect()
    }
}

fn open<K: Reported>(
    client: &Client,
    namespaces: &[String],
    shared: &Shared,
    mirrors: &mut Vec<Mirror>,
) -> KindStore<K> {
    let scopes: Vec<Option<&str>> =
        if namespaces.is_empty() { vec![None] } else { namespaces.iter().map(|n| Some(n.as_str())).collect() };
    let scopes = scopes
        .into_iter()
        .map(|ns| {
            let api: Api<Guarded<K>> = match ns {
                Some(ns) => Api::namespaced(client.clone(), ns),
                None => Api::all(client.clone()),
            };
            let (filling, reader) = Filling::new(shared.clone());
            mirrors.push(Box::pin(filling.run(api)));
            (ns.map(Arc::from), reader)
        })
        .collect();
    KindStore { scopes }
}
