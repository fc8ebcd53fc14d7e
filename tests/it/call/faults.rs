//! Faulty responses: bodies that are truncated, stall or never end (sync.md §17, 14 to 16), and what the call path makes
//! of each: a retry, or an error in our own words.

use std::time::Duration;

use busbar::clock::Clock;
use busbar::domain::breaker::{CallClass, EffectiveState};
use busbar::profile::ResponseClass;
use busbar::provider::call::{CallError, ConnectError, MAX_BODY, Request};
use busbar::settings::Draft;
use busbar::testbed::sim::{Behaviour, FailurePoint, Garbage, Script, ScriptStep};

use super::get_json;
use super::scripted_server::{Action, ScriptedServer, ok_response, response, send};
use crate::kit::banks::plain_bank;
use crate::kit::connections::{connect, draft, with_quick_retries};
use crate::kit::time::ManualTime;

const RESET: CallError = CallError::Connect(ConnectError::Reset);

/// By how much the clock is advanced while a call waits: less than any timeout of these tests.
const STEP: Duration = Duration::from_millis(50);

// 14: 503 with an HTML page.

#[tokio::test]
async fn a_503_with_an_html_page_is_retried_and_its_text_reaches_only_the_caller() {
    let page = "<html><body>canary: we are down for maintenance</body></html>";
    let down = || response("503 Service Unavailable", "content-type: text/html\r\n", page);
    let server = ScriptedServer::start(vec![down(), down(), ok_response()]).await;
    let answer = get_json(&server.connect(|_| {})).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.meta.tries), (200, 3));
    let server = ScriptedServer::start(vec![down()]).await;
    let connection = server.connect(|draft| draft.breaker.consecutive_failures = 1);
    let answer = get_json(&connection).await.unwrap();
    assert_eq!(
        (answer.status.as_u16(), answer.classification.class, answer.meta.tries),
        (503, ResponseClass::Retry, 4)
    );
    assert_eq!(answer.body, page);
    let printed = format!("{answer:?} {:?}", connection.snapshot());
    assert!(!printed.contains("canary"), "{printed}");
    assert_eq!(connection.snapshot().effective, EffectiveState::Open, "one outcome, after four tries");
}

#[tokio::test]
async fn an_html_page_with_status_200_is_retried_where_json_is_expected() {
    let page = || response("200 OK", "content-type: text/html\r\n", "<html>log in</html>");
    let server = ScriptedServer::start(vec![page(), ok_response()]).await;
    let connection = server.connect(|_| {});
    let plain = connection.call(Request::get("test", "/")).await.unwrap();
    assert_eq!((plain.classification.class, plain.meta.tries), (ResponseClass::Ok, 1), "any body is an answer");
    let server = ScriptedServer::start(vec![page(), ok_response()]).await;
    let answer = get_json(&server.connect(|_| {})).await.unwrap();
    assert_eq!((&*answer.body, answer.meta.tries), (&b"{\"ok\":true}"[..], 2));
    let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
    let server = ScriptedServer::start(vec![response("200 OK", "", &deep)]).await;
    let answer = get_json(&server.connect(|_| {})).await.unwrap();
    assert_eq!((answer.classification.class, answer.meta.tries), (ResponseClass::Retry, 4), "nested too deeply");
}

// 15: a reset in the body, a body shorter or longer than announced, chunks that end or stall, a slow drip, truncated gzip.

/// A faulty response, and the error of a call with one try.
struct FaultyResponse {
    name: &'static str,
    script: Vec<Action>,
    error: CallError,
}

