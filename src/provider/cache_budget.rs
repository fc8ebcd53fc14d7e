//! The memory that the response caches of all connections share.
//!
//! When it is full, the namespace that holds most gives way, and in it the connection that holds most. So a tenant can
//! never evict the responses of another that holds less, and one that comes late gets its share.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use prometheus::IntGauge;

/// Size limit of all caches together, in bytes: a sixth of the 192 MiB that an operator with a small limit has. They are
/// shared fairly, so a small one costs hits only.
pub(crate) const MAX_TOTAL: u64 = 32 * 1024 * 1024;

/// A cache that can give memory back.
pub(crate) trait Evict: Send + Sync {
    /// The bytes that it holds.
    fn bytes(&self) -> u64;

    /// Evicts its oldest responses, at least `bytes` of them; returns the bytes that were freed.
    fn evict(&self, bytes: u64) -> u64;
}

/// The cache of a connection.
struct Holder {
    namespace: Arc<str>,
    cache: Weak<dyn Evict>,
}

/// Shares the memory among the caches.
pub(crate) struct CacheBudget {
    limit: u64,
    total: IntGauge,
    holders: Mutex<Vec<Holder>>,
}

impl CacheBudget {
    /// A budget of `limit` bytes; `total` counts those in use.
    pub(crate) fn new(limit: u64, total: IntGauge) -> Self {
        Self { limit, total, holders: Mutex::default() }
    }

    /// Adds the cache of a connection of `namespace`.
    pub(crate) fn register(&self, namespace: Arc<str>, cache: Weak<dyn Evict>) {
        let mut holders = self.lock();
        if holders.len() == holders.capacity() {
            holders.retain(|holder| holder.cache.strong_count() > 0);
        }
        holders.push(Holder { namespace, cache });
    }

    /// Reserves `bytes` for `cache`, which is not locked; evicts what has to give way. `false` if `cache` itself would
    /// hold most then and has nothing to evict.
    pub(crate) fn reserve(&self, cache: &dyn Evict, namespace: &str, bytes: u64) -> bool {
        // Held until the end: two callers never reserve the same room. A cache is locked after this lock, never before.
        let holders = self.lock();
        loop {
            if self.in_use().saturating_add(bytes) <= self.limit {
                self.add(signed(bytes));
                return true;
            }
            let Some(largest) = largest(&holders, cache, namespace, bytes) else { return false };
            let freed = largest.evict(bytes);
            if freed == 0 {
                return false;
            }
            self.add(-signed(freed));
        }
    }

    /// Corrects the bytes in use.
    pub(crate) fn add(&self, bytes: i64) {
        self.total.add(bytes);
    }

