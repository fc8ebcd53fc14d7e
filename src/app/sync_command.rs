//! `busbar sync`: one run of one job, in a process of its own.
//!
//! For runs by hand, for tests that kill the process, and as the command of the Kubernetes Jobs that `execution: Job`
//! creates. It does what the operator does for a run that is due: it takes the job's lease, records the run, walks the
//! pages and records the end. It writes no status: an operator reads the run from the ledger.
//!
//! Exit codes: 0 succeeded, 1 not started (configuration, API server or ledger), 2 usage, 3 failed, 4 incomplete, 5 not run
//! (another process runs the job, or the run was made), 6 canceled by a signal.

mod error;
mod live;
mod plan;
mod pool_run;
mod process;
mod scratch;
mod stored;
mod target;

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::app::output::print_line;
use crate::cli::sync::{SyncArgs, SyncCommand, SyncRequestArgs, SyncTargetArgs};
use crate::domain::key::ObjectKey;
use crate::ledger::encryption::Keyring;
use crate::ledger::{self, OpenMode, RunId, RunResult, RunTrigger};
use crate::settings::sync_plan::{ResyncPlan, SyncPlan};
use crate::sync::RunReport;
use crate::telemetry;
use crate::work::pool::{RunOutcome, RunRequest};

use error::RunEnded;
pub(super) use error::SyncError;
pub(super) use live::{LiveSync, persist};
use pool_run::{RunToMake, run_in_pool};
use process::SyncProcess;
use target::SyncTarget;

/// How long the process waits for its last log lines.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(200);

/// Runs the command.
pub(super) async fn run(args: SyncArgs) -> Result<(), SyncError> {
    let SyncArgs { command, job, target, request } = args;
    let logging = telemetry::init(target.log_format, &target.log_level)?;
    let keys = target.key_secret.as_deref().map(Keyring::open).transpose()?.unwrap_or_default();
    let process = SyncProcess::new(target.identity.clone(), keys)?;
    match command {
        Some(SyncCommand::Plan(args)) => plan::plan(&process, &target, &args).await,
        None => {
            let job = job.ok_or(SyncError::NoJob)?;
            let stop = crate::shutdown::on_signal(&process.tasks.telemetry, logging.writer.clone())
                .map_err(|source| SyncError::Io { what: "installing signal handlers".into(), source })?;
            let ended = run_job(&process, &target, &job, request, stop.cancelled_owned()).await;
            logging.writer.flush(FLUSH_TIMEOUT);
            ended
        }
    }
}

async fn run_job(
    process: &SyncProcess,
    args: &SyncTargetArgs,
    job: &ObjectKey,
    request: SyncRequestArgs,
    stop: impl Future<Output = ()>,
) -> Result<(), SyncError> {
    let ledger = ledger::open(&args.ledger(), OpenMode::Migrate).await?;
    let target = SyncTarget::load(process, args, job, Some(Arc::clone(&ledger))).await?;
    let resumes = request.run_id.is_some();
    let plan = Arc::new(SyncPlan { resync: resync(&request), ..target.plan.clone() });
    let request = RunRequest {
        run: RunId(request.run_id.unwrap_or_else(Uuid::new_v4)),
        trigger: request.trigger.unwrap_or(RunTrigger::Manual),
        slot: request.slot,
    };
    let outcome = run_in_pool(process, &target, plan, RunToMake { ledger: &ledger, request, resumes }, stop).await;
    ledger.close().await;
    report(job, &outcome?)
}

/// The resync that the run serves.
fn resync(request: &SyncRequestArgs) -> Option<ResyncPlan> {
    let (id, from, to) = (request.resync.clone()?, request.resync_from?, request.resync_to?);
    Some(ResyncPlan { id, from, to, partitions: request.resync_partition.clone() })
}

/// Prints the counts of a run; an error if it did not succeed.
fn report(job: &ObjectKey, outcome: &RunOutcome) -> Result<(), SyncError> {
    let RunReport { result, reason, counts, duplicates, .. } = &outcome.report;
    print_line(&format!(
        "sync {job}: {} (run {}): {} fetched, {} new, {} changed, {} same, {} rejected, {duplicates} duplicates, {} pages",
        result.as_str(),
        outcome.id,
        counts.fetched,
        counts.inserted,
        counts.updated,
        counts.unchanged,
        counts.rejected,
        counts.pages,
    ))?;
    if *result == RunResult::Succeeded {
        return Ok(());
    }
    Err(SyncError::Ended(RunEnded {
        result: *result,
        reason: reason.map(super::super::domain::run_reason::RunReason::as_str),
    }))
}
