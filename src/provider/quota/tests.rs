use futures::future::join_all;

use super::*;
use crate::domain::breaker::EffectiveState;
use crate::domain::quota::{Limit, LimitScope, LimitUnit};
use crate::profile::{Classification, ResponseClass, RetryAfter};
use crate::provider::breaker::BreakerService;
use crate::provider::monitor::Verification;
use crate::provider::testkit::{CallLog, monitor, rate_limited, response, scripted, settings};
use crate::provider::timeout::TryTimeoutService;
use crate::settings::Draft;

const TOTAL: Duration = Duration::from_mins(2);

fn per(requests: u32, unit: LimitUnit) -> Limit {
    Limit { name: "own".to_owned(), scope: LimitScope::Connection, requests, unit, burst: None, operations: Vec::new() }
}

fn limited(limit: Limit, change: impl FnOnce(&mut Draft)) -> Arc<Settings> {
    settings(|draft| {
        draft.limits = vec![limit];
        change(draft);
    })
}

fn request(class: CallClass) -> Request {
    Request { class, ..Request::get("quote", "/") }
}

struct Harness<S> {
    path: QuotaService<S>,
    monitor: Arc<ConnectionMonitor>,
    calls: CallLog,
}

/// This layer alone, over a provider that returns the given responses.
fn harness(settings: &Arc<Settings>, ends: Vec<Response>) -> Harness<impl CallService + Clone + Send + 'static> {
    let monitor = monitor(settings);
    let (inner, calls) = scripted(ends.into_iter().map(Ok));
    let inner = TryTimeoutService::new(inner, monitor.clock(), settings.timeouts().request);
    Harness { path: QuotaService::new(inner, Arc::clone(&monitor), Arc::clone(settings)), monitor, calls }
}

impl<S: CallService + Clone + Send + 'static> Harness<S> {
    async fn call(&self, request: Request) -> Result<Response, CallError> {
        let deadline = self.monitor.clock().mono() + TOTAL;
        self.path.clone().oneshot(CallContext::new(request, deadline)).await
    }

    async fn read(&self) -> Result<Response, CallError> {
        self.call(request(CallClass::Read)).await
    }

    fn at(&self) -> Vec<u64> {
        self.calls.lock().unwrap().iter().map(Duration::as_secs).collect()
    }

    fn limited_for(&self) -> Option<u64> {
        let now = self.monitor.clock().now();
        let until = self.monitor.lock().throttled_until(now.mono)?;
        u64::try_from(until.duration_since(now.wall).as_secs()).ok()
    }
}

#[tokio::test(start_paused = true)]
async fn concurrent_calls_never_exceed_the_limit_and_the_rest_fail_fast() {
    let harness = harness(&limited(per(20, LimitUnit::Minute), |_| {}), vec![response(200)]);
    let started = harness.monitor.clock().mono();
    let calls = (0..100).map(|_| async {
        let end = harness.read().await;
        (end, harness.monitor.clock().mono().since(started))
    });
    let ends = join_all(calls).await;
    let served: Vec<_> = ends.iter().filter(|(end, _)| end.is_ok()).map(|(_, at)| at.as_secs()).collect();
    assert_eq!((served.len(), served.iter().filter(|at| **at == 0).count()), (40, 20), "now, and in a minute");
    assert!(served.iter().all(|at| matches!(at, 0 | 60)), "{served:?}");
    for (end, at) in ends.iter().filter(|(end, _)| end.is_err()) {
        assert!(matches!(end, Err(CallError::QuotaExhausted { .. })), "{end:?}");
        assert_eq!(*at, Duration::ZERO, "no call waits in vain");
    }
    assert_eq!(harness.calls.lock().unwrap().len(), 40);
}

#[tokio::test(start_paused = true)]
async fn exhausted_daily_quota_fails_fast_with_its_end() {
    let harness = harness(&limited(per(1, LimitUnit::Day), |_| {}), vec![response(200)]);
    assert!(harness.read().await.is_ok());
    let refused = harness.read().await.unwrap_err();
    let CallError::QuotaExhausted { retry_in } = refused else { panic!("{refused:?}") };
    assert_eq!(retry_in, Duration::from_hours(24), "the test's clock starts at midnight");
    assert_eq!(harness.at(), [0]);
}

