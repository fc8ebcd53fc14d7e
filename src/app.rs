//! The composition root: builds the components, starts them in order and stops them in order.
//!
//! Every long-lived component is a task of one set (`tasks`); the first task that ends while the process should run
//! ends the process, because a half-dead operator would still look healthy. Each step of the start is a gate that
//! `/readyz` shows.

mod audit_command;
mod base_deps;
mod change_router;
mod check;
mod commands;
mod decision_wiring;
mod error;
mod explain;
mod gateway;
mod identity;
mod ledger_check;
mod ledger_command;
mod ledger_copy;
mod ledger_epoch;
mod metrics_reference;
mod operator_check;
mod outbox_wiring;
mod output;
mod process_metrics;
mod process_syncs;
mod process_webhooks;
pub mod reasons;
mod registry_wiring;
mod retention_wiring;
mod route_command;
mod route_gateway;
mod route_source;
mod route_table;
mod scored_routes;
mod smoke_check;
mod standby_state;
mod sync_command;
mod sync_wiring;
mod table;
mod tasks;
mod webhook_wiring;
mod wiring;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser as _;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::admin::Admin;
use crate::admin::gates::{Gate, Gates};
use crate::admin::metrics_access::MetricsAccess;
use crate::app::base_deps::BaseDeps;
use crate::app::error::AppError;
use crate::app::identity::default_identity;
use crate::app::ledger_epoch::LedgerEpochGuard;
use crate::app::tasks::Tasks;
use crate::cli::{CheckCommand, Cli, Command, MetricsAuth, RunArgs};
use crate::clock::Clock;
use crate::cluster::auth::Authorizer;
use crate::cluster::client::Clients;
use crate::cluster::discovery;
use crate::cluster::kube_reviewer::KubeReviewer;
use crate::cluster::lease::{LeaderElector, Leadership, LeaseConfig};
use crate::controllers::providerconnection::standby::run_standby;
use crate::http_server::metrics::PortMetrics;
use crate::ledger::{self, OpenMode};
use crate::metrics::Metrics;
use crate::profile::Profiles;
use crate::tasks::TaskGroups;
use crate::telemetry::{self, traces::Traces};
use crate::work::ledger_monitor::readiness_warning;

/// Runs the command of the command line.
pub fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => run_command(cli),
        Err(message) => output::print_usage(&message),
    }
}

