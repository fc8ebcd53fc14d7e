//! What a standby replica knows of a bank: it sends no probes, so health and circuit are those that the leader wrote.

use std::sync::Arc;

use crate::api::v1alpha1::ProviderConnection;
use crate::api::v1alpha1::provider_connection::{CircuitStatus, HealthStatus, RiskTier as WireTier};
use crate::api::v1alpha1::reasons::ConditionType;
use crate::controllers::conditions::status_of;
use crate::controllers::providerconnection::restore;
use crate::domain::breaker::EffectiveState;
use crate::domain::conditions::ConditionStatus;
use crate::domain::health::{Health, RiskTier};
use crate::domain::route::{CandidateHealth, ConnectionState};
use crate::profile::CheckMode;
use crate::provider::connection::Connection;
use crate::routing::ConnectionHealth;

/// What a standby knows of a connection by itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct OwnKnowledge {
    /// The endpoint of the settings in force, and how it authenticates.
    target: Arc<str>,
    /// Whether no health checks are sent to it.
    passive: bool,
    /// Whether a circuit that has opened here has not lasted its time yet. No trial closes it on a standby.
    opening_lasts: bool,
}

impl OwnKnowledge {
    pub(super) fn of(connection: &Connection) -> Self {
        let settings = connection.settings();
        let trial_is_ahead = connection.next_trial().is_some_and(|trial| connection.now() < trial);
        Self {
            target: Arc::clone(settings.target()),
            passive: settings.health_check().mode == CheckMode::Passive,
            opening_lasts: trial_is_ahead || connection.token_unavailable(),
        }
    }
}

/// The state of a connection on a standby: `local` with what the leader wrote to the status of `stored`.
pub(super) fn standby_state(
    local: ConnectionState,
    own: &OwnKnowledge,
    stored: &ProviderConnection,
) -> ConnectionState {
    let ConnectionState::Live { effective, suspended, maintenance, success, .. } = local else { return local };
    let (status, generation) = (stored.status.as_ref(), stored.metadata.generation.unwrap_or_default());
    // What was found of another endpoint says nothing about this one.
    let unhealthy = restore::unhealthy(status, generation, &own.target);
    let passed = restore::ever_healthy(status, generation, &own.target);
    let effective = circuit(effective, own, stored);
    let health = CandidateHealth::of(unhealthy, passed, own.passive);
    ConnectionState::Live { effective, health, suspended, maintenance, success }
}

/// Whether a connection that does not run in this process will: its spec is not known to be unusable.
pub(super) fn will_start(stored: &ProviderConnection) -> bool {
    let conditions = stored.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    status_of(conditions, ConditionType::Stalled) != ConditionStatus::True
}

/// Health and circuit of a connection as a standby reports them: `local` with what the leader wrote.
pub(super) fn standby_health(
    local: ConnectionHealth,
    own: &OwnKnowledge,
    stored: &ProviderConnection,
) -> ConnectionHealth {
    let Some(status) = &stored.status else { return local };
    let health = match status.health {
        Some(HealthStatus::Healthy) => Health::Healthy,
        Some(HealthStatus::Degraded) => Health::Degraded,
        Some(HealthStatus::Unhealthy) => Health::Unhealthy,
        Some(HealthStatus::Unknown) | None => Health::Unknown,
    };
    let tier = match status.risk {
        None => local.tier,
        Some(WireTier::Low) => RiskTier::Low,
        Some(WireTier::Elevated) => RiskTier::Elevated,
        Some(WireTier::High) => RiskTier::High,
        Some(WireTier::Critical) => RiskTier::Critical,
    };
    let seen = circuit(local.circuit, own, stored);
    let since = match &status.circuit_state {
        Some(state) if seen != local.circuit => state.last_transition_time.0,
        _ => local.since,
    };
    ConnectionHealth { health, tier, circuit: seen, since, ..local }
}

