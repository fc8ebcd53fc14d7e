//! Further attempts and overrides: only with proof that no earlier attempt was executed.

use super::env::{Env, ops, payout, two_banks};
use crate::domain::decision::{DecisionRequest, OutcomeClass, RecordKind};
use crate::domain::route::CandidateReason;
use crate::ledger::decisions::AdjustmentTarget;
use crate::routing::{Decided, OverrideRequest, RoutingError};

fn attempt(number: u32) -> DecisionRequest {
    DecisionRequest { attempt_no: number, ..payout("p-1") }
}

fn to(bank: AdjustmentTarget, decided: &Decided) -> OverrideRequest {
    OverrideRequest { bank, decision: decided.record.id, reason: "by hand".to_owned() }
}

fn candidate(name: &str) -> AdjustmentTarget {
    AdjustmentTarget::Candidate(name.to_owned())
}

#[tokio::test]
async fn a_second_attempt_is_decided_with_proof_for_the_first_only() {
    let env = Env::new().await;
    let first = env.decide(attempt(1)).await.unwrap();
    env.trip("a");
    for class in [None, Some(OutcomeClass::Timeout), Some(OutcomeClass::Pending), Some(OutcomeClass::BankFailure)] {
        if let Some(class) = class {
            env.report(&first, class).await.unwrap();
        }
        let error = env.decide(attempt(2)).await.unwrap_err();
        assert!(matches!(error, RoutingError::Unresolved(_)), "{class:?}: {error}");
    }
    env.report(&first, OutcomeClass::Rejected).await.unwrap();
    assert_eq!(env.decide(attempt(2)).await.unwrap().record.candidate, "b");
    let skipped = env.decide(attempt(4)).await.unwrap_err();
    assert!(matches!(skipped, RoutingError::Unresolved(_)), "{skipped}");
}

#[tokio::test]
async fn without_a_bank_or_a_route_an_unproven_attempt_is_unresolved_and_never_the_end() {
    let env = Env::new().await;
    let first = env.decide(attempt(1)).await.unwrap();
    let unresolved = async |what: &str| {
        let error = env.decide(attempt(2)).await.unwrap_err();
        assert!(matches!(error, RoutingError::Unresolved(_)), "{what}: {error}");
        let request = to(candidate("b"), &first);
        let error = env.service.override_decision(request, &ops()).await.unwrap_err();
        assert!(matches!(error, RoutingError::Unresolved(_)), "override, {what}: {error}");
    };
    env.trip("a");
    env.trip("b");
    unresolved("no bank").await;
    env.edit("eu", |route| route.suspended = true);
    unresolved("suspended").await;
    env.script.routes.lock().unwrap().clear();
    unresolved("no route").await;
    assert!(matches!(
        env.decide(DecisionRequest { attempt_no: 2, ..payout("p-9") }).await,
        Err(RoutingError::Unresolved(_))
    ));
    env.apply("eu", &two_banks());
    env.report(&first, OutcomeClass::NotSent).await.unwrap();
    assert!(
        matches!(env.decide(attempt(2)).await, Err(RoutingError::NoBank(_))),
        "with proof the answer is that of the banks"
    );
    let error = env.service.override_decision(to(candidate("b"), &first), &ops()).await.unwrap_err();
    assert!(matches!(error, RoutingError::CandidateExcluded { .. }), "{error}");
}

#[tokio::test]
async fn an_override_after_another_attempt_names_that_attempt() {
    let env = Env::new().await;
    let first = env.decided("p-1").await;
    env.report(&first, OutcomeClass::NotSent).await.unwrap();
    let second = env.decide(attempt(2)).await.unwrap();
    let error = env.service.override_decision(to(candidate("b"), &first), &ops()).await.unwrap_err();
    assert!(matches!(error, RoutingError::AlreadySuperseded { by } if by == second.record.id), "{error}");
}

#[tokio::test]
async fn the_expiry_of_a_decision_is_no_proof() {
    let env = Env::new().await;
    env.decide(attempt(1)).await.unwrap();
    env.advance(jiff::SignedDuration::from_hours(100));
    assert!(matches!(env.decide(attempt(2)).await, Err(RoutingError::Unresolved(_))));
}

