//! In-memory stores of our four kinds, filled by watches.
//!
//! One watch per kind and watched namespace fills a store and reports which objects need a reconcile. Our own status
//! writes do not; only a new generation, a changed `requestedAt`, a deletion timestamp, another UID, a status written
//! by another field manager, or the object's deletion do. A relist that no longer returns an object reports its
//! deletion too, so nothing outlives its object because a delete event was missed.
//!
//! A foreign status is not trusted either: the stored object keeps the last status of our own.

use std::sync::Arc;

use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client};

use crate::api::v1alpha1::{BankRoute, BreakerPolicy, ProviderConnection, SyncJob};
use crate::cluster::decode_guard::DecodeGuard;
use crate::cluster::references::ReferenceIndex;
use crate::cluster::reflector::Reflector;
use crate::cluster::resource::{HasStatus, ReflectorDeps};
use crate::cluster::status_ownership::StatusOwnership;
use crate::cluster::watched_version::WatchedVersion;
use crate::domain::key::{Kind, ObjectKey};

/// The objects of one kind, in one store per watched namespace.
#[derive(Clone, Debug)]
pub struct KindStore<K: HasStatus> {
    scopes: Vec<(Option<Arc<str>>, Store<K>)>,
    /// How current each of them is, in the same order.
    watched: Vec<WatchedVersion>,
    /// Tells our own status writes from foreign ones.
    ownership: Arc<StatusOwnership<K::Status>>,
}

impl<K: HasStatus> KindStore<K> {
    /// A store of all namespaces.
    #[cfg(test)]
    pub(crate) fn from_store(store: Store<K>) -> Self {
        Self { scopes: vec![(None, store)], watched: vec![WatchedVersion::default()], ownership: Arc::default() }
    }

    /// Which statuses of these objects are this process's own.
    pub(super) fn ownership(&self) -> &Arc<StatusOwnership<K::Status>> {
        &self.ownership
    }

    /// The object at `key`.
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<K>> {
        let object = ObjectRef::new(&key.name).within(&key.namespace);
        self.scopes
            .iter()
            .filter(|(ns, _)| ns.as_ref().is_none_or(|ns| *ns == key.namespace))
            .find_map(|(_, s)| s.get(&object))
    }

    /// How current the store of `namespace` is; `None` if there is none.
    pub fn watched_version(&self, namespace: &str) -> Option<&WatchedVersion> {
        let position = self.scopes.iter().position(|(ns, _)| ns.as_ref().is_none_or(|ns| **ns == *namespace))?;
        self.watched.get(position)
    }

    /// All objects.
    pub fn list(&self) -> Vec<Arc<K>> {
        self.scopes.iter().flat_map(|(_, store)| store.state()).collect()
    }

    /// The stores, each with the namespace it is bound to (`None`: all).
    pub fn scopes(&self) -> &[(Option<Arc<str>>, Store<K>)] {
        &self.scopes
    }

    /// Returns once every store has received its initial list.
    pub async fn ready(&self) {
        for (_, store) in &self.scopes {
            // An error means that the writer was dropped: the process is ending, and the reflector's task reports why.
            let _ = store.wait_until_ready().await;
        }
    }
}

/// The stores of all four kinds and the index of their references.
#[derive(Clone, Debug)]
pub struct Stores {
    /// `ProviderConnection` objects.
    pub connections: KindStore<ProviderConnection>,
    /// `SyncJob` objects.
    pub jobs: KindStore<SyncJob>,
    /// `BankRoute` objects.
    pub routes: KindStore<BankRoute>,
    /// `BreakerPolicy` objects.
    pub policies: KindStore<BreakerPolicy>,
    /// The index of references between objects.
    pub references: Arc<ReferenceIndex>,
}

/// A task that runs one watch for as long as the process lives.
pub type ReflectorTask = futures::future::BoxFuture<'static, ()>;

impl Stores {
    /// Stores for `namespaces` (empty: all) and the tasks that fill them, not yet running.
    pub fn new(client: &Client, namespaces: &[String], deps: &ReflectorDeps) -> (Self, Vec<ReflectorTask>) {
        let mut tasks = Vec::new();
        let stores = Self {
            connections: open(client, namespaces, deps, &mut tasks),
            jobs: open(client, namespaces, deps, &mut tasks),
            routes: open(client, namespaces, deps, &mut tasks),
            policies: open(client, namespaces, deps, &mut tasks),
            references: Arc::clone(&deps.references),
        };
        (stores, tasks)
    }

    /// Returns once the stores of all four kinds have received their initial list.
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
}

/// The stores of one kind; the tasks that fill them are pushed to `tasks`.
fn open<K: HasStatus>(
    client: &Client,
    namespaces: &[String],
    deps: &ReflectorDeps,
    tasks: &mut Vec<ReflectorTask>,
) -> KindStore<K> {
    let ownership = Arc::<StatusOwnership<K::Status>>::default();
    let scopes: Vec<Option<&str>> =
        if namespaces.is_empty() { vec![None] } else { namespaces.iter().map(|n| Some(n.as_str())).collect() };
    let (scopes, watched) = scopes
        .into_iter()
        .map(|ns| {
            let (client, progress) = deps.watches.observe(K::KIND, client);
            let api: Api<DecodeGuard<K>> = match ns {
                Some(ns) => Api::namespaced(client, ns),
                None => Api::all(client),
            };
            let (reflector, reader) = Reflector::new(deps.clone(), Arc::clone(&ownership));
            let watched = reflector.watched_version();
            tasks.push(Box::pin(reflector.run(api, progress)));
            ((ns.map(Arc::from), reader), watched)
        })
        .unzip();
    KindStore { scopes, watched, ownership }
}
