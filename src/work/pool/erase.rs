//! Erasing a job: the one thing the pool does to the ledger that is no run.

use super::{SyncPool, attempt};
use crate::domain::key::ObjectKey;
use crate::ledger::LedgerError;

impl SyncPool {
    /// Removes the rows, the cursors and the runs of `job` from the ledger. May be done again.
    ///
    /// `false` while a run of it is under way, here (it is asked to stop, and its end pokes) or in another process (whose
    /// lease in the ledger shows it): nothing was removed then, for the next page would bring some of it back.
    pub async fn erase(&self, job: &ObjectKey) -> Result<bool, LedgerError> {
        if self.cancel(job) {
            return Ok(false);
        }
        let shared = &self.shared;
        let (name, now) = (attempt::lease_name(job), shared.clock.now().wall);
        let options = &shared.options;
        let taken = shared.ledger.acquire_lease(&name, &options.holder, options.lease_ttl, now, None).await?;
        let Ok(lease) = taken else { return Ok(false) };
        shared.ledger.forget_job(job).await?;
        // Not given back: it runs out by itself.
        shared.ledger.release_lease(&lease).await.ok();
        self.forget(job);
        Ok(true)
    }
}
