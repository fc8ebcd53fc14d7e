//! What a failed run says about its cause, against a bank that answers over real sockets with what banks, their proxies and
//! their login pages answer.

use std::path::Path;
use std::sync::Arc;

use busbar::domain::run_reason::RunReason;
use busbar::ledger::{RunRecord, RunResult};
use busbar::profile::{Environment, Profile};
use busbar::provider::connection::Connection;
use busbar::settings::Draft;
use busbar::sync::{Partition, SyncPlan};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::kit::connections::{connect, profile_draft};
use crate::kit::sync_env::{SyncEnv, mono_plan, stream_plan};

const PROFILE: &str = "
id: shop
title: Shop
baseURL: {sandbox: 'https://shop.example'}
breaker: Api
healthCheck: {path: /health}
streams:
  rows:
    summary: Rows.
    record: document
    path: /rows/{shop}
    parameters:
      shop: {summary: The shop, kind: word, required: true, maxLength: 64}
    records: [/data, /data/rows]
    key: /id
    pagination: {kind: none}
";

/// A bank that answers each request with the bytes that `answer` returns for its path, and closes the connection.
struct Bank {
    url: String,
}

impl Bank {
    async fn start(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let answer = Arc::new(answer);
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let answer = Arc::clone(&answer);
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    let mut buffer = [0; 4096];
                    while !head.windows(4).any(|four| four == b"\r\n\r\n") {
                        match socket.read(&mut buffer).await {
                            Ok(read @ 1..) => head.extend_from_slice(&buffer[..read]),
                            _ => return,
                        }
                    }
                    let head = String::from_utf8_lossy(&head).into_owned();
                    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                    // The client may have read enough.
                    let _ = socket.write_all(&answer(&path)).await;
                    let _ = socket.shutdown().await;
                });
            }
        });
        Self { url }
    }
}

fn response(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n");
    [head.as_bytes(), body].concat()
}

fn json(status: &str, body: &str) -> Vec<u8> {
    response(status, "content-type: application/json\r\n", body.as_bytes())
}

fn connection(url: &str) -> Arc<Connection> {
    let profile = Arc::new(Profile::parse("shop.yaml", PROFILE).unwrap());
    let mut draft = Draft::new(profile, Environment::Sandbox);
    url.clone_into(&mut draft.base_url);
    draft.retry.retries = 0;
    draft.breaker.consecutive_failures = 0;
    connect(draft)
}

fn plan(shops: &[&str]) -> Arc<SyncPlan> {
    let partition = |shop: &&str| Partition {
        name: if shops.len() == 1 { String::new() } else { (*shop).to_owned() },
        parameters: [("shop".to_owned(), (*shop).to_owned())].into(),
    };
    let profile = Profile::parse("shop.yaml", PROFILE).unwrap();
    Arc::new(stream_plan(&profile, "rows", shops.iter().map(partition).collect()))
}

async fn env(dir: &Path) -> SyncEnv {
    SyncEnv::open(&dir.join("ledger.db")).await
}

