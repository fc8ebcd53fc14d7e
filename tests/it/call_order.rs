//! The order of the call path's layers, over the path that connections really have: who is asked first decides what a
//! refused call costs, and what the layers count.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use busbar::domain::breaker::{CallClass, EffectiveState};
use busbar::domain::quota::{Limit, LimitScope, LimitUnit};
use busbar::domain::rights::{Caller, Denial, LicenceProfile as Licence, LicenceSubject, Rights};
use busbar::metrics::Metrics;
use busbar::profile::ResponseClass;
use busbar::profile::{Environment, Profiles};
use busbar::provider::call::{CacheMode, CallError, Request};
use busbar::provider::connection::Connection;
use busbar::provider::registry::Registry;
use busbar::settings::{Auth, CachePolicy, DEFAULT_REFRESH_BEFORE, Draft, TokenClient};
use busbar::testbed::sim::{BankConfig, BankHandle, Behaviour, Garbage, RequiredAuth, Script, ScriptStep, Sim};
use secrecy::SecretString;

use crate::call_path::{apply, bank, draft, registry};

/// A connection with all that may refuse a call, and the bank behind it, which wants tokens.
struct World {
    live: Arc<Connection>,
    /// Prints the series of its connections.
    _registry: Registry,
    metrics: Metrics,
    bank: BankHandle,
    _sim: Sim,
}

async fn world(change: impl FnOnce(&mut Draft)) -> World {
    let secret = || "canary-secret".to_owned();
    let wants =
        RequiredAuth::OAuth2 { client_id: "client".to_owned(), client_secret: secret(), expires_in_seconds: 3600 };
    let (sim, bank) = bank(BankConfig::new("bank").auth(wants)).await;
    let mut draft = draft(bank.base_url());
    draft.auth = Auth::ClientCredentials(TokenClient {
        token_url: bank.token_url(),
        scopes: vec![],
        audience: None,
        refresh_before: DEFAULT_REFRESH_BEFORE,
        client_id: SecretString::from("client"),
        client_secret: SecretString::from(secret()),
    });
    draft.rights = Some(Arc::new(Rights {
        profiles: vec![Licence {
            name: "desk".into(),
            subjects: vec![LicenceSubject::User("ann".into())],
            actions: BTreeSet::from(["quote".to_owned()]),
            requests_per_day: None,
        }],
    }));
    draft.cache = Some(CachePolicy { ttl: Duration::from_mins(10), max_stale: Duration::from_mins(10) });
    draft.breaker.consecutive_failures = 1;
    draft.breaker.open.base = Duration::from_mins(10);
    change(&mut draft);
    let (registry, metrics) = registry();
    World { live: apply(&registry, draft), _registry: registry, metrics, bank, _sim: sim }
}

fn a_day(requests: u32) -> Vec<Limit> {
    let name = "day".to_owned();
    vec![Limit { name, scope: LimitScope::Connection, requests, unit: LimitUnit::Day, burst: None, operations: vec![] }]
}

fn quote(user: &str) -> Request {
    let caller = Caller { user: user.into(), groups: vec![], profile: None, purpose: None, request_id: None };
    Request { caller: Some(Arc::new(caller)), ..Request::get("quote", "/health") }
}

fn kept(user: &str) -> Request {
    Request { cache: CacheMode::FreshOrStale, ..quote(user) }
}

impl World {
    /// Requests that the bank has seen, for tokens and for anything else.
    fn seen(&self) -> (u64, u64) {
        let counts = self.bank.counters();
        (counts.tokens_issued, counts.requests)
    }

    /// What is printed for a series; 0 while it is not there.
    fn value(&self, series: &str) -> String {
        let text = self.metrics.render().unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.unwrap_or("0").to_owned()
    }

    /// What is left of the quota; `none` if that is not told.
    fn left(&self) -> String {
        let series = r#"busbar_quota_remaining_ratio{connection="bank",namespace="treasury"}"#;
        if self.metrics.render().unwrap().contains(series) { self.value(series) } else { "none".to_owned() }
    }

