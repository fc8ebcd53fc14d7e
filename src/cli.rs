//! The command line: every setting is a flag with a `BUSBAR_…` environment variable, and there is no configuration
//! file.
//!
//! The only module that reads the environment (through clap). Values are validated while they are parsed: an invalid
//! value ends the process at startup with the name of the flag.

pub mod amqp;
pub mod audit;
pub mod gateway;
pub mod jobs;
pub mod ledger;
pub mod ledger_copy;
pub mod live;
mod parse;
pub mod route;
pub mod sync;
pub mod telemetry;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand};

use self::parse::{
    check_timeout, event_retention, log_level, namespace, probe_retention, response_memory, secret_refresh,
    shutdown_grace,
};
use crate::ledger::LedgerUrl;
use crate::settings::addresses::AllowedRange;
use crate::telemetry::LogFormat;

/// The version, as in `--version` and `busbar_build_info`.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit this binary was built from; `unknown` if it was built outside a Git checkout.
pub const COMMIT: &str = env!("BUSBAR_COMMIT");
const LONG_VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("BUSBAR_COMMIT"), ")");

/// Busbar keeps a business connected to its banks and financial-data providers.
#[derive(Debug, Parser)]
#[command(name = "busbar", version = LONG_VERSION, about, max_term_width = 100)]
pub struct Cli {
    /// The subcommand.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the operator.
    Run(Box<RunArgs>),
    /// Write the custom resource definitions to a folder, one file per kind.
    Crds(OutArgs),
    /// Write the generated reference documentation to a folder.
    Docs(OutArgs),
    /// Show the effective settings of an object and the source of each.
    Explain(ExplainArgs),
    /// Show which bank of a route takes a payout, and why.
    #[command(subcommand)]
    Route(route::RouteCommand),
    /// Check the recorded routing decisions of a ledger: the hash chain, and that each comes out the same again.
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Print records from the ledger, copy it, or restore it.
    #[command(subcommand)]
    Ledger(ledger::LedgerCommand),
    /// Run one `SyncJob` once, in this process; exits with 0 succeeded, 3 failed, 4 incomplete, 5 not run, 6 canceled.
    Sync(Box<sync::SyncArgs>),
    /// Validate provider profiles, or test a real provider.
    #[command(subcommand)]
    Check(CheckCommand),
}

/// The subcommands of `busbar check`.
#[derive(Debug, Subcommand)]
pub enum CheckCommand {
    /// Validate profile files for use in `--profiles-dir`; each error is printed with its position and how to fix it.
    Profile(CheckProfileArgs),
    /// Call a real provider: list records, get one by id, and write the resulting metrics. Skipped with a printed
    /// reason if no credentials are set.
    Live(Box<live::LiveArgs>),
    /// Check that an operator is installed and works: the kinds are served, and a replica renews the leader lease.
    Operator(CheckOperatorArgs),
    /// Check what a production ledger needs: encryption at rest, which must be declared, and no password in its URL.
    Ledger(CheckLedgerArgs),
}

/// Arguments of `busbar check ledger`.
#[derive(Debug, Args)]
pub struct CheckLedgerArgs {
    /// URL of the ledger, as passed to the operator.
    #[arg(long, env = "BUSBAR_LEDGER", default_value = "sqlite:busbar.db", hide_env_values = true)]
    pub ledger: LedgerUrl,
    /// Declares that the volume of the ledger, or the storage of its server, is encrypted.
    #[arg(long, env = "BUSBAR_LEDGER_ENCRYPTED_AT_REST")]
    pub encrypted_at_rest: bool,
    /// Fail if there are warnings.
    #[arg(long)]
    pub strict: bool,
}

/// Arguments of `busbar check operator`.
#[derive(Debug, Args)]
pub struct CheckOperatorArgs {
    /// Kubeconfig file; default: `$KUBECONFIG` or `~/.kube/config`, else the Pod's ServiceAccount.
    #[arg(long, env = "BUSBAR_KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,
    /// Namespace of the leader lease, as passed to the operator.
    #[arg(long, env = "BUSBAR_LEASE_NAMESPACE", default_value = "busbar-system")]
    pub lease_namespace: String,
    /// Name of the leader lease, as passed to the operator.
    #[arg(long, env = "BUSBAR_LEASE_NAME", default_value = "busbar")]
    pub lease_name: String,
    /// How long to wait for a working operator (1s to 10m).
    #[arg(long, default_value = "60s", value_parser = check_timeout)]
    pub timeout: Duration,
}

