//! Token buckets that replicas share.

use std::collections::BTreeMap;

use futures::FutureExt as _;
use jiff::Timestamp;
use sqlx::query;

use crate::ledger::delivery::rate::{BucketCharge, RateBuckets, merged};
use crate::ledger::error::{LedgerError, LedgerFuture};
use crate::ledger::lease::Lease;
use crate::ledger::postgres::codec::{get, instant, millis};
use crate::ledger::postgres::database::PostgresLedger;
use crate::ledger::postgres::failure::OperationName;
use crate::ledger::postgres::lease::assert_held;
use crate::ledger::postgres::transaction::{Transaction, write_tx};

const CHARGE: OperationName = OperationName("charging rate limits");
const PRUNE: OperationName = OperationName("pruning rate limits");

impl RateBuckets for PostgresLedger {
    fn charge_buckets<'a>(&'a self, charges: &'a [BucketCharge], now: Timestamp) -> LedgerFuture<'a, Vec<Timestamp>> {
        async move { write_tx!(self, CHARGE, |tx| charge(tx, charges, now).await) }.boxed()
    }

    fn prune_buckets<'a>(&'a self, lease: &'a Lease, limit: u32, now: Timestamp) -> LedgerFuture<'a, u64> {
        async move {
            write_tx!(self, PRUNE, |tx| {
                assert_held(tx, lease).await?;
                let statement = query(
                    "DELETE FROM rate_buckets b USING (
                         SELECT key FROM rate_buckets WHERE full_ms <= $1
                         ORDER BY full_ms LIMIT $2 FOR UPDATE SKIP LOCKED
                     ) AS old WHERE b.key = old.key",
                );
                tx.execute(statement.bind(millis(now)).bind(i64::from(limit))).await
            })
        }
        .boxed()
    }
}

async fn charge(tx: &mut Transaction, charges: &[BucketCharge], now: Timestamp) -> Result<Vec<Timestamp>, LedgerError> {
    let costs = merged(charges);
    let keys: Vec<String> = costs.keys().map(|key| (*key).to_owned()).collect();
    // The rows are made and locked in the order of their keys, so that two replicas never wait for each other's.
    let missing = query(
        "INSERT INTO rate_buckets (key, full_ms) SELECT k, 0 FROM unnest($1::text[]) WITH ORDINALITY AS n (k, place)
         ORDER BY place ON CONFLICT (key) DO NOTHING",
    );
    tx.execute(missing.bind(keys.clone())).await?;
    let locked = query("SELECT key, full_ms FROM rate_buckets WHERE key = ANY ($1) ORDER BY key FOR UPDATE");
    let mut full: BTreeMap<String, i64> = BTreeMap::new();
    for row in &tx.fetch_all(locked.bind(keys)).await? {
        full.insert(get(row, "key")?, get(row, "full_ms")?);
    }
    for (key, full_ms) in &mut full {
        *full_ms = costs.get(key.as_str()).map_or(*full_ms, |cost| cost.applied(*full_ms, millis(now)));
    }
    let (changed, values): (Vec<String>, Vec<i64>) = full.iter().map(|(key, full_ms)| (key.clone(), *full_ms)).unzip();
    let statement = query(
        "UPDATE rate_buckets b SET full_ms = c.full_ms FROM unnest($1::text[], $2::bigint[]) AS c (key, full_ms)
         WHERE b.key = c.key AND b.full_ms <> c.full_ms",
    );
    tx.execute(statement.bind(changed).bind(values)).await?;
    let at = |charge: &BucketCharge| {
        full.get(&charge.key).map_or(Ok(now), |full_ms| instant(*full_ms, "rate_buckets.full_ms"))
    };
    charges.iter().map(at).collect()
}
