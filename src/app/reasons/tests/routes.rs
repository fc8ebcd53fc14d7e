//! Routes over banks in every state.

use std::sync::Arc;

use uuid::Uuid;

use super::{Emitted, at};
use crate::api::v1alpha1::BankRoute;
use crate::api::v1alpha1::bank_route::{BankRouteStatus, RouteMode};
use crate::controllers::bankroute::decide::{ConnectionState, decide};
use crate::controllers::bankroute::inputs::{KnownProposal, RouteInputs, StoredProposalView};
use crate::domain::breaker::EffectiveState;
use crate::domain::decision::{self, DecisionRequest, Snapshot, SnapshotCandidate, Usage};
use crate::domain::route::{AdjustmentScope, Approval, CandidateHealth, CandidatePrediction, Payout, Pin, PinSource};
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
    let inputs = RouteInputs::of(bank_route(&route.spec).map(Arc::new), connections.to_vec());
    run_with(route, previous, &inputs, emitted)
}

fn run_with(
    route: &BankRoute,
    previous: Option<&BankRouteStatus>,
    inputs: &RouteInputs,
    emitted: &mut Emitted,
) -> BankRouteStatus {
    let decision = decide(route, previous, inputs, at(NOW));
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

    let mut holding = RouteInputs::of(bank_route(&banks.spec).map(Arc::new), vec![UP; 5]);
    holding.held_payouts = Some(1);
    run_with(&banks, None, &holding, emitted);

    predictions(emitted);
    daily_limit(emitted);
    let mut suspended = route(&["tier: Primary"]);
    suspended.spec.suspend = true;
    run(&suspended, None, &[UP], emitted);
    for invalid in ["minAmount: much", "acceptWindows: [{name: day, schedule: 61 * * * *, duration: 1h}]"] {
        run(&route(&[invalid]), None, &[UP], emitted);
    }
}

/// Predictions in the modes that use them, a scorer that does not exist, and pins that were set through the API.
fn predictions(emitted: &mut Emitted) {
    let (cheap, dear) = ("fees: [{name: all, fixed: '0.30'}]", "fees: [{name: all, fixed: '0.50'}]");
    let until = "2026-03-01T12:30:00Z".parse().unwrap();
    let inputs = |route: &BankRoute, connections: [ConnectionState; 2]| {
        let outage = CandidatePrediction {
            demoted: true,
            risk: 900_000,
            skill: 500_000,
            success: 100_000,
            valid_until: until,
            ..CandidatePrediction::default()
        };
        let mut inputs = RouteInputs::of(bank_route(&route.spec).map(Arc::new), connections.to_vec());
        inputs.predictions = vec![vec![outage], Vec::new()];
        inputs
    };
    let mut banks = route(&[cheap, dear]);
    let on_a = run(&banks, None, &[UP, UP], emitted);
    banks.spec.mode = RouteMode::Predictive;
    run_with(&banks, Some(&on_a), &inputs(&banks, [UP, UP]), emitted);

    banks.spec.mode = RouteMode::Hybrid;
    let known = |until| KnownProposal { id: Uuid::nil(), candidate: "b".to_owned(), until };
    let mut pending = inputs(&banks, [UP, UP]);
    pending.proposal = StoredProposalView::Pending(known(until));
    let proposed = run_with(&banks, Some(&on_a), &pending, emitted);
    for settled in [
        StoredProposalView::Rejected(known(until)),
        StoredProposalView::Lapsed(known(until)),
        StoredProposalView::Approved(known(until)),
    ] {
        let mut inputs = inputs(&banks, [UP, UP]);
        if matches!(settled, StoredProposalView::Approved(_)) {
            let mut rules = inputs.route.clone().unwrap().rules.clone();
            rules.approved = Some(Approval { candidate: "b".to_owned(), proposal: Uuid::nil(), until });
            inputs.rules = Some(Arc::new(rules));
        }
        inputs.proposal = settled;
        run_with(&banks, Some(&proposed), &inputs, emitted);
    }

    let mut pinned = inputs(&banks, [UP, UP]);
    let mut rules = pinned.route.clone().unwrap().rules.clone();
    rules.pins = vec![Pin { candidate: "b".to_owned(), scope: AdjustmentScope::Global, source: PinSource::Api, until }];
    pinned.rules = Some(Arc::new(rules));
    pinned.scorer_missing = true;
    let on_b = run_with(&banks, Some(&on_a), &pinned, emitted);
    pinned.connections = vec![UP, DOWN];
    run_with(&banks, Some(&on_b), &pinned, emitted);
}

/// A decision on a payout that would exceed what a bank takes in a day.
fn daily_limit(emitted: &mut Emitted) {
    let limited = bank_route(&route(&["dailyLimit: {amount: '100'}"]).spec).unwrap();
    let candidates = limited.candidates.iter().map(|one| {
        let mut candidate = one.candidate.clone();
        UP.apply(&mut candidate);
        let (connection, daily_limit) = (one.connection.clone(), one.daily_limit.clone());
        SnapshotCandidate { bank_profile_id: None, candidate, connection, daily_limit }
    });
    let snapshot = Snapshot {
        candidates: candidates.collect(),
        generation: 1,
        incumbent: None,
        namespace: "team".to_owned(),
        route: "r".to_owned(),
        route_uid: "uid-1".to_owned(),
        rules: limited.rules.clone(),
    };
    let request = DecisionRequest {
        attempt_no: 1,
        namespace: "team".to_owned(),
        payout: Payout { amount: 101.into(), ..limited.reference.clone() },
        payout_id: "p-1".to_owned(),
        rates: Vec::new(),
        route: None,
    };
    let evaluation = decision::decide(&request, &snapshot, &Usage::default(), at(NOW).wall);
    emitted.candidates.extend(evaluation.standings.iter().map(|standing| standing.reason.to_string()));
}
