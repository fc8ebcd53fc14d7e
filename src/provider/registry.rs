//! The registry of running connections, by name: the runtime form of the custom resources.
//!
//! Applying the same settings again changes nothing. Changed settings keep the circuit, the health and the counters;
//! they keep the verification unless the verified part changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use crate::clock::Clock;
use crate::domain::key::ObjectKey;
use crate::ledger::Ledger;
use crate::ledger::quotas::QuotaOwner;
use crate::metrics::{Metrics, MetricsError};
use crate::notify::{KeyQueue, Topic};
use crate::provider::auth::authenticator::{AuthDeps, Authenticator};
use crate::provider::auth::refresh_token_store::RefreshTokenStore;
use crate::provider::auth::secret_source::SecretSource;
use crate::provider::bulkhead_limit::DEFAULT_LIMIT;
use crate::provider::cache_budget::{CacheBudget, MAX_TOTAL};
use crate::provider::call_resources::CallResources;
use crate::provider::collector::ConnectionCollector;
use crate::provider::connection::Connection;
use crate::provider::day_quota::DayQuotas;
use crate::provider::dns::DnsResolver;
use crate::provider::http_clients::HttpClients;
use crate::provider::legacy_collector::LegacyCircuitCollector;
use crate::provider::legacy_metrics::{LegacyMetricSet, LegacyMetrics};
use crate::provider::memory::{MemoryBudget, MemoryLimits};
use crate::provider::metrics::ProviderMetrics;
use crate::provider::monitor::ConnectionMonitor;
use crate::provider::restore::Restore;
use crate::provider::rights::LicenceMeter;
use crate::provider::stack::Pipeline;
use crate::settings::Settings;
use crate::settings::addresses::AddressRules;
use crate::tasks::TaskGroup;
use crate::telemetry::traces::Traces;

/// The running connections. Clones share them.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

/// What a registry depends on, all optional.
#[derive(Clone, Default)]
pub struct RegistryOptions {
    /// The addresses that may be connected to; by default public addresses only.
    pub addresses: AddressRules,
    /// Stores rotated refresh tokens; without it no connection may use a refresh token.
    pub refresh_tokens: Option<RefreshTokenStore>,
    /// Writes the audit log and counts daily requests; without it rights are checked and nothing is written.
    pub licence_meter: Option<Arc<LicenceMeter>>,
    /// Counts the requests of daily limits; without it a restart grants a day's requests again.
    pub day_quotas: Option<Arc<dyn Ledger>>,
    /// The tracer for calls; by default none.
    pub traces: Traces,
    /// The legacy metric sets to serve in addition.
    pub legacy_metrics: BTreeSet<LegacyMetricSet>,
    /// Where calls and token refreshes that outlive their caller run; by default a group that no shutdown waits for.
    pub tasks: TaskGroup,
    /// Calls of one connection's callers that may be in flight; by default [`DEFAULT_LIMIT`].
    pub calls_per_connection: Option<u16>,
    /// The memory for responses.
    pub memory: MemoryLimits,
}

impl RegistryOptions {
    /// Also allows loopback addresses: for tests and benches.
    pub fn allowing_loopback() -> Self {
        Self { addresses: AddressRules::with_loopback(), ..Self::default() }
    }
}

struct Inner {
    clock: Clock,
    clients: HttpClients,
    refresh_tokens: Option<RefreshTokenStore>,
    secrets: OnceLock<Arc<dyn SecretSource>>,
    metrics: Arc<ProviderMetrics>,
    licence_meter: Arc<LicenceMeter>,
    day_quotas: Option<DayQuotas>,
    resources: CallResources,
    /// Connections that were applied or removed, or changed in something that a status shows.
    changes: Arc<Topic<ObjectKey>>,
    removals: Topic<ObjectKey>,
    by_key: RwLock<BTreeMap<ObjectKey, Arc<Connection>>>,
    /// Serializes apply and remove, so that two of them for one key never interleave.
    apply_lock: Mutex<()>,
}

