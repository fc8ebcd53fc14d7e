//! Counts of daily limits: one row for each limit, partition and day.

use futures::FutureExt as _;
use jiff::civil::Date;
use sqlx::postgres::PgRow;

use super::codec::get;
use super::database::PostgresLedger;
use super::failure::OperationName;
use super::lease::assert_held;
use super::transaction::{Transaction, read_tx, write_tx};
use crate::domain::quota::{DayUsage, WindowId};
use crate::ledger::error::{LedgerError, LedgerFuture};
use crate::ledger::lease::Lease;
use crate::ledger::quotas::{QuotaOwner, Quotas};

const LOAD: OperationName = OperationName("reading the counts of daily limits");
const ADD: OperationName = OperationName("counting requests of a daily limit");
const PRUNE: OperationName = OperationName("pruning the counts of daily limits");

impl Quotas for PostgresLedger {
    fn load_quota<'a>(&'a self, owner: &'a QuotaOwner, since: Date) -> LedgerFuture<'a, Vec<DayUsage>> {
        async move { read_tx!(self, LOAD, |tx| load(tx, owner, since).await) }.boxed()
    }

    fn add_quota<'a>(&'a self, owner: &'a QuotaOwner, added: &'a [DayUsage]) -> LedgerFuture<'a, Vec<DayUsage>> {
        async move { write_tx!(self, ADD, |tx| add_all(tx, owner, added).await) }.boxed()
    }

    fn prune_quota<'a>(&'a self, lease: &'a Lease, before: Date, latest: Date, limit: u32) -> LedgerFuture<'a, u64> {
        async move {
            write_tx!(self, PRUNE, |tx| {
                assert_held(tx, lease).await?;
                let statement = sqlx::query(
                    "DELETE FROM quota_usage WHERE ctid = ANY (ARRAY(
                         SELECT ctid FROM quota_usage WHERE day < $1 OR day > $2 LIMIT $3))",
                );
                tx.execute(statement.bind(before.to_string()).bind(latest.to_string()).bind(i64::from(limit))).await
            })
        }
        .boxed()
    }
}

async fn load(tx: &mut Transaction, owner: &QuotaOwner, since: Date) -> Result<Vec<DayUsage>, LedgerError> {
    let statement = sqlx::query(
        "SELECT day, limit_id, part, money, other FROM quota_usage
         WHERE namespace = $1 AND connection = $2 AND uid = $3 AND day >= $4",
    );
    let (namespace, name) = (&*owner.connection.namespace, &*owner.connection.name);
    let rows = tx.fetch_all(statement.bind(namespace).bind(name).bind(&owner.uid).bind(since.to_string())).await?;
    rows.iter().map(decode).collect()
}

async fn add_all(tx: &mut Transaction, owner: &QuotaOwner, added: &[DayUsage]) -> Result<Vec<DayUsage>, LedgerError> {
    let mut totals = Vec::with_capacity(added.len());
    for usage in added {
        let statement = sqlx::query(
            "INSERT INTO quota_usage (namespace, connection, uid, day, limit_id, part, money, other)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
             ON CONFLICT (namespace, connection, uid, day, limit_id, part) DO UPDATE SET
                 money = quota_usage.money + excluded.money, other = quota_usage.other + excluded.other
             RETURNING day, limit_id, part, money, other",
        )
        .bind(&*owner.connection.namespace)
        .bind(&*owner.connection.name)
        .bind(&owner.uid)
        .bind(usage.day.to_string())
        .bind(usage.window.limit.cast_signed())
        .bind(usage.window.part.cast_signed())
        .bind(i64::from(usage.money))
        .bind(i64::from(usage.other));
        let row = tx.fetch_optional(statement).await?.ok_or(LedgerError::Corrupt { column: "quota_usage.day" })?;
        totals.push(decode(&row)?);
    }
    Ok(totals)
}

fn decode(row: &PgRow) -> Result<DayUsage, LedgerError> {
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
