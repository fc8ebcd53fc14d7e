//! The deadline layers: one sets the deadline of a call, one enforces it.
//!
//! [`DeadlineService`] fixes the deadline on entry, before anything is done for the call; the inner layers (rights,
//! breaker, retry, quota, auth) work within it. [`CutoffService`] sits inside the breaker and enforces it, so that a call
//! that is cut off is an outcome the breaker records and does not just disappear. The outcome depends on the phase the
//! call was in: see [`CallProgress`](crate::provider::call_progress::CallProgress). A read for a caller that is in flight
//! at the caller's deadline runs on to the connection's own time-out (`run_on` has answered the caller).

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt as _;
use tower::Service;

use crate::clock::Clock;
use crate::domain::breaker::CallClass;
use crate::provider::call::{CallError, Request, Response};
use crate::provider::call_context::{CallContext, CallFuture, CallService};
use crate::settings::Settings;

/// The minimum time a provider must have had before missing the own deadline of a write's caller counts against it.
///
/// A caller may set any deadline, but the circuit is shared: three callers with very short deadlines must not open it
/// for a provider that responds in 150 ms. Reads run on and have their true end; a write ends with its caller, so it
/// counts against the provider only if the last try was in flight for this long, or for the connection's time-out per
/// try where that is shorter.
const MIN_PROVIDER_TIME: Duration = Duration::from_secs(1);

/// Sets the deadline of each request.
#[derive(Clone, Debug)]
pub struct DeadlineService<S> {
    inner: S,
    clock: Clock,
    settings: Arc<Settings>,
}

impl<S> DeadlineService<S> {
    /// Wraps `inner`.
    pub fn new(inner: S, clock: Clock, settings: Arc<Settings>) -> Self {
        Self { inner, clock, settings }
    }
}

impl<S: CallService> Service<Request> for DeadlineService<S> {
    type Response = Response;
    type Error = CallError;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let default = match request.class {
            CallClass::Probe => self.settings.health_check().timeout,
            CallClass::Read | CallClass::Write | CallClass::Money => self.settings.timeouts().total,
        };
        let now = self.clock.mono();
        // The caller's deadline applies, shorter or longer; the time-out of a single try stays the connection's own.
        let deadline = now + request.timeout.unwrap_or(default);
        let runs_on = request.class == CallClass::Read && request.caller.is_some();
        let run_on_until = runs_on.then(|| deadline.max(now + default));
        let shortened = request.timeout.is_some_and(|requested| requested < default) && !runs_on;
        let min_provider_time = shortened.then(|| self.settings.timeouts().request.min(MIN_PROVIDER_TIME));
        self.inner.call(CallContext { min_provider_time, run_on_until, ..CallContext::new(request, deadline) })
    }
}

/// Ends a call at its deadline.
#[derive(Clone, Debug)]
pub struct CutoffService<S> {
    inner: S,
    clock: Clock,
}

impl<S> CutoffService<S> {
    /// Wraps `inner`.
    pub fn new(inner: S, clock: Clock) -> Self {
        Self { inner, clock }
    }
}

impl<S: CallService> Service<CallContext> for CutoffService<S> {
    type Response = Response;
    type Error = CallError;
    type Future = CallFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, ctx: CallContext) -> CallFuture {
        let CallContext { deadline, min_provider_time, run_on_until, .. } = ctx;
        let (clock, progress) = (self.clock, Arc::clone(&ctx.progress));
        let call = self.inner.call(ctx);
        async move {
            let mut call = pin!(call);
            tokio::select! {
                // A response that is ready at the deadline counts.
                biased;
                end = call.as_mut() => return end,
                () = clock.sleep_until(deadline) => {}
            }
            let Some(until) = run_on_until.filter(|_| progress.is_in_flight()) else {
                return progress.on_deadline(clock.mono(), min_provider_time);
            };
            tokio::select! {
                biased;
                end = call => end,
                () = clock.sleep_until(until) => progress.on_deadline(clock.mono(), None),
            }
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests;