    fn cached(&self, result: &str) -> String {
        self.value(&format!(r#"busbar_cache_requests_total{{provider="generic",result="{result}"}}"#))
    }

    fn denied(&self, reason: &str) -> String {
        self.value(&format!(r#"busbar_provider_retries_denied_total{{provider="generic",reason="{reason}"}}"#))
    }
}

#[tokio::test]
async fn a_kept_answer_is_refused_to_who_has_no_right_to_it() {
    let world = world(|_| {}).await;
    assert!(!world.live.call(kept("ann")).await.unwrap().meta.cached);
    assert!(world.live.call(kept("ann")).await.unwrap().meta.cached);
    let refused = world.live.call(kept("bob")).await.unwrap_err();
    assert_eq!(refused, CallError::RightsDenied { action: "quote".into(), why: Denial::NoProfile });
}

#[tokio::test]
async fn who_has_no_right_leaves_cache_quota_and_breaker_untouched() {
    let world = world(|draft| draft.limits = a_day(4)).await;
    world.bank.set_script(Behaviour::status(500)).await.unwrap();
    for _ in 0..10 {
        assert!(matches!(world.live.call(kept("bob")).await, Err(CallError::RightsDenied { .. })));
    }
    assert_eq!((world.seen(), &*world.left()), ((0, 0), "1"));
    for result in ["hit", "miss", "shared", "stale"] {
        assert_eq!(world.cached(result), "0", "{result}");
    }
    // Nor were they counted: the circuit is as closed as ever, and the next call is the first of four.
    assert_eq!(world.live.snapshot().effective, EffectiveState::Closed);
    world.bank.recover().await;
    assert!(world.live.call(quote("ann")).await.is_ok());
    assert_eq!(world.left(), "0.75");
}

#[tokio::test]
async fn a_used_up_quota_asks_for_no_token_and_builds_no_request() {
    let world = world(|draft| draft.limits = a_day(1)).await;
    assert!(world.live.call(quote("ann")).await.is_ok());
    let seen = world.seen();
    world.bank.revoke_tokens();
    for class in [CallClass::Read, CallClass::Money] {
        let refused = world.live.call(Request { class, ..quote("ann") }).await.unwrap_err();
        assert!(matches!(refused, CallError::QuotaExhausted { .. }), "{refused:?}");
    }
    assert_eq!((world.seen(), world.left()), (seen, "0".to_owned()));
    // Not even the first token.
    let fresh = self::world(|draft| draft.limits = a_day(1)).await;
    fresh.bank.set_script(Behaviour::rate_limited("3600")).await.unwrap();
    let answer = fresh.live.call(quote("ann")).await.unwrap();
    assert_eq!(answer.classification.class, ResponseClass::RateLimited);
    let seen = fresh.seen();
    assert!(matches!(fresh.live.call(quote("ann")).await, Err(CallError::Throttled { .. })));
    assert_eq!(fresh.seen(), seen);
}

#[tokio::test]
async fn an_open_circuit_takes_no_turn_of_the_quota_and_asks_for_no_token() {
    let world = world(|draft| draft.limits = a_day(4)).await;
    world.bank.set_script(Behaviour::status(500)).await.unwrap();
    assert_eq!(world.live.call(quote("ann")).await.unwrap().status, 500);
    assert_eq!(world.live.snapshot().effective, EffectiveState::Open);
    world.bank.revoke_tokens();
    let seen = world.seen();
    for class in [CallClass::Read, CallClass::Write, CallClass::Money] {
        let refused = world.live.call(Request { class, ..quote("ann") }).await.unwrap_err();
        assert!(matches!(refused, CallError::CircuitOpen { .. }), "{refused:?}");
    }
    assert_eq!((world.seen(), world.left()), (seen, "0.75".to_owned()));
}

#[tokio::test]
async fn what_is_kept_is_json_or_it_is_asked_for_again() {
    let text = "id: own\ntitle: Own\nbreaker: Api\nhealthCheck: {path: /}\noperations:\n  status:\n    \
                path: /health\n    cache: true\n";
    let mut profiles = Profiles::builtin().unwrap();
    profiles.add("own.yaml", text).unwrap();
    let (_sim, bank) = bank(BankConfig::new("bank")).await;
    let mut draft = Draft::new(profiles.get("own").unwrap(), Environment::Sandbox);
    draft.base_url = bank.base_url();
    draft.retry.base = Duration::from_millis(20);
    draft.cache = Some(CachePolicy { ttl: Duration::from_mins(10), max_stale: Duration::from_mins(10) });
    let request =
        profiles.get("own").unwrap().operations["status"].request(&BTreeMap::new(), &BTreeMap::new()).unwrap();
    let request = Request::from_operation("status", request);
    let live = apply(&registry().0, draft);
    let steps = [ScriptStep::from(Behaviour::Garbage(Garbage::Html)).times(1), ScriptStep::from(Behaviour::Healthy)];
    bank.set_script(Script::sequence(steps)).await.unwrap();
    let first = live.call(request.clone()).await.unwrap();
    assert_eq!((first.classification.class, first.meta.tries), (ResponseClass::Ok, 2), "a page is no answer");
    let kept = live.call(request.clone()).await.unwrap();
    assert!(kept.meta.cached && kept.body == first.body);
    // And a page that stays is not kept.
    let other = Request { path: "/health?other".to_owned(), ..request };
    bank.set_script(Behaviour::Garbage(Garbage::Html)).await.unwrap();
    for _ in 0..2 {
        let answer = live.call(other.clone()).await.unwrap();
        assert_eq!((answer.classification.class, answer.meta.cached), (ResponseClass::Retry, false));
    }
}

#[tokio::test]
async fn waits_for_quota_and_what_is_left_of_it_are_counted() {
    let second = Limit { unit: LimitUnit::Second, ..a_day(1).remove(0) };
    let world = world(|draft| draft.limits = vec![second]).await;
    for _ in 0..2 {
        assert!(world.live.call(quote("ann")).await.is_ok());
    }
    let waits = |what: &str| world.value(&format!(r#"busbar_quota_wait_seconds_{what}{{provider="generic"}}"#));
    assert_eq!(waits("count"), "2", "one of them for nothing");
    assert!(waits("sum").parse::<f64>().unwrap() > 0.5, "{}", waits("sum"));
}

#[tokio::test]
async fn retries_that_are_not_made_are_counted_by_why() {
    let patient = |draft: &mut Draft| {
        draft.breaker.consecutive_failures = 0;
        draft.breaker.unhealthy = busbar::domain::breaker::OnUnhealthy::Ignore;
        draft.retry.retries = 1;
        draft.retry.base = Duration::from_millis(1);
        draft.retry.max = Duration::from_mins(10);
        draft.retry.min_pacing = Duration::ZERO;
    };
    // The back-off does not fit the call's time; or not the caller's patience.
    let slow = world(|draft| {
        patient(draft);
        draft.retry.base = Duration::from_mins(5);
    })
    .await;
    slow.bank.set_script(Behaviour::status(503)).await.unwrap();
    assert_eq!(slow.live.call(quote("ann")).await.unwrap().meta.tries, 1);
    assert_eq!((&*slow.denied("deadline"), &*slow.denied("wait")), ("1", "0"));
    let short = Request { max_wait: Some(Duration::from_secs(1)), ..quote("ann") };
    assert_eq!(slow.live.call(short).await.unwrap().meta.tries, 1);
    assert_eq!((&*slow.denied("deadline"), &*slow.denied("wait")), ("1", "1"));
    // Ten retries of a quiet connection, and no more.
    let quick = world(patient).await;
    quick.bank.set_script(Behaviour::status(503)).await.unwrap();
    for _ in 0..12 {
        assert_eq!(quick.live.call(quote("ann")).await.unwrap().status, 503);
    }
    assert_eq!(quick.denied("budget"), "2");
    assert_eq!(quick.value(r#"busbar_provider_retries_total{provider="generic"}"#), "10");
}

#[tokio::test]
async fn what_the_cache_does_is_counted_by_result() {
    let world = world(|draft| {
        draft.cache = Some(CachePolicy { ttl: Duration::from_millis(1), max_stale: Duration::from_mins(10) });
    })
    .await;
    let counted = || ["miss", "stale", "hit"].map(|result| world.cached(result));
    assert!(world.live.call(kept("ann")).await.is_ok());
    assert_eq!(counted(), ["1", "0", "0"]);
    world.bank.set_script(Behaviour::status(503)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert!(world.live.call(kept("ann")).await.unwrap().meta.stale);
    assert_eq!(counted(), ["1", "1", "0"]);
    let fresh = self::world(|_| {}).await;
    for _ in 0..3 {
        assert!(fresh.live.call(kept("ann")).await.is_ok());
    }
    assert_eq!(fresh.cached("hit"), "2");
}
