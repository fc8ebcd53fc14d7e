//! Run history: start, end, skip, and the job's streaks.

use jiff::Timestamp;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, query};
use uuid::Uuid;

use super::clock_skew::{correct_job, correct_job_of};
use super::codec::{count, get, millis, text, timestamp, timestamp_opt, to_i64};
use super::database::PostgresLedger;
use super::failure::OperationName;
use super::lease::assert_held;
use super::transaction::{Mode, Transaction, TransactionError, lock, transaction, write_tx};
use super::{outbox, partitions};
use crate::domain::key::ObjectKey;
use crate::domain::run_failure::RunFailure;
use crate::domain::run_reason::RunReason;
use crate::ledger::error::LedgerError;
use crate::ledger::lease::Lease;
use crate::ledger::runs::{RunCounts, RunEnd, RunId, RunRecord, RunResult, RunStart, RunTrigger};

const START: OperationName = OperationName("recording the start of a run");
const SKIP: OperationName = OperationName("recording a skipped run");
const FINISH: OperationName = OperationName("recording the end of a run");

/// Runs stored per job: a day of runs every few minutes. Streaks are stored separately.
const MAX_RUNS_PER_JOB: i64 = 200;

/// The columns of a [`run_record`].
pub(super) const RUN_COLUMNS: &str = "run_id, cause, origin, dry_run, slot_ms, started_ms, ended_ms, result, reason, \
     failure, fetched, inserted, updated, unchanged, rejected, pages, conflicting";

impl PostgresLedger {
    pub(super) async fn run_start(&self, run: &RunStart, lease: &Lease) -> Result<bool, LedgerError> {
        match transaction!(self, Mode::Write, START, |tx| begin(tx, run, lease).await) {
            Ok(started) => Ok(started),
            Err(TransactionError::Aborted(error)) => Err(error),
            // If it is committed all the same, its slot is used up: the run must be made, or the slot would be lost.
            Err(TransactionError::CommitLost { value: true, failure }) => {
                match transaction!(self, Mode::Latest, START, |tx| has_run(tx, run).await) {
                    Ok(true) => Ok(true),
                    Ok(false) | Err(_) => Err(LedgerError::server(START.0, failure)),
                }
            }
            // Nothing was written.
            Err(TransactionError::CommitLost { value: false, .. }) => Ok(false),
        }
    }

    pub(super) async fn run_skip(&self, run: &RunStart, reason: RunReason) -> Result<(), LedgerError> {
        write_tx!(self, SKIP, |tx| skip(tx, run, reason).await)
    }

    pub(super) async fn run_finish(&self, end: &RunEnd) -> Result<(), LedgerError> {
        write_tx!(self, FINISH, |tx| finish(tx, end).await)
    }
}

/// Waits for the other transactions on the runs of a job: their numbers follow each other.
async fn lock_job(tx: &mut Transaction, job: &ObjectKey) -> Result<(), LedgerError> {
    lock(tx, &format!("runs {job}")).await
}

/// Records the start of a run, unless it was recorded before.
async fn begin(tx: &mut Transaction, run: &RunStart, lease: &Lease) -> Result<bool, LedgerError> {
    lock_job(tx, &run.job).await?;
    // A process frozen since it acquired the lease must not interrupt the run of the new holder.
    assert_held(tx, lease).await?;
    correct_job_of(tx, run).await?;
    if is_recorded(tx, run).await? {
        return Ok(false);
    }
    let statement =
        query("UPDATE sync_runs SET ended_ms = $3, result = $4 WHERE namespace = $1 AND job = $2 AND ended_ms IS NULL");
    let statement = statement.bind(&*run.job.namespace).bind(&*run.job.name).bind(millis(run.at));
    tx.execute(statement.bind(RunResult::Interrupted.as_str())).await?;
    insert(tx, run, None).await?;
    record_slot(tx, run).await?;
    outbox::append(tx, &run.events, run.at).await?;
    prune(tx, &run.job).await?;
    Ok(true)
}

/// Whether the run was recorded, after the transaction that records it has ended.
async fn has_run(tx: &mut Transaction, run: &RunStart) -> Result<bool, LedgerError> {
    lock_job(tx, &run.job).await?;
    let statement = query("SELECT EXISTS (SELECT 1 FROM sync_runs WHERE run_id = $1)");
    tx.scalar(statement.bind(run.id.to_string())).await
}

