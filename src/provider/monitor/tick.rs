//! Time-driven changes of a connection: overrides end, lost trials expire, risk decays.

use std::sync::MutexGuard;
use std::time::Duration;

use crate::domain::breaker::{self, Override};
use crate::domain::forecast::Forecast;
use crate::domain::forecast::outcome_counts::OutcomeCounts;
use crate::domain::health::RiskTier;
use crate::domain::time::Mono;
use crate::provider::monitor::{ConnectionMonitor, MonitorState, rate_limit};

/// How often the wall clock is compared with the end of an override. Calls compare it themselves; this is for the
/// status and the metrics of a connection without calls.
const OVERRIDE_CHECK_INTERVAL: Duration = Duration::from_secs(10);

impl ConnectionMonitor {
    /// Locks the state after re-deriving from the wall clock what depends on it: the clock may have been set, or the
    /// machine may have slept, since an override was applied or a rate limit began.
    pub(super) fn lock_current(&self) -> MutexGuard<'_, MonitorState> {
        let mut state = self.lock();
        if state.circuit_override.is_some() || state.throttled_until_wall.is_some() {
            let now = self.clock.now();
            if let Some(configured) = state.circuit_override {
                state.breaker.reschedule_override(now.mono_at(configured.until));
            }
            rate_limit::follow_wall_clock(&mut state, now);
        }
        state
    }

    /// Applies an override that expired while the wall clock was ahead, if it has not expired by the right one.
    pub(super) fn resume_override(&self, state: &mut MonitorState) {
        let expired = state.circuit_override.filter(|_| !state.breaker.has_override());
        let Some(configured) = expired else { return };
        let now = self.clock.now();
        let wanted = Override { mode: configured.mode, until: now.mono_at(configured.until) };
        if now.mono < wanted.until {
            let transition = state.breaker.set_override(Some(wanted), now.mono);
            state.transitions.extend(transition);
        }
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
            let transitions = state.breaker.settle(now);
            state.transitions.extend(transitions.into_iter().flatten());
            state.health.decay(now);
            next_tick(state, now)
        })
    }

    /// The forecast that holds now.
    pub(crate) fn forecast(&self) -> Option<Forecast> {
        self.lock().forecast(self.clock.now())
    }

    /// Outcomes since the connection started.
    pub(crate) fn outcome_counts(&self) -> OutcomeCounts {
        self.lock().health.counts()
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
    let wall = state.breaker.has_override().then(|| now + OVERRIDE_CHECK_INTERVAL);
    circuit.into_iter().chain(wall).chain(state.health.next_tier_drop(now)).min()
}
