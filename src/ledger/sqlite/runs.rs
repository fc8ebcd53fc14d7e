//! Run history: start, end, skip, and the job's streaks.

use jiff::Timestamp;
use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use uuid::Uuid;

use super::codec::{OperationName, count, get, instant, instant_opt, millis, to_i64};
use super::cursor;
use super::database::SqliteLedger;
use super::lease::assert_held;
use crate::domain::cursor::{CursorState, StreamKey};
use crate::domain::key::ObjectKey;
use crate::domain::run_reason::RunReason;
use crate::ledger::error::LedgerError;
use crate::ledger::lease::Lease;
use crate::ledger::runs::{JobHistory, RunCounts, RunEnd, RunId, RunRecord, RunResult, RunStart, RunTrigger};

const START: OperationName = OperationName("recording the start of a run");
const SKIP: OperationName = OperationName("recording a skipped run");
const FINISH: OperationName = OperationName("recording the end of a run");
const HISTORY: OperationName = OperationName("reading a job's history");

/// Runs stored per job: a day of runs every few minutes. Streaks are stored separately.
const MAX_RUNS_PER_JOB: i64 = 200;

impl SqliteLedger {
    pub(super) async fn run_start(&self, run: &RunStart, lease: &Lease) -> Result<bool, LedgerError> {
        let (run, lease) = (run.clone(), lease.clone());
        self.write(START, |conn| {
            Box::pin(async move {
                // A process frozen since it acquired the lease must not interrupt the run of the new holder.
                assert_held(conn, &lease).await?;
                if is_recorded(conn, &run).await.map_err(|e| START.failed(e))? {
                    return Ok(false);
                }
                start(conn, &run).await.map_err(|e| START.failed(e))?;
                Ok(true)
            })
        })
        .await
    }

    pub(super) async fn run_skip(&self, run: &RunStart, reason: RunReason) -> Result<(), LedgerError> {
        let run = run.clone();
        self.write(SKIP, |conn| {
            Box::pin(async move {
                if is_recorded(conn, &run).await.map_err(|e| SKIP.failed(e))? {
                    return Ok(());
                }
                skip(conn, &run, reason).await.map_err(|e| SKIP.failed(e))
            })
        })
        .await
    }

    pub(super) async fn run_finish(&self, end: &RunEnd) -> Result<(), LedgerError> {
        let end = end.clone();
        self.write(FINISH, |conn| Box::pin(async move { finish(conn, &end).await.map_err(|e| FINISH.failed(e)) })).await
    }

    pub(super) async fn job_history_load(&self, job: &ObjectKey, limit: u32) -> Result<JobHistory, LedgerError> {
        let mut conn = self.reader(HISTORY).await?;
        // One snapshot: a run that ends between two statements must not be partly visible.
        let mut tx = sqlx::Connection::begin(&mut *conn).await.map_err(|e| HISTORY.failed(e))?;
        let mut history = totals(&mut tx, job).await?;
        history.last = last_runs(&mut tx, job, limit).await?;
        history.cursors = cursors(&mut tx, job).await?;
        tx.rollback().await.map_err(|e| HISTORY.failed(e))?;
        Ok(history)
    }
}

/// Whether the run, or a run for its slot or a later one, was recorded before.
async fn is_recorded(conn: &mut SqliteConnection, run: &RunStart) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM sync_runs WHERE run_id = ?1)
             OR EXISTS (SELECT 1 FROM sync_jobs WHERE namespace = ?2 AND job = ?3 AND last_slot_ms >= ?4)",
    )
    .bind(run.id.to_string())
    .bind(&*run.job.namespace)
    .bind(&*run.job.name)
    .bind(run.slot.map(millis))
    .fetch_one(conn)
    .await
}

async fn start(conn: &mut SqliteConnection, run: &RunStart) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE sync_runs SET ended_ms = ?3, result = ?4 WHERE namespace = ?1 AND job = ?2 AND ended_ms IS NULL",
    )
    .bind(&*run.job.namespace)
    .bind(&*run.job.name)
    .bind(millis(run.at))
    .bind(RunResult::Interrupted.as_str())
    .execute(&mut *conn)
    .await?;
    insert(conn, run, None).await?;
    record_slot(conn, run).await
}

/// Inserts a run that starts and ends at once.
async fn skip(conn: &mut SqliteConnection, run: &RunStart, reason: RunReason) -> Result<(), sqlx::Error> {
    insert(conn, run, Some(reason)).await?;
    record_slot(conn, run).await?;
    prune(conn, &run.job).await
}

