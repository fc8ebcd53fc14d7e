use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::{BoxFuture, join_all};

use super::*;
use crate::domain::breaker::{CallClass, EffectiveState};
use crate::domain::rights::Caller;
use crate::provider::auth::authenticator::Authenticator;
use crate::provider::breaker::BreakerService;
use crate::provider::bulkhead::BulkheadService;
use crate::provider::bulkhead_limit;
use crate::provider::cache::CacheService;
use crate::provider::call::{CacheMode, Request};
use crate::provider::deadline::{CutoffService, DeadlineService};
use crate::provider::retry::RetryService;
use crate::provider::testkit::{authenticator, inner_fn, monitor, response, settings};
use crate::provider::timeout::TryTimeoutService;
use crate::settings::{CachePolicy, Draft, Settings};

type End = Result<Response, CallError>;

const LIMIT: usize = bulkhead_limit::DEFAULT_LIMIT as usize;
const SECOND: Duration = Duration::from_secs(1);
/// The deadline of a hasty caller.
const HASTE: Duration = Duration::from_millis(100);

/// The stack without rights, quota and HTTP, over a provider that takes some time and responds with a status.
struct Harness {
    monitor: Arc<ConnectionMonitor>,
    settings: Arc<Settings>,
    authenticator: Authenticator,
    sent: Arc<AtomicUsize>,
    provider: Arc<Mutex<(Duration, u16)>>,
}

impl Harness {
    fn new(takes: Duration, status: u16, change: impl FnOnce(&mut Draft)) -> Self {
        let settings = settings(|draft| {
            draft.breaker.consecutive_failures = 3;
            draft.timeouts.request = SECOND * 30;
            draft.timeouts.total = SECOND * 60;
            change(draft);
        });
        let (monitor, provider) = (monitor(&settings), Arc::new(Mutex::new((takes, status))));
        let authenticator = authenticator(&settings, &monitor);
        Self { monitor, settings, authenticator, sent: Arc::default(), provider }
    }

    fn call(&self, request: Request) -> BoxFuture<'static, End> {
        let (monitor, settings, clock) = (&self.monitor, &self.settings, self.monitor.clock());
        let (sent, provider) = (Arc::clone(&self.sent), Arc::clone(&self.provider));
        let http = inner_fn(move |_| {
            sent.fetch_add(1, Ordering::Relaxed);
            let (takes, status) = *provider.lock().unwrap();
            async move {
                tokio::time::sleep(takes).await;
                Ok(response(status))
            }
        });
        let tries = TryTimeoutService::new(http, clock, settings.timeouts().request);
        let retries = RetryService::new(tries, Arc::clone(monitor), Arc::clone(settings));
        let cutoff = CutoffService::new(retries, clock);
        let bulkhead = BulkheadService::new(cutoff, Arc::clone(monitor), Arc::clone(settings));
        let breaker = BreakerService::new(bulkhead, Arc::clone(monitor), Arc::clone(settings));
        let cache = CacheService::new(breaker, Arc::clone(monitor), Arc::clone(settings), self.authenticator.clone());
        DeadlineService::new(cache, clock, Arc::clone(settings)).oneshot(request).boxed()
    }

    /// Calls and leaves before the end.
    async fn hang_up(&self, request: Request) {
        assert!(tokio::time::timeout(HASTE, self.call(request)).await.is_err());
    }

    fn outcomes(&self) -> Vec<(&'static str, u64)> {
        self.monitor.lock().counts.outcomes()
    }

    fn circuit(&self) -> EffectiveState {
        self.monitor.snapshot(&self.settings).effective
    }

    fn sent(&self) -> usize {
        self.sent.load(Ordering::Relaxed)
    }
}

/// A read of `user`.
fn read(user: &str) -> Request {
    let caller = Caller { user: user.into(), groups: vec![], profile: None, purpose: None, request_id: None };
    Request { caller: Some(Arc::new(caller)), ..Request::get("x", "/") }
}

/// A read whose caller waits for a tenth of a second.
fn hasty(user: &str) -> Request {
    Request { timeout: Some(HASTE), ..read(user) }
}