impl Registry {
    /// An empty registry that registers its metrics in `metrics`.
    pub fn new(clock: Clock, metrics: &Metrics, options: RegistryOptions) -> Result<Self, MetricsError> {
        let legacy = LegacyMetrics::new(metrics, &options.legacy_metrics)?;
        let memory = MemoryBudget::new(options.memory, options.tasks.clone(), metrics)?;
        let bulkhead_limit = options.calls_per_connection.unwrap_or(DEFAULT_LIMIT).max(1).into();
        let provider_metrics = Arc::new(ProviderMetrics::new(metrics, options.traces, legacy)?);
        provider_metrics.set_bulkhead_limit(bulkhead_limit);
        let cache_budget = Arc::new(CacheBudget::new(MAX_TOTAL, provider_metrics.cache_bytes().clone()));
        let day_quotas = options.day_quotas.map(|ledger| DayQuotas::new(ledger, clock, metrics)).transpose()?;
        let resolver = DnsResolver::system(clock, options.tasks.clone(), metrics)?;
        let inner = Arc::new(Inner {
            clock,
            clients: HttpClients::new(options.addresses).with_resolver(resolver),
            refresh_tokens: options.refresh_tokens,
            secrets: OnceLock::new(),
            metrics: provider_metrics,
            licence_meter: options.licence_meter.unwrap_or_else(|| Arc::new(LicenceMeter::without_ledger(clock))),
            day_quotas,
            resources: CallResources { tasks: options.tasks, bulkhead_limit, cache_budget, memory },
            changes: Arc::default(),
            removals: Topic::default(),
            by_key: RwLock::default(),
            apply_lock: Mutex::new(()),
        });
        let registry = Self { inner };
        let weak = Arc::downgrade(&registry.inner);
        let list = move || weak.upgrade().map(|inner| Self { inner }.list()).unwrap_or_default();
        if !options.legacy_metrics.is_empty() {
            metrics.batch_collector(LegacyCircuitCollector { enabled: options.legacy_metrics, list: list.clone() });
        }
        metrics.batch_collector(ConnectionCollector(list));
        Ok(registry)
    }

    /// Reads Secrets through `secrets` when a credential is refused. Only the first call has an effect.
    pub fn set_secret_source(&self, secrets: Arc<dyn SecretSource>) {
        let _first_wins = self.inner.secrets.set(secrets);
    }

    /// The tracer for calls.
    pub fn traces(&self) -> &Traces {
        self.inner.metrics.traces()
    }

    /// Where calls and what else outlives its caller run.
    pub fn tasks(&self) -> &TaskGroup {
        &self.inner.resources.tasks
    }

    /// Whether rotated refresh tokens can be stored.
    pub fn can_store_refresh_tokens(&self) -> bool {
        self.inner.refresh_tokens.as_ref().is_some_and(RefreshTokenStore::has_key)
    }

    /// The keys of connections that change from now on: new settings are in force, the connection was removed, or
    /// something that a status shows has changed (circuit, health, verification, credentials, rate limit). Read the
    /// state with [`get`](Self::get).
    pub fn subscribe_changes(&self) -> Arc<KeyQueue<ObjectKey>> {
        self.inner.changes.subscribe()
    }

    /// Publishes a change of the connection named `key` that its own state does not hold, such as an external prediction.
    pub(crate) fn publish_change(&self, key: &ObjectKey) {
        self.inner.changes.publish(key);
    }

    /// The keys of connections that are removed from now on.
    pub fn subscribe_removals(&self) -> Arc<KeyQueue<ObjectKey>> {
        self.inner.removals.subscribe()
    }

