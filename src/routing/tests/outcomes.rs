//! Outcomes: stored in order, and told to the bank's health once for each decision.

use std::time::Duration;

use super::env::{Env, START, key, ops, payout};
use crate::domain::decision::{DecisionRequest, OutcomeClass};
use crate::routing::{OutcomeReport, OutcomeStored, RoutingError};

fn report(decision: uuid::Uuid, class: OutcomeClass) -> OutcomeReport {
    OutcomeReport { at: None, class, decision, latency: None }
}

#[tokio::test]
async fn an_outcome_tells_the_banks_health_once_and_its_scorers_each_time() {
    let env = Env::new().await;
    let decided = env.decided("p-1").await;
    for class in [OutcomeClass::Pending, OutcomeClass::Timeout, OutcomeClass::Success] {
        assert_eq!(env.report(&decided, class).await.unwrap(), OutcomeStored::Stored);
        assert_eq!(env.report(&decided, class).await.unwrap(), OutcomeStored::Repeated, "the answer was lost");
    }
    let feedback = env.script.feedback.lock().unwrap();
    let told: Vec<_> = feedback.iter().map(|(bank, told)| (bank.clone(), told.class, told.says_health)).collect();
    assert_eq!(
        told,
        [
            (key("a"), OutcomeClass::Pending, false),
            (key("a"), OutcomeClass::Timeout, true),
            (key("a"), OutcomeClass::Success, false),
        ]
    );
    assert_eq!((feedback[0].1.candidate.as_str(), &feedback[0].1.route), ("a", &key("eu")));
}

#[tokio::test]
async fn reports_of_one_call_are_stored_in_their_order() {
    let env = Env::new().await;
    let (first, second) = (env.decided("p-1").await.record.id, env.decided("p-2").await.record.id);
    let reports = vec![
        OutcomeReport { latency: Some(Duration::from_millis(250)), ..report(first, OutcomeClass::Timeout) },
        report(second, OutcomeClass::Success),
        report(first, OutcomeClass::NotSent),
    ];
    let results = env.service.outcomes("payments", reports, &ops()).await.unwrap();
    assert!(results.iter().all(|one| matches!(one.result, Ok(OutcomeStored::Stored))));
    let stored = env.service.get(first).await.unwrap().outcomes;
    let stored: Vec<_> = stored.iter().map(|one| (one.class, one.latency_ms)).collect();
    assert_eq!(stored, [(OutcomeClass::Timeout, Some(250)), (OutcomeClass::NotSent, None)]);
    let again = DecisionRequest { attempt_no: 2, ..payout("p-1") };
    assert!(env.decide(again).await.is_ok(), "the proof came after the doubt");
}

#[tokio::test]
async fn a_proof_that_was_contradicted_counts_when_it_is_reported_again() {
    let env = Env::new().await;
    let decided = env.decided("p-1").await;
    let again = || env.decide(DecisionRequest { attempt_no: 2, ..payout("p-1") });
    for class in [OutcomeClass::NotSent, OutcomeClass::Pending] {
        env.report(&decided, class).await.unwrap();
    }
    assert!(matches!(again().await, Err(RoutingError::Unresolved(_))), "contradicted");
    assert_eq!(env.report(&decided, OutcomeClass::NotSent).await.unwrap(), OutcomeStored::Stored);
    assert!(again().await.is_ok());
}

