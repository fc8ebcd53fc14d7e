//! Dead letters of a job: listed, resolved, replaced by replayed rows, and pruned.

use futures::FutureExt as _;
use jiff::Timestamp;
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgRow;

use super::audit;
use super::codec::{count, get, millis, stored_enum, timestamp, timestamp_opt, uuid_opt};
use super::cursor;
use super::database::PostgresLedger;
use super::failure::OperationName;
use super::lease::assert_held;
use super::raw::stream_of;
use super::transaction::{Transaction, read_tx, write_tx};
use crate::domain::cursor::{StreamKey, job_name};
use crate::domain::key::ObjectKey;
use crate::ledger::audit::AuditEntry;
use crate::ledger::error::{LedgerError, LedgerFuture};
use crate::ledger::lease::Lease;
use crate::ledger::page::PageCommit;
use crate::ledger::raw::{DeadLetterFilter, DeadLetters, JobDeadLetter, RawMode, RawRef, ReplayedLetters};
use crate::ledger::record::RowIdentity;

const COMPARE: OperationName = OperationName("comparing the times of rows");
const LIST: OperationName = OperationName("listing dead letters");
const RESOLVE: OperationName = OperationName("resolving dead letters");
const PRUNE: OperationName = OperationName("pruning dead letters");

const SELECT: &str = "SELECT d.id, d.fingerprint, d.reason, d.path, d.sample, d.run_id, d.seen, d.first_ms, d.last_ms,
         d.resolved_ms, d.raw_ref, r.mode, r.expires_ms,
         t.namespace, t.connection, t.provider, t.environment, t.stream, t.partition
     FROM dead_letters d JOIN streams t ON t.id = d.stream_id LEFT JOIN raw_payloads r ON r.id = d.raw_ref
     WHERE d.job = $1 AND t.namespace = $2 AND ($3 OR d.resolved_ms IS NULL) AND ($4::bigint IS NULL OR d.id < $4)
         AND ($5::bigint[] IS NULL OR d.id = ANY ($5))
     ORDER BY d.id DESC LIMIT $6";

/// Withdrawn records are remembered for dead letters that may be replayed.
const FORGET: &str = "DELETE FROM withdrawn_records WHERE (stream_id, record_key, account_token) IN (
     SELECT stream_id, record_key, account_token FROM withdrawn_records w WHERE NOT EXISTS (
         SELECT 1 FROM dead_letters d WHERE d.stream_id = w.stream_id AND d.resolved_ms IS NULL) LIMIT $1)";

impl DeadLetters for PostgresLedger {
    fn changed_since<'a>(
        &'a self,
        stream: &'a StreamKey,
        table: &'static str,
        rows: &'a [RowIdentity],
        since: Timestamp,
    ) -> LedgerFuture<'a, Vec<bool>> {
        async move { read_tx!(self, COMPARE, |tx| changed(tx, stream, table, rows, since).await) }.boxed()
    }

    fn list_dead_letters<'a>(
        &'a self,
        filter: &'a DeadLetterFilter,
        limit: u32,
    ) -> LedgerFuture<'a, Vec<JobDeadLetter>> {
        async move {
            read_tx!(self, LIST, |tx| {
                let statement = sqlx::query(SELECT)
                    .bind(&*filter.job.name)
                    .bind(&*filter.job.namespace)
                    .bind(filter.resolved)
                    .bind(filter.before)
                    .bind((!filter.ids.is_empty()).then(|| filter.ids.clone()))
                    .bind(i64::from(limit));
                tx.fetch_all(statement).await?.iter().map(decode).collect::<Result<Vec<_>, LedgerError>>()
            })
        }
        .boxed()
    }

    fn resolve_dead_letters<'a>(
        &'a self,
        job: &'a ObjectKey,
        ids: &'a [i64],
        audit: &'a AuditEntry,
    ) -> LedgerFuture<'a, u64> {
        async move {
            write_tx!(self, RESOLVE, |tx| {
                let resolved = resolve(tx, job, ids, audit.at).await?;
                if resolved > 0 {
                    audit::append(tx, audit).await?;
                }
                Ok(resolved)
            })
        }
        .boxed()
    }

    fn prune_dead_letters<'a>(&'a self, lease: &'a Lease, before: Timestamp, limit: u32) -> LedgerFuture<'a, u64> {
        async move {
            write_tx!(self, PRUNE, |tx| {
                assert_held(tx, lease).await?;
                tx.execute(sqlx::query(FORGET).bind(i64::from(limit))).await?;
                let statement = sqlx::query(
                    "DELETE FROM dead_letters WHERE id = ANY (ARRAY(
                         SELECT id FROM dead_letters WHERE resolved_ms < $1 ORDER BY resolved_ms LIMIT $2))",
                );
                tx.execute(statement.bind(millis(before)).bind(i64::from(limit))).await
            })
        }
        .boxed()
    }
}

