//! The ledger's epoch in the leader lease: a number that outlives the ledger.
//!
//! A replica leads only with a ledger that is not behind the number in the lease, raises the ledger's number when it has
//! acquired the lease, and writes the new one with its next renewal. In this order, so that a process that dies in between
//! leaves a ledger that is ahead, never one that is behind. What the ledger is, is behind [`EpochGuard`].

use std::collections::BTreeMap;

use futures::future::BoxFuture;

/// The annotation of the leader lease.
pub const EPOCH_ANNOTATION: &str = "busbar.dev/ledger-epoch";

/// The outcome of an attempt to raise the ledger's epoch.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum RaiseOutcome {
    /// Raised to this number.
    Raised(i64),
    /// The ledger is behind the lease.
    Behind,
    /// The ledger could not be written; the attempt is repeated with each renewal.
    Failed,
}

/// Decides whether this replica may lead with its ledger.
pub trait EpochGuard: Send + Sync + 'static {
    /// Whether the ledger is not behind the number `lease` of the lease. Asked before the lease is acquired.
    fn admits(&self, lease: i64) -> BoxFuture<'_, bool>;

    /// Another replica leads: nothing is to be decided.
    fn stands_by(&self);

    /// Raises the ledger's number above `lease`. Called once the lease is acquired.
    fn raise(&self, lease: i64) -> BoxFuture<'_, RaiseOutcome>;
}

/// The number in a lease's annotations; 0 without one. A value that is no number was not written by a leader.
pub(super) fn epoch_of(annotations: &BTreeMap<String, String>) -> i64 {
    annotations.get(EPOCH_ANNOTATION).and_then(|text| text.parse().ok()).unwrap_or(0)
}
