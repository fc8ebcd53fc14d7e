//! Deletes a job's data at the user's request.

use std::collections::BTreeSet;

use rusqlite::params;

use super::codec::{OperationName, get};
use super::connection::Transaction;
use super::database::SqliteLedger;
use super::lease::assert_held;
use super::runs::stream_key;
use crate::domain::cursor::{StreamKey, job_name, resync_job};
use crate::domain::key::ObjectKey;
use crate::domain::row_batch::tables;
use crate::ledger::error::LedgerError;
use crate::ledger::lease::Lease;
use crate::ledger::sources::{Erasure, ExistingJobs, KeptRows};

const DELETE: OperationName = OperationName("deleting a job");

/// Deletes the streams of which nothing is left.
fn empty_streams() -> String {
    let used = ["sync_state", "dead_letters"].into_iter().chain(tables().map(|table| table.name));
    used.fold("DELETE FROM streams WHERE namespace = ?1".to_owned(), |sql, table| {
        sql + " AND NOT EXISTS (SELECT 1 FROM " + table + " x WHERE x.stream_id = streams.id)"
    })
}

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
            for table in ["sync_jobs", "sync_partitions", "sync_resyncs", "run_requests"] {
                tx.execute(&format!("DELETE FROM {table} WHERE namespace = ?1 AND job = ?2"), of_job)?;
            }
            for source in sources(tx, &job)? {
                erase_source(tx, &job, &source, &existing, &mut erasure)?;
            }
            tx.execute(&empty_streams(), [&*job.namespace])?;
            Ok(erasure)
        })
        .await
    }
}

/// What the job has a cursor for: its source in each partition, and those that it read before its parameters changed.
fn sources(tx: &Transaction<'_>, job: &ObjectKey) -> Result<Vec<Source>, LedgerError> {
    tx.query_all(
        "SELECT DISTINCT t.id, t.namespace, t.connection, t.provider, t.environment, t.stream, t.partition
         FROM sync_state s JOIN streams t ON t.id = s.stream_id WHERE t.namespace = ?1 AND s.job IN (?2, ?3)
         ORDER BY t.id",
        params![&*job.namespace, &*job.name, resync_job(&job.name)],
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
    let own = params![id, &*job.name, resync_job(&job.name)];
    let readers =
        tx.query_all("SELECT job FROM sync_state WHERE stream_id = ?1 AND job NOT IN (?2, ?3)", own, |row| {
            get::<String>(row, "job")
        })?;
    // Once each: a job has another cursor for its resyncs.
    let readers: BTreeSet<&str> = readers.iter().map(|reader| job_name(reader)).collect();
    let readers: Vec<String> =
        readers.into_iter().filter(|reader| existing.contains(*reader)).map(str::to_owned).collect();
    if !readers.is_empty() {
        for table in ["sync_state", "staged_rows"] {
            tx.execute(&format!("DELETE FROM {table} WHERE stream_id = ?1 AND job IN (?2, ?3)"), own)?;
        }
        erasure.kept.push(KeptRows { stream: source.stream.clone(), readers });
        return Ok(());
    }
    for table in tables() {
        erasure.rows += tx.execute(&format!("DELETE FROM {} WHERE stream_id = ?1", table.name), [id])?;
    }
    for table in ["staged_rows", "raw_payloads", "withdrawn_records"] {
        tx.execute(&format!("DELETE FROM {table} WHERE stream_id = ?1"), [id])?;
    }
    erasure.dead_letters += tx.execute("DELETE FROM dead_letters WHERE stream_id = ?1", [id])?;
    // Also the cursors of jobs that are gone: without the rows they would hide what must be read again.
    tx.execute("DELETE FROM sync_state WHERE stream_id = ?1", [id])?;
    Ok(())
}
