//! Reads a job's history.

use jiff::Timestamp;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, query};

use super::codec::{get, small, timestamp_opt};
use super::database::PostgresLedger;
use super::failure::OperationName;
use super::runs::{correct_times, last_runs};
use super::transaction::{Transaction, read_tx, write_tx};
use super::{cursor, partitions};
use crate::domain::cursor::{CursorState, StreamKey, stream_name};
use crate::domain::key::ObjectKey;
use crate::ledger::error::LedgerError;
use crate::ledger::runs::JobHistory;

const CORRECT: OperationName = OperationName("correcting the times of a job's runs");
const HISTORY: OperationName = OperationName("reading a job's history");

impl PostgresLedger {
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
        let corrected = write_tx!(self, CORRECT, |tx| correct_times(tx, job, now).await);
        // A ledger that cannot be written is still read, as for a command line beside the operator.
        let history = if corrected.is_ok() { self.job_history_read(job, limit).await? } else { history };
        Ok(history.corrected(now))
    }

    async fn job_history_read(&self, job: &ObjectKey, limit: u32) -> Result<JobHistory, LedgerError> {
        // One snapshot: a run that ends between two statements must not be partly visible.
        read_tx!(self, HISTORY, |tx| read(tx, job, limit).await)
    }
}

async fn read(tx: &mut Transaction, job: &ObjectKey, limit: u32) -> Result<JobHistory, LedgerError> {
    let mut history = totals(tx, job).await?;
    history.last = last_runs(tx, job, limit).await?;
    history.cursors = cursors(tx, job).await?;
    history.partitions = partitions::streaks(tx, job).await?;
    history.last_resync = partitions::last_resync(tx, job).await?;
    Ok(history)
}

async fn totals(tx: &mut Transaction, job: &ObjectKey) -> Result<JobHistory, LedgerError> {
    let statement = query(
        "SELECT failure_streak, empty_streak, last_success_ms, last_slot_ms FROM sync_jobs
         WHERE namespace = $1 AND job = $2",
    );
    let row = tx.fetch_optional(statement.bind(&*job.namespace).bind(&*job.name)).await?;
    let Some(row) = row else { return Ok(JobHistory::default()) };
    Ok(JobHistory {
        failure_streak: small(&row, "failure_streak")?,
        empty_streak: small(&row, "empty_streak")?,
        last_success: timestamp_opt(&row, "last_success_ms")?,
        last_slot: timestamp_opt(&row, "last_slot_ms")?,
        ..JobHistory::default()
    })
}

async fn cursors(tx: &mut Transaction, job: &ObjectKey) -> Result<Vec<(StreamKey, CursorState)>, LedgerError> {
    let sql = format!(
        "SELECT {}, t.namespace, t.connection, t.provider, t.environment, t.stream, t.partition
         FROM sync_state s JOIN streams t ON t.id = s.stream_id
         WHERE t.namespace = $1 AND s.job = $2
         ORDER BY t.partition, t.connection, split_part(t.stream, '#', 1), s.updated_ms DESC, t.id DESC",
        cursor::COLUMNS
    );
    let rows = tx.fetch_all(query(AssertSqlSafe(sql)).bind(&*job.namespace).bind(&*job.name)).await?;
    // Of each partition the source that was read last: the others are those of former parameters.
    let mut current: Vec<(StreamKey, CursorState)> = Vec::with_capacity(rows.len());
    for row in &rows {
        let (stream, state) = (stream_key(row)?, cursor::decode(row)?);
        let place =
            |key: &StreamKey| (key.connection.clone(), stream_name(&key.stream).to_owned(), key.partition.clone());
        if current.last().is_none_or(|(last, _)| place(last) != place(&stream)) {
            current.push((stream, state));
        }
    }
    Ok(current)
}

pub(super) fn stream_key(row: &PgRow) -> Result<StreamKey, LedgerError> {
    Ok(StreamKey {
        namespace: get(row, "namespace")?,
        connection: get(row, "connection")?,
        provider: get(row, "provider")?,
        environment: get(row, "environment")?,
        stream: get(row, "stream")?,
        partition: get(row, "partition")?,
    })
}