#[tokio::test]
async fn a_report_that_is_told_again_is_no_new_word_on_an_older_time() {
    let env = Env::new().await;
    let at = |second: i64| Some(START.parse::<jiff::Timestamp>().unwrap() + jiff::SignedDuration::from_secs(second));
    let (first, second) = (env.decided("p-1").await, env.decided("p-2").await);
    let steps = [
        (&first, OutcomeClass::NotSent, 0, OutcomeStored::Stored),
        (&first, OutcomeClass::NotSent, 0, OutcomeStored::Repeated),
        (&first, OutcomeClass::Pending, 1, OutcomeStored::Stored),
        (&first, OutcomeClass::Pending, 1, OutcomeStored::Repeated),
        (&first, OutcomeClass::NotSent, 0, OutcomeStored::Repeated),
        (&second, OutcomeClass::Timeout, 0, OutcomeStored::Stored),
        (&second, OutcomeClass::Rejected, 1, OutcomeStored::Stored),
        (&second, OutcomeClass::Timeout, 0, OutcomeStored::Repeated),
    ];
    for (step, (decided, class, second, expected)) in steps.into_iter().enumerate() {
        let report = OutcomeReport { at: at(second), ..report(decided.record.id, class) };
        let mut results = env.service.outcomes("payments", vec![report], &ops()).await.unwrap();
        assert_eq!(results.remove(0).result.unwrap(), expected, "step {step}");
    }
    let again = |payout_id: &str| env.decide(DecisionRequest { attempt_no: 2, ..payout(payout_id) });
    again("p-2").await.unwrap();
    assert!(matches!(again("p-1").await, Err(RoutingError::Unresolved(_))), "the old proof proves nothing");
    // A queue that delivers both reports again and again adds nothing.
    let reports = [(OutcomeClass::NotSent, 0), (OutcomeClass::Pending, 1)]
        .map(|(class, second)| OutcomeReport { at: at(second), ..report(first.record.id, class) });
    for _ in 0..3 {
        env.service.outcomes("payments", reports.to_vec(), &ops()).await.unwrap();
    }
    assert_eq!(env.service.get(first.record.id).await.unwrap().outcomes.len(), 2);
    let resolved = OutcomeReport { at: at(2), ..report(first.record.id, OutcomeClass::NotSent) };
    env.service.outcomes("payments", vec![resolved], &ops()).await.unwrap();
    again("p-1").await.unwrap();
}

#[tokio::test]
async fn an_outcome_whose_caller_has_gone_tells_health_once_with_its_next_report() {
    let env = Env::new().await;
    let decided = env.decided("p-1").await;
    let actor = ops();
    let reports = vec![report(decided.record.id, OutcomeClass::Timeout)];
    let mut call = Box::pin(env.service.outcomes("payments", reports, &actor));
    while env.service.queue.waiting() == 0 {
        assert!(futures::poll!(&mut call).is_pending());
        if env.service.queue.waiting() == 0 {
            tokio::task::yield_now().await;
        }
    }
    drop(call);
    while env.entries().await < 2 {
        tokio::task::yield_now().await;
    }
    assert!(env.script.feedback.lock().unwrap().is_empty());
    for _ in 0..2 {
        assert_eq!(env.report(&decided, OutcomeClass::Timeout).await.unwrap(), OutcomeStored::Repeated);
        let feedback = env.script.feedback.lock().unwrap();
        let told: Vec<_> = feedback.iter().map(|(_, told)| (told.class, told.says_health)).collect();
        assert_eq!(told, [(OutcomeClass::Timeout, true)]);
    }
}

#[tokio::test]
async fn a_decision_of_another_namespace_or_none_and_a_future_instant_are_refused_alone() {
    let env = Env::new().await;
    let id = env.decided("p-1").await.record.id;
    let other = env.service.outcomes("other", vec![report(id, OutcomeClass::Success)], &ops()).await.unwrap();
    assert!(matches!(other[0].result, Err(RoutingError::DecisionNotFound { .. })));
    let late = START.parse::<jiff::Timestamp>().unwrap() + jiff::SignedDuration::from_hours(1);
    let reports = vec![
        report(uuid::Uuid::from_u128(5), OutcomeClass::Success),
        OutcomeReport { at: Some(late), ..report(id, OutcomeClass::Success) },
        report(id, OutcomeClass::Success),
    ];
    let results = env.service.outcomes("payments", reports, &ops()).await.unwrap();
    assert!(matches!(results[0].result, Err(RoutingError::DecisionNotFound { .. })));
    assert!(matches!(results[1].result, Err(RoutingError::Invalid { field: "at", .. })));
    assert!(matches!(results[2].result, Ok(OutcomeStored::Stored)));
    let many = vec![report(id, OutcomeClass::Success); 501];
    assert!(matches!(env.service.outcomes("payments", many, &ops()).await, Err(RoutingError::TooMany { .. })));
}
