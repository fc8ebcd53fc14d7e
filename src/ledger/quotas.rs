//! Counts of daily limits, so that a restart does not grant a day's requests again.
//!
//! They are added, never set: a count is a request that was sent, by whichever process and whether or not it still holds
//! a lease, and the sum is right in every order. Only their removal is fenced.

use jiff::civil::Date;

use super::error::LedgerFuture;
use super::lease::Lease;
use crate::domain::key::ObjectKey;
use crate::domain::quota::DayUsage;

/// Whose counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaOwner {
    /// The connection.
    pub connection: ObjectKey,
    /// Its UID: a later object of the same name has counted nothing yet.
    pub uid: String,
}

/// Access to the counts.
pub trait Quotas {
    /// The counts of the days from `since` on.
    fn load_quota<'a>(&'a self, owner: &'a QuotaOwner, since: Date) -> LedgerFuture<'a, Vec<DayUsage>>;

    /// Adds to the counts; returns the sums, in the same order.
    fn add_quota<'a>(&'a self, owner: &'a QuotaOwner, added: &'a [DayUsage]) -> LedgerFuture<'a, Vec<DayUsage>>;

    /// Deletes up to `limit` counts of days before `before`, and of days after `latest`, which a wrong clock counted; returns
    /// the number deleted.
    ///
    /// # Errors
    /// [`super::error::LedgerError::Fenced`] when another holds the lease.
    fn prune_quota<'a>(&'a self, lease: &'a Lease, before: Date, latest: Date, limit: u32) -> LedgerFuture<'a, u64>;
}
