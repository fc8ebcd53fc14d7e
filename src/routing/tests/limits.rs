//! Daily limits: reserved with the decision, by however many callers at a time, and released once.

use std::sync::Arc;

use jiff::SignedDuration;
use rust_decimal::Decimal;
use serde_json::{Value, json};

use super::env::{Env, ops, payout, request, two_banks};
use crate::domain::decision::OutcomeClass;
use crate::domain::money::Currency;
use crate::domain::route::CandidateReason;
use crate::ledger::decisions::{AdjustmentTarget, LimitDay};
use crate::routing::{OverrideRequest, RoutingError};

fn limited(limits: [Value; 2]) -> Value {
    let mut spec = two_banks();
    for (index, limit) in limits.into_iter().enumerate() {
        spec["candidates"][index]["dailyLimit"] = limit;
    }
    spec
}

async fn used(env: &Env, candidate: &str) -> (Decimal, u32) {
    let day = LimitDay {
        namespace: "payments".into(),
        route: "eu".into(),
        candidate: candidate.into(),
        day: "2026-11-29".parse().unwrap(),
        currency: Currency::parse("EUR").unwrap(),
    };
    let usage = env.ledger.day_usages(&[day]).await.unwrap()[0];
    (usage.amount, usage.count)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_concurrent_callers_never_exceed_the_limits_and_use_them_up() {
    let env = Arc::new(Env::new().await);
    env.apply("eu", &limited([json!({"amount": "1000"}), json!({"count": 20})]));
    let calls: Vec<_> = (0..64)
        .map(|caller| {
            let env = Arc::clone(&env);
            tokio::spawn(async move { env.decide(payout(&format!("p-{caller}"))).await })
        })
        .collect();
    let (mut by_bank, mut refused) = (std::collections::BTreeMap::<String, u32>::new(), 0);
    for call in calls {
        match call.await.unwrap() {
            Ok(decided) => *by_bank.entry(decided.record.candidate.clone()).or_default() += 1,
            Err(RoutingError::NoBank(no_bank)) => {
                let evaluation = no_bank.evaluation.unwrap();
                let reached = |name| evaluation.standing(name).unwrap().reason == CandidateReason::DailyLimitReached;
                assert!(reached("a") && reached("b"));
                refused += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!((by_bank["a"], by_bank["b"], refused), (10, 20, 34));
    assert_eq!((used(&env, "a").await, used(&env, "b").await), ((1000.into(), 10), (2000.into(), 20)));
    assert_eq!(env.service.verify().await.unwrap().broken, None);
    env.advance(SignedDuration::from_hours(12));
    assert_eq!(env.decided("tomorrow").await.record.candidate, "a", "another day");
}

#[tokio::test]
async fn a_limit_is_released_once_by_proof_or_override_and_never_by_expiry() {
    let env = Env::new().await;
    env.apply("eu", &limited([json!({"amount": "150"}), json!({"amount": "100"})]));
    let first = env.decided("p-1").await;
    assert_eq!(first.record.reserved.as_ref().map(|reserved| reserved.amount), Some(100.into()));
    env.advance(SignedDuration::from_hours(2));
    assert_eq!(env.decided("p-2").await.record.candidate, "b", "expired, and reserved all the same");
    env.report(&first, OutcomeClass::NotSent).await.unwrap();
    assert_eq!(used(&env, "a").await, (0.into(), 0));
    env.report(&first, OutcomeClass::Rejected).await.unwrap();
    assert_eq!(used(&env, "a").await, (0.into(), 0));
    let to = |name: &str| OverrideRequest {
        bank: AdjustmentTarget::Candidate(name.into()),
        decision: first.record.id,
        reason: "x".into(),
    };
    let error = env.service.override_decision(to("b"), &ops()).await.unwrap_err();
    let reason = CandidateReason::DailyLimitReached;
    assert!(matches!(error, RoutingError::CandidateExcluded { reason: found, .. } if found == reason), "{error}");
    env.service.override_decision(to("a"), &ops()).await.unwrap();
    assert_eq!(used(&env, "a").await, (100.into(), 1));
    assert_eq!(env.decide(request("p-3", "50", Some("eu"))).await.unwrap().record.candidate, "a", "up to the limit");
}
