use std::time::Duration;

use http::HeaderValue;

use super::*;
use crate::domain::breaker::EffectiveState;
use crate::domain::time::Mono;
use crate::profile::{Classification, RetryAfter};
use crate::provider::breaker::BreakerService;
use crate::provider::testkit::{CallLog, monitor, rate_limited, response, scripted, settings};
use crate::settings::ErrorClass;

type End = Result<Response, CallError>;

const REFUSED: CallError = CallError::Connect(ConnectError::Refused);

fn read() -> Request {
    Request::get("quote", "/")
}

fn of(class: CallClass) -> Request {
    Request { class, ..read() }
}

/// One call through this layer alone, over a provider that returns the given results.
async fn call(settings: &Arc<Settings>, request: Request, ends: Vec<End>) -> (End, CallLog) {
    let monitor = monitor(settings);
    let (inner, log) = scripted(ends);
    let deadline = monitor.clock().mono() + Duration::from_mins(2);
    let path = RetryService::new(inner, monitor, Arc::clone(settings));
    (path.oneshot(CallContext::new(request, deadline)).await, log)
}

fn tried(log: &CallLog) -> usize {
    log.lock().unwrap().len()
}

/// The delays between the tries.
fn delays(log: &CallLog) -> Vec<Duration> {
    let log = log.lock().unwrap();
    log.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).collect()
}

fn plain() -> Arc<Settings> {
    settings(|_| {})
}

