//! The persistent state of a circuit.

use jiff::Timestamp;

use crate::domain::breaker::state::BreakerState;
use crate::domain::breaker::trip_reason::TripReason;

/// Persistent state of the circuit, stored in `status.circuitState`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    /// The automatic state, beneath any overlay.
    pub state: BreakerState,
    /// When the automatic state was entered, rounded down to whole seconds.
    pub last_transition: Timestamp,
    /// Epoch of the circuit: strictly increasing, also across restarts.
    pub epoch: i64,
    /// Consecutive openings, which the growth of the open time counts. Decays with the healthy time, at the next trip.
    pub opens: i32,
    /// While open: when the next trial is due, rounded up to whole seconds so that a restart is never early.
    pub next_trial: Option<Timestamp>,
    /// Reason of the last transition of the automatic state; `None` if there was none.
    pub reason: Option<TripReason>,
}
