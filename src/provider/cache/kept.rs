//! What one connection keeps: answers, bounded by bytes, and the calls under way that others may share.
//!
//! Made when a connection first uses its cache. The bytes of all connections together are bounded too: above that bound
//! nothing new is kept until something old is gone.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{Shared, WeakShared};
use prometheus::IntGauge;
use quick_cache::unsync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, Weighter};

use crate::domain::spread;
use crate::domain::time::Mono;
use crate::provider::call::Answer;
use crate::provider::deadline::Calling;

/// What one connection may keep: thousands of quotes, or dozens of pages of news.
pub(crate) const MAX_BYTES: u64 = 4 * 1024 * 1024;
/// What all connections together may keep.
pub(crate) const MAX_TOTAL: i64 = 128 * 1024 * 1024;
/// An answer costs this much beside its bytes: the map's entry, the header table.
const OVERHEAD: usize = 512;
/// Calls whose callers all went away are forgotten when there are this many.
const FLIGHTS: usize = 64;

/// The name of a question: half of a SHA-256.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Key(u128);

impl Key {
    /// From a digest.
    pub(crate) fn of(digest: &[u8]) -> Self {
        Self(digest.iter().take(16).fold(0, |number, byte| number << 8 | u128::from(*byte)))
    }

    /// The same question, asked in another manner.
    pub(crate) fn and(self, manner: &str) -> Self {
        Self(self.0 ^ u128::from(spread::hash(manner)))
    }
}

/// An answer, and when it came.
type Entry = (Mono, Arc<Answer>);

#[derive(Clone)]
struct Bytes;

impl Weighter<Key, Entry> for Bytes {
    fn weight(&self, _: &Key, (_, answer): &Entry) -> u64 {
        let headers: usize = answer.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
        u64::try_from(OVERHEAD + headers + answer.body.len()).unwrap_or(u64::MAX)
    }
}

struct Inner {
    answers: Option<Cache<Key, Entry, Bytes>>,
    flights: HashMap<Key, WeakShared<Calling>>,
    swept: Mono,
}

/// What one connection keeps.
pub(crate) struct Kept {
    inner: Mutex<Inner>,
    total: IntGauge,
}

impl Kept {
    /// Nothing yet; `total` counts the bytes of all connections.
    pub(crate) fn new(total: IntGauge) -> Self {
        let options = OptionsBuilder::new().estimated_items_capacity(32).weight_capacity(MAX_BYTES).build();
        let answers = options.ok().map(|options| {
            Cache::with_options(options, Bytes, quick_cache::DefaultHashBuilder::default(), DefaultLifecycle::default())
        });
        Self { inner: Mutex::new(Inner { answers, flights: HashMap::new(), swept: Mono::ZERO }), total }
    }

    /// The answer, and when it came.
    pub(crate) fn get(&self, key: Key) -> Option<Entry> {
        self.lock().answers.as_ref()?.get(&key).cloned()
    }

    /// Keeps an answer that came `now` and is good for `keep`.
    pub(crate) fn put(&self, key: Key, answer: Answer, now: Mono, keep: Duration) {
        let mut inner = self.lock();
        let sweep = now.since(inner.swept) >= keep;
        if sweep {
            inner.swept = now;
        }
        let Some(answers) = inner.answers.as_mut() else { return };
        let before = answers.weight();
        if sweep {
            // What nobody may be given any more need not be in memory.
            answers.retain(|_, (at, _)| now.since(*at) <= keep);
        }
        let entry = (now, Arc::new(answer));
        let weight = Bytes.weight(&key, &entry);
        let room = self.total.get().saturating_add(i64::try_from(weight).unwrap_or(i64::MAX)) <= MAX_TOTAL;
        // The answer in its place is older, whatever becomes of the new one.
        answers.remove(&key);
        if room && weight <= MAX_BYTES / 2 {
            answers.insert(key, entry);
        }
        let after = answers.weight();
        self.total.add(i64::try_from(after).unwrap_or(0) - i64::try_from(before).unwrap_or(0));
    }

    /// The call under way by this name, or the one that `start` makes; and whether it was under way.
    pub(crate) fn join(&self, name: Key, start: impl FnOnce() -> Calling) -> (Shared<Calling>, bool) {
        let mut inner = self.lock();
        if let Some(call) = inner.flights.get(&name).and_then(WeakShared::upgrade) {
            return (call, true);
        }
        if inner.flights.len() >= FLIGHTS {
            inner.flights.retain(|_, call| call.upgrade().is_some());
        }
        let call = start().shared();
        if let Some(weak) = call.downgrade() {
            inner.flights.insert(name, weak);
        }
        (call, false)
    }

    /// The call has ended: who comes now makes another.
    pub(crate) fn landed(&self, name: Key) {
        self.lock().flights.remove(&name);
    }

    /// Forgets everything: the answers are another endpoint's, or other credentials'.
    pub(crate) fn clear(&self) {
        let mut inner = self.lock();
        inner.flights.clear();
        let Some(answers) = inner.answers.as_mut() else { return };
        let before = answers.weight();
        answers.clear();
        self.total.sub(i64::try_from(before).unwrap_or(0));
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.clear();
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").finish_non_exhaustive()
    }
}