#[tokio::test(start_paused = true)]
async fn money_reserve_is_available_when_reads_are_exhausted() {
    let settings = limited(per(10, LimitUnit::Day), |draft| draft.money_reserve_percent = 20);
    let harness = harness(&settings, vec![response(200)]);
    let read = join_all((0..12).map(|_| harness.read())).await;
    assert_eq!(read.iter().filter(|end| end.is_ok()).count(), 8);
    // A probe counts against the quota, never against the money reserve.
    assert!(matches!(harness.call(request(CallClass::Probe)).await, Err(CallError::QuotaExhausted { .. })));
    let paid = join_all((0..3).map(|_| harness.call(request(CallClass::Money)))).await;
    assert_eq!(paid.iter().filter(|end| end.is_ok()).count(), 2);
}

#[tokio::test(start_paused = true)]
async fn status_429_delays_the_whole_connection_for_retry_after() {
    let harness = harness(&settings(|_| {}), vec![rate_limited(429, 30), response(200)]);
    assert_eq!(harness.read().await.unwrap().status, 429);
    assert_eq!(harness.limited_for(), Some(30));
    let retry_after = harness.monitor.snapshot(&harness.path.settings).throttled_until.unwrap();
    assert_eq!(retry_after.to_string(), "2026-01-01T00:00:30Z");
    let (read, money) = tokio::join!(harness.read(), harness.call(request(CallClass::Money)));
    assert!(read.is_ok() && money.is_ok());
    assert_eq!(harness.at(), [0, 30, 30], "money waits as well");
    assert_eq!(harness.limited_for(), None);
}

#[tokio::test(start_paused = true)]
async fn rate_limit_longer_than_the_deadline_fails_fast() {
    let harness = harness(&settings(|_| {}), vec![rate_limited(429, 3600), response(200)]);
    assert!(harness.read().await.is_ok());
    let hour = Duration::from_hours(1);
    assert_eq!(harness.read().await.unwrap_err(), CallError::Throttled { retry_in: hour });
    let no_wait = Request { no_wait: true, ..request(CallClass::Read) };
    assert_eq!(harness.call(no_wait).await.unwrap_err(), CallError::Throttled { retry_in: hour });
    tokio::time::advance(Duration::from_secs(3570)).await;
    let short_wait = Request { max_wait: Some(Duration::from_secs(10)), ..request(CallClass::Read) };
    assert!(matches!(harness.call(short_wait).await, Err(CallError::Throttled { .. })));
    assert!(harness.read().await.is_ok());
    assert_eq!(harness.at(), [0, 3600]);
}

#[tokio::test(start_paused = true)]
async fn rate_limit_is_capped_at_one_day_and_never_shortened() {
    let harness = harness(&settings(|_| {}), vec![rate_limited(429, u64::MAX), rate_limited(429, 5)]);
    assert!(harness.read().await.is_ok());
    assert_eq!(harness.limited_for(), Some(24 * 3600));
    let wait = Some(RetryAfter::Delay(TOTAL));
    let limited = Classification { class: ResponseClass::RateLimited, retry_after: wait, ..Classification::default() };
    harness.monitor.observe_rate_limit(&harness.path.settings, CallClass::Read, "quote", None, limited);
    assert_eq!(harness.limited_for(), Some(24 * 3600));
}

#[tokio::test(start_paused = true)]
async fn delay_without_retry_after_grows_once_per_burst() {
    let harness = harness(&settings(|_| {}), vec![response(429)]);
    let limited = Classification { class: ResponseClass::RateLimited, ..Classification::default() };
    for want in [1, 2, 4, 8, 16, 30, 30] {
        // Three concurrent requests count as one reason to slow down.
        for _ in 0..3 {
            harness.monitor.observe_rate_limit(&harness.path.settings, CallClass::Read, "quote", None, limited);
        }
        assert_eq!(harness.limited_for(), Some(want));
        tokio::time::advance(Duration::from_secs(want)).await;
    }
    harness.monitor.observe_rate_limit(
        &harness.path.settings,
        CallClass::Read,
        "quote",
        None,
        Classification::default(),
    );
    harness.monitor.observe_rate_limit(&harness.path.settings, CallClass::Read, "quote", None, limited);
    assert_eq!(harness.limited_for(), Some(1), "a good response resets it");
}

