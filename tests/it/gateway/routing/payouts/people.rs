//! What people do: two accept a risk, two say that nothing was executed, one asks the bank or releases a payout.

use busbar::domain::payout::Effect;
use serde_json::{Value, json};

use super::super::{payout, payout_with, post, recorded};
use super::{Followed, act, act_as, done, events, followed_by_banks, golden, held, outcome, post_as, read, registered};
use crate::gateway::harness::GatewayHarness;

const ACCEPT: &str = "approve-reroute";

fn accept() -> Value {
    json!({"accept_duplicate_risk": true, "reason": "the supplier waits"})
}

#[tokio::test]
async fn the_risk_of_a_duplicate_is_accepted_by_two_different_people() {
    let harness = golden().await;
    let followed = Followed::of(&harness);
    held(&harness, "p-1").await;
    followed.take();
    let first = act_as(&harness, "token-ann", "p-1", ACCEPT, &accept()).await;
    assert_eq!(done(&first)["payout"]["state"], json!("held"), "one is not enough");
    assert_eq!(done(&first)["payout"]["may_attempt"], json!(false));
    let before = recorded(&harness).await;
    for token in ["token-ann", "token-ann~2"] {
        let again = act_as(&harness, token, "p-1", ACCEPT, &accept()).await;
        assert_eq!(done(&again)["repeated"], json!(true), "{token} is the same person");
    }
    assert_eq!(recorded(&harness).await, before, "a repetition is no entry");
    let refused = post(&harness, "/decide", &payout_with("p-1", "attempt_no", json!(2))).await;
    assert_eq!((refused.status, refused.error()), (409, "attempt_unresolved"), "{refused:?}");
    let second = act_as(&harness, "token-ben", "p-1", ACCEPT, &accept()).await;
    let payout = &done(&second)["payout"];
    assert_eq!((&payout["may_attempt"], &payout["hold"]), (&json!(true), &json!(null)), "{payout}");
    let who: Vec<&Value> =
        payout["risk_accepted_by"].as_array().unwrap().iter().map(|accepted| &accepted["subject"]).collect();
    assert_eq!(who, ["ann", "ben"]);
    assert!(followed.take().contains(&Effect::ProposeReroute { attempt_no: 2 }));
    let next = post(&harness, "/decide", &payout_with("p-1", "attempt_no", json!(2))).await;
    assert_eq!(next.status, 200, "{next:?}");
    assert_eq!(read(&harness, "p-1").await["payout"]["attempts"][1]["state"], json!("intent_written"));
    assert_eq!(events(&harness).await, ["payout.held", "payout.rerouted"]);
}

#[tokio::test]
async fn a_risk_that_may_not_be_accepted_is_refused_with_its_reason() {
    let harness = followed_by_banks().await;
    let refusal = async |harness: &GatewayHarness, id: &str| {
        let said = act(harness, id, ACCEPT, &accept()).await;
        assert_eq!((said.status, said.error()), (409, "payout_refused"), "{id}: {said:?}");
        said.body["data"]["details"]["reason"].clone()
    };
    registered(&harness, &payout("on-its-way")).await;
    assert_eq!(refusal(&harness, "on-its-way").await, json!("not_stuck"));
    registered(&harness, &payout("executed")).await;
    outcome(&harness, "executed", 1, "success").await;
    assert_eq!(refusal(&harness, "executed").await, json!("executed"));
    registered(&harness, &payout("proven")).await;
    outcome(&harness, "proven", 1, "rejected").await;
    assert_eq!(refusal(&harness, "proven").await, json!("nothing_open"));
    registered(&harness, &payout_with("large", "amount", json!("1000.01"))).await;
    outcome(&harness, "large", 1, "timeout").await;
    assert_eq!(refusal(&harness, "large").await, json!("above_limit"));
    for body in [json!({}), json!({"accept_duplicate_risk": false}), json!({"accept_duplicate_risk": null})] {
        let refused = act(&harness, "large", ACCEPT, &body).await;
        assert_eq!((refused.status, refused.error()), (400, "invalid_request"), "{body}: {refused:?}");
    }
}

#[tokio::test]
async fn that_nothing_was_executed_is_said_by_two_people_and_an_execution_by_one() {
    let harness = golden().await;
    for resolution in ["rejected", "returned", "never_received"] {
        held(&harness, resolution).await;
        let body = json!({"resolution": resolution, "reference": "letter 7"});
        let first = act(&harness, resolution, "resolve", &body).await;
        let attempt = &done(&first)["payout"]["attempts"][0];
        assert_eq!(
            (&attempt["state"], &attempt["proposed"]["resolution"]),
            (&json!("manual_review"), &json!(resolution))
        );
        assert_eq!(done(&act(&harness, resolution, "resolve", &body).await)["repeated"], json!(true));
        let second = act_as(&harness, "token-ben", resolution, "resolve", &body).await;
        let payout = &done(&second)["payout"];
        assert_eq!((&payout["attempts"][0]["state"], &payout["may_attempt"]), (&json!(resolution), &json!(true)));
        assert_eq!(payout["attempts"][0]["evidence"]["reference"], json!("letter 7"));
        assert_eq!(done(&act_as(&harness, "token-cid", resolution, "resolve", &body).await)["repeated"], json!(true));
    }
    held(&harness, "paid").await;
    let hash = "ab".repeat(32);
    let paid = act(&harness, "paid", "resolve", &json!({"resolution": "confirmed", "message_hash": hash})).await;
    assert_eq!(done(&paid)["payout"]["state"], json!("confirmed"));
    assert_eq!(done(&paid)["payout"]["attempts"][0]["evidence"]["message_hash"], json!(hash));
    let against = act(&harness, "paid", "resolve", &json!({"resolution": "rejected", "reference": "x"})).await;
    assert_eq!((against.status, against.error()), (409, "payout_refused"), "{against:?}");
}