fn faulty_responses() -> Vec<FaultyResponse> {
    let head = |headers: &str| send(format!("HTTP/1.1 200 OK\r\n{headers}connection: close\r\n\r\n"));
    let chunked = || head("transfer-encoding: chunked\r\n");
    let drip = std::iter::repeat_n([send("x"), Action::Pause(Duration::from_millis(50))], 40).flatten();
    // `{"ok":true}`, and its first bytes as if they were all. No encoding is asked for, and none is decoded: a small body
    // could become an endless one.
    let gzip = GZIP.to_vec();
    let truncated = gzip[..12].to_vec();
    let encoded = |bytes: Vec<u8>| {
        let length = bytes.len();
        vec![head(&format!("content-encoding: gzip\r\ncontent-length: {length}\r\n")), Action::Send(bytes)]
    };
    let eleven = || head("content-length: 11\r\n");
    let start = || send("{\"ok");
    let of = |name, script, error| FaultyResponse { name, script, error };
    vec![
        of("reset before the head", vec![Action::Reset], RESET),
        of("closed before the head", vec![], RESET),
        of(
            "reset in the body",
            vec![eleven(), start(), Action::Pause(Duration::from_millis(20)), Action::Reset],
            RESET,
        ),
        of("shorter than announced", vec![eleven(), start()], RESET),
        of("chunks without an end", vec![chunked(), send("4\r\n{\"ok\r\n")], RESET),
        of("a chunk with an invalid size", vec![chunked(), send("zz\r\n{\"ok\r\n")], CallError::Malformed),
        of("a chunk that stalls", vec![chunked(), send("4\r\n{\"ok\r\n"), Action::Hang], CallError::Timeout),
        of("a body that stalls", vec![eleven(), start(), Action::Hang], CallError::Timeout),
        of(NO_HEAD, vec![Action::Hang], CallError::Timeout),
        of(DRIP, std::iter::once(head("content-length: 40\r\n")).chain(drip).collect(), CallError::Timeout),
        of("gzip", encoded(gzip), CallError::Malformed),
        of("truncated gzip", encoded(truncated), CallError::Malformed),
        of("not HTTP", vec![send("SSH-2.0-OpenSSH_9.9\r\n\r\n")], CallError::Malformed),
    ]
}

/// Only the time of the whole try ends these two.
const NO_HEAD: &str = "no head";
const DRIP: &str = "a slow drip";

/// `{"ok":true}`, compressed.
const GZIP: [u8; 31] = [
    0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 3, 0xab, 0x56, 0xca, 0xcf, 0x56, 0xb2, 0x2a, 0x29, 0x2a, 0x4d, 0xad, 5, 0, 0x90,
    0x5f, 0xd4, 0xa7, 0x0b, 0, 0, 0,
];

/// All others end long before the time of the whole try: what stalls in its body by the time between two pieces.
const SOON: Duration = Duration::from_secs(1);

fn request_timeout(name: &str) -> Duration {
    if [NO_HEAD, DRIP].contains(&name) { Duration::from_millis(800) } else { 20 * SOON }
}

#[tokio::test]
async fn a_faulty_response_is_an_error_of_its_kind_within_its_own_timeout() {
    let time = ManualTime::start();
    let clock = Clock::system();
    for FaultyResponse { name, script, error } in faulty_responses() {
        let server = ScriptedServer::start(vec![script]).await;
        let connection = server.connect(|draft| {
            draft.retry.retries = 0;
            draft.timeouts.request = request_timeout(name);
        });
        let began = clock.mono();
        assert_eq!(time.run(STEP, get_json(&connection)).await.unwrap_err(), error, "{name}");
        assert!(clock.mono().since(began) <= SOON, "{name}: only the timeout of the whole try ended it");
    }
}

#[tokio::test]
async fn a_read_with_a_faulty_response_is_retried() {
    let time = ManualTime::start();
    for FaultyResponse { name, script, .. } in faulty_responses() {
        let server = ScriptedServer::start(vec![script, ok_response()]).await;
        let connection = server.connect(|draft| draft.timeouts.request = request_timeout(name));
        let answer = time.run(STEP, get_json(&connection)).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((answer.status.as_u16(), answer.meta.tries), (200, 2), "{name}");
    }
}

#[tokio::test]
async fn a_payment_with_a_faulty_response_is_not_retried() {
    let time = ManualTime::start();
    for FaultyResponse { name, script, .. } in faulty_responses() {
        let server = ScriptedServer::start(vec![script, ok_response()]).await;
        let connection = server.connect(|draft| draft.timeouts.request = request_timeout(name));
        let payment = connection.call(Request { class: CallClass::Money, ..Request::get("pay", "/") });
        assert!(time.run(STEP, payment).await.is_err(), "{name}");
        assert_eq!(server.requests(), 1, "{name}");
    }
}

