//! What a hostile provider can cost: bytes, values, levels, headers, memory that others need.

use std::sync::Arc;
use std::time::Duration;

use busbar::domain::breaker::EffectiveState;
use busbar::metrics::Metrics;
use busbar::profile::{Profile, ResponseClass};
use busbar::provider::call::{CallError, MAX_BODY, Request};
use busbar::provider::memory::{FREE_BYTES, MemoryLimits};
use busbar::provider::registry::{Registry, RegistryOptions};
use busbar::settings::Draft;
use futures::future::join_all;

use super::get_json;
use super::scripted_server::{Action, ScriptedServer, response, send};
use crate::kit::connections::{apply_as, connect, draft, registry_with};
use crate::kit::metrics::value;
use crate::kit::wait::eventually;

const JSON: &str = "content-type: application/json\r\n";

/// A response with this body.
fn ok(body: &str) -> Vec<Action> {
    response("200 OK", JSON, body)
}

/// A list of `count` such items.
fn list(item: &str, count: usize) -> String {
    format!("[{}]", vec![item; count].join(","))
}

/// The same in chunks, without a length; the last of them never ends.
fn chunked(body: &str) -> Vec<Action> {
    let chunk = format!("{:x}\r\n{body}\r\n", body.len());
    let head = send(format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n{JSON}\r\n"));
    std::iter::once(head).chain(std::iter::repeat_n(send(chunk), 64)).collect()
}

#[tokio::test]
async fn a_body_too_expensive_to_parse_is_refused_once_and_never_parsed() {
    let small_objects = format!("[{}", r#"{"a":0},"#.repeat(MAX_BODY / 8 - 1));
    let wide = format!("{{{}}}", vec![r#""":0"#; MAX_BODY / 8 + 1].join(","));
    let too_large = CallError::TooLarge { limit: MAX_BODY };
    for (what, script, error) in [
        ("many small objects", ok(&small_objects), CallError::TooComplex),
        ("the same without an end", chunked(&small_objects[..1024 * 1024]), CallError::TooComplex),
        ("a wide object", ok(&wide), CallError::TooComplex),
        ("one huge text", ok(&format!("[\"{}\"]", "x".repeat(MAX_BODY))), too_large.clone()),
        ("a huge number", ok(&"9".repeat(MAX_BODY + 1)), too_large.clone()),
        ("a text without an end", chunked(&"x".repeat(1024 * 1024)), too_large),
    ] {
        let server = ScriptedServer::start(vec![script]).await;
        let connection = server.connect(|draft| draft.timeouts.read = None);
        assert_eq!(get_json(&connection).await.unwrap_err(), error, "{what}");
        assert_eq!(server.requests(), 1, "{what}: a retry would cost the same again");
        assert_eq!(connection.snapshot().effective, EffectiveState::Closed, "{what}");
    }
}

#[tokio::test]
async fn a_body_nested_too_deeply_is_not_read_on_and_is_no_json() {
    let server = ScriptedServer::start(vec![chunked(&"[".repeat(1024 * 1024))]).await;
    let connection = server.connect(|draft| draft.retry.retries = 0);
    let answer = get_json(&connection).await.unwrap();
    assert_eq!(answer.classification.class, ResponseClass::Retry);
    assert!(answer.body.len() < 1024 * 1024, "{}", answer.body.len());
}

#[tokio::test]
async fn a_long_list_within_the_limits_is_read() {
    let body = list(r#"{"id": "0123456789", "amount": 12.50, "text": "a plain transaction"}"#, 40_000);
    let server = ScriptedServer::start(vec![ok(&body)]).await;
    let connection = server.connect(|draft| draft.timeouts.read = None);
    let answer = get_json(&connection).await.unwrap();
    assert_eq!((answer.body.len(), answer.memory.bytes()), (body.len(), body.len()));
}

#[tokio::test]
async fn an_error_is_read_to_64_kib_and_keeps_its_status() {
    let flood = vec![send("HTTP/1.1 503 Unavailable\r\nconnection: close\r\n\r\n"), Action::Flood];
    let server = ScriptedServer::start(vec![flood]).await;
    let connection = server.connect(|draft| (draft.timeouts.read, draft.retry.retries) = (None, 0));
    let answer = get_json(&connection).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.body.len(), answer.memory.bytes()), (503, 64 * 1024, 0));
}

#[tokio::test]
async fn headers_are_limited_and_hold_no_buffer_of_the_connection() {
    let headers = |count: usize, length: usize| {
        let all: Vec<String> = (0..count).map(|n| format!("x-{n}: {}\r\n", "h".repeat(length))).collect();
        response("200 OK", &all.concat(), "{}")
    };
    let server = ScriptedServer::start(vec![headers(80, 1024), headers(50, 1024), headers(200, 10)]).await;
    let connection = server.connect(|draft| draft.retry.retries = 0);
    assert_eq!(get_json(&connection).await.unwrap_err(), CallError::TooLarge { limit: 64 * 1024 });
    assert!(get_json(&connection).await.unwrap().headers.len() >= 50);
    assert_eq!(get_json(&connection).await.unwrap_err(), CallError::Malformed, "more headers than HTTP clients take");
}

/// A registry with so much memory for responses.
fn small_registry(responses: usize) -> (Registry, Metrics) {
    let memory = MemoryLimits { responses, ..MemoryLimits::default() };
    registry_with(RegistryOptions { memory, ..RegistryOptions::allowing_loopback() })
}

/// Whether so many bytes are reserved.
fn is_reserved(metrics: &Metrics, bytes: usize) -> bool {
    let used = value(&metrics.render().unwrap(), "busbar_response_memory_bytes", &[("pool", "responses")]);
    used == Some(f64::from(u32::try_from(bytes).unwrap()))
}

/// A connection whose circuit one failure opens, and which waits for a body for longer than for memory.
fn patient(url: &str) -> Draft {
    let mut draft = draft(url);
    (draft.timeouts.read, draft.breaker.consecutive_failures) = (Some(Duration::from_secs(20)), 1);
    draft
}

/// A response that announces `length` bytes, sends half of them and stops.
fn stalled(length: usize) -> Vec<Action> {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n{JSON}\r\n");
    vec![send(head), send("x".repeat(length / 2)), Action::Hang]
}

#[tokio::test]
async fn without_memory_a_large_call_is_overloaded_and_a_small_one_does_not_wait() {
    let (registry, metrics) = small_registry(2 * MAX_BODY);
    let hostile = ScriptedServer::start(vec![stalled(MAX_BODY)]).await;
    for name in ["hostile-a", "hostile-b"] {
        let connection = apply_as(&registry, name, patient(&hostile.url));
        tokio::spawn(async move { get_json(&connection).await });
    }
    eventually("both hold what they announced", async || is_reserved(&metrics, 2 * MAX_BODY)).await;
    let good = ScriptedServer::start(vec![ok(&list("\"0123456789\"", 20_000)), ok("{\"ok\":true}")]).await;
    let good = apply_as(&registry, "good", patient(&good.url));
    assert_eq!(get_json(&good).await.unwrap_err(), CallError::Overloaded);
    assert_eq!(good.snapshot().effective, EffectiveState::Closed, "one failure would have opened the circuit");
    assert_eq!(get_json(&good).await.unwrap().body.as_ref(), b"{\"ok\":true}", "it needs no reservation");
    eventually("what stalls is given up, and its memory released", async || is_reserved(&metrics, 0)).await;
}

#[tokio::test]
async fn a_wait_for_memory_ends_when_others_have_been_read() {
    let body = list(r#"{"id": "0123456789", "text": "a plain transaction"}"#, 3_000);
    let (registry, metrics) = small_registry(2 * body.len());
    let server = ScriptedServer::start(vec![ok(&body)]).await;
    let connections: Vec<_> = (0..6).map(|n| apply_as(&registry, &format!("bank-{n}"), patient(&server.url))).collect();
    // Each response is dropped at once, and with it its reservation.
    let lengths = connections.iter().map(async |connection| get_json(connection).await.map(|answer| answer.body.len()));
    assert!(join_all(lengths).await.into_iter().all(|length| length == Ok(body.len())));
    assert!(is_reserved(&metrics, 0));
}

#[tokio::test]
async fn a_health_check_needs_no_memory_of_the_budget() {
    let memory = MemoryLimits { responses: 1, pages: 1 };
    let (registry, _) = registry_with(RegistryOptions { memory, ..RegistryOptions::allowing_loopback() });
    let server = ScriptedServer::start(vec![ok(&"x".repeat(FREE_BYTES))]).await;
    let connection = apply_as(&registry, "bank", draft(server.url.clone()));
    assert_eq!(connection.probe().await.unwrap().result.unwrap().status, 200);
}

#[tokio::test]
async fn a_profile_may_lower_the_size_of_responses() {
    let server = ScriptedServer::start(vec![ok(&format!("\"{}\"", "x".repeat(100_000)))]).await;
    let mut draft = draft(server.url.clone());
    let mut profile = Profile::clone(&draft.profile);
    profile.max_response_bytes = 65_536;
    draft.profile = Arc::new(profile);
    let connection = connect(draft);
    assert_eq!(get_json(&connection).await.unwrap_err(), CallError::TooLarge { limit: 65_536 });
    let own = Request { max_body: 1000, ..Request::get("test", "/accounts") };
    assert_eq!(connection.call(own).await.unwrap_err(), CallError::TooLarge { limit: 1000 });
}