/// Arguments of `busbar check profile`.
#[derive(Debug, Args)]
pub struct CheckProfileArgs {
    /// Profile files to validate.
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
}

/// Arguments of `busbar crds` and `busbar docs`.
#[derive(Debug, Args)]
pub struct OutArgs {
    /// Output folder; must exist.
    #[arg(long)]
    pub out: PathBuf,
}

/// Arguments of `busbar explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// Manifest file, folder of manifests, or `-` for standard input (all read without a cluster), or KIND/NAME of an
    /// object in the cluster.
    #[arg(value_name = "FILE|KIND/NAME")]
    pub target: String,
    /// Namespace of the object; default: the manifest's, or that of the current kubeconfig context.
    #[arg(long, short)]
    pub namespace: Option<String>,
    /// Output format.
    #[arg(long, short, value_enum, default_value_t = ExplainFormat::Text)]
    pub output: ExplainFormat,
    /// Kubeconfig file; default: `$KUBECONFIG` or `~/.kube/config`.
    #[arg(long, env = "BUSBAR_KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,
    /// Folder of custom provider profiles, as passed to the operator.
    #[arg(long, env = "BUSBAR_PROFILES_DIR", value_name = "FOLDER")]
    pub profiles_dir: Option<PathBuf>,
}

/// Output format of `busbar explain`.
#[derive(Copy, Clone, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ExplainFormat {
    /// Table.
    Text,
    /// JSON list.
    Json,
    /// YAML list.
    Yaml,
}

