//! Values of a connection at rest that tests begin from.

use crate::controllers::providerconnection::inputs::{LiveConnection, VerificationState};
use crate::domain::breaker::{BreakerState, EffectiveState, Snapshot, TripReason};
use crate::domain::health::{Health, RiskTier};
use crate::domain::window::WindowPosition;
use crate::resolve::{DesiredConnection, PayoutSupport};

/// The instant of every transition.
pub(crate) const T0: &str = "2026-03-01T12:00:00Z";

/// A circuit in `state` that was open once before.
pub(crate) fn snapshot(state: BreakerState) -> Snapshot {
    Snapshot {
        state,
        last_transition: T0.parse().unwrap(),
        epoch: 4,
        opens: 1,
        next_trial: None,
        reason: Some(TripReason::ConsecutiveFailures),
    }
}

/// A healthy connection.
pub(crate) fn live() -> LiveConnection {
    LiveConnection {
        revision: "r1".into(),
        effective: EffectiveState::Closed,
        circuit: snapshot(BreakerState::Closed),
        flapping: false,
        health: Health::Healthy,
        check_failure: None,
        slow: false,
        ever_healthy: true,
        tier: RiskTier::Low,
        verification: VerificationState::Verified,
        authenticated: Some(true),
        token_missing: false,
        token_fault: None,
        address_refused: None,
        maintenance: WindowPosition::default(),
        throttled_until: None,
    }
}

/// A connection with a credential.
pub(crate) fn desired() -> DesiredConnection {
    DesiredConnection {
        revision: "r1".into(),
        host: "bank.example".into(),
        credential: Some("7".into()),
        credential_expires: None,
        uses_secrets: true,
        authenticates: true,
        target: "t1".into(),
        checks_status_only: false,
        payouts: PayoutSupport::NotStated,
    }
}