#[tokio::test(start_paused = true)]
async fn exhausted_quota_without_an_end_is_taken_as_daily() {
    let mut used_up = response(200);
    used_up.classification = Classification { class: ResponseClass::Quota, ..Classification::default() };
    let harness = harness(&settings(|_| {}), vec![used_up]);
    tokio::time::advance(Duration::from_hours(20)).await;
    assert!(harness.read().await.is_ok());
    assert_eq!(harness.limited_for(), Some(4 * 3600));
}

#[tokio::test(start_paused = true)]
async fn probe_without_quota_is_skipped_counted_and_ignored() {
    let settings = settings(|draft| draft.breaker.consecutive_failures = 1);
    let harness = harness(&settings, vec![rate_limited(429, 60)]);
    let path = BreakerService::new(harness.path.clone(), Arc::clone(&harness.monitor), Arc::clone(&settings));
    let probe = || {
        let deadline = harness.monitor.clock().mono() + TOTAL;
        path.clone().oneshot(CallContext::new(Request::probe("/"), deadline))
    };
    assert_eq!(probe().await.unwrap().status, 429);
    assert_eq!(harness.monitor.snapshot(&settings).last_probe.map(|probe| probe.success), Some(false));
    let before = harness.monitor.snapshot(&settings);
    for _ in 0..3 {
        assert!(matches!(probe().await, Err(CallError::Throttled { .. })));
    }
    let after = harness.monitor.snapshot(&settings);
    assert_eq!(harness.monitor.clock().mono().since(Mono::ZERO), Duration::ZERO, "it did not wait");
    assert_eq!(
        (after.effective, after.health, after.last_probe),
        (EffectiveState::Closed, before.health, before.last_probe)
    );
    let mut outcomes = harness.monitor.lock().counts.outcomes();
    outcomes.sort_unstable();
    assert_eq!(outcomes, [("ignored", 1), ("skipped", 3)]);
}

#[tokio::test(start_paused = true)]
async fn rate_limited_connection_is_verified_as_inconclusive() {
    let settings = settings(|_| {});
    let harness = harness(&settings, vec![response(200)]);
    let now = harness.monitor.clock().now();
    harness.monitor.lock().restore_throttle("2026-01-01T01:00:00Z".parse().unwrap(), now);
    assert_eq!(harness.limited_for(), Some(3600));
    let path = BreakerService::new(harness.path.clone(), Arc::clone(&harness.monitor), Arc::clone(&settings));
    let probe = path.oneshot(CallContext::new(Request::probe("/"), Mono::MAX)).await;
    assert!(matches!(probe, Err(CallError::Throttled { .. })));
    assert!(matches!(harness.monitor.snapshot(&settings).verification, Verification::Inconclusive(_)));
    assert_eq!(harness.at(), [0; 0]);
}

#[tokio::test(start_paused = true)]
async fn dropped_waiter_leaves_its_quota_to_others() {
    let harness = harness(&limited(per(1, LimitUnit::Minute), |_| {}), vec![response(200)]);
    assert!(harness.read().await.is_ok());
    let gone = tokio::time::timeout(Duration::from_secs(10), harness.read()).await;
    assert!(gone.is_err());
    assert!(harness.read().await.is_ok());
    assert_eq!(harness.at(), [0, 60]);
}

#[tokio::test(start_paused = true)]
async fn quota_wait_is_not_provider_latency() {
    let settings = limited(per(1, LimitUnit::Minute), |draft| {
        draft.breaker.slow_call_percent = 1;
        draft.breaker.minimum_calls = 1;
    });
    let harness = harness(&settings, vec![response(200)]);
    let path = BreakerService::new(harness.path.clone(), Arc::clone(&harness.monitor), Arc::clone(&settings));
    for _ in 0..2 {
        let deadline = harness.monitor.clock().mono() + TOTAL;
        assert!(path.clone().oneshot(CallContext::new(request(CallClass::Read), deadline)).await.is_ok());
    }
    assert_eq!(harness.at(), [0, 60]);
    assert_eq!(harness.monitor.snapshot(&settings).effective, EffectiveState::Closed);
}

fn about(partition: &str) -> Request {
    Request { partition: Some(partition.into()), ..request(CallClass::Read) }
}

