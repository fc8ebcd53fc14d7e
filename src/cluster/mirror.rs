//! One watch that fills one store, for as long as the process lives.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use kube::runtime::reflector::{ObjectRef, Store, store::Writer};
use kube::runtime::watcher;
use kube::runtime::watcher::Event;
use kube::{Api, ResourceExt as _};

use crate::cluster::claims::Whose;
use crate::cluster::guard::{Guarded, Undecodable};
use crate::cluster::seen::{News, Seen};
use crate::cluster::status::{Reported, version};
use crate::cluster::stores::{Change, Shared};
use crate::cluster::told;
use crate::domain::backoff::Backoff;
use crate::domain::key::ObjectKey;

/// Pauses between tries to open a watch, ever longer, with full jitter, from the start again once it is open: an API server that is back is noticed within ten seconds.
const REOPEN: Backoff = Backoff { base: Duration::from_millis(400), max: Duration::from_secs(10) };

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

/// Fills one store from one watch.
pub(super) struct Filling<K: Reported> {
    writer: Writer<K>,
    seen: Seen,
    /// Objects that do not decode, by generation: each is said once.
    unreadable: HashMap<ObjectKey, Option<i64>>,
    /// What the running list has brought so far.
    held: Option<Vec<Change>>,
    shared: Shared,
}

impl<K: Reported> Filling<K> {
    /// One that has seen nothing, and the store it fills.
    pub(super) fn new(shared: Shared) -> (Self, Store<K>) {
        let writer = Writer::<K>::default();
        let reader = writer.as_reader();
        (Self { writer, seen: Seen::default(), unreadable: HashMap::new(), held: None, shared }, reader)
    }

    /// Watches for as long as the process lives.
    pub(super) async fn run(mut self, api: Api<Guarded<K>>) {
        let kind = K::KIND.as_str();
        let mut events = watcher(api, watcher::Config::default()).boxed();
        let (mut failing, mut forgotten, mut attempt) = (false, false, 0_u32);
        while let Some(event) = events.next().await {
            match event {
                // The beginning of another try, not yet its success.
                Ok(Event::Init) => self.take(Event::Init),
                Ok(event) => {
                    if std::mem::take(&mut failing) {
                        tracing::info!(kind, "watching again");
                    }
                    (forgotten, attempt) = (false, 0);
                    self.take(event);
                }
                Err(error) => {
                    let error = Trouble::from(error);
                    // Said once per outage: the same error comes again every few seconds.
                    if error.expired && !forgotten {
                        // After an outage too: it is the answer to "what has been missed?".
                        tracing::info!(kind, %error, "the watch cannot go on from where it was; reading everything again");
                        forgotten = true;
                    } else if failing {
                        tracing::debug!(kind, %error, "the watch is still down");
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
                self.held.get_or_insert_default();
                self.writer.apply_watcher_event(&Event::Init);
            }
            Event::InitApply(guarded) => self.applied(guarded, Event::InitApply),
            Event::Apply(guarded) => self.applied(guarded, Event::Apply),
            Event::InitDone => {
                self.writer.apply_watcher_event(&Event::InitDone);
                for change in self.held.take().into_iter().flatten() {
                    (self.shared.sink)(change);
                }
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
                let version = version(&object);
                self.writer.apply_watcher_event(&event(object));
                // What a list brings is in the store when the list has ended.
                if whose == Whose::Ours && self.held.is_none() {
                    self.shared.claims.back(K::KIND, &key, version);
                }
                if news != News::None || whose != Whose::Ours {
                    let (replaced, touched) = (news == News::Replaced, touched.unwrap_or_default());
                    self.tell(Change { kind: K::KIND, key, gone: false, replaced, touched });
                }
            }
            Guarded(Err(bad)) => self.undecodable(&bad),
        }
    }

    /// Tells of a change once the store has it: what a list brings is not in the store before the list has ended, and whoever
    /// looked sooner would find what was there before, and not be called again.
    fn tell(&mut self, change: Change) {
        match &mut self.held {
            Some(held) => held.push(change),
            None => (self.shared.sink)(change),
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

#[cfg(test)]
mod tests;
