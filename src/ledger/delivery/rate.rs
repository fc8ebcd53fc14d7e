//! Token buckets that replicas share.
//!
//! A bucket is stored as the instant at which it is full again (the generic cell rate algorithm), as in
//! [`token_buckets`](crate::domain::token_buckets). A replica decides by its own buckets, charges here what it took, and
//! adopts what the others took.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::ledger::error::LedgerFuture;
use crate::ledger::lease::Lease;

/// Tokens that were taken from a bucket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BucketCharge {
    /// Whose bucket.
    pub key: String,
    /// How many; 0 only reads.
    pub tokens: u32,
    /// Time in which one token is added.
    pub interval: Duration,
    /// Tokens of a full bucket.
    pub burst: u32,
}

/// Access to the buckets.
pub trait RateBuckets {
    /// Takes the tokens; returns when each bucket is full again, in the order of the charges. A bucket is never more than
    /// empty, so that what several replicas took at once is forgiven beyond its burst.
    fn charge_buckets<'a>(&'a self, charges: &'a [BucketCharge], now: Timestamp) -> LedgerFuture<'a, Vec<Timestamp>>;

    /// Deletes at most `limit` full buckets; returns the number deleted.
    ///
    /// # Errors
    /// [`Fenced`](crate::ledger::error::LedgerError::Fenced): another process prunes; nothing is deleted.
    fn prune_buckets<'a>(&'a self, lease: &'a Lease, limit: u32, now: Timestamp) -> LedgerFuture<'a, u64>;
}

/// What a bucket is charged with by one call, in milliseconds.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Cost {
    /// How much later it is full.
    pub(crate) charged: i64,
    /// How far ahead it may be full at most.
    pub(crate) limit: i64,
}

impl Cost {
    /// When a bucket that was full at `full_ms` is full after the charge.
    pub(crate) fn applied(self, full_ms: i64, now_ms: i64) -> i64 {
        let charged = full_ms.max(now_ms).saturating_add(self.charged);
        charged.min(now_ms.saturating_add(self.limit))
    }
}

/// The charges of each bucket, ordered by key: two replicas lock the rows in the same order.
pub(crate) fn merged(charges: &[BucketCharge]) -> BTreeMap<&str, Cost> {
    let mut merged: BTreeMap<&str, Cost> = BTreeMap::new();
    for charge in charges {
        let millis = |tokens: u32| {
            let total = charge.interval.saturating_mul(tokens).as_millis();
            i64::try_from(total).unwrap_or(i64::MAX)
        };
        let cost = merged.entry(&charge.key).or_default();
        cost.charged = cost.charged.saturating_add(millis(charge.tokens));
        cost.limit = cost.limit.max(millis(charge.burst));
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_never_more_than_empty_and_a_charge_of_two_is_their_sum() {
        let charge = |key: &str, tokens| BucketCharge {
            key: key.to_owned(),
            tokens,
            interval: Duration::from_millis(1_200),
            burst: 10,
        };
        let charges = [charge("b", 1), charge("a", 2), charge("b", 3)];
        let merged = merged(&charges);
        assert_eq!(merged.keys().copied().collect::<Vec<_>>(), ["a", "b"]);
        let cost = merged["b"];
        assert_eq!(cost, Cost { charged: 4_800, limit: 12_000 });
        assert_eq!(cost.applied(0, 50_000), 54_800, "it was full");
        assert_eq!(cost.applied(53_000, 50_000), 57_800);
        assert_eq!(cost.applied(61_000, 50_000), 62_000, "empty");
        assert_eq!(cost.applied(i64::MAX, 50_000), 62_000, "a clock that was ahead");
    }
}
