//! What a new connection takes over from a former process.

use jiff::Timestamp;

use crate::domain::breaker::Snapshot;

/// The state of a connection that a former process stored; used only for a connection that is new in the registry.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Restore {
    /// The circuit.
    pub circuit: Option<Snapshot>,
    /// Until when the provider rate limits the connection.
    pub throttled_until: Option<Timestamp>,
    /// Whether a health check has ever passed, at this endpoint and with this way to authenticate.
    pub ever_healthy: bool,
    /// Whether the last health checks had failed: the connection is unhealthy until checks pass.
    pub unhealthy: bool,
}