/// Whether the run, or a run for its slot or a later one, was recorded before.
async fn is_recorded(tx: &mut Transaction, run: &RunStart) -> Result<bool, LedgerError> {
    let statement = query(
        "SELECT EXISTS (SELECT 1 FROM sync_runs WHERE run_id = $1)
             OR EXISTS (SELECT 1 FROM sync_jobs WHERE namespace = $2 AND job = $3 AND last_slot_ms >= $4)",
    );
    let statement = statement.bind(run.id.to_string()).bind(&*run.job.namespace).bind(&*run.job.name);
    tx.scalar(statement.bind(run.slot.map(millis))).await
}

/// Inserts a run that starts and ends at once, unless its slot was recorded before.
async fn skip(tx: &mut Transaction, run: &RunStart, reason: RunReason) -> Result<(), LedgerError> {
    lock_job(tx, &run.job).await?;
    correct_job_of(tx, run).await?;
    if is_recorded(tx, run).await? {
        return Ok(());
    }
    insert(tx, run, Some(reason)).await?;
    record_slot(tx, run).await
}

async fn insert(tx: &mut Transaction, run: &RunStart, skipped: Option<RunReason>) -> Result<(), LedgerError> {
    let statement = query(
        "INSERT INTO sync_runs (run_id, namespace, job, cause, dry_run, slot_ms, started_ms, ended_ms, result, reason,
             origin, seq)
         SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 1 + coalesce(max(seq), 0)
         FROM sync_runs WHERE namespace = $2 AND job = $3",
    )
    .bind(run.id.to_string())
    .bind(&*run.job.namespace)
    .bind(&*run.job.name)
    .bind(run.trigger.cause())
    .bind(run.dry_run)
    .bind(run.slot.map(millis))
    .bind(millis(run.at))
    .bind(skipped.map(|_| millis(run.at)))
    .bind(skipped.map(|_| RunResult::Skipped.as_str()))
    .bind(skipped.map(RunReason::as_str))
    .bind(run.trigger.as_str());
    tx.execute(statement).await.map(drop)
}

async fn record_slot(tx: &mut Transaction, run: &RunStart) -> Result<(), LedgerError> {
    // GREATEST leaves out what is NULL.
    let statement = query(
        "INSERT INTO sync_jobs (namespace, job, last_slot_ms) VALUES ($1, $2, $3)
         ON CONFLICT (namespace, job) DO UPDATE SET
             last_slot_ms = greatest(sync_jobs.last_slot_ms, excluded.last_slot_ms)",
    );
    let statement = statement.bind(&*run.job.namespace).bind(&*run.job.name).bind(run.slot.map(millis));
    tx.execute(statement).await.map(drop)
}

