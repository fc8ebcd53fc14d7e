//! Responses that are not what the profile describes.

use busbar::domain::run_reason::RunReason;
use busbar::ledger::RunResult;
use busbar::ledger::record::TransactionFilter;
use serde_json::json;

use super::{Provider, text};
use crate::kit::walk_bank::{WalkBank, page};
use axum::Router;
use axum::routing::get;

const ROWS: &str = "record: transaction, records: [/data], key: /id, pagination: {kind: none}, time: {pointer: /on}, money: \
    {amount: /a, repr: decimalString, currency: {kind: const, code: EUR}, sign: {kind: signed}}";

/// How a run over this body ends: result, reason, rows; and its dead letters.
async fn read(
    body: impl Into<Vec<u8>>,
    content_type: &'static str,
) -> ((Option<RunResult>, Option<RunReason>, u64), Vec<String>) {
    let body = body.into();
    let respond = move || {
        let body = body.clone();
        async move { ([("content-type", content_type)], body) }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let app = Router::new().route("/rows", get(respond));
    tokio::spawn(async move { axum::serve(listener, app).await });
    let mut bank = WalkBank::start(ROWS, |_| page(json!({"data": []}))).await;
    let mut draft = crate::kit::connections::draft(base);
    draft.breaker.consecutive_failures = 0;
    bank.connection = crate::kit::connections::connect(draft);
    let run = bank.record().await;
    let all = TransactionFilter::default();
    let rows = bank.sync.ledger.count_transactions(&all).await.unwrap();
    let letters = bank.sync.ledger.newest_dead_letters(&all, 100).await.unwrap();
    let mut letters: Vec<_> = letters.iter().map(|letter| format!("{} {}", letter.reason, letter.path)).collect();
    letters.sort();
    ((run.result, run.reason, rows), letters)
}

fn row(id: &str) -> String {
    format!(r#"{{"id": "{id}", "on": "2026-09-01", "a": "1.00"}}"#)
}

fn failed(reason: RunReason) -> (Option<RunResult>, Option<RunReason>, u64) {
    (Some(RunResult::Failed), Some(reason), 0)
}

fn stored(rows: u64) -> (Option<RunResult>, Option<RunReason>, u64) {
    (Some(RunResult::Succeeded), None, rows)
}

#[tokio::test]
async fn a_quota_message_at_status_200_stores_nothing() {
    for (provider, parameter, body) in [
        ("fmp", "AAPL", r#"{"Error Message": "Limit Reach . Please upgrade your plan"}"#),
        ("fmp", "AAPL", r#"{"Error Message": "Invalid API KEY."}"#),
        ("polygon", "AAPL", r#"{"status": "NOT_AUTHORIZED", "message": "You are not entitled to this data."}"#),
    ] {
        let base = if provider == "fmp" { "/stable" } else { "" };
        let bank = Provider::start((provider, "quotes", base), &[("symbol", parameter)], move |_| text(body)).await;
        let run = bank.any_run().await;
        assert_ne!(run.result, Some(RunResult::Succeeded), "{body}");
        assert!(bank.columns("quotes", &[]).await.is_empty(), "{body}");
    }
}

#[tokio::test]
async fn an_html_page_is_never_an_empty_list() {
    for body in ["<html><body>503 Service Unavailable</body></html>", "<!doctype html>", "upstream connect error"] {
        let (end, letters) = read(body, "text/html").await;
        assert_eq!((end.0, end.2, letters.len()), (Some(RunResult::Failed), 0, 0), "{body}");
    }
}

#[tokio::test]
async fn a_changed_format_is_drift_and_stores_nothing() {
    let three = |record: &str| format!(r#"{{"data": [{record}, {record}, {record}]}}"#);
    for (body, reason) in [
        (three(r#"{"id": "1", "date": "2026-09-01", "a": "1.00"}"#), RunReason::SchemaDrifted),
        (three(r#"{"id": "1", "on": "2026-09-01", "a": {"value": "1.00"}}"#), RunReason::SchemaDrifted),
        (three(r#"{"id": ["1"], "on": "2026-09-01", "a": "1.00"}"#), RunReason::SchemaDrifted),
        (three(r#"[{"id": "1", "on": "2026-09-01", "a": "1.00"}]"#), RunReason::SchemaDrifted),
        (three(r#"{"id": "a\u0000b", "on": "2026-09-01", "a": "1.00"}"#), RunReason::SchemaDrifted),
        (r#"{"data": {"rows": []}}"#.to_owned(), RunReason::SchemaDrifted),
        (r#"{"items": []}"#.to_owned(), RunReason::SchemaDrifted),
    ] {
        let (end, _) = read(body.clone(), "application/json").await;
        assert_eq!(end, failed(reason), "{body}");
    }
    let one = format!(r#"{{"data": [{}, {{"id": "2", "on": "2026-09-01", "a": 1}}]}}"#, row("1"));
    let (end, letters) = read(one, "application/json").await;
    assert_eq!((end, letters), (stored(1), vec!["AmountNotText /a".to_owned()]));
}

#[tokio::test]
async fn what_is_almost_json_is_read_or_refused() {
    let twice = r#"{"data": [{"id": "1", "on": "2026-09-01", "a": "1.00", "a": "2.00", "a": "3.00"}]}"#;
    assert_eq!(read(twice, "application/json").await.0, stored(1));
    let marked = format!("\u{feff}{{\"data\": [{}]}}", row("1"));
    assert_eq!(read(marked, "application/json").await.0, stored(1));
    for body in [
        r#"{"data": [{"id": "1", "on": "2026-09-01", "a": NaN}]}"#.to_owned(),
        format!("{}\n{}\n", row("1"), row("2")),
        format!(r#"{{"data": [{}]"#, row("1")),
        format!(r#"{{"data": [{}]}} {{"data": []}}"#, row("1")),
    ] {
        let (end, _) = read(body.clone(), "application/json").await;
        assert_eq!((end.0, end.2), (Some(RunResult::Failed), 0), "{body}");
    }
}

#[tokio::test]
async fn a_record_that_is_too_large_costs_only_itself() {
    let long = format!(r#"{{"id": "2", "on": "2026-09-01", "a": "1.00", "memo": "{}"}}"#, "x".repeat(1 << 20));
    let many: Vec<_> = (0..70_000).map(|n| format!(r#""f{n}": {n}"#)).collect();
    let wide = format!(r#"{{"id": "3", "on": "2026-09-01", "a": "1.00", {}}}"#, many.join(","));
    for large in [long, wide] {
        let (end, letters) = read(format!(r#"{{"data": [{}, {large}]}}"#, row("1")), "application/json").await;
        assert_eq!((end, letters), (stored(1), vec!["RecordTooLarge ".to_owned()]));
    }
    let deep = format!(r#"{{"data": [{}, {}1{}]}}"#, row("1"), "[".repeat(500), "]".repeat(500));
    assert_eq!(read(deep, "application/json").await.0.2, 0, "the body is no JSON that is read");
}
