//! The only writer of `status`.
//!
//! A write costs the API server the same whether it changes anything or not. So an unchanged status is not written, an
//! urgent change is written at once, any other transition at least [`MIN_WRITE_INTERVAL`] after the last write of the
//! same object, and ride-along fields alone (last and next times, counts, history) at most every
//! [`HasStatus::MIN_RIDE_ALONG_INTERVAL`]. While many objects are new, good news of the others waits.
//!
//! A write replaces the whole status by an update of `/status` without the spec, which the API server keeps
//! (docs/adr/0038): so fields that the status no longer has are removed, no matter who wrote them.
//!
//! A status that another field manager wrote ([`StatusOwnership`]) is overwritten, at most every
//! [`MIN_WRITE_INTERVAL`], so that two writers of one object cannot cause a write storm.

mod rollout;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Request;
use http::header::CONTENT_TYPE;
use kube::{Api, Client, ResourceExt};
use prometheus::IntCounterVec;
use serde::Serialize;

use crate::clock::Clock;
use crate::cluster::decode_guard::DecodeGuard;
use crate::cluster::lease::Leadership;
use crate::cluster::resource::{HasStatus, MIN_RIDE_ALONG_INTERVAL, version};
use crate::cluster::status_ownership::{StatusOwnership, WriteEcho};
use crate::cluster::stores::KindStore;
use crate::cluster::{ApiError, call};
use crate::domain::key::{Kind, ObjectKey};
use crate::domain::time::Mono;
use crate::metrics::{Metrics, MetricsError};

use self::rollout::{ROLLOUT_DELAY, Rollout};

/// The field manager of everything that Busbar writes.
pub const FIELD_MANAGER: &str = "busbar";
/// Minimum time between two writes of one object's status, unless the change is urgent.
pub const MIN_WRITE_INTERVAL: Duration = Duration::from_secs(5);
/// Attempts of one write that conflicts with a newer version of its object.
const MAX_ATTEMPTS: usize = 3;

/// When a status should be written.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Timing {
    /// Not at all: nothing changed.
    Unchanged,
    /// Now.
    Now,
    /// Not before this much time has passed.
    After(Duration),
}

/// When `new` should be written over `old`, given the time since this process last wrote the object's status (`None`:
/// never).
pub fn timing<K: HasStatus>(old: Option<&K::Status>, new: &K::Status, since_last: Option<Duration>) -> Timing {
    if old == Some(new) {
        return Timing::Unchanged;
    }
    let same_transitions = old.is_some_and(|old| K::transition_fields(old) == K::transition_fields(new));
    let interval = if same_transitions {
        K::MIN_RIDE_ALONG_INTERVAL
    } else if K::is_urgent(old, new) {
        Duration::ZERO
    } else {
        MIN_WRITE_INTERVAL
    };
    match since_last {
        Some(since) if since < interval => Timing::After(interval.saturating_sub(since)),
        _ => Timing::Now,
    }
}

/// The newest known status of an object, without a copy of it.
pub enum NewestStatus<'a, K: HasStatus> {
    /// That of the object itself.
    Given(&'a K),
    /// That of a newer object in the store.
    Stored(Arc<K>),
    /// The last write of this process, which the watch has not returned yet.
    Written(Arc<K::Status>),
}

impl<K: HasStatus> NewestStatus<'_, K> {
    /// The status; `None` if the object has none yet.
    pub fn get(&self) -> Option<&K::Status> {
        match self {
            Self::Given(object) => object.status(),
            Self::Stored(object) => object.status(),
            Self::Written(status) => Some(status),
        }
    }
}

/// The body of a status update: an object without its spec.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StatusUpdate<'a, S> {
    api_version: &'a str,
    kind: &'a str,
    metadata: Identity<'a>,
    status: &'a S,
}

/// Which object is updated.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Identity<'a> {
    name: &'a str,
    namespace: &'a str,
    uid: &'a str,
    resource_version: Option<String>,
}

/// The last write of one object's status by this process.
struct LastWrite {
    uid: String,
    at: Mono,
    /// When an overwritten foreign status was last logged.
    dispute_logged: Option<Mono>,
}

/// Metrics of status writes.
#[derive(Clone)]
pub struct StatusMetrics {
    writes: IntCounterVec,
    disputes: IntCounterVec,
}

impl StatusMetrics {
    /// Registers the metrics.
    pub fn new(metrics: &Metrics) -> Result<Self, MetricsError> {
        let kinds = Kind::ALL.map(|kind| [kind.as_str()]);
        let disputes = "Status writes that overwrote a status of another field manager, by kind.";
        Ok(Self {
            writes: metrics.counter("busbar_status_writes_total", "Status writes, by kind.", &["kind"])?,
            disputes: metrics.counter_from_zero("busbar_status_disputes_total", disputes, ["kind"], kinds)?,
        })
    }
}

