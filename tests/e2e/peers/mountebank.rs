//! Connections that are reset or answered with garbage, by mountebank: our own client might know how to bear what a server
//! of ours does on a socket.

use busbar::domain::breaker::{BreakerState, CallClass};
use busbar::provider::call::{CallError, ConnectError, Request, Response};
use serde_json::{Value, json};

use super::{circuit, peer_draft};
use crate::cluster::peer_server::PeerServer;
use crate::kit::connections::connect;

const RESET: &str = "CONNECTION_RESET_BY_PEER";

const GARBAGE: &str = "RANDOM_DATA_THEN_CLOSE";

fn fault(kind: &str) -> Value {
    json!({"fault": kind})
}

fn good() -> Value {
    json!({"is": {"statusCode": 200, "headers": {"content-type": "application/json"}, "body": {"ok": true}}})
}

/// A server with these responses, one after the other, then from the beginning.
async fn server(peer: &PeerServer, responses: Vec<Value>) -> String {
    peer.imposter(json!({"protocol": "http", "stubs": [{"responses": responses}]})).await
}

/// What is not HTTP is a failed call, whichever of the two the client noticed first.
fn is_malformed(end: &Result<Response, CallError>) -> bool {
    matches!(end, Err(CallError::Malformed | CallError::Connect(ConnectError::Reset)))
}

/// How many requests it has had.
async fn requests(peer: &PeerServer, server: &str) -> u64 {
    let (_, port) = server.rsplit_once(':').unwrap();
    peer.get(&format!("/imposters/{port}")).await["numberOfRequests"].as_u64().unwrap()
}

#[tokio::test]
async fn a_read_that_is_reset_is_retried() {
    let peer = PeerServer::mountebank().await;
    let passing = server(&peer, vec![fault(RESET), fault(RESET), good()]).await;
    let bank = connect(peer_draft("generic", passing.clone(), &[], &[]));
    let answer = bank.call(Request::get("test", "/x")).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.meta.tries), (200, 3));
    assert_eq!(requests(&peer, &passing).await, 3, "{}", peer.log());
    assert_eq!(circuit(&bank), BreakerState::Closed, "one successful call, not two failed tries");

    let lasting = server(&peer, vec![fault(RESET)]).await;
    let bank = connect(peer_draft("generic", lasting.clone(), &[], &[]));
    let end = bank.call(Request::get("test", "/x")).await;
    assert!(matches!(end, Err(CallError::Connect(ConnectError::Reset))), "{end:?}");
    assert_eq!(requests(&peer, &lasting).await, 4, "{}", peer.log());
}

#[tokio::test]
async fn a_payment_that_is_reset_is_never_sent_twice() {
    let peer = PeerServer::mountebank().await;
    for kind in [RESET, GARBAGE] {
        let server = server(&peer, vec![fault(kind)]).await;
        let bank = connect(peer_draft("generic", server.clone(), &[], &[]));
        let end = bank.call(Request { class: CallClass::Money, ..Request::get("pay", "/x") }).await;
        assert!(end.is_err(), "{kind}: {end:?}");
        assert_eq!(requests(&peer, &server).await, 1, "{kind}: {}", peer.log());
    }
}

#[tokio::test]
async fn a_garbage_response_is_retried() {
    let peer = PeerServer::mountebank().await;
    let passing = server(&peer, vec![fault(GARBAGE), good()]).await;
    let bank = connect(peer_draft("generic", passing, &[], &[]));
    let answer = bank.call(Request::get("test", "/x")).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.meta.tries), (200, 2), "{}", peer.log());

    let lasting = server(&peer, vec![fault(GARBAGE)]).await;
    let bank = connect(peer_draft("generic", lasting, &[], &[]));
    let end = bank.call(Request::get("test", "/x")).await;
    assert!(is_malformed(&end), "{end:?}");
}

#[tokio::test]
async fn a_response_of_another_protocol_is_malformed() {
    let peer = PeerServer::mountebank().await;
    let greeting = json!({"is": {"data": "220 mail.example ESMTP ready\r\n"}});
    let server = peer.imposter(json!({"protocol": "tcp", "mode": "text", "stubs": [{"responses": [greeting]}]})).await;
    let bank = connect(peer_draft("generic", server, &[], &[]));
    let end = bank.call(Request::get("test", "/x")).await;
    assert!(is_malformed(&end), "{end:?}");
}
