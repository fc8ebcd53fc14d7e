//! Asks the API server whether an object is still what the store says, with few requests for many objects.
//!
//! One list request that selects an object by its name answers for that object, and its resource version says up to where
//! the answer is current. Another caller whose question was there before that request needs none of its own: once the
//! watch has delivered an event at or after that version, the store is at least as current as the answer. Versions of
//! one kind are ordered (Kubernetes 1.35, KEP-5504). While the watch is silent, each caller asks for itself.

use std::marker::PhantomData;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::api::{ListParams, ObjectMeta};
use kube::{Api, Client};

use crate::clock::Clock;
use crate::cluster::resource::HasStatus;
use crate::cluster::stores::KindStore;
use crate::cluster::watched_version::WatchedVersion;
use crate::cluster::{ApiError, CALL_TIMEOUT, call};
use crate::domain::key::ObjectKey;
use crate::domain::time::Mono;

/// How long a caller waits for an event of the watch before it asks for itself.
const EVENT_WAIT: Duration = Duration::from_millis(50);
/// How long no caller waits again after the watch was silent for one.
const SILENCE: Duration = Duration::from_secs(1);

/// Checks objects of one kind against the API server.
pub struct ObjectCheck<K> {
    client: Client,
    clock: Clock,
    kind: PhantomData<fn() -> K>,
    /// Held while one caller asks: those that arrive meanwhile share the next answer.
    asking: tokio::sync::Mutex<()>,
    shared: Mutex<Shared>,
}

/// What the callers share.
#[derive(Default)]
struct Shared {
    /// Number of questions and requests so far: their order, however coarse the clock is.
    order: u64,
    /// The newest answer: when its request started, and the resource version it is current up to.
    answer: Option<Answer>,
    /// Until when no caller waits for events.
    silent_until: Mono,
}

#[derive(Copy, Clone)]
struct Answer {
    started: u64,
    version: u64,
}

impl<K: HasStatus> ObjectCheck<K> {
    /// A check that asks through `client`.
    pub fn new(client: Client, clock: Clock) -> Self {
        Self { client, clock, kind: PhantomData, asking: tokio::sync::Mutex::default(), shared: Mutex::default() }
    }

    /// Whether the API server, at some moment after this call, still had an object at `key` that `matches`, as the object
    /// in `store` does.
    ///
    /// # Errors
    /// Those of the API server.
    pub async fn is_current(
        &self,
        store: &KindStore<K>,
        key: &ObjectKey,
        matches: impl Fn(&ObjectMeta) -> bool,
    ) -> Result<bool, ApiError> {
        let is_stored = || store.get(key).is_some_and(|stored| matches(stored.meta()));
        // The store is asked first, because that costs nothing.
        if !is_stored() {
            return Ok(false);
        }
        let question = self.next_in_order();
        let Some(watched) = store.watched_version(&key.namespace) else { return self.ask(key, &matches).await };
        {
            // Not longer than for a request of its own: while the API server hangs, those in front wait one by one.
            let turn = tokio::time::timeout(CALL_TIMEOUT, self.asking.lock()).await;
            let _asking = turn.map_err(|_| ApiError::Timeout)?;
            if self.answer_to(question).is_none() {
                return self.ask(key, &matches).await;
            }
        }
        if self.is_watch_ahead(question, watched).await {
            return Ok(is_stored());
        }
        self.ask(key, &matches).await
    }

    /// Asks for one object, and shares how current the answer is.
    async fn ask(&self, key: &ObjectKey, matches: &impl Fn(&ObjectMeta) -> bool) -> Result<bool, ApiError> {
        let started = self.next_in_order();
        let api: Api<K> = Api::namespaced(self.client.clone(), &key.namespace);
        let named = ListParams::default().fields(&format!("metadata.name={}", key.name));
        let list = call(api.list_metadata(&named)).await?;
        if let Some(version) = list.metadata.resource_version.as_deref().and_then(|version| version.parse().ok()) {
            let mut shared = self.shared();
            if shared.answer.is_none_or(|answer| answer.started < started) {
                shared.answer = Some(Answer { started, version });
            }
        }
        Ok(list.items.iter().any(|found| matches(&found.metadata)))
    }

    /// The resource version of an answer to a request that started after `question`.
    fn answer_to(&self, question: u64) -> Option<u64> {
        self.shared().answer.filter(|answer| answer.started > question).map(|answer| answer.version)
    }

    /// Whether the store is soon at least as current as an answer to `question`.
    async fn is_watch_ahead(&self, question: u64, watched: &WatchedVersion) -> bool {
        let Some(version) = self.answer_to(question) else { return false };
        if self.clock.mono() < self.shared().silent_until {
            return watched.has_reached(version);
        }
        if tokio::time::timeout(EVENT_WAIT, watched.reach(version)).await.is_ok() {
            return true;
        }
        self.shared().silent_until = self.clock.mono() + SILENCE;
        false
    }

    fn next_in_order(&self) -> u64 {
        let mut shared = self.shared();
        shared.order += 1;
        shared.order
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
