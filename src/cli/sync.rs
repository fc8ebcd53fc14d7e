//! Flags of `busbar sync`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use uuid::Uuid;

use super::parse::{log_level, response_memory};
use crate::domain::key::ObjectKey;
use crate::ledger::{LedgerUrl, RunTrigger};
use crate::settings::addresses::AllowedRange;
use crate::telemetry::LogFormat;

/// Arguments of `busbar sync`.
#[derive(Debug, Args)]
pub struct SyncArgs {
    /// What to do instead of a run.
    #[command(subcommand)]
    pub command: Option<SyncCommand>,
    /// `SyncJob` to run.
    #[arg(value_name = "NAMESPACE/NAME", value_parser = job_key)]
    pub job: Option<ObjectKey>,
    /// Where the job and the ledger are.
    #[command(flatten)]
    pub target: SyncTargetArgs,
    /// The run that an operator asks for.
    #[command(flatten)]
    pub request: SyncRequestArgs,
}

/// The subcommands of `busbar sync`.
#[derive(Debug, Subcommand)]
pub enum SyncCommand {
    /// Fetch and show what a run would write: counts and masked samples. Writes nothing to the ledger, whose rows are read
    /// for comparison.
    Plan(SyncPlanArgs),
}

/// Arguments of `busbar sync plan`.
#[derive(Debug, Args)]
pub struct SyncPlanArgs {
    /// `SyncJob` to plan a run of.
    #[arg(value_name = "NAMESPACE/NAME", value_parser = job_key)]
    pub job: ObjectKey,
    /// Maximum number of pages that are fetched of each partition.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub pages: u32,
    /// Maximum number of records that are shown.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=100))]
    pub samples: u32,
}

/// Flags that `busbar sync` and its subcommands share.
#[derive(Clone, Debug, Args)]
pub struct SyncTargetArgs {
    /// Manifest file or folder with the job, its `ProviderConnection` and the Secrets that it references; may be repeated.
    /// Default: they are read from the cluster.
    #[arg(long, short = 'f', value_name = "FILE|FOLDER", global = true)]
    pub manifests: Vec<PathBuf>,
    /// Kubeconfig file; default: `$KUBECONFIG` or `~/.kube/config`, else the Pod's ServiceAccount.
    #[arg(long, env = "BUSBAR_KUBECONFIG", global = true)]
    pub kubeconfig: Option<PathBuf>,
    /// URL of the ledger: `sqlite:PATH` or `postgres://…`.
    #[arg(long, env = "BUSBAR_LEDGER", default_value = "sqlite:busbar.db", global = true)]
    pub ledger: LedgerUrl,
    /// File with the password of the ledger's user on a PostgreSQL server.
    #[arg(long, env = "BUSBAR_LEDGER_PASSWORD_FILE", value_name = "FILE", global = true)]
    pub ledger_password_file: Option<PathBuf>,
    /// Identity of this process in the leases of the ledger. A process that starts again under the same identity takes its
    /// lease back at once; another one waits until it expires. Default: generated at startup.
    #[arg(long, env = "BUSBAR_IDENTITY", global = true)]
    pub identity: Option<String>,
    /// Folder of the encryption keys, as passed to the operator.
    #[arg(long, env = "BUSBAR_KEY_SECRET", value_name = "FOLDER", global = true)]
    pub key_secret: Option<PathBuf>,
    /// Folder of custom provider profiles, as passed to the operator.
    #[arg(long, env = "BUSBAR_PROFILES_DIR", value_name = "FOLDER", global = true)]
    pub profiles_dir: Option<PathBuf>,
    /// Non-public address ranges that connections to providers may use, as passed to the operator.
    #[arg(long, env = "BUSBAR_ALLOW_PROVIDER_ADDRESSES", value_name = "CIDR,…", value_delimiter = ',', global = true)]
    pub allow_provider_addresses: Vec<AllowedRange>,
    /// Memory for providers' responses (16MiB to 64GiB).
    #[arg(long, env = "BUSBAR_RESPONSE_MEMORY", default_value = "32MiB", value_parser = response_memory, global = true)]
    pub response_memory: u64,
    /// Log format.
    #[arg(long, env = "BUSBAR_LOG_FORMAT", value_enum, default_value_t = LogFormat::Json, global = true)]
    pub log_format: LogFormat,
    /// Log level, as tracing directives. Logs are written to standard error.
    #[arg(long, env = "BUSBAR_LOG_LEVEL", default_value = "info", value_parser = log_level, global = true)]
    pub log_level: String,
}

