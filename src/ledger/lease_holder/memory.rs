//! Leases in memory, for tests with a paused clock.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use jiff::Timestamp;

use crate::ledger::error::{LedgerError, LedgerFuture};
use crate::ledger::lease::{Lease, LeaseOutcome, LeaseStore, StoredLease};

/// Leases in memory that can be made unavailable.
#[derive(Default)]
pub(crate) struct MemoryLeases {
    stored: Mutex<HashMap<String, StoredLease>>,
    unavailable: AtomicBool,
}

impl MemoryLeases {
    /// Whether every call fails from now on.
    pub(crate) fn set_unavailable(&self, unavailable: bool) {
        self.unavailable.store(unavailable, Ordering::Relaxed);
    }

    /// Fails while the leases are unavailable.
    pub(crate) fn check(&self) -> Result<(), LedgerError> {
        if self.unavailable.load(Ordering::Relaxed) { Err(LedgerError::SchemaOutdated) } else { Ok(()) }
    }

    /// The lease `name` as stored.
    pub(crate) fn stored(&self, name: &str) -> StoredLease {
        self.stored.lock().unwrap()[name].clone()
    }

    /// Changes the lease if `lease` still holds it.
    fn change(&self, lease: &Lease, change: impl FnOnce(&mut StoredLease)) -> Result<bool, LedgerError> {
        self.check()?;
        let mut stored = self.stored.lock().unwrap();
        let held = stored.get_mut(&lease.name).filter(|s| (s.fence, &s.holder) == (lease.fence, &lease.holder));
        Ok(held.map(change).is_some())
    }
}

impl LeaseStore for MemoryLeases {
    fn acquire_lease<'a>(
        &'a self,
        name: &'a str,
        holder: &'a str,
        ttl: Duration,
        now: Timestamp,
        stale: Option<StoredLease>,
    ) -> LedgerFuture<'a, LeaseOutcome> {
        async move {
            self.check()?;
            let mut stored = self.stored.lock().unwrap();
            let current = stored.get(name);
            if let Some(current) = current
                && current.expires > now
                && current.holder != holder
                && stale.as_ref() != Some(current)
            {
                return Ok(LeaseOutcome::HeldBy(current.clone()));
            }
            let (fence, expires) = (current.map_or(0, |current| current.fence) + 1, now + ttl);
            stored.insert(name.to_owned(), StoredLease { holder: holder.to_owned(), fence, expires });
            Ok(LeaseOutcome::Acquired(Lease { name: name.to_owned(), holder: holder.to_owned(), fence, expires }))
        }
        .boxed()
    }

    fn renew_lease<'a>(&'a self, lease: &'a Lease, ttl: Duration, now: Timestamp) -> LedgerFuture<'a, bool> {
        async move { self.change(lease, |stored| stored.expires = now + ttl) }.boxed()
    }

    fn release_lease<'a>(&'a self, lease: &'a Lease) -> LedgerFuture<'a, ()> {
        async move {
            self.change(lease, |stored| {
                stored.expires = Timestamp::UNIX_EPOCH;
                stored.holder.clear();
            })
            .map(drop)
        }
        .boxed()
    }
}
