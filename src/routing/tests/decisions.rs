//! Decide and replay: one decision for one attempt, whatever changes meanwhile.

use jiff::SignedDuration;
use serde_json::json;

use super::env::{Env, START, key, live, ops, payout, request, two_banks};
use crate::domain::breaker::EffectiveState;
use crate::domain::decision::RequestRate;
use crate::domain::money::Currency;
use crate::domain::route::{CandidateReason, ConnectionState};
use crate::ledger::decisions::DecisionFilter;
use crate::routing::{Actor, NoBank, RoutingError};

#[tokio::test]
async fn a_decision_names_the_cheapest_bank_and_is_in_the_audit_when_it_is_answered() {
    let env = Env::new().await;
    let decided = env.decided("p-1").await;
    assert_eq!((decided.record.candidate.as_str(), decided.replayed, decided.expired), ("a", false, false));
    assert_eq!(decided.record.subject, "ops");
    let stored = env.ledger.decision(decided.record.id).await.unwrap().unwrap();
    assert_eq!((stored.seq, stored.hash, stored.body), (decided.seq, decided.hash, decided.record.encode()));
    assert_eq!(env.ledger.snapshot(stored.snapshot).await.unwrap().as_ref(), Some(&decided.snapshot.bytes));
}

#[tokio::test]
async fn the_same_request_again_is_the_same_decision_although_the_bank_is_down() {
    let env = Env::new().await;
    let first = env.decided("p-1").await;
    env.trip("a");
    let again = env.decided("p-1").await;
    assert!(again.replayed);
    assert_eq!((&again.record, again.seq, again.hash), (&first.record, first.seq, first.hash));
    assert_eq!(again.evaluation, first.evaluation, "explained by what was known then");
    assert_eq!(env.decided("p-2").await.record.candidate, "b");
}

#[tokio::test]
async fn another_body_for_the_same_attempt_conflicts_and_names_both_hashes() {
    let env = Env::new().await;
    let first = payout("p-1");
    env.decide(first.clone()).await.unwrap();
    for other in [request("p-1", "101", Some("eu")), request("p-1", "100", None)] {
        let error = env.decide(other.clone()).await.unwrap_err();
        let RoutingError::Conflict { requested, stored } = error else { panic!("{error}") };
        assert_eq!((requested, stored), (other.hash(), first.hash()));
        let said = RoutingError::Conflict { requested, stored }.to_string();
        assert!(!said.contains("new payout_id") && said.contains("next attempt_no, which needs proof"), "{said}");
    }
    // Another spelling of the same amount is the same request.
    assert!(env.decide(request("p-1", "100.00", Some("eu"))).await.unwrap().replayed);
}

#[tokio::test]
async fn a_replayed_decision_that_is_older_than_a_minute_is_expired() {
    let env = Env::new().await;
    env.decided("p-1").await;
    env.advance(SignedDuration::from_secs(59));
    assert!(!env.decided("p-1").await.expired);
    env.advance(SignedDuration::from_secs(1));
    let again = env.decided("p-1").await;
    assert!(again.expired && again.replayed);
}

#[tokio::test]
async fn concurrent_first_calls_of_one_payout_are_one_decision() {
    let env = Env::new().await;
    let calls = (0..32).map(|number| {
        let actor = Actor { request_id: Some(uuid::Uuid::from_u128(number)), ..ops() };
        let service = &env.service;
        async move { service.decide(payout("p-1"), &actor).await.unwrap() }
    });
    let all = futures::future::join_all(calls).await;
    assert_eq!(all.iter().filter(|decided| !decided.replayed).count(), 1);
    assert!(all.iter().all(|decided| decided.record == all[0].record));
    assert_eq!(env.entries().await, 1);
}

fn no_bank(error: RoutingError) -> NoBank {
    let RoutingError::NoBank(no_bank) = error else { panic!("{error}") };
    *no_bank
}

#[tokio::test]
async fn without_a_bank_the_policy_answers_with_a_reason_for_each_and_nothing_is_stored() {
    let env = Env::new().await;
    env.trip("a");
    env.set("b", live(EffectiveState::ForcedOpen, 1_000_000));
    let at = START.parse::<jiff::Timestamp>().unwrap() + SignedDuration::from_secs(17);
    env.script.trials.lock().unwrap().insert(key("a"), at);
    let held = no_bank(env.decide(payout("p-1")).await.unwrap_err());
    assert!(held.holds && (16..=17).contains(&held.retry_after.as_secs()), "{held:?}");
    let reasons = held.evaluation.unwrap();
    let reason = |name: &str| reasons.standing(name).unwrap().reason;
    assert_eq!((reason("a"), reason("b")), (CandidateReason::CircuitOpen, CandidateReason::ForcedOpen));

    let mut spec = two_banks();
    spec["whenNoneAvailable"] = json!("Reject");
    env.apply("eu", &spec);
    assert!(!no_bank(env.decide(payout("p-1")).await.unwrap_err()).holds);
    assert!(!no_bank(env.service.test(&payout("p-1")).await.unwrap_err()).holds);
    assert_eq!(env.entries().await, 0);
}