    fn in_use(&self) -> u64 {
        u64::try_from(self.total.get()).unwrap_or(0)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Holder>> {
        self.holders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The cache that gives way to `bytes` of `cache`: in the namespace with most bytes, that with most bytes, both counted
/// as if the reservation were made.
fn largest(holders: &[Holder], cache: &dyn Evict, namespace: &str, bytes: u64) -> Option<Arc<dyn Evict>> {
    let live: Vec<(&str, u64, Arc<dyn Evict>)> = holders
        .iter()
        .filter_map(|holder| Some((&*holder.namespace, holder.cache.upgrade()?)))
        .map(|(of, other)| {
            let own = if std::ptr::addr_eq(Arc::as_ptr(&other), std::ptr::from_ref(cache)) { bytes } else { 0 };
            (of, other.bytes() + own, other)
        })
        .collect();
    let mut namespaces: HashMap<&str, u64> = HashMap::from([(namespace, 0)]);
    for (of, bytes, _) in &live {
        *namespaces.entry(of).or_default() += bytes;
    }
    let (first, _) = namespaces.into_iter().max_by_key(|(of, bytes)| (*bytes, *of == namespace))?;
    live.into_iter().filter(|(of, ..)| *of == first).max_by_key(|(_, bytes, _)| *bytes).map(|(.., cache)| cache)
}

/// As a change of the gauge.
pub(crate) fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

impl fmt::Debug for CacheBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheBudget").field("limit", &self.limit).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// A cache whose responses have one byte each.
    #[derive(Default)]
    struct Bytes(AtomicU64);

    impl Evict for Bytes {
        fn bytes(&self) -> u64 {
            self.0.load(Ordering::Relaxed)
        }

        fn evict(&self, bytes: u64) -> u64 {
            let freed = self.bytes().min(bytes);
            self.0.fetch_sub(freed, Ordering::Relaxed);
            freed
        }
    }

    struct Fixture {
        budget: CacheBudget,
        caches: Vec<(&'static str, Arc<Bytes>)>,
    }

    impl Fixture {
        fn new(namespaces: &[&'static str]) -> Self {
            let budget = CacheBudget::new(100, IntGauge::new("x", "x").unwrap());
            let caches: Vec<_> = namespaces.iter().map(|namespace| (*namespace, Arc::<Bytes>::default())).collect();
            for (namespace, cache) in &caches {
                let weak: Weak<Bytes> = Arc::downgrade(cache);
                budget.register((*namespace).into(), weak);
            }
            Self { budget, caches }
        }

        /// Stores `times` responses of `size` bytes; returns how many of them were admitted.
        fn put(&self, index: usize, size: u64, times: usize) -> usize {
            let (namespace, cache) = &self.caches[index];
            let admitted = (0..times).filter(|_| {
                let admitted = self.budget.reserve(&**cache, namespace, size);
                cache.0.fetch_add(if admitted { size } else { 0 }, Ordering::Relaxed);
                admitted
            });
            admitted.count()
        }

        fn bytes(&self) -> Vec<u64> {
            assert_eq!(self.caches.iter().map(|(_, cache)| cache.bytes()).sum::<u64>(), self.budget.in_use());
            assert!(self.budget.in_use() <= 100);
            self.caches.iter().map(|(_, cache)| cache.bytes()).collect()
        }
    }

    #[test]
    fn one_that_fills_the_cache_gives_way_to_one_that_comes_late() {
        let fixture = Fixture::new(&["a", "b"]);
        assert_eq!(fixture.put(0, 5, 200), 200, "alone it has all, and evicts its own");
        assert_eq!(fixture.bytes(), [100, 0]);
        fixture.put(1, 5, 1_000);
        assert_eq!(fixture.bytes(), [50, 50]);
        fixture.put(0, 5, 1_000);
        assert_eq!(fixture.bytes(), [50, 50], "each evicts its own from here on");
    }

    #[test]
    fn a_namespace_with_many_connections_has_one_share() {
        let fixture = Fixture::new(&["a", "a", "a", "a", "b"]);
        for index in 0..5 {
            fixture.put(index, 1, 1_000);
        }
        for index in 0..4 {
            fixture.put(index, 1, 1_000);
        }
        let bytes = fixture.bytes();
        assert_eq!(bytes[4], 50, "{bytes:?}");
        assert!(bytes[..4].iter().all(|own| (12..=13).contains(own)), "{bytes:?}");
    }

    #[test]
    fn what_exceeds_the_share_of_its_connection_is_not_admitted() {
        let fixture = Fixture::new(&["a", "b", "c"]);
        fixture.put(0, 1, 50);
        fixture.put(1, 1, 50);
        assert_eq!(fixture.put(2, 60, 1), 0);
        assert_eq!(fixture.bytes(), [50, 50, 0], "none was evicted for it");
    }

    #[test]
    fn removed_caches_leave_no_holder_behind() {
        let fixture = Fixture::new(&[]);
        for _ in 0..1_000 {
            let cache: Arc<dyn Evict> = Arc::new(Bytes::default());
            fixture.budget.register("a".into(), Arc::downgrade(&cache));
        }
        assert!(fixture.budget.lock().len() < 10, "{}", fixture.budget.lock().len());
    }
}
