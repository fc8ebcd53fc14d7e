//! The memory that providers' responses may take: one budget for the process, and a share of it for each connection and
//! for the connections of one namespace together.
//!
//! A provider decides how much it sends, never how much memory that takes here. Up to [`FREE_BYTES`] of a response
//! need no reservation: the number of calls at once bounds them, so a health check, a token or a quote never waits for
//! others. What exceeds that is reserved as it is read, from the share of the connection first, then from that of its
//! namespace, so that neither one provider nor one tenant can take it all. A call waits for a reservation for [`MAX_WAIT`] and then fails as overloaded, which is not the
//! provider's failure. A reservation belongs to the response and ends with it. What a page of records is parsed into
//! is reserved before it is parsed, from a pool of its own: a holder of a part of that pool never waits for the other
//! one, so the two cannot block each other.
//!
//! Large bodies are parsed on threads of their own, few at a time, because a tree takes many times its text.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use prometheus::IntGauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::metrics::{Metrics, MetricsError};
use crate::tasks::TaskGroup;

/// Bytes of a response that need no reservation. Health checks, tokens and errors are never longer.
pub const FREE_BYTES: usize = 64 * 1024;
/// Longest wait for the memory of a response: longer than a page takes to be read and parsed, shorter than a caller
/// waits.
pub const MAX_WAIT: Duration = Duration::from_secs(5);
/// Longest wait for the memory of a parsed page: a run can wait while other pages are committed.
const MAX_PAGE_WAIT: Duration = Duration::from_secs(30);
/// Large bodies that are parsed at once: the runtime keeps the processors, and two trees are the most in memory.
const PARSERS: usize = 2;
/// A connection's share of the budget, as a divisor.
const SHARES: usize = 4;

/// The least share of a namespace: two of the largest responses that a profile can allow.
const MIN_NAMESPACE_SHARE: usize = 16 * 1024 * 1024;

/// The sizes of the pools, in bytes.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct MemoryLimits {
    /// Bodies that are read, and the responses made of them.
    pub responses: usize,
    /// Records of parsed pages until they are committed.
    pub pages: usize,
}

impl MemoryLimits {
    /// `responses` bytes for responses, and three quarters of it for parsed pages, at least one.
    pub fn of(responses: u64) -> Self {
        let responses = usize::try_from(responses).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self { responses, pages: (responses / 4 * 3).max(MAX_PAGE_BYTES) }
    }
}

impl Default for MemoryLimits {
    /// With what the process needs anyway (40 MiB) and the buffers of its connections, 192 MiB are enough.
    fn default() -> Self {
        Self::of(32 * 1024 * 1024)
    }
}

/// Most memory that one parsed page may take: its records, and their texts.
pub const MAX_PAGE_BYTES: usize = 24 * 1024 * 1024;

/// No memory was left within the longest wait.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("memory for responses exhausted")]
pub struct Exhausted;

/// A task that parses a body ended in a panic, which is logged.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("parsing failed unexpectedly")]
pub struct ParserPanicked;

/// The budget of the process. Cloning shares it.
#[derive(Clone)]
pub struct MemoryBudget(Arc<Budget>);

struct Budget {
    responses: Pool,
    pages: Pool,
    /// The shares of the namespaces that have connections.
    namespaces: Mutex<HashMap<Arc<str>, Weak<Semaphore>>>,
    parsers: Arc<Semaphore>,
    tasks: TaskGroup,
}

struct Pool {
    free: Arc<Semaphore>,
    size: usize,
    used: IntGauge,
}

impl Pool {
    fn new(size: usize, used: IntGauge) -> Self {
        Self { free: Arc::new(Semaphore::new(size)), size, used }
    }
}

impl MemoryBudget {
    /// A budget of this size, whose use is shown in `metrics`; bodies are parsed in `tasks`.
    pub fn new(limits: MemoryLimits, tasks: TaskGroup, metrics: &Metrics) -> Result<Self, MetricsError> {
        let help =
            "Memory reserved for providers' responses (responses) and for parsed pages of syncs (pages), in bytes.";
        let used = metrics.int_gauge("busbar_response_memory_bytes", help, &["pool"])?;
        Ok(Self(Arc::new(Budget {
            responses: Pool::new(limits.responses, used.with_label_values(&["responses"])),
            pages: Pool::new(limits.pages, used.with_label_values(&["pages"])),
            namespaces: Mutex::default(),
            parsers: Arc::new(Semaphore::new(PARSERS)),
            tasks,
        })))
    }

