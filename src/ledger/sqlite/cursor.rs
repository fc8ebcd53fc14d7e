//! Reads and writes cursors, and maps streams to their row ids.

use rusqlite::{Row, params};

use super::codec::{OperationName, count, count_opt, get, millis, to_i64};
use super::connection::Transaction;
use super::database::SqliteLedger;
use super::owned_page::OwnedPage;
use crate::domain::cursor::{CursorKey, CursorState, StreamKey, SyncWindow, job_name};
use crate::ledger::error::LedgerError;

const LOAD: OperationName = OperationName("reading a cursor");

/// The kind of an open window: one that follows the cursor and advances it when complete.
const INCREMENTAL: &str = "incremental";

/// That of a resync, which is apart from the cursor's other windows.
const RESYNC: &str = "resync";

/// The columns that [`decode`] reads.
pub(super) const COLUMNS: &str = "s.state_version, s.fence, s.spec_hash, s.window_kind, s.window_from, s.window_to, \
     s.page_no, s.page_token, s.total, s.committed_hwm, s.candidate_hwm, s.seen_tokens, s.rows_in, s.rows_dead, \
     s.earliest";

impl SqliteLedger {
    pub(super) async fn cursor_load(&self, key: &CursorKey) -> Result<Option<CursorState>, LedgerError> {
        let key = key.clone();
        // Through the writer: a commit whose caller was dropped may still be in progress and must be visible.
        self.read_in_order(LOAD, move |tx| Ok(load(tx, &key)?.map(|(state, _)| state))).await
    }
}

/// The cursor and the fence that wrote it.
pub(super) fn load(tx: &Transaction<'_>, key: &CursorKey) -> Result<Option<(CursorState, i64)>, LedgerError> {
    let Some(id) = find_stream(tx, &key.stream)? else { return Ok(None) };
    tx.query_opt(
        &format!("SELECT {COLUMNS} FROM sync_state s WHERE s.stream_id = ?1 AND s.job = ?2"),
        params![id, key.job],
        |row| Ok((decode(row)?, get(row, "fence")?)),
    )
}

pub(super) fn decode(row: &Row<'_>) -> Result<CursorState, LedgerError> {
    let kind: Option<String> = get(row, "window_kind")?;
    let window = if kind.is_some() {
        let seen: String = get(row, "seen_tokens")?;
        Some(SyncWindow {
            from: get(row, "window_from")?,
            to: get(row, "window_to")?,
            page_no: get(row, "page_no")?,
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
pub(super) fn advance(tx: &Transaction<'_>, stream_id: i64, page: &OwnedPage) -> Result<i64, LedgerError> {
    let state = &page.state;
    let next = state.version.saturating_add(1);
    let window = state.window.as_ref();
    let kind = if job_name(&page.cursor.job) == page.cursor.job { INCREMENTAL } else { RESYNC };
    let seen = match window {
        Some(window) => serde_json::to_string(&window.seen_tokens)
            .map_err(|_| LedgerError::Corrupt { column: "sync_state.seen_tokens" })?,
        None => "[]".to_owned(),
    };
    // One statement: the INSERT requires version 0, the UPDATE the expected version.
    let written = tx.execute(
        "INSERT INTO sync_state (stream_id, job, state_version, fence, spec_hash, window_kind, window_from, window_to,
             page_no, page_token, total, committed_hwm, candidate_hwm, seen_tokens, rows_in, rows_dead, updated_ms,
             earliest)
         SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18
         WHERE ?3 = 1 OR EXISTS (SELECT 1 FROM sync_state WHERE stream_id = ?1 AND job = ?2)
         ON CONFLICT (stream_id, job) DO UPDATE SET
             state_version = excluded.state_version, fence = excluded.fence, spec_hash = excluded.spec_hash,
             window_kind = excluded.window_kind, window_from = excluded.window_from, window_to = excluded.window_to,
             page_no = excluded.page_no, page_token = excluded.page_token, total = excluded.total,
             committed_hwm = excluded.committed_hwm, candidate_hwm = excluded.candidate_hwm,
             seen_tokens = excluded.seen_tokens, rows_in = excluded.rows_in,
             rows_dead = excluded.rows_dead, updated_ms = excluded.updated_ms, earliest = excluded.earliest
         WHERE sync_state.state_version = excluded.state_version - 1",
        params![
            stream_id,
            page.cursor.job,
            next,
            page.lease.fence,
            state.spec_hash,
            window.map(|_| kind),
            window.map(|w| w.from.as_str()),
            window.map(|w| w.to.as_str()),
            window.map_or(0, |w| w.page_no),
            window.and_then(|w| w.page_token.as_deref()),
            window.and_then(|w| w.total).map(to_i64),
            state.committed_hwm.as_deref(),
            window.and_then(|w| w.candidate_hwm.as_deref()),
            seen,
            window.map_or(0, |w| to_i64(w.rows_in)),
            window.map_or(0, |w| to_i64(w.rows_dead)),
            millis(page.now),
            state.earliest.as_deref(),
        ],
    )?;
    if written == 1 { Ok(next) } else { Err(LedgerError::VersionConflict { expected: state.version }) }
}

/// The stream's row id, if it was ever written to.
pub(super) fn find_stream(tx: &Transaction<'_>, key: &StreamKey) -> Result<Option<i64>, LedgerError> {
    tx.scalar_opt(
        "SELECT id FROM streams WHERE namespace = ?1 AND connection = ?2 AND provider = ?3 AND environment = ?4
         AND stream = ?5 AND partition = ?6",
        params![key.namespace, key.connection, key.provider, key.environment, key.stream, key.partition],
    )
}

/// The stream's row id; inserts the stream if it is new.
pub(super) fn ensure_stream(tx: &Transaction<'_>, key: &StreamKey) -> Result<i64, LedgerError> {
    if let Some(id) = find_stream(tx, key)? {
        return Ok(id);
    }
    tx.scalar(
        "INSERT INTO streams (namespace, connection, provider, environment, stream, partition)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6) RETURNING id",
        params![key.namespace, key.connection, key.provider, key.environment, key.stream, key.partition],
    )
}
