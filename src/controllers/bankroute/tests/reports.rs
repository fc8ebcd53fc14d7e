//! What a route reports of failovers, pins and missing objects: counts, outbox events, conditions.

use serde_json::json;

use super::*;
use crate::api::v1alpha1::bank_route::WhenNoneAvailable;
use crate::controllers::Reconciler as _;
use crate::controllers::bankroute::BankRouteReconciler;
use crate::domain::event::{EventType, OutboxEvent};
use crate::domain::route::{AdjustmentScope, Pin, PinSource};

fn outbox(route: &BankRoute, previous: Option<&BankRouteStatus>, status: &BankRouteStatus) -> Vec<OutboxEvent> {
    BankRouteReconciler::outbox_events(route, previous, status)
}

fn payload(event: &OutboxEvent) -> serde_json::Value {
    serde_json::from_str(&event.payload).unwrap()
}

#[test]
fn each_failover_is_counted_and_has_one_event_with_an_id_of_its_own() {
    let (first, _) = run(&route(), None, &[UP, UP, UP]);
    assert_eq!((first.failovers, outbox(&route(), None, &first)), (None, Vec::new()));
    let (to_b, _) = run(&route(), Some(&first), &[DOWN, UP, UP]);
    let (repeated, _) = run(&route(), Some(&first), &[DOWN, UP, UP]);
    let (back, _) = run(&route(), Some(&to_b), &[UP, UP, UP]);
    let (to_b_again, _) = run(&route(), Some(&back), &[DOWN, UP, UP]);
    let (none, _) = run(&route(), Some(&to_b_again), &[DOWN, DOWN, DOWN]);
    assert_eq!(
        [to_b.failovers, back.failovers, to_b_again.failovers, none.failovers],
        [Some(1), Some(1), Some(2), Some(3)]
    );
    assert!(outbox(&route(), Some(&to_b), &back).is_empty(), "a failback is no failover");
    assert!(outbox(&route(), Some(&to_b), &to_b).is_empty());
    let events: Vec<_> = [(&first, &to_b), (&back, &to_b_again), (&to_b_again, &none)]
        .into_iter()
        .flat_map(|(before, after)| outbox(&route(), Some(before), after))
        .collect();
    assert_eq!(events.len(), 3);
    for event in &events {
        assert_eq!(
            (event.event_type, &*event.namespace, &*event.aggregate),
            (EventType::BankFailover, "ns", "bankroute/ns/r")
        );
    }
    let said: Vec<_> = events.iter().map(payload).map(|p| json!([p["from"], p["to"]])).collect();
    assert_eq!(said, [json!(["a", "b"]), json!(["a", "b"]), json!(["b", null])]);
    let first_payload = payload(&events[0]);
    assert_eq!((&first_payload["reason"], &first_payload["route"]), (&json!("CircuitOpen"), &json!("r")));
    let ids: std::collections::BTreeSet<_> = events.iter().map(|event| event.id).collect();
    assert_eq!(ids.len(), 3, "the same banks fail over twice");
    assert_eq!(
        outbox(&route(), Some(&first), &repeated),
        outbox(&route(), Some(&first), &to_b),
        "a repetition is equal"
    );
}

#[test]
fn a_repeated_reconcile_gives_the_same_event_although_time_has_passed() {
    let (first, _) = run(&route(), None, &[UP, UP, UP]);
    let later = |wall: &str| {
        let now = Now { mono: Mono::ZERO, wall: wall.parse().unwrap() };
        let status = decide(&route(), Some(&first), &inputs(&route(), &[DOWN, UP, UP]), now).status.unwrap();
        outbox(&route(), Some(&first), &status).remove(0).id
    };
    assert_eq!(later("2026-03-01T12:00:00Z"), later("2026-03-01T12:00:09Z"));
}

#[test]
fn a_pin_on_an_excluded_bank_is_said_to_have_no_effect() {
    let until = "2026-03-02T00:00:00Z".parse().unwrap();
    let pin = |candidate: &str, source| Pin {
        candidate: candidate.to_owned(),
        scope: AdjustmentScope::Global,
        source,
        until,
    };
    for (source, subject) in [(PinSource::Spec, "spec.pin"), (PinSource::Api, "the pin of the API")] {
        let with = |connections: &[ConnectionState]| {
            let mut inputs = inputs(&route(), connections);
            let mut rules = inputs.route.clone().unwrap().rules.clone();
            rules.pins = vec![pin("b", source)];
            inputs.rules = Some(Arc::new(rules));
            inputs
        };
        let now = Now { mono: Mono::ZERO, wall: "2026-03-01T12:00:00Z".parse().unwrap() };
        let pinned = decide(&route(), None, &with(&[UP, UP, UP]), now);
        assert_eq!((pinned.status.as_ref().unwrap().active.as_deref(), pinned.events.len()), (Some("b"), 0));
        let over = decide(&route(), pinned.status.as_ref(), &with(&[UP, DOWN, UP]), now);
        let reasons: Vec<_> = over.events.iter().map(|event| event.reason).collect();
        assert_eq!(reasons, [EventReason::FailedOver, EventReason::PinWithoutEffect]);
        let status = over.status.unwrap();
        let available = status.conditions.iter().find(|c| c.type_ == "Available").unwrap();
        assert_eq!((status.active.as_deref(), available.reason.as_str()), (Some("a"), "PinWithoutEffect"));
        for text in [&available.message, &over.events[1].message] {
            assert!(text.contains(subject) && text.contains("b is excluded (CircuitOpen)"), "{text}");
        }
        let again = decide(&route(), Some(&status), &with(&[UP, DOWN, UP]), now);
        assert!(again.events.is_empty(), "said once: {:?}", again.events);
        let back = decide(&route(), Some(&status), &with(&[UP, UP, UP]), now);
        let back = back.status.unwrap();
        let available = back.conditions.iter().find(|c| c.type_ == "Available").unwrap();
        assert_eq!((back.active.as_deref(), available.reason.as_str()), (Some("b"), "CandidateAvailable"));
    }
}

