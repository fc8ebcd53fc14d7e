//! Health checks that do not end in the expected response, over real sockets: each is a failure, for health and for routes.

use std::sync::Arc;
use std::time::Duration;

use busbar::domain::breaker::{EffectiveState, OnUnhealthy};
use busbar::domain::check_failure::CheckFailure;
use busbar::domain::health::Health;
use busbar::domain::route::CandidateHealth;
use busbar::profile::CheckMode;
use busbar::provider::connection::Connection;
use busbar::provider::monitor::Verification;
use busbar::settings::{Auth, Draft};
use busbar::testbed::sim::{Behaviour, Rule, Script, ScriptStep};

use super::get_json;
use super::scripted_server::{Action, ScriptedServer, ok_response, response, send};
use crate::kit::connections::{apply, connect, draft, probe, profile_draft, registry, secret, token_bank};
use crate::kit::time::ManualTime;
use crate::kit::wait::eventually;

/// What a route makes of an actively checked connection.
fn candidate(connection: &Connection) -> CandidateHealth {
    let seen = connection.snapshot();
    CandidateHealth::of(seen.unhealthy, seen.ever_healthy, false)
}

/// Answers that are not the expected one; none of them throttles.
fn unexpected() -> Vec<(&'static str, Vec<Action>)> {
    let head = |rest: &str| vec![send(format!("HTTP/1.1 200 OK\r\n{rest}"))];
    let headers: String = (0..120).map(|n| format!("x-{n}: y\r\n")).collect::<Vec<_>>().concat();
    vec![
        ("a banner of SSH", vec![send("SSH-2.0-OpenSSH_9.6\r\n")]),
        ("a banner of SMTP", vec![send("220 mail.example ESMTP ready\r\n")]),
        ("an error of Redis", vec![send("-ERR unknown command\r\n")]),
        ("a TLS alert", vec![Action::Send(vec![21, 3, 1, 0, 2, 2, 40])]),
        ("nothing", vec![]),
        ("a reset", vec![Action::Reset]),
        ("half a head", vec![send("HTTP/1.1 200 OK\r\nconte")]),
        ("garbage after the status line", head("\x00\x01\x02\r\n\r\n")),
        ("an invalid status", vec![send("HTTP/1.1 2000 OK\r\n\r\n")]),
        ("an unasked encoding", response("200 OK", "content-encoding: gzip\r\n", "{}")),
        ("an encoding that does not exist", response("200 OK", "content-encoding: zip\r\n", "{}")),
        ("a second encoding", response("200 OK", "content-encoding: identity\r\ncontent-encoding: gzip\r\n", "{}")),
        ("an unasked transfer coding", head("transfer-encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n")),
        ("more than 64 KiB", response("200 OK", "", &"x".repeat(64 * 1024 + 1))),
        ("more than 100 headers", response("200 OK", &headers, "{}")),
        ("a chunk without a size", head("transfer-encoding: chunked\r\n\r\nzz\r\n")),
        ("a shorter body than announced", head("content-length: 100\r\n\r\nshort")),
        ("text without a head", vec![send("<html>up</html>\r\n")]),
        ("another protocol from here on", vec![send("HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\n\r\n")]),
        ("a hint and no answer", vec![send("HTTP/1.1 103 Early Hints\r\n\r\n")]),
        ("two lengths", head("content-length: 2\r\ncontent-length: 3\r\n\r\n{}")),
        ("a redirect", response("301 Moved Permanently", "location: https://bank.example/login\r\n", "")),
        ("not modified", response("304 Not Modified", "", "")),
        ("a refused credential", response("401 Unauthorized", "", "")),
        ("a block page", response("403 Forbidden", "content-type: text/html\r\n", "<html>")),
        ("a missing page", response("404 Not Found", "", "")),
        ("a proxy that wants a password", response("407 Proxy Authentication Required", "", "")),
        ("another server's name", response("421 Misdirected Request", "", "")),
        ("too early", response("425 Too Early", "", "")),
        ("a status of no class", response("999 Denied", "", "{}")),
        ("an outage", response("503 Unavailable", "", "")),
    ]
}