#[tokio::test]
async fn a_resolution_without_a_message_of_the_bank_is_refused() {
    let harness = golden().await;
    held(&harness, "p-1").await;
    let before = recorded(&harness).await;
    for (body, field) in [
        (json!({"resolution": "rejected"}), "reference"),
        (json!({"resolution": "rejected", "reference": ""}), "reference"),
        (json!({"resolution": "paid", "reference": "x"}), "resolution"),
        (json!({"reference": "x"}), "resolution"),
        (json!({"resolution": "rejected", "reference": "x", "attempt_no": 9}), "attempt_no"),
        (json!({"resolution": "rejected", "message_hash": "AB".repeat(32)}), "message_hash"),
    ] {
        let refused = act(&harness, "p-1", "resolve", &body).await;
        assert_eq!((refused.status, refused.error()), (400, "invalid_request"), "{body}: {refused:?}");
        assert_eq!(refused.body["data"]["details"]["parameter"], json!(field), "{body}");
    }
    assert_eq!(recorded(&harness).await, before);
}

#[tokio::test]
async fn an_inquiry_and_a_recall_are_stored_before_they_are_sent() {
    let harness = followed_by_banks().await;
    let followed = Followed::of(&harness);
    registered(&harness, &payout("p-1")).await;
    outcome(&harness, "p-1", 1, "pending").await;
    followed.take();
    done(&act(&harness, "p-1", "inquire", &json!({"reason": "the client asks"})).await);
    assert!(followed.take().contains(&Effect::Inquire { attempt_no: 1 }));
    done(&act(&harness, "p-1", "recall", &json!({"attempt_no": 1})).await);
    assert!(followed.take().contains(&Effect::Recall { attempt_no: 1 }));
    let data = read(&harness, "p-1").await;
    assert_eq!(data["payout"]["attempts"][0]["state"], json!("recalling"));
    let calls: Vec<&Value> = data["timeline"].as_array().unwrap().iter().map(|row| &row["call"]).collect();
    assert!(calls.contains(&&json!("inquiry")) && calls.contains(&&json!("recall")), "{calls:?}");
    let by: Vec<&Value> = data["timeline"].as_array().unwrap().iter().map(|row| &row["subject"]).collect();
    assert!(by.iter().all(|subject| **subject == json!("ann")), "{by:?}");
}

#[tokio::test]
async fn a_bank_that_promises_nothing_cannot_be_asked() {
    let harness = golden().await;
    registered(&harness, &payout("p-1")).await;
    for (what, reason) in [("inquire", "no_inquiry"), ("recall", "no_recall")] {
        let refused = act(&harness, "p-1", what, &json!({})).await;
        assert_eq!((refused.status, refused.error()), (409, "payout_refused"), "{refused:?}");
        let details = &refused.body["data"]["details"];
        assert_eq!((&details["reason"], &details["state"]), (&json!(reason), &json!("open")));
    }
    outcome(&harness, "p-1", 1, "success").await;
    let known = act(&harness, "p-1", "inquire", &json!({"attempt_no": 1})).await;
    assert_eq!(known.body["data"]["details"]["reason"], json!("already_final"), "{known:?}");
}

#[tokio::test]
async fn a_frozen_payout_is_released_by_a_person_and_the_gate_stays() {
    let harness = followed_by_banks().await;
    registered(&harness, &payout("p-1")).await;
    let free = act(&harness, "p-1", "resume", &json!({})).await;
    assert_eq!(done(&free)["repeated"], json!(true), "it is not held");
    outcome(&harness, "p-1", 1, "rejected").await;
    assert_eq!(post(&harness, "/decide", &payout_with("p-1", "attempt_no", json!(2))).await.status, 200);
    done(&act(&harness, "p-1", "confirmations", &json!({"attempt_no": 1, "status": "ACSC"})).await);
    let resumed = act(&harness, "p-1", "resume", &json!({"reason": "settled with the bank"})).await;
    assert_eq!(done(&resumed)["payout"]["frozen"], json!(false));
    let third = post(&harness, "/decide", &payout_with("p-1", "attempt_no", json!(3))).await;
    assert_eq!((third.status, third.error()), (409, "attempt_unresolved"), "{third:?}");
}

#[tokio::test]
async fn after_a_restore_with_loss_a_person_resumes_payouts_once() {
    let harness = followed_by_banks().await;
    registered(&harness, &payout("p-1")).await;
    harness.ledger.accept_loss().await.unwrap();
    let refused = post_as(&harness, "token-ann", "", &payout("p-2")).await;
    assert_eq!((refused.status, refused.error()), (503, "payouts_suspended"), "{refused:?}");
    // A newer attempt may be missing, and the payout is not under review yet.
    let again = act(&harness, "p-1", "attempts/1/resend", &json!({})).await;
    assert_eq!((again.status, again.error()), (503, "payouts_suspended"), "{again:?}");
    let resumed = post_as(&harness, "token-ann", "/resume", &json!({"reason": "compared with the statements"})).await;
    assert_eq!(done(&resumed), &json!({"suspended": false, "repeated": false}));
    assert_eq!(read(&harness, "p-1").await["payout"]["hold"], json!("restored_with_loss"), "it is put under review");
    assert_eq!(done(&post_as(&harness, "token-ann", "/resume", &json!({})).await)["repeated"], json!(true));
    assert_eq!(registered(&harness, &payout("p-2")).await["replayed"], json!(false));
    let next = post(&harness, "/decide", &payout_with("p-1", "attempt_no", json!(2))).await;
    assert_eq!((next.status, next.error()), (409, "attempt_unresolved"), "{next:?}");
}
