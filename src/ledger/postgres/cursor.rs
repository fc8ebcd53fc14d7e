//! Reads and writes cursors, and maps streams to their row ids.

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, query};

use super::codec::{count, count_opt, get, millis, small, text, text_opt, to_i64};
use super::database::PostgresLedger;
use super::failure::OperationName;
use super::transaction::{Mode, Transaction, lock, lock_shared, settled, transaction};
use crate::domain::cursor::{CursorKey, CursorState, StreamKey, SyncWindow, job_name};
use crate::ledger::error::LedgerError;
use crate::ledger::page::PageCommit;

const LOAD: OperationName = OperationName("reading a cursor");

/// The kind of an open window: one that follows the cursor and advances it when complete.
const INCREMENTAL: &str = "incremental";
/// That of a resync, which is apart from the cursor's other windows.
const RESYNC: &str = "resync";

/// The columns that [`decode`] reads.
pub(super) const COLUMNS: &str = "s.state_version, s.fence, s.spec_hash, s.window_kind, s.window_from, s.window_to, \
     s.page_no, s.page_token, s.total, s.committed_hwm, s.candidate_hwm, s.seen_tokens, s.rows_in, s.rows_dead, \
     s.earliest";

impl PostgresLedger {
    pub(super) async fn cursor_load(&self, key: &CursorKey) -> Result<Option<CursorState>, LedgerError> {
        let loaded = settled(self.server(), LOAD, transaction!(self, Mode::Latest, LOAD, |tx| load(tx, key).await))?;
        Ok(loaded.map(|(state, _)| state))
    }
}

/// The name of the lock that page transactions of a stream take in turn.
pub(super) fn stream_lock(key: &StreamKey) -> String {
    let StreamKey { namespace, connection, provider, environment, stream, partition } = key;
    format!("stream {namespace}/{connection}/{provider}/{environment}/{stream}/{partition}")
}

/// Waits for the page transactions of the stream that are in progress, also for those whose process has gone.
pub(super) async fn lock_stream(tx: &mut Transaction, key: &StreamKey) -> Result<(), LedgerError> {
    lock(tx, &stream_lock(key)).await
}

/// The cursor and the fence that wrote it. A commit whose caller, or whose process, has gone may still be in progress:
/// it is waited for.
pub(super) async fn load(tx: &mut Transaction, key: &CursorKey) -> Result<Option<(CursorState, i64)>, LedgerError> {
    lock_shared(tx, &stream_lock(&key.stream)).await?;
    let Some(id) = find_stream(tx, &key.stream).await? else { return Ok(None) };
    let sql = format!("SELECT {COLUMNS} FROM sync_state s WHERE s.stream_id = $1 AND s.job = $2");
    let row = tx.fetch_optional(query(AssertSqlSafe(sql)).bind(id).bind(&key.job)).await?;
    row.map(|row| Ok((decode(&row)?, get(&row, "fence")?))).transpose()
}

pub(super) fn decode(row: &PgRow) -> Result<CursorState, LedgerError> {
    let kind: Option<String> = get(row, "window_kind")?;
    let window = if kind.is_some() {
        let seen: String = get(row, "seen_tokens")?;
        Some(SyncWindow {
            from: get(row, "window_from")?,
            to: get(row, "window_to")?,
            page_no: small(row, "page_no")?,
            page_token: get(row, "page_token")?,
            total: count_opt(row, "total")?,
            candidate_hwm: get(row, "candidate_hwm")?,
            seen_tokens: serde_json::from_str(&seen)
                .map_err(|_| LedgerError::Corrupt { column: "sync_state.seen_tokens" })?,
            rows_in: count(row, "rows_in")?,
            rows_dead: count(row, "rows_dead")?,
        })
    } else {
        None
    };
    Ok(CursorState {
        version: get(row, "state_version")?,
        spec_hash: get(row, "spec_hash")?,
        committed_hwm: get(row, "committed_hwm")?,
        earliest: get(row, "earliest")?,
        window,
    })
}

