//! Connections that are reset or talk garbage, by mountebank: what a double of ours does on a socket, our own client
//! might know how to bear.

use busbar::domain::breaker::{BreakerState, CallClass};
use busbar::provider::call::{CallError, ConnectError, Request, Response};
use serde_json::{Value, json};

use super::{circuit, draft, live};
use crate::support::Peer;

const RESET: &str = "CONNECTION_RESET_BY_PEER";
const GARBAGE: &str = "RANDOM_DATA_THEN_CLOSE";

fn fault(kind: &str) -> Value {
    json!({"fault": kind})
}

fn good() -> Value {
    json!({"is": {"statusCode": 200, "headers": {"content-type": "application/json"}, "body": {"ok": true}}})
}

/// A server that answers so, one response after the other, then from the beginning.
async fn server(peer: &Peer, responses: Vec<Value>) -> String {
    peer.imposter(json!({"protocol": "http", "stubs": [{"responses": responses}]})).await
}

/// What is no HTTP is a failed call, whichever of the two the client noticed first.
fn is_garbage(end: &Result<Response, CallError>) -> bool {
    matches!(end, Err(CallError::Malformed | CallError::Connect(ConnectError::Reset)))
}

/// How many requests have arrived at it.
async fn arrived(peer: &Peer, server: &str) -> u64 {
    let (_, port) = server.rsplit_once(':').unwrap();
    peer.get(&format!("/imposters/{port}")).await["numberOfRequests"].as_u64().unwrap()
}

#[tokio::test]
async fn a_read_that_is_reset_is_tried_again_and_what_is_reset_for_good_is_said_so() {
    let peer = Peer::mountebank().await;
    let passing = server(&peer, vec![fault(RESET), fault(RESET), good()]).await;
    let bank = live(draft("generic", passing.clone(), &[], &[]));
    let answer = bank.call(Request::get("test", "/x")).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.meta.tries), (200, 3));
    assert_eq!(arrived(&peer, &passing).await, 3, "{}", peer.log());
    assert_eq!(circuit(&bank), BreakerState::Closed, "one good call, not two failed tries");

    let lasting = server(&peer, vec![fault(RESET)]).await;
    let bank = live(draft("generic", lasting.clone(), &[], &[]));
    let end = bank.call(Request::get("test", "/x")).await;
    assert!(matches!(end, Err(CallError::Connect(ConnectError::Reset))), "{end:?}");
    assert_eq!(arrived(&peer, &lasting).await, 4, "{}", peer.log());
}

#[tokio::test]
async fn money_that_is_reset_is_never_sent_twice() {
    let peer = Peer::mountebank().await;
    for kind in [RESET, GARBAGE] {
        let server = server(&peer, vec![fault(kind)]).await;
        let bank = live(draft("generic", server.clone(), &[], &[]));
        let end = bank.call(Request { class: CallClass::Money, ..Request::get("pay", "/x") }).await;
        assert!(end.is_err(), "{kind}: {end:?}");
        assert_eq!(arrived(&peer, &server).await, 1, "{kind}: {}", peer.log());
    }
}

#[tokio::test]
async fn garbage_is_a_failure_of_the_provider_and_a_good_answer_after_it_counts() {
    let peer = Peer::mountebank().await;
    let passing = server(&peer, vec![fault(GARBAGE), good()]).await;
    let bank = live(draft("generic", passing, &[], &[]));
    let answer = bank.call(Request::get("test", "/x")).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.meta.tries), (200, 2), "{}", peer.log());

    let lasting = server(&peer, vec![fault(GARBAGE)]).await;
    let bank = live(draft("generic", lasting, &[], &[]));
    let end = bank.call(Request::get("test", "/x")).await;
    assert!(is_garbage(&end), "{end:?}");
}

#[tokio::test]
async fn a_server_that_speaks_another_protocol_is_garbage_too() {
    let peer = Peer::mountebank().await;
    let greeting = json!({"is": {"data": "220 mail.example ESMTP ready\r\n"}});
    let server = peer.imposter(json!({"protocol": "tcp", "mode": "text", "stubs": [{"responses": [greeting]}]})).await;
    let bank = live(draft("generic", server, &[], &[]));
    let end = bank.call(Request::get("test", "/x")).await;
    assert!(is_garbage(&end), "{end:?}");
}
