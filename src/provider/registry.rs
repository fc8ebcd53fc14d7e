//! All running connections, by name. Custom resources say what should be; this is it, as running things.
//!
//! Applying the same settings again changes nothing; changed settings keep the circuit, the health and the counters, and
//! keep the verdict unless they changed what it speaks about.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use jiff::Timestamp;

use crate::clock::Clock;
use crate::domain::breaker::Snapshot;
use crate::domain::key::ObjectKey;
use crate::metrics::{Metrics, MetricsError};
use crate::provider::addresses::AddressRules;
use crate::provider::auth::vault::{SecretSource, Vault};
use crate::provider::auth::{self, Means, Proof};
use crate::provider::clients::Clients;
use crate::provider::compat::{self, Compat, CompatSet};
use crate::provider::live::{Live, Running};
use crate::provider::observe::Core;
use crate::provider::rights::Licences;
use crate::provider::series::{Collected, Shared};
use crate::provider::settings::Settings;
use crate::telemetry::traces::Traces;

/// Something about a connection that others may want to act on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// New or changed settings are in force.
    Applied(ObjectKey),
    /// The connection is gone.
    Removed(ObjectKey),
    /// Circuit, health, verdict or the credentials' standing is different.
    Observed(ObjectKey),
}

type Listener = Arc<dyn Fn(&Change) + Send + Sync>;

/// Who is told of changes.
#[derive(Default)]
pub(crate) struct Listeners {
    all: RwLock<Vec<Listener>>,
}

impl Listeners {
    pub(crate) fn add(&self, listener: impl Fn(&Change) + Send + Sync + 'static) {
        self.all.write().unwrap_or_else(PoisonError::into_inner).push(Arc::new(listener));
    }

    pub(crate) fn tell(&self, change: &Change) {
        let all = self.all.read().unwrap_or_else(PoisonError::into_inner).clone();
        for listener in all {
            listener(change);
        }
    }
}

/// The running connections. Cloning shares them.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

/// Where calls may go, where credentials that the provider rotates are kept, and who is told of calls.
#[derive(Clone, Default)]
pub struct Access {
    /// What may be connected to; by default public addresses only.
    pub addresses: AddressRules,
    /// Where rotated refresh tokens are kept; without it no connection may use one.
    pub vault: Option<Vault>,
    /// The audit and the counts of licences' days; without it rights are judged, and nothing is written down.
    pub licences: Option<Arc<Licences>>,
    /// Where the spans of calls go; by default nowhere.
    pub traces: Traces,
    /// Which sources' own series are served beside ours.
    pub compat: BTreeSet<CompatSet>,
}

impl Access {
    /// Public addresses and this machine's own: for tests and benches, whose banks are on it.
    pub fn local() -> Self {
        Self { addresses: AddressRules::with_loopback(), ..Self::default() }
    }
}

struct Inner {
    clock: Clock,
    clients: Clients,
    vault: Option<Vault>,
    secrets: OnceLock<Arc<dyn SecretSource>>,
    series: Arc<Shared>,
    licences: Arc<Licences>,
    listeners: Arc<Listeners>,
    by_key: RwLock<BTreeMap<ObjectKey, Arc<Live>>>,
    /// Held over each apply and remove, so that two of them for one key never interleave.
    changing: Mutex<()>,
}

impl Registry {
    /// An empty registry whose series are in `metrics`.
    pub fn new(clock: Clock, metrics: &Metrics, access: Access) -> Result<Self, MetricsError> {
        let compat = Compat::new(metrics, &access.compat)?;
        let inner = Arc::new(Inner {
            clock,
            clients: Clients::new(access.addresses),
            vault: access.vault,
            secrets: OnceLock::new(),
            series: Arc::new(Shared::new(metrics, access.traces, compat)?),
            licences: access.licences.unwrap_or_else(|| Arc::new(Licences::judging(clock))),
            listeners: Arc::default(),
            by_key: RwLock::default(),
            changing: Mutex::new(()),
        });
        let registry = Self { inner };
        let weak = Arc::downgrade(&registry.inner);
        let list = move || weak.upgrade().map(|inner| Self { inner }.list()).unwrap_or_default();
        if !access.compat.is_empty() {
            metrics.pieces(compat::States { wanted: access.compat, list: list.clone() });
        }
        metrics.pieces(Collected(list));
        Ok(registry)
    }

