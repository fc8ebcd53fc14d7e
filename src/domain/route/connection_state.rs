//! What the state of a candidate's connection means for payouts.

use super::candidate::{Candidate, CandidateHealth};
use super::reason::CandidateReason;
use crate::domain::breaker::EffectiveState;
use crate::domain::window::WindowPosition;

/// State of one candidate's connection.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ConnectionState {
    /// No object of that name.
    Missing,
    /// The object exists but has no running connection; its conditions say why.
    NotReady,
    /// A connection is running.
    Live {
        /// Effective circuit state.
        effective: EffectiveState,
        /// What its health checks say.
        health: CandidateHealth,
        /// Whether the connection is suspended.
        suspended: bool,
        /// Position relative to its maintenance windows.
        maintenance: WindowPosition,
        /// Estimated share of calls that succeed, in parts per million.
        success: u32,
    },
}

impl ConnectionState {
    /// Puts the state into `candidate`, which the spec declares without one.
    pub fn apply(&self, candidate: &mut Candidate) {
        match *self {
            Self::Missing => candidate.circuit = None,
            Self::NotReady => candidate.exclusion = Some(CandidateReason::ConnectionNotReady),
            Self::Live { effective, health, suspended, maintenance, success } => {
                let excluded = maintenance.is_inside() && !suspended;
                candidate.exclusion = excluded.then_some(CandidateReason::Maintenance);
                (candidate.circuit, candidate.health) = (Some(effective), health);
                candidate.suspended = suspended;
                candidate.success = Some(success);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(state: ConnectionState) -> Candidate {
        let mut candidate = Candidate { name: "a".to_owned(), ..Candidate::default() };
        state.apply(&mut candidate);
        candidate
    }

    fn live(suspended: bool, maintenance: WindowPosition) -> ConnectionState {
        let (effective, health) = (EffectiveState::Closed, CandidateHealth::Usable);
        ConnectionState::Live { effective, health, suspended, maintenance, success: 990_000 }
    }

    #[test]
    fn a_running_connection_gives_circuit_health_and_success() {
        let candidate = applied(live(false, WindowPosition::default()));
        assert_eq!((candidate.circuit, candidate.success), (Some(EffectiveState::Closed), Some(990_000)));
        assert_eq!((candidate.exclusion, candidate.suspended), (None, false));
    }

    #[test]
    fn a_connection_that_does_not_run_or_is_maintained_is_excluded() {
        assert_eq!(applied(ConnectionState::Missing).circuit, None);
        let not_ready = applied(ConnectionState::NotReady);
        assert_eq!(not_ready.exclusion, Some(CandidateReason::ConnectionNotReady));
        let inside = WindowPosition::Inside { until: "2026-01-01T00:00:00Z".parse().unwrap() };
        assert_eq!(applied(live(false, inside)).exclusion, Some(CandidateReason::Maintenance));
        let suspended = applied(live(true, inside));
        assert_eq!((suspended.exclusion, suspended.suspended), (None, true), "suspension is the reason to fix first");
    }
}
