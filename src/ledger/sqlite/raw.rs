//! Raw payloads.

use bytes::Bytes;
use futures::FutureExt as _;
use jiff::Timestamp;
use rusqlite::{Row, params};
use uuid::Uuid;

use super::clock_skew::latest_millis;
use super::codec::{OperationName, count, get, instant, millis, stored_enum, to_i64};
use super::connection::Transaction;
use super::database::SqliteLedger;
use super::lease::assert_held;
use super::outbox::uuid;
use super::owned_page::OwnedPage;
use super::runs::stream_key;
use crate::domain::cursor::job_name;
use crate::domain::key::ObjectKey;
use crate::ledger::error::{LedgerError, LedgerFuture};
use crate::ledger::lease::Lease;
use crate::ledger::raw::{RawMode, RawPayload, RawPayloads, RawUsage, StoredRaw};

const LOAD: OperationName = OperationName("reading a raw payload");
const USAGE: OperationName = OperationName("counting raw payloads");
const PRUNE: OperationName = OperationName("pruning raw payloads");

/// A page that is fetched again is the next attempt; a payload that is stored keeps its place.
const INSERT: &str = "INSERT INTO raw_payloads (id, stream_id, job, run_id, window_key, page_no, attempt, mode, body, \
     stored, sha256, size, request, created_ms, expires_ms) \
     SELECT ?1, ?2, ?3, ?4, ?5, ?6, 1 + coalesce((SELECT max(attempt) FROM raw_payloads WHERE stream_id = ?2 \
     AND job = ?3 AND window_key = ?5 AND page_no = ?6), 0), ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14 \
     WHERE true ON CONFLICT (id) DO NOTHING";

/// Inserts the payload of a page, if it has one, in the page's transaction.
pub(super) fn write(tx: &Transaction<'_>, stream_id: i64, page: &OwnedPage) -> Result<(), LedgerError> {
    let Some(raw) = &page.raw else { return Ok(()) };
    tx.execute(
        INSERT,
        params![
            raw.id.to_string(),
            stream_id,
            job_name(&page.cursor.job),
            page.run.to_string(),
            raw.window,
            raw.page_no,
            raw.mode.as_str(),
            &*raw.body,
            to_i64(raw.body.len() as u64),
            raw.sha256,
            to_i64(raw.size),
            raw.request,
            millis(page.now),
            millis(raw.expires),
        ],
    )?;
    Ok(())
}

impl RawPayloads for SqliteLedger {
    fn load_raw(&self, id: Uuid, now: Timestamp) -> LedgerFuture<'_, Option<StoredRaw>> {
        self.read(LOAD, move |tx| {
            tx.query_opt(
                "SELECT r.id, r.job, r.run_id, r.window_key, r.page_no, r.attempt, r.mode, r.body, r.sha256, r.size,
                     r.request, r.created_ms, r.expires_ms,
                     t.namespace, t.connection, t.provider, t.environment, t.stream, t.partition
                 FROM raw_payloads r JOIN streams t ON t.id = r.stream_id WHERE r.id = ?1 AND r.expires_ms > ?2",
                params![id.to_string(), millis(now)],
                decode,
            )
        })
        .boxed()
    }

    fn raw_usage(&self) -> LedgerFuture<'_, RawUsage> {
        self.read(USAGE, |tx| {
            let usage = tx.query_opt(
                "SELECT count(*) AS payloads, coalesce(sum(stored), 0) AS bytes FROM raw_payloads",
                [],
                |row| Ok(RawUsage { payloads: count(row, "payloads")?, bytes: count(row, "bytes")? }),
            )?;
            Ok(usage.unwrap_or_default())
        })
        .boxed()
    }

    fn prune_raw<'a>(&'a self, lease: &'a Lease, now: Timestamp, limit: u32) -> LedgerFuture<'a, u64> {
        let lease = lease.clone();
        self.write(PRUNE, move |tx| {
            assert_held(tx, &lease)?;
            tx.execute(
                "UPDATE raw_payloads SET expires_ms = ?1 + (expires_ms - created_ms), created_ms = ?1
                 WHERE created_ms > ?2",
                params![millis(now), latest_millis(now)],
            )?;
            tx.execute(
                "DELETE FROM raw_payloads WHERE seq IN (
                     SELECT seq FROM raw_payloads WHERE expires_ms <= ?1 ORDER BY expires_ms LIMIT ?2)",
                params![millis(now), limit],
            )
        })
        .boxed()
    }
}

fn decode(row: &Row<'_>) -> Result<StoredRaw, LedgerError> {
    let stream = stream_key(row)?;
    let (job, mode): (String, String) = (get(row, "job")?, get(row, "mode")?);
    Ok(StoredRaw {
        job: ObjectKey::new(stream.namespace.as_str(), job),
        stream,
        run_id: get(row, "run_id")?,
        attempt: get(row, "attempt")?,
        payload: RawPayload {
            id: uuid(row, "id", "raw_payloads.id")?,
            mode: stored_enum(&RawMode::ALL, RawMode::as_str, &mode, "raw_payloads.mode")?,
            body: Bytes::from(get::<Vec<u8>>(row, "body")?),
            sha256: get(row, "sha256")?,
            size: count(row, "size")?,
            request: get(row, "request")?,
            window: get(row, "window_key")?,
            page_no: get(row, "page_no")?,
            expires: instant(get(row, "expires_ms")?, "raw_payloads.expires_ms")?,
        },
        created: instant(get(row, "created_ms")?, "raw_payloads.created_ms")?,
    })
}
