//! How long a connection waits for a provider that rate limits it: the longer of `Retry-After` and a growing backoff, a
//! day at most, and what a user's request does meanwhile.

use std::time::Duration;

use busbar::clock::Clock;
use busbar::profile::{Environment, Profiles, ResponseClass, RetryAfter};
use busbar::provider::call::{CallError, Request};
use busbar::provider::connection::Connection;
use busbar::settings::Draft;

use super::get_json;
use super::scripted_server::{Action, ScriptedServer, ok_response, response};
use crate::kit::connections::{connect, draft, probe};
use crate::kit::time::ManualTime;

const DAY: i64 = 86_400;

fn rate_limited(headers: &str) -> Vec<Action> {
    response("429 Too Many Requests", headers, "")
}

/// For how long further calls are delayed.
fn pause(connection: &Connection) -> i64 {
    let until = connection.snapshot().throttled_until.expect("a pause");
    until.duration_since(Clock::system().now().wall).as_secs()
}

/// Calls again whenever the pause has ended; returns the pauses in seconds, as the caller is told.
async fn pauses(time: &ManualTime, connection: &Connection, calls: usize) -> Vec<u64> {
    let mut pauses = Vec::new();
    for _ in 0..calls {
        let answer = get_json(connection).await.unwrap();
        let Some(RetryAfter::Delay(wait)) = answer.classification.retry_after else { return pauses };
        let meanwhile = connection.call(Request { no_wait: true, ..Request::get("test", "/") }).await.unwrap_err();
        assert_eq!(meanwhile, CallError::Throttled { retry_in: wait }, "the caller is told what is kept to");
        pauses.push(wait.as_secs());
        time.advance(wait).await;
    }
    pauses
}

#[tokio::test]
async fn a_pause_is_the_longer_of_retry_after_and_a_growing_backoff() {
    let time = ManualTime::start();
    let past = "date: Sun, 06 Nov 1994 08:49:37 GMT\r\nretry-after: Sun, 06 Nov 1994 07:00:00 GMT\r\n";
    for (headers, expected) in [
        ("retry-after: 1\r\n", [1, 2, 4, 8, 16, 30, 30]),
        ("retry-after: 5\r\n", [5, 5, 5, 8, 16, 30, 30]),
        ("retry-after: 100\r\n", [100; 7]),
        ("retry-after: 0.5\r\n", [1, 2, 4, 8, 16, 30, 30]),
        ("retry-after: 0\r\n", [1, 2, 4, 8, 16, 30, 30]),
        ("retry-after: -5\r\n", [1, 2, 4, 8, 16, 30, 30]),
        ("retry-after: soon\r\n", [1, 2, 4, 8, 16, 30, 30]),
        ("retry-after: 1, 120\r\n", [1, 2, 4, 8, 16, 30, 30]),
        (past, [1, 2, 4, 8, 16, 30, 30]),
        ("", [1, 2, 4, 8, 16, 30, 30]),
    ] {
        let server = ScriptedServer::start(vec![rate_limited(headers)]).await;
        let connection = connect(draft(server.url.clone()));
        assert_eq!(pauses(&time, &connection, 7).await, expected, "{headers:?}");
        assert_eq!(server.requests(), 7, "{headers:?}");
    }
}

#[tokio::test]
async fn a_good_response_ends_the_growth() {
    let time = ManualTime::start();
    let limited = || rate_limited("retry-after: 1\r\n");
    let server = ScriptedServer::start(vec![limited(), limited(), limited(), ok_response(), limited()]).await;
    let connection = connect(draft(server.url.clone()));
    assert_eq!(pauses(&time, &connection, 4).await, [1, 2, 4]);
    assert_eq!(pauses(&time, &connection, 2).await, [1, 2]);
}

#[tokio::test]
async fn no_pause_is_longer_than_a_day() {
    for headers in [
        "retry-after: Wed, 01 Jan 2031 00:00:00 GMT\r\n",
        "retry-after: Fri, 31 Dec 9999 23:59:59 GMT\r\n",
        "date: Sun, 06 Nov 1994 08:49:37 GMT\r\nretry-after: Wed, 01 Jan 2031 00:00:00 GMT\r\n",
        "retry-after: 86401\r\n",
        "retry-after: 18446744073709551615\r\n",
        "retry-after: 99999999999999999999999999\r\n",
        "retry-after: 1\r\nretry-after: 86401\r\n",
    ] {
        let server = ScriptedServer::start(vec![rate_limited(headers)]).await;
        let connection = connect(draft(server.url.clone()));
        let answer = get_json(&connection).await.unwrap();
        let told = answer.classification.retry_delay(Clock::system().now().wall).unwrap();
        assert_eq!(told.as_secs(), DAY.unsigned_abs(), "{headers}");
        assert!((DAY - 2..=DAY + 1).contains(&pause(&connection)), "{headers}: {}", pause(&connection));
    }
}

