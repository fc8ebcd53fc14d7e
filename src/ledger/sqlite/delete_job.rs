//! Deletes a job's data at the user's request.

use rusqlite::params;

use super::codec::{OperationName, get};
use super::connection::Transaction;
use super::database::SqliteLedger;
use super::lease::assert_held;
use super::runs::stream_key;
use crate::domain::cursor::StreamKey;
use crate::domain::key::ObjectKey;
use crate::ledger::error::LedgerError;
use crate::ledger::lease::Lease;
use crate::ledger::sources::{Erasure, ExistingJobs, KeptRows};

const DELETE: OperationName = OperationName("deleting a job");

/// The tables with rows of a stream.
const ROWS: [&str; 2] = ["DELETE FROM transactions WHERE stream_id = ?1", "DELETE FROM documents WHERE stream_id = ?1"];

/// Streams of which nothing is left.
const EMPTY_STREAMS: &str = "DELETE FROM streams WHERE namespace = ?1
     AND NOT EXISTS (SELECT 1 FROM sync_state s WHERE s.stream_id = streams.id)
     AND NOT EXISTS (SELECT 1 FROM transactions x WHERE x.stream_id = streams.id)
     AND NOT EXISTS (SELECT 1 FROM documents y WHERE y.stream_id = streams.id)
     AND NOT EXISTS (SELECT 1 FROM dead_letters d WHERE d.stream_id = streams.id)";

/// A stored stream.
struct Source {
    id: i64,
    stream: StreamKey,
}

impl SqliteLedger {
    pub(super) async fn job_delete(
        &self,
        job: &ObjectKey,
        existing: &ExistingJobs,
        lease: &Lease,
    ) -> Result<Erasure, LedgerError> {
        let (job, existing, lease) = (job.clone(), existing.clone(), lease.clone());
        self.write(DELETE, move |tx| {
            // A process frozen since it acquired the lease must not delete what the new holder writes.
            assert_held(tx, &lease)?;
            let of_job = params![&*job.namespace, &*job.name];
            let mut erasure = Erasure {
                runs: tx.execute("DELETE FROM sync_runs WHERE namespace = ?1 AND job = ?2", of_job)?,
                ..Erasure::default()
            };
            tx.execute("DELETE FROM sync_jobs WHERE namespace = ?1 AND job = ?2", of_job)?;
            for source in sources(tx, &job)? {
                erase_source(tx, &job, &source, &existing, &mut erasure)?;
            }
            tx.execute(EMPTY_STREAMS, [&*job.namespace])?;
            Ok(erasure)
        })
        .await
    }
}

/// What the job has a cursor for: its source in each partition, and those that it read before its parameters changed.
fn sources(tx: &Transaction<'_>, job: &ObjectKey) -> Result<Vec<Source>, LedgerError> {
    tx.query_all(
        "SELECT t.id, t.namespace, t.connection, t.provider, t.environment, t.stream, t.partition
         FROM sync_state s JOIN streams t ON t.id = s.stream_id WHERE t.namespace = ?1 AND s.job = ?2 ORDER BY t.id",
        params![&*job.namespace, &*job.name],
        |row| Ok(Source { id: get(row, "id")?, stream: stream_key(row)? }),
    )
}

/// Erases one source, or only the job's cursor in it if another job that exists reads it too.
fn erase_source(
    tx: &Transaction<'_>,
    job: &ObjectKey,
    source: &Source,
    existing: &ExistingJobs,
    erasure: &mut Erasure,
) -> Result<(), LedgerError> {
    let id = source.id;
    let mut readers: Vec<String> = tx.query_all(
        "SELECT job FROM sync_state WHERE stream_id = ?1 AND job <> ?2 ORDER BY job",
        params![id, &*job.name],
        |row| get(row, "job"),
    )?;
    readers.retain(|reader| existing.contains(reader.as_str()));
    if !readers.is_empty() {
        tx.execute("DELETE FROM sync_state WHERE stream_id = ?1 AND job = ?2", params![id, &*job.name])?;
        erasure.kept.push(KeptRows { stream: source.stream.clone(), readers });
        return Ok(());
    }
    for statement in ROWS {
        erasure.rows += tx.execute(statement, [id])?;
    }
    erasure.dead_letters += tx.execute("DELETE FROM dead_letters WHERE stream_id = ?1", [id])?;
    // Also the cursors of jobs that are gone: without the rows they would hide what must be read again.
    tx.execute("DELETE FROM sync_state WHERE stream_id = ?1", [id])?;
    Ok(())
}
