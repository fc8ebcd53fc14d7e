//! Webhooks: signatures, rotated secrets, repeats, bursts.

use std::sync::atomic::Ordering;

use busbar::gateway::rate_limit::Rate;
use busbar::profile::WebhookScheme;
use futures::future::join_all;
use hmac::{Hmac, Mac as _};
use serde_json::json;
use sha2::Sha512;

use super::harness::{GatewayHarness, Plan, Said, said};
use super::scripted_hooks::HEADER;
use crate::kit::time::now;

const PATH: &str = "/webhooks/treasury/mono";
const BODY: &str = r#"{"event": "account.updated", "data": {"account": "0123456789"}}"#;

pub(super) fn signature(secret: &str, body: &str) -> String {
    let mut hmac = Hmac::<Sha512>::new_from_slice(secret.as_bytes()).unwrap();
    hmac.update(body.as_bytes());
    hex::encode(hmac.finalize().into_bytes())
}

pub(super) async fn send(harness: &GatewayHarness, path: &str, body: &str, presented: &str) -> Said {
    said(harness.http.post(harness.url(path)).header(HEADER, presented).body(body.to_owned())).await
}

fn count(harness: &GatewayHarness, result: &str) -> u64 {
    let line = format!("busbar_webhooks_total{{result=\"{result}\"}} ");
    let text = harness.metrics.render().unwrap();
    text.lines().find_map(|found| found.strip_prefix(&line)).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_signed_webhook_is_stored_before_it_is_answered() {
    let harness = GatewayHarness::new().await;
    let answer = send(&harness, PATH, BODY, &signature("s3cret", BODY)).await;
    assert_eq!((answer.status, &answer.body["data"]["result"]), (202, &json!("accepted")));
    let again = send(&harness, PATH, BODY, &signature("s3cret", BODY)).await;
    assert_eq!((again.status, &again.body["data"]["result"]), (202, &json!("coalesced")), "a retry is harmless");
    let open = harness.ledger.open_webhooks(9).await.unwrap();
    assert_eq!((open.len(), open[0].unhandled, &*open[0].connection.name), (1, 2, "mono"));
    let ignored = r#"{"event": "account.deleted"}"#;
    let answer = send(&harness, PATH, ignored, &signature("s3cret", ignored)).await;
    assert_eq!((answer.status, &answer.body["data"]["result"]), (202, &json!("ignored")));
}

#[tokio::test]
async fn forged_webhooks_are_the_same_401_and_leave_nothing() {
    let harness = GatewayHarness::new().await;
    let right = signature("s3cret", BODY);
    let upper = BODY.to_uppercase();
    let mut bodies = Vec::new();
    for (path, body, presented) in [
        (PATH, BODY, signature("other", BODY)),
        (PATH, upper.as_str(), right.clone()),
        (PATH, BODY, right[..100].to_owned()),
        (PATH, BODY, "s3cret".to_owned()),
        (PATH, BODY, String::new()),
        ("/webhooks/treasury/fmp", BODY, right.clone()),
        ("/webhooks/treasury/none", BODY, right.clone()),
        ("/webhooks/NO/such_name", BODY, right),
    ] {
        let answer = send(&harness, path, body, &presented).await;
        assert_eq!((answer.status, answer.error()), (401, "unauthenticated"), "{path} {presented}");
        bodies.push(answer.body);
    }
    let unsigned = said(harness.http.post(harness.url(PATH)).body(BODY)).await;
    assert_eq!(unsigned.status, 401);
    assert!(bodies.iter().all(|body| *body == bodies[0]), "{bodies:?}");
    assert!(harness.ledger.open_webhooks(9).await.unwrap().is_empty());
    assert_eq!(count(&harness, "unverified"), 9);
}

#[tokio::test]
async fn a_rotated_secret_counts_at_once_and_the_old_one_only_beside_it() {
    let harness = GatewayHarness::new().await;
    let status = async |secret: &str| send(&harness, PATH, BODY, &signature(secret, BODY)).await.status;
    assert_eq!(status("s3cret").await, 202);
    *harness.hooks.rotated.lock().unwrap() = vec!["new", "s3cret"];
    assert_eq!((status("new").await, status("s3cret").await), (202, 202), "read again before it is refused");
    *harness.hooks.rotated.lock().unwrap() = vec!["newer"];
    assert_eq!((status("newer").await, status("new").await, status("s3cret").await), (202, 401, 401));
    assert!(harness.hooks.rereads.load(Ordering::Relaxed) >= 2);
}

#[tokio::test]
async fn a_static_secret_is_accepted_whole_or_not_at_all() {
    let harness = GatewayHarness::new().await;
    *harness.hooks.scheme.lock().unwrap() = WebhookScheme::StaticSecret;
    for (presented, expected) in [("s3cret", 202), ("s3cre", 401), ("s3crets", 401), ("S3CRET", 401), ("", 401)] {
        assert_eq!(send(&harness, PATH, BODY, presented).await.status, expected, "{presented}");
    }
}

#[tokio::test]
async fn a_signed_time_limits_replays() {
    let harness = GatewayHarness::new().await;
    *harness.hooks.time.lock().unwrap() = Some("/at");
    let at = now().as_second();
    let result = async |at: i64, note: &str| {
        let body = json!({"at": at, "note": note}).to_string();
        let answer = send(&harness, PATH, &body, &signature("s3cret", &body)).await;
        (answer.status, answer.body["data"]["result"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(result(at, "one").await, (202, "accepted".to_owned()));
    assert_eq!(result(at, "one").await, (202, "repeated".to_owned()));
    assert_eq!(result(at, "two").await, (202, "coalesced".to_owned()));
    assert_eq!(result(at - 3_600, "one").await.0, 401);
    assert_eq!(result(at + 3_600, "one").await.0, 401);
    assert_eq!(harness.ledger.open_webhooks(9).await.unwrap()[0].unhandled, 2);
}

#[tokio::test]
async fn a_body_beyond_one_mebibyte_is_refused_and_forgers_are_limited() {
    let address = Rate { requests: 3, per: std::time::Duration::from_hours(1) };
    let harness = GatewayHarness::with(Plan { address, ..Plan::default() }).await;
    let large = "x".repeat(1024 * 1024 + 1);
    for path in [PATH, "/webhooks/treasury/fmp", "/webhooks/treasury/none", "/webhooks/NO/such_name"] {
        let answer = send(&harness, path, &large, &signature("s3cret", &large)).await;
        assert_eq!(answer.status, 413, "{path}: the size does not tell which connections exist");
    }
    let unsigned = said(harness.http.post(harness.url(PATH)).body(large)).await;
    assert_eq!(unsigned.status, 413);
    for expected in [401, 401, 401, 429, 429] {
        assert_eq!(send(&harness, PATH, BODY, "forged").await.status, expected);
    }
    assert_eq!(send(&harness, PATH, BODY, &signature("s3cret", BODY)).await.status, 202, "a signed one still counts");
}

#[tokio::test]
async fn a_burst_of_ten_thousand_is_one_row() {
    let harness = GatewayHarness::new().await;
    let signed = signature("s3cret", BODY);
    for _ in 0..100 {
        let answers = join_all((0..100).map(|_| send(&harness, PATH, BODY, &signed))).await;
        assert!(answers.iter().all(|answer| answer.status == 202), "{answers:?}");
    }
    let open = harness.ledger.open_webhooks(9).await.unwrap();
    assert_eq!((open.len(), open[0].unhandled), (1, 10_000));
    assert_eq!((count(&harness, "accepted"), count(&harness, "coalesced")), (1, 9_999));
}
