//! Reads a job's runs, and whether the ledger can record more.

use crate::controllers::ReconcileError;
use crate::controllers::syncjob::ledger_state::LedgerState;
use crate::domain::key::ObjectKey;
use crate::ledger::Ledger;
use crate::work::pool::{JobView, SyncPool};

/// Recorded runs read for a status: more than it shows, because equal neighbours are merged.
const RUNS_READ: u32 = 20;

/// The job's runs. A fault of the store is a state of the job, not an error: its status reports it.
pub(super) async fn read(
    ledger: &dyn Ledger,
    pool: &SyncPool,
    key: &ObjectKey,
) -> Result<(JobView, LedgerState), ReconcileError> {
    let unwritable = ledger.health().borrow().fault();
    match pool.view(key, RUNS_READ).await {
        Ok(view) => Ok((view, unwritable.map_or(LedgerState::Working, LedgerState::Unwritable))),
        Err(error) => match error.write_fault() {
            Some(fault) => Ok((JobView::default(), LedgerState::Unreadable(fault))),
            None => Err(error.into()),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::Clock;
    use crate::domain::write_fault::WriteFault;
    use crate::ledger::faulty::FaultyLedger;
    use crate::metrics::Metrics;
    use crate::work::pool::PoolOptions;
    use crate::work::reconcile_queue::ReconcileQueue;

    #[tokio::test]
    async fn faults_of_the_ledger_are_a_state_of_the_job_while_they_last() {
        let disk = FaultyLedger::new().await;
        let (queue, options) = (ReconcileQueue::new(), PoolOptions::new("me"));
        let pool = SyncPool::new(Arc::clone(&disk.ledger), queue, Clock::system(), &Metrics::new(), options).unwrap();
        let state = async || read(&*disk.ledger, &pool, &ObjectKey::new("team", "books")).await.unwrap().1;
        assert_eq!(state().await, LedgerState::Working);
        disk.fail_writes();
        disk.ledger.ping().await.unwrap_err();
        assert_eq!(state().await, LedgerState::Unwritable(WriteFault::Full));
        disk.fail_reads();
        assert_eq!(state().await, LedgerState::Unreadable(WriteFault::Io));
        disk.recover();
        disk.ledger.ping().await.unwrap();
        assert_eq!(state().await, LedgerState::Working);
    }
}