/// A connection whose circuit no failure opens, as with a lenient policy.
fn lenient(server: &ScriptedServer) -> Arc<Connection> {
    server.connect(|draft| draft.failure_criteria.failure_errors.clear())
}

#[tokio::test]
async fn each_unexpected_answer_makes_a_healthy_bank_unhealthy() {
    for (what, script) in unexpected() {
        let server = ScriptedServer::start(vec![ok_response(), script]).await;
        let connection = lenient(&server);
        assert_eq!(probe(&connection).await, Ok(200), "{what}");
        assert_eq!((candidate(&connection), connection.snapshot().health), (CandidateHealth::Usable, Health::Healthy));
        for _ in 0..3 {
            let record = connection.probe().await.unwrap().record.unwrap();
            assert!(!record.success, "{what}: {record:?}");
        }
        let seen = connection.snapshot();
        assert_eq!(seen.health, Health::Unhealthy, "{what}");
        assert_eq!(seen.effective, EffectiveState::Closed, "{what}: no policy opens it");
        assert_eq!(candidate(&connection), CandidateHealth::Unhealthy, "{what}");
        assert!(seen.check_failure.is_some(), "{what}");
    }
}

#[tokio::test]
async fn a_bank_that_never_answered_well_is_never_healthy() {
    for (what, script) in unexpected() {
        let server = ScriptedServer::start(vec![script]).await;
        let connection = lenient(&server);
        assert_eq!(candidate(&connection), CandidateHealth::NeverHealthy, "{what}: before the first check");
        for _ in 0..5 {
            let _failed = probe(&connection).await;
            assert_eq!(candidate(&connection), CandidateHealth::NeverHealthy, "{what}");
        }
        assert_ne!(connection.snapshot().verification, Verification::Verified, "{what}");
    }
}

#[tokio::test]
async fn rejected_and_limited_checks_fail_without_opening_the_circuit() {
    let time = ManualTime::start();
    for status in ["401 Unauthorized", "403 Forbidden", "429 Slow Down"] {
        let server = ScriptedServer::start(vec![ok_response(), response(status, "", "")]).await;
        let mut draft = draft(server.url.clone());
        (draft.breaker.consecutive_failures, draft.breaker.unhealthy) = (1, OnUnhealthy::Open);
        let connection = connect(draft);
        assert_eq!(probe(&connection).await, Ok(200));
        for _ in 0..4 {
            let _failed = probe(&connection).await;
            // A rate limit without an end is over by then.
            time.advance(Duration::from_mins(2)).await;
        }
        let seen = connection.snapshot();
        assert_eq!((seen.health, seen.effective), (Health::Unhealthy, EffectiveState::Closed), "{status}");
        assert_eq!(candidate(&connection), CandidateHealth::Unhealthy, "{status}");
    }
}

#[tokio::test]
async fn rejected_and_limited_checks_count_when_the_provider_fails_next() {
    let time = ManualTime::start();
    for status in ["401 Unauthorized", "403 Forbidden", "429 Slow Down"] {
        let refused = response(status, "", "");
        let failed = response("503 Service Unavailable", "", "");
        let server = ScriptedServer::start(vec![ok_response(), refused.clone(), refused, failed]).await;
        let mut draft = draft(server.url.clone());
        (draft.breaker.consecutive_failures, draft.breaker.unhealthy) = (3, OnUnhealthy::Ignore);
        let connection = connect(draft);
        let mut states = vec![];
        for _ in 0..4 {
            let _ended = probe(&connection).await;
            states.push(connection.snapshot().effective);
            time.advance(Duration::from_mins(2)).await;
        }
        let closed = EffectiveState::Closed;
        assert_eq!(states, [closed, closed, closed, EffectiveState::Open], "{status}");
    }
}

