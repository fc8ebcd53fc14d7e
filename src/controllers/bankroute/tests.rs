//! Route statuses for given connection states: values in, values out.

mod forecast;
mod reports;

use std::sync::Arc;

use super::decide::{ConnectionState, decide};
use super::inputs::RouteInputs;
use crate::api::v1alpha1::BankRoute;
use crate::api::v1alpha1::bank_route::{BankRouteSpec, BankRouteStatus, Candidate, CandidateState, Fee, Tier};
use crate::api::v1alpha1::common::{LocalRef, TimeWindow, TriState};
use crate::api::v1alpha1::reasons::{ConditionType, EventReason};
use crate::cluster::resource::HasStatus as _;
use crate::controllers::conditions::{from_api, status_of};
use crate::domain::breaker::EffectiveState;
use crate::domain::conditions::{ConditionStatus, check_invariants};
use crate::domain::route::CandidateHealth;
use crate::domain::time::{Mono, Now};
use crate::domain::window::WindowPosition;
use crate::resolve::bank_route;

/// No maintenance window.
const NO_WINDOW: WindowPosition = WindowPosition::Outside { until: None };
const UP: ConnectionState = live(EffectiveState::Closed, CandidateHealth::Usable);
const DOWN: ConnectionState = live(EffectiveState::Open, CandidateHealth::Unhealthy);

const fn live(effective: EffectiveState, health: CandidateHealth) -> ConnectionState {
    ConnectionState::Live { effective, health, suspended: false, maintenance: NO_WINDOW, success: 950_000 }
}

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

fn inputs(route: &BankRoute, connections: &[ConnectionState]) -> RouteInputs {
    RouteInputs::of(bank_route(&route.spec).map(Arc::new), connections.to_vec())
}

fn run(
    route: &BankRoute,
    previous: Option<&BankRouteStatus>,
    connections: &[ConnectionState],
) -> (BankRouteStatus, Vec<EventReason>) {
    let now = Now { mono: Mono::ZERO, wall: "2026-03-01T12:00:00Z".parse().unwrap() };
    let decision = decide(route, previous, &inputs(route, connections), now);
    let status = decision.status.unwrap();
    let conditions: Vec<_> = status.conditions.iter().map(from_api).collect();
    check_invariants(&conditions).unwrap();
    (status, decision.events.iter().map(|event| event.reason).collect())
}

#[test]
fn the_cheapest_primary_is_active_even_if_a_fallback_is_cheaper() {
    let (s, events) = run(&route(), None, &[UP, UP, UP]);
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
    assert!(events.is_empty(), "a first choice is no failover");
}

#[test]
fn an_open_circuit_fails_over_and_its_recovery_fails_back() {
    let (first, _) = run(&route(), None, &[UP, UP, UP]);
    let (failed_over, events) = run(&route(), Some(&first), &[DOWN, UP, UP]);
    assert_eq!((failed_over.active.as_deref(), events), (Some("b"), vec![EventReason::FailedOver]));
    assert!(BankRoute::is_urgent(Some(&first), &failed_over));
    let failover = failed_over.last_failover.clone().unwrap();
    assert_eq!(
        (failover.from.as_str(), failover.to.as_deref(), failover.reason.as_str()),
        ("a", Some("b"), "CircuitOpen")
    );
    let (back, events) = run(&route(), Some(&failed_over), &[UP, UP, UP]);
    assert_eq!((back.active.as_deref(), events), (Some("a"), vec![EventReason::FailedBack]));
    assert_eq!(back.last_failover, failed_over.last_failover, "the record of the last failover stays");
}

#[test]
fn each_bank_that_a_failover_left_is_failed_back_to_and_no_other() {
    let marks = |status: &BankRouteStatus| status.candidates.iter().map(|c| c.failed_over).collect::<Vec<_>>();
    let (first, _) = run(&route(), None, &[UP, UP, UP]);
    let (to_b, _) = run(&route(), Some(&first), &[DOWN, UP, UP]);
    let (to_c, _) = run(&route(), Some(&to_b), &[DOWN, DOWN, UP]);
    assert_eq!(marks(&to_c), [Some(true), Some(true), None]);
    let (back_to_b, events) = run(&route(), Some(&to_c), &[DOWN, UP, UP]);
    assert_eq!((events, marks(&back_to_b)), (vec![EventReason::FailedBack], vec![Some(true), None, None]));
    let (back_to_a, events) = run(&route(), Some(&back_to_b), &[UP, UP, UP]);
    assert_eq!((events, marks(&back_to_a)), (vec![EventReason::FailedBack], vec![None; 3]));
    // `a` is excluded from the start, so `b` is the first choice, and `c` takes over from it.
    let (at_b, _) = run(&route(), None, &[DOWN, UP, UP]);
    let (at_c, events) = run(&route(), Some(&at_b), &[DOWN, DOWN, UP]);
    assert_eq!(events, [EventReason::FailedOver]);
    let (at_a, events) = run(&route(), Some(&at_c), &[UP, DOWN, UP]);
    assert_eq!((at_a.active.as_deref(), events), (Some("a"), Vec::new()), "it was never active");
}

