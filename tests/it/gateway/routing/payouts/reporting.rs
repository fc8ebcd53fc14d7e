//! What submitters and banks say of a payout, and what may be concluded.

use busbar::domain::payout::{BankPromises, Effect};
use serde_json::{Value, json};

use super::super::{payout, payout_with, post, recorded};
use super::{Followed, act, done, events, followed_by_banks, outcome, read, registered};

#[tokio::test]
async fn only_not_sent_and_rejected_allow_another_attempt() {
    let harness = followed_by_banks().await;
    for (class, state, may_attempt) in [
        ("submitted", "submitted", false),
        ("pending", "accepted", false),
        ("timeout", "unknown", false),
        ("bank_failure", "unknown", false),
        ("throttle", "intent_written", false),
        ("success", "confirmed", false),
        ("rejected", "rejected", true),
        ("not_sent", "never_received", true),
    ] {
        registered(&harness, &payout(class)).await;
        let payout = outcome(&harness, class, 1, class).await;
        assert_eq!(payout["attempts"][0]["state"], json!(state), "{class}");
        assert_eq!(payout["may_attempt"], json!(may_attempt), "{class}");
        let next = post(&harness, "/decide", &payout_with(class, "attempt_no", json!(2))).await;
        assert_eq!(next.status == 200, may_attempt, "{class}: {next:?}");
        let payout = read(&harness, class).await["payout"].clone();
        assert_eq!(payout["attempts"].as_array().unwrap().len(), if may_attempt { 2 } else { 1 }, "{class}");
    }
    assert_eq!(events(&harness).await.iter().filter(|kind| *kind == "payout.rerouted").count(), 2);
}

#[tokio::test]
async fn outcomes_of_routing_reach_the_payout_by_decision_and_by_attempt() {
    let harness = followed_by_banks().await;
    for (id, field) in [("by-decision", "decision_id"), ("by-attempt", "attempt_id")] {
        let data = registered(&harness, &payout(id)).await;
        let attempt = &data["payout"]["attempts"][0];
        let outcome = json!({field: attempt[field], "class": "rejected"});
        let said = post(&harness, "/outcomes", &json!({"namespace": "treasury", "outcomes": [outcome]})).await;
        assert_eq!(done(&said)["items"][0]["result"], json!("stored"), "{id}");
        assert_eq!(done(&said)["items"][0]["decision_id"], attempt["decision_id"], "{id}");
        assert_eq!(read(&harness, id).await["payout"]["state"], json!("not_executed"), "{id}");
    }
}

#[tokio::test]
async fn a_bank_confirms_rejects_or_says_nothing_final_in_its_own_words() {
    let harness = followed_by_banks().await;
    for (n, (body, state)) in [
        (json!({}), "confirmed"),
        (json!({"status": "ACSC", "reference": "m-1"}), "confirmed"),
        (json!({"transaction_status": "ACCC"}), "confirmed"),
        (json!({"status": "PAID", "confirmed_amount": 1000.00, "currency": "USD"}), "confirmed"),
        (json!({"bank_profile_id": "profile-bank-c", "external_reference": "x"}), "confirmed"),
        (json!({"confirmation_id": 7.to_string(), "settled_at": "2026-01-31T18:00:00Z"}), "confirmed"),
        (json!({"status": "RJCT", "reason": "AC04"}), "rejected"),
        (json!({"status": "RJCT", "reason": "AG09"}), "intent_written"),
        (json!({"status": "CANC"}), "rejected"),
        (json!({"status": "returned"}), "returned"),
        (json!({"status": "ACSP"}), "accepted"),
        (json!({"status": "failed"}), "accepted"),
        (json!({"status": "XXXX"}), "accepted"),
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("p-{n}");
        registered(&harness, &payout(&id)).await;
        let said = act(&harness, &id, "confirmations", &body).await;
        let attempt = &done(&said)["payout"]["attempts"][0];
        assert_eq!(attempt["state"], json!(state), "{body}");
        if state != "intent_written" {
            assert_eq!(attempt["evidence"]["source"], json!("confirmation"), "{body}");
            assert_eq!(attempt["evidence"]["message_hash"].as_str().map(str::len), Some(64), "{body}");
        }
    }
}

