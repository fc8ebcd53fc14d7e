//! The health check log: appended and pruned in batches, read newest first.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use sqlx::sqlite::SqliteRow;

use super::SqliteLedger;
use super::clock_skew::latest_millis;
use super::codec::{OperationName, get, instant, millis, to_i64};
use crate::domain::key::ObjectKey;
use crate::ledger::{LedgerError, ProbeResult, StoredProbe};

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
                     WHERE abs(excluded.last_ms - probed_connections.last_ms) >= ?2",
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

    pub(super) async fn probes_prune(&self, before: Timestamp, limit: u32, now: Timestamp) -> Result<u64, LedgerError> {
        self.write(PRUNE, |conn| {
            Box::pin(async move {
                let failed = |e| PRUNE.failed(e);
                // Reads only the oldest `limit` rows. They are in the order of the checks: newer times among them, as of
                // a clock that was set back, are deleted together with the expired rows that follow. Times ahead of the
                // clock are deleted when they are the oldest: all that was written before them has expired.
                let deleted = sqlx::query(
                    "WITH oldest AS (SELECT id, at_ms FROM probe_results ORDER BY id LIMIT ?2)
                     DELETE FROM probe_results WHERE id <= (SELECT max(
                         coalesce((SELECT max(id) FROM oldest WHERE at_ms < ?1), 0),
                         coalesce((SELECT min(id) - 1 FROM oldest WHERE at_ms <= ?3), (SELECT max(id) FROM oldest), 0)))",
                )
                .bind(millis(before))
                .bind(limit)
                .bind(latest_millis(now))
                .execute(&mut *conn)
                .await
                .map_err(failed)?;
                if deleted.rows_affected() < u64::from(limit) {
                    sqlx::query("UPDATE probed_connections SET last_ms = ?1 WHERE last_ms > ?2")
                        .bind(millis(now))
                        .bind(latest_millis(now))
                        .execute(&mut *conn)
                        .await
                        .map_err(failed)?;
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

#[cfg(test)]
mod tests {
    use super::super::page_tests::{at, new_ledger};
    use super::*;
    use crate::ledger::Ledger;
    use crate::ledger::sqlite::OpenMode;

    fn result(name: &str, seconds: i64, status: Option<u16>) -> ProbeResult {
        ProbeResult {
            connection: ObjectKey::new("team", name),
            at: at(seconds),
            elapsed: Duration::from_micros(1_234),
            success: status == Some(200),
            slow: name == "b",
            status,
            error: status.is_none().then_some("timeout"),
        }
    }

    async fn count(ledger: &SqliteLedger, table: &'static str) -> i64 {
        let sql = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
        sqlx::query_scalar(sql).fetch_one(&ledger.readers).await.unwrap()
    }

    #[tokio::test]
    async fn results_are_listed_newest_first_per_connection() {
        let (_dir, path, ledger) = new_ledger().await;
        let first = [result("a", 1, Some(200)), result("b", 1, Some(503)), result("a", 31, None)];
        ledger.record_probes(&first).await.unwrap();
        ledger.record_probes(&[result("a", 61, Some(200))]).await.unwrap();
        ledger.record_probes(&[]).await.unwrap();
        ledger.close().await;
        let ledger = SqliteLedger::open_as(&path, OpenMode::ReadOnly).await.unwrap();
        let last = ledger.last_probes(&ObjectKey::new("team", "a"), 2).await.unwrap();
        let seen: Vec<_> = last.iter().map(|p| (p.at, p.success, p.status, p.error.as_deref())).collect();
        assert_eq!(seen, [(at(61), true, Some(200), None), (at(31), false, None, Some("timeout"))]);
        assert_eq!(last[0].elapsed, Duration::from_micros(1_234));
        let last = ledger.last_probes(&ObjectKey::new("team", "b"), 9).await.unwrap();
        assert_eq!((last.len(), last[0].slow, last[0].status), (1, true, Some(503)));
        assert_eq!(ledger.last_probes(&ObjectKey::new("team", "c"), 9).await.unwrap(), []);
        assert_eq!(ledger.last_probes(&ObjectKey::new("other", "a"), 9).await.unwrap(), []);
    }

    #[tokio::test]
    async fn old_results_are_pruned_in_batches_and_idle_connections_last() {
        let (_dir, _path, ledger) = new_ledger().await;
        let hours = |n: i64| n * 3600;
        let old: Vec<_> = (0..250).map(|n| result("idle", n, Some(200))).collect();
        ledger.record_probes(&old).await.unwrap();
        let new: Vec<_> = (0..50).map(|n| result("a", hours(24) + n, Some(200))).collect();
        ledger.record_probes(&new).await.unwrap();
        for (deleted, remaining) in [(100, 200), (100, 100), (50, 50), (0, 50)] {
            assert_eq!(ledger.prune_probes(at(hours(23)), 100, at(hours(25))).await.unwrap(), deleted);
            assert_eq!(count(&ledger, "probe_results").await, remaining);
        }
        assert_eq!(count(&ledger, "probed_connections").await, 1, "a connection without recent results is deleted");
        assert_eq!(ledger.last_probes(&ObjectKey::new("team", "a"), 100).await.unwrap().len(), 50);
        // A connection with regular checks is updated hourly, so it is never deleted while it has rows.
        for hour in 25..30 {
            ledger.record_probes(&[result("a", hours(hour), Some(200))]).await.unwrap();
        }
        ledger.prune_probes(at(hours(29)), 100, at(hours(30))).await.unwrap();
        assert_eq!(ledger.last_probes(&ObjectKey::new("team", "a"), 100).await.unwrap().len(), 1);
    }
}
