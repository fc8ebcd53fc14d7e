//! Fills one store from one watch, for as long as the process lives.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use kube::runtime::reflector::{ObjectRef, Store, store::Writer};
use kube::runtime::watcher;
use kube::runtime::watcher::Event;
use kube::{Api, ResourceExt as _};

use crate::cluster::change_filter::{ChangeFilter, ChangeKind};
use crate::cluster::decode_guard::{DecodeGuard, Undecodable};
use crate::cluster::describe;
use crate::cluster::resource::{HasStatus, ObjectChange, ReflectorDeps, version};
use crate::cluster::status_ownership::{Origin, StatusOwnership};
use crate::cluster::watch_monitor::WatchProgress;
use crate::cluster::watched_version::WatchedVersion;
use crate::domain::backoff::Backoff;
use crate::domain::key::ObjectKey;

/// Backoff between attempts to open a watch, with full jitter; reset once it is open. Capped so that a recovered API
/// server is noticed within ten seconds.
const RECONNECT_BACKOFF: Backoff = Backoff { base: Duration::from_millis(400), max: Duration::from_secs(10) };
/// An outage of a watch on which nothing happens is over after this long without a failure. Not at the first success:
/// while requests fail now and then, every second failure would be logged.
const OUTAGE_OVER_AFTER: Duration = Duration::from_mins(1);

/// Why a watch ended.
struct WatchFailure {
    message: String,
    /// Whether the API server no longer has the events since the watch was last open (410 Gone).
    expired: bool,
    /// When the API server wants to be asked again, if it says so: right after a CRD was applied its storage is
    /// "(re)initializing" for a moment.
    retry_after: Option<Duration>,
}

impl WatchFailure {
    /// Delay before the next attempt; `attempt` counts those before.
    fn delay(&self, attempt: u32, random: u64) -> Duration {
        let backoff = RECONNECT_BACKOFF.delay(attempt, random);
        self.retry_after.map_or(backoff, |after| after.min(RECONNECT_BACKOFF.max))
    }
}

impl From<watcher::Error> for WatchFailure {
    fn from(error: watcher::Error) -> Self {
        let error = match error {
            watcher::Error::WatchError(status) => kube::Error::Api(status),
            watcher::Error::InitialListFailed(error)
            | watcher::Error::WatchStartFailed(error)
            | watcher::Error::WatchFailed(error) => error,
            other @ watcher::Error::NoResourceVersion => {
                return Self { message: other.to_string(), expired: false, retry_after: None };
            }
        };
        let status = if let kube::Error::Api(status) = &error { Some(status) } else { None };
        let hint = match status.map(|status| status.code) {
            Some(NOT_FOUND) => "; if the custom resource definition was deleted, apply the files in crds/",
            Some(FORBIDDEN) => "; grant the operator the rights in config/rbac/",
            _ => "",
        };
        let after = status.and_then(|status| status.details.as_ref()).map_or(0, |details| details.retry_after_seconds);
        Self {
            message: format!("{}{hint}", describe(&error)),
            expired: status.is_some_and(|status| status.code == GONE),
            retry_after: (after > 0).then(|| Duration::from_secs(after.into())),
        }
    }
}

impl std::fmt::Display for WatchFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

/// HTTP status: the requested resource version has expired.
const GONE: u16 = 410;
/// HTTP status: the kind is not served.
const NOT_FOUND: u16 = 404;
/// HTTP status: RBAC does not permit the list or the watch.
const FORBIDDEN: u16 = 403;

/// Fills one store from one watch and reports changes.
pub(super) struct Reflector<K: HasStatus> {
    writer: Writer<K>,
    filter: ChangeFilter,
    /// Objects that do not decode, with the generation: each is logged once.
    undecodable: HashMap<ObjectKey, Option<i64>>,
    /// Changes of the running list, reported when it ends.
    buffered: Option<Vec<ObjectChange>>,
    deps: ReflectorDeps,
    ownership: Arc<StatusOwnership<K::Status>>,
    watched: WatchedVersion,
}

