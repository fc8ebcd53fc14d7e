//! Raw payloads.

use bytes::Bytes;
use futures::FutureExt as _;
use jiff::Timestamp;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::clock_skew::latest_millis;
use super::codec::{count, get, millis, small, stored_enum, text, timestamp, to_i64};
use super::database::PostgresLedger;
use super::failure::OperationName;
use super::lease::assert_held;
use super::outbox::uuid;
use super::transaction::{Transaction, read_tx, write_tx};
use crate::domain::cursor::{StreamKey, job_name};
use crate::domain::key::ObjectKey;
use crate::ledger::error::{LedgerError, LedgerFuture};
use crate::ledger::lease::Lease;
use crate::ledger::page::PageCommit;
use crate::ledger::raw::{RawMode, RawPayload, RawPayloads, RawUsage, StoredRaw};

const LOAD: OperationName = OperationName("reading a raw payload");
const USAGE: OperationName = OperationName("counting raw payloads");
const PRUNE: OperationName = OperationName("pruning raw payloads");

/// A page that is fetched again is the next attempt; a payload that is stored keeps its place.
const INSERT: &str = "INSERT INTO raw_payloads (id, stream_id, job, run_id, window_key, page_no, attempt, mode, body,
         stored, sha256, size, request, created_ms, expires_ms)
     SELECT $1, $2, $3, $4, $5, $6, 1 + coalesce((SELECT max(attempt) FROM raw_payloads WHERE stream_id = $2
         AND job = $3 AND window_key = $5 AND page_no = $6), 0), $7, $8, $9, $10, $11, $12, $13, $14
     ON CONFLICT (id) DO NOTHING";

impl RawPayloads for PostgresLedger {
    fn load_raw(&self, id: Uuid, now: Timestamp) -> LedgerFuture<'_, Option<StoredRaw>> {
        async move {
            read_tx!(self, LOAD, |tx| {
                let statement = sqlx::query(
                    "SELECT r.id, r.job, r.run_id, r.window_key, r.page_no, r.attempt, r.mode, r.body, r.sha256, r.size,
                         r.request, r.created_ms, r.expires_ms,
                         t.namespace, t.connection, t.provider, t.environment, t.stream, t.partition
                     FROM raw_payloads r JOIN streams t ON t.id = r.stream_id WHERE r.id = $1 AND r.expires_ms > $2",
                );
                let row = tx.fetch_optional(statement.bind(id.to_string()).bind(millis(now))).await?;
                row.as_ref().map(decode).transpose()
            })
        }
        .boxed()
    }

    fn raw_usage(&self) -> LedgerFuture<'_, RawUsage> {
        async move {
            read_tx!(self, USAGE, |tx| {
                let statement = sqlx::query(
                    "SELECT count(*) AS payloads, coalesce(sum(stored), 0)::bigint AS bytes FROM raw_payloads",
                );
                match tx.fetch_optional(statement).await? {
                    None => Ok(RawUsage::default()),
                    Some(row) => Ok(RawUsage { payloads: count(&row, "payloads")?, bytes: count(&row, "bytes")? }),
                }
            })
        }
        .boxed()
    }

    fn prune_raw<'a>(&'a self, lease: &'a Lease, now: Timestamp, limit: u32) -> LedgerFuture<'a, u64> {
        async move {
            write_tx!(self, PRUNE, |tx| {
                assert_held(tx, lease).await?;
                let statement = sqlx::query(
                    "UPDATE raw_payloads SET expires_ms = $1 + (expires_ms - created_ms), created_ms = $1
                     WHERE created_ms > $2",
                );
                tx.execute(statement.bind(millis(now)).bind(latest_millis(now))).await?;
                let statement = sqlx::query(
                    "DELETE FROM raw_payloads WHERE seq = ANY (ARRAY(
                         SELECT seq FROM raw_payloads WHERE expires_ms <= $1 ORDER BY expires_ms LIMIT $2))",
                );
                tx.execute(statement.bind(millis(now)).bind(i64::from(limit))).await
            })
        }
        .boxed()
    }
}

/// Inserts the payload of a page, if it has one, in the page's transaction.
pub(super) async fn write(tx: &mut Transaction, stream_id: i64, page: &PageCommit<'_>) -> Result<(), LedgerError> {
    let Some(raw) = page.raw else { return Ok(()) };
    let statement = sqlx::query(INSERT)
        .bind(raw.id.to_string())
        .bind(stream_id)
        .bind(job_name(&page.cursor.job))
        .bind(page.run.to_string())
        .bind(text(&raw.window).into_owned())
        .bind(i64::from(raw.page_no))
        .bind(raw.mode.as_str())
        .bind(&*raw.body)
        .bind(to_i64(raw.body.len() as u64))
        .bind(&raw.sha256[..])
        .bind(to_i64(raw.size))
        .bind(text(&raw.request).into_owned())
        .bind(millis(page.now))
        .bind(millis(raw.expires));
    tx.execute(statement).await.map(drop)
}

/// The stream of a row that is joined with its columns.
pub(super) fn stream_of(row: &PgRow) -> Result<StreamKey, LedgerError> {
    Ok(StreamKey {
        namespace: get(row, "namespace")?,
        connection: get(row, "connection")?,
        provider: get(row, "provider")?,
        environment: get(row, "environment")?,
        stream: get(row, "stream")?,
        partition: get(row, "partition")?,
    })
}

fn decode(row: &PgRow) -> Result<StoredRaw, LedgerError> {
    let stream = stream_of(row)?;
    let (job, mode): (String, String) = (get(row, "job")?, get(row, "mode")?);
    let (body, sha256): (Vec<u8>, Vec<u8>) = (get(row, "body")?, get(row, "sha256")?);
    Ok(StoredRaw {
        job: ObjectKey::new(stream.namespace.as_str(), job),
        stream,
        run_id: get(row, "run_id")?,
        attempt: small(row, "attempt")?,
        payload: RawPayload {
            id: uuid(row, "id")?,
            mode: stored_enum(&RawMode::ALL, RawMode::as_str, &mode, "raw_payloads.mode")?,
            body: Bytes::from(body),
            sha256: sha256.try_into().map_err(|_| LedgerError::Corrupt { column: "raw_payloads.sha256" })?,
            size: count(row, "size")?,
            request: get(row, "request")?,
            window: get(row, "window_key")?,
            page_no: small(row, "page_no")?,
            expires: timestamp(row, "expires_ms")?,
        },
        created: timestamp(row, "created_ms")?,
    })
}
