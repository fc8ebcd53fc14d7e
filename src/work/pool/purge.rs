//! Purging a job: the only write of the pool to the ledger outside a run.

use super::SyncPool;
use crate::domain::key::ObjectKey;
use crate::ledger::{LedgerError, TakeOutcome};

impl SyncPool {
    /// Removes the rows, the cursors and the runs of `job` from the ledger. Idempotent.
    ///
    /// `false` while a run of it is active, here (it is cancelled, and its end enqueues the job) or in another process
    /// (its lease in the ledger shows it): nothing is removed then, because the next page would write some of it again.
    pub async fn purge(&self, job: &ObjectKey) -> Result<bool, LedgerError> {
        if self.cancel(job) {
            return Ok(false);
        }
        let shared = &self.shared;
        let TakeOutcome::Taken(held) = shared.lease_holder(job).take().await? else { return Ok(false) };
        shared.ledger.delete_job(job, held.lease()).await?;
        held.release().await;
        self.forget(job);
        Ok(true)
    }
}