/// The record of one run of `plan` against a bank with these answers.
async fn one_run(plan: &Arc<SyncPlan>, answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> RunRecord {
    let dir = tempfile::tempdir().unwrap();
    let (bank, env) = (Bank::start(answer).await, env(dir.path()).await);
    let run = env.run(plan, &connection(&bank.url)).await.last.remove(0);
    env.ledger.close().await;
    // As another process reads it.
    let again = SyncEnv::open(&dir.path().join("ledger.db")).await;
    let stored = again.pool.view(&plan.job, 1).await.unwrap().last.remove(0);
    assert_eq!((&stored.failure, stored.reason), (&run.failure, run.reason), "it survives a restart");
    run
}

#[tokio::test]
async fn the_reason_and_detail_of_a_failed_run_fit_what_was_received() {
    let html = b"<!doctype html><title>Sign in</title>".as_slice();
    let truncated =
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 900\r\n\r\n{\"data\": [".to_vec();
    let cut_off =
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n{\"data\": [1".to_vec();
    let huge = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 999999999\r\n\r\n{".to_vec();
    let utf16: Vec<u8> = [0xff, 0xfe].into_iter().chain("{}".bytes().flat_map(|byte| [byte, 0])).collect();
    let gzip = "content-type: application/json\r\ncontent-encoding: gzip\r\n";
    let moved = "location: https://login.shop.example/?account=0131883461\r\n";
    let cases: Vec<(Vec<u8>, RunReason, Option<u16>, &str)> = vec![
        (
            response("200 OK", "content-type: text/html; charset=utf-8\r\n", html),
            RunReason::BodyUnreadable,
            Some(200),
            "received text/html, 37 bytes",
        ),
        (
            response("200 OK", "content-type: application/xml\r\n", b"<rows/>"),
            RunReason::BodyUnreadable,
            Some(200),
            "received application/xml",
        ),
        (response("200 OK", "", html), RunReason::BodyUnreadable, Some(200), "without a content type"),
        (cut_off, RunReason::BodyUnreadable, Some(200), "cut off or invalid"),
        (
            response("200 OK", "content-type: application/json; charset=utf-16\r\n", &utf16),
            RunReason::BodyUnreadable,
            Some(200),
            "application/json in utf-16",
        ),
        (response("200 OK", gzip, b"\x1f\x8b\x08"), RunReason::BodyUnreadable, None, "could not be parsed"),
        (b"SSH-2.0-OpenSSH_9.6\r\n".to_vec(), RunReason::BodyUnreadable, None, "could not be parsed"),
        (truncated, RunReason::ProviderUnreachable, None, "connection closed before the response was complete"),
        (huge, RunReason::AnswerTooLarge, None, "larger than"),
        (
            response("302 Found", moved, b""),
            RunReason::Redirected,
            Some(302),
            "redirects to https://login.shop.example",
        ),
        (
            response("308 Permanent Redirect", "location: /v2\r\n", b""),
            RunReason::Redirected,
            Some(308),
            "another path of the same origin",
        ),
        (
            json("200 OK", r#"{"error": {"code": "X", "message": "0131883461"}}"#),
            RunReason::ErrorInBody,
            Some(200),
            "an error object, with field error",
        ),
        (
            json("200 OK", r#"{"status": "failed", "message": "try later"}"#),
            RunReason::ErrorInBody,
            Some(200),
            "with field status",
        ),
        (
            json("200 OK", r#"{"items": []}"#),
            RunReason::SchemaDrifted,
            Some(200),
            "no list of records at /data, /data/rows",
        ),
        (json("503 Service Unavailable", "{}"), RunReason::ProviderError, Some(503), ""),
        (json("408 Request Timeout", "{}"), RunReason::ProviderError, Some(408), ""),
        (json("400 Bad Request", "{}"), RunReason::RequestRejected, Some(400), ""),
    ];
    for (answer, reason, status, detail) in cases {
        let shown = String::from_utf8_lossy(&answer).into_owned();
        let run = one_run(&plan(&["a"]), move |_| answer.clone()).await;
        assert_eq!((run.result, run.reason), (Some(RunResult::Failed), Some(reason)), "{shown}");
        assert_eq!(run.failure.http_status, status, "{shown}");
        let told = run.failure.detail.clone().unwrap_or_default();
        assert!(told.contains(detail), "{told:?} has no {detail:?}: {shown}");
        assert!(!format!("{:?}", run.failure).contains("0131883461"), "an account number: {told}");
        assert_eq!((run.failure.failing, run.failure.partitions.len()), (1, 1), "{shown}");
    }
}

#[tokio::test]
async fn json_is_read_whatever_its_content_type_says() {
    let rows = br#"{"data": [{"id": "1"}, {"id": "2"}]}"#;
    for headers in ["", "content-type: text/plain\r\n", "content-type: text/html\r\n"] {
        let run = one_run(&plan(&["a"]), move |_| response("200 OK", headers, rows)).await;
        assert_eq!((run.result, run.counts.inserted), (Some(RunResult::Succeeded), 2), "{headers:?}");
    }
}

#[tokio::test]
async fn failing_partitions_are_counted_and_the_first_five_are_named() {
    let shops = ["a", "b", "c", "good", "d", "e", "other", "acc-0131883461"];
    let answer = |path: &str| match path.rsplit('/').next() {
        Some("good" | "other") => json("200 OK", r#"{"data": [{"id": "1"}]}"#),
        Some("b") => json("410 Gone", "{}"),
        _ => json("404 Not Found", "{}"),
    };
    let run = one_run(&plan(&shops), answer).await;
    assert_eq!((run.reason, run.failure.failing), (Some(RunReason::NotFound), 6));
    let named: Vec<_> = run.failure.partitions.iter().map(|one| (&*one.name, &*one.reason)).collect();
    assert_eq!(named, [("a", "NotFound"), ("b", "ItemGone"), ("c", "NotFound"), ("d", "NotFound"), ("e", "NotFound")]);
    assert_eq!(run.counts.inserted, 2, "the others are read");
}

#[tokio::test]
async fn partitions_that_a_common_cause_left_unread_are_failing_too() {
    let answer = |path: &str| match path.rsplit('/').next() {
        Some("one") => json("200 OK", r#"{"data": []}"#),
        _ => json("401 Unauthorized", "{}"),
    };
    let run = one_run(&plan(&["one", "two", "acc-0131883461"]), answer).await;
    assert_eq!((run.reason, run.failure.failing), (Some(RunReason::AuthenticationFailed), 2));
    let named: Vec<_> = run.failure.partitions.iter().map(|one| &*one.name).collect();
    assert_eq!(named, ["two", "acc-****3461"], "a number as long as an account's is masked");
}

#[tokio::test]
async fn an_unknown_currency_says_where_it_was_looked_for() {
    for account in [r#"{"data": {"account": {"name": "Ada"}}}"#, r#"{"data": {"currency": "QQQ"}}"#, "{}"] {
        let dir = tempfile::tempdir().unwrap();
        let bank = Bank::start(move |_| json("200 OK", account)).await;
        let mut draft = profile_draft("mono", format!("{}/v2", bank.url));
        draft.retry.retries = 0;
        let run = env(dir.path()).await.run(&mono_plan(&["acc-1"]), &connect(draft)).await.last.remove(0);
        assert_eq!(run.reason, Some(RunReason::CurrencyUnknown), "{account}");
        let detail = run.failure.detail.unwrap();
        assert!(detail.starts_with("no ISO 4217 currency at /"), "{detail}");
        assert!(detail.ends_with("of the response to transactions.account"), "{detail}");
    }
}

#[tokio::test]
async fn rejected_records_are_told_with_their_number_and_first_field() {
    let record = |id: usize, field: &str| format!(r#"{{"{field}": "r{id}"}}"#);
    let nameless: Vec<_> = (0..20).map(|id| format!(r#"{{"id": {{"of": "{id}"}}}}"#)).collect();
    let good: Vec<_> = (20..25).map(|id| record(id, "id")).collect();
    let body = format!(r#"{{"data": [{}]}}"#, [nameless, good].concat().join(","));
    let run = one_run(&plan(&["a"]), move |_| json("200 OK", &body)).await;
    assert_eq!(run.reason, Some(RunReason::DeadLetterBudgetExceeded));
    assert_eq!(run.failure.detail.as_deref(), Some("20 of 25 records rejected, the first for KeyInvalid at /id"));
}