/// The run that an operator asks for with `execution: Job`. Not for users: without them it is a run of its own.
#[derive(Clone, Debug, Default, Args)]
pub struct SyncRequestArgs {
    /// ID of the run. If it was started before and has not ended, it goes on.
    #[arg(long, hide = true)]
    pub run_id: Option<Uuid>,
    /// What triggered the run.
    #[arg(long, hide = true, value_parser = trigger)]
    pub trigger: Option<RunTrigger>,
    /// The slot of the schedule that it serves.
    #[arg(long, hide = true)]
    pub slot: Option<Timestamp>,
    /// ID of the resync that it serves.
    #[arg(long, hide = true, requires_all = ["resync_from", "resync_to"])]
    pub resync: Option<String>,
    /// Start of the range of the resync.
    #[arg(long, hide = true, requires = "resync")]
    pub resync_from: Option<Timestamp>,
    /// End of the range of the resync.
    #[arg(long, hide = true, requires = "resync")]
    pub resync_to: Option<Timestamp>,
    /// Partition of the resync; may be repeated.
    #[arg(long, hide = true, requires = "resync")]
    pub resync_partition: Vec<String>,
}

impl SyncTargetArgs {
    /// The ledger, with the file of its password.
    pub fn ledger(&self) -> LedgerUrl {
        self.ledger.clone().with_password_file(self.ledger_password_file.as_deref())
    }
}

fn job_key(text: &str) -> Result<ObjectKey, String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok(ObjectKey::new(namespace, name))
        }
        _ => Err("must be NAMESPACE/NAME".to_owned()),
    }
}

fn trigger(text: &str) -> Result<RunTrigger, String> {
    RunTrigger::from_str(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn parse(args: &[&str]) -> Result<SyncArgs, String> {
        let all = [&["busbar", "sync"], args].concat();
        match Cli::try_parse_from(all).map_err(|error| error.to_string())?.command {
            Command::Sync(args) => Ok(*args),
            _ => Err("another command".to_owned()),
        }
    }

    #[test]
    fn a_run_takes_a_job_and_flags_in_any_order() {
        for args in [["team/books", "--identity", "me"], ["--identity", "me", "team/books"]] {
            let args = parse(&args).unwrap();
            assert_eq!((args.job, args.command.is_none()), (Some(ObjectKey::new("team", "books")), true));
            assert_eq!(args.target.identity.as_deref(), Some("me"));
        }
        for wrong in ["books", "/books", "team/", "a/b/c"] {
            assert!(parse(&[wrong]).unwrap_err().contains("must be NAMESPACE/NAME"), "{wrong}");
        }
    }

    #[test]
    fn a_plan_takes_the_flags_of_a_run_on_either_side() {
        for args in [["plan", "team/books", "-f", "x.yaml"], ["-f", "x.yaml", "plan", "team/books"]] {
            let args = parse(&args).unwrap();
            let Some(SyncCommand::Plan(plan)) = args.command else { panic!("{:?}", args.command) };
            assert_eq!((plan.job, plan.pages), (ObjectKey::new("team", "books"), 5));
            assert_eq!(args.target.manifests, [PathBuf::from("x.yaml")]);
        }
    }

    #[test]
    fn a_resync_needs_its_range() {
        let range = ["--resync-from", "2029-05-01T00:00:00Z", "--resync-to", "2029-06-01T00:00:00Z"];
        assert!(parse(&[&["team/books", "--resync", "may"], range.as_slice()].concat()).is_ok());
        assert!(parse(&["team/books", "--resync", "may"]).is_err());
        assert!(parse(&["team/books", "--trigger", "Sometimes"]).is_err());
    }
}
