//! Run history: start, end, skip, and the job's streaks.

use jiff::Timestamp;
use rusqlite::{Row, params};
use uuid::Uuid;

use super::clock_skew::{correct_job, correct_job_of};
use super::codec::{OperationName, count, get, instant, instant_opt, millis, to_i64};
use super::connection::{Mode, Transaction, TransactionError};
use super::cursor;
use super::database::{SqliteLedger, read};
use super::lease::assert_held;
use super::outbox;
use super::partitions;
use super::worker::Slot;
use crate::domain::cursor::{CursorState, StreamKey, stream_name};
use crate::domain::key::ObjectKey;
use crate::domain::run_failure::RunFailure;
use crate::domain::run_reason::RunReason;
use crate::ledger::error::LedgerError;
use crate::ledger::lease::Lease;
use crate::ledger::runs::{JobHistory, RunCounts, RunEnd, RunId, RunRecord, RunResult, RunStart, RunTrigger};

const START: OperationName = OperationName("recording the start of a run");
const SKIP: OperationName = OperationName("recording a skipped run");
const FINISH: OperationName = OperationName("recording the end of a run");
const CORRECT: OperationName = OperationName("correcting the times of a job's runs");
const HISTORY: OperationName = OperationName("reading a job's history");

/// Runs stored per job: a day of runs every few minutes. Streaks are stored separately.
const MAX_RUNS_PER_JOB: i64 = 200;

/// The columns of a [`run_record`].
pub(super) const RUN_COLUMNS: &str = "run_id, cause, origin, dry_run, slot_ms, started_ms, ended_ms, result, reason, failure, \
     fetched, inserted, updated, unchanged, rejected, pages, conflicting";

impl SqliteLedger {
    pub(super) async fn run_start(&self, run: &RunStart, lease: &Lease) -> Result<bool, LedgerError> {
        let (run, lease) = (run.clone(), lease.clone());
        self.write_with(START, move |slot| begin(slot, &run, &lease)).await
    }

    pub(super) async fn run_skip(&self, run: &RunStart, reason: RunReason) -> Result<(), LedgerError> {
        let run = run.clone();
        self.write(SKIP, move |tx| {
            correct_job_of(tx, &run)?;
            if is_recorded(tx, &run)? {
                return Ok(());
            }
            skip(tx, &run, reason)
        })
        .await
    }

    pub(super) async fn run_finish(&self, end: &RunEnd) -> Result<(), LedgerError> {
        let end = end.clone();
        self.write(FINISH, move |tx| finish(tx, &end)).await
    }

    pub(super) async fn job_history_load(
        &self,
        job: &ObjectKey,
        limit: u32,
        now: Timestamp,
    ) -> Result<JobHistory, LedgerError> {
        let history = self.job_history_read(job, limit).await?;
        if !history.is_ahead(now) {
            return Ok(history);
        }
        tracing::warn!(
            namespace = %job.namespace, name = %job.name,
            "times in a sync job's history are ahead of the clock, which was wrong when they were written; treated as now"
        );
        let corrected = {
            let job = job.clone();
            self.write(CORRECT, move |tx| correct_job(tx, &job, now)).await
        };
        // A ledger that cannot be written is still read, as for a command line beside the operator.
        let history = if corrected.is_ok() { self.job_history_read(job, limit).await? } else { history };
        Ok(history.corrected(now))
    }

    async fn job_history_read(&self, job: &ObjectKey, limit: u32) -> Result<JobHistory, LedgerError> {
        let job = job.clone();
        // One snapshot: a run that ends between two statements must not be partly visible.
        self.read(HISTORY, move |tx| {
            let mut history = totals(tx, &job)?;
            history.last = last_runs(tx, &job, limit)?;
            history.cursors = cursors(tx, &job)?;
            history.partitions = partitions::streaks(tx, &job)?;
            history.last_resync = partitions::last_resync(tx, &job)?;
            Ok(history)
        })
        .await
    }
}

/// Records the start of a run, unless it was recorded before.
fn begin(slot: &mut Slot, run: &RunStart, lease: &Lease) -> Result<bool, LedgerError> {
    let connection = slot.connection().map_err(|e| START.failed(e))?;
    let mut inserted = false;
    let ended = connection.transaction(Mode::Write, START, |tx| {
        // A process frozen since it acquired the lease must not interrupt the run of the new holder.
        assert_held(tx, lease)?;
        correct_job_of(tx, run)?;
        if is_recorded(tx, run)? {
            return Ok(false);
        }
        start(tx, run)?;
        inserted = true;
        Ok(true)
    });
    match ended {
        // If it is committed all the same, its slot is used up: the run must be made, or the slot would be lost.
        Err(TransactionError::Commit(source)) if inserted => match read(slot, START, |tx| has_run(tx, run.id)) {
            Ok(true) => Ok(true),
            Ok(false) | Err(_) => Err(START.failed(source)),
        },
        ended => ended.map_err(|error| error.into_error(START)),
    }
}

