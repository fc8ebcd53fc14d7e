//! What a route's status says in which world: values in, values out.

use super::decide::{ConnectionState, Observed, decide};
use crate::api::v1alpha1::BankRoute;
use crate::api::v1alpha1::bank_route::{BankRouteSpec, BankRouteStatus, Candidate, CandidateState, Fee, Tier};
use crate::api::v1alpha1::common::{LocalRef, Tri, Window};
use crate::api::v1alpha1::reasons::{ConditionType, EventReason};
use crate::cluster::status::Reported as _;
use crate::controllers::conditions::{read, status_of};
use crate::domain::breaker::Effective;
use crate::domain::conditions::{Status, check_invariants};
use crate::domain::time::{Mono, Now};
use crate::domain::window::Place;

/// No maintenance window.
const SHUT: Place = Place::Outside { until: None };
const UP: ConnectionState = ConnectionState::Live { effective: Effective::Closed, suspended: false, maintenance: SHUT };
const DOWN: ConnectionState = ConnectionState::Live { effective: Effective::Open, suspended: false, maintenance: SHUT };

fn candidate(name: &str, fixed: &str, tier: Tier) -> Candidate {
    Candidate {
        name: name.into(),
        connection_ref: LocalRef::to(name),
        tier: Some(tier),
        fees: Some(vec![Fee { name: "all".into(), fixed: Some(fixed.into()), ..Fee::default() }]),
        ..Candidate::default()
    }
}

fn route() -> BankRoute {
    let spec = BankRouteSpec {
        reference_currency: "EUR".into(),
        candidates: vec![
            candidate("a", "0.30", Tier::Primary),
            candidate("b", "0.50", Tier::Primary),
            candidate("c", "0.10", Tier::Fallback),
        ],
        ..BankRouteSpec::default()
    };
    let mut route = BankRoute::new("r", spec);
    route.metadata.namespace = Some("ns".into());
    route.metadata.generation = Some(1);
    route
}

fn run(
    route: &BankRoute,
    previous: Option<&BankRouteStatus>,
    connections: &[ConnectionState],
) -> (BankRouteStatus, Vec<EventReason>) {
    let now = Now { mono: Mono::ZERO, wall: "2026-03-01T12:00:00Z".parse().unwrap() };
    let decision = decide(route, previous, &Observed { connections: connections.to_vec() }, now);
    let status = decision.status.unwrap();
    let conditions: Vec<_> = status.conditions.iter().map(read).collect();
    check_invariants(&conditions).unwrap();
    (status, decision.notes.iter().map(|n| n.reason).collect())
}

#[test]
fn the_cheapest_primary_is_active_and_a_cheaper_fallback_waits() {
    let (s, notes) = run(&route(), None, &[UP, UP, UP]);
    assert_eq!(s.active.as_deref(), Some("a"));
    assert_eq!(s.candidate_summary.as_deref(), Some("3/3"));
    let states: Vec<_> = s.candidates.iter().map(|c| (c.name.as_str(), c.state, c.reason.as_str())).collect();
    assert_eq!(
        states,
        [
            ("a", CandidateState::Preferred, "LowestCost"),
            ("b", CandidateState::Standby, "HigherCost"),
            ("c", CandidateState::Fallback, "PrimaryAvailable"),
        ]
    );
    assert!(notes.is_empty(), "a first choice is no failover");
}

#[test]
fn a_tripped_bank_is_left_at_once_and_returned_to() {
    let (first, _) = run(&route(), None, &[UP, UP, UP]);
    let (over, notes) = run(&route(), Some(&first), &[DOWN, UP, UP]);
    assert_eq!((over.active.as_deref(), notes), (Some("b"), vec![EventReason::FailedOver]));
    assert!(BankRoute::is_worse(Some(&first), &over));
    let failover = over.last_failover.clone().unwrap();
    assert_eq!(
        (failover.from.as_str(), failover.to.as_deref(), failover.reason.as_str()),
        ("a", Some("b"), "CircuitOpen")
    );
    let (back, notes) = run(&route(), Some(&over), &[UP, UP, UP]);
    assert_eq!((back.active.as_deref(), notes), (Some("a"), vec![EventReason::FailedBack]));
    assert_eq!(back.last_failover, over.last_failover, "the record of the last failover stays");
}