#[tokio::test]
async fn an_override_asks_the_same_gate_and_supersedes() {
    let env = Env::new().await;
    let first = env.decided("p-1").await;
    let by_profile = AdjustmentTarget::BankProfile("profile-b".to_owned());
    let request = to(by_profile, &first);
    let error = env.service.override_decision(request.clone(), &ops()).await.unwrap_err();
    assert!(matches!(error, RoutingError::Unresolved(_)), "{error}");
    env.report(&first, OutcomeClass::NotSent).await.unwrap();
    let overridden = env.service.override_decision(request.clone(), &ops()).await.unwrap();
    let record = &overridden.record;
    assert_eq!((record.kind, record.candidate.as_str(), record.request.attempt_no), (RecordKind::Override, "b", 2));
    assert_eq!((record.supersedes, record.reason.as_deref()), (Some(first.record.id), Some("by hand")));
    assert_eq!(env.service.get(first.record.id).await.unwrap().superseded_by, Some(record.id));
    assert_eq!(env.decided("p-1").await.superseded_by, Some(record.id), "a replay says so");

    let again = env.service.override_decision(request, &ops()).await.unwrap();
    assert!(again.replayed && again.record == overridden.record);
    let other = env.service.override_decision(to(candidate("a"), &first), &ops()).await.unwrap_err();
    assert!(matches!(other, RoutingError::AlreadySuperseded { by } if by == overridden.record.id), "{other}");
    // The override is an attempt like any other.
    assert!(matches!(env.decide(attempt(3)).await, Err(RoutingError::Unresolved(_))));
    env.report(&overridden, OutcomeClass::NotSent).await.unwrap();
    assert_eq!(env.decide(attempt(3)).await.unwrap().record.candidate, "a");
}

#[tokio::test]
async fn an_override_names_a_candidate_of_the_route_that_is_available() {
    let env = Env::new().await;
    let first = env.decided("p-1").await;
    env.report(&first, OutcomeClass::NotSent).await.unwrap();
    env.trip("b");
    let error = env.service.override_decision(to(candidate("b"), &first), &ops()).await.unwrap_err();
    let excluded = |error: &RoutingError| match error {
        RoutingError::CandidateExcluded { candidate, reason } => Some((candidate.clone(), *reason)),
        _ => None,
    };
    assert_eq!(excluded(&error), Some(("b".to_owned(), CandidateReason::CircuitOpen)), "{error}");
    let unknown = env.service.override_decision(to(candidate("x"), &first), &ops()).await.unwrap_err();
    assert!(matches!(unknown, RoutingError::CandidateNotFound { .. }), "{unknown}");
    let missing = OverrideRequest { decision: uuid::Uuid::from_u128(3), ..to(candidate("a"), &first) };
    let missing = env.service.override_decision(missing, &ops()).await.unwrap_err();
    assert!(matches!(missing, RoutingError::DecisionNotFound { .. }), "{missing}");
    assert_eq!(env.entries().await, 2, "a decision and an outcome");
}

#[tokio::test]
async fn after_a_loss_of_entries_nothing_is_decided_replayed_or_overridden() {
    let env = Env::new().await;
    let first = env.decided("p-1").await;
    env.report(&first, OutcomeClass::NotSent).await.unwrap();
    let second = env.decided("p-2").await;
    env.report(&second, OutcomeClass::NotSent).await.unwrap();
    let request = to(candidate("b"), &second);
    env.service.override_decision(request.clone(), &ops()).await.unwrap();
    env.ledger.accept_loss().await.unwrap();
    let is_suspended = |refused: RoutingError| matches!(refused, RoutingError::PayoutsSuspended);
    for request in [payout("p-1"), payout("new"), attempt(2)] {
        assert!(is_suspended(env.decide(request.clone()).await.unwrap_err()), "{request:?}");
    }
    for request in [to(candidate("b"), &first), request] {
        assert!(is_suspended(env.service.override_decision(request, &ops()).await.unwrap_err()));
    }
    // Without a bank a stored decision is replayed past the ledger's transaction.
    env.trip("a");
    env.trip("b");
    assert!(is_suspended(env.decide(payout("p-1")).await.unwrap_err()));
    // What was reported is stored all the same.
    env.report(&first, OutcomeClass::Rejected).await.unwrap();
}