#[tokio::test]
async fn the_audit_is_verified_for_one_caller_at_a_time() {
    let env = Env::new().await;
    env.decided("p-1").await;
    let running = env.service.verifying.lock().await;
    for _ in 0..2 {
        let refused = env.service.verify().await.unwrap_err();
        assert!(matches!(refused, RoutingError::Verifying), "{refused}");
    }
    drop(running);
    for _ in 0..2 {
        let verdict = env.service.verify().await.unwrap();
        assert_eq!((verdict.entries, verdict.broken), (1, None));
    }
}

#[tokio::test]
async fn a_bank_that_does_not_run_here_yet_ends_no_payout() {
    let env = Env::new().await;
    let mut spec = two_banks();
    spec["whenNoneAvailable"] = json!("Reject");
    env.apply("eu", &spec);
    env.set("a", ConnectionState::NotReady);
    // The other one is excluded whatever this replica knows.
    for other in [ConnectionState::NotReady, ConnectionState::Missing, live(EffectiveState::Open, 1_000_000)] {
        env.set("b", other);
        env.script.starting.lock().unwrap().clear();
        assert!(!no_bank(env.decide(payout("p-1")).await.unwrap_err()).holds, "its spec cannot be used: {other:?}");
        env.script.starting.lock().unwrap().insert(key("a"));
        for error in [env.decide(payout("p-1")).await.unwrap_err(), env.service.test(&payout("p-1")).await.unwrap_err()]
        {
            let held = no_bank(error);
            assert_eq!((held.holds, held.retry_after.as_secs()), (true, 1), "{other:?}");
        }
    }
    // What runs is not asked.
    env.set("a", live(EffectiveState::Open, 1_000_000));
    assert!(!no_bank(env.decide(payout("p-1")).await.unwrap_err()).holds);
}

#[tokio::test]
async fn a_suspended_route_decides_nothing_and_still_replays() {
    let env = Env::new().await;
    let first = env.decided("p-1").await;
    env.edit("eu", |route| route.suspended = true);
    assert!(no_bank(env.decide(payout("p-2")).await.unwrap_err()).evaluation.is_none());
    assert_eq!(env.decided("p-1").await.record, first.record);
}

#[tokio::test]
async fn a_decided_payout_is_replayed_although_its_route_or_its_banks_are_gone() {
    let env = Env::new().await;
    let first = env.decided("p-1").await;
    env.trip("a");
    env.trip("b");
    assert_eq!(env.decided("p-1").await.record, first.record);
    env.script.routes.lock().unwrap().clear();
    assert_eq!(env.decided("p-1").await.record, first.record);
    assert!(matches!(env.decide(payout("p-2")).await, Err(RoutingError::RouteNotFound { .. })));
    let error = env.decide(request("p-1", "7", Some("eu"))).await.unwrap_err();
    assert!(matches!(error, RoutingError::Conflict { .. }), "{error}");
}

#[tokio::test]
async fn without_a_name_the_matching_route_of_highest_priority_then_the_oldest_decides() {
    let env = Env::new().await;
    let with = |priority: i32, countries: &[&str]| {
        let mut spec = two_banks();
        (spec["priority"], spec["match"]) = (json!(priority), json!({"countries": countries}));
        spec
    };
    env.apply("low", &with(1, &["SN"]));
    env.apply("young", &with(5, &["SN"]));
    env.apply("old", &with(5, &["SN", "ML"]));
    env.apply("other", &with(9, &["ML"]));
    env.edit("old", |route| route.created = "2026-01-01T00:00:00Z".parse().unwrap());
    let chosen = |id: &'static str| {
        let env = &env;
        async move { env.decide(request(id, "100", None)).await.unwrap().snapshot.snapshot.route.clone() }
    };
    assert_eq!(chosen("p-1").await, "old");
    env.edit("old", |route| route.created = START.parse().unwrap());
    assert_eq!(chosen("p-2").await, "old", "by name");
    env.script.routes.lock().unwrap().remove(&key("old"));
    assert_eq!(chosen("p-3").await, "young");
    env.script.routes.lock().unwrap().retain(|route, _| matches!(&*route.name, "other"));
    let error = env.decide(request("p-4", "100", None)).await.unwrap_err();
    assert!(matches!(error, RoutingError::RouteNotFound { route: None, .. }), "{error}");
}