#[test]
fn without_a_primary_the_fallback_serves_and_without_any_nobody_does() {
    let (first, _) = run(&route(), None, &[UP, UP, UP]);
    let (fallback, _) = run(&route(), Some(&first), &[DOWN, DOWN, UP]);
    assert_eq!(fallback.active.as_deref(), Some("c"));
    let (none, notes) = run(&route(), Some(&fallback), &[DOWN, DOWN, DOWN]);
    assert_eq!(
        (none.active.as_deref(), none.available, notes),
        (None, Some(Tri::False), vec![EventReason::NoBankAvailable])
    );
    assert_eq!(status_of(&none.conditions, ConditionType::Ready), Status::True, "an outage is not the spec's fault");
}

#[test]
fn a_bank_in_maintenance_or_outside_its_accept_windows_is_excluded_and_the_edge_is_waited_for() {
    let (first, _) = run(&route(), None, &[UP, UP, UP]);
    let until = "2026-03-01T12:20:00Z".parse().unwrap();
    let maintained =
        ConnectionState::Live { effective: Effective::Closed, suspended: false, maintenance: Place::Inside { until } };
    let (over, notes) = run(&route(), Some(&first), &[maintained, UP, UP]);
    assert_eq!((over.active.as_deref(), notes), (Some("b"), vec![EventReason::FailedOver]));
    assert_eq!(
        (over.candidates[0].state, over.candidates[0].reason.as_str()),
        (CandidateState::Excluded, "Maintenance")
    );
    let mut route = route();
    let window = |from: &str, to: &str| Window {
        name: "day".into(),
        start_time: Some(from.into()),
        end_time: Some(to.into()),
        ..Window::default()
    };
    // It is noon.
    route.spec.candidates[0].accept_windows = Some(vec![window("2026-03-01T12:10:00Z", "2026-03-01T18:00:00Z")]);
    route.spec.candidates[1].accept_windows = Some(vec![window("2026-03-01T06:00:00Z", "2026-03-01T13:00:00Z")]);
    let now = Now { mono: Mono::ZERO, wall: "2026-03-01T12:00:00Z".parse().unwrap() };
    let decision = decide(&route, Some(&first), &Observed { connections: vec![UP; 3] }, now);
    let s = decision.status.unwrap();
    assert_eq!((s.active.as_deref(), s.candidates[0].reason.as_str()), (Some("b"), "CutOff"));
    assert_eq!(decision.next, std::time::Duration::from_mins(10), "the nearest edge");
}

#[test]
fn a_missing_connection_degrades_the_route_and_all_missing_are_waited_for() {
    let (some, _) = run(&route(), None, &[ConnectionState::Missing, UP, UP]);
    assert_eq!(status_of(&some.conditions, ConditionType::Degraded), Status::True);
    assert_eq!(status_of(&some.conditions, ConditionType::Ready), Status::True);
    let (all, _) = run(&route(), None, &[ConnectionState::Missing; 3]);
    assert_eq!(status_of(&all.conditions, ConditionType::Ready), Status::False);
    assert_eq!(status_of(&all.conditions, ConditionType::Reconciling), Status::True);
}

#[test]
fn a_suspended_route_takes_no_payout_and_fails_nothing_over() {
    let (first, _) = run(&route(), None, &[UP, UP, UP]);
    let mut suspended = route();
    suspended.spec.suspend = true;
    let (s, notes) = run(&suspended, Some(&first), &[UP, UP, UP]);
    assert_eq!((s.active, s.available, notes), (None, Some(Tri::False), Vec::new()));
    assert_eq!(s.last_failover, None);
}

#[test]
fn a_transition_time_moves_only_with_the_state() {
    let (mut first, _) = run(&route(), None, &[UP, UP, UP]);
    let earlier = crate::controllers::conditions::time("2026-01-01T00:00:00Z".parse().unwrap());
    for c in &mut first.candidates {
        c.last_transition_time = earlier.clone();
    }
    let (next, _) = run(&route(), Some(&first), &[DOWN, UP, UP]);
    let kept: Vec<_> =
        next.candidates.iter().filter(|c| c.last_transition_time == earlier).map(|c| c.name.as_str()).collect();
    assert_eq!(kept, ["c"]);
}

#[test]
fn an_amount_that_does_not_parse_is_stalled_and_names_its_field() {
    let mut bad = route();
    bad.spec.candidates[1].fees.as_mut().unwrap()[0].fixed = Some("much".into());
    let (s, _) = run(&bad, None, &[UP, UP, UP]);
    assert_eq!(status_of(&s.conditions, ConditionType::Stalled), Status::True);
    assert!(
        s.conditions.iter().any(|c| c.message.contains("spec.candidates[b].fees[all].fixed")),
        "{:?}",
        s.conditions
    );
}
