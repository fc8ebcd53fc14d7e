//! A payout is decided once for each attempt, and a further attempt needs proof that no earlier one was executed.

use std::sync::Arc;
use std::time::Duration;

use busbar::clock::Clock;
use busbar::domain::breaker::EffectiveState;
use busbar::ledger::decisions::{DecisionBatch, NewEntry};
use busbar::ledger::payouts::PayoutsResume;
use serde_json::{Value, json};

use super::super::harness::Plan;
use super::{decided, golden, golden_with, payout, payout_with, post, recorded, report};
use crate::kit::time::ManualTime;

fn attempt(id: &str, number: u32) -> Value {
    payout_with(id, "attempt_no", json!(number))
}

#[tokio::test]
async fn the_same_body_is_answered_with_the_same_decision_whatever_changed() {
    let harness = golden().await;
    let first = decided(&harness, &payout("p-1")).await;
    harness.routes.circuit("bank-c", EffectiveState::Open);
    let mut again = decided(&harness, &payout("p-1")).await;
    assert_eq!(again["replayed"].take(), json!(true));
    let mut expected = first.clone();
    expected["replayed"].take();
    assert_eq!(again, expected, "the bank of the first decision, although another would be chosen now");
    let named = payout_with("p-1", "attempt_no", json!(1));
    assert_eq!(decided(&harness, &named).await["decision_id"], first["decision_id"], "1 is the default");
    assert_eq!(recorded(&harness).await, 1);
}

#[tokio::test]
async fn another_body_for_the_same_payout_is_a_conflict_with_both_hashes() {
    let harness = golden().await;
    let first = decided(&harness, &payout("p-1")).await;
    for (field, value) in [
        ("amount", json!("1000.01")),
        ("currency", json!("EUR")),
        ("country", json!("KE")),
        ("merchant", json!("shop")),
        ("rail", json!("SEPA")),
        ("route", json!(null)),
        ("rates", json!({"USD/XOF": {"rate": 1}})),
    ] {
        let conflict = post(&harness, "/decide", &payout_with("p-1", field, value)).await;
        assert_eq!((conflict.status, conflict.error()), (409, "idempotency_conflict"), "{field}: {conflict:?}");
        let details = &conflict.body["data"]["details"];
        assert_eq!(details["stored_request_hash"], first["request_hash"], "{field}");
        assert_ne!(details["request_hash"], details["stored_request_hash"], "{field}");
        assert_eq!(details["request_hash"].as_str().unwrap().len(), 64);
    }
    assert_eq!(recorded(&harness).await, 1);
}

#[tokio::test]
async fn concurrent_requests_for_one_payout_make_one_decision() {
    let harness = golden().await;
    let body = payout("p-1");
    let all = futures::future::join_all((0..16).map(|_| decided(&harness, &body))).await;
    assert!(all.iter().all(|one| one["decision_id"] == all[0]["decision_id"]));
    assert_eq!(all.iter().filter(|one| one["replayed"] == json!(false)).count(), 1);
    assert_eq!(recorded(&harness).await, 1);
}

#[tokio::test]
async fn a_second_attempt_needs_proof_and_expiry_is_none() {
    let time = ManualTime::start();
    let clock = Clock::starting_at("2030-01-01T00:00:00Z".parse().unwrap());
    let harness = golden_with(Plan { clock, ..Plan::default() }).await;
    let step = Duration::from_millis(1);
    let first = time.run(step, decided(&harness, &payout("p-1"))).await;
    assert_eq!(first["expired"], json!(false));
    let refused = time.run(step, post(&harness, "/decide", &attempt("p-1", 2))).await;
    assert_eq!((refused.status, refused.error()), (409, "attempt_unresolved"), "{refused:?}");
    let details = &refused.body["data"]["details"];
    assert_eq!((&details["attempt_no"], &details["reason"]), (&json!(1), &json!("no_outcome")));
    time.advance(Duration::from_secs(61)).await;
    let expired = time.run(step, decided(&harness, &payout("p-1"))).await;
    assert_eq!((&expired["expired"], &expired["replayed"]), (&json!(true), &json!(true)));
    assert_eq!(expired["decision_id"], first["decision_id"]);
    let refused = time.run(step, post(&harness, "/decide", &attempt("p-1", 2))).await;
    assert_eq!(refused.error(), "attempt_unresolved", "an expired decision may have been acted upon");
    time.run(step, report(&harness, &first, "not_sent")).await;
    let second = time.run(step, decided(&harness, &attempt("p-1", 2))).await;
    assert_eq!((&second["attempt_no"], &second["expired"]), (&json!(2), &json!(false)));
    assert_ne!(second["decision_id"], first["decision_id"]);
}