#[tokio::test(start_paused = true)]
async fn backoff_is_one_two_four_seconds_and_jitter_and_pacing_only_add() {
    let settings = settings(|draft| draft.retry.min_pacing = Duration::from_millis(50));
    let (end, log) = call(&settings, read(), vec![Ok(response(503))]).await;
    let end = end.unwrap();
    assert_eq!((end.status.as_u16(), end.meta.tries), (503, 4));
    let waits = delays(&log);
    assert_eq!(waits.len(), 3);
    for (wait, seconds) in waits.into_iter().zip([1, 2, 4]) {
        let step = Duration::from_secs(seconds);
        let most = step + step / JITTER + Duration::from_millis(52);
        assert!(wait >= step + Duration::from_millis(50) && wait <= most, "{wait:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn success_ends_the_tries_and_reports_their_number() {
    let (end, log) = call(&plain(), read(), vec![Err(REFUSED), Ok(response(502)), Ok(response(200))]).await;
    assert_eq!(end.unwrap().meta.tries, 3);
    assert_eq!(tried(&log), 3);
}

#[tokio::test(start_paused = true)]
async fn only_transient_results_are_retried() {
    let retried = [
        Ok(response(500)),
        Ok(response(408)),
        Ok(response(425)),
        Ok(response(429)),
        Err(REFUSED),
        Err(CallError::Timeout),
        Err(CallError::Malformed),
        Err(CallError::Connect(ConnectError::Reset)),
        Err(CallError::NoToken { status: Some(503), class: ErrorClass::Connect }),
    ];
    for end in retried {
        let (_, log) = call(&plain(), read(), vec![end.clone()]).await;
        assert_eq!(tried(&log), 4, "{end:?}");
    }
    let never = [
        Ok(response(200)),
        Ok(response(302)),
        Ok(response(400)),
        Ok(response(401)),
        Ok(response(403)),
        Ok(response(404)),
        Ok(response(410)),
        Ok(response(422)),
        Err(CallError::CircuitOpen { retry_in: None }),
        Err(CallError::Suspended),
        Err(CallError::TooLarge { limit: 1 }),
        Err(CallError::CredentialsRefused { status: 401 }),
        Err(CallError::Connect(ConnectError::Expired)),
        Err(CallError::InvalidRequest("x")),
        Err(CallError::QuotaExhausted { retry_in: Duration::ZERO }),
    ];
    for end in never {
        let (_, log) = call(&plain(), read(), vec![end.clone()]).await;
        assert_eq!(tried(&log), 1, "{end:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn probe_is_one_try_and_money_is_never_retried_blindly() {
    for class in [CallClass::Probe, CallClass::Money] {
        for end in [Ok(response(503)), Ok(response(429)), Err(CallError::Timeout)] {
            let (_, log) = call(&plain(), of(class), vec![end.clone()]).await;
            assert_eq!(tried(&log), 1, "{class:?} {end:?}");
        }
    }
    // Connection refused: nothing was sent.
    let (end, log) = call(&plain(), of(CallClass::Money), vec![Err(REFUSED), Ok(response(200))]).await;
    assert_eq!((end.unwrap().status.as_u16(), tried(&log)), (200, 2));
}

#[tokio::test(start_paused = true)]
async fn idempotent_write_is_retried() {
    let post = Request { method: Method::POST, ..of(CallClass::Write) };
    let put = Request { method: Method::PUT, ..of(CallClass::Write) };
    let mut keyed = post.clone();
    keyed.headers.insert(IDEMPOTENCY_KEY, HeaderValue::from_static("1"));
    for (request, tries) in [(post, 1), (put, 4), (keyed, 4)] {
        let (_, log) = call(&plain(), request, vec![Ok(response(503))]).await;
        assert_eq!(tried(&log), tries);
    }
}

#[tokio::test(start_paused = true)]
async fn retry_after_wins_if_it_is_longer_than_the_backoff() {
    for (seconds, least) in [(30, 30), (0, 1)] {
        let (_, log) = call(&plain(), read(), vec![Ok(rate_limited(429, seconds)), Ok(response(200))]).await;
        let wait = delays(&log)[0];
        assert!(wait >= Duration::from_secs(least) && wait < Duration::from_secs(least + 1), "{wait:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn retry_after_date_is_honored_and_a_past_date_is_ignored() {
    let start: jiff::Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    for (offset, least) in [(20_i64, 20), (-3600, 1)] {
        let mut busy = response(503);
        busy.classification.retry_after = Some(RetryAfter::At(start + jiff::SignedDuration::from_secs(offset)));
        let (_, log) = call(&plain(), read(), vec![Ok(busy), Ok(response(200))]).await;
        let wait = delays(&log)[0];
        assert!(wait >= Duration::from_secs(least) && wait < Duration::from_secs(least + 1), "{wait:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn retry_after_longer_than_the_deadline_ends_the_call_at_once() {
    let clock = crate::clock::Clock::system();
    for seconds in [120, 3600, u64::MAX] {
        let (end, log) = call(&plain(), read(), vec![Ok(rate_limited(429, seconds))]).await;
        assert_eq!((end.unwrap().classification.class, tried(&log)), (ResponseClass::RateLimited, 1));
    }
    assert_eq!(clock.mono().since(Mono::ZERO), Duration::ZERO, "it did not sleep");
    // The same with the caller's `max_wait`.
    let short_wait = Request { max_wait: Some(Duration::from_secs(10)), ..read() };
    let (_, log) = call(&plain(), short_wait.clone(), vec![Ok(rate_limited(429, 11))]).await;
    assert_eq!(tried(&log), 1);
    let (_, log) = call(&plain(), short_wait, vec![Ok(rate_limited(429, 9)), Ok(response(200))]).await;
    assert_eq!(tried(&log), 2);
}

#[tokio::test(start_paused = true)]
async fn no_wait_retries_at_once_up_to_max_tries() {
    let request = Request { no_wait: true, max_tries: Some(2), ..read() };
    let (_, log) = call(&plain(), request.clone(), vec![Ok(response(503))]).await;
    assert_eq!(delays(&log), [Duration::ZERO]);
    let (_, log) = call(&plain(), request, vec![Ok(response(429))]).await;
    assert_eq!(tried(&log), 1, "a 429 is not retried without a delay");
    let more = Request { max_tries: Some(99), ..read() };
    let (_, log) = call(&plain(), more, vec![Ok(response(503))]).await;
    assert_eq!(tried(&log), 4, "the connection's limit applies");
}

#[tokio::test(start_paused = true)]
async fn exhausted_quota_is_retried_only_if_its_end_is_known() {
    let quota = |wait| {
        let mut response = response(403);
        response.classification =
            Classification { class: ResponseClass::Quota, retry_after: wait, ..Classification::default() };
        Ok(response)
    };
    let (_, log) = call(&plain(), read(), vec![quota(None)]).await;
    assert_eq!(tried(&log), 1);
    let (_, log) =
        call(&plain(), read(), vec![quota(Some(RetryAfter::Delay(Duration::from_secs(5)))), Ok(response(200))]).await;
    assert_eq!(tried(&log), 2);
}

#[tokio::test(start_paused = true)]
async fn retry_budget_bounds_the_retries_of_all_calls() {
    // Keeps the breaker out of this test.
    let settings = settings(|draft| {
        draft.breaker.consecutive_failures = 0;
        draft.breaker.unhealthy = crate::domain::breaker::OnUnhealthy::Ignore;
    });
    let monitor = monitor(&settings);
    let (inner, log) = scripted([Ok(response(503))]);
    let retry = RetryService::new(inner, Arc::clone(&monitor), Arc::clone(&settings));
    let path = BreakerService::new(retry, Arc::clone(&monitor), Arc::clone(&settings));
    let calls = (0..100)
        .map(|_| path.clone().oneshot(CallContext::new(read(), monitor.clock().mono() + Duration::from_mins(2))));
    let ends = futures::future::join_all(calls).await;
    assert_eq!(ends.len(), 100);
    assert_eq!(tried(&log), 120, "a hundred calls and a fifth of them once more");
    let off = crate::provider::testkit::settings(|draft| draft.retry.budget_percent = 0);
    let (_, log) = call(&off, read(), vec![Ok(response(503))]).await;
    assert_eq!(tried(&log), 1);
}

#[tokio::test(start_paused = true)]
async fn breaker_records_one_outcome_per_call_not_per_try() {
    let settings = settings(|draft| {
        draft.retry.retries = 2;
        draft.breaker.consecutive_failures = 3;
    });
    let monitor = monitor(&settings);
    let path = |ends: Vec<End>| {
        let (inner, log) = scripted(ends);
        let retry = RetryService::new(inner, Arc::clone(&monitor), Arc::clone(&settings));
        (BreakerService::new(retry, Arc::clone(&monitor), Arc::clone(&settings)), log)
    };
    let ctx = || CallContext::new(read(), monitor.clock().mono() + Duration::from_mins(2));
    let outcomes = || {
        let mut counts = monitor.lock().counts.outcomes();
        counts.sort_unstable();
        counts
    };
    let (recovering, _) = path(vec![Ok(response(503)), Ok(response(200))]);
    assert_eq!(recovering.oneshot(ctx()).await.unwrap().meta.tries, 2);
    assert_eq!(outcomes(), [("success", 1)]);
    let (failing, log) = path(vec![Ok(response(503))]);
    for calls in 1..=3 {
        assert_eq!(monitor.snapshot(&settings).effective, EffectiveState::Closed);
        assert_eq!(failing.clone().oneshot(ctx()).await.unwrap().meta.tries, 3);
        assert_eq!(outcomes(), [("failure", calls), ("success", 1)]);
    }
    assert_eq!(tried(&log), 9);
    assert_eq!(monitor.snapshot(&settings).effective, EffectiveState::Open, "three outcomes, three tries each");
    assert_eq!(monitor.metrics().retries("generic"), 7);
    // `circuit_open` is never retried.
    assert!(matches!(failing.oneshot(ctx()).await, Err(CallError::CircuitOpen { .. })));
    assert_eq!(tried(&log), 9);
}

#[tokio::test(start_paused = true)]
async fn circuit_that_opens_during_the_delay_ends_the_call() {
    let settings = settings(|draft| draft.breaker.consecutive_failures = 1);
    let monitor = monitor(&settings);
    let path = |ends: Vec<End>, retries: u32| {
        let own_settings = crate::provider::testkit::settings(|draft| {
            draft.breaker.consecutive_failures = 1;
            draft.retry.retries = retries;
        });
        let (inner, log) = scripted(ends);
        let retry = RetryService::new(inner, Arc::clone(&monitor), Arc::clone(&own_settings));
        (BreakerService::new(retry, Arc::clone(&monitor), own_settings), log)
    };
    let ctx = || CallContext::new(read(), monitor.clock().mono() + Duration::from_mins(2));
    let (waiting, log) = path(vec![Ok(response(503)), Ok(response(200))], 3);
    let waiting = tokio::spawn(waiting.oneshot(ctx()));
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (single, _) = path(vec![Ok(response(503))], 0);
    assert_eq!(single.oneshot(ctx()).await.unwrap().status, 503);
    assert_eq!(monitor.snapshot(&settings).effective, EffectiveState::Open);
    let end = waiting.await.unwrap().unwrap();
    assert_eq!((end.status.as_u16(), end.meta.tries, tried(&log)), (503, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn only_transient_and_limited_classes_are_retried() {
    for class in ResponseClass::ALL {
        let retried = matches!(class, ResponseClass::Retry | ResponseClass::RateLimited | ResponseClass::Quota);
        // The class decides, whatever the status; `Retry-After` alone makes no class retryable.
        for status in [200, 400, 503] {
            let mut end = response(status);
            end.classification = Classification {
                class,
                retry_after: Some(RetryAfter::Delay(Duration::from_secs(1))),
                ..Classification::default()
            };
            let (_, log) = call(&plain(), read(), vec![Ok(end)]).await;
            assert_eq!(tried(&log), if retried { 4 } else { 1 }, "{class:?} {status}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn trial_that_outlasts_its_lease_is_not_lost() {
    let settings = settings(|draft| {
        draft.breaker.consecutive_failures = 1;
        draft.breaker.open.base = Duration::from_secs(10);
        draft.breaker.half_open.lease = Duration::from_secs(6);
        draft.timeouts.request = Duration::from_secs(2);
    });
    let monitor = monitor(&settings);
    let (inner, _) =
        scripted(vec![Ok(response(500)), Ok(response(500)), Ok(response(500)), Ok(response(500)), Ok(response(200))]);
    let once = || Request { max_tries: Some(1), ..read() };
    let path = BreakerService::new(
        RetryService::new(inner, Arc::clone(&monitor), Arc::clone(&settings)),
        monitor.clone(),
        settings.clone(),
    );
    let ctx = |request| CallContext::new(request, Mono::MAX);
    let effective = || monitor.snapshot(&settings).effective;
    assert_eq!(path.clone().oneshot(ctx(once())).await.unwrap().status, 500);
    assert_eq!(effective(), EffectiveState::Open);
    tokio::time::advance(Duration::from_secs(10)).await;
    let started = monitor.clock().mono();
    // 1, 2 and 4 seconds between its tries, while the breaker is ticked, as the registry does.
    let ticks = async {
        loop {
            monitor.clock().sleep_until(monitor.clock().mono() + Duration::from_millis(500)).await;
            monitor.tick();
            let other = path.clone().oneshot(ctx(once())).await;
            assert!(matches!(other, Err(CallError::CircuitOpen { .. })), "one trial at a time: {other:?}");
        }
    };
    let trial = path.clone().oneshot(ctx(read()));
    let end = tokio::select! { end = trial => end.unwrap(), () = ticks => unreachable!() };
    assert_eq!((end.status.as_u16(), end.meta.tries), (200, 4));
    assert!(monitor.clock().mono().since(started) > Duration::from_secs(6));
    assert_eq!(effective(), EffectiveState::Closed, "its success counts");
}

#[tokio::test(start_paused = true)]
async fn trial_whose_lease_ends_before_its_retry_sends_no_other_try() {
    let settings = settings(|draft| {
        draft.breaker.consecutive_failures = 1;
        draft.breaker.open.base = Duration::from_secs(10);
        draft.breaker.half_open.lease = Duration::from_secs(6);
        draft.timeouts.request = Duration::from_secs(2);
    });
    let monitor = monitor(&settings);
    let (inner, log) = scripted(vec![Ok(response(500)), Ok(rate_limited(503, 8)), Ok(response(200))]);
    let retry = RetryService::new(inner, Arc::clone(&monitor), Arc::clone(&settings));
    let path = BreakerService::new(retry, monitor.clone(), settings.clone());
    let once = Request { max_tries: Some(1), ..read() };
    let ctx = |request| CallContext::new(request, Mono::MAX);
    assert_eq!(path.clone().oneshot(ctx(once)).await.unwrap().status, 500);
    tokio::time::advance(Duration::from_secs(10)).await;
    // The provider's Retry-After of eight seconds is longer than the lease; nothing ticks the breaker meanwhile.
    let end = path.oneshot(ctx(read())).await.unwrap();
    assert_eq!((end.status.as_u16(), end.meta.tries, tried(&log)), (503, 1, 2));
    assert_eq!(monitor.snapshot(&settings).effective, EffectiveState::HalfOpen, "one lost trial is tolerated");
}
