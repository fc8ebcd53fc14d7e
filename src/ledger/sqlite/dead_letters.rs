//! Dead letters of a job: listed, resolved, replaced by replayed rows, and pruned.

use futures::FutureExt as _;
use jiff::Timestamp;
use rusqlite::{Row, params};

use super::audit;
use super::codec::{OperationName, count, get, instant, instant_opt, millis, stored_enum};
use super::connection::Transaction;
use super::cursor;
use super::database::SqliteLedger;
use super::lease::assert_held;
use super::owned_page::OwnedPage;
use super::runs::stream_key;
use crate::domain::cursor::{StreamKey, job_name};
use crate::domain::key::ObjectKey;
use crate::ledger::audit::AuditEntry;
use crate::ledger::error::{LedgerError, LedgerFuture};
use crate::ledger::lease::Lease;
use crate::ledger::raw::{DeadLetterFilter, DeadLetters, JobDeadLetter, RawMode, RawRef, ReplayedLetters};
use crate::ledger::record::RowIdentity;

const COMPARE: OperationName = OperationName("comparing the times of rows");
const LIST: OperationName = OperationName("listing dead letters");
const RESOLVE: OperationName = OperationName("resolving dead letters");
const PRUNE: OperationName = OperationName("pruning dead letters");

/// Withdrawn records are remembered for dead letters that may be replayed.
const FORGET: &str = "DELETE FROM withdrawn_records WHERE (stream_id, record_key, account_token) IN ( \
     SELECT stream_id, record_key, account_token FROM withdrawn_records w WHERE NOT EXISTS ( \
         SELECT 1 FROM dead_letters d WHERE d.stream_id = w.stream_id AND d.resolved_ms IS NULL) LIMIT ?1)";

impl DeadLetters for SqliteLedger {
    fn changed_since<'a>(
        &'a self,
        stream: &'a StreamKey,
        table: &'static str,
        rows: &'a [RowIdentity],
        since: Timestamp,
    ) -> LedgerFuture<'a, Vec<bool>> {
        let (stream, rows) = (stream.clone(), rows.to_vec());
        self.read(COMPARE, move |tx| {
            let id = cursor::find_stream(tx, &stream)?;
            let sql = format!(
                "SELECT EXISTS (SELECT 1 FROM {table} WHERE stream_id = ?1 AND account_token = ?2 AND record_key = ?3
                     AND updated_ms > ?4)
                 OR EXISTS (SELECT 1 FROM withdrawn_records WHERE stream_id = ?1 AND record_key = ?3
                     AND account_token IN (?2, '') AND withdrawn_ms > ?4)"
            );
            let changed =
                |row: &RowIdentity| tx.scalar(&sql, params![id, row.account_token, row.record_key, millis(since)]);
            rows.iter().map(changed).collect()
        })
        .boxed()
    }

    fn list_dead_letters<'a>(
        &'a self,
        filter: &'a DeadLetterFilter,
        limit: u32,
    ) -> LedgerFuture<'a, Vec<JobDeadLetter>> {
        let (filter, ids) = (filter.clone(), ids_text(&filter.ids));
        self.read(LIST, move |tx| {
            tx.query_all(
                "SELECT d.id, d.fingerprint, d.reason, d.path, d.sample, d.run_id, d.seen, d.first_ms, d.last_ms,
                     d.resolved_ms, d.raw_ref, r.mode, r.expires_ms,
                     t.namespace, t.connection, t.provider, t.environment, t.stream, t.partition
                 FROM dead_letters d JOIN streams t ON t.id = d.stream_id
                 LEFT JOIN raw_payloads r ON r.id = d.raw_ref
                 WHERE d.job = ?1 AND t.namespace = ?2 AND (?3 OR d.resolved_ms IS NULL) AND (?4 IS NULL OR d.id < ?4)
                     AND (?5 IS NULL OR d.id IN (SELECT value FROM json_each(?5)))
                 ORDER BY d.id DESC LIMIT ?6",
                params![
                    &*filter.job.name,
                    &*filter.job.namespace,
                    filter.resolved,
                    filter.before,
                    (!filter.ids.is_empty()).then_some(ids),
                    limit
                ],
                decode,
            )
        })
        .boxed()
    }

    fn resolve_dead_letters<'a>(
        &'a self,
        job: &'a ObjectKey,
        ids: &'a [i64],
        audit: &'a AuditEntry,
    ) -> LedgerFuture<'a, u64> {
        let (job, ids, entry) = (job.clone(), ids.to_vec(), audit.clone());
        self.write(RESOLVE, move |tx| {
            let resolved = resolve(tx, &job, &ids, entry.at)?;
            if resolved > 0 {
                audit::append(tx, &entry)?;
            }
            Ok(resolved)
        })
        .boxed()
    }

    fn prune_dead_letters<'a>(&'a self, lease: &'a Lease, before: Timestamp, limit: u32) -> LedgerFuture<'a, u64> {
        let lease = lease.clone();
        self.write(PRUNE, move |tx| {
            assert_held(tx, &lease)?;
            tx.execute(FORGET, [limit])?;
            tx.execute(
                "DELETE FROM dead_letters WHERE id IN (
                     SELECT id FROM dead_letters WHERE resolved_ms < ?1 ORDER BY resolved_ms LIMIT ?2)",
                params![millis(before), limit],
            )
        })
        .boxed()
    }
}

