//! One run from its turn to its poke: permit, lease, history, walk, history, lease back.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio_util::sync::CancellationToken;

use super::{Order, Outcome, Shared};
use crate::domain::key::ObjectKey;
use crate::domain::time::Mono;
use crate::ledger::{Lease, LeaseView, RunEnd, RunStart};
use crate::sync::report::Stop;
use crate::sync::{Fetch, RunContext, RunReason, RunReport, SyncPlan, run};
use crate::work::poke::Kind;

/// How often a held lease is looked at again.
const LEASE_POLL: Duration = Duration::from_secs(1);
/// Tries to write a run's end down, with pauses that double from here: three seconds in all, then the next run of the
/// job will find it interrupted.
const FINISH_TRIES: u32 = 5;
const FINISH_PAUSE: Duration = Duration::from_millis(200);
/// How long a job rests whose run could not be written down: whoever is poked sees nothing of it in the ledger, and
/// would start another at once.
const UNRECORDED_REST: Duration = Duration::from_secs(5);

pub(super) async fn attempt(
    shared: Arc<Shared>,
    plan: Arc<SyncPlan>,
    fetch: Arc<dyn Fetch>,
    order: Order,
    cancel: CancellationToken,
) {
    let whole = AssertUnwindSafe(in_turn(&shared, &plan, &*fetch, order, &cancel)).catch_unwind();
    let (report, recorded) = if let Ok(ended) = whole.await {
        ended
    } else {
        // A fault of ours ends the run, not the process. The lease is ours to take again.
        let report = RunReport::ended(RunReason::InternalError.into());
        shared.metrics.run_ended(&plan.job, &report);
        let recorded = finish(&shared, &plan.job, order, &report).await;
        (report, recorded)
    };
    log(&plan, order, &report, recorded);
    if !recorded {
        tokio::select! {
            () = cancel.cancelled() => {}
            () = shared.clock.sleep_until(shared.clock.mono() + UNRECORDED_REST) => {}
        }
    }
    conclude(&shared, &plan.job, order, report, recorded).await;
}

/// Waits for a turn and for the lease, then runs. Returns the report and whether the ledger knows it.
async fn in_turn(
    shared: &Shared,
    plan: &SyncPlan,
    fetch: &dyn Fetch,
    order: Order,
    cancel: &CancellationToken,
) -> (RunReport, bool) {
    let not_begun = |stop: Stop| {
        let report = RunReport::ended(stop);
        shared.metrics.run_ended(&plan.job, &report);
        (report, false)
    };
    let permit = tokio::select! {
        biased;
        () = cancel.cancelled() => return not_begun(RunReason::StopRequested.into()),
        permit = shared.permits.acquire() => permit,
    };
    if permit.is_err() {
        return not_begun(RunReason::StopRequested.into());
    }
    if let Some((active, _)) = shared.jobs().get_mut(&plan.job).and_then(|job| job.active.as_mut()) {
        active.queued = false;
    }
    let lease = match lease(shared, &plan.job, cancel).await {
        Ok(lease) => lease,
        Err(stop) => return not_begun(stop),
    };
    let start = RunStart {
        id: order.run,
        job: plan.job.clone(),
        trigger: order.trigger,
        slot: order.slot,
        dry_run: plan.dry_run,
        at: shared.clock.now().wall,
    };
    match shared.ledger.start_run(&start, &lease).await {
        Ok(true) => {}
        // Whoever had the lease before us has served the slot, or the request.
        Ok(false) => {
            shared.ledger.release_lease(&lease).await.ok();
            return not_begun(RunReason::LeaseHeld.into());
        }
        Err(error) => return not_begun((&error).into()),
    }
    let report = with_lease(shared, plan, fetch, order, cancel, &lease).await;
    let recorded = finish(shared, &plan.job, order, &report).await;
    // Not given back: it runs out by itself.
    shared.ledger.release_lease(&lease).await.ok();
    (report, recorded)
}

