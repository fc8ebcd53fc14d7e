//! A payout is registered once, with its decision, and is followed from then on.

use busbar::domain::breaker::EffectiveState;
use serde_json::{Value, json};

use super::super::{decided, golden, payout, payout_with, post, recorded, report};
use super::{PAYOUTS, act, outcome, post_as, read, registered};
use crate::gateway::harness::{GatewayHarness, Said, said};

async fn with_key(harness: &GatewayHarness, key: &str, body: &Value) -> Said {
    let request = harness.http.post(harness.url(PAYOUTS)).bearer_auth("token-ann");
    let request = request.header("content-type", "application/json").header("idempotency-key", key);
    said(request.body(body.to_string())).await
}

#[tokio::test]
async fn a_registration_is_one_decision_with_an_attempt_to_send() {
    let harness = golden().await;
    let data = registered(&harness, &payout("p-1")).await;
    let (payout, decision) = (&data["payout"], &data["decision"]);
    assert_eq!((&data["replayed"], &decision["candidate"]), (&json!(false), &json!("bank-c")));
    assert_eq!((&payout["state"], &payout["hold"], &payout["version"]), (&json!("open"), &json!(null), &json!(1)));
    let attempt = &payout["attempts"][0];
    assert_eq!((&attempt["bank"], &attempt["state"]), (&json!("bank-c"), &json!("intent_written")));
    assert_eq!(attempt["decision_id"], decision["decision_id"]);
    assert_eq!(attempt["expires_at"], decision["expires_at"], "the permission to send ends with the decision");
    assert_eq!(attempt["idempotency_key"], attempt["attempt_id"]);
    let end_to_end = attempt["end_to_end_id"].as_str().unwrap();
    assert!(end_to_end.len() <= 35 && end_to_end.starts_with("BB"), "an ISO 20022 Max35Text: {end_to_end}");
    assert_eq!(attempt["manual_only"], json!(true), "the bank promises nothing");
    assert_eq!(recorded(&harness).await, 2, "the decision and the payout");
    let stored = read(&harness, "p-1").await;
    assert_eq!(&stored["payout"], payout, "as it was answered");
    assert_eq!(stored["timeline"][0]["act"], json!("register"));
    assert_eq!(stored["timeline"][0]["subject"], json!("ann"));
    let single = decided(&harness, &super::payout("p-1")).await;
    assert_eq!(single["decision_id"], decision["decision_id"], "the same decision, alone");
}

#[tokio::test]
async fn the_same_registration_is_answered_with_the_payout_as_it_is_by_then() {
    let harness = golden().await;
    let first = registered(&harness, &payout("p-1")).await;
    outcome(&harness, "p-1", 1, "pending").await;
    for amount in ["1000.00", "1e3", "\"1000.0\""] {
        let text = payout("p-1").to_string().replace("\"1000\"", amount);
        let request = harness.http.post(harness.url(PAYOUTS)).bearer_auth("token-ann");
        let again = said(request.header("content-type", "application/json").body(text)).await;
        assert_eq!((again.status, &again.body["data"]["replayed"]), (200, &json!(true)), "{amount}: {again:?}");
        assert_eq!(again.body["data"]["payout"]["attempts"][0]["state"], json!("accepted"), "{amount}");
        assert_eq!(again.body["data"]["decision"]["decision_id"], first["decision"]["decision_id"]);
    }
    for bank in ["bank-a", "bank-b", "bank-c"] {
        harness.routes.circuit(bank, EffectiveState::Open);
    }
    assert_eq!(registered(&harness, &payout("p-1")).await["replayed"], json!(true), "although no bank is available");
}

