//! Runs: begun, ended, remembered.

use jiff::Timestamp;
use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use uuid::Uuid;

use super::SqliteLedger;
use super::codec::{Step, count, get, instant, instant_opt, millis, signed};
use super::lease::assert_held;
use super::state;
use crate::domain::key::ObjectKey;
use crate::ledger::runs::RunCounts;
use crate::ledger::{
    CursorState, JobHistory, Lease, LedgerError, RunEnd, RunId, RunRecord, RunResult, RunStart, RunTrigger, StreamKey,
};

const START: Step = Step("noting that a run began");
const SKIP: Step = Step("noting that a slot passed");
const FINISH: Step = Step("noting how a run ended");
const HISTORY: Step = Step("reading a job's history");

/// Runs kept per job: a day of runs every few minutes; the streaks live in a row of their own.
const KEPT_RUNS: i64 = 200;

impl SqliteLedger {
    pub(super) async fn run_start(&self, run: &RunStart, lease: &Lease) -> Result<bool, LedgerError> {
        let (run, lease) = (run.clone(), lease.clone());
        self.write(START, |conn| {
            Box::pin(async move {
                // Who was frozen between taking the lease and this must not end the run of who took it since.
                assert_held(conn, &lease).await?;
                if known(conn, &run).await.map_err(|e| START.failed(e))? {
                    return Ok(false);
                }
                start(conn, &run).await.map_err(|e| START.failed(e))?;
                Ok(true)
            })
        })
        .await
    }

    pub(super) async fn run_skip(&self, run: &RunStart, reason: &'static str) -> Result<(), LedgerError> {
        let run = run.clone();
        self.write(SKIP, |conn| {
            Box::pin(async move {
                if known(conn, &run).await.map_err(|e| SKIP.failed(e))? {
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

    pub(super) async fn history(&self, job: &ObjectKey, limit: u32) -> Result<JobHistory, LedgerError> {
        let mut conn = self.reader(HISTORY).await?;
        // One snapshot: a run that ends between two statements must not be half seen.
        let mut tx = sqlx::Connection::begin(&mut *conn).await.map_err(|e| HISTORY.failed(e))?;
        let mut history = totals(&mut tx, job).await?;
        history.last = last_runs(&mut tx, job, limit).await?;
        history.cursors = cursors(&mut tx, job).await?;
        tx.rollback().await.map_err(|e| HISTORY.failed(e))?;
        Ok(history)
    }
}

/// Whether the run, or a run for its slot, was noted before.
async fn known(conn: &mut SqliteConnection, run: &RunStart) -> Result<bool, sqlx::Error> {
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
    note_slot(conn, run).await
}

/// A run that never was: begun and ended at once.
async fn skip(conn: &mut SqliteConnection, run: &RunStart, reason: &'static str) -> Result<(), sqlx::Error> {
    insert(conn, run, Some(reason)).await?;
    note_slot(conn, run).await?;
    prune(conn, &run.job).await
}

async fn insert(conn: &mut SqliteConnection, run: &RunStart, skipped: Option<&str>) -> Result<(), sqlx::Error> {
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
    .bind(skipped)
    .execute(conn)
    .await
    .map(drop)
}

async fn note_slot(conn: &mut SqliteConnection, run: &RunStart) -> Result<(), sqlx::Error> {
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
    .bind(end.reason)
    .bind(signed(end.counts.fetched))
    .bind(signed(end.counts.inserted))
    .bind(signed(end.counts.updated))
    .bind(signed(end.counts.unchanged))
    .bind(signed(end.counts.rejected))
    .bind(signed(end.counts.pages))
    .execute(&mut *conn)
    .await?;
    if done.rows_affected() == 0 {
        return Ok(());
    }
    // Only what the provider did counts: a stop, a skip or a crash of ours neither breaks nor mends a streak.
    let (good, bad) = match end.result {
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
    .bind(good)
    .bind(bad)
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
    .bind(KEPT_RUNS - 1)
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
        last_success: moment(&row, "last_success_ms")?,
        last_slot: moment(&row, "last_slot_ms")?,
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
    Ok(RunRecord {
        id: RunId(Uuid::parse_str(&id).map_err(|_| LedgerError::Corrupt { column: "sync_runs.run_id" })?),
        trigger: trigger.parse::<RunTrigger>().map_err(|_| LedgerError::Corrupt { column: "sync_runs.cause" })?,
        slot: moment(row, "slot_ms")?,
        dry_run: get(row, "dry_run")?,
        started: instant(get(row, "started_ms")?, "sync_runs.started_ms")?,
        ended: moment(row, "ended_ms")?,
        result: result
            .map(|word| word.parse::<RunResult>())
            .transpose()
            .map_err(|_| LedgerError::Corrupt { column: "sync_runs.result" })?,
        reason: get(row, "reason")?,
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
        state::COLUMNS
    )))
    .bind(&*job.namespace)
    .bind(&*job.name)
    .fetch_all(conn)
    .await
    .map_err(|e| HISTORY.failed(e))?;
    rows.iter().map(|row| Ok((stream_key(row)?, state::decode(row)?))).collect()
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

fn moment(row: &SqliteRow, column: &'static str) -> Result<Option<Timestamp>, LedgerError> {
    let ms: Option<i64> = row.try_get(column).map_err(|_| LedgerError::Corrupt { column })?;
    instant_opt(ms, column)
}