    /// Puts `settings` in force for the object `key` with `uid`. `restore` is what a former process stored; it is used
    /// only for a connection that is new in this registry.
    pub fn apply(
        &self,
        key: &ObjectKey,
        uid: &str,
        settings: impl Into<Arc<Settings>>,
        restore: Option<Restore>,
    ) -> Arc<Connection> {
        let _guard = self.inner.apply_lock.lock().unwrap_or_else(PoisonError::into_inner);
        let settings = settings.into();
        let existing = self.get(key).filter(|connection| **connection.uid() == *uid);
        if let Some(connection) = existing {
            let old = connection.pipeline();
            if old.settings.revision() == settings.revision() {
                return connection;
            }
            // By value and not by revision: tokens of one endpoint are never kept for another.
            let authenticator = if old.settings.same_authentication(&settings) {
                old.authenticator.credentials.reconfigure(&settings);
                old.authenticator
            } else {
                self.authenticator(&settings, connection.monitor())
            };
            let memory = old.memory.fitting(settings.profile().max_response_bytes);
            connection.replace(Pipeline {
                settings,
                authenticator,
                licence_meter: Arc::clone(&self.inner.licence_meter),
                memory,
            });
            self.inner.changes.publish(key);
            return connection;
        }
        self.inner.metrics.add_provider(settings.provider());
        let monitor = ConnectionMonitor::new(
            key.clone(),
            self.inner.clock,
            Arc::clone(&self.inner.changes),
            Arc::clone(&self.inner.metrics),
            self.inner.resources.clone(),
            &settings,
            &restore.unwrap_or_default(),
        );
        if let Some(day_quotas) = &self.inner.day_quotas {
            monitor.set_day_quota(day_quotas.of(QuotaOwner { connection: key.clone(), uid: uid.to_owned() }));
        }
        let authenticator = self.authenticator(&settings, &monitor);
        let memory = self.inner.resources.memory.connection(&key.namespace, settings.profile().max_response_bytes);
        let licence_meter = Arc::clone(&self.inner.licence_meter);
        let pipeline = Pipeline { settings, authenticator, licence_meter, memory };
        let connection = Arc::new(Connection::new(Arc::from(uid), monitor, pipeline));
        if let Some(replaced) = self.write(|map| map.insert(key.clone(), Arc::clone(&connection))) {
            replaced.end();
        }
        self.inner.changes.publish(key);
        connection
    }

    /// The connection named `key`.
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<Connection>> {
        self.inner.by_key.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// Removes the connection. Requests in flight run to their end; no further one is sent, also for callers that still
    /// hold it.
    pub fn remove(&self, key: &ObjectKey) -> Option<Arc<Connection>> {
        self.remove_if(key, |_| true)
    }

    /// Removes the connection if it is that of the object with `uid`, not of another one of the same name.
    pub fn remove_object(&self, key: &ObjectKey, uid: &str) -> Option<Arc<Connection>> {
        self.remove_if(key, |connection| **connection.uid() == *uid)
    }

    fn remove_if(&self, key: &ObjectKey, matches: impl FnOnce(&Connection) -> bool) -> Option<Arc<Connection>> {
        let _guard = self.inner.apply_lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.get(key).filter(|connection| matches(connection))?;
        let removed = self.write(|map| map.remove(key))?;
        removed.end();
        self.inner.changes.publish(key);
        self.inner.removals.publish(key);
        Some(removed)
    }

    /// All connections, sorted by name.
    pub fn list(&self) -> Vec<Arc<Connection>> {
        self.inner.by_key.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// The number of connections.
    pub fn len(&self) -> usize {
        self.inner.by_key.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether there are no connections.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The HTTP clients in use.
    pub fn clients(&self) -> &HttpClients {
        &self.inner.clients
    }

    fn authenticator(&self, settings: &Arc<Settings>, monitor: &Arc<ConnectionMonitor>) -> Authenticator {
        let Inner { clients, refresh_tokens, secrets, .. } = &*self.inner;
        let deps = AuthDeps { clients, monitor, refresh_tokens: refresh_tokens.as_ref(), secrets: secrets.get() };
        Authenticator::new(settings, &deps)
    }

    fn write<T>(&self, act: impl FnOnce(&mut BTreeMap<ObjectKey, Arc<Connection>>) -> T) -> T {
        act(&mut self.inner.by_key.write().unwrap_or_else(PoisonError::into_inner))
    }
}
