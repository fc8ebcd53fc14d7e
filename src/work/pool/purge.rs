//! Purging a job: the only write of the pool to the ledger outside a run.

use super::SyncPool;
use crate::domain::key::ObjectKey;
use crate::ledger::{Erasure, ExistingJobs, LedgerError, TakeOutcome};

impl SyncPool {
    /// Removes the rows of the sources of `job`, its cursors and its runs from the ledger; returns what was removed, and the
    /// rows that are kept because one of the `existing` jobs of the namespace reads them too. Idempotent.
    ///
    /// `None` while a run of it is active, here (it is cancelled, and its end enqueues the job) or in another process
    /// (its lease in the ledger shows it): nothing is removed then, because the next page would write some of it again.
    pub async fn purge(&self, job: &ObjectKey, existing: &ExistingJobs) -> Result<Option<Erasure>, LedgerError> {
        if self.cancel(job) {
            return Ok(None);
        }
        let shared = &self.shared;
        let TakeOutcome::Taken(held) = shared.lease_holder(job).take().await? else { return Ok(None) };
        let erasure = shared.ledger.delete_job(job, existing, held.lease()).await?;
        held.release().await;
        self.forget(job);
        Ok(Some(erasure))
    }
}