#[tokio::test]
async fn a_confirmation_that_does_not_fit_is_refused_and_changes_nothing() {
    let harness = followed_by_banks().await;
    registered(&harness, &payout("p-1")).await;
    let before = recorded(&harness).await;
    for (field, value) in [
        ("status", json!("done?")),
        ("status", json!("acsc")),
        ("amount", json!("999.99")),
        ("confirmed_amount", json!(1)),
        ("currency", json!("EUR")),
        ("payout_id", json!("p-2")),
        ("attempt_no", json!(2)),
        ("message_hash", json!("00")),
        ("source", json!("rumour")),
        ("confirmed_at", json!("2999-01-01T00:00:00Z")),
        ("settled_at", json!("yesterday")),
        ("complete_through", json!("2026-01-01T00:00:00Z")),
    ] {
        let refused = act(&harness, "p-1", "confirmations", &json!({field: value})).await;
        assert_eq!((refused.status, refused.error()), (400, "invalid_request"), "{field}: {refused:?}");
        assert_eq!(refused.body["data"]["details"]["parameter"], json!(field));
    }
    for body in [json!({"bank": "bank-a"}), json!({"end_to_end_id": "other"}), json!({"unknown": 1})] {
        let refused = act(&harness, "p-1", "confirmations", &body).await;
        assert_eq!((refused.status, refused.error()), (400, "invalid_request"), "{body}: {refused:?}");
    }
    assert_eq!(recorded(&harness).await, before);
}

#[tokio::test]
async fn the_same_confirmation_again_changes_nothing() {
    let harness = followed_by_banks().await;
    registered(&harness, &payout("p-1")).await;
    let body = json!({"status": "ACSC", "reference": "m-1"});
    assert_eq!(done(&act(&harness, "p-1", "confirmations", &body).await)["repeated"], json!(false));
    let before = recorded(&harness).await;
    assert_eq!(done(&act(&harness, "p-1", "confirmations", &body).await)["repeated"], json!(true));
    assert_eq!(recorded(&harness).await, before);
    assert_eq!(events(&harness).await, ["payout.confirmed"]);
}

#[tokio::test]
async fn a_late_confirmation_freezes_the_payout_and_recalls_the_newer_attempt() {
    let harness = followed_by_banks().await;
    let followed = Followed::of(&harness);
    registered(&harness, &payout("p-1")).await;
    outcome(&harness, "p-1", 1, "rejected").await;
    let second = post(&harness, "/decide", &payout_with("p-1", "attempt_no", json!(2))).await;
    assert_eq!(second.status, 200, "{second:?}");
    outcome(&harness, "p-1", 2, "pending").await;
    followed.take();
    let late = act(&harness, "p-1", "confirmations", &json!({"attempt_no": 1, "status": "ACSC"})).await;
    let payout = &done(&late)["payout"];
    assert_eq!((&payout["state"], &payout["frozen"]), (&json!("frozen"), &json!(true)));
    assert_eq!(payout["hold"], json!("duplicate_detected"));
    assert_eq!(payout["attempts"][1]["state"], json!("recalling"), "the newer one is recalled at once");
    let effects = followed.take();
    assert!(effects.contains(&Effect::Recall { attempt_no: 2 }) && effects.contains(&Effect::Freeze), "{effects:?}");
    let third = post(&harness, "/decide", &payout_with("p-1", "attempt_no", json!(3))).await;
    assert_eq!((third.status, third.error()), (409, "attempt_unresolved"), "{third:?}");
    let text = harness.metrics.render().unwrap();
    assert!(text.contains("busbar_payouts_total{outcome=\"duplicate\"} 1\n"), "{text}");
}

#[tokio::test]
async fn a_confirmation_of_a_payout_with_attempts_names_one_of_them() {
    let harness = followed_by_banks().await;
    registered(&harness, &payout("p-1")).await;
    outcome(&harness, "p-1", 1, "rejected").await;
    harness.routes.circuit("bank-c", busbar::domain::breaker::EffectiveState::Open);
    assert_eq!(post(&harness, "/decide", &payout_with("p-1", "attempt_no", json!(2))).await.status, 200);
    let unnamed = act(&harness, "p-1", "confirmations", &json!({"status": "ACSP"})).await;
    assert_eq!((unnamed.status, unnamed.error()), (400, "invalid_request"), "{unnamed:?}");
    let payout = read(&harness, "p-1").await["payout"].clone();
    let newer: &Value = &payout["attempts"][1];
    for (name, value) in [
        ("attempt_no", json!(2)),
        ("attempt_id", newer["attempt_id"].clone()),
        ("end_to_end_id", newer["end_to_end_id"].clone()),
        ("bank", json!("bank-a")),
        ("bank_profile_id", json!("profile-bank-a")),
    ] {
        let named = act(&harness, "p-1", "confirmations", &json!({name: value, "status": "ACSP"})).await;
        let attempts = &done(&named)["payout"]["attempts"];
        assert_eq!((&attempts[0]["state"], &attempts[1]["state"]), (&json!("rejected"), &json!("accepted")), "{name}");
    }
}

