//! The only writer of `status`.
//!
//! A write costs the API server the same whether it changes something or not, so nothing is written that is there
//! already, a worse state goes out at once, any other transition at least [`SPACING`] after the last write of the same
//! object, and what only rides along (times of last and next, counts, history) alone at most every [`QUIET`]. The whole
//! status is applied server-side under one field manager, so a field that is no longer said goes away.
//!
//! A status that somebody else wrote ([`Claims`]) is written again, at most every [`SPACING`]: two that fight over an
//! object must not become a storm. What they added is taken out too.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use prometheus::IntCounterVec;
use serde::Serialize;
use serde_json::json;

use crate::clock::Clock;
use crate::cluster::claims::{self, Awaited, Claims};
use crate::cluster::guard::Guarded;
use crate::cluster::lease::Leadership;
use crate::cluster::stores::{KindStore, Watched};
use crate::cluster::{ApiError, call};
use crate::domain::key::ObjectKey;
use crate::domain::time::Mono;
use crate::metrics::{Metrics, MetricsError};

/// The name under which Busbar owns fields.
pub const FIELD_MANAGER: &str = "busbar";
/// Least time between two writes of one object's status, unless it got worse.
pub const SPACING: Duration = Duration::from_secs(5);
/// How often a write is tried that meets a newer version of its object.
const TRIES: usize = 3;
/// Least time between two writes that carry nothing but ride-along fields.
pub const QUIET: Duration = Duration::from_mins(10);

/// A kind whose status Busbar writes.
pub trait Reported: Watched + Serialize {
    /// Its status.
    type Status: Clone + PartialEq + Serialize + Send + Sync + 'static;

    /// The status as last seen on the API server.
    fn status(&self) -> Option<&Self::Status>;

    /// The same, to be changed.
    fn status_mut(&mut self) -> &mut Option<Self::Status>;

    /// The status without what only rides along: two that are equal here differ in nothing a user must hear of soon.
    fn transitions(status: &Self::Status) -> Self::Status;

    /// Whether going from `old` to `new` is news that must not wait.
    fn is_worse(old: Option<&Self::Status>, new: &Self::Status) -> bool;
}

/// When a status should be written.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Timing {
    /// Nothing to write.
    Unchanged,
    /// Now.
    Now,
    /// Not before this much time has passed.
    In(Duration),
}

/// When `new` should be written over `old`, given how long ago this object's status was last written (`None`: not by
/// this process).
pub fn timing<K: Reported>(old: Option<&K::Status>, new: &K::Status, since_last: Option<Duration>) -> Timing {
    if old == Some(new) {
        return Timing::Unchanged;
    }
    let same_transitions = old.is_some_and(|old| K::transitions(old) == K::transitions(new));
    let least = if same_transitions {
        QUIET
    } else if K::is_worse(old, new) {
        Duration::ZERO
    } else {
        SPACING
    };
    match since_last {
        Some(since) if since < least => Timing::In(least.saturating_sub(since)),
        _ => Timing::Now,
    }
}

struct Memory {
    uid: String,
    at: Mono,
    /// When somebody else's words were last overwritten, and said so.
    told: Option<Mono>,
}

/// Series about writes of status.
#[derive(Clone)]
pub struct StatusMetrics {
    writes: IntCounterVec,
    disputes: IntCounterVec,
}

impl StatusMetrics {
    /// Registers the series.
    pub fn new(metrics: &Metrics) -> Result<Self, MetricsError> {
        let disputes = "Writes of status over what somebody else had written there, by kind.";
        Ok(Self {
            writes: metrics.counter("busbar_status_writes_total", "Writes of status, by kind.", &["kind"])?,
            disputes: metrics.counter("busbar_status_disputes_total", disputes, &["kind"])?,
        })
    }
}

/// Writes the status of one kind.
pub struct StatusWriter<K: Reported> {
    client: Client,
    clock: Clock,
    leadership: Leadership,
    started: Mono,
    claims: Arc<Claims>,
    metrics: StatusMetrics,
    memory: Mutex<HashMap<ObjectKey, Memory>>,
    store: KindStore<K>,
}

impl<K: Reported> StatusWriter<K> {
    /// A writer that tells the watches, which fill `store`, through `claims` what it wrote.
    pub fn new(
        client: Client,
        clock: Clock,
        leadership: Leadership,
        claims: Arc<Claims>,
        metrics: StatusMetrics,
        store: KindStore<K>,
    ) -> Self {
        Self { client, clock, leadership, started: clock.mono(), claims, metrics, memory: Mutex::default(), store }
    }

    /// The newest status known of `object`: what this process wrote last if the watch has not brought it back yet.
    ///
    /// `object` may have been taken from the store a moment before the watch brought that back: the store is asked again then.
    pub fn current(&self, object: &K) -> Option<Arc<K::Status>> {
        let key = object.key();
        let (awaited, back) = self.awaited(object);
        // One that others wrote over is in the store as it was before.
        let disputed = self.claims.disputed(K::KIND, &key);
        if let Some((_, status)) = awaited.filter(|(written, _)| disputed || version(object) < *written) {
            return Some(status);
        }
        let newer = (version(object) < back).then(|| self.store.get(&key)).flatten();
        let newer = newer.filter(|newer| newer.uid() == object.uid() && version(&**newer) > version(object));
        newer.as_deref().unwrap_or(object).status().cloned().map(Arc::new)
    }

    /// What this process wrote to this very object and the watch has not brought back, and what it has.
    fn awaited(&self, object: &K) -> Awaited<K::Status> {
        let key = object.key();
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let same_object = memory.get(&key).is_some_and(|entry| object.uid().as_deref() == Some(entry.uid.as_str()));
        drop(memory);
        if same_object { self.claims.awaited(K::KIND, &key) } else { (None, 0) }
    }

