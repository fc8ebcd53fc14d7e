//! Flags of `busbar audit`: checks of the recorded routing decisions, offline, on the ledger itself.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::ledger::LedgerUrl;

/// The subcommands of `busbar audit`.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Check the hash chain of the decisions in a ledger: a record that was changed, removed or moved is named. Exits with
    /// 0 verified, 3 broken.
    Verify(AuditArgs),
    /// Decide every recorded payout again, from the recorded snapshot and request, and compare with the recorded bank.
    /// Exits with 0 all equal, 3 otherwise.
    Replay(ReplayArgs),
}

/// Arguments of all subcommands of `busbar audit`.
#[derive(Clone, Debug, Args)]
pub struct AuditArgs {
    /// URL of the ledger, as passed to the operator: `sqlite:PATH` or `postgres://USER@HOST:PORT/DATABASE`. It is only
    /// read; the operator may run.
    #[arg(long, env = "BUSBAR_LEDGER", default_value = "sqlite:busbar.db", hide_env_values = true)]
    pub ledger: LedgerUrl,
    /// File with the password of the ledger's user on a PostgreSQL server.
    #[arg(long, env = "BUSBAR_LEDGER_PASSWORD_FILE", value_name = "FILE")]
    pub ledger_password_file: Option<PathBuf>,
}

/// Arguments of `busbar audit replay`.
#[derive(Clone, Debug, Args)]
pub struct ReplayArgs {
    /// Arguments of the other subcommands.
    #[command(flatten)]
    pub common: AuditArgs,
    /// Number of threads; default: one for each core.
    #[arg(long)]
    pub threads: Option<NonZeroUsize>,
}

impl AuditArgs {
    /// The ledger, with what is needed to connect to it.
    pub fn ledger(&self) -> LedgerUrl {
        self.ledger.clone().with_password_file(self.ledger_password_file.as_deref())
    }
}