impl<K: HasStatus> Reflector<K> {
    /// An idle reflector, and the store that it fills.
    pub(super) fn new(deps: ReflectorDeps, ownership: Arc<StatusOwnership<K::Status>>) -> (Self, Store<K>) {
        let writer = Writer::<K>::default();
        let reader = writer.as_reader();
        let (filter, undecodable) = (ChangeFilter::default(), HashMap::new());
        (
            Self { writer, filter, undecodable, buffered: None, deps, ownership, watched: WatchedVersion::default() },
            reader,
        )
    }

    /// How current the store is.
    pub(super) fn watched_version(&self) -> WatchedVersion {
        self.watched.clone()
    }

    /// Watches for as long as the process lives; `progress` is that of the client of `api`.
    pub(super) async fn run(mut self, api: Api<DecodeGuard<K>>, progress: Arc<WatchProgress>) {
        let kind = K::KIND.as_str();
        let open = self.deps.watches.limits().open.as_secs();
        let config = watcher::Config::default().timeout(u32::try_from(open).unwrap_or(u32::MAX));
        let mut events = watcher(api, config).boxed();
        let (mut failing, mut relisting, mut attempt) = (false, false, 0_u32);
        loop {
            let event = tokio::select! {
                biased;
                event = events.next() => event,
                () = progress.works_for(OUTAGE_OVER_AFTER), if failing => {
                    tracing::info!(kind, "watch re-established");
                    (failing, attempt) = (false, 0);
                    continue;
                }
            };
            let Some(event) = event else { return };
            match event {
                // The beginning of another attempt, not yet its success.
                Ok(Event::Init) => self.handle(Event::Init),
                Ok(event) => {
                    if std::mem::take(&mut failing) {
                        tracing::info!(kind, "watch re-established");
                    }
                    (relisting, attempt) = (false, 0);
                    self.handle(event);
                }
                Err(error) => {
                    let error = WatchFailure::from(error);
                    progress.failed(&error.message);
                    // Logged once per outage: the same error returns every few seconds.
                    if error.expired && !relisting {
                        // After an outage too: it shows that events may have been missed.
                        tracing::info!(kind, %error, "watch expired (410 Gone); relisting");
                        relisting = true;
                    } else if failing {
                        tracing::debug!(kind, %error, "watch still failing");
                    } else {
                        tracing::warn!(kind, %error, "watch failed; retrying with backoff");
                        failing = true;
                    }
                    tokio::time::sleep(error.delay(attempt, rand::random())).await;
                    attempt = attempt.saturating_add(1);
                }
            }
        }
    }

    fn handle(&mut self, event: Event<DecodeGuard<K>>) {
        // The objects of a list come in no order of versions; the events after it do.
        let version = match &event {
            Event::Apply(guarded) | Event::Delete(guarded) => version(guarded),
            Event::Init | Event::InitApply(_) | Event::InitDone => 0,
        };
        self.take_in(event);
        // While an object does not decode, the store does not show its current form.
        if version == 0 || !self.undecodable.is_empty() {
            self.watched.forget();
        } else {
            self.watched.advance(version);
        }
    }

    fn take_in(&mut self, event: Event<DecodeGuard<K>>) {
        match event {
            Event::Init => {
                self.filter.begin_list();
                self.buffered.get_or_insert_default();
                self.writer.apply_watcher_event(&Event::Init);
            }
            Event::InitApply(guarded) => self.on_apply(guarded, Event::InitApply),
            Event::Apply(guarded) => self.on_apply(guarded, Event::Apply),
            Event::InitDone => {
                self.writer.apply_watcher_event(&Event::InitDone);
                for change in self.buffered.take().into_iter().flatten() {
                    self.deps.changes.add(&change);
                }
                for (key, uid) in self.filter.end_list() {
                    self.on_deleted(key, uid);
                }
            }
            Event::Delete(guarded) => {
                let key = ObjectKey::new(guarded.namespace().unwrap_or_default(), guarded.name_any());
                // An object that does not decode is in the store as last decoded.
                if let Some(last) = self.stored(&key) {
                    self.writer.apply_watcher_event(&Event::Delete(K::clone(&last)));
                }
                self.undecodable.remove(&key);
                if let Some(uid) = self.filter.forget(&key) {
                    self.on_deleted(key, uid);
                }
            }
        }
    }

