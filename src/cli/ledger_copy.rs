//! Flags of the subcommands of `busbar ledger` that copy a whole ledger, or accept that a part of it is lost.

use std::path::PathBuf;

use clap::Args;

use crate::ledger::LedgerUrl;

/// Arguments of `busbar ledger backup`.
#[derive(Clone, Debug, Args)]
pub struct BackupArgs {
    /// URL of the ledger.
    #[arg(long, env = "BUSBAR_LEDGER", default_value = "sqlite:busbar.db", hide_env_values = true)]
    pub ledger: LedgerUrl,
    /// File with the password of the ledger's user on a PostgreSQL server.
    #[arg(long, env = "BUSBAR_LEDGER_PASSWORD_FILE", value_name = "FILE")]
    pub ledger_password_file: Option<PathBuf>,
    /// File of the backup; must not exist.
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,
}

/// Arguments of `busbar ledger restore`.
#[derive(Clone, Debug, Args)]
pub struct RestoreArgs {
    /// File of the backup.
    #[arg(long, value_name = "FILE")]
    pub from: PathBuf,
    /// URL of the ledger, which must be empty; a missing file is created.
    #[arg(long, env = "BUSBAR_LEDGER", default_value = "sqlite:busbar.db", hide_env_values = true)]
    pub ledger: LedgerUrl,
    /// File with the password of the ledger's user on a PostgreSQL server.
    #[arg(long, env = "BUSBAR_LEDGER_PASSWORD_FILE", value_name = "FILE")]
    pub ledger_password_file: Option<PathBuf>,
    /// Accept that what was written after the backup is lost: the operator leads with the restored ledger.
    #[arg(long)]
    pub accept_loss: bool,
}

/// Arguments of `busbar ledger migrate`.
#[derive(Clone, Debug, Args)]
pub struct MigrateArgs {
    /// URL of the ledger to copy; no operator may use it.
    #[arg(long, env = "BUSBAR_LEDGER", default_value = "sqlite:busbar.db", hide_env_values = true)]
    pub ledger: LedgerUrl,
    /// File with the password of the ledger's user on a PostgreSQL server.
    #[arg(long, env = "BUSBAR_LEDGER_PASSWORD_FILE", value_name = "FILE")]
    pub ledger_password_file: Option<PathBuf>,
    /// URL of the new ledger, which must be empty.
    #[arg(long, value_name = "URL")]
    pub to: LedgerUrl,
    /// File with the password of the new ledger's user on a PostgreSQL server.
    #[arg(long, value_name = "FILE")]
    pub to_password_file: Option<PathBuf>,
}

/// Arguments of `busbar ledger accept-loss`.
#[derive(Clone, Debug, Args)]
pub struct AcceptLossArgs {
    /// URL of the ledger.
    #[arg(long, env = "BUSBAR_LEDGER", default_value = "sqlite:busbar.db", hide_env_values = true)]
    pub ledger: LedgerUrl,
    /// File with the password of the ledger's user on a PostgreSQL server.
    #[arg(long, env = "BUSBAR_LEDGER_PASSWORD_FILE", value_name = "FILE")]
    pub ledger_password_file: Option<PathBuf>,
}

impl BackupArgs {
    /// The ledger, with what is needed to connect to it.
    pub fn ledger(&self) -> LedgerUrl {
        self.ledger.clone().with_password_file(self.ledger_password_file.as_deref())
    }
}

impl RestoreArgs {
    /// The ledger, with what is needed to connect to it.
    pub fn ledger(&self) -> LedgerUrl {
        self.ledger.clone().with_password_file(self.ledger_password_file.as_deref())
    }
}

impl MigrateArgs {
    /// The new ledger, with what is needed to connect to it.
    pub fn to(&self) -> LedgerUrl {
        self.to.clone().with_password_file(self.to_password_file.as_deref())
    }

    /// The ledger, with what is needed to connect to it.
    pub fn ledger(&self) -> LedgerUrl {
        self.ledger.clone().with_password_file(self.ledger_password_file.as_deref())
    }
}

impl AcceptLossArgs {
    /// The ledger, with what is needed to connect to it.
    pub fn ledger(&self) -> LedgerUrl {
        self.ledger.clone().with_password_file(self.ledger_password_file.as_deref())
    }
}
