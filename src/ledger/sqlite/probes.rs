//! The health check log: appended and pruned in batches, read newest first.

use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Row, params};
use serde_json::{Value, json};

use super::clock_skew::latest_millis;
use super::codec::{OperationName, get, instant, millis, to_i64};
use super::connection::Transaction;
use super::database::SqliteLedger;
use super::lease;
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

impl SqliteLedger {
    pub(super) async fn probes_record(&self, results: &[ProbeResult]) -> Result<(), LedgerError> {
        if results.is_empty() {
            return Ok(());
        }
        // One JSON value for the whole batch: binding eight values per row would cost more than writing them.
        let batch = Value::Array(results.iter().map(encode).collect()).to_string();
        self.write(RECORD, move |tx| {
            tx.execute(
                "INSERT INTO probed_connections (namespace, name, last_ms)
                 SELECT value ->> 0, value ->> 1, max(value ->> 2) FROM json_each(?1) WHERE true GROUP BY 1, 2
                 ON CONFLICT (namespace, name) DO UPDATE SET last_ms = excluded.last_ms
                 WHERE abs(excluded.last_ms - probed_connections.last_ms) >= ?2",
                params![batch, LAST_CHECK_RESOLUTION_MS],
            )?;
            // CROSS JOIN fixes the join order: scan the batch in order, look up the connections.
            tx.execute(
                "INSERT INTO probe_results (connection_id, at_ms, elapsed_us, success, slow, status, error)
                 SELECT c.id, p.value ->> 2, p.value ->> 3, p.value ->> 4, p.value ->> 5, p.value ->> 6, p.value ->> 7
                 FROM json_each(?1) p
                 CROSS JOIN probed_connections c ON c.namespace = p.value ->> 0 AND c.name = p.value ->> 1",
                params![batch],
            )?;
            Ok(())
        })
        .await
    }

    pub(super) async fn probes_prune(
        &self,
        held: &Lease,
        before: Timestamp,
        limit: u32,
        now: Timestamp,
    ) -> Result<u64, LedgerError> {
        let held = held.clone();
        self.write(PRUNE, move |tx| {
            lease::assert_held(tx, &held)?;
            prune(tx, before, limit, now)
        })
        .await
    }

    pub(super) async fn probes_last(
        &self,
        connection: &ObjectKey,
        limit: u32,
    ) -> Result<Vec<StoredProbe>, LedgerError> {
        let connection = connection.clone();
        self.read(READ, move |tx| {
            tx.query_all(
                "SELECT at_ms, elapsed_us, success, slow, status, error FROM probe_results
                 WHERE connection_id = (SELECT id FROM probed_connections WHERE namespace = ?1 AND name = ?2)
                 ORDER BY id DESC LIMIT ?3",
                params![&*connection.namespace, &*connection.name, limit],
                |row| decode(&connection, row),
            )
        })
        .await
    }
}

fn prune(tx: &Transaction<'_>, before: Timestamp, limit: u32, now: Timestamp) -> Result<u64, LedgerError> {
    // Reads only the oldest `limit` rows. They are in the order of the checks: newer times among them, as of a clock that
    // was set back, are deleted together with the expired rows that follow. Times ahead of the clock are deleted when they
    // are the oldest: all that was written before them has expired.
    let deleted = tx.execute(
        "WITH oldest AS (SELECT id, at_ms FROM probe_results ORDER BY id LIMIT ?2)
         DELETE FROM probe_results WHERE id <= (SELECT max(
             coalesce((SELECT max(id) FROM oldest WHERE at_ms < ?1), 0),
             coalesce((SELECT min(id) - 1 FROM oldest WHERE at_ms <= ?3), (SELECT max(id) FROM oldest), 0)))",
        params![millis(before), limit, latest_millis(now)],
    )?;
    if deleted < u64::from(limit) {
        tx.execute("UPDATE probed_connections SET last_ms = ?1 WHERE last_ms > ?2", [millis(now), latest_millis(now)])?;
        tx.execute(
            "DELETE FROM probed_connections WHERE last_ms < ?1",
            [millis(before).saturating_sub(LAST_CHECK_RESOLUTION_MS)],
        )?;
    }
    Ok(deleted)
}

/// The values in column order, the connection's namespace and name first.
fn encode(result: &ProbeResult) -> Value {
    let elapsed = to_i64(u64::try_from(result.elapsed.as_micros()).unwrap_or(u64::MAX));
    json!([
        &*result.connection.namespace,
        &*result.connection.name,
        millis(result.at),
        elapsed,
        u8::from(result.success),
        u8::from(result.slow),
        result.status,
        result.error,
    ])
}

fn decode(connection: &ObjectKey, row: &Row<'_>) -> Result<StoredProbe, LedgerError> {
    let elapsed: i64 = get(row, "elapsed_us")?;
    Ok(StoredProbe {
        connection: connection.clone(),
        at: instant(get(row, "at_ms")?, "probe_results.at_ms")?,
        elapsed: Duration::from_micros(
            u64::try_from(elapsed).map_err(|_| LedgerError::Corrupt { column: "probe_results.elapsed_us" })?,
        ),
        success: get(row, "success")?,
        slow: get(row, "slow")?,
        status: get(row, "status")?,
        error: get(row, "error")?,
    })
}
