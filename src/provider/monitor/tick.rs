//! Time-driven changes of a connection: overrides end, lost trials expire, risk decays.

use std::sync::MutexGuard;
use std::time::Duration;

use crate::domain::breaker;
use crate::domain::health::RiskTier;
use crate::domain::time::Mono;
use crate::provider::monitor::{ConnectionMonitor, MonitorState};

/// How often the wall clock is compared with the end of an override. Calls compare it themselves; this is for the
/// status and the metrics of a connection without calls.
const OVERRIDE_CHECK_INTERVAL: Duration = Duration::from_secs(10);

impl ConnectionMonitor {
    /// Locks the state after re-deriving the end of an override from the wall clock, which may have been set, or the
    /// machine may have slept, since the override was applied.
    pub(super) fn lock_current(&self) -> MutexGuard<'_, MonitorState> {
        let mut state = self.lock();
        if let Some(until) = state.override_until {
            let until = self.clock.now().mono_at(until);
            state.breaker.reschedule_override(until);
        }
        state
    }

    /// Restores the risk tier that a former process stored.
    pub(crate) fn restore_risk(&self, tier: RiskTier) {
        self.update(|state, now| {
            state.health.restore_risk(tier, now);
        });
    }

    /// Applies the changes that are due. Returns when to call it again.
    pub(crate) fn tick(&self) -> Option<Mono> {
        self.update(|state, now| {
            if let Some(first) = state.breaker.tick(now) {
                let second = state.breaker.tick(now);
                state.transitions.extend([first].into_iter().chain(second));
            }
            state.health.decay(now);
            next_tick(state, now)
        })
    }

    /// When the next trial of an open circuit is due.
    pub(crate) fn next_trial(&self) -> Option<Mono> {
        self.lock().breaker.next_trial()
    }

    /// The circuit's own state, without any override.
    pub(crate) fn circuit_state(&self) -> breaker::BreakerState {
        self.lock().breaker.state()
    }

    /// When [`tick`](Self::tick) may next change something.
    pub(crate) fn next_tick(&self) -> Option<Mono> {
        next_tick(&self.lock_current(), self.clock.mono())
    }
}

fn next_tick(state: &MonitorState, now: Mono) -> Option<Mono> {
    let circuit = state.breaker.next_tick();
    let wall = (state.override_until.is_some() && state.breaker.has_override()).then(|| now + OVERRIDE_CHECK_INTERVAL);
    circuit.into_iter().chain(wall).chain(state.health.next_tier_drop(now)).min()
}
