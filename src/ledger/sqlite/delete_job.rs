//! Deletes a job's data at the user's request.

use rusqlite::params;

use super::codec::OperationName;
use super::database::SqliteLedger;
use super::lease::assert_held;
use crate::domain::key::ObjectKey;
use crate::ledger::error::LedgerError;
use crate::ledger::lease::Lease;

const DELETE: OperationName = OperationName("deleting a job");

/// In this order, because rows reference their stream. The rows of a stream that another job reads are kept.
const STATEMENTS: [&str; 7] = [
    "DELETE FROM sync_runs WHERE namespace = ?1 AND job = ?2",
    "DELETE FROM sync_jobs WHERE namespace = ?1 AND job = ?2",
    "DELETE FROM transactions WHERE stream_id IN (
         SELECT s.stream_id FROM sync_state s JOIN streams t ON t.id = s.stream_id
         WHERE t.namespace = ?1 AND s.job = ?2
         AND NOT EXISTS (SELECT 1 FROM sync_state o WHERE o.stream_id = s.stream_id AND o.job <> ?2))",
    "DELETE FROM documents WHERE stream_id IN (
         SELECT s.stream_id FROM sync_state s JOIN streams t ON t.id = s.stream_id
         WHERE t.namespace = ?1 AND s.job = ?2
         AND NOT EXISTS (SELECT 1 FROM sync_state o WHERE o.stream_id = s.stream_id AND o.job <> ?2))",
    "DELETE FROM dead_letters WHERE stream_id IN (
         SELECT s.stream_id FROM sync_state s JOIN streams t ON t.id = s.stream_id
         WHERE t.namespace = ?1 AND s.job = ?2
         AND NOT EXISTS (SELECT 1 FROM sync_state o WHERE o.stream_id = s.stream_id AND o.job <> ?2))",
    "DELETE FROM sync_state WHERE job = ?2 AND stream_id IN (SELECT id FROM streams WHERE namespace = ?1)",
    "DELETE FROM streams WHERE namespace = ?1 AND ?2 IS NOT NULL
         AND NOT EXISTS (SELECT 1 FROM sync_state s WHERE s.stream_id = streams.id)
         AND NOT EXISTS (SELECT 1 FROM transactions x WHERE x.stream_id = streams.id)
         AND NOT EXISTS (SELECT 1 FROM documents y WHERE y.stream_id = streams.id)
         AND NOT EXISTS (SELECT 1 FROM dead_letters d WHERE d.stream_id = streams.id)",
];

impl SqliteLedger {
    pub(super) async fn job_delete(&self, job: &ObjectKey, lease: &Lease) -> Result<(), LedgerError> {
        let (job, lease) = (job.clone(), lease.clone());
        self.write(DELETE, move |tx| {
            // A process frozen since it acquired the lease must not delete what the new holder writes.
            assert_held(tx, &lease)?;
            for statement in STATEMENTS {
                tx.execute(statement, params![&*job.namespace, &*job.name])?;
            }
            Ok(())
        })
        .await
    }
}
