//! What one probe found, and how it gets back to the requester of the probe.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::Timestamp;

use crate::provider::call::error::CallError;

/// How a call ended, in terms that are safe to show: never the provider's own text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CallResult {
    /// With an HTTP status.
    Status(u16),
    /// Without one.
    Error(CallError),
}

impl fmt::Display for CallResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "the provider answered with status {status}"),
            Self::Error(error) => error.fmt(f),
        }
    }
}

/// One probe, as recorded by the connection's monitor.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProbeRecord {
    /// When it ended.
    pub at: Timestamp,
    /// Whether the response was as expected.
    pub success: bool,
    /// How long it took.
    pub elapsed: Duration,
    /// How it ended.
    pub result: CallResult,
}

/// Carries the record of one probe from the monitor to the requester. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct ProbeReport(Arc<OnceLock<ProbeRecord>>);

impl ProbeReport {
    /// Reports `record`. Only the first has an effect: a call is recorded once.
    pub(crate) fn set(&self, record: ProbeRecord) {
        let _first_wins = self.0.set(record);
    }

    /// The record; `None` if the probe was skipped or nothing was sent.
    pub(crate) fn take(self) -> Option<ProbeRecord> {
        Arc::try_unwrap(self.0).map_or_else(|shared| shared.get().cloned(), OnceLock::into_inner)
    }
}
