//! Errors of fault injection.

use crate::testbed::control_plane::ControlPlaneError;

/// Why a fault could not be injected or removed.
#[derive(Debug, thiserror::Error)]
pub enum FaultError {
    /// An operation on a component of the control plane failed.
    #[error(transparent)]
    ControlPlane(#[from] ControlPlaneError),
    /// The HTTP client of the proxy or of the load generator could not be created.
    #[error("cannot create an HTTP client for the API server: {0}")]
    Client(#[from] reqwest::Error),
    /// A port could not be bound, or a file could not be read or written.
    #[error("cannot {what}: {source}")]
    Io {
        /// The operation.
        what: &'static str,
        /// The cause.
        source: std::io::Error,
    },
}
