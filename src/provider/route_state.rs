//! The state of a running connection, as far as it decides on payouts.

use std::time::Duration;

use jiff::Timestamp;

use crate::domain::breaker::EffectiveState;
use crate::domain::route::{CandidateHealth, ConnectionState};
use crate::profile::CheckMode;
use crate::provider::connection::Connection;
use crate::provider::monitor::HealthReading;

/// Steps of the success estimate, in parts per million: the estimate of a bank that is well moves by less with each check,
/// and routes are not evaluated anew for it.
const SUCCESS_STEP: u32 = 1_000;

impl Connection {
    /// The state that routes evaluate. Reads the monitor directly: once a call that opens the circuit is recorded, every
    /// later reading shows it open.
    pub fn route_state(&self, now: Timestamp) -> ConnectionState {
        let settings = self.settings();
        let passive = settings.health_check().mode == CheckMode::Passive;
        let reading = self.monitor().route_reading();
        ConnectionState::Live {
            // Without an access token the bank is not at fault, but payouts through it would fail.
            effective: match reading.effective {
                EffectiveState::Closed if self.token_unavailable() => EffectiveState::Open,
                effective => effective,
            },
            health: CandidateHealth::of(reading.unhealthy, reading.ever_healthy, passive),
            suspended: settings.suspended(),
            maintenance: settings.maintenance(now),
            success: reading.success.get().next_multiple_of(SUCCESS_STEP),
        }
    }

    /// Health and circuit, as they are reported beside decisions.
    pub fn health_reading(&self) -> HealthReading {
        self.monitor().health_reading()
    }

    /// Records what became of a payout through this connection: whether the bank took it, and how long that took if it
    /// was reported.
    pub fn observe_payout(&self, success: bool, latency: Option<Duration>) {
        self.monitor().observe_payout(success, latency);
    }
}
