//! Leases: exclusive write permission with a fencing number.

use std::time::Duration;

use jiff::Timestamp;

use super::error::LedgerFuture;

/// A held lease: permits writing until another holder acquires it with a higher fence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Name of the guarded resource.
    pub name: String,
    /// Identity of the holder.
    pub holder: String,
    /// Fencing number: increases with every acquisition, checked inside each page transaction.
    pub fence: i64,
    /// When other holders may acquire it.
    pub expires: Timestamp,
}

/// A lease as stored, seen by a process that does not hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredLease {
    /// Identity of the holder.
    pub holder: String,
    /// Its fencing number.
    pub fence: i64,
    /// When it expires, by the holder's wall clock.
    pub expires: Timestamp,
}

/// The result of an attempt to acquire a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseOutcome {
    /// The caller holds it now.
    Acquired(Lease),
    /// Another holder has it.
    HeldBy(StoredLease),
}

impl LeaseOutcome {
    /// The lease, if it was acquired.
    pub fn acquired(self) -> Option<Lease> {
        match self {
            Self::Acquired(lease) => Some(lease),
            Self::HeldBy(_) => None,
        }
    }
}

/// Access to leases. Work that runs under one uses [`LeaseHolder`](super::lease_holder::LeaseHolder).
pub trait LeaseStore: Send + Sync + 'static {
    /// Acquires the lease `name` for `holder` if it is free, expired, already held by `holder`, or still equal to
    /// `stale`. The caller passes as `stale` a lease that it has observed unchanged for the whole TTL on its own
    /// monotonic clock, so that a wall clock set back cannot keep a dead holder's lease alive. Each success increments
    /// the fence.
    fn acquire_lease<'a>(
        &'a self,
        name: &'a str,
        holder: &'a str,
        ttl: Duration,
        now: Timestamp,
        stale: Option<StoredLease>,
    ) -> LedgerFuture<'a, LeaseOutcome>;

    /// Extends a lease; `false` if another holder has acquired it.
    fn renew_lease<'a>(&'a self, lease: &'a Lease, ttl: Duration, now: Timestamp) -> LedgerFuture<'a, bool>;

    /// Releases a lease, so that the next holder need not wait for its expiry. No effect if the lease was lost.
    fn release_lease<'a>(&'a self, lease: &'a Lease) -> LedgerFuture<'a, ()>;
}