#[test]
fn without_a_bank_the_condition_and_the_event_say_what_becomes_of_payouts() {
    for (policy, said) in
        [(WhenNoneAvailable::Hold, "payouts are held"), (WhenNoneAvailable::Reject, "payouts are rejected")]
    {
        let mut route = route();
        route.spec.when_none_available = policy;
        let (first, _) = run(&route, None, &[UP, UP, UP]);
        let now = Now { mono: Mono::ZERO, wall: "2026-03-01T12:00:00Z".parse().unwrap() };
        let none = decide(&route, Some(&first), &inputs(&route, &[DOWN; 3]), now);
        let status = none.status.unwrap();
        let available = status.conditions.iter().find(|c| c.type_ == "Available").unwrap();
        for text in [&available.message, &none.events[0].message] {
            assert!(text.contains(said) && text.contains("no_route"), "{text}");
        }
    }
}

#[test]
fn a_scorer_that_does_not_exist_degrades_the_route_and_nothing_else() {
    let mut inputs = inputs(&route(), &[UP, UP, UP]);
    inputs.scorer_missing = true;
    let now = Now { mono: Mono::ZERO, wall: "2026-03-01T12:00:00Z".parse().unwrap() };
    let status = decide(&route(), None, &inputs, now).status.unwrap();
    let degraded = status.conditions.iter().find(|c| c.type_ == "Degraded").unwrap();
    assert_eq!((degraded.reason.as_str(), status.active.as_deref()), ("ScorerNotFound", Some("a")));
    assert_eq!(status_of(&status.conditions, ConditionType::Ready), ConditionStatus::True);
}

#[test]
fn the_connections_of_a_route_are_those_of_its_candidates_and_its_scorer() {
    use crate::cluster::resource::WatchedResource as _;
    let mut scored = route();
    scored.spec.scorer = serde_json::from_str(r#"{"connectionRef": {"name": "sira"}}"#).unwrap();
    let names: Vec<_> = scored.references().into_iter().map(|(_, key)| key.name.to_string()).collect();
    assert_eq!(names, ["a", "b", "c", "sira"]);
}

#[test]
fn held_payouts_are_a_condition_and_an_event_while_they_wait() {
    let route = route();
    let held = |previous: Option<&BankRouteStatus>, held_payouts| {
        let inputs = RouteInputs { held_payouts, ..inputs(&route, &[UP, UP, UP]) };
        let now = Now { mono: Mono::ZERO, wall: "2026-03-01T12:00:00Z".parse().unwrap() };
        let decision = decide(&route, previous, &inputs, now);
        let status = decision.status.unwrap();
        let conditions: Vec<_> = status.conditions.iter().map(from_api).collect();
        check_invariants(&conditions).unwrap();
        let events: Vec<EventReason> = decision.events.iter().map(|event| event.reason).collect();
        (status_of(&status.conditions, ConditionType::PayoutsHeld), status, events)
    };
    let (condition, none, events) = held(None, Some(0));
    assert_eq!((condition, none.held_payouts, events.len()), (ConditionStatus::Unknown, Some(0), 0));
    let (condition, some, events) = held(Some(&none), Some(3));
    assert_eq!((condition, some.held_payouts), (ConditionStatus::True, Some(1)));
    assert_eq!(events, [EventReason::PayoutHeld]);
    assert!(BankRoute::is_urgent(Some(&none), &some), "written at once");
    let (condition, kept, events) = held(Some(&some), None);
    assert_eq!(
        (condition, kept.held_payouts, events.len()),
        (ConditionStatus::True, Some(1), 0),
        "not known: it stays"
    );
    let (condition, resolved, events) = held(Some(&kept), Some(0));
    assert_eq!((condition, resolved.held_payouts, events.len()), (ConditionStatus::Unknown, Some(0), 0));
    assert!(resolved.conditions.iter().all(|condition| condition.type_ != "PayoutsHeld"));
}