async fn insert(conn: &mut SqliteConnection, run: &RunStart, skipped: Option<RunReason>) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO sync_runs (run_id, namespace, job, cause, dry_run, slot_ms, started_ms, ended_ms, result, reason)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )
    .bind(run.id.to_string())
    .bind(&*run.job.namespace)
    .bind(&*run.job.name)
    .bind(run.trigger.as_str())
    .bind(run.dry_run)
    .bind(run.slot.map(millis))
    .bind(millis(run.at))
    .bind(skipped.map(|_| millis(run.at)))
    .bind(skipped.map(|_| RunResult::Skipped.as_str()))
    .bind(skipped.map(RunReason::as_str))
    .execute(conn)
    .await
    .map(drop)
}

async fn record_slot(conn: &mut SqliteConnection, run: &RunStart) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO sync_jobs (namespace, job, last_slot_ms) VALUES (?1, ?2, ?3)
         ON CONFLICT (namespace, job) DO UPDATE SET
             last_slot_ms = max(coalesce(last_slot_ms, excluded.last_slot_ms),
                                coalesce(excluded.last_slot_ms, last_slot_ms))",
    )
    .bind(&*run.job.namespace)
    .bind(&*run.job.name)
    .bind(run.slot.map(millis))
    .execute(conn)
    .await
    .map(drop)
}

async fn finish(conn: &mut SqliteConnection, end: &RunEnd) -> Result<(), sqlx::Error> {
    let done = sqlx::query(
        "UPDATE sync_runs SET ended_ms = ?2, result = ?3, reason = ?4, fetched = ?5, inserted = ?6, updated = ?7,
             unchanged = ?8, rejected = ?9, pages = ?10
         WHERE run_id = ?1 AND ended_ms IS NULL",
    )
    .bind(end.id.to_string())
    .bind(millis(end.at))
    .bind(end.result.as_str())
    .bind(end.reason.map(RunReason::as_str))
    .bind(to_i64(end.counts.fetched))
    .bind(to_i64(end.counts.inserted))
    .bind(to_i64(end.counts.updated))
    .bind(to_i64(end.counts.unchanged))
    .bind(to_i64(end.counts.rejected))
    .bind(to_i64(end.counts.pages))
    .execute(&mut *conn)
    .await?;
    if done.rows_affected() == 0 {
        return Ok(());
    }
    // Only provider outcomes count: a stop, a skip or a crash of Busbar does not change a streak.
    let (succeeded, failed) = match end.result {
        RunResult::Succeeded | RunResult::Incomplete => (true, false),
        RunResult::Failed => (false, true),
        RunResult::Cancelled | RunResult::Skipped | RunResult::Interrupted => (false, false),
    };
    let empty = end.result == RunResult::Succeeded && end.counts.fetched == 0;
    sqlx::query(
        "UPDATE sync_jobs SET
             failure_streak  = CASE WHEN ?3 THEN 0 WHEN ?4 THEN failure_streak + 1 ELSE failure_streak END,
             empty_streak    = CASE WHEN ?5 THEN empty_streak + 1 WHEN ?3 THEN 0 ELSE empty_streak END,
             last_success_ms = CASE WHEN ?6 THEN ?7 ELSE last_success_ms END
         WHERE namespace = ?1 AND job = ?2",
    )
    .bind(&*end.job.namespace)
    .bind(&*end.job.name)
    .bind(succeeded)
    .bind(failed)
    .bind(empty)
    .bind(end.result == RunResult::Succeeded)
    .bind(millis(end.at))
    .execute(&mut *conn)
    .await?;
    prune(conn, &end.job).await
}

async fn prune(conn: &mut SqliteConnection, job: &ObjectKey) -> Result<(), sqlx::Error> {
    sqlx::query(
        "DELETE FROM sync_runs WHERE namespace = ?1 AND job = ?2 AND ended_ms IS NOT NULL AND started_ms <
             (SELECT started_ms FROM sync_runs WHERE namespace = ?1 AND job = ?2
              ORDER BY started_ms DESC LIMIT 1 OFFSET ?3)",
    )
    .bind(&*job.namespace)
    .bind(&*job.name)
    .bind(MAX_RUNS_PER_JOB - 1)
    .execute(conn)
    .await
    .map(drop)
}

