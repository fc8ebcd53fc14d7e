//! The circuit breaker layer: admits once per call and records one outcome per call, after the last try.
//!
//! A rejected call costs nothing: no request is built, no quota is taken. A call whose future is dropped while nothing is
//! in flight has the outcome of its last try; one that is in flight returns its permit without an outcome, because it
//! says nothing about the provider.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt as _;
use tower::{Service, ServiceExt as _};

use crate::domain::breaker::{CallClass, Permit};
use crate::domain::time::Mono;
use crate::provider::call::{CallError, Response};
use crate::provider::call_context::{CallContext, CallFuture, CallService};
use crate::provider::call_progress::CallProgress;
use crate::provider::monitor::{CompletedCall, ConnectionMonitor};
use crate::provider::probe::ProbeRecord;
use crate::settings::Settings;

/// Admits or rejects calls and records their outcomes.
#[derive(Clone)]
pub struct BreakerService<S> {
    inner: S,
    monitor: Arc<ConnectionMonitor>,
    settings: Arc<Settings>,
}

impl<S> BreakerService<S> {
    /// Wraps `inner`.
    pub(crate) fn new(inner: S, monitor: Arc<ConnectionMonitor>, settings: Arc<Settings>) -> Self {
        Self { inner, monitor, settings }
    }
}

impl<S: CallService + Clone + Send + 'static> Service<CallContext> for BreakerService<S> {
    type Response = Response;
    type Error = CallError;
    type Future = CallFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        // The inner services are polled after admission: a rejected call must not wait for them.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut ctx: CallContext) -> CallFuture {
        let (monitor, settings, inner) = (Arc::clone(&self.monitor), Arc::clone(&self.settings), self.inner.clone());
        async move {
            if settings.suspended() && !ctx.request.while_suspended {
                return Err(CallError::Suspended);
            }
            let (class, operation) = (ctx.request.class, Arc::clone(&ctx.request.operation));
            let started = monitor.clock().mono();
            let permit = match monitor.admit(class, started) {
                Ok(permit) => permit,
                Err(refusal) => {
                    monitor.record_refused(&operation);
                    let retry_in = refusal.retry_at.map(|at| at.since(started));
                    return Err(CallError::CircuitOpen { retry_in });
                }
            };
            ctx.permit = Some(permit);
            let (progress, report) = (Arc::clone(&ctx.progress), ctx.request.report.take());
            let guard = PermitGuard {
                monitor: &monitor,
                settings: &settings,
                permit: Some(permit),
                class,
                operation: &operation,
                progress: &progress,
                started,
            };
            let end = inner.oneshot(ctx).await;
            let record = guard.finish(end.as_ref());
            if let (Some(report), Some(record)) = (report, record) {
                report.set(record);
            }
            end
        }
        .boxed()
    }
}

/// Holds the permit of a running call; returns it when dropped.
struct PermitGuard<'a> {
    monitor: &'a ConnectionMonitor,
    settings: &'a Settings,
    permit: Option<Permit>,
    class: CallClass,
    operation: &'a Arc<str>,
    progress: &'a CallProgress,
    started: Mono,
}

impl PermitGuard<'_> {
    /// Records the end of the call; returns what was recorded of a probe.
    fn finish(mut self, end: Result<&Response, &CallError>) -> Option<ProbeRecord> {
        let permit = self.permit.take()?;
        match end {
            Err(error) if self.class == CallClass::Probe && error.is_quota_refusal() => {
                self.monitor.record_skipped(self.settings, permit, self.operation, error);
                None
            }
            Err(CallError::BulkheadFull) => {
                self.monitor.record_bulkhead_full(self.class, permit, self.operation);
                None
            }
            _ => self.record(permit, end),
        }
    }

    fn record(&self, permit: Permit, result: Result<&Response, &CallError>) -> Option<ProbeRecord> {
        let Self { settings, class, operation, progress, started, .. } = *self;
        self.monitor.record(settings, &CompletedCall { permit, class, operation, started, progress, result })
    }
}

