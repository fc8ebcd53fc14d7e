//! Mirrors of our four kinds, and word of what changed in them.
//!
//! One watch per kind and watched namespace fills a store and tells a sink which objects deserve a reconcile. Writes of
//! `status` of our own are no news: only a new generation, a fresh `requestedAt`, a deletion mark, another UID, a status
//! that somebody else wrote or the object's end are. A relist that finds an object gone says so too, so nothing outlives
//! its object because a delete was missed.
//!
//! A status that somebody else wrote is not believed either: the object is kept with the last status of our own.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use kube::core::NamespaceResourceScope;
use kube::runtime::reflector::{ObjectRef, Store, store::Writer};
use kube::runtime::watcher;
use kube::runtime::watcher::Event;
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

use crate::api::v1alpha1::{BankRoute, BreakerPolicy, ProviderConnection, SyncJob};
use crate::cluster::claims::{Claims, Whose};
use crate::cluster::guard::{Guarded, Undecodable};
use crate::cluster::references::References;
use crate::cluster::seen::{News, Seen};
use crate::cluster::status::Reported;
use crate::cluster::told;
use crate::domain::backoff::Backoff;
use crate::domain::key::{Kind, ObjectKey};

/// Pauses between tries to open a watch, ever longer, with full jitter, from the start again once it is open: an API server that is back is noticed within ten seconds.
const REOPEN: Backoff = Backoff { base: Duration::from_millis(400), max: Duration::from_secs(10) };

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
            let writer = Writer::<K>::default();
            let reader = writer.as_reader();
            let mirror = Filling { writer, seen: Seen::default(), unreadable: HashMap::new(), shared: shared.clone() };
            mirrors.push(Box::pin(mirror.run(api)));
            (ns.map(Arc::from), reader)
        })
        .collect();
    KindStore { scopes }
}

/// Why a watch ended, for people.
struct Trouble {
    said: String,
    /// It has been too long since the watch was last open: the API server has forgotten what happened then.
    expired: bool,
}

impl From<watcher::Error> for Trouble {
    fn from(error: watcher::Error) -> Self {
        let error = match error {
            watcher::Error::WatchError(status) => kube::Error::Api(status),
            watcher::Error::InitialListFailed(error)
            | watcher::Error::WatchStartFailed(error)
            | watcher::Error::WatchFailed(error) => error,
            other @ watcher::Error::NoResourceVersion => {
                return Self { said: other.to_string(), expired: false };
            }
        };
        let expired = matches!(&error, kube::Error::Api(status) if status.code == GONE);
        let missing = matches!(&error, kube::Error::Api(status) if status.code == NOT_FOUND);
        let hint = if missing { "; is the custom resource definition gone? apply the files in crds/" } else { "" };
        Self { said: format!("{}{hint}", told(&error)), expired }
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.said)
    }
}

/// Status of an answer: what was asked for is too long ago.
const GONE: u16 = 410;
/// Status of an answer: the kind is not served.
const NOT_FOUND: u16 = 404;

struct Filling<K: Reported> {
    writer: Writer<K>,
    seen: Seen,
    /// Objects that do not decode, by generation: each is said once.
    unreadable: HashMap<ObjectKey, Option<i64>>,
    shared: Shared,
}

impl<K: Reported> Filling<K> {
    async fn run(mut self, api: Api<Guarded<K>>) {
        let kind = K::KIND.as_str();
        let mut events = watcher(api, watcher::Config::default()).boxed();
        let (mut failing, mut attempt) = (false, 0_u32);
        while let Some(event) = events.next().await {
            match event {
                // The beginning of another try, not yet its success.
                Ok(Event::Init) => self.take(Event::Init),
                Ok(event) => {
                    if std::mem::take(&mut failing) {
                        tracing::info!(kind, "watching again");
                    }
                    attempt = 0;
                    self.take(event);
                }
                Err(error) => {
                    let error = Trouble::from(error);
                    // Said once per outage: the same error comes again every few seconds.
                    if failing {
                        tracing::debug!(kind, %error, "the watch is still down");
                    } else if error.expired {
                        tracing::info!(kind, %error, "the watch cannot go on from where it was; reading everything again");
                    } else {
                        tracing::warn!(kind, %error, "the watch is down; trying again");
                        failing = true;
                    }
                    tokio::time::sleep(REOPEN.wait(attempt, rand::random())).await;
                    attempt = attempt.saturating_add(1);
                }
            }
        }
    }