#[test]
fn failing_checks_exclude_a_bank_whose_circuit_lets_calls_through() {
    for effective in [EffectiveState::Closed, EffectiveState::Shadow] {
        let (first, _) = run(&route(), None, &[UP, UP, UP]);
        let failing = live(effective, CandidateHealth::Unhealthy);
        let (moved, events) = run(&route(), Some(&first), &[failing, UP, UP]);
        assert_eq!((moved.active.as_deref(), events), (Some("b"), vec![EventReason::FailedOver]));
        let reason = moved.last_failover.as_ref().map(|last| last.reason.as_str());
        assert_eq!((moved.candidates[0].reason.as_str(), reason), ("Unhealthy", Some("Unhealthy")));
        let (back, events) = run(&route(), Some(&moved), &[UP, UP, UP]);
        assert_eq!((back.active.as_deref(), events), (Some("a"), vec![EventReason::FailedBack]));
    }
    let forced = live(EffectiveState::ForcedClosed, CandidateHealth::Unhealthy);
    assert_eq!(run(&route(), None, &[forced, UP, UP]).0.active.as_deref(), Some("a"), "only this lifts it");
}

#[test]
fn banks_that_never_answered_make_no_route_available() {
    let never = |effective| live(effective, CandidateHealth::NeverHealthy);
    let banks = [never(EffectiveState::Closed), never(EffectiveState::Open), never(EffectiveState::Shadow)];
    let (status, events) = run(&route(), None, &banks);
    assert_eq!((status.active.as_deref(), status.available), (None, Some(TriState::False)));
    assert!(status.candidates.iter().all(|c| c.reason == "NeverHealthy"), "{:?}", status.candidates);
    assert!(events.is_empty(), "{events:?}");
    let (status, events) = run(&route(), Some(&status), &[UP, banks[1], banks[2]]);
    assert_eq!((status.active.as_deref(), events), (Some("a"), Vec::new()), "no failback: it never failed");
}

#[test]
fn the_fallback_is_active_without_primaries_and_none_without_any_bank() {
    let (first, _) = run(&route(), None, &[UP, UP, UP]);
    let (fallback, _) = run(&route(), Some(&first), &[DOWN, DOWN, UP]);
    assert_eq!(fallback.active.as_deref(), Some("c"));
    let (none, events) = run(&route(), Some(&fallback), &[DOWN, DOWN, DOWN]);
    assert_eq!(
        (none.active.as_deref(), none.available, events),
        (None, Some(TriState::False), vec![EventReason::NoBankAvailable])
    );
    assert_eq!(
        status_of(&none.conditions, ConditionType::Ready),
        ConditionStatus::True,
        "an outage does not affect Ready"
    );
}

#[test]
fn maintenance_and_accept_windows_exclude_a_bank_until_their_edge() {
    let (first, _) = run(&route(), None, &[UP, UP, UP]);
    let until = "2026-03-01T12:20:00Z".parse().unwrap();
    let maintained = ConnectionState::Live {
        effective: EffectiveState::Closed,
        health: CandidateHealth::Usable,
        suspended: false,
        maintenance: WindowPosition::Inside { until },
        success: 950_000,
    };
    let (failed_over, events) = run(&route(), Some(&first), &[maintained, UP, UP]);
    assert_eq!((failed_over.active.as_deref(), events), (Some("b"), vec![EventReason::FailedOver]));
    assert_eq!(
        (failed_over.candidates[0].state, failed_over.candidates[0].reason.as_str()),
        (CandidateState::Excluded, "Maintenance")
    );
    let mut route = route();
    let window = |from: &str, to: &str| TimeWindow {
        name: "day".into(),
        start_time: Some(from.into()),
        end_time: Some(to.into()),
        ..TimeWindow::default()
    };
    // The time is 12:00.
    route.spec.candidates[0].accept_windows = Some(vec![window("2026-03-01T12:10:00Z", "2026-03-01T18:00:00Z")]);
    route.spec.candidates[1].accept_windows = Some(vec![window("2026-03-01T06:00:00Z", "2026-03-01T13:00:00Z")]);
    let now = Now { mono: Mono::ZERO, wall: "2026-03-01T12:00:00Z".parse().unwrap() };
    let decision = decide(&route, Some(&first), &inputs(&route, &[UP; 3]), now);
    let s = decision.status.unwrap();
    assert_eq!((s.active.as_deref(), s.candidates[0].reason.as_str()), (Some("b"), "CutOff"));
    assert_eq!(decision.requeue_after, std::time::Duration::from_mins(10), "the nearest edge");
}