async fn finish(tx: &mut Transaction, end: &RunEnd) -> Result<(), LedgerError> {
    lock_job(tx, &end.job).await?;
    correct_job(tx, &end.job, end.at).await?;
    let failure = failure_text(&end.failure);
    let statement = query(
        "UPDATE sync_runs SET ended_ms = $2, result = $3, reason = $4, fetched = $5, inserted = $6, updated = $7,
             unchanged = $8, rejected = $9, pages = $10, failure = $11, conflicting = $12
         WHERE run_id = $1 AND namespace = $13 AND job = $14 AND ended_ms IS NULL",
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
    .bind(failure.as_deref().map(text))
    .bind(to_i64(end.counts.conflicting))
    .bind(&*end.job.namespace)
    .bind(&*end.job.name);
    if tx.execute(statement).await? == 0 {
        return Ok(());
    }
    outbox::append(tx, &end.events, end.at).await?;
    if let Some(resync) = &end.resync {
        return partitions::resync_done(tx, end, resync).await;
    }
    partitions::count(tx, end).await?;
    count_result(tx, end).await
}

/// Updates the job's streaks. Only provider outcomes count: a stop, a skip or a crash of Busbar does not change a
/// streak.
async fn count_result(tx: &mut Transaction, end: &RunEnd) -> Result<(), LedgerError> {
    let (succeeded, failed) = match end.result {
        RunResult::Succeeded | RunResult::Incomplete => (true, false),
        RunResult::Failed => (false, true),
        RunResult::Cancelled | RunResult::Skipped | RunResult::Interrupted => (false, false),
    };
    let empty = end.result == RunResult::Succeeded && end.counts.fetched == 0;
    let statement = query(
        "UPDATE sync_jobs SET
             failure_streak  = CASE WHEN $3 THEN 0 WHEN $4 THEN failure_streak + 1 ELSE failure_streak END,
             empty_streak    = CASE WHEN $5 THEN empty_streak + 1 WHEN $3 THEN 0 ELSE empty_streak END,
             last_success_ms = CASE WHEN $6 THEN $7 ELSE last_success_ms END
         WHERE namespace = $1 AND job = $2",
    )
    .bind(&*end.job.namespace)
    .bind(&*end.job.name)
    .bind(succeeded)
    .bind(failed)
    .bind(empty)
    .bind(end.result == RunResult::Succeeded)
    .bind(millis(end.at));
    tx.execute(statement).await.map(drop)
}

/// Deletes the oldest ended runs; the caller holds the lease.
async fn prune(tx: &mut Transaction, job: &ObjectKey) -> Result<(), LedgerError> {
    let statement = query(
        "DELETE FROM sync_runs WHERE namespace = $1 AND job = $2 AND ended_ms IS NOT NULL AND seq <
             (SELECT seq FROM sync_runs WHERE namespace = $1 AND job = $2 ORDER BY seq DESC LIMIT 1 OFFSET $3)",
    );
    let statement = statement.bind(&*job.namespace).bind(&*job.name).bind(MAX_RUNS_PER_JOB - 1);
    tx.execute(statement).await.map(drop)
}

/// The stored form of a failure; `None` if it says nothing.
fn failure_text(failure: &RunFailure) -> Option<String> {
    if failure.is_empty() { None } else { serde_json::to_string(failure).ok() }
}

/// A failure as stored. One that this version cannot read is treated as absent: it only explains a run.
fn stored_failure(text: Option<String>) -> RunFailure {
    text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

/// The last runs of a job, newest first.
pub(super) async fn last_runs(
    tx: &mut Transaction,
    job: &ObjectKey,
    limit: u32,
) -> Result<Vec<RunRecord>, LedgerError> {
    let sql =
        format!("SELECT {RUN_COLUMNS} FROM sync_runs WHERE namespace = $1 AND job = $2 ORDER BY seq DESC LIMIT $3");
    let statement = query(AssertSqlSafe(sql)).bind(&*job.namespace).bind(&*job.name).bind(i64::from(limit));
    tx.fetch_all(statement).await?.iter().map(run_record).collect()
}

pub(super) fn run_record(row: &PgRow) -> Result<RunRecord, LedgerError> {
    let id: String = get(row, "run_id")?;
    let (cause, origin): (String, Option<String>) = (get(row, "cause")?, get(row, "origin")?);
    // What a later version wrote may be unknown; `cause` is not.
    let trigger = origin.and_then(|origin| origin.parse().ok()).map_or_else(|| cause.parse::<RunTrigger>(), Ok);
    let result: Option<String> = get(row, "result")?;
    let reason: Option<String> = get(row, "reason")?;
    Ok(RunRecord {
        id: RunId(Uuid::parse_str(&id).map_err(|_| LedgerError::Corrupt { column: "sync_runs.run_id" })?),
        trigger: trigger.map_err(|_| LedgerError::Corrupt { column: "sync_runs.cause" })?,
        slot: timestamp_opt(row, "slot_ms")?,
        dry_run: get(row, "dry_run")?,
        started: timestamp(row, "started_ms")?,
        ended: timestamp_opt(row, "ended_ms")?,
        result: result
            .map(|text| text.parse::<RunResult>())
            .transpose()
            .map_err(|_| LedgerError::Corrupt { column: "sync_runs.result" })?,
        reason: reason.and_then(|text| text.parse().ok()),
        failure: stored_failure(get(row, "failure")?),
        counts: RunCounts {
            fetched: count(row, "fetched")?,
            inserted: count(row, "inserted")?,
            updated: count(row, "updated")?,
            unchanged: count(row, "unchanged")?,
            rejected: count(row, "rejected")?,
            pages: count(row, "pages")?,
            conflicting: count(row, "conflicting")?,
        },
    })
}

/// Corrects a job's instants; see [`correct_job`].
pub(super) async fn correct_times(tx: &mut Transaction, job: &ObjectKey, now: Timestamp) -> Result<(), LedgerError> {
    lock_job(tx, job).await?;
    correct_job(tx, job, now).await
}
