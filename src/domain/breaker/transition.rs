//! A transition of a circuit.

use crate::domain::breaker::state::{BreakerState, EffectiveState};
use crate::domain::breaker::trip_reason::TripReason;
use crate::domain::time::Mono;

/// A transition of the circuit.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Transition {
    /// Effective state before. Equal to `to` when an overlay hides a change of the automatic state.
    pub from: EffectiveState,
    /// Effective state after.
    pub to: EffectiveState,
    /// Automatic state after the transition, beneath any overlay.
    pub state: BreakerState,
    /// Reason of the transition.
    pub reason: TripReason,
    /// Epoch of the circuit after the transition.
    pub epoch: i64,
    /// Instant of the transition.
    pub at: Mono,
}