#[tokio::test]
async fn checks_without_an_access_token_fail_and_leave_the_circuit_closed() {
    for answer in [503, 401, 400] {
        let (_sim, bank, draft) = token_bank(1).await;
        let connection = connect(draft);
        assert_eq!(probe(&connection).await, Ok(200));
        assert_eq!(candidate(&connection), CandidateHealth::Usable);
        let failing = Rule::on("/oauth/token", [ScriptStep::from(Behaviour::status(answer))]);
        bank.set_script(Script { rules: vec![failing] }).await.unwrap();
        // The token is used until it expires.
        eventually("three checks have failed", async || {
            let _failed = probe(&connection).await;
            candidate(&connection) == CandidateHealth::Unhealthy
        })
        .await;
        let seen = connection.snapshot();
        assert_eq!(seen.effective, EffectiveState::Closed, "{answer}: the token endpoint has a circuit of its own");
        assert_ne!(seen.health, Health::Healthy, "{answer}");
    }
}

#[tokio::test]
async fn other_credentials_make_a_trial_of_an_open_circuit_due_at_once() {
    let failed = response("503 Service Unavailable", "", "");
    let server = ScriptedServer::start(vec![ok_response(), failed.clone(), failed, ok_response()]).await;
    let mut old = draft(server.url.clone());
    old.breaker.consecutive_failures = 2;
    old.auth = Auth::Bearer { token: secret("old") };
    old.credential_revision = "secret/1".to_owned();
    let (registry, _) = registry();
    let connection = apply(&registry, old.clone());
    for _ in 0..3 {
        let _ended = probe(&connection).await;
    }
    assert_eq!(connection.snapshot().effective, EffectiveState::Open);
    let mut new = old;
    new.auth = Auth::Bearer { token: secret("new") };
    new.credential_revision = "secret/2".to_owned();
    apply(&registry, new);
    assert_eq!(connection.snapshot().effective, EffectiveState::Open, "the check decides");
    assert_eq!(probe(&connection).await, Ok(200));
    assert_eq!(connection.snapshot().effective, EffectiveState::Closed);
}

#[tokio::test]
async fn a_bank_whose_checks_are_its_calls_is_unhealthy_without_answers() {
    let page = response("200 OK", "content-type: text/html\r\n", "<html>");
    let moved = response("301 Moved Permanently", "location: https://bank.example/\r\n", "");
    for (what, script) in [
        ("a banner of SSH", vec![send("SSH-2.0-OpenSSH_9.6\r\n")]),
        ("an unasked encoding", response("200 OK", "content-encoding: gzip\r\n", "{}")),
        ("a page", page),
        ("a redirect", moved),
        ("a reset", vec![Action::Reset]),
    ] {
        let server = ScriptedServer::start(vec![ok_response(), script]).await;
        let connection = server.connect(|draft| {
            draft.health_check.mode = CheckMode::Passive;
            draft.failure_criteria.failure_errors.clear();
        });
        assert_eq!(get_json(&connection).await.map(|response| response.status.as_u16()), Ok(200), "{what}");
        for _ in 0..3 {
            let _failed = get_json(&connection).await;
        }
        let seen = connection.snapshot();
        assert_eq!((seen.health, seen.effective), (Health::Unhealthy, EffectiveState::Closed), "{what}");
        assert_eq!(CandidateHealth::of(seen.unhealthy, seen.ever_healthy, true), CandidateHealth::Unhealthy, "{what}");
    }
}

#[tokio::test]
async fn encodings_that_are_none_are_read() {
    for headers in
        ["content-encoding: Identity\r\n", "content-encoding:\r\n", "content-encoding: identity, identity\r\n"]
    {
        let server = ScriptedServer::start(vec![response("200 OK", headers, "{}")]).await;
        let record = server.connect(|_| {}).probe().await.unwrap().record.unwrap();
        assert!(record.success, "{headers}");
    }
}

