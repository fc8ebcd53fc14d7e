//! Adjustments, pins and approvals of operations staff: in force when they are answered, until they end.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::env::{Env, START, key, ops, two_banks};
use crate::domain::decision::OutcomeClass;
use crate::domain::route::{AdjustmentScope, CandidateReason, Proposal};
use crate::ledger::decisions::{AdjustmentEffect, AdjustmentTarget, ProposalState};
use crate::routing::{AdjustmentRequest, OverrideRequest, RoutingError};

fn after(hours: i64) -> Timestamp {
    START.parse::<Timestamp>().unwrap() + SignedDuration::from_hours(hours)
}

fn pin_b() -> AdjustmentRequest {
    AdjustmentRequest {
        action: AdjustmentEffect::Pin,
        bank: AdjustmentTarget::BankProfile("profile-b".into()),
        expires_at: after(1),
        namespace: "payments".into(),
        reason: None,
        route: None,
        scope: AdjustmentScope::Global,
    }
}

#[tokio::test]
async fn a_pin_counts_for_the_next_decision_until_it_ends_or_is_deleted() {
    let env = Env::new().await;
    let changes = env.service.subscribe_changes();
    let pin = env.service.create_adjustment(pin_b(), &ops()).await.unwrap();
    assert_eq!((changes.try_take(), changes.try_take()), (Some(key("eu")), None));
    let decided = env.decided("p-1").await;
    assert_eq!(decided.record.candidate, "b");
    assert_eq!(decided.evaluation.standing("b").unwrap().reason, CandidateReason::PinnedByOps);
    assert_eq!(env.service.adjustments("payments").await.unwrap(), std::slice::from_ref(&pin));
    assert!(env.service.adjustments("other").await.unwrap().is_empty());

    env.advance(SignedDuration::from_hours(1));
    assert_eq!(env.decided("p-2").await.record.candidate, "a", "it has ended, whatever is cached");
    env.advance(SignedDuration::from_hours(-1));
    assert_eq!(env.decided("p-3").await.record.candidate, "b");
    env.service.delete_adjustment("payments", pin.id, &ops()).await.unwrap();
    assert_eq!(env.decided("p-4").await.record.candidate, "a");
    let gone = env.service.delete_adjustment("payments", pin.id, &ops()).await.unwrap_err();
    assert!(matches!(gone, RoutingError::AdjustmentNotFound { .. }), "{gone}");
}

#[tokio::test]
async fn the_id_of_a_bank_profile_is_not_taken_for_the_name_of_another_bank() {
    let env = Env::new().await;
    let mut spec = two_banks();
    spec["candidates"][0].as_object_mut().unwrap().remove("bankProfileID");
    spec["candidates"][1]["bankProfileID"] = json!("a");
    env.apply("eu", &spec);
    let bank = AdjustmentTarget::BankProfile("a".into());
    let first = env.decided("p-1").await;
    assert_eq!(first.record.candidate, "a");
    env.report(&first, OutcomeClass::NotSent).await.unwrap();
    let to = OverrideRequest { bank: bank.clone(), decision: first.record.id, reason: "x".into() };
    assert_eq!(env.service.override_decision(to, &ops()).await.unwrap().record.candidate, "b");
    env.service.create_adjustment(AdjustmentRequest { bank, ..pin_b() }, &ops()).await.unwrap();
    assert_eq!(env.decided("p-2").await.record.candidate, "b", "pinned is the bank that declares the ID");
    // Where no bank declares it, the name of a bank without an ID is one.
    spec["candidates"][1]["bankProfileID"] = json!("other");
    env.apply("eu", &spec);
    let decided = env.decided("p-3").await;
    assert_eq!(decided.evaluation.standing("a").unwrap().reason, CandidateReason::PinnedByOps);
}

#[tokio::test]
async fn a_weight_of_one_route_and_scope_counts_there_only() {
    let env = Env::new().await;
    env.apply("other", &two_banks());
    for (scope, route, chosen) in [
        (AdjustmentScope::Country("ML".into()), "eu", "a"),
        (AdjustmentScope::Merchant("m".into()), "eu", "a"),
        (AdjustmentScope::Global, "other", "a"),
        (AdjustmentScope::Country("SN".into()), "eu", "b"),
    ] {
        let action = AdjustmentEffect::Weight("0.1".parse().unwrap());
        let request = AdjustmentRequest { action, scope: scope.clone(), route: Some(route.into()), ..pin_b() };
        env.service.create_adjustment(request, &ops()).await.unwrap();
        let id = format!("{scope:?}").replace(['(', ')', '"', ' '], "-");
        assert_eq!(env.decided(&id).await.record.candidate, chosen, "{scope:?} {route}");
    }
}

