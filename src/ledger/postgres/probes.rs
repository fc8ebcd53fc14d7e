//! The health check log: appended and pruned in batches, read newest first.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::postgres::PgRow;
use sqlx::query;

use super::clock_skew::latest_millis;
use super::codec::{get, millis, small_opt, timestamp, to_i64};
use super::database::PostgresLedger;
use super::failure::OperationName;
use super::lease::assert_held;
use super::transaction::{Transaction, lock, read_tx, write_tx};
use crate::domain::key::ObjectKey;
use crate::ledger::error::LedgerError;
use crate::ledger::lease::Lease;
use crate::ledger::probes::{ProbeResult, StoredProbe};

const RECORD: OperationName = OperationName("storing health check results");
const PRUNE: OperationName = OperationName("pruning health check results");
const READ: OperationName = OperationName("reading health check results");

/// Resolution of a connection's last check time. A connection without results for the retention plus this time is
/// deleted.
const LAST_CHECK_RESOLUTION_MS: i64 = 3_600_000;

impl PostgresLedger {
    pub(super) async fn probes_record(&self, results: &[ProbeResult]) -> Result<(), LedgerError> {
        if results.is_empty() {
            return Ok(());
        }
        write_tx!(self, RECORD, |tx| record(tx, results).await)
    }

    pub(super) async fn probes_prune(
        &self,
        held: &Lease,
        before: Timestamp,
        limit: u32,
        now: Timestamp,
    ) -> Result<u64, LedgerError> {
        write_tx!(self, PRUNE, |tx| prune(tx, held, before, limit, now).await)
    }

    pub(super) async fn probes_last(
        &self,
        connection: &ObjectKey,
        limit: u32,
    ) -> Result<Vec<StoredProbe>, LedgerError> {
        let rows = read_tx!(self, READ, |tx| {
            let statement = query(
                "SELECT at_ms, elapsed_us, success, slow, status, error FROM probe_results
                 WHERE connection_id = (SELECT id FROM probed_connections WHERE namespace = $1 AND name = $2)
                 ORDER BY id DESC LIMIT $3",
            );
            let statement = statement.bind(&*connection.namespace).bind(&*connection.name);
            tx.fetch_all(statement.bind(i64::from(limit))).await
        })?;
        rows.iter().map(|row| decode(connection, row)).collect()
    }
}

async fn record(tx: &mut Transaction, results: &[ProbeResult]) -> Result<(), LedgerError> {
    // The order of the log is the order of the checks: one batch at a time.
    lock(tx, "probe results").await?;
    let namespaces: Vec<&str> = results.iter().map(|result| &*result.connection.namespace).collect();
    let names: Vec<&str> = results.iter().map(|result| &*result.connection.name).collect();
    let times: Vec<i64> = results.iter().map(|result| millis(result.at)).collect();
    let statement = query(
        "INSERT INTO probed_connections (namespace, name, last_ms)
         SELECT p.namespace, p.name, max(p.at) FROM unnest($1::text[], $2::text[], $3::bigint[]) p (namespace, name, at)
         GROUP BY 1, 2
         ON CONFLICT (namespace, name) DO UPDATE SET last_ms = excluded.last_ms
         WHERE abs(excluded.last_ms - probed_connections.last_ms) >= $4",
    );
    tx.execute(statement.bind(&namespaces).bind(&names).bind(&times).bind(LAST_CHECK_RESOLUTION_MS)).await?;
    let micros = |elapsed: Duration| to_i64(u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX));
    let statement = query(
        "INSERT INTO probe_results (connection_id, at_ms, elapsed_us, success, slow, status, error)
         SELECT c.id, p.at, p.elapsed, p.success, p.slow, p.status, p.error
         FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::boolean[], $6::boolean[], $7::bigint[],
             $8::text[]) WITH ORDINALITY p (namespace, name, at, elapsed, success, slow, status, error, place)
         CROSS JOIN LATERAL (
             SELECT id FROM probed_connections c WHERE c.namespace = p.namespace AND c.name = p.name LIMIT 1) c
         ORDER BY p.place",
    )
    .bind(namespaces)
    .bind(names)
    .bind(times)
    .bind(results.iter().map(|result| micros(result.elapsed)).collect::<Vec<_>>())
    .bind(results.iter().map(|result| result.success).collect::<Vec<_>>())
    .bind(results.iter().map(|result| result.slow).collect::<Vec<_>>())
    .bind(results.iter().map(|result| result.status.map(i64::from)).collect::<Vec<_>>())
    .bind(results.iter().map(|result| result.error).collect::<Vec<Option<&str>>>());
    tx.execute(statement).await.map(drop)
}

async fn prune(
    tx: &mut Transaction,
    held: &Lease,
    before: Timestamp,
    limit: u32,
    now: Timestamp,
) -> Result<u64, LedgerError> {
    assert_held(tx, held).await?;
    // Reads only the oldest `limit` rows. They are in the order of the checks: newer times among them, as of a clock
    // that was set back, are deleted together with the expired rows that follow. Times ahead of the clock are deleted
    // when they are the oldest: all that was written before them has expired.
    let statement = query(
        "WITH oldest AS MATERIALIZED (SELECT id, at_ms FROM probe_results ORDER BY id LIMIT $2)
         DELETE FROM probe_results WHERE id <= (SELECT greatest(
             coalesce((SELECT max(id) FROM oldest WHERE at_ms < $1), 0),
             coalesce((SELECT min(id) - 1 FROM oldest WHERE at_ms <= $3), (SELECT max(id) FROM oldest), 0)))",
    );
    let statement = statement.bind(millis(before)).bind(i64::from(limit)).bind(latest_millis(now));
    let deleted = tx.execute(statement).await?;
    if deleted < u64::from(limit) {
        let statement = query("UPDATE probed_connections SET last_ms = $1 WHERE last_ms > $2");
        tx.execute(statement.bind(millis(now)).bind(latest_millis(now))).await?;
        let statement = query("DELETE FROM probed_connections WHERE last_ms < $1");
        tx.execute(statement.bind(millis(before).saturating_sub(LAST_CHECK_RESOLUTION_MS))).await?;
    }
    Ok(deleted)
}

fn decode(connection: &ObjectKey, row: &PgRow) -> Result<StoredProbe, LedgerError> {
    let elapsed: i64 = get(row, "elapsed_us")?;
    Ok(StoredProbe {
        connection: connection.clone(),
        at: timestamp(row, "at_ms")?,
        elapsed: Duration::from_micros(
            u64::try_from(elapsed).map_err(|_| LedgerError::Corrupt { column: "probe_results.elapsed_us" })?,
        ),
        success: get(row, "success")?,
        slow: get(row, "slow")?,
        status: small_opt(row, "status")?,
        error: get(row, "error")?,
    })
}