/// Replaces version `page.state.version` of the cursor with the page's state as the next version. Version 0 inserts.
pub(super) async fn advance(tx: &mut Transaction, stream_id: i64, page: &PageCommit<'_>) -> Result<i64, LedgerError> {
    let state = page.state;
    let next = state.version.saturating_add(1);
    let window = state.window.as_ref();
    let kind = if job_name(&page.cursor.job) == page.cursor.job { INCREMENTAL } else { RESYNC };
    let seen = match window {
        Some(window) => serde_json::to_string(&window.seen_tokens)
            .map_err(|_| LedgerError::Corrupt { column: "sync_state.seen_tokens" })?,
        None => "[]".to_owned(),
    };
    // One statement: the INSERT requires version 0, the UPDATE the expected version.
    let statement = query(
        "INSERT INTO sync_state (stream_id, job, state_version, fence, spec_hash, window_kind, window_from, window_to,
             page_no, page_token, total, committed_hwm, candidate_hwm, seen_tokens, rows_in, rows_dead, updated_ms,
             earliest)
         SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18
         WHERE $3 = 1 OR EXISTS (SELECT 1 FROM sync_state WHERE stream_id = $1 AND job = $2)
         ON CONFLICT (stream_id, job) DO UPDATE SET
             state_version = excluded.state_version, fence = excluded.fence, spec_hash = excluded.spec_hash,
             window_kind = excluded.window_kind, window_from = excluded.window_from, window_to = excluded.window_to,
             page_no = excluded.page_no, page_token = excluded.page_token, total = excluded.total,
             committed_hwm = excluded.committed_hwm, candidate_hwm = excluded.candidate_hwm,
             seen_tokens = excluded.seen_tokens, rows_in = excluded.rows_in,
             rows_dead = excluded.rows_dead, updated_ms = excluded.updated_ms, earliest = excluded.earliest
         WHERE sync_state.state_version = excluded.state_version - 1",
    )
    .bind(stream_id)
    .bind(&page.cursor.job)
    .bind(next)
    .bind(page.lease.fence)
    .bind(text(&state.spec_hash))
    .bind(window.map(|_| kind))
    .bind(text_opt(window.map(|w| w.from.as_str())))
    .bind(text_opt(window.map(|w| w.to.as_str())))
    .bind(window.map_or(0, |w| i64::from(w.page_no)))
    .bind(text_opt(window.and_then(|w| w.page_token.as_deref())))
    .bind(window.and_then(|w| w.total).map(to_i64))
    .bind(text_opt(state.committed_hwm.as_deref()))
    .bind(text_opt(window.and_then(|w| w.candidate_hwm.as_deref())))
    .bind(seen)
    .bind(window.map_or(0, |w| to_i64(w.rows_in)))
    .bind(window.map_or(0, |w| to_i64(w.rows_dead)))
    .bind(millis(page.now))
    .bind(text_opt(state.earliest.as_deref()));
    let written = tx.execute(statement).await?;
    if written == 1 { Ok(next) } else { Err(LedgerError::VersionConflict { expected: state.version }) }
}

/// The stream's row id, if it was ever written to.
pub(super) async fn find_stream(tx: &mut Transaction, key: &StreamKey) -> Result<Option<i64>, LedgerError> {
    let statement = query(
        "SELECT id FROM streams WHERE namespace = $1 AND connection = $2 AND provider = $3 AND environment = $4
         AND stream = $5 AND partition = $6",
    )
    .bind(&key.namespace)
    .bind(&key.connection)
    .bind(&key.provider)
    .bind(&key.environment)
    .bind(text(&key.stream))
    .bind(text(&key.partition));
    tx.scalar_opt(statement).await
}

/// The stream's row id; inserts the stream if it is new. The caller has locked the stream.
pub(super) async fn ensure_stream(tx: &mut Transaction, key: &StreamKey) -> Result<i64, LedgerError> {
    if let Some(id) = find_stream(tx, key).await? {
        return Ok(id);
    }
    let statement = query(
        "INSERT INTO streams (namespace, connection, provider, environment, stream, partition)
         VALUES ($1, $2, $3, $4, $5, $6) RETURNING id",
    )
    .bind(&key.namespace)
    .bind(&key.connection)
    .bind(&key.provider)
    .bind(&key.environment)
    .bind(text(&key.stream))
    .bind(text(&key.partition));
    tx.scalar(statement).await
}
