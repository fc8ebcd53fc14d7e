//! The health check log: appended and pruned in batches, read newest first.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use sqlx::sqlite::SqliteRow;

use super::codec::{OperationName, get, instant, millis, to_i64};
use super::database::SqliteLedger;
use crate::domain::key::ObjectKey;
use crate::ledger::error::LedgerError;
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
        self.write(RECORD, |conn| {
            Box::pin(async move {
                let failed = |e| RECORD.failed(e);
                sqlx::query(
                    "INSERT INTO probed_connections (namespace, name, last_ms)
                     SELECT value ->> 0, value ->> 1, max(value ->> 2) FROM json_each(?1) WHERE true GROUP BY 1, 2
                     ON CONFLICT (namespace, name) DO UPDATE SET last_ms = excluded.last_ms
                     WHERE excluded.last_ms >= probed_connections.last_ms + ?2",
                )
                .bind(&batch)
                .bind(LAST_CHECK_RESOLUTION_MS)
                .execute(&mut *conn)
                .await
                .map_err(failed)?;
                // CROSS JOIN fixes the join order: scan the batch in order, look up the connections.
                sqlx::query(
                    "INSERT INTO probe_results (connection_id, at_ms, elapsed_us, success, slow, status, error)
                     SELECT c.id, p.value ->> 2, p.value ->> 3, p.value ->> 4, p.value ->> 5, p.value ->> 6, p.value ->> 7
                     FROM json_each(?1) p
                     CROSS JOIN probed_connections c ON c.namespace = p.value ->> 0 AND c.name = p.value ->> 1",
                )
                .bind(&batch)
                .execute(conn)
                .await
                .map_err(failed)?;
                Ok(())
            })
        })
        .await
    }

    pub(super) async fn probes_prune(&self, before: Timestamp, limit: u32) -> Result<u64, LedgerError> {
        self.write(PRUNE, |conn| {
            Box::pin(async move {
                let failed = |e| PRUNE.failed(e);
                // Reads only the oldest `limit` rows. If the wall clock was set back, newer times among them are
                // deleted together with the older rows that follow.
                let deleted = sqlx::query(
                    "DELETE FROM probe_results WHERE id <= (SELECT max(id) FROM
                         (SELECT id, at_ms FROM probe_results ORDER BY id LIMIT ?2) WHERE at_ms < ?1)",
                )
                .bind(millis(before))
                .bind(limit)
                .execute(&mut *conn)
                .await
                .map_err(failed)?;
                if deleted.rows_affected() < u64::from(limit) {
                    sqlx::query("DELETE FROM probed_connections WHERE last_ms < ?1")
                        .bind(millis(before).saturating_sub(LAST_CHECK_RESOLUTION_MS))
                        .execute(conn)
                        .await
                        .map_err(failed)?;
                }
                Ok(deleted.rows_affected())
            })
        })
        .await
    }

    pub(super) async fn probes_last(
        &self,
        connection: &ObjectKey,
        limit: u32,
    ) -> Result<Vec<StoredProbe>, LedgerError> {
        let rows = sqlx::query(
            "SELECT at_ms, elapsed_us, success, slow, status, error FROM probe_results
             WHERE connection_id = (SELECT id FROM probed_connections WHERE namespace = ?1 AND name = ?2)
             ORDER BY id DESC LIMIT ?3",
        )
        .bind(&*connection.namespace)
        .bind(&*connection.name)
        .bind(limit)
        .fetch_all(&self.readers)
        .await
        .map_err(|e| READ.failed(e))?;
        rows.iter().map(|row| decode(connection, row)).collect()
    }
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

fn decode(connection: &ObjectKey, row: &SqliteRow) -> Result<StoredProbe, LedgerError> {
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