fn run_command(cli: Cli) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output::print_error(&format_args!("cannot start the runtime: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(async {
        match cli.command {
            Command::Run(args) => Box::pin(run(*args)).await,
            Command::Crds(args) => commands::crds(&args.out),
            Command::Docs(args) => commands::docs(&args.out).await,
            Command::Explain(args) => explain::explain(args).await.map_err(AppError::from),
            Command::Route(command) => route_command::run(command).await.map_err(AppError::from),
            Command::Audit(command) => audit_command::run(command).await.map_err(AppError::from),
            Command::Ledger(command) => ledger_command::run(&command).await,
            Command::Sync(args) => Box::pin(sync_command::run(*args)).await.map_err(AppError::from),
            Command::Check(CheckCommand::Profile(args)) => check::profiles(&args.files),
            Command::Check(CheckCommand::Live(args)) => smoke_check::check(*args).await.map_err(AppError::from),
            Command::Check(CheckCommand::Ledger(args)) => ledger_check::check(&args).map_err(AppError::from),
            Command::Check(CheckCommand::Operator(args)) => operator_check::check(args).await.map_err(AppError::from),
        }
    });
    // Tasks that still run have exceeded the grace period.
    runtime.shutdown_timeout(Duration::from_millis(500));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::print_error(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

async fn run(args: RunArgs) -> Result<(), AppError> {
    let logging = telemetry::init(args.log_format, &args.log_level)?;
    let (clock, metrics, gates) = (Clock::system(), Metrics::new(), Gates::default());
    logging.writer.register(&metrics)?;
    let mut tasks = Tasks::new(TaskGroups::new(&metrics)?);
    let groups = tasks.groups().clone();
    let stop = crate::shutdown::on_signal(&groups.telemetry, logging.writer.clone())
        .map_err(|source| AppError::Io { what: "installing signal handlers".into(), source })?;
    process_metrics::register(&metrics)?;
    // Before anything is opened or requested: an invalid profile is a local configuration error.
    let profiles = Arc::new(Profiles::load(args.profiles_dir.as_deref())?);
    let gateway = gateway::open(&args.gateway).await?;
    let listener = bind(&args, gateway.as_ref()).await?;
    let metrics_access = match args.metrics_auth {
        MetricsAuth::Off => MetricsAccess::open(),
        MetricsAuth::Kubernetes => MetricsAccess::reviewed(clock),
    };
    let ports = PortMetrics::new(&metrics)?;
    let admin = Admin {
        gates: gates.clone(),
        metrics: metrics.clone(),
        metrics_access: metrics_access.clone(),
        log_level: Some(logging.level.clone()),
        clock,
        tasks: groups.telemetry.clone(),
        connection_metrics: Some(ports.of("admin")),
    };
    tasks.telemetry("admin", admin.serve(listener, tasks.telemetry_stop()));

    let traces = match &args.telemetry.otlp_endpoint {
        Some(endpoint) => {
            let instance = args.identity.clone().unwrap_or_else(default_identity);
            Traces::export_to(endpoint, crate::cli::VERSION, &instance, &metrics, &groups.telemetry)?
        }
        None => Traces::off(),
    };
    let ledger = ledger::open(&args.ledger(), OpenMode::Migrate).await?;
    gates.set(Gate::Ledger, true);
    let health = ledger.health();
    gates.add_warning(move || readiness_warning(*health.borrow()));
    gates.set(Gate::Running, true);

    let base = BaseDeps {
        args: &args,
        clock,
        metrics: &metrics,
        gates: &gates,
        traces: traces.clone(),
        tasks: groups,
        ledger: Arc::clone(&ledger),
        profiles,
    };
    // Boxed: it holds all that a replica is wired of.
    let servers = Servers { gateway, metrics_access, ports };
    let result = Box::pin(run_replica(&base, servers, &stop, &mut tasks)).await;
    gates.set(Gate::Running, false);
    stop.cancel();
    tasks.drain(args.shutdown_grace, &*ledger, &traces).await;
    match &result {
        Ok(()) => tracing::info!("stopped"),
        Err(error) => tracing::error!(%error, "exiting"),
    }
    result
}

/// The servers that are bound before there is a connection to the API server, and need one.
struct Servers {
    gateway: Option<gateway::BoundGateway>,
    metrics_access: MetricsAccess,
    ports: PortMetrics,
}

/// Connects to the API server, waits for the lease and runs until the process should end.
async fn run_replica(
    base: &BaseDeps<'_>,
    servers: Servers,
    stop: &CancellationToken,
    tasks: &mut Tasks,
) -> Result<(), AppError> {
    let BaseDeps { args, clock, metrics, gates, .. } = *base;
    let identity = args.identity.clone().unwrap_or_else(default_identity);
    let clients = Clients::connect(args.kubeconfig.as_deref(), &identity, metrics).await?;
    if args.metrics_auth == MetricsAuth::Kubernetes {
        // Tokens for the API server itself, as scrapers have them: `--gateway-audiences` is for the gateway's callers.
        let reviewer = Arc::new(KubeReviewer::new(clients.calls.clone(), Vec::new()));
        servers.metrics_access.connect(Authorizer::for_scrapers(reviewer, clock, metrics)?);
    }
    let Some(()) = tasks.until(stop, discovery::wait_until_served(&clients.calls)).await? else { return Ok(()) };
    gates.set(Gate::Crds, true);

    let leadership = Leadership::default();
    let wiring = wiring::build(base, &clients, &identity, &leadership)?;
    let (outbox_relay, event_queues) = outbox_wiring::event_publishing(base, &identity)?
        .map_or((None, None), |both| (Some(both.relay), Some(both.queues)));
    wiring.replica_tasks.start(stop, tasks);
    let ctx = Arc::clone(&wiring.ctx);
    let webhooks = webhook_wiring::webhooks(base, &ctx, &identity)?;
    if let Some(gateway) = servers.gateway {
        let (args, retry_wakeup, keys, clients, audit) =
            (&args.gateway, &wiring.retry_wakeup, &wiring.keys, &clients, &wiring.audit_queue);
        let connections = servers.ports.of("gateway");
        let deps = gateway::GatewayDeps {
            args,
            ctx: &ctx,
            clients,
            keys,
            retry_wakeup,
            audit,
            decisions: &wiring.decisions,
            gates,
            clock,
            metrics,
            connections,
            event_queues: event_queues.as_ref(),
            webhooks: &webhooks.accepting,
        };
        gateway::start(gateway, &deps, stop, tasks)?;
    }
    let Some(()) = tasks.until(stop, ctx.stores.ready()).await? else { return Ok(()) };
    let lease_name = format!("{}/{}", args.lease_namespace, args.lease_name);
    // Closes its gate before the last of the others is opened.
    let epoch = LedgerEpochGuard::new(Arc::clone(&base.ledger), gates.clone(), lease_name, args.ephemeral_ledger);
    gates.set(Gate::Stores, true);
    tracing::info!(identity, "ready; waiting for the leader lease");

    let config = LeaseConfig { namespace: args.lease_namespace.clone(), name: args.lease_name.clone(), identity };
    let mut elector = LeaderElector::new(clients.lease, config, clock, leadership).with_epoch(Arc::new(epoch));
    let standby_stop = stop.child_token();
    let standby = tasks.groups().effects.spawn("standby", run_standby(Arc::clone(&ctx), standby_stop.clone()));
    let elected = tasks.until(stop, elector.acquire(stop)).await;
    standby_stop.cancel();
    standby.await.map_err(|_| AppError::TaskEnded("standby"))?;
    let Some(true) = elected? else { return Ok(()) };
    gates.set_leading(true);
    wiring.leader_gauge.set(1);
    let lease_stop = stop.clone();
    tasks.try_effect("lease", async move { elector.hold(&lease_stop).await.map_err(AppError::from) });
    wiring::start(wiring.leader_tasks, args, stop, tasks);
    tasks.effect("webhooks", webhooks.worker.run(stop.clone()));
    outbox_wiring::lead(outbox_relay, &ctx, args, stop, tasks);

    let Some(()) = tasks.until(stop, std::future::pending::<()>()).await? else { return Ok(()) };
    Ok(())
}

async fn bind(args: &RunArgs, gateway: Option<&gateway::BoundGateway>) -> Result<TcpListener, AppError> {
    let address = args.admin_address();
    let error = |source| AppError::Bind { address, source };
    let listener = TcpListener::bind(address).await.map_err(error)?;
    let address = listener.local_addr().map_err(error)?;
    tracing::info!(%address, version = crate::cli::VERSION, commit = crate::cli::COMMIT, "admin port bound");
    if let Some(path) = &args.announce_file {
        let text =
            json!({ "admin": address.to_string(), "gateway": gateway.map(gateway::BoundGateway::url) }).to_string();
        let temporary = path.with_extension("tmp");
        // Renamed into place, so that a reader never sees a partial file.
        std::fs::write(&temporary, text)
            .and_then(|()| std::fs::rename(&temporary, path))
            .map_err(|source| AppError::Io { what: format!("writing {}", path.display()), source })?;
    }
    Ok(listener)
}
