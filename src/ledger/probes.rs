//! Health check results: the raw log behind health and risk.
//!
//! Holds the HTTP status, or an error code of Busbar for a check without one. Never any text of a provider's response
//! or of a request.

use std::time::Duration;

use jiff::Timestamp;

use crate::domain::key::ObjectKey;

/// One health check of one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeResult<Code = &'static str> {
    /// The `ProviderConnection`.
    pub connection: ObjectKey,
    /// When it ended.
    pub at: Timestamp,
    /// How long it took.
    pub elapsed: Duration,
    /// Whether the response was as expected.
    pub success: bool,
    /// Whether it took longer than `healthCheck.latencyThreshold`, where that is set.
    pub slow: bool,
    /// The HTTP status, if there was a response.
    pub status: Option<u16>,
    /// Code of the call error, if there was no response.
    pub error: Option<Code>,
}

/// A health check result as stored: its code may come from another version of Busbar.
pub type StoredProbe = ProbeResult<String>;
