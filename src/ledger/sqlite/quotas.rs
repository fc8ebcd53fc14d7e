//! Counts of daily limits: one row for each limit, partition and day.

use futures::FutureExt as _;
use jiff::civil::Date;
use rusqlite::{Row, params};

use super::codec::{OperationName, get};
use super::connection::Transaction;
use super::database::SqliteLedger;
use super::lease;
use crate::domain::quota::{DayUsage, WindowId};
use crate::ledger::error::{LedgerError, LedgerFuture};
use crate::ledger::lease::Lease;
use crate::ledger::quotas::{QuotaOwner, Quotas};

const LOAD: OperationName = OperationName("reading the counts of daily limits");
const ADD: OperationName = OperationName("counting requests of a daily limit");
const PRUNE: OperationName = OperationName("pruning the counts of daily limits");

impl Quotas for SqliteLedger {
    fn load_quota<'a>(&'a self, owner: &'a QuotaOwner, since: Date) -> LedgerFuture<'a, Vec<DayUsage>> {
        let owner = owner.clone();
        // After the writes that were begun before: a former process of this ledger may have just ended.
        self.read_in_order(LOAD, move |tx| {
            tx.query_all(
                "SELECT day, limit_id, part, money, other FROM quota_usage
                 WHERE namespace = ?1 AND connection = ?2 AND uid = ?3 AND day >= ?4",
                params![&*owner.connection.namespace, &*owner.connection.name, owner.uid, since.to_string()],
                decode,
            )
        })
        .boxed()
    }

    fn add_quota<'a>(&'a self, owner: &'a QuotaOwner, added: &'a [DayUsage]) -> LedgerFuture<'a, Vec<DayUsage>> {
        let (owner, added) = (owner.clone(), added.to_vec());
        self.write(ADD, move |tx| added.iter().map(|usage| add(tx, &owner, usage)).collect()).boxed()
    }

    fn prune_quota<'a>(&'a self, lease: &'a Lease, before: Date, latest: Date, limit: u32) -> LedgerFuture<'a, u64> {
        let lease = lease.clone();
        self.write(PRUNE, move |tx| {
            lease::assert_held(tx, &lease)?;
            tx.execute(
                "DELETE FROM quota_usage WHERE (namespace, connection, uid, day, limit_id, part) IN (
                     SELECT namespace, connection, uid, day, limit_id, part FROM quota_usage
                     WHERE day < ?1 OR day > ?2 LIMIT ?3)",
                params![before.to_string(), latest.to_string(), limit],
            )
        })
        .boxed()
    }
}

fn add(tx: &Transaction<'_>, owner: &QuotaOwner, usage: &DayUsage) -> Result<DayUsage, LedgerError> {
    let total = tx.query_opt(
        "INSERT INTO quota_usage (namespace, connection, uid, day, limit_id, part, money, other)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT (namespace, connection, uid, day, limit_id, part) DO UPDATE SET
             money = money + excluded.money, other = other + excluded.other
         RETURNING day, limit_id, part, money, other",
        params![
            &*owner.connection.namespace,
            &*owner.connection.name,
            owner.uid,
            usage.day.to_string(),
            usage.window.limit.cast_signed(),
            usage.window.part.cast_signed(),
            usage.money,
            usage.other,
        ],
        decode,
    )?;
    total.ok_or(LedgerError::Corrupt { column: "quota_usage.day" })
}

fn decode(row: &Row<'_>) -> Result<DayUsage, LedgerError> {
    let number = |column| get::<i64>(row, column);
    // A count beyond this is one that no limit reaches.
    let count = |value: i64| u32::try_from(value.max(0)).unwrap_or(u32::MAX);
    let day: String = get(row, "day")?;
    Ok(DayUsage {
        window: WindowId { limit: number("limit_id")?.cast_unsigned(), part: number("part")?.cast_unsigned() },
        day: day.parse().map_err(|_| LedgerError::Corrupt { column: "quota_usage.day" })?,
        money: count(number("money")?),
        other: count(number("other")?),
    })
}
