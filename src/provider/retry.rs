//! The retry layer: another try, if it is safe and useful, and fits the retry budget and the deadline.
//!
//! Safe: reads, idempotent writes, and any request that provably was not sent. A money call is never retried blindly, a
//! probe is one try. Useful: what the profile classifies as transient, and a rate limit that ends in time. The delay is
//! the longer of backoff and `RetryPolicy-After`, plus jitter, plus the minimum pacing. A delay that does not fit ends
//! the call at once with the result of the last try, without sleeping.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt as _;
use http::{HeaderName, Method};
use tower::{Service, ServiceExt as _};

use crate::domain::breaker::{CallClass, MAX_THROTTLE};
use crate::domain::hash;
use crate::domain::time::Now;
use crate::profile::ResponseClass;
use crate::provider::call::{CallError, ConnectError, Request, Response};
use crate::provider::call_context::{CallContext, CallFuture, CallService};
use crate::provider::monitor::ConnectionMonitor;
use crate::provider::monitor::rate_limit::RetryDenied;
use crate::settings::{RetryPolicy, Settings};

/// Jitter adds at most this fraction of the backoff.
const JITTER: u32 = 4;

/// Makes a write idempotent: the provider processes it once.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Retries failed tries.
#[derive(Clone)]
pub struct RetryService<S> {
    inner: S,
    monitor: Arc<ConnectionMonitor>,
    settings: Arc<Settings>,
}

impl<S> RetryService<S> {
    /// Wraps `inner`.
    pub(crate) fn new(inner: S, monitor: Arc<ConnectionMonitor>, settings: Arc<Settings>) -> Self {
        Self { inner, monitor, settings }
    }
}

impl<S: CallService + Clone + Send + 'static> Service<CallContext> for RetryService<S> {
    type Response = Response;
    type Error = CallError;
    type Future = CallFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, ctx: CallContext) -> CallFuture {
        let max_tries = max_tries(&ctx.request, &self.settings.retry());
        if max_tries <= 1 {
            return self.inner.call(ctx).boxed();
        }
        let (monitor, settings, inner) = (Arc::clone(&self.monitor), Arc::clone(&self.settings), self.inner.clone());
        async move { call_with_retries(&monitor, &settings, inner, ctx, max_tries).await }.boxed()
    }
}

/// The maximum number of tries of a call.
fn max_tries(request: &Request, retry: &RetryPolicy) -> u32 {
    if request.class == CallClass::Probe || retry.budget_percent == 0 {
        return 1;
    }
    let limit = retry.retries.saturating_add(1);
    request.max_tries.map_or(limit, |requested| requested.min(limit))
}

async fn call_with_retries<S>(
    monitor: &ConnectionMonitor,
    settings: &Settings,
    inner: S,
    ctx: CallContext,
    max_tries: u32,
) -> Result<Response, CallError>
where
    S: CallService + Clone + Send + 'static,
{
    let mut tries = 0;
    loop {
        let end = inner.clone().oneshot(ctx.clone()).await;
        // A try that got no quota is not counted: the previous try is the result.
        if end.as_ref().is_err_and(CallError::is_quota_refusal)
            && let Some(previous) = ctx.progress.take_previous()
        {
            return previous;
        }
        tries += 1;
        // No further try is made for callers who have left.
        if tries >= max_tries || ctx.progress.callers.all_left() || !is_retryable(&ctx.request, &end) {
            return with_tries(end, tries);
        }
        let now = monitor.clock().now();
        let Some(delay) = retry_delay(&ctx.request, &settings.retry(), &end, tries, now, rand::random()) else {
            monitor.metrics().retry_denied(settings.provider(), "wait");
            return with_tries(end, tries);
        };
        let at = now.mono + delay;
        if at >= ctx.deadline {
            monitor.metrics().retry_denied(settings.provider(), "deadline");
            return with_tries(end, tries);
        }
        if let Err(denied) = monitor.admit_retry(settings, ctx.permit) {
            let reason = match denied {
                RetryDenied::CircuitOpen => "circuit",
                RetryDenied::BudgetExhausted => "budget",
            };
            monitor.metrics().retry_denied(settings.provider(), reason);
            return with_tries(end, tries);
        }
        // If the deadline ends the call meanwhile, this is its result.
        ctx.progress.store_previous(with_tries(end, tries));
        if !delay.is_zero() {
            monitor.clock().sleep_until(at).await;
            let late = monitor.clock().mono() >= ctx.deadline || ctx.progress.callers.all_left();
            if (late || !monitor.still_admits(ctx.permit))
                && let Some(previous) = ctx.progress.take_previous()
            {
                monitor.metrics().retry_denied(settings.provider(), if late { "deadline" } else { "circuit" });
                return previous;
            }
        }
    }
}

fn with_tries(end: Result<Response, CallError>, tries: u32) -> Result<Response, CallError> {
    end.map(|mut response| {
        response.meta.tries = tries;
        response
    })
}

/// Whether the same request may safely be sent again, and a retry may succeed.
fn is_retryable(request: &Request, end: &Result<Response, CallError>) -> bool {
    match end {
        Ok(response) => match response.classification.class {
            ResponseClass::Retry | ResponseClass::RateLimited => is_idempotent(request),
            // A quota without a known end does not reset within seconds.
            ResponseClass::Quota => response.classification.retry_after.is_some() && is_idempotent(request),
            _ => false,
        },
        // Nothing was sent to the provider. A token endpoint's 4xx is final and has a variant of its own.
        Err(
            CallError::Connect(
                ConnectError::Dns | ConnectError::Refused | ConnectError::Network | ConnectError::TimedOut,
            )
            | CallError::NoToken { .. },
        ) => true,
        Err(
            CallError::Connect(ConnectError::Reset | ConnectError::Tls) | CallError::Timeout | CallError::Malformed,
        ) => is_idempotent(request),
        // A bad certificate stays bad within seconds, and local refusals would be repeated.
        Err(_) => false,
    }
}

/// Whether it is safe for the provider to process the request twice.
fn is_idempotent(request: &Request) -> bool {
    match request.class {
        CallClass::Read => true,
        CallClass::Write => {
            matches!(request.method, Method::GET | Method::HEAD | Method::PUT | Method::DELETE | Method::OPTIONS)
                || request.headers.contains_key(IDEMPOTENCY_KEY)
        }
        CallClass::Money | CallClass::Probe => false,
    }
}

/// The delay after try number `tries`; `None` if it exceeds what the caller accepts.
fn retry_delay(
    request: &Request,
    retry: &RetryPolicy,
    end: &Result<Response, CallError>,
    tries: u32,
    now: Now,
    random: u64,
) -> Option<Duration> {
    let classification = end.as_ref().ok().map(|response| response.classification);
    let requested = classification.and_then(|classification| classification.retry_delay(now.wall));
    let requested = requested.map(|delay| delay.min(MAX_THROTTLE));
    if request.no_wait {
        let limited =
            classification.is_some_and(|c| matches!(c.class, ResponseClass::RateLimited | ResponseClass::Quota));
        return (!limited && requested.is_none()).then_some(Duration::ZERO);
    }
    let backoff = retry.backoff().ceiling(tries.saturating_sub(1));
    let span = u64::try_from((backoff / JITTER).as_nanos()).unwrap_or(u64::MAX);
    let jitter = Duration::from_nanos(hash::scale(span, random));
    let delay = backoff.max(requested.unwrap_or_default()) + jitter + retry.min_pacing;
    (request.max_wait.is_none_or(|longest| delay <= longest)).then_some(delay)
}

#[cfg(test)]
mod tests;
