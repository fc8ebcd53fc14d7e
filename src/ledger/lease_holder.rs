//! Holding a lease: taking it, renewing it while work runs under it, noticing its loss, and releasing it.
//!
//! A holder can lose its lease at any moment: a process that was frozen, or cut off from the ledger, for longer than
//! the TTL is replaced. So every write under a lease carries its fence ([`HeldLease::lease`]), which the ledger checks
//! inside the transaction; [`HeldLease::lost`] and [`HeldLease::remaining`] only stop the work sooner. A ledger that
//! fails is no loss: another process needs the same ledger to take the lease.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::error::LedgerError;
use super::lease::{Lease, LeaseOutcome, LeaseStore, StoredLease};
use crate::clock::Clock;
use crate::domain::time::Mono;
use crate::tasks::TaskGroup;

#[cfg(test)]
pub(crate) mod memory;
#[cfg(test)]
mod tests;

/// Renewals within one TTL: four of them may fail before another process can take the lease.
const RENEWALS_PER_TTL: u32 = 5;

/// What is held, by which process, and for how long without a renewal.
#[derive(Clone, Debug)]
pub struct LeaseOptions {
    /// Name of the guarded resource.
    pub name: String,
    /// Identity of this process. A process that starts again under the same identity takes its lease back at once.
    pub holder: String,
    /// Validity without a renewal.
    pub ttl: Duration,
    /// Where a lease that is dropped is released: the shutdown waits for it before it closes the ledger.
    pub tasks: TaskGroup,
}

/// Takes one lease.
pub struct LeaseHolder {
    store: Arc<dyn LeaseStore>,
    clock: Clock,
    options: LeaseOptions,
    /// Another holder's lease, and since when this process has observed it unchanged.
    observed: Option<(StoredLease, Mono)>,
}

/// The result of [`LeaseHolder::take`].
#[derive(Debug)]
pub enum TakeOutcome {
    /// This process holds the lease.
    Taken(HeldLease),
    /// Another process holds it.
    HeldByOther {
        /// Whether the lease changed since the previous attempt: its holder is alive.
        renewed: bool,
    },
}

impl LeaseHolder {
    /// A holder of the lease that `options` name, not taken yet.
    pub fn new(store: Arc<dyn LeaseStore>, clock: Clock, options: LeaseOptions) -> Self {
        Self { store, clock, options, observed: None }
    }

    /// Tries once to take the lease. Repeated attempts watch another holder's lease: one that does not change for a
    /// whole TTL on this process's monotonic clock is taken, whatever expiry the wall clocks say.
    pub async fn take(&mut self) -> Result<TakeOutcome, LedgerError> {
        let LeaseOptions { name, holder, ttl, tasks } = &self.options;
        let now = self.clock.now();
        let unchanged = self.observed.as_ref().filter(|(_, since)| now.mono.since(*since) >= *ttl);
        let stale = unchanged.map(|(lease, _)| lease.clone());
        match self.store.acquire_lease(name, holder, *ttl, now.wall, stale).await? {
            LeaseOutcome::Acquired(lease) => {
                self.observed = None;
                Ok(TakeOutcome::Taken(HeldLease {
                    store: Arc::clone(&self.store),
                    clock: self.clock,
                    lease,
                    ttl: *ttl,
                    confirmed: AtomicU64::new(now.mono.nanos()),
                    tasks: tasks.clone(),
                    release_on_drop: true,
                }))
            }
            LeaseOutcome::HeldBy(current) => {
                let known = self.observed.as_ref().map(|(lease, _)| lease);
                let renewed = known.is_some_and(|known| *known != current);
                if known.is_none() || renewed {
                    self.observed = Some((current, now.mono));
                }
                Ok(TakeOutcome::HeldByOther { renewed })
            }
        }
    }
}

/// A lease that this process took. Dropping it releases it in the background; [`HeldLease::release`] waits for that.
pub struct HeldLease {
    store: Arc<dyn LeaseStore>,
    clock: Clock,
    lease: Lease,
    ttl: Duration,
    /// When the last confirmed acquisition or renewal was sent, in nanoseconds of the monotonic clock.
    confirmed: AtomicU64,
    tasks: TaskGroup,
    release_on_drop: bool,
}

impl HeldLease {
    /// The lease with its fence, for the transactions under it.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// How long the lease is still valid if no renewal succeeds; zero once another process may take it. Work that must
    /// end within the lease starts only if this is longer.
    pub fn remaining(&self) -> Duration {
        self.ttl.saturating_sub(self.clock.mono().since(self.confirmed()))
    }

    /// Renews the lease for as long as it is awaited; returns when another process has taken it.
    pub async fn lost(&self) {
        let interval = self.ttl / RENEWALS_PER_TTL;
        let (mut next, mut failing) = (self.confirmed() + interval, false);
        loop {
            self.clock.sleep_until(next).await;
            let now = self.clock.now();
            next = now.mono + interval;
            match self.store.renew_lease(&self.lease, self.ttl, now.wall).await {
                Ok(true) => {
                    self.confirmed.store(now.mono.nanos(), Ordering::Relaxed);
                    failing = false;
                }
                Ok(false) => return,
                Err(error) => {
                    if !failing {
                        tracing::warn!(lease = self.lease.name, %error, "renewing a ledger lease failed; retrying");
                    }
                    failing = true;
                }
            }
        }
    }

    /// Releases the lease, so that another process can take it at once. One that cannot be released expires.
    pub async fn release(mut self) {
        if let Err(error) = self.store.release_lease(&self.lease).await {
            tracing::debug!(lease = self.lease.name, %error, "releasing a ledger lease failed; it expires by itself");
        }
        self.release_on_drop = false;
    }

    /// The lease alone: it is neither renewed nor released on drop. For a resource that must not be touched before the
    /// expiry if this process ends half-way.
    pub fn into_lease(mut self) -> Lease {
        self.release_on_drop = false;
        self.lease.clone()
    }

    fn confirmed(&self) -> Mono {
        Mono::from_nanos(self.confirmed.load(Ordering::Relaxed))
    }
}

impl Drop for HeldLease {
    fn drop(&mut self) {
        // Without a runtime, as at the end of the process, the lease expires.
        if let (true, Ok(runtime)) = (self.release_on_drop, tokio::runtime::Handle::try_current()) {
            let (store, lease) = (Arc::clone(&self.store), self.lease.clone());
            self.tasks.spawn_on(&runtime, "lease release", async move { store.release_lease(&lease).await });
        }
    }
}

impl fmt::Debug for HeldLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeldLease").field("lease", &self.lease).field("ttl", &self.ttl).finish_non_exhaustive()
    }
}