#[tokio::test(start_paused = true)]
async fn a_hundred_callers_who_leave_early_do_not_open_a_healthy_circuit() {
    let harness = Harness::new(SECOND * 5, 200, |_| {});
    for n in 0..50 {
        assert_eq!(harness.call(hasty("ann")).await.unwrap_err(), CallError::Timeout, "{n}");
        harness.hang_up(read("bob")).await;
    }
    assert_eq!(harness.circuit(), EffectiveState::Closed);
    tokio::time::sleep(SECOND * 6).await;
    assert_eq!(harness.circuit(), EffectiveState::Closed);
    assert_eq!(harness.outcomes(), [("success", 100)], "each is counted once, with its own end");
    assert_eq!(harness.sent(), 100);
    assert!(harness.monitor.tasks().is_empty() && harness.monitor.bulkhead().in_use() == 0);
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_hangs_opens_its_circuit_although_every_caller_leaves() {
    let harness = Harness::new(SECOND * 600, 200, |_| {});
    for _ in 0..3 {
        harness.hang_up(read("ann")).await;
        let _ = harness.call(hasty("bob")).await;
    }
    assert_eq!(harness.circuit(), EffectiveState::Closed, "nothing is known yet");
    assert_eq!(harness.monitor.metrics().run_on_reads().get(), 6);
    tokio::time::sleep(SECOND * 30).await;
    assert_eq!(harness.circuit(), EffectiveState::Open);
    assert_eq!(harness.outcomes(), [("failure", 6)]);
    assert_eq!(harness.monitor.metrics().run_on_reads().get(), 0);
}

#[tokio::test(start_paused = true)]
async fn reads_that_run_on_are_bounded_by_the_bulkhead() {
    let harness = Harness::new(SECOND * 600, 200, |_| {});
    let users = ["ann", "bob", "eve"];
    let calls = (0..LIMIT * 2).map(|n| harness.call(hasty(users[n % users.len()])));
    let ends = join_all(calls).await;
    let rejected = ends.iter().filter(|end| matches!(end, Err(CallError::BulkheadFull))).count();
    assert_eq!((rejected, harness.sent()), (LIMIT, LIMIT));
    assert_eq!(harness.monitor.tasks().len(), LIMIT);
    let probe = Request { class: CallClass::Probe, ..Request::get("probe", "/") };
    *harness.provider.lock().unwrap() = (Duration::ZERO, 200);
    assert!(harness.call(probe).await.is_ok(), "the operator's own calls are not affected");
    tokio::time::sleep(SECOND * 30).await;
    assert_eq!((harness.monitor.bulkhead().in_use(), harness.monitor.tasks().len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_shutdown_ends_what_runs_on_without_an_outcome() {
    let harness = Harness::new(SECOND * 600, 200, |_| {});
    for _ in 0..5 {
        harness.hang_up(read("ann")).await;
    }
    let began = harness.monitor.clock().mono();
    assert!(harness.monitor.tasks().drain(SECOND * 10).await.is_empty());
    assert!(harness.monitor.clock().mono().since(began) < SECOND, "it does not wait for the provider");
    assert_eq!((harness.outcomes(), harness.monitor.bulkhead().in_use()), (vec![], 0));
}

#[tokio::test(start_paused = true)]
async fn no_further_try_is_made_for_a_caller_who_has_left() {
    let harness = Harness::new(SECOND, 503, |draft| draft.retry.retries = 3);
    harness.hang_up(read("ann")).await;
    tokio::time::sleep(SECOND * 60).await;
    assert_eq!((harness.sent(), harness.outcomes()), (1, vec![("failure", 1)]));
    // Between two tries the end of the last one is known.
    let between = tokio::time::timeout(SECOND * 3 / 2, harness.call(read("ann"))).await;
    assert!(between.is_err());
    tokio::time::sleep(SECOND * 60).await;
    assert_eq!((harness.sent(), harness.outcomes()), (2, vec![("failure", 2)]));
    assert!(harness.monitor.tasks().is_empty());
}

#[tokio::test(start_paused = true)]
async fn writes_and_the_operators_own_calls_end_with_their_caller() {
    let harness = Harness::new(SECOND * 600, 200, |_| {});
    for class in [CallClass::Write, CallClass::Money] {
        harness.hang_up(Request { class, ..read("ann") }).await;
    }
    harness.hang_up(Request::get("x", "/")).await;
    assert_eq!((harness.monitor.tasks().len(), harness.monitor.bulkhead().in_use()), (0, 0));
    assert_eq!((harness.sent(), harness.outcomes()), (3, vec![]), "unknown is not failed");
}

#[tokio::test(start_paused = true)]
async fn callers_of_the_same_request_share_the_call_that_runs_on() {
    let cache = CachePolicy { ttl: SECOND * 15, max_stale: SECOND * 60 };
    let harness = Harness::new(SECOND * 5, 200, |draft| draft.cache = Some(cache));
    let same = || Request { cache: CacheMode::FreshOrStale, ..hasty("ann") };
    for _ in 0..20 {
        assert_eq!(harness.call(same()).await.unwrap_err(), CallError::Timeout);
    }
    assert_eq!((harness.sent(), harness.monitor.tasks().len()), (1, 1));
    tokio::time::sleep(SECOND * 5).await;
    let cached = harness.call(same()).await.unwrap();
    assert!(cached.meta.cached, "what came too late for them is cached");
    assert_eq!((harness.sent(), harness.outcomes()), (1, vec![("success", 1)]));
}

#[tokio::test(start_paused = true)]
async fn a_caller_with_a_stale_answer_gets_it_at_its_deadline() {
    let cache = CachePolicy { ttl: Duration::ZERO, max_stale: SECOND * 600 };
    let harness = Harness::new(Duration::ZERO, 200, |draft| draft.cache = Some(cache));
    let same = || Request { cache: CacheMode::FreshOrStale, ..hasty("ann") };
    assert!(harness.call(same()).await.is_ok());
    *harness.provider.lock().unwrap() = (SECOND * 600, 200);
    let stale = harness.call(same()).await.unwrap();
    assert!(stale.meta.stale);
    assert_eq!(harness.monitor.tasks().len(), 1);
}
