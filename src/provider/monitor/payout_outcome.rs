//! What the outcomes of payouts say about a connection's health: they are reported, not calls of this process.

use std::time::Duration;

use crate::provider::monitor::ConnectionMonitor;

impl ConnectionMonitor {
    /// Records the outcome of a payout. It moves the estimates and the risk like a call, and may open the circuit like a
    /// check if it makes health critical; it is no check, and none of the circuit's consecutive outcomes.
    pub(crate) fn observe_payout(&self, success: bool, latency: Option<Duration>) {
        self.update(|state, now| {
            if state.health.observe_outcome(success, latency, now).became_critical() {
                let opened = state.breaker.trip_unhealthy(now);
                state.transitions.extend(opened);
            }
        });
    }
}
