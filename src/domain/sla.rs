//! The thresholds of `spec.sla`.

use std::time::Duration;

/// Service-level thresholds: what exceeds one is reported, and changes nothing else.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct SlaLimits {
    /// Largest time that the requests for one partition may take in a run.
    pub fetch_duration: Duration,
    /// Consecutive failed runs of a partition that are escalated.
    pub failure_streak: u32,
    /// Consecutive runs without a record that are reported.
    pub empty_streak: u32,
}

impl Default for SlaLimits {
    fn default() -> Self {
        Self { fetch_duration: Duration::from_secs(2), failure_streak: 5, empty_streak: 3 }
    }
}
