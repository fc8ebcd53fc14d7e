//! Recording a run whose process is gone: the Kubernetes Job of it failed.

use super::SyncPool;
use super::state::RunRequest;
use crate::domain::key::ObjectKey;
use crate::domain::run_reason::RunReason;
use crate::ledger::{LedgerError, ResyncEnd, RunEnd, RunStart, RunTrigger, TakeOutcome};
use crate::sync::RunReport;

impl SyncPool {
    /// Records the run as failed, whether or not it had recorded its start. `false` while another process holds the job's
    /// lease: the run may go on, or its lease has not expired.
    ///
    /// # Errors
    /// If the ledger fails; nothing is recorded then.
    pub async fn record_lost(&self, job: &ObjectKey, request: RunRequest) -> Result<bool, LedgerError> {
        let shared = &self.shared;
        let TakeOutcome::Taken(held) = shared.lease_holder(job).take().await? else { return Ok(false) };
        let now = shared.clock.now().wall;
        // Without a slot, which its process may have recorded: a run that started after a slot handles it anyway.
        let start = RunStart {
            id: request.run,
            job: job.clone(),
            trigger: request.trigger,
            slot: None,
            dry_run: false,
            events: Vec::new(),
            at: now,
        };
        shared.ledger.start_run(&start, held.lease()).await?;
        let report = RunReport::from_error(&RunReason::JobFailed.into());
        let end = RunEnd {
            id: request.run,
            job: job.clone(),
            result: report.result,
            reason: report.reason,
            failure: report.failure.clone(),
            counts: report.counts,
            partitions: Vec::new(),
            // A resync does not count for the job's streaks. Its ID is not known here, and not needed: it is not done.
            resync: (request.trigger == RunTrigger::Resync).then(|| ResyncEnd { id: String::new(), done: false }),
            events: Vec::new(),
            at: now,
        };
        shared.ledger.finish_run(&end).await?;
        shared.metrics.run_ended(job, &report);
        held.release().await;
        Ok(true)
    }
}
