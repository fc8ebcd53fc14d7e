//! Settings, monitors and scripted services for the unit tests of the call path.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use tower::Service;

use crate::clock::Clock;
use crate::domain::key::ObjectKey;
use crate::domain::time::Mono;
use crate::metrics::Metrics;
use crate::notify::Topic;
use crate::profile::{Classification, RetryAfter};
use crate::provider::auth::authenticator::{AuthDeps, Authenticator};
use crate::provider::bulkhead_limit::DEFAULT_LIMIT;
use crate::provider::cache_budget::{CacheBudget, MAX_TOTAL};
use crate::provider::call::{CallError, Request, Response, ResponseMeta};
use crate::provider::call_context::{CallContext, CallService};
use crate::provider::call_resources::CallResources;
use crate::provider::http_clients::HttpClients;
use crate::provider::legacy_metrics::LegacyMetrics;
use crate::provider::memory::{MemoryBudget, MemoryLimits, Reservation};
use crate::provider::metrics::ProviderMetrics;
use crate::provider::monitor::ConnectionMonitor;
use crate::provider::restore::Restore;
use crate::settings::{Draft, Settings};
use crate::tasks::TaskGroup;
use crate::telemetry::traces::Traces;

pub(crate) use crate::settings::testkit::draft;

pub(crate) fn settings(change: impl FnOnce(&mut Draft)) -> Arc<Settings> {
    let mut draft = draft();
    change(&mut draft);
    Arc::new(Settings::resolve(draft).unwrap())
}

/// The monitor of a connection with these settings. Needs a tokio runtime.
pub(crate) fn monitor(settings: &Settings) -> Arc<ConnectionMonitor> {
    monitor_with(settings, Arc::default())
}

/// The same, which publishes its changes to `changes`.
pub(crate) fn monitor_with(settings: &Settings, changes: Arc<Topic<ObjectKey>>) -> Arc<ConnectionMonitor> {
    monitor_on(settings, Clock::starting_at("2026-01-01T00:00:00Z".parse().unwrap()), changes)
}

/// The same, on another clock.
pub(crate) fn monitor_on(settings: &Settings, clock: Clock, changes: Arc<Topic<ObjectKey>>) -> Arc<ConnectionMonitor> {
    let series = Arc::new(ProviderMetrics::new(&Metrics::new(), Traces::off(), LegacyMetrics::default()).unwrap());
    let resources = CallResources {
        tasks: TaskGroup::default(),
        bulkhead_limit: DEFAULT_LIMIT.into(),
        cache_budget: Arc::new(CacheBudget::new(MAX_TOTAL, series.cache_bytes().clone())),
        memory: MemoryBudget::new(MemoryLimits::default(), TaskGroup::default(), &Metrics::new()).unwrap(),
    };
    ConnectionMonitor::new(
        ObjectKey::new("ns", "bank"),
        clock,
        changes,
        series,
        resources,
        settings,
        &Restore::default(),
    )
}

/// What authenticates the calls of a connection with these settings, which reads no Secret again.
pub(crate) fn authenticator(settings: &Arc<Settings>, monitor: &Arc<ConnectionMonitor>) -> Authenticator {
    let clients = HttpClients::default();
    Authenticator::new(settings, &AuthDeps { clients: &clients, monitor, refresh_tokens: None, secrets: None })
}

pub(crate) fn response(status: u16) -> Response {
    Response {
        status: StatusCode::from_u16(status).unwrap(),
        headers: HeaderMap::new(),
        body: Bytes::new(),
        elapsed: std::time::Duration::ZERO,
        classification: Classification::of_status(status),
        meta: ResponseMeta::default(),
        memory: Reservation::default(),
    }
}

/// The inner service of the layer under test, as a function.
pub(crate) fn inner_fn<F, Fut>(act: F) -> InnerFn<F>
where
    F: Fn(CallContext) -> Fut,
    Fut: Future<Output = Result<Response, CallError>> + Send + 'static,
{
    InnerFn(act)
}

#[derive(Clone)]
pub(crate) struct InnerFn<F>(F);

impl<F, Fut> Service<CallContext> for InnerFn<F>
where
    F: Fn(CallContext) -> Fut,
    Fut: Future<Output = Result<Response, CallError>> + Send + 'static,
{
    type Response = Response;
    type Error = CallError;
    type Future = Fut;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), CallError>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, ctx: CallContext) -> Fut {
        (self.0)(ctx)
    }
}

/// When a [`scripted`] service was called, since the epoch of the clock.
pub(crate) type CallLog = Arc<std::sync::Mutex<Vec<std::time::Duration>>>;

/// A service that returns the given results in order, the last one forever, and logs when it was called.
pub(crate) fn scripted(
    ends: impl IntoIterator<Item = Result<Response, CallError>>,
) -> (impl CallService + Clone + Send + 'static, CallLog) {
    let (ends, log): (Vec<_>, CallLog) = (ends.into_iter().collect(), Arc::default());
    let (seen, clock) = (Arc::clone(&log), Clock::system());
    let inner = inner_fn(move |_| {
        let mut seen = seen.lock().unwrap();
        seen.push(clock.mono().since(Mono::ZERO));
        let end = ends.get(seen.len() - 1).or(ends.last()).cloned().expect("an end");
        async move { end }
    });
    (inner, log)
}

/// A response with `Retry-After` in seconds.
pub(crate) fn rate_limited(status: u16, seconds: u64) -> Response {
    let mut response = response(status);
    response.classification.retry_after = Some(RetryAfter::Delay(std::time::Duration::from_secs(seconds)));
    response
}

type Act = Arc<dyn Fn(Request) -> futures::future::BoxFuture<'static, Result<Response, CallError>> + Send + Sync>;

/// The inner service of a layer, as a function of the request.
#[derive(Clone)]
pub(crate) struct RequestFn(Act);

/// Builds one.
pub(crate) fn request_fn(
    act: impl Fn(Request) -> futures::future::BoxFuture<'static, Result<Response, CallError>> + Send + Sync + 'static,
) -> RequestFn {
    RequestFn(Arc::new(act))
}

impl Service<CallContext> for RequestFn {
    type Response = Response;
    type Error = CallError;
    type Future = futures::future::BoxFuture<'static, Result<Response, CallError>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), CallError>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, ctx: CallContext) -> Self::Future {
        (self.0)(ctx.request)
    }
}
