//! A kept-alive connection that ends before the answer: its request is sent again where that is safe, in the same try.

use std::time::Duration;

use busbar::domain::breaker::CallClass;
use busbar::domain::health::Health;
use busbar::provider::call::{CallError, ConnectError, Request};
use busbar::provider::connection::Connection;
use busbar::settings::Auth;
use futures::future::join_all;
use http::Method;

use super::kept_alive_server::{Ending, KeptAliveServer, resends};
use super::scripted_server::{ScriptedServer, ok_response};
use crate::kit::connections::{apply, draft, get, probe, registry, token_client};
use crate::kit::time::ManualTime;

const RESET: CallError = CallError::Connect(ConnectError::Reset);

/// The ends after which it is unknown whether the request was processed.
const UNKNOWN: [Ending; 5] = [
    Ending::CloseAfterRequest,
    Ending::ResetAfterRequest,
    Ending::CloseAtFirstByte,
    Ending::GoAway(3),
    Ending::CloseHttp2,
];
/// The ends that say that it was not.
const UNPROCESSED: [Ending; 2] = [Ending::GoAway(1), Ending::RefusedStream];

async fn post(connection: &Connection, class: CallClass) -> Result<u16, CallError> {
    let request = Request { class, method: Method::POST, ..Request::get("pay", "/payments") };
    connection.call(request).await.map(|response| response.status.as_u16())
}

#[tokio::test]
async fn a_probe_is_sent_again_after_the_end_of_a_reused_connection() {
    for ending in UNKNOWN.into_iter().chain(UNPROCESSED) {
        let server = KeptAliveServer::start(ending).await;
        let (connection, resends) = server.connect(|draft| draft.breaker.consecutive_failures = 1);
        for nth in 0..2 {
            assert_eq!(probe(&connection).await, Ok(200), "{ending:?}, probe {nth}");
        }
        assert_eq!((resends(), server.connections(), server.requests()), (1, 2, 3), "{ending:?}");
        assert_eq!(connection.snapshot().health, Health::Healthy, "{ending:?}");
    }
}

#[tokio::test]
async fn a_read_is_one_try_although_it_is_sent_twice() {
    for ending in UNKNOWN.into_iter().chain(UNPROCESSED) {
        let server = KeptAliveServer::start(ending).await;
        let (connection, resends) = server.connect(|draft| draft.retry.retries = 3);
        assert_eq!(get(&connection, "/accounts").await, Ok(200), "{ending:?}");
        let second = connection.call(Request::get("test", "/accounts")).await.unwrap();
        assert_eq!((second.meta.tries, resends()), (1, 1), "{ending:?}");
    }
}

#[tokio::test]
async fn a_payment_that_may_have_been_processed_is_never_sent_again() {
    for ending in UNKNOWN {
        for class in [CallClass::Write, CallClass::Money] {
            let server = KeptAliveServer::start(ending).await;
            let (connection, resends) = server.connect(|_| {});
            assert_eq!(get(&connection, "/accounts").await, Ok(200), "{ending:?}");
            assert_eq!(post(&connection, class).await, Err(RESET), "{ending:?} {class:?}");
            assert_eq!((resends(), server.requests()), (0, 2), "{ending:?} {class:?}");
        }
    }
}

#[tokio::test]
async fn a_payment_that_was_not_processed_is_sent_again() {
    for ending in UNPROCESSED {
        for class in [CallClass::Write, CallClass::Money] {
            let server = KeptAliveServer::start(ending).await;
            let (connection, resends) = server.connect(|_| {});
            assert_eq!(get(&connection, "/accounts").await, Ok(200), "{ending:?}");
            assert_eq!(post(&connection, class).await, Ok(200), "{ending:?} {class:?}");
            assert_eq!((resends(), server.requests()), (1, 3), "{ending:?} {class:?}");
        }
    }
}

#[tokio::test]
async fn a_token_request_is_sent_again_after_the_end_of_a_reused_connection() {
    let time = ManualTime::start();
    let token = r#"{"access_token":"canary","expires_in":60}"#;
    for ending in [Ending::CloseAfterRequest, Ending::ResetAfterRequest, Ending::CloseAtFirstByte] {
        let login = KeptAliveServer::answering(ending, token).await;
        let bank = ScriptedServer::start(vec![ok_response()]).await;
        let mut draft = draft(bank.url.clone());
        draft.auth = Auth::ClientCredentials(token_client(format!("{}/token", login.url)));
        let (registry, metrics) = registry();
        let connection = apply(&registry, draft);
        assert_eq!(get(&connection, "/accounts").await, Ok(200), "{ending:?}");
        time.advance(Duration::from_secs(61)).await;
        assert_eq!(get(&connection, "/accounts").await, Ok(200), "{ending:?}");
        assert_eq!((resends(&metrics), login.requests()), (1, 3), "{ending:?}");
    }
}

#[tokio::test]
async fn a_fresh_connection_without_an_answer_is_the_banks_failure() {
    let server = KeptAliveServer::start(Ending::CloseForGood).await;
    let (connection, resends) = server.connect(|_| {});
    assert_eq!(probe(&connection).await, Ok(200));
    // Sent again on a fresh connection, which ends too; then on fresh ones only.
    assert_eq!(probe(&connection).await, Err(RESET));
    assert_eq!((resends(), server.requests()), (1, 3));
    assert_eq!(probe(&connection).await, Err(RESET));
    assert_eq!((resends(), server.requests()), (1, 4));
}

#[tokio::test]
async fn a_stream_reset_by_the_server_is_the_banks_failure() {
    let server = KeptAliveServer::start(Ending::ResetStream).await;
    let (connection, resends) = server.connect(|_| {});
    assert_eq!(probe(&connection).await, Ok(200));
    assert!(probe(&connection).await.is_err());
    assert_eq!(resends(), 0, "the connection has not ended");
}

#[tokio::test]
async fn the_second_request_does_not_use_another_idle_connection() {
    let server = KeptAliveServer::start(Ending::CloseAfterRequest).await;
    let (connection, resends) = server.connect(|_| {});
    let ends = join_all((0..4).map(|_| get(&connection, "/accounts"))).await;
    assert!(ends.iter().all(|end| *end == Ok(200)), "{ends:?}");
    let idle = server.connections();
    // All of them end at their next request.
    for _ in 0..idle {
        assert_eq!(get(&connection, "/accounts").await, Ok(200));
    }
    assert!(resends() > 0, "at least the first one was reused");
}
