//! The operator with a standard error that no process reads: it goes on, and ends when it is told to.

use std::process::Stdio;
use std::time::Duration;

use reqwest::StatusCode;
use serde_json::Value;

use crate::kit::binary::busbar;
use crate::kit::metrics;
use crate::kit::wait::{PATIENCE, eventually};

/// Longer than the text of any target; the admin port accepts 4 KiB.
const DIRECTIVES_LENGTH: usize = 4_000;
/// More than the lines that fit into the queue, the pipe and a margin.
const MAX_LINES: usize = 4_000;

#[tokio::test]
async fn a_blocked_standard_error_blocks_neither_the_operator_nor_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let (announce, kubeconfig) = (dir.path().join("announce.json"), dir.path().join("kubeconfig"));
    // Nothing listens there: the operator waits for an API server, and serves its admin port.
    let cluster = "{\"clusters\": [{\"name\": \"none\", \"cluster\": {\"server\": \"http://127.0.0.1:9\"}}], \
                   \"contexts\": [{\"name\": \"none\", \"context\": {\"cluster\": \"none\", \"user\": \"none\"}}], \
                   \"users\": [{\"name\": \"none\", \"user\": {}}], \"current-context\": \"none\"}";
    std::fs::write(&kubeconfig, cluster).unwrap();
    let mut command = busbar(&["run", "--admin-address=127.0.0.1:0", "--gateway-address=off"]);
    command
        .arg(format!("--kubeconfig={}", kubeconfig.display()))
        .arg(format!("--announce-file={}", announce.display()))
        .arg(format!("--ledger=sqlite:{}", dir.path().join("ledger.db").display()))
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut command = tokio::process::Command::from(command);
    let mut operator = command.kill_on_drop(true).spawn().unwrap();
    let _never_read = operator.stderr.take().unwrap();
    let announced = eventually("it announces itself", async || std::fs::read(&announce)).await;
    let announced: Value = serde_json::from_slice(&announced).unwrap();
    let base = format!("http://{}", announced["admin"].as_str().unwrap());
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build().unwrap();

    let directives = format!("info,{}=info", "x".repeat(DIRECTIVES_LENGTH));
    let mut dropped = None;
    for line in 0..MAX_LINES {
        let response = client.put(format!("{base}/log-level")).body(directives.clone()).send().await;
        assert_eq!(response.expect("a response").status(), StatusCode::NO_CONTENT);
        if line % 100 == 0 {
            let scrape = client.get(format!("{base}/metrics")).send().await.expect("a scrape").text().await.unwrap();
            dropped = metrics::value(&scrape, "busbar_log_lines_dropped_total", &[]);
            if dropped.is_some_and(|dropped| dropped > 0.0) {
                break;
            }
        }
    }
    assert!(dropped.is_some_and(|dropped| dropped > 0.0), "the queue is full: {dropped:?}");
    assert_eq!(client.get(format!("{base}/livez")).send().await.unwrap().status(), StatusCode::OK);

    let pid = operator.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-s", "TERM", &pid]).status().unwrap().success());
    let status = tokio::time::timeout(PATIENCE, operator.wait()).await.expect("it ends").unwrap();
    assert!(status.success(), "{status}");
}
