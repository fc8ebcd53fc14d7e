//! Why the process cannot start, or exits with an error.

use crate::api::CrdError;
use crate::app::audit_command::AuditError;
use crate::app::explain::ExplainError;
use crate::app::ledger_check::LedgerCheckError;
use crate::app::operator_check::OperatorCheckError;
use crate::app::output::OutputError;
use crate::app::route_command::RouteError;
use crate::app::smoke_check::SmokeCheckError;
use crate::app::sync_command::SyncError;
use crate::cluster::client::ClientError;
use crate::cluster::lease::LeaseError;
use crate::gateway::listen_address::{ListenAddress, ListenAddressError};
use crate::gateway::tls::CertificateError;
use crate::ledger::LedgerError;
use crate::ledger::encryption::KeyringError;
use crate::ledger::transfer::TransferError;
use crate::metrics::MetricsError;
use crate::profile::ProfileError;
use crate::telemetry::LogError;
use crate::telemetry::traces::TracesError;

/// Why the process cannot start, or exits with an error.
#[derive(Debug, thiserror::Error)]
pub(super) enum AppError {
    /// Logging could not be set up.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A port could not be bound.
    #[error("cannot bind {address} (--admin-address): {source}")]
    Bind {
        /// The address.
        address: std::net::SocketAddr,
        /// The cause.
        source: std::io::Error,
    },
    /// The gateway's port could not be bound.
    #[error("cannot bind {address} (--gateway-address): {source}")]
    BindGateway {
        /// Where.
        address: ListenAddress,
        /// The cause.
        source: std::io::Error,
    },
    /// The gateway's listen address is not allowed with these settings.
    #[error(transparent)]
    ListenAddress(#[from] ListenAddressError),
    /// The gateway's certificate cannot be used.
    #[error("--gateway-tls-cert, --gateway-tls-key: {0}")]
    Certificate(#[from] CertificateError),
    /// A file could not be written, or a signal handler not installed.
    #[error("{what}: {source}")]
    Io {
        /// The operation.
        what: String,
        /// The cause.
        source: std::io::Error,
    },
    /// Standard output could not be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The arguments of a command contradict each other.
    #[error("{0}")]
    Arguments(String),
    /// The custom resource definitions could not be written.
    #[error(transparent)]
    Crds(#[from] CrdError),
    /// Metrics could not be registered.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The ledger could not be opened.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The ledger could not be copied.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// The smoke check of a provider failed.
    #[error(transparent)]
    SmokeCheck(#[from] SmokeCheckError),
    /// The trace exporter could not be set up.
    #[error("--otlp-endpoint: {0}")]
    Traces(#[from] TracesError),
    /// The ledger's encryption keys could not be read.
    #[error(transparent)]
    Keys(#[from] KeyringError),
    /// The API server client could not be set up.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A profile does not parse.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// Some of the checked profiles are invalid; the errors were printed.
    #[error("{0} of the profiles cannot be used")]
    ProfilesUnusable(usize),
    /// `busbar explain` failed.
    #[error(transparent)]
    Explain(#[from] ExplainError),
    /// `busbar route` failed.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// `busbar audit` failed, or found a bad record.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// `busbar check operator` failed.
    #[error(transparent)]
    OperatorCheck(#[from] OperatorCheckError),
    /// `busbar check ledger` found something.
    #[error(transparent)]
    LedgerCheck(#[from] LedgerCheckError),
    /// `busbar sync` failed, or its run did not succeed.
    #[error(transparent)]
    Sync(#[from] SyncError),
    /// The lease was lost.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// A task ended that should run as long as the process.
    #[error("task {0} ended unexpectedly; exiting")]
    TaskEnded(&'static str),
    /// A task panicked that should run as long as the process.
    #[error("task {0} panicked: this is a bug; exiting")]
    TaskPanicked(&'static str),
}

impl AppError {
    /// The exit code of the process.
    pub(super) const fn exit_code(&self) -> u8 {
        match self {
            Self::Sync(error) => error.exit_code(),
            Self::Audit(error) => error.exit_code(),
            _ => 1,
        }
    }
}
