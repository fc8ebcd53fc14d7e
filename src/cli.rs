//! The command line: every setting is a flag with a `BUSBAR_…` twin, and there is no configuration file.
//!
//! The only place that reads the environment (through clap). What is parsed here is checked here: a bad value ends the
//! process at start, with the name of the flag, not at noon.

pub mod gateway;
pub mod live;
pub mod telemetry;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::domain::duration::parse_duration;
use crate::domain::key::ObjectKey;
use crate::provider::addresses::AllowedRange;
use crate::telemetry::LogFormat;

/// Version and commit, as `--version` and `busbar_build_info` print them.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit this binary was built from, or `unknown` outside a checkout.
pub const COMMIT: &str = env!("BUSBAR_COMMIT");
const LONG_VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("BUSBAR_COMMIT"), ")");

/// Busbar keeps a business connected to its banks and financial-data providers.
#[derive(Debug, Parser)]
#[command(name = "busbar", version = LONG_VERSION, about, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the binary can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the operator.
    Run(Box<RunArgs>),
    /// Write the custom resource definitions, one file per kind.
    Crds(OutArgs),
    /// Write the generated reference documents.
    Docs(OutArgs),
    /// Show the settings that an object really has, and where each comes from.
    Explain(ExplainArgs),
    /// Look into the ledger.
    #[command(subcommand)]
    Ledger(LedgerCommand),
    /// Check something before it is used.
    #[command(subcommand)]
    Check(CheckCommand),
}

/// What can be checked.
#[derive(Debug, Subcommand)]
pub enum CheckCommand {
    /// Say whether files are usable as profiles of `--profiles-dir`, and where not, what to do.
    Profile(CheckProfileArgs),
    /// Call a provider for real: a list, one record by its id, and the metrics that this leaves. Skipped, with the reason
    /// printed, where no credentials are set.
    Live(Box<live::LiveArgs>),
}

/// Which profiles to check.
#[derive(Debug, Args)]
pub struct CheckProfileArgs {
    /// The files.
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
}

/// Where generated files go.
#[derive(Debug, Args)]
pub struct OutArgs {
    /// The folder to write into; it must exist.
    #[arg(long)]
    pub out: PathBuf,
}

/// What to explain.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// A manifest, a folder of manifests, `-` (no cluster is asked), or kind/name of an object in the cluster.
    #[arg(value_name = "FILE|KIND/NAME")]
    pub target: String,
    /// The object's namespace; unset: the manifest's, or that of the kubeconfig's context.
    #[arg(long, short)]
    pub namespace: Option<String>,
    /// How it is printed.
    #[arg(long, short, value_enum, default_value_t = ExplainFormat::Text)]
    pub output: ExplainFormat,
    /// Kubeconfig file; unset: the usual one.
    #[arg(long, env = "BUSBAR_KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,
    /// The folder of own profiles that the operator has.
    #[arg(long, env = "BUSBAR_PROFILES_DIR", value_name = "FOLDER")]
    pub profiles_dir: Option<PathBuf>,
}

/// How an explanation is printed.
#[derive(Copy, Clone, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ExplainFormat {
    /// A table for people.
    Text,
    /// A JSON list.
    Json,
    /// A YAML list.
    Yaml,
}

/// Read-only looks into the ledger.
#[derive(Debug, Subcommand)]
pub enum LedgerCommand {
    /// Print the newest transactions, masked as they are stored.
    Transactions(TransactionsArgs),
    /// Print the last health checks of a connection.
    Probes(ProbesArgs),
}

/// Which transactions to print.
#[derive(Debug, Args)]
pub struct TransactionsArgs {
    /// Where the ledger is.
    #[arg(long, env = "BUSBAR_LEDGER", default_value = "sqlite:busbar.db")]
    pub ledger: LedgerUrl,
    /// Only those of connections in this namespace.
    #[arg(long, short)]
    pub namespace: Option<String>,
    /// Only those of this connection.
    #[arg(long)]
    pub connection: Option<String>,
    /// How many rows at most.
    #[arg(long, default_value_t = 20)]
    pub limit: u32,
}

/// Which health checks to print.
#[derive(Debug, Args)]
pub struct ProbesArgs {
    /// The connection, as NAMESPACE/NAME.
    #[arg(value_name = "NAMESPACE/NAME", value_parser = object_key)]
    pub connection: ObjectKey,
    /// Where the ledger is.
    #[arg(long, env = "BUSBAR_LEDGER", default_value = "sqlite:busbar.db")]
    pub ledger: LedgerUrl,
    /// How many rows at most.
    #[arg(long, default_value_t = 20)]
    pub limit: u32,
}

