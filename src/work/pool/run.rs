//! One run from start to end: slot, lease, record of the start, page walk, record of the end, release, notification.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use futures::FutureExt;
use tokio_util::sync::CancellationToken;

use super::ending::{self, Ending};
use super::slots::{RunSlot, SlotFetch};
use super::state::{PoolState, RunOutcome, RunRequest};
use crate::domain::key::ObjectKey;
use crate::domain::run_reason::RunReason;
use crate::ledger::{HeldLease, RunStart, RunTrigger, TakeOutcome};
use crate::sync::metrics::Stage;
use crate::sync::report::RunError;
use crate::sync::{Fetch, RunContext, RunReport, SyncPlan, run};
use crate::work::reconcile_queue::Kind;

/// Interval between attempts to take a lease that another process holds.
const LEASE_POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Tries to record a run's end, with delays that double from [`RECORD_DELAY`]: three seconds in all. After that the
/// next run of the job marks it interrupted.
const RECORD_TRIES: u32 = 5;
const RECORD_DELAY: Duration = Duration::from_millis(200);
/// How long a run whose end could not be recorded stays active: the controller finds nothing of it in the ledger, and
/// would start another at once.
const UNRECORDED_DELAY: Duration = Duration::from_secs(5);

pub(super) async fn execute(
    shared: Arc<PoolState>,
    plan: Arc<SyncPlan>,
    fetch: Arc<dyn Fetch>,
    request: RunRequest,
    cancel: CancellationToken,
) {
    let _active = ActiveGuard { shared: Arc::clone(&shared), job: plan.job.clone(), request };
    let guarded = AssertUnwindSafe(wait_and_run(&shared, &plan, fetch, request, &cancel)).catch_unwind();
    let ended = if let Ok(ended) = guarded.await {
        ended
    } else {
        // A panic ends the run, not the process; the lease is released with the future.
        shared.tasks.record_panic("sync run");
        let report = RunReport::from_error(&RunReason::InternalError.into());
        shared.metrics.run_ended(&plan.job, &report);
        record_end(&shared, &plan, request, report).await
    };
    log(&plan, request, &ended);
    if !ended.recorded {
        tokio::select! {
            () = cancel.cancelled() => {}
            () = shared.clock.sleep_until(shared.clock.mono() + UNRECORDED_DELAY) => {}
        }
    }
    publish_end(&shared, &plan, request, ended).await;
}

/// A run that has ended.
struct EndedRun {
    report: RunReport,
    /// Whether the end is in the ledger.
    recorded: bool,
}

/// Ends the active run of a job if the end of its task did not: after a panic there, the job would never run again.
struct ActiveGuard {
    shared: Arc<PoolState>,
    job: ObjectKey,
    request: RunRequest,
}

impl Drop for ActiveGuard {
    fn drop(&mut self) {
        let mut jobs = self.shared.jobs();
        let Some(entry) = jobs.get_mut(&self.job) else { return };
        if entry.active.as_ref().is_some_and(|(active, _)| active.id == self.request.run) {
            entry.active = None;
            drop(jobs);
            self.shared.reconcile_queue.enqueue(Kind::SyncJob, &self.job);
        }
    }
}

/// Waits for a slot and for the lease, then runs.
async fn wait_and_run(
    shared: &PoolState,
    plan: &SyncPlan,
    fetch: Arc<dyn Fetch>,
    request: RunRequest,
    cancel: &CancellationToken,
) -> EndedRun {
    let not_started = |stop: RunError| {
        let report = RunReport::from_error(&stop);
        shared.metrics.run_ended(&plan.job, &report);
        EndedRun { report, recorded: false }
    };
    let connection = plan.job.sibling(plan.connection.as_str());
    let slot = tokio::select! {
        biased;
        () = cancel.cancelled() => return not_started(RunReason::StopRequested.into()),
        slot = shared.slots.start(connection) => Arc::new(slot),
    };
    let held = match take_lease(shared, &plan.job, &slot, cancel).await {
        Ok(held) => held,
        Err(stop) => return not_started(stop),
    };
    let start = RunStart {
        id: request.run,
        job: plan.job.clone(),
        trigger: request.trigger,
        slot: request.slot,
        dry_run: plan.dry_run,
        events: vec![ending::run_events(plan, request).started(request.trigger)],
        at: shared.clock.now().wall,
    };
    match shared.ledger.start_run(&start, held.lease()).await {
        Ok(true) => {}
        // The same run, whose former process was killed.
        Ok(false) if shared.options.resumes && is_unfinished(shared, plan, request).await => {}
        // The previous lease holder has already served the slot, or the request.
        Ok(false) => {
            held.release().await;
            return not_started(RunReason::LeaseHeld.into());
        }
        Err(error) => return not_started((&error).into()),
    }
    note_start(shared, plan, request);
    let requested = AtomicBool::new(request.trigger == RunTrigger::Manual);
    let fetch = SlotFetch { fetch, slot, requested };
    let report = with_lease(shared, plan, &fetch, request, cancel, &held).await;
    drop(fetch);
    let ended = record_end(shared, plan, request, report).await;
    held.release().await;
    ended
}

/// Notes that the start of the run is stored. A request is acknowledged now, not at the end of its run.
fn note_start(shared: &PoolState, plan: &SyncPlan, request: RunRequest) {
    if let Some((active, _)) = shared.jobs().get_mut(&plan.job).and_then(|job| job.active.as_mut()) {
        active.queued = false;
    }
    if request.trigger == RunTrigger::Manual {
        shared.reconcile_queue.enqueue(Kind::SyncJob, &plan.job);
    }
}