#[tokio::test]
async fn another_body_or_a_used_key_is_a_conflict_and_stores_nothing() {
    let harness = golden().await;
    registered(&harness, &payout("p-1")).await;
    assert_eq!(with_key(&harness, "key-2", &payout("p-2")).await.status, 200);
    assert_eq!(with_key(&harness, "key-2", &payout("p-2")).await.body["data"]["replayed"], json!(true));
    let before = recorded(&harness).await;
    for (field, value) in
        [("amount", json!("1000.01")), ("currency", json!("EUR")), ("country", json!("KE")), ("merchant", json!("m"))]
    {
        let conflict = post_as(&harness, "token-ann", "", &payout_with("p-1", field, value)).await;
        assert_eq!((conflict.status, conflict.error()), (409, "idempotency_conflict"), "{field}: {conflict:?}");
        assert!(conflict.body["data"]["details"]["stored_request_hash"].is_string(), "{field}");
    }
    let reused = with_key(&harness, "key-2", &payout("p-3")).await;
    assert_eq!((reused.status, reused.error()), (409, "idempotency_conflict"), "{reused:?}");
    assert_eq!(reused.body["data"]["details"]["payout_id"], json!("p-2"));
    assert_eq!(recorded(&harness).await, before);
}

#[tokio::test]
async fn bad_registrations_are_refused_by_name_and_store_nothing() {
    let harness = golden().await;
    for (field, value) in
        [("amount", json!("-1")), ("currency", json!("XXX")), ("payout_id", json!("a b")), ("attempt_no", json!(2))]
    {
        let refused = post_as(&harness, "token-ann", "", &payout_with("p-1", field, value)).await;
        assert_eq!((refused.status, refused.error()), (400, "invalid_request"), "{field}: {refused:?}");
        assert_eq!(refused.body["data"]["details"]["parameter"], json!(field));
    }
    for key in ["a b", &"x".repeat(256)] {
        let refused = with_key(&harness, key, &payout("p-1")).await;
        assert_eq!((refused.status, refused.error()), (400, "invalid_request"), "{key}: {refused:?}");
    }
    for bank in ["bank-a", "bank-b", "bank-c"] {
        harness.routes.circuit(bank, EffectiveState::Open);
    }
    let no_bank = post_as(&harness, "token-ann", "", &payout("p-1")).await;
    assert_eq!((no_bank.status, no_bank.error()), (503, "no_route"), "{no_bank:?}");
    assert_eq!(recorded(&harness).await, 0);
}

#[tokio::test]
async fn concurrent_registrations_of_one_payout_make_one() {
    let harness = golden().await;
    let body = payout("p-1");
    let all = futures::future::join_all((0..16).map(|_| registered(&harness, &body))).await;
    assert!(all.iter().all(|one| one["payout"]["attempts"] == all[0]["payout"]["attempts"]));
    assert_eq!(all.iter().filter(|one| one["replayed"] == json!(false)).count(), 1);
    assert_eq!(recorded(&harness).await, 2);
}

#[tokio::test]
async fn a_payout_that_was_decided_before_is_followed_with_that_decision() {
    let harness = golden().await;
    let decision = decided(&harness, &payout("p-1")).await;
    report(&harness, &decision, "timeout").await;
    harness.routes.circuit("bank-c", EffectiveState::Open);
    let data = registered(&harness, &payout("p-1")).await;
    assert_eq!(data["decision"]["decision_id"], decision["decision_id"], "although another bank would be chosen now");
    let attempt = &data["payout"]["attempts"][0];
    assert_eq!(
        (&attempt["bank"], &attempt["state"]),
        (&json!("bank-c"), &json!("unknown")),
        "what was reported counts"
    );
    let second = post(&harness, "/decide", &payout_with("p-1", "attempt_no", json!(2))).await;
    assert_eq!((second.status, second.error()), (409, "attempt_unresolved"), "{second:?}");
}

#[tokio::test]
async fn every_payout_can_be_read_whatever_its_id_is() {
    let harness = golden().await;
    for (id, path) in [("resume", "resume"), ("a/b?c#d%", "a%2Fb%3Fc%23d%25"), ("attempts", "attempts")] {
        registered(&harness, &payout(id)).await;
        assert_eq!(read(&harness, path).await["payout"]["payout_id"], json!(id));
        let reported = act(&harness, path, "confirmations", &json!({"status": "pending"})).await;
        assert_eq!(reported.status, 200, "{id}: {reported:?}");
    }
}