#[test]
fn a_missing_connection_degrades_the_route_and_all_missing_make_it_not_ready() {
    let (some, _) = run(&route(), None, &[ConnectionState::Missing, UP, UP]);
    assert_eq!(status_of(&some.conditions, ConditionType::Degraded), ConditionStatus::True);
    assert_eq!(status_of(&some.conditions, ConditionType::Ready), ConditionStatus::True);
    let (all, _) = run(&route(), None, &[ConnectionState::Missing; 3]);
    assert_eq!(status_of(&all.conditions, ConditionType::Ready), ConditionStatus::False);
    assert_eq!(status_of(&all.conditions, ConditionType::Reconciling), ConditionStatus::True);
}

#[test]
fn a_suspended_route_accepts_no_payouts_and_records_no_failover() {
    let (first, _) = run(&route(), None, &[UP, UP, UP]);
    let mut suspended = route();
    suspended.spec.suspend = true;
    let (s, events) = run(&suspended, Some(&first), &[UP, UP, UP]);
    assert_eq!((s.active, s.available, events), (None, Some(TriState::False), Vec::new()));
    assert_eq!(s.last_failover, None);
}

#[test]
fn a_candidates_transition_time_changes_only_with_its_state() {
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
fn an_invalid_amount_stalls_the_route_and_names_the_field() {
    let mut bad = route();
    bad.spec.candidates[1].fees.as_mut().unwrap()[0].fixed = Some("much".into());
    let (s, _) = run(&bad, None, &[UP, UP, UP]);
    assert_eq!(status_of(&s.conditions, ConditionType::Stalled), ConditionStatus::True);
    assert!(
        s.conditions.iter().any(|c| c.message.contains("spec.candidates[b].fees[all].fixed")),
        "{:?}",
        s.conditions
    );
}

#[test]
fn an_edit_that_removes_or_limits_the_active_bank_is_no_failover() {
    let (first, _) = run(&route(), None, &[UP, UP, UP]);
    let mut removed = route();
    removed.spec.candidates.remove(0);
    let mut renamed = route();
    renamed.spec.candidates[0].name = "other".into();
    renamed.spec.candidates[0].tier = Some(Tier::Fallback);
    let mut limited = route();
    limited.spec.candidates[0].max_amount = Some("1".into());
    for edited in [removed, renamed, limited] {
        let connections = vec![UP; edited.spec.candidates.len()];
        let (s, events) = run(&edited, Some(&first), &connections);
        assert_eq!((s.active.as_deref(), events, s.last_failover), (Some("b"), vec![], None));
    }
    // Without any bank it is reported that there is none, and not that the removed one failed.
    let mut alone = route();
    alone.spec.candidates.truncate(1);
    alone.spec.candidates[0].name = "other".into();
    let now = Now { mono: Mono::ZERO, wall: "2026-03-01T12:00:00Z".parse().unwrap() };
    let decision = decide(&alone, Some(&first), &inputs(&alone, &[DOWN]), now);
    let event = &decision.events[0];
    assert_eq!((event.reason, decision.status.unwrap().last_failover), (EventReason::NoBankAvailable, None));
    assert!(event.message.contains("a does not take the reference payout since the route was edited"));
}

#[test]
fn a_route_created_again_or_whose_status_was_lost_reports_no_failover() {
    for previous in [None, Some(BankRouteStatus { observed_generation: Some(-1), ..BankRouteStatus::default() })] {
        let (s, events) = run(&route(), previous.as_ref(), &[DOWN, UP, UP]);
        assert_eq!((s.active.as_deref(), events, s.last_failover), (Some("b"), vec![], None));
    }
}

fn with_success(success: u32) -> ConnectionState {
    let (effective, health) = (EffectiveState::Closed, CandidateHealth::Usable);
    ConnectionState::Live { effective, health, suspended: false, maintenance: NO_WINDOW, success }
}

#[test]
fn a_bank_that_has_recovered_is_failed_back_to_when_it_is_cheapest_again() {
    let (first, _) = run(&route(), None, &[UP, UP, UP]);
    let (at_b, _) = run(&route(), Some(&first), &[DOWN, UP, UP]);
    let (recovering, events) = run(&route(), Some(&at_b), &[with_success(700_000), UP, UP]);
    assert_eq!((recovering.active.as_deref(), events), (Some("b"), Vec::new()), "failures are expected to cost more");
    let (back, events) = run(&route(), Some(&recovering), &[with_success(960_000), UP, UP]);
    assert_eq!((back.active.as_deref(), events), (Some("a"), vec![EventReason::FailedBack]));
}

#[test]
fn costs_are_compared_again_while_a_bank_recovers() {
    let route = route();
    let requeue = |connections: &[ConnectionState]| {
        let now = Now { mono: Mono::ZERO, wall: "2026-03-01T12:00:00Z".parse().unwrap() };
        decide(&route, None, &inputs(&route, connections), now).requeue_after
    };
    assert_eq!(requeue(&[with_success(700_000), UP, UP]), std::time::Duration::from_mins(1));
    assert!(requeue(&[UP, UP, UP]) > std::time::Duration::from_mins(10));
}

#[test]
fn a_pin_and_a_weight_choose_until_they_end_and_unknown_names_are_reported() {
    let mut pinned = route();
    let choice = r#"{"pin": {"candidate": "b", "untilTime": "2026-03-01T12:00:30Z", "reason": "incident"},
        "adjustments": [{"name": "x", "candidate": "gone", "weight": "2", "untilTime": "2026-03-02T00:00:00Z",
            "reason": "slow"}]}"#;
    let choice: serde_json::Value = serde_json::from_str(choice).unwrap();
    pinned.spec.pin = serde_json::from_value(choice["pin"].clone()).unwrap();
    pinned.spec.adjustments = serde_json::from_value(choice["adjustments"].clone()).unwrap();
    let (status, _) = run(&pinned, None, &[UP, UP, UP]);
    assert_eq!(status.active.as_deref(), Some("b"));
    let reasons: Vec<_> = status.candidates.iter().map(|c| c.reason.as_str()).collect();
    assert_eq!(reasons, ["OtherPinned", "Pinned", "PrimaryAvailable"]);
    let ready = status.conditions.iter().find(|c| c.type_ == "Ready").unwrap();
    assert!(
        ready.message.contains("ignored") && ready.message.contains("spec.adjustments[x].candidate"),
        "{}",
        ready.message
    );
    let now = Now { mono: Mono::ZERO, wall: "2026-03-01T12:00:00Z".parse().unwrap() };
    let requeue = decide(&pinned, None, &inputs(&pinned, &[UP, UP, UP]), now).requeue_after;
    assert_eq!(requeue, std::time::Duration::from_secs(30));
    let (status, _) = run(&pinned, None, &[UP, DOWN, UP]);
    assert_eq!(status.active.as_deref(), Some("a"), "a pinned bank that is excluded takes no payout");
}

#[test]
fn hysteresis_holds_the_active_bank() {
    let mut held = route();
    held.spec.hysteresis = serde_json::from_str(r#"{"minHold": "10m"}"#).unwrap();
    let (first, _) = run(&held, None, &[DOWN, UP, UP]);
    assert_eq!(first.active.as_deref(), Some("b"));
    let (kept, _) = run(&held, Some(&first), &[UP, UP, UP]);
    let reasons: Vec<_> = kept.candidates.iter().map(|c| c.reason.as_str()).collect();
    assert_eq!(
        (kept.active.as_deref(), reasons),
        (Some("b"), vec!["WithinHysteresis", "KeptByHysteresis", "PrimaryAvailable"])
    );
    let now = Now { mono: Mono::ZERO, wall: "2026-03-01T12:00:00Z".parse().unwrap() };
    let requeue = decide(&held, Some(&first), &inputs(&held, &[UP, UP, UP]), now).requeue_after;
    assert_eq!(requeue, std::time::Duration::from_mins(10));
}