/// Runs while the lease is renewed beside it. A lease that is lost stops the run; the fence stops its writes anyway.
async fn with_lease(
    shared: &Shared,
    plan: &SyncPlan,
    fetch: &dyn Fetch,
    order: Order,
    cancel: &CancellationToken,
    lease: &Lease,
) -> RunReport {
    let stop = cancel.child_token();
    let cx = RunContext {
        ledger: &*shared.ledger,
        fetch,
        lease,
        clock: shared.clock,
        metrics: &shared.metrics,
        run: order.run,
        cancel: &stop,
    };
    let mut running = std::pin::pin!(run(plan, cx));
    let lost = async {
        loop {
            shared.clock.sleep_until(shared.clock.mono() + shared.options.lease_ttl / 3).await;
            let renewed = shared.ledger.renew_lease(lease, shared.options.lease_ttl, shared.clock.now().wall).await;
            // A ledger in trouble is not a lost lease: whoever takes it needs the ledger too.
            if matches!(renewed, Ok(false)) {
                return;
            }
        }
    };
    tokio::select! {
        report = &mut running => report,
        () = lost => {
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

/// Who holds it may move the job's cursors.
pub(super) fn lease_name(job: &ObjectKey) -> String {
    format!("sync/{}/{}", job.namespace, job.name)
}

/// Takes the job's lease. One that is being renewed belongs to a process that lives; one that is only left over runs
/// out, by the wall clock or, should that have been set back, by our own.
async fn lease(shared: &Shared, job: &ObjectKey, cancel: &CancellationToken) -> Result<Lease, Stop> {
    let name = lease_name(job);
    let ttl = shared.options.lease_ttl;
    let mut watched: Option<(LeaseView, Mono)> = None;
    loop {
        let now = shared.clock.now();
        let stale = watched.as_ref().filter(|(_, since)| now.mono.since(*since) >= ttl).map(|(view, _)| view.clone());
        let taken = shared.ledger.acquire_lease(&name, &shared.options.holder, ttl, now.wall, stale).await;
        let held = match taken.map_err(|error| Stop::from(&error))? {
            Ok(lease) => return Ok(lease),
            Err(held) => held,
        };
        match &watched {
            Some((view, _)) if *view == held => {}
            Some(_) => return Err(RunReason::LeaseHeld.into()),
            None => watched = Some((held, now.mono)),
        }
        tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(RunReason::StopRequested.into()),
            () = shared.clock.sleep_until(now.mono + LEASE_POLL.min(ttl)) => {}
        }
    }
}

/// Writes the end down; a ledger that is busy for a moment should not make a good run look interrupted.
async fn finish(shared: &Shared, job: &ObjectKey, order: Order, report: &RunReport) -> bool {
    let end = RunEnd {
        id: order.run,
        job: job.clone(),
        result: report.result,
        reason: report.reason.map(RunReason::as_str),
        counts: report.counts,
        at: shared.clock.now().wall,
    };
    let mut pause = FINISH_PAUSE;
    for _ in 1..FINISH_TRIES {
        if shared.ledger.finish_run(&end).await.is_ok() {
            return true;
        }
        shared.clock.sleep_until(shared.clock.mono() + pause).await;
        pause *= 2;
    }
    shared.ledger.finish_run(&end).await.is_ok()
}

/// Makes the end visible: gauges, then memory, then the poke, so that whoever is poked sees all of it.
async fn conclude(shared: &Shared, job: &ObjectKey, order: Order, report: RunReport, recorded: bool) {
    let history = shared.ledger.job_history(job, 0).await;
    let outcome = Outcome { id: order.run, at: shared.clock.now().wall, report, recorded };
    let mut jobs = shared.jobs();
    match jobs.get_mut(job) {
        Some(entry) if !entry.forgotten => {
            entry.active = None;
            entry.last = Some(outcome);
            if let Ok(history) = history {
                shared.gauges.set(job, history.failure_streak, history.last_success);
            }
        }
        _ => {
            jobs.remove(job);
            shared.metrics.forget(job);
        }
    }
    drop(jobs);
    shared.pokes.poke(Kind::SyncJob, job);
}

fn log(plan: &SyncPlan, order: Order, report: &RunReport, recorded: bool) {
    let reason = report.reason.map_or("", RunReason::as_str);
    tracing::info!(
        request_id = %order.run,
        namespace = %plan.job.namespace,
        name = %plan.job.name,
        result = report.result.as_str(),
        reason,
        http_status = report.http_status,
        fetched = report.counts.fetched,
        inserted = report.counts.inserted,
        updated = report.counts.updated,
        rejected = report.counts.rejected,
        pages = report.counts.pages,
        recorded,
        "sync run ended"
    );
}
