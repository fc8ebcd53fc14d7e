//! The simulator from outside its process: control API, announce file, signals.

use busbar::testbed::sim::process::Announcement;
use busbar::testbed::sim::{BankConfig, Script, Sim, SimConfig, SimError};
use reqwest::StatusCode;
use serde_json::Value;

use crate::kit::banks::simulator;
use crate::kit::http::{client, json, trusting_client};
use crate::kit::wait::{PATIENCE, eventually};

#[tokio::test]
async fn the_control_api_offers_what_the_library_offers() {
    let control = Some("127.0.0.1:0".parse().unwrap());
    let sim = Sim::start(SimConfig { control, ..SimConfig::default() }).await.unwrap();
    let base = format!("http://{}", sim.control().unwrap());
    let send = |method: &str, path: &str, body: &str| {
        let request = client().request(method.parse().unwrap(), format!("{base}{path}"));
        request.header("content-type", "application/json").body(body.to_owned()).send()
    };
    let made = send("POST", "/banks", r#"{"name":"b","auth":{"bearer":{"token":"canary"}}}"#).await.unwrap();
    assert_eq!(made.status(), StatusCode::CREATED);
    let url = json(made).await["http"].as_str().unwrap().to_owned();
    assert_eq!(send("POST", "/banks", r#"{"name":"b"}"#).await.unwrap().status(), StatusCode::CONFLICT);
    let ask = || client().get(format!("{url}/health?x=canary")).bearer_auth("canary").send();
    assert_eq!(ask().await.unwrap().status(), StatusCode::OK);
    let step = r#"{"do":{"status":{"code":502}},"requests":1}"#;
    assert_eq!(send("POST", "/banks/b/fail", step).await.unwrap().status(), StatusCode::NO_CONTENT);
    assert_eq!(ask().await.unwrap().status(), StatusCode::BAD_GATEWAY);
    let bad = send("PUT", "/banks/b/script", r#"{"rules":[{"steps":[]}]}"#).await.unwrap();
    assert_eq!(bad.status(), StatusCode::BAD_REQUEST);
    assert!(bad.text().await.unwrap().contains("rules[0] has no steps"));
    send("PUT", "/banks/b/script", r#"{"rules":[{"steps":[{"do":{"down":"refuse"}}]}]}"#).await.unwrap();
    assert!(ask().await.unwrap_err().is_connect());
    send("POST", "/banks/b/recover", "").await.unwrap();
    let rows = r#"[{"id":"t","narration":"n","amount":5,"type":"debit","balance":1,"date":"2026-01-01T00:00:00Z"}]"#;
    for (account, want) in [("acc-1", StatusCode::NO_CONTENT), ("x", StatusCode::NOT_FOUND)] {
        let path = format!("/banks/b/accounts/{account}/transactions");
        assert_eq!(send("POST", &path, rows).await.unwrap().status(), want);
    }
    let log = send("GET", "/banks/b/arrivals?since=0", "").await.unwrap().text().await.unwrap();
    assert!(!log.contains("canary"), "{log}");
    let statuses: Value = serde_json::from_str(&log).unwrap();
    let statuses: Vec<_> = statuses["entries"].as_array().unwrap().iter().map(|a| a["status"].as_u64()).collect();
    assert_eq!(statuses, [Some(200), Some(502)]);
    assert_eq!(json(send("GET", "/banks/b/counters", "").await.unwrap()).await["answered5xx"], 1);
    assert!(send("GET", "/ca.pem", "").await.unwrap().text().await.unwrap().starts_with("-----BEGIN CERT"));
    assert_eq!(send("DELETE", "/banks/b", "").await.unwrap().status(), StatusCode::NO_CONTENT);
    assert_eq!(send("GET", "/banks/b", "").await.unwrap().status(), StatusCode::NOT_FOUND);
}

/// One span as a collector gets it, with a parent.
fn span(name: &str, id: u8, parent: &[u8]) -> opentelemetry_proto::tonic::trace::v1::Span {
    use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
    let value = AnyValue { value: Some(Value::StringValue("fmp".to_owned())) };
    let attributes = vec![KeyValue { key: "provider".to_owned(), value: Some(value), ..KeyValue::default() }];
    opentelemetry_proto::tonic::trace::v1::Span {
        trace_id: vec![7; 16],
        span_id: vec![id; 8],
        parent_span_id: parent.to_vec(),
        name: name.to_owned(),
        attributes,
        ..Default::default()
    }
}

#[tokio::test]
async fn the_control_api_shows_the_traces_that_it_received() {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans};
    use prost::Message as _;
    let control = Some("127.0.0.1:0".parse().unwrap());
    let sim = Sim::start(SimConfig { control, ..SimConfig::default() }).await.unwrap();
    let base = format!("http://{}", sim.control().unwrap());
    let spans = vec![span("provider.call", 2, &[1; 8]), span("gateway.request", 1, &[])];
    let scopes = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    let resource_spans = vec![ResourceSpans { scope_spans: scopes, ..ResourceSpans::default() }];
    let body = ExportTraceServiceRequest { resource_spans }.encode_to_vec();
    let send = || client().post(format!("{base}/v1/traces")).body(body.clone());
    assert_eq!(send().send().await.unwrap().status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert!(send().header("content-type", "application/x-protobuf").send().await.unwrap().status().is_success());
    let shown =
        || async { json(client().get(format!("{base}/traces?name=provider.call")).send().await.unwrap()).await };
    let calls = shown().await;
    assert_eq!(calls.as_array().unwrap().len(), 1);
    assert_eq!(
        (&calls[0]["parentName"], &calls[0]["attributes"]["provider"]),
        (&"gateway.request".into(), &"fmp".into())
    );
    assert_eq!(client().delete(format!("{base}/traces")).send().await.unwrap().status(), StatusCode::NO_CONTENT);
    assert_eq!(shown().await, serde_json::json!([]));
}

/// Requests that a bank of the simulator with this control API has had.
async fn requests(control: &str, bank: &str) -> Value {
    let response = client().get(format!("{control}/banks/{bank}/counters")).send().await.unwrap();
    json(response).await["requests"].clone()
}

#[tokio::test]
async fn the_process_ends_on_a_signal_despite_a_stalled_request() {
    for signal in ["TERM", "INT"] {
        let dir = tempfile::tempdir().unwrap();
        let (announce, ca) = (dir.path().join("sim.json"), dir.path().join("ca.pem"));
        let mut sim = tokio::process::Command::new(env!("CARGO_BIN_EXE_busbar-sim"))
            .args(["--banks", "3", "--mono-key", "canary", "--announce-file"])
            .arg(&announce)
            .arg("--ca-file")
            .arg(&ca)
            .stdout(std::process::Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let text = eventually("it announces itself", async || std::fs::read_to_string(&announce)).await;
        let announced: Announcement = serde_json::from_str(&text).unwrap();
        assert_eq!(announced.banks.iter().map(|b| b.name.as_str()).collect::<Vec<_>>(), ["bank-a", "bank-b", "bank-c"]);
        let ca = std::fs::read_to_string(announced.ca_file.unwrap()).unwrap();
        let trusting = trusting_client(&ca).build().unwrap();
        let url = format!("{}/health", announced.banks[2].https);
        let answer = trusting.get(url).header("mono-sec-key", "canary").send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        // A request that stalls on purpose must not hold the process.
        let fail = client().post(format!("{}/banks/bank-a/fail", announced.control));
        let fail = fail.header("content-type", "application/json").body(r#"{"do":{"stall":"beforeHead"}}"#);
        assert_eq!(fail.send().await.unwrap().status(), StatusCode::NO_CONTENT);
        let stalled = tokio::spawn(trusting.get(format!("{}/health", announced.banks[0].http)).send());
        eventually("the request has arrived", async || requests(&announced.control, "bank-a").await != 0).await;
        let pid = announced.pid.to_string();
        let kill = tokio::process::Command::new("kill").args(["-s", signal, &pid]).status().await.unwrap();
        assert!(kill.success());
        let ended = tokio::time::timeout(PATIENCE, sim.wait()).await.unwrap().unwrap();
        assert!(ended.success(), "{signal}: {ended}");
        assert!(stalled.await.unwrap().is_err());
    }
}

#[tokio::test]
async fn nothing_listens_beyond_loopback_unless_allowed() {
    let anywhere = "0.0.0.0:0".parse().unwrap();
    let control = SimConfig { control: Some(anywhere), allow_remote: false };
    assert!(matches!(Sim::start(control).await, Err(SimError::NotLoopback { .. })));
    let sim = simulator().await;
    let open = BankConfig { listen: anywhere, ..BankConfig::new("b") };
    assert!(matches!(sim.add_bank(open.clone()).await, Err(SimError::NotLoopback { .. })));
    assert!(matches!(sim.add_bank(BankConfig::new("a/b")).await, Err(SimError::InvalidName(_))));
    let allowed = Sim::start(SimConfig { control: None, allow_remote: true }).await.unwrap();
    allowed.add_bank(open).await.unwrap();
}

#[test]
fn the_scripts_in_the_documentation_are_valid() {
    let text = include_str!("../../docs/simulator.md");
    let scripts: Vec<_> =
        text.split("```json script\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(!scripts.is_empty());
    for script in scripts {
        serde_json::from_str::<Script>(script).unwrap().validate().unwrap();
    }
}