async fn changed(
    tx: &mut Transaction,
    stream: &StreamKey,
    table: &'static str,
    rows: &[RowIdentity],
    since: Timestamp,
) -> Result<Vec<bool>, LedgerError> {
    let id = cursor::find_stream(tx, stream).await?;
    let sql = format!(
        "SELECT EXISTS (SELECT 1 FROM {table} WHERE stream_id = $1 AND account_token = $2 AND record_key = $3
             AND updated_ms > $4)
         OR EXISTS (SELECT 1 FROM withdrawn_records WHERE stream_id = $1 AND record_key = $3
             AND account_token IN ($2, '') AND withdrawn_ms > $4)"
    );
    let mut all = Vec::with_capacity(rows.len());
    for row in rows {
        let statement = sqlx::query(AssertSqlSafe(sql.clone())).bind(id).bind(&row.account_token);
        all.push(tx.scalar(statement.bind(&row.record_key).bind(millis(since))).await?);
    }
    Ok(all)
}

/// Marks the dead letters that the page's rows were replayed from as resolved.
pub(super) async fn settle_replay(tx: &mut Transaction, page: &PageCommit<'_>) -> Result<(), LedgerError> {
    let Some(ReplayedLetters { ids, audit: entry }) = page.replayed else { return Ok(()) };
    let job = ObjectKey::new(page.cursor.stream.namespace.as_str(), job_name(&page.cursor.job));
    resolve(tx, &job, ids, entry.at).await?;
    audit::append(tx, entry).await
}

/// Marks dead letters of the job as resolved; returns the number that were not yet.
async fn resolve(tx: &mut Transaction, job: &ObjectKey, ids: &[i64], now: Timestamp) -> Result<u64, LedgerError> {
    let statement = sqlx::query(
        "UPDATE dead_letters SET resolved_ms = $4 WHERE resolved_ms IS NULL AND job = $1
             AND stream_id IN (SELECT id FROM streams WHERE namespace = $2) AND id = ANY ($3)",
    );
    tx.execute(statement.bind(&*job.name).bind(&*job.namespace).bind(ids.to_vec()).bind(millis(now))).await
}

fn decode(row: &PgRow) -> Result<JobDeadLetter, LedgerError> {
    Ok(JobDeadLetter {
        id: get(row, "id")?,
        stream: stream_of(row)?,
        fingerprint: get(row, "fingerprint")?,
        reason: get(row, "reason")?,
        path: get(row, "path")?,
        sample: get(row, "sample")?,
        run_id: get(row, "run_id")?,
        seen: count(row, "seen")?,
        first: timestamp(row, "first_ms")?,
        last: timestamp(row, "last_ms")?,
        resolved: timestamp_opt(row, "resolved_ms")?,
        raw: raw_ref(row)?,
    })
}

/// The payload of a dead letter that is joined with its columns.
pub(super) fn raw_ref(row: &PgRow) -> Result<Option<RawRef>, LedgerError> {
    let mode: Option<String> = get(row, "mode")?;
    let mode = mode.map(|mode| stored_enum(&RawMode::ALL, RawMode::as_str, &mode, "raw_payloads.mode")).transpose()?;
    let expires = timestamp_opt(row, "expires_ms")?;
    Ok(uuid_opt(row, "raw_ref")?.map(|id| RawRef { id, stored: mode.zip(expires) }))
}
