//! The slots of sync runs, and who gets one next.
//!
//! A run holds a slot while it works: takes its lease, parses a page, commits it. While it waits for the provider, for
//! quota, for a retry or for a lease it holds none, so that a bank that does not answer never keeps other banks' jobs
//! from starting. Two semaphores, both served in turn by namespace and connection:
//! - runs in progress, limited for each connection, with fair shares for all others when many are in progress;
//! - slots, a hard limit, for the runs in progress that have something to do.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt as _;
use futures::future::BoxFuture;

use crate::domain::fair_shares::{FairLimits, WhenFull};
use crate::domain::key::ObjectKey;
use crate::provider::call::{CallError, Request, Response};
use crate::provider::fair_semaphore::{FairPermit, FairSemaphore};
use crate::sync::Fetch;

/// Runs in progress for each slot. Most of a run is waiting: with so many, the slots always have work. More would only
/// compete for the memory of responses, which they hold while they wait for a slot again.
const RUNS_PER_SLOT: usize = 4;

/// The slots of a pool. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Slots {
    in_progress: FairSemaphore,
    working: FairSemaphore,
}

impl Slots {
    /// `concurrency` slots, and at most as many runs in progress of one connection.
    pub(super) fn new(concurrency: usize) -> Self {
        let limits =
            |total, when_full| FairLimits { total, per_namespace: usize::MAX, per_connection: concurrency, when_full };
        Self {
            in_progress: FairSemaphore::new(limits(concurrency.saturating_mul(RUNS_PER_SLOT), WhenFull::FairShares)),
            working: FairSemaphore::new(limits(concurrency, WhenFull::Refuse)),
        }
    }

    /// Waits for the turn of `connection` and takes a slot for a run of it.
    pub(super) async fn start(&self, connection: ObjectKey) -> RunSlot {
        let in_progress = self.in_progress.acquire(&connection).await;
        let working = self.working.acquire(&connection).await;
        let slots = self.clone();
        RunSlot { slots, connection, working: Mutex::new(Some(working)), _in_progress: in_progress }
    }

    /// The number of runs that wait for their start.
    pub(super) fn queued(&self) -> usize {
        self.in_progress.waiting()
    }

    /// The number of runs that hold a slot.
    pub(super) fn working(&self) -> usize {
        self.working.held()
    }

    /// The number of runs in progress that hold no slot.
    pub(super) fn waiting(&self) -> usize {
        self.in_progress.held().saturating_sub(self.working.held())
    }
}

/// The slot of one run; dropping it ends the run's use of the pool.
#[derive(Debug)]
pub(super) struct RunSlot {
    slots: Slots,
    connection: ObjectKey,
    working: Mutex<Option<FairPermit>>,
    _in_progress: FairPermit,
}

impl RunSlot {
    /// Waits for `wait` without the slot, then for the slot again.
    pub(super) async fn wait<T>(&self, wait: impl Future<Output = T>) -> T {
        drop(self.set(None));
        let result = wait.await;
        let working = self.slots.working.acquire(&self.connection).await;
        drop(self.set(Some(working)));
        result
    }

    fn set(&self, working: Option<FairPermit>) -> Option<FairPermit> {
        std::mem::replace(&mut *self.working.lock().unwrap_or_else(PoisonError::into_inner), working)
    }
}

/// Calls the provider without holding the run's slot.
pub(super) struct SlotFetch {
    pub(super) fetch: Arc<dyn Fetch>,
    pub(super) slot: Arc<RunSlot>,
    /// Whether a user requested the run and its first call has not been made.
    pub(super) requested: AtomicBool,
}

impl Fetch for SlotFetch {
    fn fetch(&self, request: Request) -> BoxFuture<'_, Result<Response, CallError>> {
        let request = Request { requested: self.requested.swap(false, Ordering::Relaxed), ..request };
        self.slot.wait(self.fetch.fetch(request)).boxed()
    }
}
