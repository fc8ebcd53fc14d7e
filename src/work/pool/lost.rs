//! Recording a run whose process is gone: the Kubernetes Job of it failed.

use super::SyncPool;
use super::ending;
use super::state::LostRun;
use crate::domain::key::ObjectKey;
use crate::domain::run_failure::RunFailure;
use crate::domain::run_reason::RunReason;
use crate::ledger::{LedgerError, ResyncEnd, RunEnd, RunStart, RunTrigger, TakeOutcome};
use crate::sync::RunReport;

impl SyncPool {
    /// Records the run as failed, whether or not it had recorded its start, with the events of its end. `false` while another
    /// process holds the job's lease: the run may go on, or its lease has not expired.
    ///
    /// # Errors
    /// If the ledger fails; nothing is recorded then.
    pub async fn record_lost(&self, job: &ObjectKey, lost: LostRun<'_>) -> Result<bool, LedgerError> {
        let LostRun { request, plan, resync } = lost;
        let shared = &self.shared;
        let TakeOutcome::Taken(held) = shared.lease_holder(job).take().await? else { return Ok(false) };
        let now = shared.clock.now().wall;
        let started = plan.map(|plan| ending::run_events(plan, request).started(request.trigger));
        // Without a slot, which its process may have recorded: a run that started after a slot handles it anyway.
        let start = RunStart {
            id: request.run,
            job: job.clone(),
            trigger: request.trigger,
            slot: None,
            dry_run: plan.is_some_and(|plan| plan.dry_run),
            // Stored only if its process has not recorded the start.
            events: started.into_iter().collect(),
            at: now,
        };
        shared.ledger.start_run(&start, held.lease()).await?;
        let report = RunReport::from_error(&RunReason::JobFailed.into());
        let counted = plan.filter(|_| request.trigger != RunTrigger::Resync);
        let end = if let Some(plan) = counted {
            ending::of(shared, plan, request, &report).await.end
        } else {
            let completed = plan.map(|plan| ending::run_events(plan, request).pipeline_completed(&report));
            RunEnd {
                id: request.run,
                job: job.clone(),
                result: report.result,
                reason: report.reason,
                failure: RunFailure { resync: resync.clone(), ..report.failure.clone() },
                counts: report.counts,
                partitions: Vec::new(),
                // A resync does not count for the job's streaks.
                resync: (request.trigger == RunTrigger::Resync)
                    .then(|| ResyncEnd { id: resync.unwrap_or_default(), done: false }),
                events: completed.into_iter().collect(),
                at: now,
            }
        };
        shared.ledger.finish_run(&end).await?;
        shared.metrics.run_ended(job, &report);
        held.release().await;
        Ok(true)
    }
}