#[tokio::test]
async fn an_adjustment_that_cannot_have_an_effect_is_refused_with_its_field() {
    let env = Env::new().await;
    let weight = |text: &str| AdjustmentEffect::Weight(text.parse().unwrap());
    let refused = [
        AdjustmentRequest { action: weight("0.09"), ..pin_b() },
        AdjustmentRequest { action: weight("10.1"), ..pin_b() },
        AdjustmentRequest { expires_at: after(0), ..pin_b() },
        AdjustmentRequest { expires_at: after(24 * 400), ..pin_b() },
        AdjustmentRequest { bank: AdjustmentTarget::Candidate("x".into()), ..pin_b() },
        AdjustmentRequest { route: Some("missing".into()), ..pin_b() },
        AdjustmentRequest { namespace: "other".into(), ..pin_b() },
    ];
    let mut found = Vec::new();
    for request in refused {
        found.push(match env.service.create_adjustment(request, &ops()).await.unwrap_err() {
            RoutingError::Invalid { field, .. } => field,
            RoutingError::CandidateNotFound { .. } => "candidate",
            RoutingError::RouteNotFound { .. } => "route",
            other => panic!("{other}"),
        });
    }
    assert_eq!(found, ["weight", "weight", "expires_at", "expires_at", "candidate", "route", "candidate"]);
    assert_eq!(env.entries().await, 0);
}

#[tokio::test]
async fn a_stored_rule_of_another_replica_counts_after_the_next_reading() {
    let (env, other) = (Env::new().await, Env::new().await);
    assert_eq!(other.decided("p-0").await.record.candidate, "a");
    env.service.create_adjustment(pin_b(), &ops()).await.unwrap();
    let pin = env.service.adjustments("payments").await.unwrap().remove(0);
    // What the other replica's ledger would hold, if it were the same one.
    let entry = crate::ledger::decisions::AdjustmentChange::Create(pin);
    let entries = vec![crate::ledger::decisions::NewEntry::Adjustment(entry)];
    let batch = std::sync::Arc::new(crate::ledger::decisions::DecisionBatch { entries });
    other.ledger.commit_decisions(batch).await.unwrap();
    assert_eq!(other.decided("p-1").await.record.candidate, "a");
    other.service.ops.refresh().await.unwrap();
    assert_eq!(other.decided("p-2").await.record.candidate, "b");
}

#[tokio::test]
async fn an_approved_proposal_chooses_for_half_an_hour_and_is_approved_once() {
    let env = Env::new().await;
    let mut spec = two_banks();
    spec["mode"] = serde_json::json!("Hybrid");
    env.apply("eu", &spec);
    let proposal =
        Proposal { candidate: "b".into(), from: "a".into(), risk: 700_000, success: 990_000, valid_until: after(1) };
    let pending = env.service.propose(&key("eu"), &proposal, after(1)).await.unwrap();
    let again = env.service.propose(&key("eu"), &proposal, after(1)).await.unwrap();
    assert_eq!(again.proposal.id, pending.proposal.id, "one at a time");
    assert_eq!(env.decided("p-1").await.record.candidate, "a", "nothing happens by itself");
    let approved = env.service.approve_proposal("payments", pending.proposal.id, &ops()).await.unwrap();
    assert_eq!((approved.state, approved.settled_by.as_deref()), (ProposalState::Approved, Some("ops")));
    let decided = env.decided("p-2").await;
    assert_eq!(decided.record.candidate, "b");
    assert_eq!(decided.evaluation.standing("b").unwrap().reason, CandidateReason::PredictiveHybrid);
    let closed = env.service.reject_proposal("payments", pending.proposal.id, &ops()).await.unwrap_err();
    assert!(matches!(closed, RoutingError::ProposalClosed { state: ProposalState::Approved, .. }), "{closed}");
    let foreign = env.service.approve_proposal("other", pending.proposal.id, &ops()).await.unwrap_err();
    assert!(matches!(foreign, RoutingError::ProposalNotFound { .. }), "{foreign}");
    env.advance(SignedDuration::from_mins(30));
    assert_eq!(env.decided("p-3").await.record.candidate, "a", "approved for the horizon of the forecast");
}

#[tokio::test]
async fn a_proposal_that_has_expired_cannot_be_approved() {
    let env = Env::new().await;
    let (candidate, from) = ("b".to_owned(), "a".to_owned());
    let proposal = Proposal { candidate, from, risk: 600_000, success: 990_000, valid_until: after(1) };
    let pending = env.service.propose(&key("eu"), &proposal, after(1)).await.unwrap();
    env.advance(SignedDuration::from_hours(1));
    let error = env.service.approve_proposal("payments", pending.proposal.id, &ops()).await.unwrap_err();
    assert!(matches!(error, RoutingError::ProposalClosed { state: ProposalState::Lapsed, .. }), "{error}");
    let lapsed = env.service.lapse_proposal("payments", pending.proposal.id, &ops()).await.unwrap();
    assert_eq!(lapsed.state, ProposalState::Lapsed);
}

#[tokio::test]
async fn the_first_decision_of_a_process_reads_what_is_stored_first() {
    let env = Env::new().await;
    env.service.create_adjustment(pin_b(), &ops()).await.unwrap();
    let metrics = crate::metrics::Metrics::new();
    let deps = crate::routing::RoutingDeps {
        clock: env.service.clock,
        ledger: std::sync::Arc::clone(&env.ledger),
        routes: std::sync::Arc::clone(&env.script) as _,
        tasks: crate::tasks::TaskGroup::default(),
    };
    let (restarted, _tasks) = crate::routing::DecisionService::new(deps, &metrics).unwrap();
    let tested = restarted.test(&super::env::payout("p-1")).await.unwrap();
    assert_eq!(tested.evaluation.active.as_deref(), Some("b"));
}