    fn on_apply(&mut self, guarded: DecodeGuard<K>, event: fn(K) -> Event<K>) {
        match guarded {
            DecodeGuard(Ok(mut object)) => {
                // Neither is read, and together they are larger than the rest of a small object.
                object.managed_fields_mut().clear();
                object.annotations_mut().remove("kubectl.kubernetes.io/last-applied-configuration");
                let (change, key) = (self.filter.classify(&object), object.key());
                if self.undecodable.remove(&key).is_some() {
                    let kind = K::KIND.as_str();
                    tracing::info!(kind, namespace = %key.namespace, name = %key.name, "object decodes again");
                }
                let origin = self.resolve_origin(&change, &key, &mut object);
                let retargeted = (change != ChangeKind::Unchanged)
                    .then(|| self.deps.references.set(K::KIND, &key, object.references()));
                let version = version(&object);
                self.writer.apply_watcher_event(&event(object));
                // Listed objects reach the store only when the list has ended.
                if origin == Origin::Own && self.buffered.is_none() {
                    self.ownership.observe(&key, version);
                }
                let unchanged = change == ChangeKind::Unchanged;
                if let ChangeKind::Replaced { ended } = change {
                    self.report(ObjectChange::Ended { kind: K::KIND, key: key.clone(), uid: ended });
                }
                if !unchanged || origin != Origin::Own {
                    self.report(ObjectChange::Changed(K::KIND, key));
                }
                for (kind, target) in retargeted.into_iter().flatten() {
                    self.report(ObjectChange::ReferrersChanged(kind, target));
                }
            }
            DecodeGuard(Err(bad)) => self.on_undecodable(&bad),
        }
    }

    /// Reports a change once the store contains it. Listed objects are in the store only when the list has ended: a
    /// reconcile that starts earlier would read the old object and not be enqueued again.
    fn report(&mut self, change: ObjectChange) {
        match &mut self.buffered {
            Some(buffered) => buffered.push(change),
            None => self.deps.changes.add(&change),
        }
    }

    /// The object as it is in the store.
    fn stored(&self, key: &ObjectKey) -> Option<Arc<K>> {
        self.writer.as_reader().get(&ObjectRef::new(&key.name).within(&key.namespace))
    }

    /// The origin of the object's status; a foreign status is replaced with the stored one.
    fn resolve_origin(&self, change: &ChangeKind, key: &ObjectKey, object: &mut K) -> Origin {
        if matches!(change, ChangeKind::Replaced { .. }) {
            self.ownership.forget(key);
        }
        let origin = self.ownership.origin(key, object.status());
        if origin == Origin::Foreign
            && let Some(last) = self.stored(key)
        {
            *object.status_mut() = last.status().cloned();
        }
        origin
    }

    /// Keeps the object in the store as last decoded; its current content cannot be acted on.
    fn on_undecodable(&mut self, bad: &Undecodable) {
        let key = ObjectKey::new(
            bad.metadata.namespace.clone().unwrap_or_default(),
            bad.metadata.name.clone().unwrap_or_default(),
        );
        if self.filter.mark_listed(&key) {
            // A relist starts with an empty store: carry the last decoded object over.
            if let Some(last) = self.stored(&key) {
                self.writer.apply_watcher_event(&Event::InitApply(K::clone(&last)));
            }
        }
        let generation = bad.metadata.generation;
        if self.undecodable.insert(key.clone(), generation) == Some(generation) {
            return;
        }
        tracing::error!(
            kind = K::KIND.as_str(), namespace = %key.namespace, name = %key.name, place = %bad.error,
            "object failed to decode: this version of Busbar cannot read it; continuing with the last decoded version"
        );
    }

    fn on_deleted(&mut self, key: ObjectKey, uid: String) {
        self.ownership.forget(&key);
        self.undecodable.remove(&key);
        let retargeted = self.deps.references.remove(K::KIND, &key);
        self.deps.changes.add(&ObjectChange::Ended { kind: K::KIND, key, uid });
        for (kind, target) in retargeted {
            self.deps.changes.add(&ObjectChange::ReferrersChanged(kind, target));
        }
    }
}

#[cfg(test)]
mod tests;