/// What the status writers of all kinds share.
#[derive(Clone)]
pub struct StatusDeps {
    /// Client of the API server.
    pub client: Client,
    /// Source of time.
    pub clock: Clock,
    /// Whether this replica may write.
    pub leadership: Leadership,
    /// Counts the writes.
    pub metrics: StatusMetrics,
}

/// Writes the status of one kind.
pub struct StatusWriter<K: HasStatus> {
    deps: StatusDeps,
    started: Mono,
    last_writes: Mutex<HashMap<ObjectKey, LastWrite>>,
    rollout: Mutex<Rollout>,
    /// UID and version of objects after a write of this process to something else than their status.
    versions: Mutex<HashMap<ObjectKey, (String, u64)>>,
    store: KindStore<K>,
}

impl<K: HasStatus> StatusWriter<K> {
    /// A writer of the status of the objects in `store`.
    pub fn new(deps: StatusDeps, store: KindStore<K>) -> Self {
        let (started, rollout) = (deps.clock.mono(), Mutex::default());
        Self { started, deps, last_writes: Mutex::default(), rollout, versions: Mutex::default(), store }
    }

    /// Which statuses are this process's own; shared with the watches that fill the store.
    fn ownership(&self) -> &StatusOwnership<K::Status> {
        self.store.ownership()
    }

