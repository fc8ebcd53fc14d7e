//! Syncs and events over HTTP on a real API server: real tokens and real RBAC, the run in the operator, its raw payloads and
//! events in the ledger.

use busbar::api::v1alpha1::SyncJob;
use busbar::ledger::outbox::EventFilter;
use busbar::ledger::{self, LedgerUrl, OpenMode};
use busbar::testbed::sim::AccountConfig;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::cluster::bank_env::BankEnv;
use crate::cluster::gateway_calls::{caller_token, get, until_response};
use crate::cluster::operator::Operator;
use crate::cluster::sync_jobs::{FEED, feed_job, until_succeeded};
use crate::kit::http::gateway_client;
use crate::kit::wait::eventually;

/// Status and body of a POST with a body of JSON.
async fn post(operator: &Operator, path: &str, token: &str, body: Value) -> (u16, Value) {
    let request = gateway_client().post(format!("{}{path}", operator.gateway()));
    let request = request.bearer_auth(token).header("content-type", "application/json");
    let response = request.body(body.to_string()).send().await.expect("a response of the gateway");
    let status = response.status().as_u16();
    (status, serde_json::from_str(&response.text().await.unwrap()).expect("JSON"))
}

#[tokio::test]
async fn a_run_over_http_is_one_id_from_the_request_to_the_events() {
    let env = BankEnv::new("syncs").await;
    env.mono("mono", |c| c.accounts([AccountConfig::new("acc-1", 120)])).await;
    env.put(&feed_job("24h", json!({"jitterPercent": 0, "retention": {"mode": "Encrypted"}}))).await;
    let keys = tempfile::tempdir().expect("a folder");
    std::fs::write(keys.path().join("v1"), [7; 32]).expect("a key");
    let ops = caller_token(&env.ns, "ops", Some("busbar-syncs")).await;
    let reader = caller_token(&env.ns, "reader", Some("busbar-events")).await;
    let operator = Operator::ready(&env.ns, &[&format!("--key-secret={}", keys.path().display())]).await;
    until_succeeded(&env, "the first run succeeded").await;
    let job = format!("/api/syncs/{}/{FEED}", env.ns.name());
    let events = format!("/api/events?namespace={}", env.ns.name());
    until_response(&operator, &format!("{job}/runs"), &ops, (200, "")).await;
    until_response(&operator, &events, &reader, (200, "")).await;
    assert_eq!(get(&operator, &events, &ops).await.0, 403, "the right to run is no right to read events");
    assert_eq!(post(&operator, &format!("{job}/run"), &reader, json!({})).await.0, 403);

    let (status, planned) = post(&operator, &format!("{job}/plan"), &ops, json!({})).await;
    assert_eq!(status, 200, "{planned}");
    assert_eq!((&planned["data"]["inserted"], &planned["data"]["result"]), (&json!(0), &json!("Succeeded")));
    assert!(planned["data"]["unchanged"].as_u64().is_some_and(|rows| rows > 0), "{planned}");

    let (status, asked) = post(&operator, &format!("{job}/run"), &ops, json!({})).await;
    assert_eq!(status, 202, "{asked}");
    let run = asked["data"]["run_id"].as_str().expect("an ID").to_owned();
    let ended = eventually("the run ended", async || {
        let (_, _, body) = get(&operator, &format!("{job}/runs"), &ops).await;
        let items = body["data"]["items"].as_array().cloned().unwrap_or_default();
        items.into_iter().find(|item| item["id"] == json!(run) && item["result"] != Value::Null)
    })
    .await;
    assert_eq!((&ended["result"], &ended["trigger"]), (&json!("Succeeded"), &json!("Manual")));
    let (_, _, told) = get(&operator, &format!("{events}&correlation_id={run}&wait=10"), &reader).await;
    let types: Vec<_> = told["data"]["items"].as_array().expect("events").iter().map(|e| e["type"].clone()).collect();
    assert_eq!(types.first(), Some(&json!("fetch.started")), "{told}");
    assert_eq!(types.last(), Some(&json!("pipeline.completed")), "{told}");
    assert!(operator.logs().contains(&run), "the log lines of the run");
    let object: SyncJob = env.ns.api().get(FEED).await.expect("the job");
    assert_eq!((object.metadata.generation, object.spec.resync), (Some(1), None), "the spec is not written");

    let url = LedgerUrl::Sqlite(env.ns.ledger_file("a"));
    let ledger = ledger::open(&url, OpenMode::ReadOnly).await.expect("the operator's ledger");
    let filter = EventFilter { types: vec!["bank.transactions.ingested".into()], ..EventFilter::default() };
    let stored = ledger.list_events(&filter, 10).await.expect("the events");
    let payload: Value = serde_json::from_str(&stored[0].payload).expect("JSON");
    let raw = Uuid::parse_str(payload["raw_ref"].as_str().expect("stored with its page")).expect("an ID");
    let raw = ledger.load_raw(raw, stored[0].created).await.expect("the ledger").expect("the payload");
    assert_eq!((raw.run_id, raw.payload.mode.as_str()), (stored[0].correlation_id.to_string(), "encrypted"));
    ledger.close().await;
    operator.finish(&env.ns).await;
}
