//! Reports of what became of payouts.

use busbar::domain::decision::OutcomeClass;
use serde_json::json;

use super::{decided, each, get, golden, payout, post, post_text, recorded};

#[tokio::test]
async fn outcomes_are_stored_once_and_tell_the_banks_health_once() {
    let harness = golden().await;
    let first = decided(&harness, &payout("p-1")).await;
    let second = decided(&harness, &payout("p-2")).await;
    let at = crate::kit::time::now();
    let body = json!({"namespace": "treasury", "outcomes": [
        {"decision_id": first["decision_id"], "class": "success", "latency_ms": 250, "at": at},
        {"attempt_id": second["decision_id"], "class": "timeout", "latency_ms": "30000"},
        {"decision_id": "0f8fad5b-d9cb-469f-a165-70867728950e", "class": "success"},
    ]});
    let stored = post(&harness, "/outcomes", &body).await;
    assert_eq!(stored.status, 200, "{stored:?}");
    assert_eq!(each(&stored.body["data"]["items"], "result"), ["stored", "stored", "decision_not_found"]);
    assert_eq!(stored.body["data"]["items"][1]["decision_id"], second["decision_id"]);
    let heard = harness.routes.take_feedback();
    let said: Vec<_> = heard.iter().map(|one| (one.class, one.says_health)).collect();
    assert_eq!(said, [(OutcomeClass::Success, true), (OutcomeClass::Timeout, true)]);
    assert_eq!(heard[0].latency, Some(std::time::Duration::from_millis(250)));
    let again = post(&harness, "/outcomes", &body).await;
    assert_eq!(each(&again.body["data"]["items"], "result"), ["repeated", "repeated", "decision_not_found"]);
    assert!(harness.routes.take_feedback().iter().all(|one| !one.says_health), "nothing counts twice");
    let one = get(&harness, &format!("/decisions/{}", first["decision_id"].as_str().unwrap())).await;
    let outcome = &one.body["data"]["outcomes"][0];
    assert_eq!((&outcome["class"], &outcome["latency_ms"]), (&json!("success"), &json!(250)), "{one:?}");
    assert_eq!(outcome["subject"], json!("ann"));
}

#[tokio::test]
async fn a_single_outcome_and_a_list_are_accepted_too() {
    let plan = super::Plan { default_namespace: Some("treasury"), ..super::Plan::default() };
    let harness = super::golden_with(plan).await;
    let first = decided(&harness, &payout("p-1")).await;
    let single = json!({"decision_id": first["decision_id"], "class": "pending"});
    let said = post(&harness, "/outcomes", &single).await;
    assert_eq!((said.status, each(&said.body["data"]["items"], "result")), (200, vec!["stored"]), "{said:?}");
    let list = json!([{"decision_id": first["decision_id"], "class": "rejected"}]);
    let said = post(&harness, "/outcomes", &list).await;
    assert_eq!((said.status, each(&said.body["data"]["items"], "result")), (200, vec!["stored"]), "{said:?}");
}

#[tokio::test]
async fn decisions_of_another_namespace_are_unknown() {
    let harness = golden().await;
    let first = decided(&harness, &payout("p-1")).await;
    let body = json!({"namespace": "other", "outcomes": [{"decision_id": first["decision_id"], "class": "not_sent"}]});
    let said = post(&harness, "/outcomes", &body).await;
    assert_eq!(each(&said.body["data"]["items"], "result"), ["decision_not_found"]);
    assert_eq!(recorded(&harness).await, 1);
}

#[tokio::test]
async fn an_outcome_that_is_none_is_named_and_none_of_the_batch_is_stored() {
    let harness = golden().await;
    let first = decided(&harness, &payout("p-1")).await;
    let good = json!({"decision_id": first["decision_id"], "class": "success"});
    let id = &first["decision_id"];
    for (bad, parameter) in [
        (json!({"class": "success"}), "outcomes[1].decision_id"),
        (json!({"decision_id": "7", "class": "success"}), "outcomes[1].decision_id"),
        (json!({"decision_id": 7, "class": "success"}), "outcomes[1].decision_id"),
        (json!({"decision_id": id, "attempt_id": id, "class": "success"}), "outcomes[1].attempt_id"),
        (json!({"decision_id": id}), "outcomes[1].class"),
        (json!({"decision_id": id, "class": "Success"}), "outcomes[1].class"),
        (json!({"decision_id": id, "class": 7}), "outcomes[1].class"),
        (json!({"decision_id": id, "class": "success", "latency_ms": -1}), "outcomes[1].latency_ms"),
        (json!({"decision_id": id, "class": "success", "latency_ms": 0.5}), "outcomes[1].latency_ms"),
        (json!({"decision_id": id, "class": "success", "latency_ms": "x"}), "outcomes[1].latency_ms"),
        (json!({"decision_id": id, "class": "success", "latency_ms": 86_400_001}), "outcomes[1].latency_ms"),
        (json!({"decision_id": id, "class": "success", "at": "now"}), "outcomes[1].at"),
        (json!({"decision_id": id, "class": "success", "at": "2199-01-01T00:00:00Z"}), "outcomes[1].at"),
        (json!({"decision_id": id, "class": "success", "bank": "x"}), "outcomes[1].bank"),
        (json!([]), "outcomes[1]"),
    ] {
        let body = json!({"namespace": "treasury", "outcomes": [good, bad]});
        let refused = post(&harness, "/outcomes", &body).await;
        assert_eq!((refused.status, refused.error()), (400, "invalid_request"), "{bad}: {refused:?}");
        assert_eq!(refused.body["data"]["details"]["parameter"], json!(parameter), "{bad}");
    }
    for body in [
        json!({"namespace": "treasury"}),
        json!({"namespace": "treasury", "outcomes": []}),
        json!({"namespace": "treasury", "outcomes": {}}),
        json!({"namespace": "treasury", "outcomes": vec![good.clone(); 501]}),
        json!({"namespace": "treasury", "outcomes": [good], "class": "success"}),
        json!({"outcomes": [good]}),
    ] {
        let refused = post(&harness, "/outcomes", &body).await;
        assert_eq!((refused.status, refused.error()), (400, "invalid_request"), "{refused:?}");
    }
    let many = format!("[{}1]", "1,".repeat(200_000));
    assert_eq!(post_text(&harness, "/outcomes", "token-ann", many).await.status, 400);
    assert_eq!(recorded(&harness).await, 1, "only the decision");
    assert!(harness.routes.take_feedback().is_empty());
}