    /// The newest known status of `object`: this process's last write if the watch has not returned it yet.
    ///
    /// `object` may have been read from the store just before the watch returned that write; then the store is read
    /// again.
    pub fn current<'a>(&self, object: &'a K) -> NewestStatus<'a, K> {
        let key = object.key();
        let WriteEcho { pending, observed } = self.echo(object);
        // A status that another manager overwrote is in the store as it was before our last write.
        let disputed = self.ownership().is_disputed(&key);
        if let Some((_, status)) = pending.filter(|(written, _)| disputed || version(object) < *written) {
            return NewestStatus::Written(status);
        }
        let newer = (version(object) < observed).then(|| self.store.get(&key)).flatten();
        let newer = newer.filter(|newer| newer.meta().uid == object.meta().uid && version(&**newer) > version(object));
        newer.map_or(NewestStatus::Given(object), NewestStatus::Stored)
    }

    /// How far the watch is behind this process's writes to this object (not to another of the same name).
    fn echo(&self, object: &K) -> WriteEcho<K::Status> {
        let key = object.key();
        let last_writes = self.last_writes.lock().unwrap_or_else(PoisonError::into_inner);
        let same_object =
            last_writes.get(&key).is_some_and(|last| object.meta().uid.as_deref() == Some(last.uid.as_str()));
        drop(last_writes);
        if same_object { self.ownership().echo(&key) } else { WriteEcho::default() }
    }

    /// When `new` should be written, given the newest known status.
    pub fn timing(&self, object: &K, old: Option<&K::Status>, new: &K::Status) -> Timing {
        let now = self.deps.clock.mono();
        let last_writes = self.last_writes.lock().unwrap_or_else(PoisonError::into_inner);
        if self.ownership().is_disputed(&object.key()) {
            let since = last_writes.get(&object.key()).map_or(MIN_WRITE_INTERVAL, |last| now.since(last.at));
            return if since < MIN_WRITE_INTERVAL {
                Timing::After(MIN_WRITE_INTERVAL.saturating_sub(since))
            } else {
                Timing::Now
            };
        }
        let since = match last_writes.get(&object.key()) {
            Some(last) if object.meta().uid.as_deref() == Some(last.uid.as_str()) => Some(now.since(last.at)),
            // A restart is no reason to write the ride-along fields of every object at once.
            _ => old
                .is_some_and(|old| K::transition_fields(old) == K::transition_fields(new))
                .then(|| now.since(self.started)),
        };
        let timing = timing::<K>(old, new, since);
        let mut rollout = self.rollout.lock().unwrap_or_else(PoisonError::into_inner);
        match (timing, since) {
            (Timing::Now, None) => rollout.add(now),
            (Timing::Now, Some(since))
                if since < ROLLOUT_DELAY && old.is_some_and(|old| K::may_wait(old, new)) && rollout.is_running(now) =>
            {
                return Timing::After(ROLLOUT_DELAY.saturating_sub(since));
            }
            _ => {}
        }
        timing
    }

    /// Adopts `status`, as read from the API server, because it needs no write.
    pub fn adopt(&self, object: &K, status: Option<&K::Status>) {
        self.ownership().adopt(&object.key(), status);
    }

    /// Replaces the status of `object` by `status`.
    ///
    /// # Errors
    /// A conflict if the object was replaced by another of the same name; not found if it was deleted; or
    /// [`ApiError::NotLeading`] if this replica is no longer the leader, and nothing was written.
    pub async fn write(&self, object: &K, status: &K::Status) -> Result<(), ApiError> {
        let key = object.key();
        let uid = object.uid().unwrap_or_default();
        let disputed = self.ownership().is_disputed(&key);
        let _permit = self.deps.leadership.write_permit(self.deps.clock.mono())?;
        self.ownership().begin_write(&key, status);
        let written = self.replace(object, &key, &uid, status).await?;
        self.deps.metrics.writes.with_label_values(&[K::KIND.as_str()]).inc();
        match &written.0 {
            Ok(object) => self.ownership().record_write(&key, object.status()),
            Err(_) => self.ownership().record_write(&key, Some(status)),
        }
        self.record_write(&key, uid, disputed);
        self.ownership().expect_echo(&key, version(&written), Arc::new(status.clone()));
        Ok(())
    }

    /// Replaces the status of this object, whatever its current version. The response is guarded: the object's new
    /// content may not decode, and its status is still ours.
    ///
    /// Two preconditions: the UID, because a status of a deleted object must not be written to its successor of the same
    /// name, and the resource version, which an update requires. After a conflict the current version is read.
    async fn replace(
        &self,
        object: &K,
        key: &ObjectKey,
        uid: &str,
        status: &K::Status,
    ) -> Result<DecodeGuard<K>, ApiError> {
        let api: Api<DecodeGuard<K>> = Api::namespaced(self.deps.client.clone(), &key.namespace);
        // Strict: a field that an older definition does not have would be dropped, and written again and again.
        let uri =
            format!("{}/{}/status?fieldManager={FIELD_MANAGER}&fieldValidation=Strict", api.resource_url(), key.name);
        let (api_version, kind) = (K::api_version(&()), K::kind(&()));
        let mut resource_version = self.newest_version(object);
        let mut attempts = 0;
        loop {
            let metadata = Identity { name: &key.name, namespace: &key.namespace, uid, resource_version };
            let update = StatusUpdate { api_version: &api_version, kind: &kind, metadata, status };
            let body = serde_json::to_vec(&update).map_err(kube::Error::SerdeError)?;
            // The name of the client's span.
            let request = Request::put(&uri).extension("replace_status");
            let request = request.header(CONTENT_TYPE, "application/json").body(body);
            let request = request.map_err(kube::Error::HttpError)?;
            attempts += 1;
            let conflict = match call(self.deps.client.request(request)).await {
                Err(error) if error.is_conflict() && attempts < MAX_ATTEMPTS => error,
                result => return result,
            };
            let now = call(api.get_metadata_opt(&key.name)).await?;
            let Some(now) = now.filter(|now| now.uid().as_deref() == Some(uid)) else { return Err(conflict) };
            resource_version = now.resource_version();
        }
    }

    /// Notes that this process has written the object, as `version`, other than its status: a status based on the
    /// watched object would conflict with that.
    pub fn note_version(&self, object: &K, version: u64) {
        let noted = (object.uid().unwrap_or_default(), version);
        self.versions.lock().unwrap_or_else(PoisonError::into_inner).insert(object.key(), noted);
    }

    /// The newest known version of `object`, which may come from a write of this process.
    fn newest_version(&self, object: &K) -> Option<String> {
        let WriteEcho { pending, observed } = self.echo(object);
        let written = pending.map_or(observed, |(written, _)| written).max(self.noted_version(object));
        let written = Some(written).filter(|written| *written > version(object) && *written != u64::MAX);
        written.map(|written| written.to_string()).or_else(|| object.resource_version())
    }

    /// The noted version of `object`; dropped once the watch has returned it.
    fn noted_version(&self, object: &K) -> u64 {
        let (key, mut versions) = (object.key(), self.versions.lock().unwrap_or_else(PoisonError::into_inner));
        let Some((uid, noted)) = versions.get(&key) else { return 0 };
        if object.meta().uid.as_deref() == Some(uid.as_str()) && version(object) < *noted {
            return *noted;
        }
        versions.remove(&key);
        0
    }

    fn record_write(&self, key: &ObjectKey, uid: String, disputed: bool) {
        let at = self.deps.clock.mono();
        let mut last_writes = self.last_writes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut dispute_logged =
            last_writes.get(key).filter(|last| last.uid == uid).and_then(|last| last.dispute_logged);
        if disputed {
            let kind = K::KIND.as_str();
            self.deps.metrics.disputes.with_label_values(&[kind]).inc();
            if dispute_logged.is_none_or(|logged| at.since(logged) >= MIN_RIDE_ALONG_INTERVAL) {
                dispute_logged = Some(at);
                tracing::warn!(
                    kind, namespace = %key.namespace, name = %key.name,
                    "status was changed by another field manager; overwritten (see metadata.managedFields)"
                );
            }
        }
        last_writes.insert(key.clone(), LastWrite { uid, at, dispute_logged });
    }

    /// Forgets a deleted object.
    pub fn forget(&self, key: &ObjectKey) {
        self.last_writes.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        self.versions.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

#[cfg(test)]
mod tests;