    /// When `new` is due, given the newest status known.
    pub fn timing(&self, object: &K, old: Option<&K::Status>, new: &K::Status) -> Timing {
        let now = self.clock.mono();
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        if self.claims.disputed(K::KIND, &object.key()) {
            let since = memory.get(&object.key()).map_or(SPACING, |entry| now.since(entry.at));
            return if since < SPACING { Timing::In(SPACING.saturating_sub(since)) } else { Timing::Now };
        }
        let since = match memory.get(&object.key()) {
            Some(entry) if object.uid().as_deref() == Some(entry.uid.as_str()) => Some(now.since(entry.at)),
            // A restart is no reason to write ride-along fields of every object at once.
            _ => old.is_some_and(|old| K::transitions(old) == K::transitions(new)).then(|| now.since(self.started)),
        };
        timing::<K>(old, new, since)
    }

    /// Notes that `status`, as the API server has it, needs no write.
    pub fn found(&self, object: &K, status: Option<&K::Status>) {
        self.claims.found(K::KIND, &object.key(), status);
    }

    /// Applies `status` to `object`.
    ///
    /// # Errors
    /// A conflict if the object was replaced by another of the same name; not found if it is gone; or that this replica
    /// does not lead any more, and nothing was written.
    pub async fn write(&self, object: &K, status: &K::Status) -> Result<(), ApiError> {
        let key = object.key();
        let uid = object.uid().unwrap_or_default();
        let disputed = self.claims.disputed(K::KIND, &key);
        let _leave = self.leadership.leave(self.clock.mono())?;
        self.claims.sending(K::KIND, &key, status);
        // Guarded: what the object has become since it was last read may be beyond our types, and its status is ours.
        let api: Api<Guarded<K>> = Api::namespaced(self.client.clone(), &key.namespace);
        let mut applied = self.apply(&api, object, &uid, status).await?;
        self.metrics.writes.with_label_values(&[K::KIND.as_str()]).inc();
        if let Some(surplus) = applied.0.as_ref().ok().and_then(|a| claims::surplus(&json!(a.status()), &json!(status)))
        {
            let version = applied.resource_version();
            let body = json!({ "metadata": { "uid": uid, "resourceVersion": version }, "status": surplus });
            let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
            let _leave = self.leadership.leave(self.clock.mono())?;
            applied = call(api.patch_status(&key.name, &params, &Patch::Merge(&body))).await?;
        }
        match &applied.0 {
            Ok(object) => self.claims.wrote(K::KIND, &key, object.status()),
            Err(_) => self.claims.wrote(K::KIND, &key, Some(status)),
        }
        self.note(&key, uid, disputed);
        self.claims.keep(K::KIND, &key, version(&applied), Arc::new(status.clone()));
        Ok(())
    }

    /// Applies `status` to this very object, whatever its version is by now.
    ///
    /// The API server reads no UID in what is written to a status: a status of an object that is no more would end up on
    /// its successor of the same name. So the version is the guard, and a conflict is followed by a look at whose it is.
    async fn apply(
        &self,
        api: &Api<Guarded<K>>,
        object: &K,
        uid: &str,
        status: &K::Status,
    ) -> Result<Guarded<K>, ApiError> {
        let name = object.name_any();
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let mut version = self.newest(object);
        let mut tried = 0;
        loop {
            let body = json!({
                "apiVersion": K::api_version(&()),
                "kind": K::kind(&()),
                "metadata": { "name": name, "uid": uid, "resourceVersion": version },
                "status": status,
            });
            tried += 1;
            let conflict = match call(api.patch_status(&name, &params, &Patch::Apply(&body))).await {
                Err(error) if error.is_conflict() && tried < TRIES => error,
                end => return end,
            };
            let now = call(api.get_metadata_opt(&name)).await?;
            let Some(now) = now.filter(|now| now.uid().as_deref() == Some(uid)) else { return Err(conflict) };
            version = now.resource_version();
        }
    }

    /// The newest version of `object` that is known here: what a write of this process made of it, perhaps.
    fn newest(&self, object: &K) -> Option<String> {
        let (awaited, back) = self.awaited(object);
        let ours = awaited.map_or(back, |(written, _)| written);
        let ours = Some(ours).filter(|written| *written > version(object) && *written != u64::MAX);
        ours.map(|written| written.to_string()).or_else(|| object.resource_version())
    }

    fn note(&self, key: &ObjectKey, uid: String, disputed: bool) {
        let at = self.clock.mono();
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let mut told = memory.get(key).filter(|entry| entry.uid == uid).and_then(|entry| entry.told);
        if disputed {
            let kind = K::KIND.as_str();
            self.metrics.disputes.with_label_values(&[kind]).inc();
            if told.is_none_or(|told| at.since(told) >= QUIET) {
                told = Some(at);
                tracing::warn!(
                    kind, namespace = %key.namespace, name = %key.name,
                    "somebody else had written the status; it is Busbar's again (its managedFields name who)"
                );
            }
        }
        memory.insert(key.clone(), Memory { uid, at, told });
    }

    /// Forgets an object that is gone.
    pub fn forget(&self, key: &ObjectKey) {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

/// The object's version as a number. Versions of one resource are comparable decimal numbers; anything else counts as
/// newest, which errs towards believing the API server.
pub(super) fn version(object: &impl ResourceExt) -> u64 {
    object.resource_version().and_then(|v| v.parse().ok()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
