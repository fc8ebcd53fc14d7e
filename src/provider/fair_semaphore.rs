//! A semaphore whose waiting tasks are served in turn by namespace and connection, with limits and fair shares for each:
//! the bulkhead of look-ups, sync runs and whatever else many connections share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::domain::fair_queue::FairQueue;
use crate::domain::fair_shares::{FairLimits, FairShares};
use crate::domain::key::ObjectKey;

/// The semaphore. Clones share it.
#[derive(Clone, Debug)]
pub struct FairSemaphore {
    state: Arc<Mutex<SemaphoreState>>,
}

#[derive(Debug)]
struct SemaphoreState {
    held: FairShares,
    waiting: FairQueue<oneshot::Sender<FairPermit>>,
    /// Length of the queue at which those that stopped waiting are removed.
    purge_at: usize,
}

/// A queue shorter than this is not purged.
const PURGE_FROM: usize = 64;

/// A permit; dropping it gives it back.
#[derive(Debug)]
pub struct FairPermit {
    semaphore: FairSemaphore,
    owner: ObjectKey,
}

impl FairSemaphore {
    /// A semaphore of which nothing is held.
    pub fn new(limits: FairLimits) -> Self {
        let state =
            SemaphoreState { held: FairShares::new(limits), waiting: FairQueue::default(), purge_at: PURGE_FROM };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Waits for the turn of `owner` and takes a permit. Dropping the future leaves the queue.
    pub async fn acquire(&self, owner: &ObjectKey) -> FairPermit {
        loop {
            let granted = {
                let mut state = self.lock();
                // None who could be admitted waits: those were served when the last permit was given back.
                if state.held.admits(owner) {
                    return self.take(&mut state, owner);
                }
                let (grant, granted) = oneshot::channel();
                if state.waiting.len() >= state.purge_at {
                    state.waiting.retain(|grant| !grant.is_closed());
                    state.purge_at = PURGE_FROM.max(state.waiting.len() * 2);
                }
                state.waiting.push(owner, grant);
                granted
            };
            if let Ok(permit) = granted.await {
                return permit;
            }
        }
    }

    /// The number of permits that are held.
    pub fn held(&self) -> usize {
        self.lock().held.total()
    }

    /// The number of tasks that wait; it may include some that no longer do.
    pub fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }

    fn take(&self, state: &mut SemaphoreState, owner: &ObjectKey) -> FairPermit {
        state.held.add(owner);
        FairPermit { semaphore: self.clone(), owner: owner.clone() }
    }

    /// Gives a permit of `owner` back and serves those whose turn it is.
    fn release(&self, owner: &ObjectKey) {
        let mut granted = Vec::new();
        {
            let mut state = self.lock();
            state.held.remove(owner);
            loop {
                let SemaphoreState { held, waiting, .. } = &mut *state;
                let Some((next, grant)) = waiting.pop(|key, _| held.admits(key)) else { break };
                if !grant.is_closed() {
                    let permit = self.take(&mut state, &next);
                    granted.push((grant, permit));
                }
            }
        }
        // Outside the lock: a permit whose task is gone is given back by its drop.
        for (grant, permit) in granted {
            drop(grant.send(permit));
        }
    }

    fn lock(&self) -> MutexGuard<'_, SemaphoreState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for FairPermit {
    fn drop(&mut self) {
        self.semaphore.release(&self.owner);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;
    use crate::domain::fair_shares::WhenFull;

    fn semaphore(total: usize, per_connection: usize) -> FairSemaphore {
        FairSemaphore::new(FairLimits { total, per_namespace: total, per_connection, when_full: WhenFull::Refuse })
    }

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new("team", name)
    }

    #[tokio::test]
    async fn waiting_tasks_are_served_in_turn_by_connection() {
        let semaphore = semaphore(1, 1);
        let held = semaphore.acquire(&key("a")).await;
        let (tell, mut order) = tokio::sync::mpsc::unbounded_channel();
        for name in ["a", "a", "a", "b"] {
            let (semaphore, tell) = (semaphore.clone(), tell.clone());
            tokio::spawn(async move {
                let permit = semaphore.acquire(&key(name)).await;
                tell.send(name).unwrap();
                tokio::task::yield_now().await;
                drop(permit);
            });
            tokio::task::yield_now().await;
        }
        drop((held, tell));
        let mut served = Vec::new();
        while let Some(name) = order.recv().await {
            served.push(name);
        }
        assert_eq!(served, ["a", "b", "a", "a"]);
        assert_eq!((semaphore.held(), semaphore.waiting()), (0, 0));
    }

    #[tokio::test]
    async fn a_task_that_stops_waiting_takes_no_permit() {
        let semaphore = semaphore(1, 1);
        let held = semaphore.acquire(&key("a")).await;
        let (b, c) = (key("b"), key("c"));
        let mut waiting = Box::pin(semaphore.acquire(&b));
        assert!(waiting.as_mut().now_or_never().is_none());
        let mut granted = Box::pin(semaphore.acquire(&c));
        assert!(granted.as_mut().now_or_never().is_none());
        drop(waiting);
        drop(held);
        // Granted, but dropped before it was polled again.
        drop(granted);
        assert_eq!(semaphore.held(), 0);
        assert!(semaphore.acquire(&key("d")).now_or_never().is_some());
    }

    #[tokio::test]
    async fn tasks_that_gave_up_are_skipped_and_do_not_pile_up() {
        let semaphore = semaphore(1, 1);
        let held = semaphore.acquire(&key("a")).await;
        for n in 0..10_000 {
            assert!(semaphore.acquire(&key(&format!("gone-{n}"))).now_or_never().is_none());
        }
        assert!(semaphore.waiting() <= PURGE_FROM);
        let owner = key("last");
        let mut last = Box::pin(semaphore.acquire(&owner));
        assert!(last.as_mut().now_or_never().is_none());
        drop(held);
        assert!(last.now_or_never().is_some());
    }
}