/// Whether the run was started and has not ended.
async fn is_unfinished(shared: &PoolState, plan: &SyncPlan, request: RunRequest) -> bool {
    let history = shared.ledger.job_history(&plan.job, 1, shared.clock.now().wall).await;
    history.is_ok_and(|history| history.last.first().is_some_and(|run| run.id == request.run && run.ended.is_none()))
}

/// Runs and renews the lease concurrently. Losing the lease stops the run; the fence rejects its writes in any case.
async fn with_lease(
    shared: &PoolState,
    plan: &SyncPlan,
    fetch: &dyn Fetch,
    request: RunRequest,
    cancel: &CancellationToken,
    held: &HeldLease,
) -> RunReport {
    let stop = cancel.child_token();
    let metrics = shared.metrics.of_provider(&plan.provider);
    let cx = RunContext {
        ledger: &*shared.ledger,
        fetch,
        account_tokens: &shared.options.account_tokens,
        lease: held.lease(),
        clock: shared.clock,
        metrics: &metrics,
        run: request.run,
        preview: None,
        cancel: &stop,
    };
    let mut running = std::pin::pin!(run(plan, cx));
    tokio::select! {
        report = &mut running => report,
        () = held.lost() => {
            stop.cancel();
            let report = running.await;
            if report.reason == Some(RunReason::StopRequested) && !cancel.is_cancelled() {
                RunReport { reason: Some(RunReason::LeaseLost), ..report }
            } else {
                report
            }
        }
    }
}

/// Takes the job's lease. One that is renewed belongs to a live process: that one runs the job. A leftover one expires.
async fn take_lease(
    shared: &PoolState,
    job: &ObjectKey,
    slot: &RunSlot,
    cancel: &CancellationToken,
) -> Result<HeldLease, RunError> {
    let mut holder = shared.lease_holder(job);
    loop {
        match holder.take().await.map_err(|error| RunError::from(&error))? {
            TakeOutcome::Taken(held) => return Ok(held),
            TakeOutcome::HeldByOther { renewed: true } => return Err(RunReason::LeaseHeld.into()),
            TakeOutcome::HeldByOther { renewed: false } => {}
        }
        let next = shared.clock.mono() + LEASE_POLL_INTERVAL.min(shared.options.lease_ttl);
        tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(RunReason::StopRequested.into()),
            () = slot.wait(shared.clock.sleep_until(next)) => {}
        }
    }
}

/// Records the end in the ledger, with retries: a ledger that is briefly busy must not make a successful run look
/// interrupted.
async fn record_end(shared: &PoolState, plan: &SyncPlan, request: RunRequest, report: RunReport) -> EndedRun {
    let Ending { end, exceeded, partitions } = ending::of(shared, plan, request, &report).await;
    let began = shared.clock.mono();
    let mut recorded = shared.ledger.finish_run(&end).await.is_ok();
    let mut delay = RECORD_DELAY;
    for _ in 1..RECORD_TRIES {
        if recorded {
            break;
        }
        shared.clock.sleep_until(shared.clock.mono() + delay).await;
        delay *= 2;
        recorded = shared.ledger.finish_run(&end).await.is_ok();
    }
    let class = (!recorded).then_some(RunReason::LedgerUnavailable);
    shared.metrics.of_provider(&plan.provider).stage(
        Stage::Publish,
        shared.clock.mono().since(began).as_secs_f64(),
        class,
    );
    ending::log(plan, request, &exceeded);
    shared.metrics.slow_fetches(&plan.job, exceeded.slow.len());
    if let Some(gauges) = &shared.partitions {
        // Known since the run needed it: nothing is read or written for it again.
        if let Some(key) = shared.options.account_tokens.loaded().await {
            gauges.set(&plan.job, &key, partitions);
        }
    }
    EndedRun { report, recorded }
}

/// Publishes the end: gauges, then memory, then the reconcile queue, so that the reconcile sees all of it.
async fn publish_end(shared: &PoolState, plan: &SyncPlan, request: RunRequest, ended: EndedRun) {
    let (job, now) = (&plan.job, shared.clock.now());
    let history = shared.ledger.job_history(job, 0, now.wall).await;
    let EndedRun { report, recorded } = ended;
    let resync = plan.resync.as_ref().map(|resync| resync.id.clone());
    let outcome = RunOutcome { id: request.run, at: now.mono, report, recorded };
    let mut jobs = shared.jobs();
    match jobs.get_mut(job) {
        Some(entry) if !entry.deleted => {
            entry.active = None;
            entry.note_end(resync, outcome);
            if let Ok(history) = history {
                shared.gauges.set(job, &history);
            }
        }
        _ => {
            jobs.remove(job);
            shared.metrics.remove_job(job);
        }
    }
    drop(jobs);
    shared.reconcile_queue.enqueue(Kind::SyncJob, job);
}

fn log(plan: &SyncPlan, request: RunRequest, ended: &EndedRun) {
    let EndedRun { report, recorded } = ended;
    let reason = report.reason.map_or("", RunReason::as_str);
    tracing::info!(
        request_id = %request.run,
        namespace = %plan.job.namespace,
        name = %plan.job.name,
        result = report.result.as_str(),
        reason,
        http_status = report.http_status,
        detail = report.failure.detail.as_deref(),
        fetched = report.counts.fetched,
        inserted = report.counts.inserted,
        updated = report.counts.updated,
        rejected = report.counts.rejected,
        pages = report.counts.pages,
        recorded,
        "sync run ended"
    );
}