    /// Reads Secrets through `secrets` when a credential is refused. The first one that is set stays.
    pub fn read_secrets_by(&self, secrets: Arc<dyn SecretSource>) {
        let _first_stays = self.inner.secrets.set(secrets);
    }

    /// Where the spans of calls go.
    pub fn traces(&self) -> &Traces {
        self.inner.series.traces()
    }

    /// Whether rotated refresh tokens can be kept.
    pub fn has_key(&self) -> bool {
        self.inner.vault.as_ref().is_some_and(Vault::has_key)
    }

    /// Calls `listener` on every change from now on. It must be quick and must not call back into the registry's
    /// `apply` or `remove`.
    pub fn on_change(&self, listener: impl Fn(&Change) + Send + Sync + 'static) {
        self.inner.listeners.add(listener);
    }

    /// Makes `settings` the ones in force for the object `key` with `uid`. `restore` is the circuit a former process
    /// left; it is only looked at when the connection is new here.
    pub fn apply(&self, key: &ObjectKey, uid: &str, settings: Settings, restore: Option<&Snapshot>) -> Arc<Live> {
        self.start(key, uid, settings, restore, None)
    }

    /// The same; a new connection also starts in the pause that its provider asked a former process for.
    pub fn start(
        &self,
        key: &ObjectKey,
        uid: &str,
        settings: Settings,
        restore: Option<&Snapshot>,
        paused_until: Option<Timestamp>,
    ) -> Arc<Live> {
        let _changing = self.inner.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let settings = Arc::new(settings);
        let existing = self.get(key).filter(|live| **live.uid() == *uid);
        if let Some(live) = existing {
            let old = live.read();
            if old.settings.revision() == settings.revision() {
                return live;
            }
            let same_auth = old.settings.verdict_revision() == settings.verdict_revision();
            let proof = if same_auth { old.proof } else { self.proof(&settings, live.core()) };
            let client = self.inner.clients.for_provider(&settings);
            live.replace(Running { settings, client, proof, licences: Arc::clone(&self.inner.licences) });
            self.inner.listeners.tell(&Change::Applied(key.clone()));
            return live;
        }
        let core = Core::new(
            key.clone(),
            self.inner.clock,
            Arc::clone(&self.inner.listeners),
            Arc::clone(&self.inner.series),
            &settings,
            restore,
        );
        // Before anybody can make a call.
        if let Some(until) = paused_until {
            core.pause_until(until);
        }
        let (client, proof) = (self.inner.clients.for_provider(&settings), self.proof(&settings, &core));
        let running = Running { settings, client, proof, licences: Arc::clone(&self.inner.licences) };
        let live = Arc::new(Live::new(Arc::from(uid), core, running));
        self.write(|map| map.insert(key.clone(), Arc::clone(&live)));
        self.inner.listeners.tell(&Change::Applied(key.clone()));
        live
    }

    /// The connection called `key`.
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<Live>> {
        self.inner.by_key.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// Forgets the connection. Calls under way end by themselves.
    pub fn remove(&self, key: &ObjectKey) -> Option<Arc<Live>> {
        let _changing = self.inner.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let removed = self.write(|map| map.remove(key))?;
        self.inner.listeners.tell(&Change::Removed(key.clone()));
        Some(removed)
    }

    /// All connections, sorted by name.
    pub fn list(&self) -> Vec<Arc<Live>> {
        self.inner.by_key.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// How many connections there are.
    pub fn len(&self) -> usize {
        self.inner.by_key.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The HTTP clients in use.
    pub fn clients(&self) -> &Clients {
        &self.inner.clients
    }

    fn proof(&self, settings: &Arc<Settings>, core: &Arc<Core>) -> Proof {
        let Inner { clients, vault, secrets, .. } = &*self.inner;
        let means = Means { clients, core, vault: vault.as_ref(), secrets: secrets.get() };
        auth::proof(settings, &means)
    }

    fn write<T>(&self, act: impl FnOnce(&mut BTreeMap<ObjectKey, Arc<Live>>) -> T) -> T {
        act(&mut self.inner.by_key.write().unwrap_or_else(PoisonError::into_inner))
    }
}
