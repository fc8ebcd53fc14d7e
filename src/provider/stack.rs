//! The layers of the call path, in order.
//!
//! The order, from the outside in: traces cover the whole call; the deadline is set; rights are checked before anything
//! else; a cached response needs nothing further; the breaker admits before anything is spent and records one outcome
//! after the last try; the bulkhead limits the calls in flight; each try waits for quota; credentials are added per try,
//! because a token may change between two tries; the time-out of a try starts last, because none of the waiting is the
//! provider's latency; HTTP is innermost.

use std::sync::Arc;

use tower::ServiceBuilder;

use crate::provider::auth::AuthService;
use crate::provider::auth::authenticator::Authenticator;
use crate::provider::breaker::BreakerService;
use crate::provider::bulkhead::BulkheadService;
use crate::provider::cache::CacheService;
use crate::provider::deadline::{CutoffService, DeadlineService};
use crate::provider::http::HttpService;
use crate::provider::memory::ConnectionMemory;
use crate::provider::monitor::ConnectionMonitor;
use crate::provider::quota::QuotaService;
use crate::provider::retry::RetryService;
use crate::provider::rights::{LicenceMeter, RightsService};
use crate::provider::timeout::TryTimeoutService;
use crate::provider::trace::{TraceService, TryTraceService};
use crate::settings::Settings;

/// The call path of one connection.
pub(crate) type Stack = TraceService<DeadlineService<RightsService<CacheService<Uncached>>>>;
/// The layers of a call that the cache does not answer.
type Uncached = BreakerService<BulkheadService<CutoffService<RetryService<TryTraceService<Try>>>>>;
/// The layers of one try.
type Try = QuotaService<AuthService<TryTimeoutService<HttpService>>>;

/// What the stack of one connection is built from; replaced as a whole when its settings change.
#[derive(Clone)]
pub(crate) struct Pipeline {
    pub(crate) settings: Arc<Settings>,
    pub(crate) authenticator: Authenticator,
    pub(crate) licence_meter: Arc<LicenceMeter>,
    pub(crate) memory: ConnectionMemory,
}

/// Builds the stack.
pub(crate) fn build(monitor: &Arc<ConnectionMonitor>, pipeline: Pipeline) -> Stack {
    let Pipeline { settings, authenticator, licence_meter, memory } = pipeline;
    let (settings, clock) = (&settings, monitor.clock());
    ServiceBuilder::new()
        .layer_fn(|inner| TraceService::new(inner, Arc::clone(monitor), Arc::clone(settings)))
        .layer_fn(|inner| DeadlineService::new(inner, clock, Arc::clone(settings)))
        .layer_fn(|inner| {
            RightsService::new(inner, monitor.key().clone(), Arc::clone(settings), Arc::clone(&licence_meter))
        })
        .layer_fn(|inner| CacheService::new(inner, Arc::clone(monitor), Arc::clone(settings), authenticator.clone()))
        .layer_fn(|inner| BreakerService::new(inner, Arc::clone(monitor), Arc::clone(settings)))
        .layer_fn(|inner| BulkheadService::new(inner, Arc::clone(monitor), Arc::clone(settings)))
        .layer_fn(|inner| CutoffService::new(inner, clock))
        .layer_fn(|inner| RetryService::new(inner, Arc::clone(monitor), Arc::clone(settings)))
        .layer_fn(TryTraceService::new)
        .layer_fn(|inner| QuotaService::new(inner, Arc::clone(monitor), Arc::clone(settings)))
        .layer_fn(|inner| AuthService::new(inner, Arc::clone(monitor), Arc::clone(settings), authenticator.clone()))
        .layer_fn(|inner| TryTimeoutService::new(inner, clock, settings.timeouts().request))
        .service(HttpService::new(Arc::clone(monitor), memory))
}
