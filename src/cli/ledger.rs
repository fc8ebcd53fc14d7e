//! Flags of `busbar ledger`. All subcommands that print take the same selection: an object as `NAMESPACE/NAME`, or as `NAME` with
//! `-n`, or only a namespace.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::ledger_copy::{AcceptLossArgs, BackupArgs, MigrateArgs, RestoreArgs};
use crate::domain::key::ObjectKey;
use crate::ledger::LedgerUrl;

/// The subcommands of `busbar ledger`.
#[derive(Debug, Subcommand)]
pub enum LedgerCommand {
    /// Print the newest transactions of a connection, with sensitive fields masked as stored.
    Transactions(TransactionsArgs),
    /// Print the newest documents of a connection, with sensitive fields masked as stored.
    Documents(StreamArgs),
    /// Print the accounts of a connection, last changed first, with sensitive fields masked as stored.
    Accounts(StreamArgs),
    /// Print the balances of a connection, last changed first.
    Balances(StreamArgs),
    /// Print the collaterals of a connection, last changed first, with sensitive fields masked as stored.
    Collaterals(StreamArgs),
    /// Print the quotes of a connection, last changed first.
    Quotes(StreamArgs),
    /// Print the observations of a connection, last changed first.
    Observations(StreamArgs),
    /// Print the articles of a connection, last changed first.
    Articles(StreamArgs),
    /// Print the rejected records of a connection: field, reason, and the record's structure without its values.
    DeadLetters(StreamArgs),
    /// Print the latest runs of a `SyncJob`, with the cause of those that did not succeed.
    Runs(LedgerArgs),
    /// Print the stored requests to a connection that failed, without their parameters.
    DeadRequests(LedgerArgs),
    /// Print the latest entries of the audit log about a connection.
    Audit(LedgerArgs),
    /// Print the latest health checks of a connection.
    Probes(LedgerArgs),
    /// Write a consistent copy of the ledger to a file, beside a running operator.
    Backup(BackupArgs),
    /// Restore a backup into an empty ledger.
    Restore(RestoreArgs),
    /// Copy the ledger into an empty one, of the same or another engine, while no operator uses it.
    Migrate(MigrateArgs),
    /// Let the operator lead with a ledger that is behind the leader lease: what it lacks is lost.
    AcceptLoss(AcceptLossArgs),
}

/// Arguments of all subcommands of `busbar ledger`.
#[derive(Clone, Debug, Args)]
pub struct LedgerArgs {
    /// Only rows of this object: a connection, or for `runs` a `SyncJob`. Default: all.
    #[arg(value_name = "NAMESPACE/NAME", value_parser = selected_object)]
    pub object: Option<SelectedObject>,
    /// Only rows of this namespace.
    #[arg(long, short)]
    pub namespace: Option<String>,
    /// URL of the ledger, as passed to the operator: `sqlite:PATH` or `postgres://USER@HOST:PORT/DATABASE`.
    #[arg(long, env = "BUSBAR_LEDGER", default_value = "sqlite:busbar.db", hide_env_values = true)]
    pub ledger: LedgerUrl,
    /// File with the password of the ledger's user on a PostgreSQL server.
    #[arg(long, env = "BUSBAR_LEDGER_PASSWORD_FILE", value_name = "FILE")]
    pub ledger_password_file: Option<PathBuf>,
    /// Maximum number of rows.
    #[arg(long, default_value_t = 20)]
    pub limit: u32,
}

/// Arguments of the subcommands of `busbar ledger` for records and dead letters.
#[derive(Clone, Debug, Args)]
pub struct StreamArgs {
    /// Arguments of all subcommands.
    #[command(flatten)]
    pub common: LedgerArgs,
    /// Only rows of this stream.
    #[arg(long)]
    pub stream: Option<String>,
}

/// Arguments of `busbar ledger transactions`.
#[derive(Clone, Debug, Args)]
pub struct TransactionsArgs {
    /// Arguments of the other subcommands.
    #[command(flatten)]
    pub selection: StreamArgs,
    /// Only transactions of the connection with this name; the same as NAME.
    #[arg(long, conflicts_with = "object")]
    pub connection: Option<String>,
}

/// An object as `NAMESPACE/NAME` or as `NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectedObject {
    namespace: Option<String>,
    name: String,
}

/// What a command selects. Unset parts match all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// The namespace.
    pub namespace: Option<String>,
    /// The object's name.
    pub name: Option<String>,
}

