//! schemathesis, a property-based tester of APIs from `PyPI`, against the gateway: no response that the `OpenAPI` document does not
//! describe, and no 5xx but the documented ones.

use std::path::Path;
use std::process::Stdio;

use super::harness::Plan;
use super::routing::{golden_with, payout, post};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "installs schemathesis from PyPI: `make schemathesis` and `make soak` run it"]
async fn schemathesis_finds_no_breach_of_the_document() {
    let harness = golden_with(Plan { default_namespace: Some("treasury"), ..Plan::default() }).await;
    let first = post(&harness, "/decide", &payout("p-1")).await;
    assert_eq!(first.status, 200, "{first:?}");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("hack/schemathesis/run");
    let mut run = tokio::process::Command::new(script);
    run.arg(harness.url("")).arg("token-ann").stdin(Stdio::null()).kill_on_drop(true);
    let ended = run.status().await.expect("hack/schemathesis/run starts");
    assert!(ended.success(), "schemathesis found breaches, or could not run: {ended}; see its output above");
    let metrics = harness.metrics.render().unwrap();
    let panics: Vec<_> = metrics
        .lines()
        .filter(|line| line.starts_with("busbar_gateway_panics_total{") && !line.ends_with(" 0"))
        .collect();
    assert!(panics.is_empty(), "{panics:?}");
}