fn has_run(tx: &Transaction<'_>, id: RunId) -> Result<bool, LedgerError> {
    tx.scalar("SELECT EXISTS (SELECT 1 FROM sync_runs WHERE run_id = ?1)", [id.to_string()])
}

/// Whether the run, or a run for its slot or a later one, was recorded before.
fn is_recorded(tx: &Transaction<'_>, run: &RunStart) -> Result<bool, LedgerError> {
    tx.scalar(
        "SELECT EXISTS (SELECT 1 FROM sync_runs WHERE run_id = ?1)
             OR EXISTS (SELECT 1 FROM sync_jobs WHERE namespace = ?2 AND job = ?3 AND last_slot_ms >= ?4)",
        params![run.id.to_string(), &*run.job.namespace, &*run.job.name, run.slot.map(millis)],
    )
}

fn start(tx: &Transaction<'_>, run: &RunStart) -> Result<(), LedgerError> {
    tx.execute(
        "UPDATE sync_runs SET ended_ms = ?3, result = ?4 WHERE namespace = ?1 AND job = ?2 AND ended_ms IS NULL",
        params![&*run.job.namespace, &*run.job.name, millis(run.at), RunResult::Interrupted.as_str()],
    )?;
    insert(tx, run, None)?;
    record_slot(tx, run)?;
    outbox::append(tx, &run.events, run.at)?;
    prune(tx, &run.job)
}

/// Inserts a run that starts and ends at once.
fn skip(tx: &Transaction<'_>, run: &RunStart, reason: RunReason) -> Result<(), LedgerError> {
    insert(tx, run, Some(reason))?;
    record_slot(tx, run)
}

fn insert(tx: &Transaction<'_>, run: &RunStart, skipped: Option<RunReason>) -> Result<(), LedgerError> {
    tx.execute(
        "INSERT INTO sync_runs (run_id, namespace, job, cause, dry_run, slot_ms, started_ms, ended_ms, result, reason, origin)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        params![
            run.id.to_string(),
            &*run.job.namespace,
            &*run.job.name,
            run.trigger.cause(),
            run.dry_run,
            run.slot.map(millis),
            millis(run.at),
            skipped.map(|_| millis(run.at)),
            skipped.map(|_| RunResult::Skipped.as_str()),
            skipped.map(RunReason::as_str),
            run.trigger.as_str(),
        ],
    )?;
    Ok(())
}

fn record_slot(tx: &Transaction<'_>, run: &RunStart) -> Result<(), LedgerError> {
    tx.execute(
        "INSERT INTO sync_jobs (namespace, job, last_slot_ms) VALUES (?1, ?2, ?3)
         ON CONFLICT (namespace, job) DO UPDATE SET
             last_slot_ms = max(coalesce(last_slot_ms, excluded.last_slot_ms),
                                coalesce(excluded.last_slot_ms, last_slot_ms))",
        params![&*run.job.namespace, &*run.job.name, run.slot.map(millis)],
    )?;
    Ok(())
}

fn finish(tx: &Transaction<'_>, end: &RunEnd) -> Result<(), LedgerError> {
    correct_job(tx, &end.job, end.at)?;
    let ended = tx.execute(
        "UPDATE sync_runs SET ended_ms = ?2, result = ?3, reason = ?4, fetched = ?5, inserted = ?6, updated = ?7,
             unchanged = ?8, rejected = ?9, pages = ?10, failure = ?11, conflicting = ?12
         WHERE run_id = ?1 AND namespace = ?13 AND job = ?14 AND ended_ms IS NULL",
        params![
            end.id.to_string(),
            millis(end.at),
            end.result.as_str(),
            end.reason.map(RunReason::as_str),
            to_i64(end.counts.fetched),
            to_i64(end.counts.inserted),
            to_i64(end.counts.updated),
            to_i64(end.counts.unchanged),
            to_i64(end.counts.rejected),
            to_i64(end.counts.pages),
            failure_text(&end.failure),
            to_i64(end.counts.conflicting),
            &*end.job.namespace,
            &*end.job.name,
        ],
    )?;
    if ended == 0 {
        return Ok(());
    }
    outbox::append(tx, &end.events, end.at)?;
    if let Some(resync) = &end.resync {
        return partitions::resync_done(tx, end, resync);
    }
    partitions::count(tx, end)?;
    // Only provider outcomes count: a stop, a skip or a crash of Busbar does not change a streak.
    let (succeeded, failed) = match end.result {
        RunResult::Succeeded | RunResult::Incomplete => (true, false),
        RunResult::Failed => (false, true),
        RunResult::Cancelled | RunResult::Skipped | RunResult::Interrupted => (false, false),
    };
    let empty = end.result == RunResult::Succeeded && end.counts.fetched == 0;
    tx.execute(
        "UPDATE sync_jobs SET
             failure_streak  = CASE WHEN ?3 THEN 0 WHEN ?4 THEN failure_streak + 1 ELSE failure_streak END,
             empty_streak    = CASE WHEN ?5 THEN empty_streak + 1 WHEN ?3 THEN 0 ELSE empty_streak END,
             last_success_ms = CASE WHEN ?6 THEN ?7 ELSE last_success_ms END
         WHERE namespace = ?1 AND job = ?2",
        params![
            &*end.job.namespace,
            &*end.job.name,
            succeeded,
            failed,
            empty,
            end.result == RunResult::Succeeded,
            millis(end.at),
        ],
    )?;
    Ok(())
}

