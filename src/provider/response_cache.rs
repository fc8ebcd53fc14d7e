//! The response cache of one connection: responses, bounded by bytes, and the flights that concurrent calls share.
//!
//! Created when a connection first uses its cache. The bytes of all connections together are bounded too, and shared
//! fairly: see `cache_budget`.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::WeakShared;
use quick_cache::unsync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, Weighter};

use crate::domain::hash;
use crate::domain::time::Mono;
use crate::provider::cache_budget::{CacheBudget, Evict, signed};
use crate::provider::call::Response;
use crate::provider::call_context::CallFuture;
use crate::provider::call_progress::CallProgress;
use crate::provider::shared_call::SharedCall;

/// Size limit of one connection's cache, in bytes: thousands of quotes, or dozens of pages of news.
pub(crate) const MAX_BYTES: u64 = 4 * 1024 * 1024;
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
    flights: HashMap<CacheKey, Flight>,
    swept: Mono,
}

impl Inner {
    fn weight(&self) -> u64 {
        self.responses.as_ref().map_or(0, Cache::weight)
    }
}

/// A call that its callers share, while one of them waits for it or it runs on.
struct Flight {
    call: WeakShared<CallFuture>,
    progress: Arc<CallProgress>,
}

/// The cached responses and the flights of one connection.
pub(crate) struct ResponseCache {
    inner: Mutex<Inner>,
    /// The weight of the responses, to be read without the lock.
    bytes: AtomicU64,
    namespace: Arc<str>,
    budget: Arc<CacheBudget>,
}

impl ResponseCache {
    /// An empty cache of a connection of `namespace`, which shares the memory of `budget`.
    pub(crate) fn register(namespace: Arc<str>, budget: &Arc<CacheBudget>) -> Arc<Self> {
        let cache = Arc::new(Self::new(namespace, Arc::clone(budget)));
        let weak: Weak<Self> = Arc::downgrade(&cache);
        budget.register(Arc::clone(&cache.namespace), weak);
        cache
    }

    fn new(namespace: Arc<str>, budget: Arc<CacheBudget>) -> Self {
        let options = OptionsBuilder::new().estimated_items_capacity(32).weight_capacity(MAX_BYTES).build();
        let responses = options.ok().map(|options| {
            Cache::with_options(
                options,
                ByteWeigher,
                quick_cache::DefaultHashBuilder::default(),
                DefaultLifecycle::default(),
            )
        });
        let inner = Mutex::new(Inner { responses, flights: HashMap::new(), swept: Mono::ZERO });
        Self { inner, bytes: AtomicU64::new(0), namespace, budget }
    }

    /// The response, and when it was received.
    pub(crate) fn get(&self, key: CacheKey) -> Option<Entry> {
        self.lock().responses.as_ref()?.get(&key).cloned()
    }

    /// Stores a response that was received `now` and is usable for `keep`.
    pub(crate) fn put(&self, key: CacheKey, response: Response, now: Mono, keep: Duration) {
        // The caches have a budget of their own.
        let response = Response { memory: response.memory.another(), ..response };
        let entry = (now, Arc::new(response));
        let weight = ByteWeigher.weight(&key, &entry);
        self.change(|inner| {
            let sweep = now.since(inner.swept) >= keep;
            if sweep {
                inner.swept = now;
            }
            let Some(responses) = inner.responses.as_mut() else { return };
            if sweep {
                // Answers that may not be returned any more are evicted.
                responses.retain(|_, (at, _)| now.since(*at) <= keep);
            }
            // The old response is outdated even if the new one cannot be stored.
            responses.remove(&key);
        });
        // Not under the lock: others give way, or this cache itself.
        if weight > MAX_BYTES / 2 || !self.budget.reserve(self, &self.namespace, weight) {
            return;
        }
        self.change(|inner| {
            if let Some(responses) = inner.responses.as_mut() {
                responses.insert(key, entry);
            }
        });
        // The insertion has counted what it added.
        self.budget.add(-signed(weight));
    }

