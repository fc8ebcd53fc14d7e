use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::*;
use crate::domain::time::Mono;
use crate::provider::call::{ConnectError, TokenStoreError};
use crate::provider::response_cache::MAX_BYTES;
use crate::provider::testkit::{RequestFn, authenticator, monitor, request_fn, response, settings};
use crate::settings::Draft;
use crate::settings::addresses::{AddressDenied, AddressKind, EndpointRole};

type End = Result<Response, CallError>;

fn with_cache(change: impl FnOnce(&mut Draft)) -> Arc<Settings> {
    settings(|draft| {
        draft.cache = Some(CachePolicy { ttl: Duration::from_secs(15), max_stale: Duration::from_hours(1) });
        change(draft);
    })
}

fn quote(symbol: &str) -> Request {
    Request { cache: CacheMode::FreshOrStale, ..Request::get("quote", "/quote").with_query("symbol", symbol) }
}

fn context(request: Request) -> CallContext {
    CallContext::new(request, Mono::MAX)
}

struct Harness {
    path: CacheService<RequestFn>,
    sent: Arc<AtomicUsize>,
}

/// This layer alone, over an inner service that takes `takes` and returns the given results.
fn harness(settings: &Arc<Settings>, takes: Duration, ends: Vec<End>) -> Harness {
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let inner = request_fn(move |_| {
        let at = counted.fetch_add(1, Ordering::Relaxed);
        let end = ends.get(at).or(ends.last()).cloned().unwrap();
        async move {
            tokio::time::sleep(takes).await;
            end
        }
        .boxed()
    });
    let monitor = monitor(settings);
    let authenticator = authenticator(settings, &monitor);
    Harness { path: CacheService::new(inner, monitor, Arc::clone(settings), authenticator), sent }
}

impl Harness {
    async fn call(&self, request: Request) -> End {
        self.path.clone().oneshot(context(request)).await
    }

    fn sent(&self) -> usize {
        self.sent.load(Ordering::Relaxed)
    }
}

