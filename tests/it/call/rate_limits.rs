//! Limits that a provider sets, and what the call path makes of each: a wait, a pause of the whole connection, an error
//! (sync.md §17, 12: 429 with seconds, with a date, with a past date, with none, with an hour; 13: a quota message with
//! status 200).

use std::sync::Arc;
use std::time::Duration;

use busbar::clock::Clock;
use busbar::domain::breaker::{CallClass, EffectiveState};
use busbar::profile::{Environment, Profiles, ResponseClass};
use busbar::provider::call::{CallError, Request};
use busbar::provider::connection::Connection;
use busbar::provider::restore::Restore;
use busbar::settings::{Draft, Settings};

use super::get_json;
use super::scripted_server::{Action, ScriptedServer, ok_response, response};
use crate::kit::connections::{connect, draft, key, profile_draft, registry, with_quick_retries};
use crate::kit::time::ManualTime;
use crate::kit::wait::eventually;

/// What the servers of these tests ask for: twice the default.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// By how much the clock is advanced while a call waits.
const STEP: Duration = Duration::from_millis(100);

fn rate_limited(headers: &str) -> Vec<Action> {
    response("429 Slow Down", headers, "")
}

fn paused_seconds(connection: &Connection) -> Option<i64> {
    let until = connection.snapshot().throttled_until?;
    Some(until.duration_since(Clock::system().now().wall).as_secs())
}

/// Asserts that the retry came `wait` after the first try, and not much later.
#[track_caller]
fn assert_gap(server: &ScriptedServer, wait: Duration) {
    assert!((wait..=wait + 2 * STEP).contains(&server.gap()), "{:?}", server.gap());
}

#[tokio::test]
async fn a_429_with_seconds_delays_the_whole_connection() {
    let time = ManualTime::start();
    let server = ScriptedServer::start(vec![rate_limited("retry-after: 2\r\n"), ok_response()]).await;
    let connection = server.connect(|_| {});
    let first = tokio::spawn({
        let connection = Arc::clone(&connection);
        async move { get_json(&connection).await }
    });
    eventually("the 429 is there", async || connection.snapshot().throttled_until.is_some()).await;
    assert_eq!(server.requests(), 1);
    let second = time.run(STEP, get_json(&connection)).await.unwrap();
    assert_eq!((second.status.as_u16(), second.meta.tries), (200, 1));
    let first = time.run(STEP, first).await.unwrap().unwrap();
    assert_eq!((first.status.as_u16(), first.meta.tries), (200, 2));
    assert_gap(&server, RETRY_AFTER);
    assert_eq!(connection.snapshot().effective, EffectiveState::Closed);
}

#[tokio::test]
async fn a_429_with_a_date_is_read_by_the_clock_of_the_provider() {
    let time = ManualTime::start();
    // Twenty-five years behind ours.
    let headers = "date: Sun, 06 Nov 1994 08:49:37 GMT\r\nretry-after: Sun, 06 Nov 1994 08:49:39 GMT\r\n";
    let server = ScriptedServer::start(vec![rate_limited(headers), ok_response()]).await;
    let answer = time.run(STEP, get_json(&server.connect(|_| {}))).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.meta.tries), (200, 2));
    assert_gap(&server, RETRY_AFTER);
}

#[tokio::test]
async fn a_429_with_a_past_date_or_with_none_is_a_short_pause() {
    let time = ManualTime::start();
    let past = "date: Sun, 06 Nov 1994 08:49:37 GMT\r\nretry-after: Sun, 06 Nov 1994 07:00:00 GMT\r\n";
    for headers in [past, ""] {
        let server = ScriptedServer::start(vec![rate_limited(headers), ok_response()]).await;
        let answer = time.run(STEP, get_json(&server.connect(|_| {}))).await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.meta.tries), (200, 2));
        assert_gap(&server, Duration::from_secs(1));
    }
}

