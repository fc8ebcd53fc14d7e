//! Deletes a job's data at the user's request.

use std::collections::BTreeSet;
use std::time::Duration;

use sqlx::{AssertSqlSafe, query};

use super::codec::get;
use super::cursor::lock_stream;
use super::database::PostgresLedger;
use super::failure::OperationName;
use super::history::stream_key;
use super::lease::assert_held;
use super::transaction::{Transaction, write_tx};
use crate::domain::cursor::{StreamKey, job_name, resync_job};
use crate::domain::key::ObjectKey;
use crate::domain::row_batch::tables;
use crate::ledger::error::LedgerError;
use crate::ledger::lease::Lease;
use crate::ledger::sources::{Erasure, ExistingJobs, KeptRows};

const DELETE: OperationName = OperationName("deleting a job");

/// How long one statement may take: a stream may have millions of rows.
const LIMIT: Duration = Duration::from_mins(10);

/// A stored stream.
struct Source {
    id: i64,
    stream: StreamKey,
}

impl PostgresLedger {
    pub(super) async fn job_delete(
        &self,
        job: &ObjectKey,
        existing: &ExistingJobs,
        lease: &Lease,
    ) -> Result<Erasure, LedgerError> {
        write_tx!(self, DELETE, |tx| delete(tx, job, existing, lease).await)
    }
}

async fn delete(
    tx: &mut Transaction,
    job: &ObjectKey,
    existing: &ExistingJobs,
    lease: &Lease,
) -> Result<Erasure, LedgerError> {
    tx.allow(LIMIT).await?;
    // The locks first, in the order of their streams: two deletions, or a deletion and a page, wait for each other.
    let sources = sources(tx, job).await?;
    for source in &sources {
        lock_stream(tx, &source.stream).await?;
    }
    // A process frozen since it acquired the lease must not delete what the new holder writes.
    assert_held(tx, lease).await?;
    let mut erasure = Erasure { runs: delete_of_job(tx, "sync_runs", job).await?, ..Erasure::default() };
    for table in ["sync_jobs", "sync_partitions", "sync_resyncs", "run_requests"] {
        delete_of_job(tx, table, job).await?;
    }
    for source in &sources {
        erase_source(tx, job, source, existing, &mut erasure).await?;
    }
    delete_empty_streams(tx, job).await?;
    Ok(erasure)
}

async fn delete_of_job(tx: &mut Transaction, table: &str, job: &ObjectKey) -> Result<u64, LedgerError> {
    let sql = format!("DELETE FROM {table} WHERE namespace = $1 AND job = $2");
    tx.execute(query(AssertSqlSafe(sql)).bind(&*job.namespace).bind(&*job.name)).await
}

/// Deletes the streams of the namespace of which nothing is left. One that a page of another job is about to use is
/// locked by its foreign keys, and stays.
async fn delete_empty_streams(tx: &mut Transaction, job: &ObjectKey) -> Result<(), LedgerError> {
    let used = ["sync_state", "dead_letters"].into_iter().chain(tables().map(|table| table.name));
    let unused = used.fold(String::new(), |sql, table| {
        sql + " AND NOT EXISTS (SELECT 1 FROM " + table + " x WHERE x.stream_id = s.id)"
    });
    let sql = format!(
        "DELETE FROM streams WHERE id IN (
             SELECT s.id FROM streams s WHERE s.namespace = $1{unused} FOR UPDATE SKIP LOCKED)"
    );
    tx.execute(query(AssertSqlSafe(sql)).bind(&*job.namespace)).await.map(drop)
}

/// What the job has a cursor for: its source in each partition, and those that it read before its parameters changed.
async fn sources(tx: &mut Transaction, job: &ObjectKey) -> Result<Vec<Source>, LedgerError> {
    let statement = query(
        "SELECT DISTINCT t.id, t.namespace, t.connection, t.provider, t.environment, t.stream, t.partition
         FROM sync_state s JOIN streams t ON t.id = s.stream_id WHERE t.namespace = $1 AND s.job IN ($2, $3)
         ORDER BY t.id",
    );
    let statement = statement.bind(&*job.namespace).bind(&*job.name).bind(resync_job(&job.name));
    let rows = tx.fetch_all(statement).await?;
    rows.iter().map(|row| Ok(Source { id: get(row, "id")?, stream: stream_key(row)? })).collect()
}

/// Erases one source, or only the job's cursor in it if another job that exists reads it too.
async fn erase_source(
    tx: &mut Transaction,
    job: &ObjectKey,
    source: &Source,
    existing: &ExistingJobs,
    erasure: &mut Erasure,
) -> Result<(), LedgerError> {
    let (id, resyncs) = (source.id, resync_job(&job.name));
    let statement = query("SELECT job FROM sync_state WHERE stream_id = $1 AND job NOT IN ($2, $3)");
    let readers = tx.fetch_all(statement.bind(id).bind(&*job.name).bind(&resyncs)).await?;
    let readers = readers.iter().map(|row| get::<String>(row, "job")).collect::<Result<Vec<_>, _>>()?;
    // Once each: a job has another cursor for its resyncs.
    let readers: BTreeSet<&str> = readers.iter().map(|reader| job_name(reader)).collect();
    let readers: Vec<String> =
        readers.into_iter().filter(|reader| existing.contains(*reader)).map(str::to_owned).collect();
    if !readers.is_empty() {
        for table in ["sync_state", "staged_rows"] {
            let sql = format!("DELETE FROM {table} WHERE stream_id = $1 AND job IN ($2, $3)");
            tx.execute(query(AssertSqlSafe(sql)).bind(id).bind(&*job.name).bind(&resyncs)).await?;
        }
        erasure.kept.push(KeptRows { stream: source.stream.clone(), readers });
        return Ok(());
    }
    for table in tables() {
        erasure.rows += delete_of_stream(tx, table.name, id).await?;
    }
    for table in ["staged_rows", "raw_payloads", "withdrawn_records"] {
        delete_of_stream(tx, table, id).await?;
    }
    erasure.dead_letters += delete_of_stream(tx, "dead_letters", id).await?;
    // Also the cursors of jobs that are gone: without the rows they would hide what must be read again.
    delete_of_stream(tx, "sync_state", id).await.map(drop)
}

async fn delete_of_stream(tx: &mut Transaction, table: &str, id: i64) -> Result<u64, LedgerError> {
    let sql = format!("DELETE FROM {table} WHERE stream_id = $1");
    tx.execute(query(AssertSqlSafe(sql)).bind(id)).await
}
