//! Limits that a provider tells of, over real sockets, and what the call path makes of each: a wait, a pause of the whole
//! connection, an end (sync.md §17, 12: 429 with seconds, with a date, with a past date, with none, with an hour; 13: a
//! quota's message at HTTP 200).

use std::sync::Arc;
use std::time::Duration;

use busbar::clock::Clock;
use busbar::domain::breaker::{CallClass, EffectiveState};
use busbar::profile::ResponseClass;
use busbar::profile::{Environment, Profiles};
use busbar::provider::call::{CallError, Request};
use busbar::provider::connection::Connection;
use busbar::provider::restore::Restore;
use busbar::settings::{Draft, Settings};

use crate::call_path::{apply, draft, eventually, key, registry};
use crate::call_troubles::{Peer, answers, get, quick, well};

/// What the providers below ask for: twice what they get who do not say.
const HINT: Duration = Duration::from_secs(2);

fn paused_for(live: &Connection) -> Option<i64> {
    let until = live.snapshot().throttled_until?;
    Some(until.duration_since(Clock::system().now().wall).as_secs())
}

#[tokio::test]
async fn a_429_with_seconds_is_waited_for_by_the_whole_connection() {
    let peer = Peer::new(vec![answers("429 Slow Down", "retry-after: 2\r\n", ""), well()]).await;
    let live = peer.live(|_| {});
    let first = tokio::spawn({
        let live = Arc::clone(&live);
        async move { get(&live).await }
    });
    eventually("the 429 is there", async || live.snapshot().throttled_until.is_some()).await;
    assert_eq!(peer.asked(), 1);
    let second = get(&live).await.unwrap();
    assert_eq!((second.status.as_u16(), second.meta.tries), (200, 1));
    let first = first.await.unwrap().unwrap();
    assert_eq!((first.status.as_u16(), first.meta.tries), (200, 2));
    assert!(peer.gap() >= HINT, "{:?}", peer.gap());
    assert_eq!(live.snapshot().effective, EffectiveState::Closed);
}

#[tokio::test]
async fn a_429_with_a_date_is_read_by_the_providers_own_clock() {
    // Twenty-five years behind ours.
    let headers = "date: Sun, 06 Nov 1994 08:49:37 GMT\r\nretry-after: Sun, 06 Nov 1994 08:49:39 GMT\r\n";
    let peer = Peer::new(vec![answers("429 Slow Down", headers, ""), well()]).await;
    let answer = get(&peer.live(|_| {})).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.meta.tries), (200, 2));
    assert!(peer.gap() >= HINT, "{:?}", peer.gap());
}

#[tokio::test]
async fn a_429_with_a_past_date_or_with_none_is_a_short_pause() {
    let past = "date: Sun, 06 Nov 1994 08:49:37 GMT\r\nretry-after: Sun, 06 Nov 1994 07:00:00 GMT\r\n";
    for headers in [past, ""] {
        let peer = Peer::new(vec![answers("429 Slow Down", headers, ""), well()]).await;
        let answer = get(&peer.live(|_| {})).await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.meta.tries), (200, 2));
        assert!(peer.gap() >= Duration::from_secs(1), "{:?}", peer.gap());
        // As told, which does not depend on how quick this machine is.
        let peer = Peer::new(vec![answers("429 Slow Down", headers, "")]).await;
        let live = peer.live(|draft| draft.retry.retries = 0);
        assert_eq!(get(&live).await.unwrap().status, 429);
        let paused = paused_for(&live);
        assert!(paused.is_none_or(|seconds| seconds <= 2), "a second, rounded up: {paused:?}");
    }
}

