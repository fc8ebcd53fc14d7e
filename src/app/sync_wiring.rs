//! Wires what makes syncs run because of something outside their objects: Kubernetes Jobs, and requests of other replicas.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::app::base_deps::BaseDeps;
use crate::app::error::AppError;
use crate::app::tasks::Tasks;
use crate::cli::RunArgs;
use crate::cli::jobs::{JobArgs, JobLedger};
use crate::cluster::client::Clients;
use crate::cluster::resource::ObjectChange;
use crate::cluster::run_jobs::RunJobs;
use crate::controllers::Ctx;
use crate::controllers::job_runner::JobRunner;
use crate::controllers::syncjob::kubernetes_job::JobOptions;
use crate::domain::key::Kind;
use crate::ledger::encryption::Keyring;
use crate::notify::KeyQueue;
use crate::provider::legacy_metrics::LegacyMetricSet;
use crate::resolve::JobSupport;
use crate::sync::account_tokens::AccountTokens;
use crate::work::pool::{PoolOptions, SyncPool};
use crate::work::reconcile_queue::ReconcileQueue;

/// The pool of sync runs.
pub(super) fn sync_pool(
    base: &BaseDeps<'_>,
    identity: &str,
    keys: &Keyring,
    reconcile_queue: &ReconcileQueue,
) -> Result<SyncPool, AppError> {
    let BaseDeps { args, clock, metrics, ledger, .. } = base;
    let options = PoolOptions {
        concurrency: args.sync_concurrency.into(),
        account_tokens: AccountTokens::new(keys.clone()),
        tasks: base.tasks.effects.clone(),
        partition_metrics: args.partition_metrics,
        legacy_mono: args.telemetry.compat_metrics.contains(&LegacyMetricSet::Mono),
        ..PoolOptions::new(identity)
    };
    Ok(SyncPool::new(Arc::clone(ledger), reconcile_queue.clone(), *clock, metrics, options)?)
}

/// What starts runs as Kubernetes Jobs; `None` without an image for them.
///
/// # Errors
/// If the URL of their ledger has a password.
pub(super) fn job_runner(args: &RunArgs, clients: &Clients) -> Result<Option<JobRunner>, AppError> {
    let JobArgs { job_image, job_ledger, job_service_account, job_ledger_secret, job_key_secret } = &args.jobs;
    let ranges: Vec<String> = args.allow_provider_addresses.iter().map(ToString::to_string).collect();
    let allowed = (!ranges.is_empty()).then(|| format!("--allow-provider-addresses={}", ranges.join(",")));
    let memory = format!("--response-memory={}KiB", args.response_memory >> 10);
    let (image, ledger) = match (job_image, job_ledger) {
        (Some(image), Some(JobLedger::Url(ledger))) => (image.clone(), ledger.clone()),
        (_, Some(JobLedger::WithPassword)) => {
            let problem = "--job-ledger must not have a password: other users can read it; put it into the Secret of \
                           --job-ledger-secret";
            return Err(AppError::Arguments(problem.to_owned()));
        }
        _ => return Ok(None),
    };
    let options = JobOptions {
        image,
        service_account: job_service_account.clone(),
        ledger,
        ledger_secret: job_ledger_secret.clone(),
        key_secret: job_key_secret.clone(),
        flags: allowed.into_iter().chain([memory]).collect(),
    };
    Ok(Some(JobRunner { jobs: RunJobs::new(clients, args.watch_namespaces.len().max(1)), options }))
}

/// Whether runs can be Kubernetes Jobs.
pub(super) fn job_support(args: &RunArgs) -> JobSupport {
    match (args.ledger.is_shared(), &args.jobs.job_image) {
        (false, _) => JobSupport::LedgerNotShared,
        (true, None) => JobSupport::NoImage,
        (true, Some(_)) => JobSupport::Supported,
    }
}

/// Starts what makes jobs reconcile because of something outside their objects: their Kubernetes Jobs, and requests that
/// another replica stored.
pub(super) fn start_requests(
    ctx: &Arc<Ctx>,
    changes: &Arc<KeyQueue<ObjectChange>>,
    namespaces: &[String],
    stop: &CancellationToken,
    tasks: &Tasks,
) {
    if let Some(runner) = &ctx.jobs {
        let scopes: Vec<_> =
            if namespaces.is_empty() { vec![None] } else { namespaces.iter().cloned().map(Some).collect() };
        for namespace in scopes {
            let (jobs, changes) = (runner.jobs.clone(), Arc::clone(changes));
            tasks.effect("Jobs", jobs.run(namespace, changes, stop.clone()));
        }
    }
    let (ctx, stop) = (Arc::clone(ctx), stop.clone());
    tasks.effect("run requests", async move {
        let mut known = BTreeSet::new();
        while stop.run_until_cancelled(tokio::time::sleep(REQUESTS_INTERVAL)).await.is_some() {
            // A ledger that fails is reported by its monitor; the rows are still there afterwards.
            let Ok(open) = ctx.ledger.open_requests(None).await else { continue };
            let open: BTreeSet<_> = open.into_iter().map(|stored| (stored.request.job, stored.request.id)).collect();
            for (job, _) in open.difference(&known) {
                ctx.reconcile_queue.enqueue(Kind::SyncJob, job);
            }
            known = open;
        }
    });
}

/// Interval at which requests of other replicas are looked for. Those of this one enqueue their job at once.
const REQUESTS_INTERVAL: Duration = Duration::from_secs(2);