/// Arguments of `busbar run`.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// Kubeconfig file; default: `$KUBECONFIG` or `~/.kube/config`, else the Pod's ServiceAccount.
    #[arg(long, env = "BUSBAR_KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,
    /// Namespaces to watch, comma-separated; default: all.
    #[arg(long, env = "BUSBAR_WATCH_NAMESPACES", value_delimiter = ',', value_parser = namespace)]
    pub watch_namespaces: Vec<String>,
    /// Namespace of the leader lease.
    #[arg(long, env = "BUSBAR_LEASE_NAMESPACE", default_value = "busbar-system")]
    pub lease_namespace: String,
    /// Name of the leader lease; of all replicas that share it, one is the leader.
    #[arg(long, env = "BUSBAR_LEASE_NAME", default_value = "busbar")]
    pub lease_name: String,
    /// Identity of this replica in the lease and in events, e.g. the Pod's name; default: generated at startup.
    #[arg(long, env = "BUSBAR_IDENTITY")]
    pub identity: Option<String>,
    /// Listen address of /livez, /readyz and /metrics; port 0 selects a free port. Default: 0.0.0.0:8081 in a Pod, else
    /// 127.0.0.1:8081.
    #[arg(long, env = "BUSBAR_ADMIN_ADDRESS", value_name = "ADDRESS:PORT")]
    pub admin_address: Option<SocketAddr>,
    /// Authorization of scrapes of /metrics. `kubernetes` requires a bearer token that the API server accepts
    /// (`TokenReview`) and whose user RBAC allows to `get` the non-resource URL /metrics (`SubjectAccessReview`).
    #[arg(long, env = "BUSBAR_METRICS_AUTH", value_enum, default_value_t = MetricsAuth::Off)]
    pub metrics_auth: MetricsAuth,
    /// URL of the ledger: `sqlite:PATH`, or `postgres://USER@HOST:PORT/DATABASE` for a server that replicas share. The
    /// server's certificate is verified (`sslmode=verify-full`), by default with public authorities; `sslrootcert=FILE`
    /// names your own.
    #[arg(long, env = "BUSBAR_LEDGER", default_value = "sqlite:busbar.db", hide_env_values = true)]
    pub ledger: LedgerUrl,
    /// File with the password of the ledger's user on a PostgreSQL server; read again with each connection, so that it is
    /// rotated without a restart. Default: the environment variable PGPASSWORD, if set.
    #[arg(long, env = "BUSBAR_LEDGER_PASSWORD_FILE", value_name = "FILE")]
    pub ledger_password_file: Option<PathBuf>,
    /// The ledger is lost with the Pod, on purpose: lead also with one that is behind the leader lease. Default: refuse,
    /// until a backup is restored or `busbar ledger accept-loss` is run.
    #[arg(long, env = "BUSBAR_EPHEMERAL_LEDGER")]
    pub ephemeral_ledger: bool,
    /// Log format.
    #[arg(long, env = "BUSBAR_LOG_FORMAT", value_enum, default_value_t = LogFormat::Json)]
    pub log_format: LogFormat,
    /// Log level, as tracing directives (`info`, `busbar=debug,info`). Can be changed at run time with PUT /log-level
    /// on the admin address.
    #[arg(long, env = "BUSBAR_LOG_LEVEL", default_value = "info", value_parser = log_level)]
    pub log_level: String,
    /// Maximum concurrent reconciles per kind.
    #[arg(long, env = "BUSBAR_RECONCILE_CONCURRENCY", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub reconcile_concurrency: u16,
    /// Maximum concurrent probes. Connections whose last probe took longer than a second, and those of one host, have
    /// half of them each.
    #[arg(long, env = "BUSBAR_PROBE_CONCURRENCY", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub probe_concurrency: u16,
    /// Sync runs that work at a time, and at most so many in progress of one connection. A run that waits for its
    /// provider does not count: up to four times as many are in progress.
    #[arg(long, env = "BUSBAR_SYNC_CONCURRENCY", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub sync_concurrency: u16,
    /// Memory for providers' responses that are being read or returned (16MiB to 64GiB). Parsed pages of syncs take up to
    /// three quarters of it in addition. With the default a memory limit of 192 MiB is enough for small installations.
    #[arg(long, env = "BUSBAR_RESPONSE_MEMORY", default_value = "32MiB", value_parser = response_memory)]
    pub response_memory: u64,
    /// Maximum age of a cached Secret before it is read again (1s to 60s).
    #[arg(long, env = "BUSBAR_SECRET_REFRESH", default_value = "60s", value_parser = secret_refresh)]
    pub secret_refresh: Duration,
    /// Folder where the Secret with the encryption keys is mounted: each file is one key of 32 random bytes, raw or
    /// base64. The key whose name sorts last encrypts, all of them decrypt. Default: none; data that requires
    /// encryption cannot be stored.
    #[arg(long, env = "BUSBAR_KEY_SECRET", value_name = "FOLDER")]
    pub key_secret: Option<PathBuf>,
    /// Retention of events, which `GET /api/events` lists (1h to 43800h). Raw payloads are kept as their `SyncJob` says.
    #[arg(long, env = "BUSBAR_EVENT_RETENTION", default_value = "720h", value_parser = event_retention)]
    pub event_retention: Duration,
    /// Non-public address ranges (private, loopback, link-local …) that connections to providers may use,
    /// comma-separated, e.g. `10.20.0.0/16,fd00:20::/64`. Default: public addresses only.
    #[arg(long, env = "BUSBAR_ALLOW_PROVIDER_ADDRESSES", value_name = "CIDR,…", value_delimiter = ',')]
    pub allow_provider_addresses: Vec<AllowedRange>,
    /// Folder of custom provider profiles (`*.yaml`), each used as `provider: profile:<id>`. Read at startup only:
    /// restart after a change. Validate a file beforehand with `busbar check profile FILE`. Default: built-in profiles
    /// only.
    #[arg(long, env = "BUSBAR_PROFILES_DIR", value_name = "FOLDER")]
    pub profiles_dir: Option<PathBuf>,
    /// Retention of probe results in the ledger (1h to 720h); 0s: probe results are not stored.
    #[arg(long, env = "BUSBAR_PROBE_RETENTION", default_value = "24h", value_parser = probe_retention)]
    pub probe_retention: Duration,
    /// Shutdown grace period: how long to wait for calls, token requests, sync runs and reconciles in flight (1s to
    /// 10m). Writing the ledger's queues and closing it takes 9s more at most.
    #[arg(long, env = "BUSBAR_SHUTDOWN_GRACE", default_value = "20s", value_parser = shutdown_grace)]
    pub shutdown_grace: Duration,
    /// Export series with the label `partition`, a keyed hash of the partition's name, for at most 200 partitions.
    #[arg(long, env = "BUSBAR_PARTITION_METRICS")]
    pub partition_metrics: bool,
    /// Flags of the Jobs of `execution: Job`.
    #[command(flatten)]
    pub jobs: jobs::JobArgs,
    /// Flags of the message broker.
    #[command(flatten)]
    pub amqp: amqp::AmqpArgs,
    /// Flags of the gateway.
    #[command(flatten)]
    pub gateway: gateway::GatewayArgs,
    /// Flags of traces and compatibility metrics.
    #[command(flatten)]
    pub telemetry: telemetry::TelemetryArgs,
    /// File to which the bound listen addresses are written as JSON at startup.
    #[arg(long, env = "BUSBAR_ANNOUNCE_FILE")]
    pub announce_file: Option<PathBuf>,
}