#[tokio::test(start_paused = true)]
async fn exhausted_partition_does_not_block_others() {
    let harness = harness(
        &limited(Limit { scope: LimitScope::Partition, ..per(2, LimitUnit::Day) }, |_| {}),
        vec![response(200)],
    );
    for _ in 0..2 {
        assert!(harness.call(about("acc-1")).await.is_ok());
    }
    let refused = harness.call(about("acc-1")).await.unwrap_err();
    assert!(matches!(refused, CallError::QuotaExhausted { .. }), "{refused:?}");
    assert!(harness.call(about("acc-2")).await.is_ok());
    let other = Request { operation: "balances".into(), ..about("acc-1") };
    assert!(harness.call(other).await.is_ok(), "each operation is counted by itself");
    assert_eq!(harness.at(), [0; 4]);
}

#[tokio::test(start_paused = true)]
async fn two_windows_are_both_enforced() {
    let minute = Limit { name: "minute".to_owned(), ..per(5, LimitUnit::Minute) };
    let settings = limited(per(2, LimitUnit::Second), |draft| draft.limits.push(minute));
    let harness = harness(&settings, vec![response(200)]);
    let ends = join_all((0..8).map(|_| harness.read())).await;
    assert!(ends.iter().all(Result::is_ok));
    // Two a second, and never more than five within a minute.
    let calls = harness.calls.lock().unwrap().clone();
    for (window, most) in [(Duration::from_secs(1), 2), (Duration::from_mins(1), 5)] {
        for from in &calls {
            let within = calls.iter().filter(|at| *at >= from && **at < *from + window).count();
            assert!(within <= most, "{within} within {window:?}: {calls:?}");
        }
    }
    assert_eq!(harness.at().iter().filter(|at| **at < 60).count(), 5);
}

/// A quota response that applies to one partition.
fn partition_limited(seconds: Option<u64>) -> Response {
    let mut response = response(429);
    let wait = seconds.map(|seconds| RetryAfter::Delay(Duration::from_secs(seconds)));
    response.classification =
        Classification { class: ResponseClass::Quota, retry_after: wait, scope: LimitScope::Partition };
    response
}

#[tokio::test(start_paused = true)]
async fn partition_quota_blocks_that_partition_only() {
    for (retry_after, wait) in [(Some(3600), 3600), (None, 24 * 3600)] {
        let harness = harness(&settings(|_| {}), vec![partition_limited(retry_after), response(200)]);
        assert_eq!(harness.call(about("acc-1")).await.unwrap().status, 429);
        assert_eq!(harness.limited_for(), None, "the connection is not limited");
        let refused = harness.call(about("acc-1")).await.unwrap_err();
        assert_eq!(refused, CallError::QuotaExhausted { retry_in: Duration::from_secs(wait) });
        assert!(harness.call(about("acc-2")).await.is_ok() && harness.read().await.is_ok());
        tokio::time::advance(Duration::from_secs(wait)).await;
        assert!(harness.call(about("acc-1")).await.is_ok(), "the block has ended");
    }
}

#[tokio::test(start_paused = true)]
async fn partition_quota_without_a_partition_delays_the_connection() {
    let harness = harness(&settings(|_| {}), vec![partition_limited(Some(3600)), response(200)]);
    assert_eq!(harness.read().await.unwrap().status, 429);
    assert_eq!(harness.limited_for(), Some(3600));
}

#[tokio::test(start_paused = true)]
async fn status_429_under_old_settings_does_not_delay_the_new_endpoint() {
    let old = settings(|_| {});
    let harness = harness(&old, vec![response(200)]);
    let new = settings(|draft| draft.base_url = "http://other.test".to_owned());
    harness.monitor.reconfigure(&old, &new);
    for scope in [LimitScope::Connection, LimitScope::Partition] {
        let classification =
            Classification { class: ResponseClass::RateLimited, retry_after: Some(RetryAfter::Delay(TOTAL)), scope };
        harness.monitor.observe_rate_limit(&old, CallClass::Read, "quote", Some("acc-1"), classification);
    }
    assert_eq!(harness.limited_for(), None);
    assert!(harness.call(about("acc-1")).await.is_ok());
    harness.monitor.observe_rate_limit(
        &new,
        CallClass::Read,
        "quote",
        None,
        Classification { class: ResponseClass::RateLimited, ..Classification::default() },
    );
    assert_eq!(harness.limited_for(), Some(1), "its own 429 counts");
}