    /// Joins the flight with this key, or starts one with `progress`; and whether an existing one was joined.
    pub(crate) fn join(
        &self,
        flight: CacheKey,
        progress: &Arc<CallProgress>,
        start: impl FnOnce() -> CallFuture,
    ) -> (SharedCall, bool) {
        let mut inner = self.lock();
        if let Some(Flight { call, progress }) = inner.flights.get(&flight)
            && let Some(call) = call.upgrade()
        {
            return (SharedCall { call, progress: Arc::clone(progress) }, true);
        }
        if inner.flights.len() >= MAX_FLIGHTS {
            inner.flights.retain(|_, flight| flight.call.upgrade().is_some());
        }
        let call = start().shared();
        if let Some(weak) = call.downgrade() {
            inner.flights.insert(flight, Flight { call: weak, progress: Arc::clone(progress) });
        }
        (SharedCall { call, progress: Arc::clone(progress) }, false)
    }

    /// Ends a flight: the next caller starts another.
    pub(crate) fn finish(&self, flight: CacheKey) {
        self.lock().flights.remove(&flight);
    }

    /// Clears the cache, because the endpoint or the credentials changed.
    pub(crate) fn clear(&self) {
        self.change(|inner| {
            inner.flights.clear();
            if let Some(responses) = inner.responses.as_mut() {
                responses.clear();
            }
        });
    }

    /// Changes the responses under the lock, and counts the bytes in the budget.
    fn change(&self, act: impl FnOnce(&mut Inner)) {
        let mut inner = self.lock();
        let before = inner.weight();
        act(&mut inner);
        let after = inner.weight();
        self.bytes.store(after, Ordering::Relaxed);
        self.budget.add(signed(after) - signed(before));
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Evict for ResponseCache {
    fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn evict(&self, bytes: u64) -> u64 {
        let mut inner = self.lock();
        let before = inner.weight();
        if let Some(responses) = inner.responses.as_mut() {
            // A quarter at once: the oldest are found by sorting all.
            let wanted = bytes.max(before / 4);
            let mut oldest: Vec<(Mono, u64)> =
                responses.iter().map(|(key, entry)| (entry.0, ByteWeigher.weight(key, entry))).collect();
            oldest.sort_unstable();
            let mut freed = 0;
            let last = oldest.into_iter().take_while(|(_, weight)| {
                let more = freed < wanted;
                freed += weight;
                more
            });
            if let Some((last, _)) = last.last() {
                responses.retain(|_, (at, _)| *at > last);
            }
        }
        let after = inner.weight();
        self.bytes.store(after, Ordering::Relaxed);
        before - after
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

#[cfg(test)]
mod tests {
    use prometheus::IntGauge;

    use super::*;
    use crate::provider::testkit::response;

    const LIMIT: u64 = 1024 * 1024;

    fn put(cache: &ResponseCache, n: u64) {
        let mut large = response(200);
        large.body = vec![b'x'; 10_000].into();
        cache.put(CacheKey::of(&n.to_be_bytes()), large, Mono::from_nanos(n), Duration::from_hours(1));
    }

    fn has(cache: &ResponseCache, n: u64) -> bool {
        cache.get(CacheKey::of(&n.to_be_bytes())).is_some()
    }

    #[test]
    fn a_tenant_that_fills_the_memory_gives_its_oldest_responses_to_another() {
        let total = IntGauge::new("bytes", "bytes").unwrap();
        let budget = Arc::new(CacheBudget::new(LIMIT, total.clone()));
        let [first, second] = ["a", "b"].map(|namespace| ResponseCache::register(namespace.into(), &budget));
        for n in 1..=200 {
            put(&first, n);
        }
        assert!(first.bytes() > LIMIT / 2 && has(&first, 200) && !has(&first, 1), "{}", first.bytes());
        for n in 1..=200 {
            put(&second, n);
            put(&second, n);
        }
        let (of_first, of_second) = (first.bytes(), second.bytes());
        assert_eq!(u64::try_from(total.get()).unwrap(), of_first + of_second);
        assert!(of_first + of_second <= LIMIT);
        assert!(of_second > LIMIT / 4 && of_first > LIMIT / 4, "{of_first} and {of_second}");
        assert!(has(&second, 200) && has(&first, 200), "the newest of both are there");
        drop(first);
        assert_eq!(u64::try_from(total.get()).unwrap(), of_second);
    }
}