    fn take(&mut self, event: Event<Guarded<K>>) {
        match event {
            Event::Init => {
                self.seen.begin_list();
                self.writer.apply_watcher_event(&Event::Init);
            }
            Event::InitApply(guarded) => self.applied(guarded, Event::InitApply),
            Event::Apply(guarded) => self.applied(guarded, Event::Apply),
            Event::InitDone => {
                self.writer.apply_watcher_event(&Event::InitDone);
                for key in self.seen.end_list() {
                    self.gone(key);
                }
            }
            Event::Delete(guarded) => {
                let key = ObjectKey::new(guarded.namespace().unwrap_or_default(), guarded.name_any());
                // One that does not decode is in the store all the same, as it was last.
                if let Some(last) = self.last(&key) {
                    self.writer.apply_watcher_event(&Event::Delete(K::clone(&last)));
                }
                self.unreadable.remove(&key);
                if self.seen.forget(&key) {
                    self.gone(key);
                }
            }
        }
    }

    fn applied(&mut self, guarded: Guarded<K>, event: fn(K) -> Event<K>) {
        match guarded {
            Guarded(Ok(mut object)) => {
                // Neither is read, and together they weigh more than the rest of a small object.
                object.managed_fields_mut().clear();
                object.annotations_mut().remove("kubectl.kubernetes.io/last-applied-configuration");
                let (news, key) = (self.seen.note(&object), object.key());
                if self.unreadable.remove(&key).is_some() {
                    tracing::info!(kind = K::KIND.as_str(), namespace = %key.namespace, name = %key.name, "the object decodes again");
                }
                let whose = self.whose(news, &key, &mut object);
                let touched =
                    (news != News::None).then(|| self.shared.references.set(K::KIND, &key, object.references()));
                self.writer.apply_watcher_event(&event(object));
                if news != News::None || whose != Whose::Ours {
                    let (replaced, touched) = (news == News::Replaced, touched.unwrap_or_default());
                    (self.shared.sink)(Change { kind: K::KIND, key, gone: false, replaced, touched });
                }
            }
            Guarded(Err(bad)) => self.undecodable(&bad),
        }
    }

    /// The object as it is in the store.
    fn last(&self, key: &ObjectKey) -> Option<Arc<K>> {
        self.writer.as_reader().get(&ObjectRef::new(&key.name).within(&key.namespace))
    }

    /// Whose the object's status is; one that is somebody else's is put back to what it was.
    fn whose(&self, news: News, key: &ObjectKey, object: &mut K) -> Whose {
        if news == News::Replaced {
            self.shared.claims.forget(K::KIND, key);
        }
        let whose = self.shared.claims.whose(K::KIND, key, object.status());
        if whose == Whose::Foreign
            && let Some(last) = self.last(key)
        {
            *object.status_mut() = last.status().cloned();
        }
        whose
    }

    /// The object stays in the store as last decoded; what it says now cannot be acted on.
    fn undecodable(&mut self, bad: &Undecodable) {
        let key = ObjectKey::new(
            bad.metadata.namespace.clone().unwrap_or_default(),
            bad.metadata.name.clone().unwrap_or_default(),
        );
        if self.seen.met(&key) {
            // A relist starts an empty store: carry over what could be read last.
            if let Some(last) = self.last(&key) {
                self.writer.apply_watcher_event(&Event::InitApply(K::clone(&last)));
            }
        }
        let generation = bad.metadata.generation;
        if self.unreadable.insert(key.clone(), generation) == Some(generation) {
            return;
        }
        tracing::error!(
            kind = K::KIND.as_str(), namespace = %key.namespace, name = %key.name, place = %bad.error,
            "the object does not decode: this version of Busbar cannot read it; it keeps working on the last version it could read"
        );
    }

    fn gone(&mut self, key: ObjectKey) {
        self.shared.claims.forget(K::KIND, &key);
        self.unreadable.remove(&key);
        let touched = self.shared.references.remove(K::KIND, &key);
        (self.shared.sink)(Change { kind: K::KIND, key, gone: true, replaced: false, touched });
    }
}