#[tokio::test]
async fn only_not_sent_and_rejected_are_proof_and_nothing_contradicts_them_later() {
    let harness = golden().await;
    for (n, (classes, reason)) in [
        (&["success"][..], Some("executed")),
        (&["timeout"], Some("no_proof")),
        (&["pending"], Some("no_proof")),
        (&["bank_failure"], Some("no_proof")),
        (&["throttle"], Some("no_proof")),
        (&["customer_fault"], Some("no_proof")),
        (&["not_sent", "timeout"], Some("contradicted")),
        (&["rejected", "success"], Some("executed")),
        (&["success", "rejected"], Some("executed")),
        (&["not_sent"], None),
        (&["rejected"], None),
        (&["timeout", "rejected"], None),
        (&["pending", "not_sent"], None),
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("p-{n}");
        let first = decided(&harness, &payout(&id)).await;
        for class in classes {
            report(&harness, &first, class).await;
        }
        let next = post(&harness, "/decide", &attempt(&id, 2)).await;
        match reason {
            None => assert_eq!(next.status, 200, "{classes:?}: {next:?}"),
            Some(reason) => {
                assert_eq!((next.status, next.error()), (409, "attempt_unresolved"), "{classes:?}: {next:?}");
                assert_eq!(next.body["data"]["details"]["reason"], json!(reason), "{classes:?}");
            }
        }
    }
}

#[tokio::test]
async fn attempts_follow_one_another() {
    let harness = golden().await;
    let early = post(&harness, "/decide", &attempt("p-1", 2)).await;
    assert_eq!((early.status, early.error()), (409, "attempt_unresolved"), "there is no first: {early:?}");
    let first = decided(&harness, &payout("p-1")).await;
    report(&harness, &first, "not_sent").await;
    let skipped = post(&harness, "/decide", &attempt("p-1", 3)).await;
    assert_eq!(skipped.body["data"]["details"]["reason"], json!("out_of_order"), "{skipped:?}");
    let second = decided(&harness, &attempt("p-1", 2)).await;
    let third = post(&harness, "/decide", &attempt("p-1", 3)).await;
    assert_eq!((third.error(), &third.body["data"]["details"]["attempt_no"]), ("attempt_unresolved", &json!(2)));
    report(&harness, &second, "rejected").await;
    assert_eq!(decided(&harness, &attempt("p-1", 3)).await["attempt_no"], json!(3));
    assert_eq!(decided(&harness, &attempt("p-1", 2)).await["decision_id"], second["decision_id"], "still replayed");
}

fn override_path(decision: &Value) -> String {
    format!("/override/{}", decision["decision_id"].as_str().unwrap())
}

