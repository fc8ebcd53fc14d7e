//! Reads the observed state of a connection.

use std::sync::Arc;

use crate::domain::breaker::EffectiveState;
use crate::domain::health::{Health, Ppm};
use crate::provider::monitor::ConnectionMonitor;
use crate::provider::monitor::snapshot::{ConnectionSnapshot, HealthReading};
use crate::settings::Settings;

/// What routes read of the state. Read by every decision, so nothing is copied that they do not need.
#[derive(Copy, Clone, Debug)]
pub(crate) struct RouteReading {
    pub(crate) effective: EffectiveState,
    pub(crate) unhealthy: bool,
    pub(crate) ever_healthy: bool,
    pub(crate) success: Ppm,
}

impl ConnectionMonitor {
    /// Health and circuit.
    pub(crate) fn health_reading(&self) -> HealthReading {
        let state = self.lock_current();
        let now = self.clock.now();
        HealthReading {
            health: if state.token_missing { Health::Unknown } else { state.health.health() },
            assessment: state.health.assess(now.mono),
            circuit: state.breaker.effective_at(now.mono),
            since: state.breaker.snapshot(now).last_transition,
        }
    }

    /// The part of the current state that decides on payouts.
    pub(crate) fn route_reading(&self) -> RouteReading {
        let state = self.lock_current();
        let now = self.clock.mono();
        RouteReading {
            effective: state.breaker.effective_at(now),
            unhealthy: state.is_unhealthy(),
            ever_healthy: state.ever_healthy,
            success: state.health.success(now),
        }
    }

    /// The current state; `settings` are those in force.
    pub(crate) fn snapshot(&self, settings: &Settings) -> ConnectionSnapshot {
        let mut state = self.lock_current();
        let now = self.clock.now();
        let forecast = state.forecast(now);
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
            forecast,
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
