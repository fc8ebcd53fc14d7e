//! The bulkhead layer: limits the calls of a connection's callers that are in flight at the same time.
//!
//! A provider that hangs holds every call until its time-out. Without a limit of its own, it would hold those of the
//! whole gateway; with one, its callers fail at once and all others are served. A read that runs on after its caller has
//! left (`run_on`) keeps its permit to its end, so a provider never has more calls in flight than the
//! limit. The operator's own calls (probes, syncs) have limits of their own and are not counted here.
//!
//! The layer is just inside the breaker: an open circuit is the better answer. A rejected call is no outcome, and it is
//! never stored for later retries: the caller is asked to come back.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt as _;
use prometheus::IntGauge;
use tower::{Service, ServiceExt as _};

use crate::domain::rights::Caller;
use crate::provider::call::{CallError, Response};
use crate::provider::call_context::{CallContext, CallFuture, CallService};
use crate::provider::monitor::ConnectionMonitor;
use crate::settings::Settings;

/// The permit of one call.
struct BulkheadPermit {
    monitor: Arc<ConnectionMonitor>,
    in_use: IntGauge,
    caller: Arc<Caller>,
}

impl BulkheadPermit {
    fn try_acquire(monitor: &Arc<ConnectionMonitor>, settings: &Settings, caller: &Arc<Caller>) -> Option<Self> {
        if !monitor.bulkhead().try_acquire(&caller.user) {
            monitor.metrics().bulkhead_rejected(settings.provider());
            return None;
        }
        let in_use = monitor.metrics().bulkhead_in_use(settings.provider());
        in_use.inc();
        Some(Self { monitor: Arc::clone(monitor), in_use, caller: Arc::clone(caller) })
    }
}

impl Drop for BulkheadPermit {
    fn drop(&mut self) {
        self.monitor.bulkhead().release(&self.caller.user);
        self.in_use.dec();
    }
}

/// Limits the calls of callers that are in flight.
#[derive(Clone)]
pub struct BulkheadService<S> {
    inner: S,
    monitor: Arc<ConnectionMonitor>,
    settings: Arc<Settings>,
}

impl<S> BulkheadService<S> {
    /// Wraps `inner`.
    pub(crate) fn new(inner: S, monitor: Arc<ConnectionMonitor>, settings: Arc<Settings>) -> Self {
        Self { inner, monitor, settings }
    }
}

impl<S: CallService + Clone + Send + 'static> Service<CallContext> for BulkheadService<S> {
    type Response = Response;
    type Error = CallError;
    type Future = CallFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        // The inner services are polled with a permit: a rejected call must not wait for them.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, ctx: CallContext) -> CallFuture {
        let inner = self.inner.clone();
        let Some(caller) = &ctx.request.caller else { return inner.oneshot(ctx).boxed() };
        let Some(permit) = BulkheadPermit::try_acquire(&self.monitor, &self.settings, caller) else {
            return std::future::ready(Err(CallError::BulkheadFull)).boxed();
        };
        async move {
            let _permit = permit;
            inner.oneshot(ctx).await
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;
    use crate::domain::breaker::EffectiveState;
    use crate::domain::time::Mono;
    use crate::provider::breaker::BreakerService;
    use crate::provider::bulkhead_limit::DEFAULT_LIMIT;
    use crate::provider::call::Request;
    use crate::provider::testkit::{inner_fn, monitor, settings};

    const LIMIT: usize = DEFAULT_LIMIT as usize;

    fn context(user: Option<&str>) -> CallContext {
        let caller = user.map(|user| {
            Arc::new(Caller { user: user.into(), groups: vec![], profile: None, purpose: None, request_id: None })
        });
        CallContext::new(Request { caller, ..Request::get("x", "/") }, Mono::MAX)
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_bulkhead_fails_at_once_and_is_no_outcome() {
        let settings = settings(|draft| draft.breaker.consecutive_failures = 1);
        let monitor = monitor(&settings);
        let hanging = BulkheadService::new(inner_fn(|_| pending()), Arc::clone(&monitor), Arc::clone(&settings));
        let path = BreakerService::new(hanging, Arc::clone(&monitor), Arc::clone(&settings));
        let mut calls: Vec<_> =
            (0..LIMIT).map(|n| Box::pin(path.clone().oneshot(context(Some(&format!("user-{}", n % 2)))))).collect();
        for call in &mut calls {
            assert!(call.now_or_never().is_none());
        }
        assert_eq!(monitor.bulkhead().in_use(), LIMIT);
        let rejected = path.clone().oneshot(context(Some("user-2"))).now_or_never();
        assert_eq!(rejected.unwrap().unwrap_err(), CallError::BulkheadFull);
        assert_eq!(monitor.snapshot(&settings).effective, EffectiveState::Closed);
        let mut own = Box::pin(path.clone().oneshot(context(None)));
        assert!((&mut own).now_or_never().is_none(), "the operator's own calls are not counted");
        drop(calls);
        assert_eq!(monitor.bulkhead().in_use(), 0);
    }
}
