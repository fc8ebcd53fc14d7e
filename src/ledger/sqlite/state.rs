//! A job's cursor in a partition: read, written, and its stream's number.

use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::SqliteLedger;
use super::codec::{Step, count, get, millis, signed, word};
use crate::ledger::{CursorState, JobKey, LedgerError, PageCommit, StreamKey, Window, WindowKind};

const LOAD: Step = Step("reading a cursor");
const SAVE: Step = Step("moving a cursor");
const STREAM: Step = Step("naming a stream");

/// The columns that [`decode`] reads.
pub(super) const COLUMNS: &str = "s.state_version, s.fence, s.spec_hash, s.window_kind, s.window_from, s.window_to, \
     s.page_no, s.page_token, s.total, s.committed_hwm, s.candidate_hwm, s.seen_tokens, s.rows_in, s.rows_dead";

impl SqliteLedger {
    pub(super) async fn state_load(&self, job: &JobKey) -> Result<Option<CursorState>, LedgerError> {
        // Through the writer: a commit whose caller was dropped may still be under way, and must be seen.
        let mut conn = self.writer.acquire().await.map_err(|e| LOAD.failed(e))?;
        Ok(load(&mut conn, job).await?.map(|(state, _)| state))
    }
}

/// The state and the fence that wrote it.
pub(super) async fn load(conn: &mut SqliteConnection, job: &JobKey) -> Result<Option<(CursorState, i64)>, LedgerError> {
    let Some(id) = find_stream(conn, &job.stream).await? else { return Ok(None) };
    let row = sqlx::query(sqlx::AssertSqlSafe(format!(
        "SELECT {COLUMNS} FROM sync_state s WHERE s.stream_id = ?1 AND s.job = ?2"
    )))
    .bind(id)
    .bind(&job.job)
    .fetch_optional(conn)
    .await
    .map_err(|e| LOAD.failed(e))?;
    row.map(|row| Ok((decode(&row)?, get(&row, "fence")?))).transpose()
}

pub(super) fn decode(row: &SqliteRow) -> Result<CursorState, LedgerError> {
    let kind: Option<String> = get(row, "window_kind")?;
    let window = match kind {
        None => None,
        Some(kind) => {
            let seen: String = get(row, "seen_tokens")?;
            Some(Window {
                kind: word(&WindowKind::ALL, WindowKind::as_str, &kind, "sync_state.window_kind")?,
                from: get(row, "window_from")?,
                to: get(row, "window_to")?,
                page_no: get(row, "page_no")?,
                page_token: get(row, "page_token")?,
                total: row
                    .try_get::<Option<i64>, _>("total")
                    .ok()
                    .flatten()
                    .and_then(|total| u64::try_from(total).ok()),
                candidate_hwm: get(row, "candidate_hwm")?,
                seen_tokens: serde_json::from_str(&seen)
                    .map_err(|_| LedgerError::Corrupt { column: "sync_state.seen_tokens" })?,
                rows_in: count(row, "rows_in")?,
                rows_dead: count(row, "rows_dead")?,
            })
        }
    };
    Ok(CursorState {
        version: get(row, "state_version")?,
        spec_hash: get(row, "spec_hash")?,
        committed_hwm: get(row, "committed_hwm")?,
        window,
    })
}

/// Writes the page's state over version `page.state.version`, as the next version. The first one has none to replace.
pub(super) async fn advance(
    conn: &mut SqliteConnection,
    stream_id: i64,
    page: &PageCommit<'_>,
) -> Result<i64, LedgerError> {
    let state = page.state;
    let next = state.version.saturating_add(1);
    let window = state.window.as_ref();
    let seen = match window {
        Some(window) => serde_json::to_string(&window.seen_tokens)
            .map_err(|_| LedgerError::Corrupt { column: "sync_state.seen_tokens" })?,
        None => "[]".to_owned(),
    };
    // One statement for both: an INSERT that may only happen for version 0, an UPDATE that may only replace its own.
    let done = sqlx::query(
        "INSERT INTO sync_state (stream_id, job, state_version, fence, spec_hash, window_kind, window_from, window_to,
             page_no, page_token, total, committed_hwm, candidate_hwm, seen_tokens, rows_in, rows_dead, updated_ms)
         SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17
         WHERE ?3 = 1 OR EXISTS (SELECT 1 FROM sync_state WHERE stream_id = ?1 AND job = ?2)
         ON CONFLICT (stream_id, job) DO UPDATE SET
             state_version = excluded.state_version, fence = excluded.fence, spec_hash = excluded.spec_hash,
             window_kind = excluded.window_kind, window_from = excluded.window_from, window_to = excluded.window_to,
             page_no = excluded.page_no, page_token = excluded.page_token, total = excluded.total,
             committed_hwm = excluded.committed_hwm, candidate_hwm = excluded.candidate_hwm,
             seen_tokens = excluded.seen_tokens, rows_in = excluded.rows_in,
             rows_dead = excluded.rows_dead, updated_ms = excluded.updated_ms
         WHERE sync_state.state_version = excluded.state_version - 1",
    )
    .bind(stream_id)
    .bind(&page.job.job)
    .bind(next)
    .bind(page.lease.fence)
    .bind(&state.spec_hash)
    .bind(window.map(|w| w.kind.as_str()))
    .bind(window.map(|w| w.from.as_str()))
    .bind(window.map(|w| w.to.as_str()))
    .bind(window.map_or(0, |w| w.page_no))
    .bind(window.and_then(|w| w.page_token.as_deref()))
    .bind(window.and_then(|w| w.total).map(signed))
    .bind(state.committed_hwm.as_deref())
    .bind(window.and_then(|w| w.candidate_hwm.as_deref()))
    .bind(seen)
    .bind(window.map_or(0, |w| signed(w.rows_in)))
    .bind(window.map_or(0, |w| signed(w.rows_dead)))
    .bind(millis(page.now))
    .execute(conn)
    .await
    .map_err(|e| SAVE.failed(e))?;
    if done.rows_affected() == 1 { Ok(next) } else { Err(LedgerError::StateMoved { expected: state.version }) }
}

/// The stream's number, if it was ever written to.
pub(super) async fn find_stream(conn: &mut SqliteConnection, key: &StreamKey) -> Result<Option<i64>, LedgerError> {
    sqlx::query_scalar(
        "SELECT id FROM streams WHERE namespace = ?1 AND connection = ?2 AND provider = ?3 AND environment = ?4
         AND stream = ?5 AND partition = ?6",
    )
    .bind(&key.namespace)
    .bind(&key.connection)
    .bind(&key.provider)
    .bind(&key.environment)
    .bind(&key.stream)
    .bind(&key.partition)
    .fetch_optional(conn)
    .await
    .map_err(|e| STREAM.failed(e))
}

/// The stream's number; given one if it has none.
pub(super) async fn ensure_stream(conn: &mut SqliteConnection, key: &StreamKey) -> Result<i64, LedgerError> {
    if let Some(id) = find_stream(conn, key).await? {
        return Ok(id);
    }
    sqlx::query_scalar(
        "INSERT INTO streams (namespace, connection, provider, environment, stream, partition)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6) RETURNING id",
    )
    .bind(&key.namespace)
    .bind(&key.connection)
    .bind(&key.provider)
    .bind(&key.environment)
    .bind(&key.stream)
    .bind(&key.partition)
    .fetch_one(conn)
    .await
    .map_err(|e| STREAM.failed(e))
}
