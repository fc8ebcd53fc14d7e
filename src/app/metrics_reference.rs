//! `docs/reference/metrics.md`: builds the operator's components without starting them, and lists the metrics that they
//! have registered. A metric can so not be missing from the page.

use std::path::Path;
use std::sync::Arc;

use clap::Parser as _;
use kube::Config;
use tokio::sync::Notify;

use crate::admin::gates::Gates;
use crate::app::base_deps::BaseDeps;
use crate::app::error::AppError;
use crate::app::outbox_wiring;
use crate::app::process_metrics;
use crate::app::webhook_wiring;
use crate::app::wiring;
use crate::cli::{Cli, Command, RunArgs};
use crate::clock::Clock;
use crate::cluster::auth::Authorizer;
use crate::cluster::client::Clients;
use crate::cluster::kube_reviewer::KubeReviewer;
use crate::cluster::lease::Leadership;
use crate::gateway::dead_requests::recorder::DeadRequestRecorder;
use crate::gateway::metrics::GatewayMetrics;
use crate::http_server::metrics::PortMetrics;
use crate::ledger::encryption::Keyring;
use crate::ledger::{self, LedgerUrl, OpenMode};
use crate::metrics::{Metrics, info};
use crate::profile::Profiles;
use crate::tasks::TaskGroups;
use crate::telemetry::log_writer::LogWriter;
use crate::telemetry::traces::Traces;

/// The relay's metrics exist with a broker only; nothing is sent to it.
const BROKER: &str = "--amqp=amqp://localhost";

/// The text of the page.
pub(super) async fn markdown() -> Result<String, AppError> {
    let folder = std::env::temp_dir().join(format!("busbar-docs-{}", uuid::Uuid::new_v4().simple()));
    let io = |what: &str| {
        let what = format!("{what} {}", folder.display());
        move |source| AppError::Io { what, source }
    };
    std::fs::create_dir(&folder).map_err(io("creating"))?;
    let metrics = Metrics::new();
    let registered = Box::pin(register(&metrics, &folder)).await;
    std::fs::remove_dir_all(&folder).map_err(io("removing"))?;
    registered?;
    Ok(info::markdown(metrics.described()))
}

/// Registers the metrics of every component; the ledger is a file in `folder`.
async fn register(metrics: &Metrics, folder: &Path) -> Result<(), AppError> {
    let (clock, gates) = (Clock::system(), Gates::default());
    // Nothing is sent to these addresses: no component is started.
    let flags = ["busbar", "run", "--compat-metrics=finastra,mono,providers,routing", "--partition-metrics", BROKER];
    let Ok(Cli { command: Command::Run(args), .. }) = Cli::try_parse_from(flags) else { return Ok(()) };
    let args: RunArgs = *args;
    let mut server = Config::new(http::Uri::from_static("https://localhost:6443"));
    // Not those of this machine, which may have none.
    server.root_cert = Some(Vec::new());
    let clients = Clients::from_config(server, "docs", metrics)?;
    let ledger = ledger::open(&LedgerUrl::Sqlite(folder.join("ledger.db")), OpenMode::Migrate).await?;

    process_metrics::register(metrics)?;
    let writer = LogWriter::start(std::io::sink())
        .map_err(|source| AppError::Io { what: "starting the log writer".into(), source })?;
    writer.register(metrics)?;
    let tasks = TaskGroups::new(metrics)?;
    PortMetrics::new(metrics)?;
    Traces::register(metrics)?;
    let base = BaseDeps {
        args: &args,
        clock,
        metrics,
        gates: &gates,
        traces: Traces::off(),
        tasks,
        ledger: Arc::clone(&ledger),
        profiles: Arc::new(Profiles::load(None)?),
    };
    let wiring = wiring::build(&base, &clients, "docs", &Leadership::default())?;
    outbox_wiring::event_publishing(&base, "docs")?;
    webhook_wiring::webhooks(&base, &wiring.ctx, "docs")?;
    GatewayMetrics::new(metrics)?;
    DeadRequestRecorder::new(Arc::clone(&ledger), Keyring::default(), clock, Arc::new(Notify::new()), metrics)?;
    let reviewer = || Arc::new(KubeReviewer::new(clients.calls.clone(), Vec::new()));
    Authorizer::new(reviewer(), clock, metrics)?;
    Authorizer::for_scrapers(reviewer(), clock, metrics)?;
    drop(wiring);
    ledger.close().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_metrics_reference_is_up_to_date_and_has_the_metrics_of_every_component() {
        let page = markdown().await.unwrap();
        for name in [
            "busbar_audit_refusals_omitted_total",
            "busbar_breaker_state",
            "busbar_build_info",
            "busbar_gateway_reviews_total",
            "busbar_log_lines_dropped_total",
            "busbar_resource_condition",
            "busbar_route_failovers_total",
            "busbar_sync_failure_streak",
            "busbar_trace_spans_total",
            "circuit_breaker_state",
            "controller_runtime_reconcile_errors_total",
            "process_resident_memory_bytes",
            "rest_client_requests_total",
            "workqueue_depth",
        ] {
            assert!(page.contains(&format!("\n| `{name}` | ")), "{name} is not in\n{page}");
        }
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/metrics.md");
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(committed == page, "docs/reference/metrics.md is out of date: run `make docs`");
    }
}
