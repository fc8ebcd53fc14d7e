//! What time alone does to a connection: overrides end, trials are lost, risk fades.

use std::sync::MutexGuard;
use std::time::Duration;

use crate::domain::breaker;
use crate::domain::health::RiskTier;
use crate::domain::time::Mono;
use crate::provider::observe::{Core, State};

/// While there is an override, the wall clock that it ends by is looked at this often. Calls look at it themselves; this
/// is for the status and the series of a connection that nobody calls.
const LOOK_AT_THE_WALL: Duration = Duration::from_secs(10);

impl Core {
    /// The state, with the end of an override where the wall clock puts it now: that clock may have been set, or the
    /// machine have slept, since the override was laid over the circuit.
    pub(super) fn current(&self) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        if let Some(until) = state.override_until {
            let until = self.clock.now().mono_at(until);
            state.breaker.anchor_override(until);
        }
        state
    }

    /// Takes up what a former process knew of the risk.
    pub(crate) fn recall(&self, tier: RiskTier) {
        self.change(|state, now| {
            state.health.recall(tier, now);
            ((), [None, None])
        });
    }

    /// Lets time pass. Returns when to come again.
    pub(crate) fn tick(&self) -> Option<Mono> {
        self.change(|state, now| {
            let first = state.breaker.tick(now);
            let second = first.and_then(|_| state.breaker.tick(now));
            state.health.settle(now);
            (next_tick(state, now), [first, second])
        })
    }

    /// When the next trial of an open circuit is due.
    pub(crate) fn next_trial(&self) -> Option<Mono> {
        self.lock().breaker.next_trial()
    }

    /// The circuit's own state, beneath any override.
    pub(crate) fn circuit(&self) -> breaker::State {
        self.lock().breaker.state()
    }

    /// When [`tick`](Self::tick) may next have something to say.
    pub(crate) fn next_tick(&self) -> Option<Mono> {
        next_tick(&self.current(), self.clock.mono())
    }
}

fn next_tick(state: &State, now: Mono) -> Option<Mono> {
    let circuit = state.breaker.next_tick();
    let wall = (state.override_until.is_some() && state.breaker.is_overlaid()).then(|| now + LOOK_AT_THE_WALL);
    circuit.into_iter().chain(wall).chain(state.health.next_fall(now)).min()
}