#[tokio::test]
async fn a_429_with_an_hour_ends_the_call_at_once_and_nobody_asks_meanwhile() {
    let peer = Peer::new(vec![answers("429 Slow Down", "retry-after: 3600\r\n", "")]).await;
    let live = peer.live(|_| {});
    let answer = get(&live).await.unwrap();
    assert_eq!(
        (answer.status.as_u16(), answer.classification.class, answer.meta.tries),
        (429, ResponseClass::RateLimited, 1)
    );
    let paused = paused_for(&live).unwrap();
    assert!((3_590..=3_601).contains(&paused), "{paused}");
    for class in [CallClass::Read, CallClass::Write, CallClass::Money, CallClass::Probe] {
        let refused = live.call(Request { class, ..Request::get("test", "/") }).await.unwrap_err();
        assert!(matches!(refused, CallError::Throttled { retry_in } if retry_in.as_secs() > 3_590), "{refused:?}");
    }
    assert_eq!(peer.asked(), 1);
    assert_eq!(live.snapshot().effective, EffectiveState::Closed, "a 429 opens nothing");
}

#[tokio::test]
async fn a_pause_outlives_the_process_that_was_asked_for_it() {
    let peer = Peer::new(vec![answers("429 Slow Down", "retry-after: 3600\r\n", ""), well()]).await;
    let before = peer.live(|_| {});
    let _ = get(&before).await;
    let told = before.snapshot().throttled_until.unwrap();
    let (registry, _) = registry();
    let settings = Settings::resolve(quick(draft(peer.url.clone()))).unwrap();
    let restore = Restore { throttled_until: Some(told), ..Restore::default() };
    let after = registry.apply(&key("bank"), "uid-1", settings, Some(restore));
    assert!(matches!(get(&after).await, Err(CallError::Throttled { .. })));
    assert_eq!((peer.asked(), after.snapshot().throttled_until), (1, Some(told)));
}

#[tokio::test]
async fn a_wait_in_a_header_of_the_providers_own_is_read_as_its_profile_says() {
    let text = "id: own\ntitle: Own\nbreaker: Api\nhealthCheck: {path: /}\nerrors:\n  - status: [429]\n    \
                class: rateLimited\n    wait: [{kind: header, name: x-reset, as: epochSeconds}]\n";
    let mut profiles = Profiles::builtin().unwrap();
    profiles.add("own.yaml", text).unwrap();
    let headers = "date: Sun, 06 Nov 1994 08:49:37 GMT\r\nx-reset: 784111779\r\n";
    let peer = Peer::new(vec![answers("429 Slow Down", headers, ""), well()]).await;
    let mut draft = quick(Draft::new(profiles.get("own").unwrap(), Environment::Sandbox));
    draft.base_url.clone_from(&peer.url);
    let answer = get(&apply(&registry().0, draft)).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.meta.tries), (200, 2));
    assert!(peer.gap() >= HINT, "{:?}", peer.gap());
}

// 13: a quota's message at HTTP 200.

#[tokio::test]
async fn a_quota_that_is_told_with_200_pauses_the_connection_until_the_next_day() {
    let body = r#"{"Error Message":"Limit Reach . Please upgrade your plan"}"#;
    let peer = Peer::new(vec![answers("200 OK", "content-type: application/json\r\n", body)]).await;
    let mut draft = quick(Draft::new(Profiles::builtin().unwrap().get("fmp").unwrap(), Environment::Sandbox));
    draft.base_url.clone_from(&peer.url);
    let live = apply(&registry().0, draft);
    let midnight = || {
        let now = Clock::system().now().wall.to_zoned(live.settings().profile().day_zone());
        now.tomorrow().unwrap().start_of_day().unwrap().timestamp()
    };
    let before = midnight();
    let answer = get(&live).await.unwrap();
    assert_eq!(
        (answer.status.as_u16(), answer.classification.class, answer.meta.tries),
        (200, ResponseClass::Quota, 1)
    );
    // The day may have ended meanwhile; whole seconds are told, rounded up.
    let until = live.snapshot().throttled_until.unwrap();
    let ends = [before, midnight()].map(|end| until.duration_since(end).as_secs());
    assert!(ends.iter().any(|late| (0..=1).contains(late)), "{until}: {ends:?}");
    assert!(matches!(get(&live).await, Err(CallError::Throttled { .. })));
    assert_eq!(peer.asked(), 1);
}