/// Deletes a job's oldest runs. Only at the start of a run: that is fenced, while the end of a run and a skipped slot are
/// recorded without a lease.
fn prune(tx: &Transaction<'_>, job: &ObjectKey) -> Result<(), LedgerError> {
    tx.execute(
        "DELETE FROM sync_runs WHERE namespace = ?1 AND job = ?2 AND ended_ms IS NOT NULL AND seq <
             (SELECT seq FROM sync_runs WHERE namespace = ?1 AND job = ?2 ORDER BY seq DESC LIMIT 1 OFFSET ?3)",
        params![&*job.namespace, &*job.name, MAX_RUNS_PER_JOB - 1],
    )?;
    Ok(())
}

fn totals(tx: &Transaction<'_>, job: &ObjectKey) -> Result<JobHistory, LedgerError> {
    let stored = tx.query_opt(
        "SELECT failure_streak, empty_streak, last_success_ms, last_slot_ms FROM sync_jobs
         WHERE namespace = ?1 AND job = ?2",
        params![&*job.namespace, &*job.name],
        |row| {
            Ok(JobHistory {
                failure_streak: get(row, "failure_streak")?,
                empty_streak: get(row, "empty_streak")?,
                last_success: timestamp_opt(row, "last_success_ms")?,
                last_slot: timestamp_opt(row, "last_slot_ms")?,
                ..JobHistory::default()
            })
        },
    )?;
    Ok(stored.unwrap_or_default())
}

/// The stored form of a failure; `None` if it says nothing.
fn failure_text(failure: &RunFailure) -> Option<String> {
    if failure.is_empty() { None } else { serde_json::to_string(failure).ok() }
}

/// A failure as stored. One that this version cannot read is treated as absent: it only explains a run.
fn stored_failure(text: Option<String>) -> RunFailure {
    text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

fn last_runs(tx: &Transaction<'_>, job: &ObjectKey, limit: u32) -> Result<Vec<RunRecord>, LedgerError> {
    tx.query_all(
        &format!("SELECT {RUN_COLUMNS} FROM sync_runs WHERE namespace = ?1 AND job = ?2 ORDER BY seq DESC LIMIT ?3"),
        params![&*job.namespace, &*job.name, limit],
        run_record,
    )
}

pub(super) fn run_record(row: &Row<'_>) -> Result<RunRecord, LedgerError> {
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
        started: instant(get(row, "started_ms")?, "sync_runs.started_ms")?,
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

fn cursors(tx: &Transaction<'_>, job: &ObjectKey) -> Result<Vec<(StreamKey, CursorState)>, LedgerError> {
    let all: Vec<(StreamKey, CursorState)> = tx.query_all(
        &format!(
            "SELECT {}, t.namespace, t.connection, t.provider, t.environment, t.stream, t.partition
             FROM sync_state s JOIN streams t ON t.id = s.stream_id
             WHERE t.namespace = ?1 AND s.job = ?2
             ORDER BY t.partition, t.connection, substr(t.stream, 1, instr(t.stream || '#', '#') - 1),
                 s.updated_ms DESC, t.id DESC",
            cursor::COLUMNS
        ),
        params![&*job.namespace, &*job.name],
        |row| Ok((stream_key(row)?, cursor::decode(row)?)),
    )?;
    // Of each partition the source that was read last: the others are those of former parameters.
    let mut current: Vec<(StreamKey, CursorState)> = Vec::with_capacity(all.len());
    for (stream, state) in all {
        let place =
            |key: &StreamKey| (key.connection.clone(), stream_name(&key.stream).to_owned(), key.partition.clone());
        if current.last().is_none_or(|(last, _)| place(last) != place(&stream)) {
            current.push((stream, state));
        }
    }
    Ok(current)
}

pub(super) fn stream_key(row: &Row<'_>) -> Result<StreamKey, LedgerError> {
    Ok(StreamKey {
        namespace: get(row, "namespace")?,
        connection: get(row, "connection")?,
        provider: get(row, "provider")?,
        environment: get(row, "environment")?,
        stream: get(row, "stream")?,
        partition: get(row, "partition")?,
    })
}

fn timestamp_opt(row: &Row<'_>, column: &'static str) -> Result<Option<Timestamp>, LedgerError> {
    instant_opt(get(row, column)?, column)
}
