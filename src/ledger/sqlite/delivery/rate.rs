//! Token buckets that replicas share.

use std::collections::BTreeMap;

use futures::FutureExt as _;
use jiff::Timestamp;
use rusqlite::params;

use crate::ledger::delivery::rate::{BucketCharge, RateBuckets, merged};
use crate::ledger::error::{LedgerError, LedgerFuture};
use crate::ledger::lease::Lease;
use crate::ledger::sqlite::codec::{OperationName, instant, millis};
use crate::ledger::sqlite::connection::Transaction;
use crate::ledger::sqlite::database::SqliteLedger;
use crate::ledger::sqlite::lease::assert_held;

const CHARGE: OperationName = OperationName("charging rate limits");
const PRUNE: OperationName = OperationName("pruning rate limits");

impl RateBuckets for SqliteLedger {
    fn charge_buckets<'a>(&'a self, charges: &'a [BucketCharge], now: Timestamp) -> LedgerFuture<'a, Vec<Timestamp>> {
        let charges = charges.to_vec();
        self.write(CHARGE, move |tx| charge(tx, &charges, now)).boxed()
    }

    fn prune_buckets<'a>(&'a self, lease: &'a Lease, limit: u32, now: Timestamp) -> LedgerFuture<'a, u64> {
        let lease = lease.clone();
        self.write(PRUNE, move |tx| {
            assert_held(tx, &lease)?;
            tx.execute(
                "DELETE FROM rate_buckets WHERE key IN (
                     SELECT key FROM rate_buckets WHERE full_ms <= ?1 ORDER BY full_ms LIMIT ?2)",
                params![millis(now), limit],
            )
        })
        .boxed()
    }
}

fn charge(tx: &Transaction<'_>, charges: &[BucketCharge], now: Timestamp) -> Result<Vec<Timestamp>, LedgerError> {
    let mut full: BTreeMap<&str, Timestamp> = BTreeMap::new();
    for (key, cost) in merged(charges) {
        let stored: Option<i64> = tx.scalar_opt("SELECT full_ms FROM rate_buckets WHERE key = ?1", [key])?;
        let full_ms = cost.applied(stored.unwrap_or(i64::MIN), millis(now));
        if stored != Some(full_ms) && full_ms > millis(now) {
            tx.execute(
                "INSERT INTO rate_buckets (key, full_ms) VALUES (?1, ?2)
                 ON CONFLICT (key) DO UPDATE SET full_ms = excluded.full_ms",
                params![key, full_ms],
            )?;
        }
        full.insert(key, instant(full_ms, "rate_buckets.full_ms")?);
    }
    Ok(charges.iter().map(|charge| full.get(charge.key.as_str()).copied().unwrap_or(now)).collect())
}