async fn totals(conn: &mut SqliteConnection, job: &ObjectKey) -> Result<JobHistory, LedgerError> {
    let row = sqlx::query(
        "SELECT failure_streak, empty_streak, last_success_ms, last_slot_ms FROM sync_jobs
         WHERE namespace = ?1 AND job = ?2",
    )
    .bind(&*job.namespace)
    .bind(&*job.name)
    .fetch_optional(conn)
    .await
    .map_err(|e| HISTORY.failed(e))?;
    let Some(row) = row else { return Ok(JobHistory::default()) };
    Ok(JobHistory {
        failure_streak: get(&row, "failure_streak")?,
        empty_streak: get(&row, "empty_streak")?,
        last_success: timestamp_opt(&row, "last_success_ms")?,
        last_slot: timestamp_opt(&row, "last_slot_ms")?,
        ..JobHistory::default()
    })
}

async fn last_runs(conn: &mut SqliteConnection, job: &ObjectKey, limit: u32) -> Result<Vec<RunRecord>, LedgerError> {
    let rows = sqlx::query(
        "SELECT run_id, cause, dry_run, slot_ms, started_ms, ended_ms, result, reason, fetched, inserted, updated,
             unchanged, rejected, pages
         FROM sync_runs WHERE namespace = ?1 AND job = ?2 ORDER BY started_ms DESC, run_id LIMIT ?3",
    )
    .bind(&*job.namespace)
    .bind(&*job.name)
    .bind(limit)
    .fetch_all(conn)
    .await
    .map_err(|e| HISTORY.failed(e))?;
    rows.iter().map(run_record).collect()
}

fn run_record(row: &SqliteRow) -> Result<RunRecord, LedgerError> {
    let id: String = get(row, "run_id")?;
    let trigger: String = get(row, "cause")?;
    let result: Option<String> = get(row, "result")?;
    let reason: Option<String> = get(row, "reason")?;
    Ok(RunRecord {
        id: RunId(Uuid::parse_str(&id).map_err(|_| LedgerError::Corrupt { column: "sync_runs.run_id" })?),
        trigger: trigger.parse::<RunTrigger>().map_err(|_| LedgerError::Corrupt { column: "sync_runs.cause" })?,
        slot: timestamp_opt(row, "slot_ms")?,
        dry_run: get(row, "dry_run")?,
        started: instant(get(row, "started_ms")?, "sync_runs.started_ms")?,
        ended: timestamp_opt(row, "ended_ms")?,
        result: result
            .map(|text| text.parse::<RunResult>())
            .transpose()
            .map_err(|_| LedgerError::Corrupt { column: "sync_runs.result" })?,
        reason: reason.and_then(|text| text.parse().ok()),
        counts: RunCounts {
            fetched: count(row, "fetched")?,
            inserted: count(row, "inserted")?,
            updated: count(row, "updated")?,
            unchanged: count(row, "unchanged")?,
            rejected: count(row, "rejected")?,
            pages: count(row, "pages")?,
        },
    })
}

async fn cursors(conn: &mut SqliteConnection, job: &ObjectKey) -> Result<Vec<(StreamKey, CursorState)>, LedgerError> {
    let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
        "SELECT {}, t.namespace, t.connection, t.provider, t.environment, t.stream, t.partition
         FROM sync_state s JOIN streams t ON t.id = s.stream_id
         WHERE t.namespace = ?1 AND s.job = ?2 ORDER BY t.partition, t.id",
        cursor::COLUMNS
    )))
    .bind(&*job.namespace)
    .bind(&*job.name)
    .fetch_all(conn)
    .await
    .map_err(|e| HISTORY.failed(e))?;
    rows.iter().map(|row| Ok((stream_key(row)?, cursor::decode(row)?))).collect()
}

pub(super) fn stream_key(row: &SqliteRow) -> Result<StreamKey, LedgerError> {
    Ok(StreamKey {
        namespace: get(row, "namespace")?,
        connection: get(row, "connection")?,
        provider: get(row, "provider")?,
        environment: get(row, "environment")?,
        stream: get(row, "stream")?,
        partition: get(row, "partition")?,
    })
}

fn timestamp_opt(row: &SqliteRow, column: &'static str) -> Result<Option<Timestamp>, LedgerError> {
    let ms: Option<i64> = row.try_get(column).map_err(|_| LedgerError::Corrupt { column })?;
    instant_opt(ms, column)
}
