//! One outcome, as the health of a provider sees it.

use std::time::Duration;

/// The outcome of a health check, of a call, or of a payout that was reported.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one outcome")]
pub struct Observation {
    /// Whether it was good.
    pub success: bool,
    /// Whether the provider sent any response, good or bad.
    pub responded: bool,
    /// How long it took, if that was measured.
    pub latency: Option<Duration>,
    /// Whether it counts as one of the consecutive checks: a health check, or any call if checks are passive.
    pub is_check: bool,
    /// Whether it was due at its time: a provider that does not respond to such checks is silent.
    pub is_scheduled: bool,
}

impl Observation {
    /// A health check on its schedule.
    pub const fn check(success: bool, latency: Duration) -> Self {
        Self { success, responded: success, latency: Some(latency), is_check: true, is_scheduled: true }
    }

    /// A call while checks are active.
    pub const fn call(success: bool, latency: Duration) -> Self {
        Self { success, responded: success, latency: Some(latency), is_check: false, is_scheduled: false }
    }

    /// A reported outcome, such as that of a payout.
    pub const fn reported(success: bool, latency: Option<Duration>) -> Self {
        Self { success, responded: success, latency, is_check: false, is_scheduled: false }
    }
}