#[tokio::test]
async fn a_route_applies_by_the_rates_of_the_request() {
    let env = Env::new().await;
    let mut spec = two_banks();
    (spec["priority"], spec["match"]) = (json!(5), json!({"minAmount": "1000"}));
    env.apply("large", &spec);
    let chosen = |id: &str, rate: i64| {
        let mut asked = request(id, "100", None);
        asked.payout.currency = Currency::parse("USD").unwrap();
        let (from, to) = (asked.payout.currency, Currency::parse("EUR").unwrap());
        asked.rates = vec![RequestRate { at: None, from, rate: rate.into(), to }];
        let env = &env;
        async move { env.service.test(&asked).await.unwrap().snapshot.snapshot.route.clone() }
    };
    assert_eq!(chosen("p-1", 10).await, "large");
    assert_eq!(chosen("p-2", 9).await, "eu", "below the least amount");
}

#[tokio::test]
async fn decisions_share_a_snapshot_until_something_that_decides_changes() {
    let env = Env::new().await;
    let snapshot = |decided: crate::routing::Decided| decided.record.snapshot;
    let first = snapshot(env.decided("p-1").await);
    assert_eq!(snapshot(env.decided("p-2").await), first);
    env.set("b", live(EffectiveState::Closed, 999_000));
    let changed = snapshot(env.decided("p-3").await);
    assert_ne!(changed, first);
    env.set("b", live(EffectiveState::Closed, 1_000_000));
    assert_eq!(snapshot(env.decided("p-4").await), first, "addressed by its content");
}

#[tokio::test]
async fn a_dry_run_chooses_the_same_and_stores_nothing() {
    let env = Env::new().await;
    let tested = env.service.test(&payout("p-1")).await.unwrap();
    assert_eq!(tested.evaluation.active.as_deref(), Some("a"));
    assert_eq!(env.entries().await, 0);
    assert_eq!(env.decided("p-1").await.evaluation, tested.evaluation);
}

#[tokio::test]
async fn a_stored_decision_is_listed_and_explained_again() {
    let env = Env::new().await;
    for id in ["p-1", "p-2", "p-3"] {
        env.decided(id).await;
    }
    let filter = DecisionFilter { namespace: Some("payments".into()), ..DecisionFilter::default() };
    let page = env.service.list(&filter, None, 2).await.unwrap();
    let ids: Vec<_> = page.decisions.iter().map(|stored| stored.key.payout_id.as_str()).collect();
    assert_eq!(ids, ["p-3", "p-2"]);
    let rest = env.service.list(&filter, page.next, 2).await.unwrap();
    assert_eq!(rest.decisions[0].key.payout_id, "p-1");
    let explained = env.service.get(rest.decisions[0].id).await.unwrap();
    assert_eq!(explained.evaluation.standing("b").unwrap().reason, CandidateReason::HigherCost);
    let unknown = env.service.get(uuid::Uuid::from_u128(1)).await.unwrap_err();
    assert!(matches!(unknown, RoutingError::DecisionNotFound { .. }));
    assert_eq!(env.service.verify().await.unwrap().broken, None);
}

#[tokio::test]
async fn decisions_are_counted_by_route_and_result_and_a_deleted_route_is_not() {
    let env = Env::new().await;
    env.decided("p-1").await;
    env.decided("p-1").await;
    env.decide(request("p-1", "5", Some("eu"))).await.unwrap_err();
    let text = env.metrics.render().unwrap();
    for (result, count) in [("decided", 1), ("replayed", 1), ("conflict", 1), ("no_bank", 0)] {
        let labels = format!("{{namespace=\"payments\",result=\"{result}\",route=\"eu\"}}");
        let line = format!("busbar_route_decisions_total{labels} {count}\n");
        assert!(text.contains(&line), "{line}{text}");
    }
    assert!(text.contains("busbar_route_decision_seconds_count 3\n"), "{text}");
    assert_eq!((env.service.totals().decisions, env.service.totals().count), (1, 3));
    env.script.routes.lock().unwrap().clear();
    assert!(!env.metrics.render().unwrap().contains("busbar_route_decisions_total{"));
    assert!(matches!(env.service.decide(payout("p-9"), &ops()).await, Err(RoutingError::RouteNotFound { .. })));
}

#[tokio::test]
async fn what_is_queued_at_the_end_is_answered_and_what_comes_later_is_unavailable() {
    let mut env = Env::new().await;
    env.decided("p-0").await;
    let ids: Vec<_> = (1..=10).map(|number| format!("p-{number}")).collect();
    let calls = futures::future::join_all(ids.iter().map(|id| env.decide(payout(id))));
    let (answers, ()) = futures::join!(calls, async { env.stop.cancel() });
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    (&mut env.committing).await.unwrap();
    assert_eq!(env.entries().await, 11);
    let late = env.decide(payout("p-11")).await.unwrap_err();
    let closing = crate::routing::UnavailableCause::Closing;
    assert!(matches!(late, RoutingError::Unavailable { cause, .. } if cause == closing), "{late}");
}