impl RunArgs {
    /// The ledger, with what is needed to connect to it.
    pub fn ledger(&self) -> LedgerUrl {
        self.ledger.clone().with_password_file(self.ledger_password_file.as_deref())
    }

    /// The listen address of the admin port.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address.unwrap_or_else(|| default_admin_address(environment(IN_POD).is_some()))
    }
}

/// Set by the kubelet in every container.
const IN_POD: &str = "KUBERNETES_SERVICE_HOST";

/// In a Pod the kubelet and the scrapers connect from other addresses; elsewhere only this machine has a use for the port.
fn default_admin_address(in_pod: bool) -> SocketAddr {
    let address = if in_pod { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST };
    SocketAddr::new(address.into(), ADMIN_PORT)
}

const ADMIN_PORT: u16 = 8081;

/// Authorization of scrapes of `/metrics`.
#[derive(Copy, Clone, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum MetricsAuth {
    /// Every client may scrape.
    Off,
    /// `TokenReview` and `SubjectAccessReview` by the API server.
    Kubernetes,
}

/// The flags of `busbar run` as a Markdown table: flag, environment variable, default, meaning.
pub fn flags_reference() -> String {
    use std::fmt::Write as _;
    let mut out = String::from(
        "# Flags of `busbar run`\n\nGenerated by `make docs`. \
         Every setting is a flag with an environment variable; the flag takes precedence.\n\n\
         | flag | environment | default | meaning |\n|---|---|---|---|\n",
    );
    let mut command = Cli::command();
    command.build();
    let Some(run) = command.find_subcommand("run") else { return out };
    for arg in run.get_arguments() {
        let (Some(long), Some(env)) = (arg.get_long(), arg.get_env()) else { continue };
        let default: Vec<_> = arg.get_default_values().iter().map(|v| v.to_string_lossy()).collect();
        let default = if default.is_empty() { "–".into() } else { format!("`{}`", default.join(",")) };
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(out, "| `--{long}` | `{}` | {default} | {help} |", env.to_string_lossy());
    }
    out
}

/// An environment variable without a flag: a credential whose name comes from a custom profile.
#[expect(clippy::disallowed_methods, reason = "flags are static, and a profile's credential keys are not")]
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_reference_is_up_to_date() {
        assert!(
            include_str!("../docs/reference/flags.md") == flags_reference(),
            "docs/reference/flags.md is out of date: run `make docs`"
        );
    }

    #[test]
    fn every_run_flag_has_an_environment_variable() {
        let mut command = Cli::command();
        command.build();
        let run = command.find_subcommand("run").unwrap();
        for arg in run.get_arguments().filter(|a| a.get_id() != "help") {
            let env = arg
                .get_env()
                .unwrap_or_else(|| panic!("--{} has no environment variable", arg.get_id()))
                .to_string_lossy();
            let long = arg.get_long().unwrap().to_uppercase().replace('-', "_");
            assert_eq!(env, format!("BUSBAR_{long}"));
        }
    }

    #[test]
    fn the_admin_port_listens_on_loopback_outside_a_pod_and_where_it_is_told() {
        assert_eq!(default_admin_address(true).to_string(), "0.0.0.0:8081");
        assert_eq!(default_admin_address(false).to_string(), "127.0.0.1:8081");
        let Ok(Cli { command: Command::Run(args), .. }) =
            Cli::try_parse_from(["busbar", "run", "--admin-address", "[::1]:9"])
        else {
            panic!("the arguments are valid")
        };
        assert_eq!(args.admin_address().to_string(), "[::1]:9");
    }

    #[test]
    fn an_out_of_range_value_is_rejected_with_the_allowed_range() {
        let error = Cli::try_parse_from(["busbar", "run", "--secret-refresh", "2h"]).unwrap_err().to_string();
        assert!(error.contains("--secret-refresh") && error.contains("between 1s and 60s"), "{error}");
        let error = Cli::try_parse_from(["busbar", "run", "--ledger", "mysql:x"]).unwrap_err().to_string();
        assert!(error.contains("must be sqlite:PATH or postgres://USER@HOST:PORT/DATABASE"), "{error}");
    }
}
