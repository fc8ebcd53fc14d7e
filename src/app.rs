//! The composition root: builds the parts, starts them in order, ends them in order.
//!
//! Every long-lived part is a task of one set; the first of them that ends while the process should run ends the
//! process, because an operator that is half dead looks alive to everyone. Each step of the start is a gate that
//! `/readyz` shows.

mod check;
mod commands;
mod explain;
mod gateway;
mod live;
mod parts;
mod sink;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::admin::Admin;
use crate::admin::gates::{Gate, Gates};
use crate::cli::{CheckCommand, Cli, Command, RunArgs};
use crate::clock::Clock;
use crate::cluster::client::{ClientError, Clients};
use crate::cluster::discovery;
use crate::cluster::lease::{Elector, Leadership, LeaseConfig, LeaseError};
use crate::controllers::providerconnection::follow::follow;
use crate::gateway::address::{Place, PlaceError};
use crate::gateway::tls::TlsError;
use crate::ledger::sealed::KeyError;
use crate::ledger::{Ledger, LedgerError};
use crate::metrics::{Metrics, MetricsError};
use crate::provider::profile::{ProfileError, Profiles};
use crate::telemetry::traces::{Traces, TracesError};
use crate::telemetry::{self, LogError};

/// Why the process cannot start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// Logging could not be set up.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A port could not be bound.
    #[error("cannot bind {address} (--admin-address): {source}")]
    Bind {
        /// Which.
        address: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The gateway's port could not be bound.
    #[error("cannot bind {place} (--gateway-address): {source}")]
    BindGateway {
        /// Where.
        place: Place,
        /// Why.
        source: std::io::Error,
    },
    /// The gateway must not listen there like that.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The gateway's certificate cannot be used.
    #[error("--gateway-tls-cert, --gateway-tls-key: {0}")]
    Certificate(#[from] TlsError),
    /// A file could not be written, or a signal handler not installed.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The custom resource definitions could not be written.
    #[error(transparent)]
    Crds(#[from] crate::api::CrdError),
    /// Metrics could not be registered.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The ledger could not be opened.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A live provider did not do what it must.
    #[error(transparent)]
    Live(#[from] live::LiveError),
    /// Traces cannot be sent.
    #[error("--otlp-endpoint: {0}")]
    Traces(#[from] TracesError),
    /// The keys that the ledger needs cannot be read.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// There is no usable API server.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A profile does not parse.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// Some of the profiles that were checked are not usable; why was printed.
    #[error("{0} of the profiles cannot be used")]
    ProfilesUnusable(usize),
    /// There is nothing to explain.
    #[error(transparent)]
    Explain(#[from] explain::ExplainError),
    /// The lease was lost.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// A part ended that should run as long as the process.
    #[error("the part {0} ended unexpectedly")]
    PartEnded(&'static str),
}

/// Runs what the command line asks for.
#[expect(clippy::print_stderr, reason = "an error of the command line is for the terminal")]
pub fn main(cli: Cli) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(async {
        match cli.command {
            Command::Run(args) => run(*args).await,
            Command::Crds(args) => commands::crds(&args.out),
            Command::Docs(args) => commands::docs(&args.out),
            Command::Explain(args) => explain::explain(args).await,
            Command::Ledger(command) => commands::ledger(command).await,
            Command::Check(CheckCommand::Profile(args)) => check::profiles(&args.files),
            Command::Check(CheckCommand::Live(args)) => live::check(*args).await,
        }
    });
    // What still hangs in the runtime has had its grace.
    runtime.shutdown_timeout(Duration::from_millis(500));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// How long the end waits for the collector to take the last spans.
const LAST_TRACES: Duration = Duration::from_secs(2);

/// The long-lived tasks, each with its name.
type Parts = JoinSet<(&'static str, Result<(), AppError>)>;

async fn run(args: RunArgs) -> Result<(), AppError> {
    let log_level = telemetry::init(args.log_format, &args.log_level)?;
    let stop = crate::shutdown::on_signal()
        .map_err(|source| AppError::Io { what: "installing signal handlers".into(), source })?;
    let (clock, metrics, gates) = (Clock::system(), Metrics::new(), Gates::default());
    metrics
        .int_gauge("busbar_build_info", "1; the labels tell which build this is.", &["version", "commit"])?
        .with_label_values(&[crate::cli::VERSION, crate::cli::COMMIT])
        .set(1);
    let mut tasks = Parts::new();

    // Before anything is opened or asked for: a profile that cannot be used is a mistake on this machine.
    let profiles = Arc::new(Profiles::load(args.profiles_dir.as_deref())?);
    let door = gateway::open(&args.gateway).await?;
    let listener = bind(&args, door.as_ref()).await?;
    let admin = Admin { gates: gates.clone(), metrics: metrics.clone(), log_level: Some(log_level) };
    let admin_stop = CancellationToken::new();
    tasks.spawn(named("admin", admin.serve(listener, admin_stop.clone())));

    let traces = match &args.telemetry.otlp_endpoint {
        Some(endpoint) => {
            let instance = args.identity.clone().unwrap_or_else(default_identity);
            Traces::to(endpoint, crate::cli::VERSION, &instance, &metrics)?
        }
        None => Traces::off(),
    };
    let ledger = commands::open_ledger(&args.ledger).await?;
    gates.set(Gate::Ledger, true);
    gates.set(Gate::Running, true);

    let kept = (Arc::clone(&ledger), profiles, &traces);
    let result = lead(&args, &stop, &mut tasks, (clock, &metrics, &gates), kept, door).await;
    gates.set(Gate::Running, false);
    stop.cancel();
    drain(&mut tasks, args.shutdown_grace, &admin_stop).await;
    ledger.close().await;
    traces.close(LAST_TRACES).await;
    match &result {
        Ok(()) => tracing::info!("ended"),
        Err(error) => tracing::error!(%error, "ending"),
    }
    result
}

/// From the first look at the API server to the end of work. Returns when the process should end.
async fn lead(
    args: &RunArgs,
    stop: &CancellationToken,
    tasks: &mut Parts,
    (clock, metrics, gates): (Clock, &Metrics, &Gates),
    (ledger, profiles, traces): (Arc<dyn Ledger>, Arc<Profiles>, &Traces),
    door: Option<gateway::Door>,
) -> Result<(), AppError> {
    let identity = args.identity.clone().unwrap_or_else(default_identity);
    let clients = Clients::connect(args.kubeconfig.as_deref(), &identity).await?;
    let Some(()) = until(stop, tasks, discovery::wait_until_served(&clients.calls)).await? else { return Ok(()) };
    gates.set(Gate::Crds, true);

    let leadership = Leadership::default();
    let mut parts =
        parts::build(args, &clients, &identity, &leadership, (clock, metrics, traces.clone()), (ledger, profiles))?;
    parts.start_audit(stop, tasks);
    for mirror in parts.mirrors {
        let stop = stop.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = mirror => {}
                () = stop.cancelled() => {}
            }
            ("mirror", Ok(()))
        });
    }
    let ctx = Arc::clone(&parts.ctx);
    if let Some(door) = door {
        let (args, bell, keys, clients, audit) =
            (&args.gateway, &parts.bell, &parts.keys, &clients, &parts.audit_queue);
        let needs = gateway::Needs { args, ctx: &ctx, clients, keys, bell, audit, gates, clock, metrics };
        gateway::start(door, &needs, stop, tasks)?;
    }
    let Some(()) = until(stop, tasks, ctx.stores.ready()).await? else { return Ok(()) };
    gates.set(Gate::Stores, true);
    tracing::info!(identity, "ready; waiting for the leader lease");

    let config = LeaseConfig { namespace: args.lease_namespace.clone(), name: args.lease_name.clone(), identity };
    let mut elector = Elector::new(clients.lease, config, clock, leadership);
    let standing_by = stop.child_token();
    let following = tokio::spawn(follow(Arc::clone(&ctx), standing_by.clone()));
    let elected = until(stop, tasks, elector.acquire(stop)).await;
    standing_by.cancel();
    following.await.map_err(|_| AppError::PartEnded("standby"))?;
    let Some(true) = elected? else { return Ok(()) };
    gates.set_leading(true);
    parts.leading.set(1);
    let lease_stop = stop.clone();
    tasks.spawn(async move { ("lease", elector.hold(&lease_stop).await.map_err(AppError::from)) });
    parts::start(parts.work, args, stop, tasks);

    let Some(()) = until(stop, tasks, std::future::pending::<()>()).await? else { return Ok(()) };
    Ok(())
}

/// Waits for `awaited`; `None` if the process is asked to stop first, an error if a part ends first.
async fn until<T>(
    stop: &CancellationToken,
    tasks: &mut Parts,
    awaited: impl Future<Output = T>,
) -> Result<Option<T>, AppError> {
    tokio::select! {
        // In this order: parts that end because the process was asked to stop are no surprise.
        biased;
        () = stop.cancelled() => Ok(None),
        done = awaited => Ok(Some(done)),
        Some(end) = tasks.join_next() => Err(match end {
            Ok((_, Err(error))) => error,
            Ok((name, Ok(()))) => AppError::PartEnded(name),
            Err(_) => AppError::PartEnded("(a task panicked)"),
        }),
    }
}

/// Lets the parts finish what is in flight; the admin port answers until the end.
async fn drain(tasks: &mut Parts, grace: Duration, admin_stop: &CancellationToken) {
    let finished = tokio::time::timeout(grace, async {
        // All but the admin port end by themselves.
        while tasks.len() > 1 {
            if tasks.join_next().await.is_none() {
                break;
            }
        }
    })
    .await;
    if finished.is_err() {
        tracing::warn!(
            left = tasks.len() - 1,
            "the grace time is over; ending with work in flight, which stands on the ledger's leases"
        );
    }
    admin_stop.cancel();
    let _ = tokio::time::timeout(Duration::from_millis(500), tasks.join_next()).await;
}

async fn named(
    name: &'static str,
    part: impl Future<Output = std::io::Result<()>>,
) -> (&'static str, Result<(), AppError>) {
    let result = part.await.map_err(|source| AppError::Io { what: name.to_owned(), source });
    (name, result)
}

async fn bind(args: &RunArgs, door: Option<&gateway::Door>) -> Result<TcpListener, AppError> {
    let error = |source| AppError::Bind { address: args.admin_address, source };
    let listener = TcpListener::bind(args.admin_address).await.map_err(error)?;
    let address = listener.local_addr().map_err(error)?;
    tracing::info!(%address, version = crate::cli::VERSION, commit = crate::cli::COMMIT, "admin port bound");
    if let Some(path) = &args.announce_file {
        let text = json!({ "admin": address.to_string(), "gateway": door.map(gateway::Door::url) }).to_string();
        let half = path.with_extension("tmp");
        // Renamed into place, so that nobody reads half of it.
        std::fs::write(&half, text)
            .and_then(|()| std::fs::rename(&half, path))
            .map_err(|source| AppError::Io { what: format!("writing {}", path.display()), source })?;
    }
    Ok(listener)
}

/// The host's name, which in a Pod is the Pod's, and something that tells two starts apart.
fn default_identity() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = if host.trim().is_empty() { "busbar" } else { host.trim() };
    let id = uuid::Uuid::new_v4().simple().to_string();
    format!("{host}-{}", &id[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_that_ends_or_panics_ends_the_process_and_is_named() {
        for (part, wanted) in [("probes", "the part probes ended unexpectedly"), ("", "(a task panicked)")] {
            let mut tasks = Parts::new();
            tasks.spawn(std::future::pending());
            tasks.spawn(async move {
                assert!(!part.is_empty(), "a defect");
                (part, Ok(()))
            });
            let waited = until(&CancellationToken::new(), &mut tasks, std::future::pending::<()>()).await;
            let error = waited.unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
        }
    }

    #[tokio::test]
    async fn parts_that_end_because_of_a_stop_are_no_surprise() {
        let (stop, mut tasks) = (CancellationToken::new(), Parts::new());
        tasks.spawn(async { ("probes", Ok(())) });
        stop.cancel();
        tokio::task::yield_now().await;
        assert!(until(&stop, &mut tasks, std::future::pending::<()>()).await.unwrap().is_none());
    }
}