#[tokio::test]
async fn a_429_with_an_hour_ends_the_call_and_rejects_others_meanwhile() {
    let server = ScriptedServer::start(vec![rate_limited("retry-after: 3600\r\n")]).await;
    let connection = server.connect(|_| {});
    let answer = get_json(&connection).await.unwrap();
    assert_eq!(
        (answer.status.as_u16(), answer.classification.class, answer.meta.tries),
        (429, ResponseClass::RateLimited, 1)
    );
    let paused = paused_seconds(&connection).unwrap();
    assert!((3_590..=3_601).contains(&paused), "{paused}");
    for class in [CallClass::Read, CallClass::Write, CallClass::Money, CallClass::Probe] {
        let rejected = connection.call(Request { class, ..Request::get("test", "/") }).await.unwrap_err();
        assert!(matches!(rejected, CallError::Throttled { retry_in } if retry_in.as_secs() > 3_590), "{rejected:?}");
    }
    assert_eq!(server.requests(), 1);
    assert_eq!(connection.snapshot().effective, EffectiveState::Closed, "a 429 opens nothing");
}

#[tokio::test]
async fn a_pause_survives_a_restart() {
    let server = ScriptedServer::start(vec![rate_limited("retry-after: 3600\r\n"), ok_response()]).await;
    let before = server.connect(|_| {});
    let _rate_limited = get_json(&before).await;
    let until = before.snapshot().throttled_until.unwrap();
    let (registry, _) = registry();
    let settings = Settings::resolve(with_quick_retries(draft(server.url.clone()))).unwrap();
    let restore = Restore { throttled_until: Some(until), ..Restore::default() };
    let after = registry.apply(&key("bank"), "uid-1", settings, Some(restore));
    assert!(matches!(get_json(&after).await, Err(CallError::Throttled { .. })));
    assert_eq!((server.requests(), after.snapshot().throttled_until), (1, Some(until)));
}

#[tokio::test]
async fn a_wait_in_a_header_that_the_profile_names_is_kept() {
    let time = ManualTime::start();
    let text = "id: own\ntitle: Own\nbreaker: Api\nhealthCheck: {path: /}\nerrors:\n  - status: [429]\n    \
                class: rateLimited\n    wait: [{kind: header, name: x-reset, as: epochSeconds}]\n";
    let mut profiles = Profiles::builtin().unwrap();
    profiles.add("own.yaml", text).unwrap();
    let headers = "date: Sun, 06 Nov 1994 08:49:37 GMT\r\nx-reset: 784111779\r\n";
    let server = ScriptedServer::start(vec![rate_limited(headers), ok_response()]).await;
    let mut draft = with_quick_retries(Draft::new(profiles.get("own").unwrap(), Environment::Sandbox));
    draft.base_url.clone_from(&server.url);
    let answer = time.run(STEP, get_json(&connect(draft))).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.meta.tries), (200, 2));
    assert_gap(&server, RETRY_AFTER);
}

// 13: a quota message with status 200.

#[tokio::test]
async fn a_quota_message_with_status_200_pauses_the_connection_until_the_next_day() {
    let body = r#"{"Error Message":"Limit Reach . Please upgrade your plan"}"#;
    let server = ScriptedServer::start(vec![response("200 OK", "content-type: application/json\r\n", body)]).await;
    let connection = connect(with_quick_retries(profile_draft("fmp", server.url.clone())));
    let midnight = || {
        let now = Clock::system().now().wall.to_zoned(connection.settings().profile().day_zone());
        now.tomorrow().unwrap().start_of_day().unwrap().timestamp()
    };
    let before = midnight();
    let answer = get_json(&connection).await.unwrap();
    assert_eq!(
        (answer.status.as_u16(), answer.classification.class, answer.meta.tries),
        (200, ResponseClass::Quota, 1)
    );
    // The day may have ended meanwhile; whole seconds are reported, rounded up.
    let until = connection.snapshot().throttled_until.unwrap();
    let ends = [before, midnight()].map(|end| until.duration_since(end).as_secs());
    assert!(ends.iter().any(|late| (0..=1).contains(late)), "{until}: {ends:?}");
    assert!(matches!(get_json(&connection).await, Err(CallError::Throttled { .. })));
    assert_eq!(server.requests(), 1);
}
