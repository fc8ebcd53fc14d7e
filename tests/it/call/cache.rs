//! The response cache: fresh responses, and stale ones while the circuit is open.

use std::collections::BTreeMap;
use std::time::Duration;

use busbar::domain::breaker::EffectiveState;
use busbar::profile::{Environment, Profiles, ResponseClass};
use busbar::provider::call::{CacheMode, CallError, Request};
use busbar::settings::{CachePolicy, Draft};
use busbar::testbed::sim::{Behaviour, Garbage, Script, ScriptStep};

use crate::kit::banks::{plain_bank, unavailable};
use crate::kit::connections::{connect, draft};
use crate::kit::time::ManualTime;

#[tokio::test]
async fn while_the_circuit_is_open_a_stale_response_is_returned_for_its_time() {
    let time = ManualTime::start();
    let (ttl, max_stale) = (Duration::from_secs(1), Duration::from_mins(1));
    let (_sim, bank) = plain_bank().await;
    let mut draft = draft(bank.base_url());
    draft.breaker.consecutive_failures = 1;
    draft.breaker.open.base = Duration::from_mins(5);
    draft.cache = Some(CachePolicy { ttl, max_stale });
    let connection = connect(draft);
    let quote = || Request { cache: CacheMode::FreshOrStale, ..Request::get("quote", "/health") };
    let first = connection.call(quote()).await.unwrap();
    assert!(!first.meta.cached);
    let fresh = connection.call(quote()).await.unwrap();
    assert!(fresh.meta.cached && !fresh.meta.stale && fresh.body == first.body);

    bank.set_script(unavailable()).await.unwrap();
    let _failed = connection.call(Request::get("other", "/health")).await;
    assert_eq!(connection.snapshot().effective, EffectiveState::Open);
    let before = bank.counters().requests;
    time.advance(2 * ttl).await;
    let stale = connection.call(quote()).await.unwrap();
    assert!(stale.meta.cached && stale.meta.stale && stale.body == first.body, "{:?}", stale.meta);
    assert!(stale.meta.age >= 2 * ttl && stale.meta.age <= max_stale, "{:?}", stale.meta);
    time.advance(ttl + max_stale).await;
    assert!(matches!(connection.call(quote()).await, Err(CallError::CircuitOpen { .. })));
    assert_eq!(bank.counters().requests, before, "no request was built");
}

#[tokio::test]
async fn a_response_that_is_not_json_is_retried_and_not_cached() {
    let text = "id: own\ntitle: Own\nbreaker: Api\nhealthCheck: {path: /}\noperations:\n  status:\n    \
                path: /health\n    cache: true\n";
    let mut profiles = Profiles::builtin().unwrap();
    profiles.add("own.yaml", text).unwrap();
    let profile = profiles.get("own").unwrap();
    let (_sim, bank) = plain_bank().await;
    let mut draft = Draft::new(profile.clone(), Environment::Sandbox);
    draft.base_url = bank.base_url();
    draft.retry.base = Duration::from_millis(20);
    draft.cache = Some(CachePolicy { ttl: Duration::from_mins(10), max_stale: Duration::from_mins(10) });
    let request = profile.operations["status"].request(&BTreeMap::new(), &BTreeMap::new()).unwrap();
    let request = Request::from_operation("status", request);
    let connection = connect(draft);
    let steps = [ScriptStep::from(Behaviour::Garbage(Garbage::Html)).times(1), ScriptStep::from(Behaviour::Healthy)];
    bank.set_script(Script::sequence(steps)).await.unwrap();
    let first = connection.call(request.clone()).await.unwrap();
    assert_eq!((first.classification.class, first.meta.tries), (ResponseClass::Ok, 2), "a page is no answer");
    let cached = connection.call(request.clone()).await.unwrap();
    assert!(cached.meta.cached && cached.body == first.body);
    // And a page that stays is not cached.
    let other = Request { path: "/health?other".to_owned(), ..request };
    bank.set_script(Behaviour::Garbage(Garbage::Html)).await.unwrap();
    for _ in 0..2 {
        let answer = connection.call(other.clone()).await.unwrap();
        assert_eq!((answer.classification.class, answer.meta.cached), (ResponseClass::Retry, false));
    }
}