#[tokio::test]
async fn a_reset_header_far_away_is_a_day_and_one_that_is_no_time_is_none() {
    let text = "id: own\ntitle: Own\nbreaker: Api\nhealthCheck: {path: /}\nlimits:\n  - name: hour\n    requests: 9\n    \
                unit: Hour\n    headers: {remaining: x-left, reset: {name: x-reset, as: epochSeconds}}\n";
    let mut profiles = Profiles::builtin().unwrap();
    profiles.add("own.yaml", text).unwrap();
    for (headers, seconds) in [
        ("x-left: 0\r\nx-reset: 1924992000\r\n", DAY),
        ("x-left: 0\r\nx-reset: 1924992000000\r\n", DAY),
        ("x-left: -3\r\nx-reset: 99999999999999999999\r\n", DAY),
        ("x-left: 0\r\nx-reset: 784111777\r\n", 1),
        ("x-left: 0\r\nx-reset: tomorrow\r\n", 1),
        ("x-left: 0\r\n", 1),
        ("x-left: 1\r\nx-reset: 1924992000\r\n", 1),
    ] {
        let server = ScriptedServer::start(vec![rate_limited(headers)]).await;
        let mut draft = Draft::new(profiles.get("own").unwrap(), Environment::Sandbox);
        draft.base_url.clone_from(&server.url);
        draft.retry.retries = 0;
        let connection = connect(draft);
        get_json(&connection).await.unwrap();
        assert!((seconds - 2..=seconds + 1).contains(&pause(&connection)), "{headers}: {}", pause(&connection));
    }
}

#[tokio::test]
async fn a_503_delays_its_caller_for_a_day_at_most_and_not_the_connection() {
    for (after, seconds) in
        [("3600", 3600), ("99999999999999999999", 86_400), ("Wed, 01 Jan 2031 00:00:00 GMT", 86_400)]
    {
        let headers = format!("retry-after: {after}\r\n");
        let server = ScriptedServer::start(vec![response("503 Out", &headers, ""), ok_response()]).await;
        let connection = connect(draft(server.url.clone()));
        let answer = get_json(&connection).await.unwrap();
        assert_eq!(answer.classification.class, ResponseClass::Retry);
        let told = answer.classification.retry_delay(Clock::system().now().wall).unwrap();
        assert!((seconds - 2..=seconds).contains(&told.as_secs()), "{after}: {told:?}");
        assert_eq!(connection.snapshot().throttled_until, None, "a failing provider is still checked");
        assert_eq!(get_json(&connection).await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn a_requested_check_is_sent_once_during_a_pause_and_ends_it() {
    let time = ManualTime::start();
    let far = "retry-after: Wed, 01 Jan 2031 00:00:00 GMT\r\n";
    let server =
        ScriptedServer::start(vec![rate_limited(far), rate_limited("retry-after: 20\r\n"), ok_response()]).await;
    let connection = connect(draft(server.url.clone()));
    get_json(&connection).await.unwrap();
    assert!(matches!(probe(&connection).await, Err(CallError::Throttled { .. })));
    assert_eq!(server.requests(), 1, "other checks are skipped");

    let requested = async || connection.probe_requested().await.unwrap().result.map(|answer| answer.status.as_u16());
    assert_eq!(requested().await, Ok(429));
    assert!((18..=21).contains(&pause(&connection)), "what the provider says now counts: {}", pause(&connection));
    for _ in 0..50 {
        assert!(matches!(requested().await, Err(CallError::Throttled { .. })));
    }
    assert_eq!(server.requests(), 2, "a flood of requests is no flood of checks");

    time.advance(Duration::from_secs(11)).await;
    assert_eq!(requested().await, Ok(200));
    assert_eq!(connection.snapshot().throttled_until, None);
    assert_eq!(get_json(&connection).await.unwrap().status, 200);
    assert_eq!(server.requests(), 4);
}

#[tokio::test]
async fn a_requested_check_that_fails_otherwise_ends_no_pause() {
    let _time = ManualTime::start();
    for (second, paused) in [
        (response("503 Out", "", ""), true),
        (vec![Action::Reset], true),
        (response("404 Nowhere", "", ""), false),
        (response("401 Who", "", ""), false),
    ] {
        let server = ScriptedServer::start(vec![rate_limited("retry-after: 3600\r\n"), second]).await;
        let connection = connect(draft(server.url.clone()));
        get_json(&connection).await.unwrap();
        drop(connection.probe_requested().await.unwrap().result);
        assert_eq!(server.requests(), 2);
        assert_eq!(connection.snapshot().throttled_until.is_some(), paused);
    }
}

#[tokio::test]
async fn a_requested_check_needs_quota_of_the_connections_own_limits() {
    let text = "id: own\ntitle: Own\nbreaker: Api\nhealthCheck: {path: /}\nlimits:\n  - {name: hour, requests: 1, unit: Hour}\n";
    let mut profiles = Profiles::builtin().unwrap();
    profiles.add("own.yaml", text).unwrap();
    let server = ScriptedServer::start(vec![rate_limited("retry-after: 60\r\n")]).await;
    let mut draft = Draft::new(profiles.get("own").unwrap(), Environment::Sandbox);
    draft.base_url.clone_from(&server.url);
    draft.retry.retries = 0;
    let connection = connect(draft);
    connection.call(Request { no_wait: true, ..Request::get("test", "/") }).await.unwrap();
    let refused = connection.probe_requested().await.unwrap().result.unwrap_err();
    assert!(matches!(refused, CallError::QuotaExhausted { .. }), "{refused:?}");
    assert_eq!(server.requests(), 1);
}