#[tokio::test]
async fn an_attempt_is_sent_again_only_inside_the_window_of_its_key() {
    let harness = followed_by_banks().await;
    registered(&harness, &payout("p-1")).await;
    let first = outcome(&harness, "p-1", 1, "timeout").await["attempts"][0].clone();
    let again = act(&harness, "p-1", "attempts/1/resend", &json!({})).await;
    let attempt = &done(&again)["payout"]["attempts"][0];
    assert_eq!(attempt["idempotency_key"], first["idempotency_key"]);
    harness.routes.promise("bank-c", BankPromises::default());
    registered(&harness, &payout("p-2")).await;
    outcome(&harness, "p-2", 1, "timeout").await;
    let refused = act(&harness, "p-2", "attempts/1/resend", &json!({})).await;
    assert_eq!((refused.status, refused.error()), (409, "payout_refused"), "{refused:?}");
    assert_eq!(refused.body["data"]["details"]["reason"], json!("no_window"));
}

#[tokio::test]
async fn an_attempt_is_not_sent_again_while_its_connection_leads_elsewhere() {
    let harness = followed_by_banks().await;
    let leads_to = |target: &str| {
        let idempotency_window = std::time::Duration::from_hours(24);
        let promises = BankPromises { idempotency_window, target: target.to_owned(), ..BankPromises::default() };
        harness.routes.promise("bank-c", promises);
    };
    leads_to("one");
    registered(&harness, &payout("p-1")).await;
    outcome(&harness, "p-1", 1, "timeout").await;
    for elsewhere in ["other", ""] {
        leads_to(elsewhere);
        let refused = act(&harness, "p-1", "attempts/1/resend", &json!({})).await;
        assert_eq!((refused.status, refused.error()), (409, "payout_refused"), "{refused:?}");
        assert_eq!(refused.body["data"]["details"]["reason"], json!("endpoint_changed"));
    }
    leads_to("one");
    done(&act(&harness, "p-1", "attempts/1/resend", &json!({})).await);
}

#[tokio::test]
async fn acts_at_the_same_time_are_all_stored_one_after_the_other() {
    let harness = followed_by_banks().await;
    registered(&harness, &payout("p-1")).await;
    let reason = json!({"reason": "now"});
    let all = futures::future::join_all((0..12).map(|_| act(&harness, "p-1", "inquire", &reason))).await;
    assert!(all.iter().all(|said| said.status == 200), "{all:?}");
    let data = read(&harness, "p-1").await;
    assert_eq!(data["payout"]["version"], json!(13), "none is lost and none is stored twice");
    let calls = data["timeline"].as_array().unwrap().iter().filter(|row| row["call"] == json!("inquiry")).count();
    assert_eq!(calls, 12);
}

#[tokio::test]
async fn an_outcome_that_is_delivered_again_proves_nothing_that_was_doubted_since() {
    let harness = followed_by_banks().await;
    for proof in ["not_sent", "rejected"] {
        registered(&harness, &payout(proof)).await;
        let reports = [(proof, 1, true), ("timeout", 2, false), (proof, 1, false), (proof, 3, false)];
        for (class, second, may_attempt) in reports {
            let body = json!({"class": class, "at": format!("2026-01-31T18:00:0{second}Z")});
            let said = act(&harness, proof, "attempts/1/outcomes", &body).await;
            let payout = &done(&said)["payout"];
            assert_eq!(payout["may_attempt"], json!(may_attempt), "{class} at {second}: {payout}");
        }
        let next = post(&harness, "/decide", &payout_with(proof, "attempt_no", json!(2))).await;
        assert_eq!((next.status, next.error()), (409, "attempt_unresolved"), "{next:?}");
    }
}

#[tokio::test]
async fn the_evidence_of_an_outcome_names_its_entry_in_the_audit() {
    let harness = followed_by_banks().await;
    registered(&harness, &payout("p-1")).await;
    let payout = outcome(&harness, "p-1", 1, "rejected").await;
    let reference = payout["attempts"][0]["evidence"]["reference"].as_str().unwrap_or_default();
    let seq = reference.strip_prefix("audit entry ").and_then(|seq| seq.parse::<u64>().ok());
    assert!(seq.is_some_and(|seq| seq > 1), "{payout}");
}