#[tokio::test]
async fn a_page_verifies_nothing_where_the_profile_expects_json() {
    let html = "<!doctype html><title>Sign in</title>";
    for (what, headers, body) in [
        ("a login page", "content-type: text/html\r\n", html),
        ("a page that claims to be JSON", "content-type: application/json\r\n", html),
        ("an empty page", "", ""),
        ("a text", "content-type: text/plain\r\n", "OK"),
    ] {
        let server = ScriptedServer::start(vec![response("200 OK", headers, body)]).await;
        for provider in ["mono", "stripe", "finastra", "open-banking-uk"] {
            let connection = connect(profile_draft(provider, server.url.clone()));
            assert_eq!(probe(&connection).await, Ok(200), "{provider}: {what}");
            let seen = connection.snapshot();
            assert!(matches!(seen.verification, Verification::Inconclusive(_)), "{provider}: {what}");
            assert_eq!((seen.authenticated, candidate(&connection)), (None, CandidateHealth::NeverHealthy));
            assert_eq!(seen.check_failure.map(|failure| failure.class()), Some("content"), "{provider}: {what}");
        }
        let generic = connect(draft(server.url.clone()));
        assert_eq!(probe(&generic).await, Ok(200));
        assert_eq!(generic.snapshot().verification, Verification::Verified, "{what}: only the status is compared");
    }
}

#[tokio::test]
async fn a_connection_can_expect_a_content_type_and_a_value() {
    let json: fn(&mut Draft) =
        |draft| draft.health_check.expected_content.content_type = Some("application/json".into());
    let data: fn(&mut Draft) = |draft| draft.health_check.expected_content.pointer = Some("/data/status".into());
    for (change, headers, body, wanted) in [
        (json, "content-type: application/json; charset=utf-8\r\n", "{}", true),
        (json, "content-type: application/hal+json\r\n", "{}", true),
        (json, "content-type: text/html\r\n", "{}", false),
        (json, "", "{}", false),
        (data, "", r#"{"data":{"status":"up"}}"#, true),
        (data, "", r#"{"data":{"status":null}}"#, false),
        (data, "", r#"{"error":"maintenance"}"#, false),
        (data, "", "<html>", false),
    ] {
        let server = ScriptedServer::start(vec![response("200 OK", headers, body)]).await;
        let connection = server.connect(change);
        let record = connection.probe().await.unwrap().record.unwrap();
        assert_eq!(record.success, wanted, "{headers}{body}");
        assert_eq!(candidate(&connection) == CandidateHealth::Usable, wanted, "{headers}{body}");
    }
}

#[tokio::test]
async fn a_redirect_is_named_with_the_origin_of_its_target_alone() {
    for (status, location, wanted) in [
        ("301 Moved Permanently", "https://bank.example/v1/accounts?token=canary", Some("https://bank.example")),
        (
            "308 Permanent Redirect",
            "https://ada:canary@new.bank.example:8443/canary",
            Some("https://new.bank.example:8443"),
        ),
        ("302 Found", "//login.example/canary#canary", Some("http://login.example")),
        ("307 Temporary Redirect", "javascript:canary()", None),
    ] {
        let script = response(status, &format!("location: {location}\r\n"), "");
        let connection = ScriptedServer::start(vec![script]).await.connect(|_| {});
        assert!(probe(&connection).await.is_ok());
        let failure = connection.snapshot().check_failure.unwrap();
        let CheckFailure::Redirect { origin, .. } = &failure else { panic!("{failure:?}") };
        assert_eq!(origin.as_deref(), wanted);
        assert!(!format!("{failure} {failure:?}").contains("canary"), "{failure}");
        assert!(wanted.is_none_or(|origin| failure.to_string().contains(origin)), "{failure}");
    }
}
