//! The order of the call path's layers: which one is asked first decides what a rejected call costs and what is counted.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use busbar::domain::breaker::{CallClass, EffectiveState, OnUnhealthy};
use busbar::domain::quota::{Limit, LimitScope, LimitUnit};
use busbar::domain::rights::{Caller, Denial, LicenceProfile, LicenceSubject, Rights};
use busbar::metrics::Metrics;
use busbar::profile::ResponseClass;
use busbar::provider::access_denial::AccessDenial;
use busbar::provider::call::{CacheMode, CallError, Request};
use busbar::provider::connection::Connection;
use busbar::provider::registry::Registry;
use busbar::settings::{CachePolicy, Draft};
use busbar::testbed::sim::{BankHandle, Behaviour, Sim};

use crate::kit::banks::unavailable;
use crate::kit::connections::{apply, registry, token_bank};
use crate::kit::time::ManualTime;

/// A connection with everything that may reject a call, and the bank behind it, which issues tokens.
struct CallOrderEnv {
    connection: Arc<Connection>,
    /// Prints the series of its connections.
    _registry: Registry,
    metrics: Metrics,
    bank: BankHandle,
    _sim: Sim,
}

fn daily(requests: u32) -> Limit {
    let name = "day".to_owned();
    Limit { name, scope: LimitScope::Connection, requests, unit: LimitUnit::Day, burst: None, operations: vec![] }
}

fn quote(user: &str) -> Request {
    let caller = Caller { user: user.into(), groups: vec![], profile: None, purpose: None, request_id: None };
    Request { caller: Some(Arc::new(caller)), ..Request::get("quote", "/health") }
}

fn cached_quote(user: &str) -> Request {
    Request { cache: CacheMode::FreshOrStale, ..quote(user) }
}