fn open() -> End {
    Err(CallError::CircuitOpen { retry_in: None })
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn fresh_response_replaces_the_call_and_reports_its_age() {
    let harness = harness(&with_cache(|_| {}), Duration::ZERO, vec![Ok(response(200))]);
    let first = harness.call(quote("A")).await.unwrap();
    assert!(!first.meta.cached);
    tokio::time::advance(SECOND * 14).await;
    let cached = harness.call(quote("A")).await.unwrap().meta;
    assert_eq!(cached, ResponseMeta { cached: true, stale: false, age: SECOND * 14, tries: 0 });
    assert_eq!(harness.sent(), 1);
    tokio::time::advance(SECOND).await;
    assert!(!harness.call(quote("A")).await.unwrap().meta.cached, "not fresh at the end of its TTL");
    assert_eq!(harness.sent(), 2);
}

#[tokio::test(start_paused = true)]
async fn stale_response_replaces_a_failure_within_max_stale_only() {
    for failure in [
        open(),
        Err(CallError::BulkheadFull),
        Err(CallError::Timeout),
        Err(CallError::Connect(ConnectError::Reset)),
        Err(CallError::QuotaExhausted { retry_in: SECOND }),
        Err(CallError::Throttled { retry_in: SECOND }),
        Err(CallError::TokenCircuitOpen { retry_in: None }),
        Err(CallError::TokenStore(TokenStoreError::Ledger)),
        Err(CallError::AddressRefused(AddressDenied {
            endpoint: EndpointRole::Provider,
            kind: AddressKind::LinkLocal,
        })),
        Ok(response(503)),
        Ok(response(429)),
    ] {
        let harness = harness(&with_cache(|_| {}), Duration::ZERO, vec![Ok(response(200)), failure.clone()]);
        harness.call(quote("A")).await.unwrap();
        for (wait, age) in [(20, 20), (3580, 3600)].map(|(wait, age)| (SECOND * wait, SECOND * age)) {
            tokio::time::advance(wait).await;
            let stale = harness.call(quote("A")).await.unwrap();
            assert_eq!(stale.meta, ResponseMeta { cached: true, stale: true, age, tries: 0 });
            assert_eq!(stale.status, 200);
        }
        tokio::time::advance(SECOND).await;
        let after = harness.call(quote("A")).await;
        assert_eq!(
            after.map(|a| a.status).ok(),
            failure.map(|a| a.status).ok(),
            "past maxStale the failure is returned"
        );
        assert_eq!(harness.sent(), 4, "the provider is always called first");
    }
}

#[tokio::test(start_paused = true)]
async fn refusal_by_the_provider_is_not_replaced_by_a_stale_response() {
    for refusal in
        [Ok(response(404)), Ok(response(401)), Ok(response(403)), Err(CallError::CredentialsRefused { status: 401 })]
    {
        let harness = harness(&with_cache(|_| {}), Duration::ZERO, vec![Ok(response(200)), refusal]);
        harness.call(quote("A")).await.unwrap();
        tokio::time::advance(SECOND * 20).await;
        assert!(!harness.call(quote("A")).await.is_ok_and(|response| response.meta.cached));
    }
}

#[tokio::test(start_paused = true)]
async fn only_responses_of_class_ok_are_cached() {
    let mut hidden = response(200);
    hidden.classification.class = ResponseClass::Quota;
    for bad in [Ok(response(404)), Ok(response(500)), Ok(hidden)] {
        let harness = harness(&with_cache(|_| {}), Duration::ZERO, vec![bad, open()]);
        let _ = harness.call(quote("A")).await;
        assert!(harness.call(quote("A")).await.is_err());
        assert_eq!(harness.sent(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn cache_is_bypassed_without_request_opt_in_read_class_or_cache_policy() {
    let bypassing = || Request { cache: CacheMode::Bypass, ..quote("A") };
    let writes = || Request { class: CallClass::Write, ..quote("A") };
    let none = settings(|_| {});
    let suspended = with_cache(|draft| draft.suspended = true);
    for (settings, request) in
        [(with_cache(|_| {}), bypassing()), (with_cache(|_| {}), writes()), (none, quote("A")), (suspended, quote("A"))]
    {
        let harness = harness(&settings, Duration::ZERO, vec![Ok(response(200))]);
        for _ in 0..2 {
            assert!(!harness.call(request.clone()).await.unwrap().meta.cached);
        }
        assert_eq!(harness.sent(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn key_covers_the_request_except_per_call_headers() {
    let harness = harness(&with_cache(|_| {}), Duration::ZERO, vec![Ok(response(200))]);
    let with = |name: &'static str, value: &'static str| {
        let mut request = quote("A");
        request.headers.insert(name, value.parse().unwrap());
        request
    };
    for request in [
        quote("A"),
        quote("B"),
        Request { path: "/other".to_owned(), ..quote("A") },
        Request { body: Some("x".into()), ..quote("A") },
        with("accept", "text/csv"),
        // Field boundaries are part of the key.
        Request { query: vec![("sy".to_owned(), "mbolA".to_owned())], ..quote("A") },
    ] {
        assert!(!harness.call(request).await.unwrap().meta.cached);
    }
    for request in [quote("A"), with("x-request-id", "1"), with("traceparent", "2")] {
        assert!(harness.call(request).await.unwrap().meta.cached);
    }
}

#[tokio::test(start_paused = true)]
async fn concurrent_calls_with_one_key_share_a_flight() {
    for end in [Ok(response(200)), Err(CallError::Timeout)] {
        let harness = harness(&with_cache(|_| {}), SECOND, vec![end.clone()]);
        let ends = futures::future::join_all((0..100).map(|_| harness.call(quote("A")))).await;
        assert_eq!(harness.sent(), 1);
        assert!(ends.iter().all(|one| one.is_ok() == end.is_ok()));
    }
}

#[tokio::test(start_paused = true)]
async fn dropped_caller_does_not_end_a_shared_flight() {
    let harness = harness(&with_cache(|_| {}), SECOND * 5, vec![Ok(response(200))]);
    let mut first = Box::pin(harness.call(quote("A")));
    assert!((&mut first).now_or_never().is_none());
    let mut second = Box::pin(harness.call(quote("A")));
    assert!((&mut second).now_or_never().is_none());
    drop(first);
    assert!(second.await.is_ok());
    assert_eq!(harness.sent(), 1);
    // If all callers are dropped, the next one starts a new call.
    let mut alone = Box::pin(harness.call(quote("B")));
    assert!((&mut alone).now_or_never().is_none());
    drop(alone);
    assert!(harness.call(quote("B")).await.is_ok());
    assert_eq!(harness.sent(), 3);
}

#[tokio::test(start_paused = true)]
async fn call_with_other_timeouts_does_not_share_a_flight() {
    let harness = harness(&with_cache(|_| {}), SECOND, vec![Ok(response(200))]);
    let short = Request { timeout: Some(SECOND * 2), no_wait: true, ..quote("A") };
    let _ = tokio::join!(harness.call(quote("A")), harness.call(short));
    assert_eq!(harness.sent(), 2);
}

#[tokio::test(start_paused = true)]
async fn bytes_of_a_connection_are_bounded_and_released() {
    let mut large = response(200);
    large.body = vec![b'x'; 100_000].into();
    let harness = harness(&with_cache(|_| {}), Duration::ZERO, vec![Ok(large)]);
    let total = || u64::try_from(harness.path.monitor.metrics().cache_bytes().get()).unwrap();
    for n in 0..200 {
        harness.call(quote(&n.to_string())).await.unwrap();
        assert!(total() <= MAX_BYTES, "{}", total());
    }
    assert!(total() > MAX_BYTES / 2);
    // Expired responses are evicted.
    tokio::time::advance(Duration::from_hours(2)).await;
    harness.call(quote("new")).await.unwrap();
    assert!(total() < 200_000, "{}", total());
    harness.path.monitor.response_cache().clear();
    assert_eq!(total(), 0);
}

#[tokio::test(start_paused = true)]
async fn response_too_large_to_cache_evicts_the_old_one() {
    let mut large = response(200);
    large.body = vec![b'x'; usize::try_from(MAX_BYTES).unwrap()].into();
    let harness = harness(&with_cache(|_| {}), Duration::ZERO, vec![Ok(response(200)), Ok(large), open()]);
    harness.call(quote("A")).await.unwrap();
    tokio::time::advance(SECOND * 20).await;
    harness.call(quote("A")).await.unwrap();
    assert!(harness.call(quote("A")).await.is_err(), "the old response is outdated");
}

#[tokio::test(start_paused = true)]
async fn rotated_credentials_clear_the_cache() {
    let first = with_cache(|_| {});
    let harness = harness(&first, Duration::ZERO, vec![Ok(response(200))]);
    harness.call(quote("A")).await.unwrap();
    let rotated = with_cache(|draft| draft.credential_revision = "secret/2".to_owned());
    harness.path.monitor.reconfigure(&first, &rotated);
    assert_eq!(harness.path.monitor.metrics().cache_bytes().get(), 0);
    let after = CacheService { settings: rotated, ..harness.path.clone() };
    assert!(!after.oneshot(context(quote("A"))).await.unwrap().meta.cached);
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_one_credential_is_not_returned_with_another() {
    let settings = with_cache(|_| {});
    let harness = harness(&settings, SECOND, vec![Ok(response(200)), Ok(response(200)), open()]);
    let old = harness.path.clone();
    let other = |authenticator| CacheService { authenticator, ..harness.path.clone() };
    let replacement = other(authenticator(&settings, &harness.path.monitor));
    // Replaced by an equal one during the call: the answer is for this caller only.
    let call = old.clone().oneshot(context(quote("A")));
    let replace = async {
        tokio::time::sleep(SECOND / 2).await;
        old.authenticator.end(Some(replacement.authenticator.clone()));
    };
    assert!(futures::future::join(call, replace).await.0.is_ok());
    assert!(!replacement.clone().oneshot(context(quote("A"))).await.unwrap().meta.cached);
    assert!(replacement.clone().oneshot(context(quote("A"))).await.unwrap().meta.cached);
    let third = other(authenticator(&settings, &harness.path.monitor));
    assert!(third.oneshot(context(quote("A"))).await.is_err(), "not even instead of a failure");
}
