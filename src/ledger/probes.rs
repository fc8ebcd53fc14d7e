//! Health checks as they ended: the raw log behind health and risk.
//!
//! Our own words only: the HTTP status, or a closed word for a check that ended without one. Nothing of what a provider
//! said, and nothing of what was sent to it.

use std::time::Duration;

use jiff::Timestamp;

use crate::domain::key::ObjectKey;

/// One health check of one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeResult<Word = &'static str> {
    /// The `ProviderConnection`.
    pub connection: ObjectKey,
    /// When it ended.
    pub at: Timestamp,
    /// How long it took.
    pub elapsed: Duration,
    /// Whether it was answered as expected.
    pub success: bool,
    /// Whether it took longer than `healthCheck.latencyThreshold`, where that is set.
    pub slow: bool,
    /// The HTTP status, if it ended with one.
    pub status: Option<u16>,
    /// Why it ended without a status: a call error's code.
    pub error: Option<Word>,
}

/// A health check as remembered: its words may be those of another version of this program.
pub type StoredProbe = ProbeResult<String>;
