//! Routes over banks in every state.

use std::sync::Arc;

use super::{Emitted, at};
use crate::api::v1alpha1::BankRoute;
use crate::api::v1alpha1::bank_route::BankRouteStatus;
use crate::controllers::bankroute::decide::{ConnectionState, RouteInputs, decide};
use crate::domain::breaker::EffectiveState;
use crate::domain::route::CandidateHealth;
use crate::domain::window::WindowPosition;
use crate::resolve::bank_route;

const NOW: &str = "2026-03-01T12:00:00Z";
const UP: ConnectionState = live(EffectiveState::Closed);
const DOWN: ConnectionState = live(EffectiveState::Open);

const fn live(effective: EffectiveState) -> ConnectionState {
    with_health(effective, CandidateHealth::Usable)
}

const fn with_health(effective: EffectiveState, health: CandidateHealth) -> ConnectionState {
    ConnectionState::Live {
        effective,
        health,
        suspended: false,
        maintenance: WindowPosition::Outside { until: None },
        success: 950_000,
    }
}

/// A route whose candidates have these fields, named `a`, `b` …
fn route(candidates: &[&str]) -> BankRoute {
    let entries: Vec<_> = ('a'..)
        .zip(candidates)
        .map(|(name, fields)| format!("{{name: {name}, connectionRef: {{name: {name}}}, {fields}}}"))
        .collect();
    let spec = format!(
        "{{referenceCurrency: EUR, reference: {{country: 'NO', rail: SEPA}}, candidates: [{}]}}",
        entries.join(", ")
    );
    let mut route = BankRoute::new("r", serde_yaml::from_str(&spec).unwrap());
    route.metadata.generation = Some(1);
    route
}

fn run(
    route: &BankRoute,
    previous: Option<&BankRouteStatus>,
    connections: &[ConnectionState],
    emitted: &mut Emitted,
) -> BankRouteStatus {
    let decision = decide(
        route,
        previous,
        &RouteInputs { route: bank_route(&route.spec).map(Arc::new), connections: connections.to_vec() },
        at(NOW),
    );
    let status = decision.status.unwrap();
    emitted.add_conditions(&status.conditions);
    emitted.add_events(&decision.events);
    emitted.candidates.extend(status.candidates.iter().map(|candidate| candidate.reason.clone()));
    emitted.candidates.extend(status.last_failover.iter().map(|failover| failover.reason.clone()));
    status
}

pub(super) fn emit(emitted: &mut Emitted) {
    let fee = |fixed: &str| format!("fees: [{{name: all, fixed: '{fixed}'}}]");
    let (cheap, same, dear) = (fee("0.30"), fee("0.30"), fee("0.50"));
    let unknown = "fees: [{name: cards, rails: [CARD]}]";
    let banks = route(&[&cheap, &same, &dear, unknown, "tier: Fallback"]);
    let up = run(&banks, None, &[UP; 5], emitted);
    let over = run(&banks, Some(&up), &[DOWN, UP, UP, UP, UP], emitted);
    run(&banks, Some(&over), &[UP; 5], emitted);
    run(&banks, Some(&up), &[DOWN; 5], emitted);
    run(&banks, None, &[ConnectionState::Missing; 5], emitted);

    let maintenance = WindowPosition::Inside { until: "2026-03-01T13:00:00Z".parse().unwrap() };
    let (effective, health) = (EffectiveState::Closed, CandidateHealth::Usable);
    let states = [
        ConnectionState::Missing,
        ConnectionState::NotReady,
        live(EffectiveState::HalfOpen),
        live(EffectiveState::ForcedOpen),
        with_health(effective, CandidateHealth::Unhealthy),
        with_health(effective, CandidateHealth::NeverHealthy),
        ConnectionState::Live {
            effective,
            health,
            suspended: true,
            maintenance: WindowPosition::default(),
            success: 950_000,
        },
        ConnectionState::Live { effective, health, suspended: false, maintenance, success: 950_000 },
    ];
    run(&route(&["tier: Primary"; 8]), None, &states, emitted);

    let past = "acceptWindows: [{name: day, startTime: '2026-01-01T00:00:00Z', endTime: '2026-01-02T00:00:00Z'}]";
    let fields = ["currencies: [USD]", "countries: ['SE']", "rails: [CARD]", "maxAmount: '10'", past];
    run(&route(&fields), None, &[UP; 5], emitted);

    let mut choosing = route(&[&cheap, &dear]);
    let until = "2026-03-02T00:00:00Z";
    choosing.spec.pin = serde_yaml::from_str(&format!("{{candidate: b, untilTime: {until}, reason: test}}")).unwrap();
    run(&choosing, None, &[UP, UP], emitted);
    let on_b = run(&choosing, None, &[DOWN, UP], emitted);
    choosing.spec.pin = None;
    choosing.spec.hysteresis = serde_yaml::from_str("{minHold: 1h}").unwrap();
    run(&choosing, Some(&on_b), &[UP, UP], emitted);
    let mut ties = route(&["score: '0.2'", "score: '0.8'", "score: '0.9'"]);
    ties.spec.cost = serde_yaml::from_str("{retryBasisPoints: '0', healthPenalty: '0'}").unwrap();
    let (effective, health, maintenance) = (EffectiveState::Closed, CandidateHealth::Usable, WindowPosition::default());
    let slower = ConnectionState::Live { effective, health, suspended: false, maintenance, success: 900_000 };
    run(&ties, None, &[UP, UP, slower], emitted);
    let mut foreign = route(&["maxAmount: '10'"]);
    foreign.spec.reference = serde_yaml::from_str("{currency: XOF}").unwrap();
    run(&foreign, None, &[UP], emitted);

    // The route as it was before `b` was removed.
    let both = route(&["tier: Primary", "tier: Primary"]);
    let on_b = run(&both, None, &[DOWN, UP], emitted);
    run(&route(&["tier: Primary"]), Some(&on_b), &[UP], emitted);

    let mut suspended = route(&["tier: Primary"]);
    suspended.spec.suspend = true;
    run(&suspended, None, &[UP], emitted);
    for invalid in ["minAmount: much", "acceptWindows: [{name: day, schedule: 61 * * * *, duration: 1h}]"] {
        run(&route(&[invalid]), None, &[UP], emitted);
    }
}
