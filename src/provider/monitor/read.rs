//! Reads the observed state of a connection.

use std::sync::Arc;

use crate::domain::health::Health;
use crate::provider::monitor::ConnectionMonitor;
use crate::provider::monitor::snapshot::ConnectionSnapshot;
use crate::settings::Settings;

impl ConnectionMonitor {
    /// The current state; `settings` are those in force.
    pub(crate) fn snapshot(&self, settings: &Settings) -> ConnectionSnapshot {
        let state = self.lock_current();
        let now = self.clock.now();
        ConnectionSnapshot {
            effective: state.breaker.effective_at(now.mono),
            circuit: state.breaker.snapshot(now),
            flapping: state.breaker.is_flapping(),
            health: if state.token_missing { Health::Unknown } else { state.health.health() },
            unhealthy: state.is_unhealthy(),
            ever_healthy: state.ever_healthy,
            check_failure: state.check_failure.shown().cloned(),
            slow: state.health.slow(),
            tier: state.health.tier(),
            risk: state.risk(now.mono),
            success: state.health.success(now.mono),
            verification: state.verification.clone(),
            authenticated: state.authenticated,
            refused_since: state.refused_since,
            last_probe: state.last_probe.clone(),
            throttled_until: state.throttled_until(now.mono),
            token_missing: state.token_missing,
            token_fault: state.token_fault,
            revision: Arc::clone(settings.revision()),
            verification_revision: Arc::clone(&state.verification_revision),
        }
    }
}