/// Settings of the operator.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// Kubeconfig file; unset: the Pod's ServiceAccount, else the usual kubeconfig.
    #[arg(long, env = "BUSBAR_KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,
    /// Namespaces to watch, separated by commas; unset: all.
    #[arg(long, env = "BUSBAR_WATCH_NAMESPACES", value_delimiter = ',', value_parser = namespace)]
    pub watch_namespaces: Vec<String>,
    /// Namespace of the leader lease.
    #[arg(long, env = "BUSBAR_LEASE_NAMESPACE", default_value = "busbar-system")]
    pub lease_namespace: String,
    /// Name of the leader lease: operators that share it take turns.
    #[arg(long, env = "BUSBAR_LEASE_NAME", default_value = "busbar")]
    pub lease_name: String,
    /// This replica's name in the lease and in events; unset: one made at start. In a Pod: its name.
    #[arg(long, env = "BUSBAR_IDENTITY")]
    pub identity: Option<String>,
    /// Address of /livez, /readyz and /metrics. Port 0 takes a free one.
    #[arg(long, env = "BUSBAR_ADMIN_ADDRESS", default_value = "0.0.0.0:8081")]
    pub admin_address: SocketAddr,
    /// Where the ledger is: `sqlite:PATH`.
    #[arg(long, env = "BUSBAR_LEDGER", default_value = "sqlite:busbar.db")]
    pub ledger: LedgerUrl,
    /// How log lines look.
    #[arg(long, env = "BUSBAR_LOG_FORMAT", value_enum, default_value_t = LogFormat::Json)]
    pub log_format: LogFormat,
    /// What is logged, as tracing directives (`info`, `busbar=debug,info`). Changeable at run time: PUT /log-level.
    #[arg(long, env = "BUSBAR_LOG_LEVEL", default_value = "info", value_parser = log_level)]
    pub log_level: String,
    /// Reconciles that may run at once, per kind.
    #[arg(long, env = "BUSBAR_RECONCILE_CONCURRENCY", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub reconcile_concurrency: u16,
    /// Probes that may be in flight at once.
    #[arg(long, env = "BUSBAR_PROBE_CONCURRENCY", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub probe_concurrency: u16,
    /// Syncs that may run at once.
    #[arg(long, env = "BUSBAR_SYNC_CONCURRENCY", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub sync_concurrency: u16,
    /// How old a Secret's copy may grow before it is read again (1s to 60s).
    #[arg(long, env = "BUSBAR_SECRET_REFRESH", default_value = "60s", value_parser = secret_refresh)]
    pub secret_refresh: Duration,
    /// Folder that the Secret with the operator's keys is mounted at: each file one key of 32 random bytes or their base64.
    /// The key whose name comes last encrypts, all of them decrypt. Unset: nothing can be kept encrypted.
    #[arg(long, env = "BUSBAR_KEY_SECRET", value_name = "FOLDER")]
    pub key_secret: Option<PathBuf>,
    /// Ranges of addresses that providers may have although they are not public (private, loopback, link-local …),
    /// separated by commas, e.g. `10.20.0.0/16,fd00:20::/64`. Unset: public addresses only.
    #[arg(long, env = "BUSBAR_ALLOW_PROVIDER_ADDRESSES", value_name = "CIDR,…", value_delimiter = ',')]
    pub allow_provider_addresses: Vec<AllowedRange>,
    /// Folder of provider profiles of your own (`*.yaml`), each used as `provider: profile:<id>`. Read at start only: after a
    /// change, restart. `busbar check profile FILE` says beforehand what is wrong with one. Unset: the built-in ones only.
    #[arg(long, env = "BUSBAR_PROFILES_DIR", value_name = "FOLDER")]
    pub profiles_dir: Option<PathBuf>,
    /// How long the ledger keeps the result of each probe (1h to 720h); 0s: results are not written at all.
    #[arg(long, env = "BUSBAR_PROBE_RETENTION", default_value = "24h", value_parser = probe_retention)]
    pub probe_retention: Duration,
    /// How long a shutdown waits for work in flight before it ends the process (1s to 10m).
    #[arg(long, env = "BUSBAR_SHUTDOWN_GRACE", default_value = "20s", value_parser = shutdown_grace)]
    pub shutdown_grace: Duration,
    /// The gateway.
    #[command(flatten)]
    pub gateway: gateway::GatewayArgs,
    /// Traces and the series of the sources.
    #[command(flatten)]
    pub telemetry: telemetry::TelemetryArgs,
    /// File to write the bound addresses to, as JSON, once they are bound.
    #[arg(long, env = "BUSBAR_ANNOUNCE_FILE")]
    pub announce_file: Option<PathBuf>,
}