/// Marks the dead letters that the page's rows were replayed from as resolved.
pub(super) fn settle_replay(tx: &Transaction<'_>, page: &OwnedPage) -> Result<(), LedgerError> {
    let Some(ReplayedLetters { ids, audit: entry }) = &page.replayed else { return Ok(()) };
    let job = ObjectKey::new(page.cursor.stream.namespace.as_str(), job_name(&page.cursor.job));
    resolve(tx, &job, ids, entry.at)?;
    audit::append(tx, entry)
}

/// Marks dead letters of the job as resolved; returns the number that were not yet.
fn resolve(tx: &Transaction<'_>, job: &ObjectKey, ids: &[i64], now: Timestamp) -> Result<u64, LedgerError> {
    tx.execute(
        "UPDATE dead_letters SET resolved_ms = ?4 WHERE resolved_ms IS NULL AND job = ?1
             AND stream_id IN (SELECT id FROM streams WHERE namespace = ?2)
             AND id IN (SELECT value FROM json_each(?3))",
        params![&*job.name, &*job.namespace, ids_text(ids), millis(now)],
    )
}

/// Numbers as a JSON list.
fn ids_text(ids: &[i64]) -> String {
    let ids: Vec<String> = ids.iter().map(i64::to_string).collect();
    format!("[{}]", ids.join(","))
}

fn decode(row: &Row<'_>) -> Result<JobDeadLetter, LedgerError> {
    Ok(JobDeadLetter {
        id: get(row, "id")?,
        stream: stream_key(row)?,
        fingerprint: get(row, "fingerprint")?,
        reason: get(row, "reason")?,
        path: get(row, "path")?,
        sample: get(row, "sample")?,
        run_id: get(row, "run_id")?,
        seen: count(row, "seen")?,
        first: instant(get(row, "first_ms")?, "dead_letters.first_ms")?,
        last: instant(get(row, "last_ms")?, "dead_letters.last_ms")?,
        resolved: instant_opt(get(row, "resolved_ms")?, "dead_letters.resolved_ms")?,
        raw: raw_ref(row)?,
    })
}

/// The payload of a dead letter that is joined with its columns.
pub(super) fn raw_ref(row: &Row<'_>) -> Result<Option<RawRef>, LedgerError> {
    let id = audit::uuid_opt(row, "raw_ref", "dead_letters.raw_ref")?;
    let mode: Option<String> = get(row, "mode")?;
    let mode = mode.map(|mode| stored_enum(&RawMode::ALL, RawMode::as_str, &mode, "raw_payloads.mode")).transpose()?;
    let expires = instant_opt(get(row, "expires_ms")?, "raw_payloads.expires_ms")?;
    Ok(id.map(|id| RawRef { id, stored: mode.zip(expires) }))
}
