//! Results of megabytes: returned as they are, mapped one by one, and refused where they grow too long.

use busbar::provider::call::MAX_BODY;
use busbar::testbed::sim::Behaviour;
use serde_json::{Value, json};

use super::harness::GatewayHarness;
use crate::kit::metrics::value;
use crate::kit::wait::eventually;

const EARNINGS: &str = "/api/providers/treasury/fmp/earnings?symbol=ACME";

async fn harness_with(body: String) -> GatewayHarness {
    let harness = GatewayHarness::new().await;
    let behaviour = Behaviour::Status { code: 200, headers: [].into(), body: Some(body) };
    harness.fmp.fail_with(behaviour).await.unwrap();
    harness
}

fn list(record: &str, count: usize) -> String {
    format!("[{}]", vec![record; count].join(","))
}

/// Waits until no memory of a response is reserved.
async fn until_released(harness: &GatewayHarness) {
    eventually("the memory of the response is released", async || {
        let text = harness.metrics.render().unwrap();
        value(&text, "busbar_response_memory_bytes", &[("pool", "responses")]) == Some(0.0)
    })
    .await;
}

#[tokio::test]
async fn a_large_body_of_the_provider_is_returned_unchanged() {
    let body = list(r#"{"z": 1.50, "a": "\u00e9", "n": 12345678901234567890}"#, 40_000);
    let harness = harness_with(format!("\u{feff} {body}\n")).await;
    let request = harness.http.get(harness.url(&format!("{EARNINGS}&shape=provider"))).bearer_auth("token-ann");
    let response = request.send().await.unwrap();
    let length = response.content_length();
    let text = response.text().await.unwrap();
    assert_eq!(length, Some(text.len() as u64));
    assert!(text.starts_with(&format!("{{\"data\":{{\"result\": {body}\n,\"meta\":{{")), "{}", &text[..200]);
    assert!(serde_json::from_str::<Value>(&text).is_ok());
    until_released(&harness).await;
}

#[tokio::test]
async fn a_large_list_is_mapped_record_by_record() {
    let record = r#"{"symbol": "ACME", "date": "2026-10-20", "epsActual": 1.50, "text": "something that is not read"}"#;
    let harness = harness_with(list(record, 10_000)).await;
    let answer = harness.get(EARNINGS).await;
    let result = &answer.body["data"]["result"];
    assert_eq!((answer.status, &result["complete"]), (200, &json!(true)));
    let records = result["records"].as_array().unwrap();
    assert_eq!((records.len(), &records[9_999]["eps_actual"]), (10_000, &json!("1.50")));
    until_released(&harness).await;
}

#[tokio::test]
async fn a_result_larger_than_a_response_may_be_is_refused() {
    let harness = harness_with(list(r#"{"symbol":"A","date":"2026-10-20"}"#, MAX_BODY / 64)).await;
    let answer = harness.get(EARNINGS).await;
    let reason = &answer.body["data"]["details"]["reason"];
    assert_eq!((answer.status, answer.error(), reason), (502, "provider_failed", &json!("too_large")));
    until_released(&harness).await;
}