/// Where the ledger is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LedgerUrl {
    /// An embedded SQLite file.
    Sqlite(PathBuf),
}

impl std::str::FromStr for LedgerUrl {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s.strip_prefix("sqlite:") {
            Some(path) if !path.is_empty() => Ok(Self::Sqlite(path.into())),
            _ => Err("must be sqlite:PATH".into()),
        }
    }
}

/// An empty entry would be a watch of no namespace in particular: of all of them.
fn namespace(s: &str) -> Result<String, String> {
    let label = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if s.is_empty() || s.len() > 63 || !s.chars().all(label) {
        return Err("must be names of namespaces, separated by commas; leave the flag out to watch all".into());
    }
    Ok(s.to_owned())
}

fn object_key(s: &str) -> Result<ObjectKey, String> {
    match s.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok(ObjectKey::new(namespace, name))
        }
        _ => Err("must be NAMESPACE/NAME".into()),
    }
}

fn log_level(s: &str) -> Result<String, String> {
    crate::telemetry::filter(s).map(|_| s.to_owned()).map_err(|e| e.to_string())
}

fn secret_refresh(s: &str) -> Result<Duration, String> {
    bounded(s, Duration::from_secs(1), Duration::from_mins(1))
}

fn probe_retention(s: &str) -> Result<Duration, String> {
    if parse_duration(s).is_ok_and(|d| d.is_zero()) {
        return Ok(Duration::ZERO);
    }
    bounded(s, Duration::from_hours(1), Duration::from_hours(720))
}

fn shutdown_grace(s: &str) -> Result<Duration, String> {
    bounded(s, Duration::from_secs(1), Duration::from_mins(10))
}

fn bounded(s: &str, min: Duration, max: Duration) -> Result<Duration, String> {
    let d = parse_duration(s).map_err(|e| e.to_string())?;
    if d < min || d > max {
        return Err(format!("must be between {}s and {}s", min.as_secs(), max.as_secs()));
    }
    Ok(d)
}

/// The flags of `busbar run` as a Markdown table: flag, environment twin, default, meaning.
pub fn flags_reference() -> String {
    use std::fmt::Write as _;
    let mut out = String::from(
        "# Flags of `busbar run`\n\nGenerated by `make docs`. Every setting is a flag with an environment twin; the flag wins.\n\n\
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

/// A variable of the environment that has no flag of its own: the credentials of a user's profile are named by the profile.
#[expect(clippy::disallowed_methods, reason = "a flag must be known beforehand, and a profile's keys are not")]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_of_flags_is_what_the_flags_are() {
        assert!(
            include_str!("../docs/reference/flags.md") == flags_reference(),
            "docs/reference/flags.md is not what the flags say: run `make docs`"
        );
    }

    #[test]
    fn every_run_flag_has_a_busbar_twin() {
        let mut command = Cli::command();
        command.build();
        let run = command.find_subcommand("run").unwrap();
        for arg in run.get_arguments().filter(|a| a.get_id() != "help") {
            let env = arg.get_env().unwrap_or_else(|| panic!("--{} has no twin", arg.get_id())).to_string_lossy();
            let long = arg.get_long().unwrap().to_uppercase().replace('-', "_");
            assert_eq!(env, format!("BUSBAR_{long}"));
        }
    }

    #[test]
    fn a_value_out_of_bounds_is_refused_with_its_bounds() {
        let error = Cli::try_parse_from(["busbar", "run", "--secret-refresh", "2h"]).unwrap_err().to_string();
        assert!(error.contains("--secret-refresh") && error.contains("between 1s and 60s"), "{error}");
        let error = Cli::try_parse_from(["busbar", "run", "--ledger", "mysql:x"]).unwrap_err().to_string();
        assert!(error.contains("must be sqlite:PATH"), "{error}");
    }
}
