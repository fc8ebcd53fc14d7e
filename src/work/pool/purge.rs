//! Purging a job: the only write of the pool to the ledger outside a run.

use super::{SyncPool, run};
use crate::domain::key::ObjectKey;
use crate::ledger::LedgerError;

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
        let (name, now) = (run::lease_name(job), shared.clock.now().wall);
        let options = &shared.options;
        let taken = shared.ledger.acquire_lease(&name, &options.holder, options.lease_ttl, now, None).await?;
        let Ok(lease) = taken else { return Ok(false) };
        shared.ledger.delete_job(job).await?;
        // If the release fails, the lease expires by itself.
        shared.ledger.release_lease(&lease).await.ok();
        self.forget(job);
        Ok(true)
    }
}
