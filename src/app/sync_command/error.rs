//! How a run of a command line ended, and why there was none.

use std::fmt;

use crate::app::output::OutputError;
use crate::cluster::ApiError;
use crate::cluster::client::ClientError;
use crate::domain::key::{Kind, ObjectKey};
use crate::explain::manifests::ManifestError;
use crate::ledger::encryption::KeyringError;
use crate::ledger::{LedgerError, RunResult};
use crate::metrics::MetricsError;
use crate::profile::ProfileError;
use crate::resolve::SpecError;
use crate::sync::account_tokens::AccountTokenError;
use crate::telemetry::LogError;

/// How a command line's run ended, if it did not succeed.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct RunEnded {
    /// The result of the run.
    pub(crate) result: RunResult,
    /// Its reason.
    pub(crate) reason: Option<&'static str>,
}

impl RunEnded {
    /// The exit code of the process.
    pub(crate) const fn exit_code(self) -> u8 {
        match self.result {
            RunResult::Succeeded => 0,
            RunResult::Failed => 3,
            RunResult::Incomplete | RunResult::Interrupted => 4,
            RunResult::Skipped => 5,
            RunResult::Cancelled => 6,
        }
    }
}

impl fmt::Display for RunEnded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.result {
            RunResult::Succeeded => "sync succeeded",
            RunResult::Failed => "sync failed",
            RunResult::Incomplete | RunResult::Interrupted => "sync incomplete",
            RunResult::Skipped => "sync not run",
            RunResult::Cancelled => "sync canceled",
        };
        write!(f, "{what}: {}; committed pages are kept", self.reason.unwrap_or("see busbar ledger runs"))
    }
}

/// Why `busbar sync` did not make a run, or that it did not succeed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SyncError {
    /// The run did not succeed.
    #[error("{0}")]
    Ended(RunEnded),
    /// No job was given.
    #[error("a SyncJob is required: busbar sync NAMESPACE/NAME")]
    NoJob,
    /// An object is neither in the cluster nor in the manifests.
    #[error("{kind} {key} not found; check --manifests, or --kubeconfig")]
    NotFound {
        /// Its kind.
        kind: Kind,
        /// Its namespace and name.
        key: ObjectKey,
    },
    /// The job or its connection cannot be used.
    #[error("{kind} {key}: {}", .cause.message)]
    Spec {
        /// Kind of the object.
        kind: Kind,
        /// Its namespace and name.
        key: ObjectKey,
        /// Why.
        cause: SpecError,
    },
    /// The job is suspended.
    #[error("SyncJob {0} is suspended (spec.suspend): no run is started; resume it first")]
    Suspended(ObjectKey),
    /// A Secret in a manifest cannot be read.
    #[error("{file}: Secret {name}: {problem}")]
    Secret {
        /// The file.
        file: String,
        /// Name of the Secret.
        name: String,
        /// Why.
        problem: String,
    },
    /// A file could not be read or written.
    #[error("{what}: {source}")]
    Io {
        /// The operation.
        what: String,
        /// The cause.
        source: std::io::Error,
    },
    /// Stored rows hold numbers that are not masked.
    #[error("sync masking: stored rows hold numbers as long as an account number; check the mask of the profile")]
    Unmasked,
    /// The pool closed before the run ended.
    #[error("the run ended unexpectedly: its task is gone")]
    Lost,
    /// A manifest does not parse.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The API server client could not be set up.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The API server failed.
    #[error("API server: {0}")]
    Api(#[from] ApiError),
    /// The ledger failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// There is no key of account tokens.
    #[error(transparent)]
    AccountTokens(#[from] AccountTokenError),
    /// The encryption keys could not be read.
    #[error(transparent)]
    Keys(#[from] KeyringError),
    /// A profile is invalid.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// Metrics could not be registered.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// Logging could not be set up.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Standard output could not be written.
    #[error(transparent)]
    Output(#[from] OutputError),
}

impl SyncError {
    /// The exit code of the process.
    pub(crate) const fn exit_code(&self) -> u8 {
        match self {
            Self::Ended(ended) => ended.exit_code(),
            _ => 1,
        }
    }
}