    /// The share of one connection of `namespace` whose responses have at most `max_response` bytes: enough for one of
    /// them and for what is made of it.
    pub(crate) fn connection(&self, namespace: &Arc<str>, max_response: usize) -> ConnectionMemory {
        let size = self.connection_share(max_response);
        let share = Arc::new(Semaphore::new(size));
        ConnectionMemory { budget: self.clone(), namespace: self.namespace(namespace), share, size }
    }

    fn connection_share(&self, max_response: usize) -> usize {
        (self.0.responses.size / SHARES).max(2 * max_response).min(self.namespace_share())
    }

    /// Three quarters of the budget.
    fn namespace_share(&self) -> usize {
        (self.0.responses.size / 4 * 3).max(MIN_NAMESPACE_SHARE).min(self.0.responses.size)
    }

    fn namespace(&self, name: &Arc<str>) -> Arc<Semaphore> {
        let mut shares = self.0.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = shares.get(name).and_then(Weak::upgrade) {
            return share;
        }
        shares.retain(|_, share| share.strong_count() > 0);
        let share = Arc::new(Semaphore::new(self.namespace_share()));
        shares.insert(Arc::clone(name), Arc::downgrade(&share));
        share
    }
}

impl fmt::Debug for MemoryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let free = |pool: &Pool| pool.free.available_permits();
        let (responses, pages) = (free(&self.0.responses), free(&self.0.pages));
        f.debug_struct("MemoryBudget").field("responses", &responses).field("pages", &pages).finish_non_exhaustive()
    }
}

/// The share of one connection. Cloning shares it.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionMemory {
    budget: MemoryBudget,
    namespace: Arc<Semaphore>,
    share: Arc<Semaphore>,
    size: usize,
}

impl ConnectionMemory {
    /// The same share, or a new one if responses of `max_response` bytes do not fit into it.
    pub(crate) fn fitting(self, max_response: usize) -> Self {
        let size = self.budget.connection_share(max_response);
        if size == self.size { self } else { Self { share: Arc::new(Semaphore::new(size)), size, ..self } }
    }

    /// A reservation of nothing, which can grow.
    pub(crate) fn reservation(&self) -> Reservation {
        Reservation(Some(Arc::new(Held { memory: self.clone(), parts: Mutex::default() })))
    }
}

/// Memory that one response takes. Clones share it; it is released with the last one. The default reserves nothing and
/// never does: for responses that no connection made.
#[derive(Clone, Default)]
pub struct Reservation(Option<Arc<Held>>);

struct Held {
    memory: ConnectionMemory,
    parts: Mutex<Parts>,
}

/// What is held of the two shares and of the pool: the same number of bytes of each.
#[derive(Default)]
struct Parts(Option<Permits>);

struct Permits {
    share: OwnedSemaphorePermit,
    namespace: OwnedSemaphorePermit,
    pool: OwnedSemaphorePermit,
}

impl Parts {
    fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |held| held.share.num_permits())
    }

    fn add(&mut self, more: Permits) {
        match &mut self.0 {
            Some(held) => {
                held.share.merge(more.share);
                held.namespace.merge(more.namespace);
                held.pool.merge(more.pool);
            }
            None => self.0 = Some(more),
        }
    }
}

impl Reservation {
    /// Grows to `bytes` at once; `false` if there is no room now.
    pub fn try_grow_to(&self, bytes: usize) -> bool {
        let Some(held) = &self.0 else { return true };
        let mut parts = held.lock();
        let Some(more) = Held::more(&parts, bytes) else { return true };
        let permits = |semaphore: &Arc<Semaphore>| Arc::clone(semaphore).try_acquire_many_owned(more).ok();
        let ConnectionMemory { budget, namespace, share, .. } = &held.memory;
        let acquire = || {
            let (share, namespace) = (permits(share)?, permits(namespace)?);
            Some(Permits { share, namespace, pool: permits(&budget.0.responses.free)? })
        };
        let Some(acquired) = acquire() else { return false };
        parts.add(acquired);
        held.memory.budget.0.responses.used.add(i64::from(more));
        true
    }

    /// Grows to `bytes`, after a wait of at most [`MAX_WAIT`].
    pub async fn grow_to(&self, bytes: usize) -> Result<(), Exhausted> {
        let Some(held) = &self.0 else { return Ok(()) };
        let Some(more) = Held::more(&held.lock(), bytes) else { return Ok(()) };
        let ConnectionMemory { budget, namespace, share, size } = &held.memory;
        if bytes > *size {
            return Err(Exhausted);
        }
        let pool = &budget.0.responses;
        let all = async {
            // The shares first: what waits for its own connection or namespace holds nothing of the others'.
            let share = Arc::clone(share).acquire_many_owned(more).await?;
            let namespace = Arc::clone(namespace).acquire_many_owned(more).await?;
            let pool = Arc::clone(&pool.free).acquire_many_owned(more).await?;
            Ok::<_, tokio::sync::AcquireError>(Permits { share, namespace, pool })
        };
        let acquired = tokio::time::timeout(MAX_WAIT, all).await;
        held.lock().add(acquired.map_err(|_| Exhausted)?.map_err(|_| Exhausted)?);
        pool.used.add(i64::from(more));
        Ok(())
    }