impl CallOrderEnv {
    async fn new(change: impl FnOnce(&mut Draft)) -> Self {
        let (sim, bank, mut draft) = token_bank(3600).await;
        draft.rights = Some(Arc::new(Rights {
            profiles: vec![LicenceProfile {
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
        Self { connection: apply(&registry, draft), _registry: registry, metrics, bank, _sim: sim }
    }

    /// Tokens that the bank has issued, and requests that it has seen.
    fn bank_traffic(&self) -> (u64, u64) {
        let counters = self.bank.counters();
        (counters.tokens_issued, counters.requests)
    }

    /// The value of a series; 0 while it does not exist.
    fn value(&self, series: &str) -> String {
        let text = self.metrics.render().unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.unwrap_or("0").to_owned()
    }

    /// The remaining part of the quota; `none` if it has no series.
    fn quota_remaining(&self) -> String {
        let series = r#"busbar_quota_remaining_ratio{connection="bank",namespace="treasury"}"#;
        if self.metrics.render().unwrap().contains(series) { self.value(series) } else { "none".to_owned() }
    }

    fn cache_requests(&self, result: &str) -> String {
        self.value(&format!(r#"busbar_cache_requests_total{{provider="generic",result="{result}"}}"#))
    }

    fn retries_denied(&self, reason: &str) -> String {
        self.value(&format!(r#"busbar_provider_retries_denied_total{{provider="generic",reason="{reason}"}}"#))
    }
}

#[tokio::test]
async fn rights_are_checked_before_the_cache() {
    let env = CallOrderEnv::new(|_| {}).await;
    assert!(!env.connection.call(cached_quote("ann")).await.unwrap().meta.cached);
    assert!(env.connection.call(cached_quote("ann")).await.unwrap().meta.cached);
    let rejected = env.connection.call(cached_quote("bob")).await.unwrap_err();
    assert_eq!(rejected, AccessDenial::Rights { action: "quote".into(), why: Denial::NoProfile }.into());
}

#[tokio::test]
async fn a_call_without_rights_leaves_cache_quota_and_breaker_untouched() {
    let env = CallOrderEnv::new(|draft| draft.limits = vec![daily(4)]).await;
    env.bank.set_script(Behaviour::status(500)).await.unwrap();
    for _ in 0..10 {
        assert!(matches!(
            env.connection.call(cached_quote("bob")).await,
            Err(CallError::Denied(AccessDenial::Rights { .. }))
        ));
    }
    assert_eq!((env.bank_traffic(), &*env.quota_remaining()), ((0, 0), "1"));
    for result in ["hit", "miss", "shared", "stale"] {
        assert_eq!(env.cache_requests(result), "0", "{result}");
    }
    // They did not count: the circuit is closed, and the next call is the first of four.
    assert_eq!(env.connection.snapshot().effective, EffectiveState::Closed);
    env.bank.recover().await;
    assert!(env.connection.call(quote("ann")).await.is_ok());
    assert_eq!(env.quota_remaining(), "0.75");
}

#[tokio::test]
async fn an_exhausted_quota_asks_for_no_token_and_builds_no_request() {
    let env = CallOrderEnv::new(|draft| draft.limits = vec![daily(1)]).await;
    assert!(env.connection.call(quote("ann")).await.is_ok());
    let traffic = env.bank_traffic();
    env.bank.revoke_tokens();
    for class in [CallClass::Read, CallClass::Money] {
        let rejected = env.connection.call(Request { class, ..quote("ann") }).await.unwrap_err();
        assert!(matches!(rejected, CallError::QuotaExhausted { .. }), "{rejected:?}");
    }
    assert_eq!((env.bank_traffic(), env.quota_remaining()), (traffic, "0".to_owned()));
    // Not even the first token.
    let fresh = CallOrderEnv::new(|draft| draft.limits = vec![daily(1)]).await;
    fresh.bank.set_script(Behaviour::rate_limited("3600")).await.unwrap();
    let answer = fresh.connection.call(quote("ann")).await.unwrap();
    assert_eq!(answer.classification.class, ResponseClass::RateLimited);
    let traffic = fresh.bank_traffic();
    assert!(matches!(fresh.connection.call(quote("ann")).await, Err(CallError::Throttled { .. })));
    assert_eq!(fresh.bank_traffic(), traffic);
}

#[tokio::test]
async fn an_open_circuit_uses_no_quota_and_asks_for_no_token() {
    let env = CallOrderEnv::new(|draft| draft.limits = vec![daily(4)]).await;
    env.bank.set_script(Behaviour::status(500)).await.unwrap();
    assert_eq!(env.connection.call(quote("ann")).await.unwrap().status, 500);
    assert_eq!(env.connection.snapshot().effective, EffectiveState::Open);
    env.bank.revoke_tokens();
    let traffic = env.bank_traffic();
    for class in [CallClass::Read, CallClass::Write, CallClass::Money] {
        let rejected = env.connection.call(Request { class, ..quote("ann") }).await.unwrap_err();
        assert!(matches!(rejected, CallError::CircuitOpen { .. }), "{rejected:?}");
    }
    assert_eq!((env.bank_traffic(), env.quota_remaining()), (traffic, "0.75".to_owned()));
}

#[tokio::test]
async fn waits_for_the_quota_are_counted() {
    let time = ManualTime::start();
    let second = Limit { unit: LimitUnit::Second, ..daily(1) };
    let env = CallOrderEnv::new(|draft| draft.limits = vec![second]).await;
    for _ in 0..2 {
        assert!(time.run(Duration::from_millis(100), env.connection.call(quote("ann"))).await.is_ok());
    }
    let waits = |what: &str| env.value(&format!(r#"busbar_quota_wait_seconds_{what}{{provider="generic"}}"#));
    assert_eq!(waits("count"), "2", "one of them of no time");
    assert!(waits("sum").parse::<f64>().unwrap() > 0.5, "{}", waits("sum"));
}

#[tokio::test]
async fn denied_retries_are_counted_by_reason() {
    let with_one_retry = |draft: &mut Draft| {
        draft.breaker.consecutive_failures = 0;
        draft.breaker.unhealthy = OnUnhealthy::Ignore;
        draft.retry.retries = 1;
        draft.retry.base = Duration::from_millis(1);
        draft.retry.max = Duration::from_mins(10);
        draft.retry.min_pacing = Duration::ZERO;
    };
    // The backoff does not fit the deadline of the call, or the longest wait of the caller.
    let slow = CallOrderEnv::new(|draft| {
        with_one_retry(draft);
        draft.retry.base = Duration::from_mins(5);
    })
    .await;
    slow.bank.set_script(unavailable()).await.unwrap();
    assert_eq!(slow.connection.call(quote("ann")).await.unwrap().meta.tries, 1);
    assert_eq!((&*slow.retries_denied("deadline"), &*slow.retries_denied("wait")), ("1", "0"));
    let short = Request { max_wait: Some(Duration::from_secs(1)), ..quote("ann") };
    assert_eq!(slow.connection.call(short).await.unwrap().meta.tries, 1);
    assert_eq!((&*slow.retries_denied("deadline"), &*slow.retries_denied("wait")), ("1", "1"));
    // Ten retries of a connection with little traffic, and no more.
    let quick = CallOrderEnv::new(with_one_retry).await;
    quick.bank.set_script(unavailable()).await.unwrap();
    for _ in 0..12 {
        assert_eq!(quick.connection.call(quote("ann")).await.unwrap().status, 503);
    }
    assert_eq!(quick.retries_denied("budget"), "2");
    assert_eq!(quick.value(r#"busbar_provider_retries_total{provider="generic"}"#), "10");
}

#[tokio::test]
async fn cache_requests_are_counted_by_result() {
    let time = ManualTime::start();
    let ttl = Duration::from_secs(1);
    let env = CallOrderEnv::new(|draft| {
        draft.cache = Some(CachePolicy { ttl, max_stale: Duration::from_mins(10) });
    })
    .await;
    let counted = || ["miss", "stale", "hit"].map(|result| env.cache_requests(result));
    assert!(env.connection.call(cached_quote("ann")).await.is_ok());
    assert_eq!(counted(), ["1", "0", "0"]);
    env.bank.set_script(unavailable()).await.unwrap();
    time.advance(2 * ttl).await;
    assert!(env.connection.call(cached_quote("ann")).await.unwrap().meta.stale);
    assert_eq!(counted(), ["1", "1", "0"]);
    let fresh = CallOrderEnv::new(|_| {}).await;
    for _ in 0..3 {
        assert!(fresh.connection.call(cached_quote("ann")).await.is_ok());
    }
    assert_eq!(fresh.cache_requests("hit"), "2");
}