impl LedgerArgs {
    /// The ledger, with what is needed to connect to it.
    pub fn ledger(&self) -> LedgerUrl {
        self.ledger.clone().with_password_file(self.ledger_password_file.as_deref())
    }

    /// What the arguments select.
    ///
    /// # Errors
    /// If the object and `--namespace` name two namespaces.
    pub fn selection(&self) -> Result<Selection, String> {
        let Some(object) = &self.object else { return Ok(Selection { namespace: self.namespace.clone(), name: None }) };
        match (&object.namespace, &self.namespace) {
            (Some(one), Some(other)) if one != other => {
                Err(format!("{one}/{} is not in the namespace {other} of --namespace; set one of them", object.name))
            }
            (one, other) => {
                Ok(Selection { namespace: one.as_ref().or(other.as_ref()).cloned(), name: Some(object.name.clone()) })
            }
        }
    }
}

impl Selection {
    /// The one object that is selected.
    ///
    /// # Errors
    /// If the namespace or the name is missing.
    pub fn object(self) -> Result<ObjectKey, String> {
        match (self.namespace, self.name) {
            (Some(namespace), Some(name)) => Ok(ObjectKey::new(namespace, name)),
            _ => Err("an object is required: NAMESPACE/NAME, or NAME with --namespace".to_owned()),
        }
    }
}

fn selected_object(text: &str) -> Result<SelectedObject, String> {
    let (namespace, name) = match text.split_once('/') {
        Some((namespace, name)) => (Some(namespace), name),
        None => (None, text),
    };
    if name.is_empty() || name.contains('/') || namespace.is_some_and(str::is_empty) {
        return Err("must be NAMESPACE/NAME, or NAME with --namespace".to_owned());
    }
    Ok(SelectedObject { namespace: namespace.map(str::to_owned), name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn selection(args: &[&str]) -> Result<Selection, String> {
        let all = [&["busbar", "ledger"], args].concat();
        let Command::Ledger(command) = Cli::try_parse_from(all).map_err(|error| error.to_string())?.command else {
            return Err("another command".to_owned());
        };
        match command {
            LedgerCommand::Transactions(args) => args.selection.common.selection(),
            LedgerCommand::Documents(args)
            | LedgerCommand::Accounts(args)
            | LedgerCommand::Balances(args)
            | LedgerCommand::Collaterals(args)
            | LedgerCommand::Quotes(args)
            | LedgerCommand::Observations(args)
            | LedgerCommand::Articles(args)
            | LedgerCommand::DeadLetters(args) => args.common.selection(),
            LedgerCommand::Runs(args)
            | LedgerCommand::DeadRequests(args)
            | LedgerCommand::Audit(args)
            | LedgerCommand::Probes(args) => args.selection(),
            _ => Err("another command".to_owned()),
        }
    }

    #[test]
    fn every_subcommand_takes_an_object_with_its_namespace_in_either_form() {
        let bank = Selection { namespace: Some("team".into()), name: Some("bank".into()) };
        let records =
            ["transactions", "documents", "accounts", "balances", "collaterals", "quotes", "observations", "articles"];
        for command in records.into_iter().chain(["dead-letters", "runs", "dead-requests", "audit", "probes"]) {
            for form in [&["team/bank"] as &[&str], &["bank", "-n", "team"], &["-n", "team", "team/bank"]] {
                assert_eq!(selection(&[&[command], form].concat()).as_ref(), Ok(&bank), "{command} {form:?}");
            }
            let all = selection(&[command, "--namespace", "team"]).unwrap();
            assert_eq!(all, Selection { namespace: Some("team".into()), name: None });
            let error = selection(&[command, "team/bank", "-n", "other"]).unwrap_err();
            assert!(error.contains("team/bank is not in the namespace other"), "{error}");
            for wrong in ["team/", "/bank", "a/b/c"] {
                assert!(selection(&[command, wrong]).unwrap_err().contains("must be NAMESPACE/NAME"), "{wrong}");
            }
        }
    }

    #[test]
    fn one_object_needs_a_namespace_and_a_name() {
        let object = |args: &[&str]| selection(args).unwrap().object();
        assert_eq!(object(&["probes", "team/bank"]), Ok(ObjectKey::new("team", "bank")));
        for args in [&["probes"] as &[&str], &["probes", "bank"], &["probes", "-n", "team"]] {
            assert!(object(args).unwrap_err().contains("NAME with --namespace"), "{args:?}");
        }
    }
}