#[tokio::test]
async fn a_body_longer_than_announced_is_cut_at_the_announced_length() {
    let script = vec![send("HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\n{\"ok\":true}")];
    let server = ScriptedServer::start(vec![script, ok_response()]).await;
    let answer = get_json(&server.connect(|_| {})).await.unwrap();
    assert_eq!((&*answer.body, answer.meta.tries), (&b"{\"ok\":true}"[..], 2), "what is left is no JSON");
}

#[tokio::test]
async fn the_read_timeout_is_that_of_a_piece_and_not_of_the_body() {
    let time = ManualTime::start();
    let head = send("HTTP/1.1 200 OK\r\ncontent-length: 11\r\nconnection: close\r\n\r\n");
    let pieces =
        ["{", "\"o", "k\"", ":", "tr", "ue", "}"].map(|piece| [Action::Pause(Duration::from_millis(300)), send(piece)]);
    let script = std::iter::once(head).chain(pieces.into_iter().flatten()).collect();
    let server = ScriptedServer::start(vec![script]).await;
    // Two seconds in all.
    let connection = server.connect(|draft| draft.timeouts.read = Some(Duration::from_millis(1_500)));
    let answer = time.run(STEP, get_json(&connection)).await.unwrap();
    assert_eq!((&*answer.body, answer.meta.tries), (&b"{\"ok\":true}"[..], 1));
}

#[tokio::test]
async fn the_head_has_a_timeout_of_its_own() {
    let time = ManualTime::start();
    let slow = |pause| vec![vec![Action::Pause(pause)].into_iter().chain(ok_response()).collect::<Vec<_>>()];
    let change = |draft: &mut Draft| {
        draft.retry.retries = 0;
        draft.timeouts.first_byte = Some(Duration::from_millis(200));
    };
    let server = ScriptedServer::start(slow(Duration::from_secs(20))).await;
    assert_eq!(time.run(STEP, get_json(&server.connect(change))).await.unwrap_err(), CallError::Timeout);
    let server = ScriptedServer::start(slow(Duration::from_millis(1))).await;
    assert_eq!(time.run(STEP, get_json(&server.connect(change))).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_fault_of_a_simulated_bank_is_retried() {
    let time = ManualTime::start();
    let (_sim, bank) = plain_bank().await;
    let connection = connect(with_quick_retries(draft(bank.base_url())));
    for behaviour in [
        Behaviour::Stall(FailurePoint::AfterHead),
        Behaviour::Reset(FailurePoint::BeforeHead),
        Behaviour::Reset(FailurePoint::AfterHead),
        Behaviour::Truncate { percent: 50 },
        Behaviour::Garbage(Garbage::Html),
        Behaviour::Garbage(Garbage::InvalidJson),
        Behaviour::status(502),
    ] {
        let label = behaviour.label();
        let steps = [ScriptStep::from(behaviour.clone()).times(1), ScriptStep::from(Behaviour::Healthy)];
        bank.set_script(Script::sequence(steps)).await.unwrap();
        let call = connection.call(Request { expect_json: true, ..Request::get("test", "/health") });
        let answer = time.run(STEP, call).await.unwrap();
        // The end of a reused connection before the response costs no try.
        let tries = if behaviour == Behaviour::Reset(FailurePoint::BeforeHead) { 1 } else { 2 };
        assert_eq!((answer.status.as_u16(), answer.meta.tries), (200, tries), "{label}");
    }
}

// 16: a page of 100 MB.

#[tokio::test]
async fn a_body_of_100_mb_is_neither_read_whole_nor_asked_for_again() {
    let announced = "HTTP/1.1 200 OK\r\ncontent-length: 104857600\r\n\r\n";
    let endless = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
    // The second is read up to the limit of 4 MiB; what the sockets and their buffers hold comes on top.
    for (head, most) in [(announced, 24), (endless, 48)] {
        let server = ScriptedServer::start(vec![vec![send(head), Action::Flood]]).await;
        let connection = server.connect(|draft| draft.timeouts.read = None);
        assert_eq!(get_json(&connection).await.unwrap_err(), CallError::TooLarge { limit: MAX_BODY });
        assert_eq!(server.requests(), 1, "it would be as large again");
        assert!(server.flooded_bytes() <= most * 1024 * 1024, "{}", server.flooded_bytes());
    }
}