impl Drop for PermitGuard<'_> {
    fn drop(&mut self) {
        let Some(permit) = self.permit.take() else { return };
        match self.progress.take_last() {
            Some(last) => drop(self.record(permit, last.as_ref())),
            None => self.monitor.record_abandoned(self.class, permit),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use futures::FutureExt as _;

    use super::*;
    use crate::domain::breaker::EffectiveState;
    use crate::provider::call::Request;
    use crate::provider::testkit::{inner_fn, monitor, response, settings};

    fn context(class: CallClass) -> CallContext {
        CallContext::new(Request { class, ..Request::get("x", "/") }, Mono::MAX)
    }

    fn strict() -> Arc<Settings> {
        settings(|draft| {
            draft.breaker.consecutive_failures = 2;
            draft.breaker.open.base = Duration::from_secs(10);
        })
    }

    #[tokio::test(start_paused = true)]
    async fn open_circuit_fails_fast_and_sends_nothing() {
        let settings = strict();
        let monitor = monitor(&settings);
        let sent = Arc::new(AtomicUsize::new(0));
        let inner = inner_fn({
            let sent = Arc::clone(&sent);
            move |_| {
                sent.fetch_add(1, Ordering::Relaxed);
                async { Ok(response(503)) }
            }
        });
        let path = BreakerService::new(inner, Arc::clone(&monitor), settings.clone());
        for _ in 0..2 {
            assert_eq!(path.clone().oneshot(context(CallClass::Money)).await.unwrap().status, 503);
        }
        assert_eq!(monitor.snapshot(&settings).effective, EffectiveState::Open);
        let refused = path.clone().oneshot(context(CallClass::Read)).now_or_never().unwrap();
        assert_eq!(refused.unwrap_err(), CallError::CircuitOpen { retry_in: Some(Duration::from_secs(10)) });
        assert_eq!(sent.load(Ordering::Relaxed), 2);
        // A probe is never rejected, and while the circuit is open it changes nothing.
        assert_eq!(path.oneshot(context(CallClass::Probe)).await.unwrap().status, 503);
        assert_eq!(monitor.snapshot(&settings).effective, EffectiveState::Open);
    }

    #[tokio::test(start_paused = true)]
    async fn dropped_trial_returns_its_permit() {
        let settings = strict();
        let monitor = monitor(&settings);
        let failing =
            BreakerService::new(inner_fn(|_| async { Ok(response(500)) }), Arc::clone(&monitor), settings.clone());
        for _ in 0..2 {
            let _ = failing.clone().oneshot(context(CallClass::Read)).await;
        }
        tokio::time::advance(Duration::from_secs(10)).await;
        let hanging = BreakerService::new(inner_fn(|_| pending()), Arc::clone(&monitor), settings.clone());
        let mut trial = Box::pin(hanging.oneshot(context(CallClass::Read)));
        assert!((&mut trial).now_or_never().is_none());
        assert_eq!(monitor.snapshot(&settings).effective, EffectiveState::HalfOpen);
        let healthy =
            BreakerService::new(inner_fn(|_| async { Ok(response(200)) }), Arc::clone(&monitor), settings.clone());
        let second = healthy.clone().oneshot(context(CallClass::Read)).await;
        assert!(matches!(second, Err(CallError::CircuitOpen { .. })), "one trial at a time");
        drop(trial);
        assert_eq!(monitor.snapshot(&settings).effective, EffectiveState::HalfOpen, "a dropped call has no outcome");
        assert_eq!(healthy.oneshot(context(CallClass::Read)).await.unwrap().status, 200);
        assert_eq!(monitor.snapshot(&settings).effective, EffectiveState::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn money_call_is_never_the_trial() {
        let settings = strict();
        let monitor = monitor(&settings);
        let path = |status| {
            BreakerService::new(
                inner_fn(move |_| async move { Ok(response(status)) }),
                monitor.clone(),
                settings.clone(),
            )
        };
        for _ in 0..2 {
            let _ = path(500).oneshot(context(CallClass::Money)).await;
        }
        tokio::time::advance(Duration::from_secs(11)).await;
        assert!(matches!(path(200).oneshot(context(CallClass::Money)).await, Err(CallError::CircuitOpen { .. })));
        assert_eq!(path(200).oneshot(context(CallClass::Probe)).await.unwrap().status, 200);
        assert_eq!(path(200).oneshot(context(CallClass::Money)).await.unwrap().status, 200);
    }

    #[tokio::test]
    async fn suspended_connection_sends_nothing() {
        let settings = settings(|draft| draft.suspended = true);
        let path = BreakerService::new(inner_fn(|_| async { Ok(response(200)) }), monitor(&settings), settings);
        assert_eq!(path.clone().oneshot(context(CallClass::Probe)).await.unwrap_err(), CallError::Suspended);
        let mut followed = context(CallClass::Read);
        followed.request.while_suspended = true;
        assert_eq!(path.oneshot(followed).await.unwrap().status, 200, "an inquiry about a payout that is under way");
    }
}