    /// Releases what exceeds `bytes`.
    pub fn shrink_to(&self, bytes: usize) {
        let Some(held) = &self.0 else { return };
        let mut parts = held.lock();
        let surplus = parts.bytes().saturating_sub(bytes);
        if let Some(permits) = parts.0.as_mut().filter(|_| surplus > 0) {
            drop((permits.share.split(surplus), permits.namespace.split(surplus), permits.pool.split(surplus)));
            held.memory.budget.0.responses.used.sub(i64::try_from(surplus).unwrap_or(0));
        }
    }

    /// The bytes that are reserved.
    pub fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |held| held.lock().bytes())
    }

    /// Another reservation for the same connection, of nothing yet: for what is made of the response.
    #[must_use]
    pub fn another(&self) -> Self {
        self.0.as_ref().map(|held| held.memory.reservation()).unwrap_or_default()
    }

    /// `bytes`, which keep the reservation until the last of their clones is dropped.
    pub fn attach(self, bytes: Bytes) -> Bytes {
        if self.0.is_none() { bytes } else { Bytes::from_owner(Attached { bytes, _memory: self }) }
    }

    /// Runs `work` on `bytes` of the response: at once if they are few, else on a thread for such work, when one is
    /// free.
    pub async fn run<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ParserPanicked> {
        let Some(held) = self.0.as_ref().filter(|_| bytes > FREE_BYTES) else { return Ok(work()) };
        let budget = &held.memory.budget.0;
        let slot = Arc::clone(&budget.parsers).acquire_owned().await.map_err(|_| ParserPanicked)?;
        // If the caller is dropped meanwhile, the work goes on, and so does the reservation of what it reads.
        let held = Arc::clone(held);
        let task = budget.tasks.spawn_blocking("parse", move || {
            let result = work();
            drop((slot, held));
            result
        });
        task.await.map_err(|_| ParserPanicked)
    }

    /// Reserves what a page is parsed into, after a wait of at most 30 s.
    pub async fn reserve_page(&self, bytes: usize) -> Result<PageReservation, Exhausted> {
        let Some(held) = &self.0 else { return Ok(PageReservation::default()) };
        let budget = &held.memory.budget;
        let size = u32::try_from(bytes).ok().filter(|_| bytes <= budget.0.pages.size).ok_or(Exhausted)?;
        let permit = Arc::clone(&budget.0.pages.free).acquire_many_owned(size);
        let permit =
            tokio::time::timeout(MAX_PAGE_WAIT, permit).await.map_err(|_| Exhausted)?.map_err(|_| Exhausted)?;
        budget.0.pages.used.add(i64::from(size));
        Ok(PageReservation(Some((permit, budget.clone()))))
    }
}

impl Held {
    /// What is missing to `bytes`, if anything.
    fn more(parts: &Parts, bytes: usize) -> Option<u32> {
        let more = bytes.saturating_sub(parts.bytes());
        // A body is never as long as a `u32` can count.
        (more > 0).then(|| u32::try_from(more).unwrap_or(u32::MAX))
    }

    fn lock(&self) -> MutexGuard<'_, Parts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let bytes = self.lock().bytes();
        self.memory.budget.0.responses.used.sub(i64::try_from(bytes).unwrap_or(0));
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reservation").field(&self.bytes()).finish()
    }
}

/// Bytes with the reservation of their memory.
struct Attached {
    bytes: Bytes,
    _memory: Reservation,
}

impl AsRef<[u8]> for Attached {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Memory that one parsed page takes, until it is committed. The default reserves nothing.
#[derive(Default)]
pub struct PageReservation(Option<(OwnedSemaphorePermit, MemoryBudget)>);

impl Drop for PageReservation {
    fn drop(&mut self) {
        if let Some((permit, budget)) = &self.0 {
            budget.0.pages.used.sub(i64::try_from(permit.num_permits()).unwrap_or(0));
        }
    }
}

impl fmt::Debug for PageReservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PageReservation").field(&self.0.as_ref().map(|(permit, _)| permit.num_permits())).finish()
    }
}

#[cfg(test)]
mod tests;
