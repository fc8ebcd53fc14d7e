//! Flags of the Kubernetes Jobs that runs are with `execution: Job`.

use clap::Args;

use crate::ledger::LedgerUrl;

/// Flags of the Jobs.
#[derive(Clone, Debug, Default, Args)]
pub struct JobArgs {
    /// Image of the Kubernetes Jobs for `execution: Job`, such as the operator's own. Default: none; such jobs are Stalled.
    #[arg(long, env = "BUSBAR_JOB_IMAGE", value_name = "IMAGE", requires = "job_ledger")]
    pub job_image: Option<String>,
    /// URL of the ledger in the Pods of the Jobs: `postgres://…`, without a password. Files that it names are those of
    /// `--job-ledger-secret`, in /etc/busbar/ledger.
    #[arg(long, env = "BUSBAR_JOB_LEDGER", value_name = "URL", value_parser = shared_ledger, requires = "job_image")]
    pub job_ledger: Option<JobLedger>,
    /// `ServiceAccount` of the Jobs, in the namespace of the `SyncJob`; bind `ClusterRole` busbar-sync to it.
    #[arg(long, env = "BUSBAR_JOB_SERVICE_ACCOUNT", value_name = "NAME", default_value = "busbar-sync")]
    pub job_service_account: String,
    /// Secret with the `password` of the ledger's user, in the namespace of the `SyncJob`. Default: none.
    #[arg(long, env = "BUSBAR_JOB_LEDGER_SECRET", value_name = "NAME")]
    pub job_ledger_secret: Option<String>,
    /// Secret with the encryption keys, in the namespace of the `SyncJob`; the same keys as `--key-secret`. Default: none.
    #[arg(long, env = "BUSBAR_JOB_KEY_SECRET", value_name = "NAME")]
    pub job_key_secret: Option<String>,
}

/// The ledger of the Jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobLedger {
    /// Its URL. It stays text, because it is an argument of the Pods.
    Url(String),
    /// A URL with a password: refused at the start and not while it is parsed, because the parser of arguments prints what
    /// it refuses.
    WithPassword,
}

/// Checks the URL of a ledger that Pods can share.
fn shared_ledger(text: &str) -> Result<JobLedger, String> {
    match text.parse::<LedgerUrl>()? {
        LedgerUrl::Postgres(_) => Ok(JobLedger::Url(text.to_owned())),
        LedgerUrl::Sqlite(_) => Err("must be postgres://…: Pods cannot share a file".to_owned()),
        LedgerUrl::WithPassword => Ok(JobLedger::WithPassword),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::JobLedger;
    use crate::cli::{Cli, Command};

    fn parse(args: &[&str]) -> Result<Option<JobLedger>, String> {
        let all = [&["busbar", "run"], args].concat();
        match Cli::try_parse_from(all).map_err(|error| error.to_string())?.command {
            Command::Run(args) => Ok(args.jobs.job_ledger),
            _ => Err("another command".to_owned()),
        }
    }

    #[test]
    fn the_ledger_of_jobs_is_a_server_without_a_password() {
        let given = |ledger: &str| parse(&["--job-image=busbar:1", &format!("--job-ledger={ledger}")]);
        let url = "postgres://busbar@db.test:5432/ledger";
        assert_eq!(given(url), Ok(Some(JobLedger::Url(url.to_owned()))));
        assert!(given("sqlite:/data/busbar.db").unwrap_err().contains("cannot share a file"));
        // Kept as nothing: the parser of arguments would print it.
        assert_eq!(given("postgres://busbar:canary-not-real@db.test/ledger"), Ok(Some(JobLedger::WithPassword)));
        assert!(parse(&["--job-image=busbar:1"]).unwrap_err().contains("--job-ledger"));
    }
}