#[tokio::test]
async fn an_override_is_a_new_decision_that_supersedes_with_the_same_proof() {
    let harness = golden().await;
    let first = decided(&harness, &payout("p-1")).await;
    let body = json!({"bank_profile_id": "profile-bank-b", "reason": "agreed with the bank"});
    let refused = post(&harness, &override_path(&first), &body).await;
    assert_eq!((refused.status, refused.error()), (409, "attempt_unresolved"), "{refused:?}");
    report(&harness, &first, "not_sent").await;
    let replaced = post(&harness, &override_path(&first), &body).await;
    assert_eq!(replaced.status, 200, "{replaced:?}");
    let data = &replaced.body["data"];
    assert_eq!((&data["kind"], &data["candidate"]), (&json!("override"), &json!("bank-b")));
    assert_eq!((&data["supersedes"], &data["attempt_no"]), (&first["decision_id"], &json!(2)));
    assert_eq!(data["override_reason"], json!("agreed with the bank"));
    assert_eq!(data["amount"], json!("1000"));
    let again = post(&harness, &override_path(&first), &json!({"candidate": "bank-b", "reason": "again"})).await;
    assert_eq!((again.status, &again.body["data"]["decision_id"]), (200, &data["decision_id"]), "{again:?}");
    assert_eq!(again.body["data"]["replayed"], json!(true));
    let other = post(&harness, &override_path(&first), &json!({"candidate": "bank-a"})).await;
    assert_eq!((other.status, other.error()), (409, "conflict"), "{other:?}");
    assert_eq!(other.body["data"]["details"]["superseded_by"], data["decision_id"]);
    let old = super::get(&harness, &format!("/decisions/{}", first["decision_id"].as_str().unwrap())).await;
    assert_eq!(old.body["data"]["superseded_by"], data["decision_id"], "{old:?}");
}

#[tokio::test]
async fn an_override_needs_a_bank_of_the_route_that_can_take_the_payout() {
    let harness = golden().await;
    let first = decided(&harness, &payout("p-1")).await;
    report(&harness, &first, "rejected").await;
    let before = recorded(&harness).await;
    harness.routes.circuit("bank-b", EffectiveState::Open);
    let excluded = post(&harness, &override_path(&first), &json!({"candidate": "bank-b"})).await;
    assert_eq!((excluded.status, excluded.error()), (409, "conflict"), "{excluded:?}");
    assert_eq!(excluded.body["data"]["details"]["reason"], json!("CircuitOpen"));
    for body in [
        json!({"candidate": "bank-z"}),
        json!({"bank_profile_id": "profile-z"}),
        json!({}),
        json!({"candidate": "bank-a", "bank_profile_id": "profile-bank-a"}),
        json!({"candidate": ""}),
        json!({"candidate": 7}),
        json!({"candidate": "bank-a", "reason": ""}),
        json!({"candidate": "bank-a", "reason": "x".repeat(257)}),
        json!({"candidate": "bank-a", "reason": "a\u{0}"}),
        json!({"candidate": "bank-a", "amount": 1}),
    ] {
        let refused = post(&harness, &override_path(&first), &body).await;
        assert_eq!((refused.status, refused.error()), (400, "invalid_request"), "{body}: {refused:?}");
        assert!(refused.body["data"]["details"]["parameter"].is_string(), "{body}");
    }
    assert_eq!(recorded(&harness).await, before);
}

#[tokio::test]
async fn after_a_restore_with_loss_nothing_is_decided_until_payouts_are_resumed() {
    let harness = golden().await;
    let first = decided(&harness, &payout("p-1")).await;
    report(&harness, &first, "not_sent").await;
    harness.ledger.accept_loss().await.unwrap();
    let replaced = json!({"candidate": "bank-a", "reason": "by hand"});
    let over = format!("/override/{}", first["decision_id"].as_str().unwrap());
    let calls =
        [("/decide", payout("p-1")), ("/decide", payout("new")), ("/decide", attempt("p-1", 2)), (&*over, replaced)];
    for (path, body) in &calls {
        let refused = post(&harness, path, body).await;
        assert_eq!((refused.status, refused.error()), (503, "payouts_suspended"), "{path}: {refused:?}");
        assert!(refused.header("retry-after").is_some(), "{path}");
    }
    // What banks say is stored all the same, and a dry run decides nothing.
    report(&harness, &first, "rejected").await;
    assert_eq!(post(&harness, "/test", &payout("new")).await.status, 200);
    let at = "2026-11-29T12:00:00Z".parse().unwrap();
    let resume = PayoutsResume { at, reason: None, request_id: None, subject: "ann".into() };
    let batch = Arc::new(DecisionBatch { entries: vec![NewEntry::ResumePayouts(resume)] });
    harness.ledger.commit_decisions(batch).await.unwrap();
    for (path, body) in &calls[..2] {
        assert_eq!(post(&harness, path, body).await.status, 200, "{path}: {body}");
    }
}
