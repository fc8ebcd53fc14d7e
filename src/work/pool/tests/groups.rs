//! How many transactions the pages of a run are: small pages share one, unless the provider takes its time.

use futures::FutureExt as _;
use futures::future::BoxFuture;

use super::memory_ledger::MemoryLedger;
use super::*;
use crate::provider::call::{CallError, Request, Response};
use crate::sync::Fetch;

/// A bank that answers after a delay.
struct DelayedBank {
    bank: ScriptedBank,
    delay: Duration,
    clock: Clock,
}

impl Fetch for DelayedBank {
    fn fetch(&self, request: Request) -> BoxFuture<'_, Result<Response, CallError>> {
        async move {
            self.clock.sleep_until(self.clock.mono() + self.delay).await;
            self.bank.fetch(request).await
        }
        .boxed()
    }
}

/// The transactions of a run that reads `records` in pages of `size` from a bank that answers after `delay`.
async fn commits(records: usize, size: u64, delay: Duration) -> Vec<usize> {
    let clock = Clock::starting_at(NOW.parse().unwrap());
    let (ledger, queue) = (MemoryLedger::new(clock, Duration::from_millis(5)), ReconcileQueue::new());
    let pool = SyncPool::new(ledger.clone(), queue.clone(), clock, &Metrics::new(), PoolOptions::new("me")).unwrap();
    let plan = Arc::new(plan(size));
    let mut ends = std::pin::pin!(queue.subscribe(Kind::SyncJob, None));
    let bank = DelayedBank { bank: ScriptedBank::with(records), delay, clock };
    assert_eq!(pool.start(plan.clone(), Arc::new(bank), run_request()), StartOutcome::Accepted);
    ends.next().await.unwrap();
    let outcome = pool.view(&plan.job, 1).await.unwrap().last_outcome.unwrap();
    assert_eq!((outcome.report.result, outcome.report.counts.fetched), (RunResult::Succeeded, records as u64));
    ledger.commits()
}

#[tokio::test(start_paused = true)]
async fn small_pages_of_a_fast_provider_share_transactions_and_others_do_not() {
    let fast = Duration::from_millis(1);
    assert_eq!(commits(95, 10, fast).await, [10], "pages of ten");
    assert_eq!(commits(40, 1, fast).await, [16, 16, 8], "pages of one: a group has at most sixteen");
    assert_eq!(commits(340, 45, fast).await, [8], "pages of 45");
    assert_eq!(commits(240, 60, fast).await, [1; 4], "larger pages");
    // Each is stored while the next one is requested, not after it.
    assert_eq!(commits(30, 10, Duration::from_millis(200)).await, [1, 1, 1], "a provider that takes its time");
    assert_eq!(commits(70, 10, Duration::from_millis(20)).await, [3, 3, 1], "and one between");
}
