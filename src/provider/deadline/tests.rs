use std::future::pending;
use std::time::Duration;

use tower::ServiceExt as _;

use super::*;
use crate::domain::breaker::EffectiveState;
use crate::provider::breaker::BreakerService;
use crate::provider::monitor::ConnectionMonitor;
use crate::provider::quota::QuotaService;
use crate::provider::testkit::{inner_fn, monitor, response, settings};
use crate::provider::timeout::TryTimeoutService;
use crate::settings::Draft;
use crate::settings::ErrorClass;

#[tokio::test(start_paused = true)]
async fn call_ends_at_total_timeout_and_probe_at_health_check_timeout() {
    let settings = settings(|draft| {
        draft.timeouts.total = Duration::from_mins(1);
        draft.health_check.timeout = Duration::from_secs(5);
    });
    let clock = Clock::system();
    let path = DeadlineService::new(CutoffService::new(inner_fn(|_| pending()), clock), clock, settings);
    for (request, seconds) in [
        (Request::get("x", "/"), 60),
        (Request::probe("/"), 5),
        (Request { timeout: Some(Duration::from_secs(3)), ..Request::get("x", "/") }, 3),
        (Request { timeout: Some(Duration::from_mins(10)), ..Request::get("x", "/") }, 600),
    ] {
        let started = clock.mono();
        let end = path.clone().oneshot(request).await;
        assert!(matches!(end, Err(CallError::Timeout)));
        let took = clock.mono().since(started);
        assert_eq!(took.as_secs(), seconds, "{took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn response_that_is_ready_at_the_deadline_counts() {
    let clock = Clock::system();
    let path = CutoffService::new(inner_fn(|_| async { Ok(response(200)) }), clock);
    let ctx = CallContext::new(Request::get("x", "/"), clock.mono());
    assert_eq!(path.oneshot(ctx).await.unwrap().status, 200);
}

/// The stack from the deadline to a scripted provider, without retries; waiting for a token takes `token`.
struct Harness {
    monitor: Arc<ConnectionMonitor>,
    settings: Arc<Settings>,
}

impl Harness {
    fn new(change: impl FnOnce(&mut Draft)) -> Self {
        let settings = settings(|draft| {
            draft.breaker.consecutive_failures = 3;
            change(draft);
        });
        Self { monitor: monitor(&settings), settings }
    }

    async fn call(&self, request: Request, token: Duration, provider: Duration) -> Result<u16, CallError> {
        let (monitor, settings) = (Arc::clone(&self.monitor), Arc::clone(&self.settings));
        let clock = monitor.clock();
        let sleep = move |time| async move { clock.sleep_until(clock.mono() + time).await };
        let limit = settings.timeouts().request;
        let auth = inner_fn(move |ctx: CallContext| {
            ctx.progress.on_quota_granted(!token.is_zero());
            let http = inner_fn(move |_| async move {
                sleep(provider).await;
                Ok(response(200))
            });
            async move {
                sleep(token).await;
                TryTimeoutService::new(http, clock, limit).oneshot(ctx).await
            }
        });
        let quota = QuotaService::new(auth, Arc::clone(&monitor), Arc::clone(&settings));
        let inner = BreakerService::new(CutoffService::new(quota, clock), monitor, Arc::clone(&settings));
        DeadlineService::new(inner, clock, settings).oneshot(request).await.map(|response| response.status.as_u16())
    }

    fn short_deadline(millis: u64) -> Request {
        Request { timeout: Some(Duration::from_millis(millis)), ..Request::get("x", "/") }
    }

    fn effective(&self) -> EffectiveState {
        self.monitor.snapshot(&self.settings).effective
    }
}

const NONE: Duration = Duration::ZERO;
const LONG: Duration = Duration::from_mins(5);

#[tokio::test(start_paused = true)]
async fn cutoff_while_awaiting_a_token_says_nothing_about_the_provider() {
    let harness = Harness::new(|_| {});
    for class in [CallClass::Read, CallClass::Money, CallClass::Probe, CallClass::Read] {
        let end = harness.call(Request { class, ..Request::get("x", "/") }, LONG, NONE).await.unwrap_err();
        assert_eq!(end, CallError::NoToken { status: None, class: ErrorClass::Timeout });
        assert!(!end.was_sent() && end.is_token_unavailable(), "{class:?}");
    }
    assert_eq!(harness.effective(), EffectiveState::Closed);
    // A time-out at the provider counts, and so does the check that failed, of the three in a row that open the circuit.
    for _ in 0..2 {
        assert_eq!(harness.call(Request::get("x", "/"), Duration::from_secs(1), LONG).await, Err(CallError::Timeout));
    }
    assert_eq!(harness.effective(), EffectiveState::Open);
}

#[tokio::test(start_paused = true)]
async fn token_wait_is_not_provider_latency() {
    let harness = Harness::new(|draft| draft.health_check.timeout = Duration::from_secs(10));
    let second = Duration::from_secs(1);
    assert!(harness.call(Request::probe("/"), second * 5, second).await.is_ok());
    let probe = harness.monitor.snapshot(&harness.settings).last_probe.unwrap();
    assert_eq!((probe.success, probe.elapsed.as_secs()), (true, 1));
}

#[tokio::test(start_paused = true)]
async fn short_caller_deadlines_do_not_open_the_circuit() {
    let harness = Harness::new(|_| {});
    for _ in 0..20 {
        let end = harness.call(Harness::short_deadline(100), NONE, Duration::from_millis(150)).await;
        assert_eq!(end, Err(CallError::Timeout), "the caller gets the time-out");
    }
    assert_eq!(harness.effective(), EffectiveState::Closed);
    // Nor does time that is not the provider's.
    for _ in 0..20 {
        let end =
            harness.call(Harness::short_deadline(1500), Duration::from_millis(1400), Duration::from_millis(150)).await;
        assert_eq!(end, Err(CallError::Timeout));
    }
    assert_eq!(harness.effective(), EffectiveState::Closed);
    assert!(harness.call(Request::get("x", "/"), NONE, Duration::from_millis(150)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn stall_of_the_first_of_several_connections_counts() {
    // Half of the gateway's three seconds.
    let harness = Harness::new(|_| {});
    for _ in 0..3 {
        assert_eq!(harness.call(Harness::short_deadline(1500), NONE, LONG).await, Err(CallError::Timeout));
    }
    assert_eq!(harness.effective(), EffectiveState::Open);
    // If the time-out of a try is below one second, it applies.
    let harness = Harness::new(|draft| draft.timeouts.request = Duration::from_millis(300));
    for _ in 0..3 {
        assert_eq!(harness.call(Harness::short_deadline(350), NONE, LONG).await, Err(CallError::Timeout));
    }
    assert_eq!(harness.effective(), EffectiveState::Open);
}
