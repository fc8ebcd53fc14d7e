//! The daily requests of licence profiles, taken from the ledger in blocks.
//!
//! A call waits for the ledger within its own deadline only. A ledger that does not answer has one request of each
//! profile at a time, however many calls wait for it or have stopped waiting, and what it grants late is used by later
//! calls.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};

use crate::ledger::audit::{Usage, UsageKey};

/// Daily requests are taken from the ledger in blocks of one percent, at least one and at most this many: a process
/// that dies loses the rest of its block, so the limit may be reached a little early, never late.
const MAX_BLOCK: u64 = 100;

/// The result of counting one request.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Counted {
    /// It is within the daily limit.
    Within,
    /// The daily limit is reached.
    Exhausted,
    /// The ledger failed, or did not answer in time.
    Unknown,
}

/// What is left of the taken blocks.
pub(crate) struct UsageBlocks<L: ?Sized> {
    ledger: Arc<L>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Entries of former days are dropped.
    left: HashMap<UsageKey, u64>,
    /// The blocks that are being taken, at most one of each profile.
    taking: HashMap<UsageKey, Taking>,
}

/// A block that is being taken. The calls that need it poll it; its end is in the state.
type Taking = Shared<BoxFuture<'static, Taken>>;

/// The end of taking a block.
#[derive(Copy, Clone, Debug)]
enum Taken {
    Granted,
    Exhausted,
    Failed,
}

impl<L: Usage + Send + Sync + ?Sized + 'static> UsageBlocks<L> {
    /// Blocks from `ledger`.
    pub(crate) fn new(ledger: Arc<L>) -> Self {
        Self { ledger, state: Arc::default() }
    }

    /// Counts one request of `usage`, whose daily limit is `limit`; waits for the ledger for at most `patience`.
    pub(crate) async fn count(&self, usage: UsageKey, limit: u64, patience: Duration) -> Counted {
        let counted = async {
            loop {
                let taking = {
                    let mut state = self.lock();
                    if let Some(left) = state.left.get_mut(&usage).filter(|left| **left > 0) {
                        *left -= 1;
                        return Counted::Within;
                    }
                    let taking = state.taking.entry(usage.clone());
                    taking.or_insert_with(|| self.take(usage.clone(), limit)).clone()
                };
                match taking.await {
                    Taken::Granted => {}
                    Taken::Exhausted => return Counted::Exhausted,
                    Taken::Failed => return Counted::Unknown,
                }
            }
        };
        tokio::time::timeout(patience, counted).await.unwrap_or(Counted::Unknown)
    }

    /// Takes a block. It is not polled by anyone but the calls that wait for it.
    fn take(&self, usage: UsageKey, limit: u64) -> Taking {
        // Weak: the state holds this future.
        let (ledger, state) = (Arc::clone(&self.ledger), Arc::downgrade(&self.state));
        async move {
            let block = (limit / 100).clamp(1, MAX_BLOCK);
            let granted = ledger.take_usage(&usage, block, limit).await;
            let Some(state) = state.upgrade() else { return Taken::Failed };
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            state.taking.remove(&usage);
            match granted {
                Ok(0) => Taken::Exhausted,
                Ok(granted) => {
                    state.left.retain(|key, _| key.day == usage.day);
                    *state.left.entry(usage).or_default() += granted;
                    Taken::Granted
                }
                Err(error) => {
                    tracing::warn!(%error, "licence usage could not be counted; the requests are admitted");
                    Taken::Failed
                }
            }
        }
        .boxed()
        .shared()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

    use futures::future::join_all;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::clock::Clock;
    use crate::ledger::LedgerFuture;

    /// A ledger that answers one request per permit.
    struct SlowLedger {
        answers: Semaphore,
        requests: AtomicUsize,
        used: AtomicU64,
    }

    impl Usage for SlowLedger {
        fn take_usage<'a>(&'a self, _: &'a UsageKey, want: u64, limit: u64) -> LedgerFuture<'a, u64> {
            self.requests.fetch_add(1, Ordering::Relaxed);
            async move {
                self.answers.acquire().await.unwrap().forget();
                let granted = want.min(limit - self.used.load(Ordering::Relaxed));
                self.used.fetch_add(granted, Ordering::Relaxed);
                Ok(granted)
            }
            .boxed()
        }
    }

    fn blocks(answers: usize) -> UsageBlocks<SlowLedger> {
        let answers = Semaphore::new(answers);
        UsageBlocks::new(Arc::new(SlowLedger { answers, requests: AtomicUsize::new(0), used: AtomicU64::new(0) }))
    }

    fn usage() -> UsageKey {
        let (namespace, connection, profile) = ("ns".to_owned(), "fmp".to_owned(), "desk".to_owned());
        UsageKey { namespace, connection, profile, day: jiff::civil::date(2026, 11, 22) }
    }

    const PATIENCE: Duration = Duration::from_millis(300);

    #[tokio::test(start_paused = true)]
    async fn a_ledger_that_hangs_is_waited_for_no_longer_than_the_call_allows() {
        let (blocks, clock) = (blocks(0), Clock::system());
        let began = clock.mono();
        let counted = join_all((0..100).map(|_| blocks.count(usage(), 1_000, PATIENCE))).await;
        assert!(counted.iter().all(|one| *one == Counted::Unknown));
        assert_eq!(clock.mono().since(began), PATIENCE);
        for _ in 0..10 {
            assert_eq!(blocks.count(usage(), 1_000, PATIENCE).await, Counted::Unknown);
        }
        assert_eq!(blocks.ledger.requests.load(Ordering::Relaxed), 1, "it has one request at a time");
        blocks.ledger.answers.add_permits(1);
        for _ in 0..10 {
            assert_eq!(blocks.count(usage(), 1_000, PATIENCE).await, Counted::Within);
        }
        assert_eq!(blocks.ledger.requests.load(Ordering::Relaxed), 1, "what was granted late is used");
    }

    #[tokio::test(start_paused = true)]
    async fn each_request_is_counted_once_until_the_limit() {
        let blocks = blocks(1_000);
        let counted = join_all((0..20).map(|_| blocks.count(usage(), 7, PATIENCE))).await;
        assert_eq!(counted.iter().filter(|one| **one == Counted::Within).count(), 7);
        assert_eq!(counted.iter().filter(|one| **one == Counted::Exhausted).count(), 13);
        assert!(blocks.lock().taking.is_empty());
    }
}
