//! The response cache of one connection: responses, bounded by bytes, and the flights that concurrent calls share.
//!
//! Created when a connection first uses its cache. The bytes of all connections together are bounded too: above that
//! limit nothing new is cached until old responses are evicted.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{Shared, WeakShared};
use prometheus::IntGauge;
use quick_cache::unsync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, Weighter};

use crate::domain::hash;
use crate::domain::time::Mono;
use crate::provider::call::Response;
use crate::provider::call_context::CallFuture;

/// Size limit of one connection's cache, in bytes: thousands of quotes, or dozens of pages of news.
pub(crate) const MAX_BYTES: u64 = 4 * 1024 * 1024;
/// Size limit of all caches together, in bytes.
pub(crate) const MAX_TOTAL: i64 = 128 * 1024 * 1024;
/// Estimated memory per response in addition to its bytes: the map entry, the header table.
const OVERHEAD: usize = 512;
/// Abandoned flights are removed when there are this many flights.
const MAX_FLIGHTS: usize = 64;

/// The key of a request: half of a SHA-256.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct CacheKey(u128);

impl CacheKey {
    /// From a digest.
    pub(crate) fn of(digest: &[u8]) -> Self {
        Self(digest.iter().take(16).fold(0, |number, byte| number << 8 | u128::from(*byte)))
    }

    /// The same request with other call options.
    pub(crate) fn with_options(self, options: &str) -> Self {
        Self(self.0 ^ u128::from(hash::stable_hash(options)))
    }
}

/// A response, and when it was received.
type Entry = (Mono, Arc<Response>);

#[derive(Clone)]
struct ByteWeigher;

impl Weighter<CacheKey, Entry> for ByteWeigher {
    fn weight(&self, _: &CacheKey, (_, response): &Entry) -> u64 {
        let headers: usize = response.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
        u64::try_from(OVERHEAD + headers + response.body.len()).unwrap_or(u64::MAX)
    }
}

struct Inner {
    responses: Option<Cache<CacheKey, Entry, ByteWeigher>>,
    flights: HashMap<CacheKey, WeakShared<CallFuture>>,
    swept: Mono,
}

/// The cached responses and the flights of one connection.
pub(crate) struct ResponseCache {
    inner: Mutex<Inner>,
    total: IntGauge,
}

impl ResponseCache {
    /// An empty cache; `total` counts the bytes of all connections.
    pub(crate) fn new(total: IntGauge) -> Self {
        let options = OptionsBuilder::new().estimated_items_capacity(32).weight_capacity(MAX_BYTES).build();
        let responses = options.ok().map(|options| {
            Cache::with_options(
                options,
                ByteWeigher,
                quick_cache::DefaultHashBuilder::default(),
                DefaultLifecycle::default(),
            )
        });
        Self { inner: Mutex::new(Inner { responses, flights: HashMap::new(), swept: Mono::ZERO }), total }
    }

    /// The response, and when it was received.
    pub(crate) fn get(&self, key: CacheKey) -> Option<Entry> {
        self.lock().responses.as_ref()?.get(&key).cloned()
    }

    /// Stores a response that was received `now` and is usable for `keep`.
    pub(crate) fn put(&self, key: CacheKey, response: Response, now: Mono, keep: Duration) {
        let mut inner = self.lock();
        let sweep = now.since(inner.swept) >= keep;
        if sweep {
            inner.swept = now;
        }
        let Some(responses) = inner.responses.as_mut() else { return };
        let before = responses.weight();
        if sweep {
            // Answers that may not be returned any more are evicted.
            responses.retain(|_, (at, _)| now.since(*at) <= keep);
        }
        let entry = (now, Arc::new(response));
        let weight = ByteWeigher.weight(&key, &entry);
        let room = self.total.get().saturating_add(i64::try_from(weight).unwrap_or(i64::MAX)) <= MAX_TOTAL;
        // The old response is outdated even if the new one cannot be stored.
        responses.remove(&key);
        if room && weight <= MAX_BYTES / 2 {
            responses.insert(key, entry);
        }
        let after = responses.weight();
        self.total.add(i64::try_from(after).unwrap_or(0) - i64::try_from(before).unwrap_or(0));
    }

    /// Joins the flight with this key, or starts one; and whether an existing one was joined.
    pub(crate) fn join(&self, flight: CacheKey, start: impl FnOnce() -> CallFuture) -> (Shared<CallFuture>, bool) {
        let mut inner = self.lock();
        if let Some(call) = inner.flights.get(&flight).and_then(WeakShared::upgrade) {
            return (call, true);
        }
        if inner.flights.len() >= MAX_FLIGHTS {
            inner.flights.retain(|_, call| call.upgrade().is_some());
        }
        let call = start().shared();
        if let Some(weak) = call.downgrade() {
            inner.flights.insert(flight, weak);
        }
        (call, false)
    }

    /// Ends a flight: the next caller starts another.
    pub(crate) fn finish(&self, flight: CacheKey) {
        self.lock().flights.remove(&flight);
    }

    /// Clears the cache, because the endpoint or the credentials changed.
    pub(crate) fn clear(&self) {
        let mut inner = self.lock();
        inner.flights.clear();
        let Some(responses) = inner.responses.as_mut() else { return };
        let before = responses.weight();
        responses.clear();
        self.total.sub(i64::try_from(before).unwrap_or(0));
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ResponseCache {
    fn drop(&mut self) {
        self.clear();
    }
}

impl fmt::Debug for ResponseCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseCache").finish_non_exhaustive()
    }
}