/// The circuit. Opening may be local: a circuit that has opened here is open for its open time. Closing is the leader's:
/// after that time its state counts, because a standby makes no trial. An override belongs to the spec, and all replicas
/// apply it.
fn circuit(local: EffectiveState, own: &OwnKnowledge, stored: &ProviderConnection) -> EffectiveState {
    let is_own = match local {
        EffectiveState::Closed | EffectiveState::HalfOpen => false,
        EffectiveState::Open => own.opening_lasts,
        _ => true,
    };
    match stored.status.as_ref().and_then(|status| status.circuit) {
        _ if is_own => local,
        Some(CircuitStatus::Closed) => EffectiveState::Closed,
        Some(CircuitStatus::HalfOpen) => EffectiveState::HalfOpen,
        Some(CircuitStatus::Open) => EffectiveState::Open,
        Some(CircuitStatus::ForcedOpen | CircuitStatus::ForcedClosed | CircuitStatus::Shadow) | None => local,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::window::WindowPosition;

    fn stored(status: &Value) -> ProviderConnection {
        serde_json::from_value(json!({
            "apiVersion": "busbar.dev/v1alpha1", "kind": "ProviderConnection",
            "metadata": {"name": "a", "generation": 2},
            "spec": {"provider": "generic", "environment": "Sandbox"}, "status": status,
        }))
        .unwrap()
    }

    /// As a standby sees its connection: no check has passed here.
    fn local(effective: EffectiveState) -> ConnectionState {
        let (health, maintenance) = (CandidateHealth::NeverHealthy, WindowPosition::default());
        ConnectionState::Live { effective, health, suspended: false, maintenance, success: 950_000 }
    }

    /// The endpoint `t`, whose circuit has opened a moment ago if it is open.
    fn own() -> OwnKnowledge {
        OwnKnowledge { target: "t".into(), passive: false, opening_lasts: true }
    }

    fn seen(effective: EffectiveState, status: Value) -> (EffectiveState, CandidateHealth) {
        seen_by(&own(), effective, status)
    }

    #[expect(clippy::needless_pass_by_value, reason = "each call makes its own")]
    fn seen_by(own: &OwnKnowledge, effective: EffectiveState, status: Value) -> (EffectiveState, CandidateHealth) {
        match standby_state(local(effective), own, &stored(&status)) {
            ConnectionState::Live { effective, health, .. } => (effective, health),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_bank_that_is_well_by_its_status_takes_payouts_of_a_standby() {
        let well = json!({"health": "Healthy", "circuit": "Closed", "passedCheck": {"target": "t", "passed": true}});
        assert_eq!(seen(EffectiveState::Closed, well), (EffectiveState::Closed, CandidateHealth::Usable));
    }

    #[test]
    fn a_circuit_that_is_open_by_the_status_or_here_is_open() {
        let (closed, open) = (json!({"circuit": "Closed"}), json!({"circuit": "Open"}));
        assert_eq!(seen(EffectiveState::Closed, open).0, EffectiveState::Open);
        assert_eq!(seen(EffectiveState::Closed, json!({"circuit": "HalfOpen"})).0, EffectiveState::HalfOpen);
        assert_eq!(seen(EffectiveState::Open, closed).0, EffectiveState::Open);
        assert_eq!(seen(EffectiveState::ForcedClosed, json!({"circuit": "Open"})).0, EffectiveState::ForcedClosed);
    }

    #[test]
    fn a_circuit_that_opened_here_is_the_leaders_again_after_its_open_time() {
        let over = OwnKnowledge { opening_lasts: false, ..own() };
        let by_status = |circuit: &str| json!({"circuit": circuit});
        for local in [EffectiveState::Open, EffectiveState::HalfOpen] {
            assert_eq!(seen_by(&over, local, by_status("Closed")).0, EffectiveState::Closed, "{local:?}");
            assert_eq!(seen_by(&over, local, by_status("HalfOpen")).0, EffectiveState::HalfOpen, "{local:?}");
            assert_eq!(seen_by(&over, local, by_status("Open")).0, EffectiveState::Open, "{local:?}");
            assert_eq!(seen_by(&over, local, json!({})).0, local, "the leader has written nothing");
        }
        assert_eq!(seen_by(&over, EffectiveState::ForcedOpen, by_status("Closed")).0, EffectiveState::ForcedOpen);
    }

    #[test]
    fn a_connection_will_start_unless_its_spec_cannot_be_used() {
        let stalled = |status: &str| {
            let time = "2026-01-01T00:00:00Z";
            let condition = json!({
                "type": "Stalled", "status": status, "reason": "InvalidSpec", "message": "", "lastTransitionTime": time,
            });
            json!({"conditions": [condition]})
        };
        for (status, expected) in [(json!({}), true), (stalled("False"), true), (stalled("True"), false)] {
            assert_eq!(will_start(&stored(&status)), expected, "{status}");
        }
    }

    #[test]
    fn a_check_of_another_endpoint_is_none_on_a_standby_either() {
        let status = |target: &str, health: &str| {
            let check = json!({"target": target, "passed": true});
            json!({"observedGeneration": 1, "health": health, "passedCheck": check})
        };
        let closed = EffectiveState::Closed;
        for (target, health, expected) in [
            ("t", "Healthy", CandidateHealth::Usable),
            ("before-the-edit", "Healthy", CandidateHealth::NeverHealthy),
            ("before-the-edit", "Unhealthy", CandidateHealth::NeverHealthy),
            ("t", "Unhealthy", CandidateHealth::Unhealthy),
            ("t", "Unknown", CandidateHealth::NeverHealthy),
        ] {
            assert_eq!(seen(closed, status(target, health)).1, expected, "{target} {health}");
        }
        // The mode of the profile counts, whatever the spec leaves out.
        let passive = OwnKnowledge { passive: true, ..own() };
        assert_eq!(seen_by(&passive, closed, json!({})).1, CandidateHealth::Usable);
    }

    #[test]
    fn health_of_a_standby_is_reported_as_the_leader_wrote_it() {
        let ppm = |value| crate::domain::ppm::Ppm::new(value);
        let local = ConnectionHealth {
            health: Health::Unknown,
            risk: ppm(0),
            tier: RiskTier::Low,
            success: ppm(950_000),
            p95: None,
            circuit: EffectiveState::Closed,
            since: "2026-01-01T00:00:00Z".parse().unwrap(),
        };
        let opened = json!({
            "health": "Unhealthy", "circuit": "Open", "risk": "Critical",
            "circuitState": {"state": "Open", "lastTransitionTime": "2026-02-01T00:00:00Z", "epoch": 3, "opens": 1},
        });
        let seen = standby_health(local, &own(), &stored(&opened));
        assert_eq!((seen.health, seen.tier), (Health::Unhealthy, RiskTier::Critical));
        assert_eq!((seen.circuit, seen.since.to_string().as_str()), (EffectiveState::Open, "2026-02-01T00:00:00Z"));
        let well = standby_health(local, &own(), &stored(&json!({"health": "Healthy", "circuit": "Closed"})));
        assert_eq!((well.health, well.circuit, well.since), (Health::Healthy, EffectiveState::Closed, local.since));
    }

    #[test]
    fn a_bank_that_is_unhealthy_or_was_never_well_is_excluded_on_a_standby_too() {
        let unhealthy = json!({"health": "Unhealthy", "passedCheck": {"target": "t", "passed": true}});
        assert_eq!(seen(EffectiveState::Closed, unhealthy).1, CandidateHealth::Unhealthy);
        assert_eq!(seen(EffectiveState::Closed, json!({})).1, CandidateHealth::NeverHealthy);
        assert_eq!(standby_state(ConnectionState::NotReady, &own(), &stored(&json!({}))), ConnectionState::NotReady);
    }
}
