//! The time-outs of one try: until the response head, between two body chunks, and for the whole try.
//!
//! [`TryTimeoutService`] is the layer just above HTTP. It marks the call as in flight in its
//! [`CallProgress`]. The two finer time-outs are applied where heads and
//! bodies are read. The connect time-out belongs to the HTTP client (see `http_clients.rs`): it ends a try as
//! `Connect`, because nothing was sent; the time-outs here end it as `Timeout`, because something may have been sent.

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt as _;
use tower::Service;

use crate::clock::Clock;
use crate::provider::call::{CallError, Response};
use crate::provider::call_context::{CallContext, CallFuture, CallService};
use crate::provider::call_progress::CallProgress;

/// Limits the time of each try.
#[derive(Clone, Debug)]
pub struct TryTimeoutService<S> {
    inner: S,
    clock: Clock,
    limit: Duration,
}

impl<S> TryTimeoutService<S> {
    /// Wraps `inner`. `limit` is the time from the first byte sent to the last byte read.
    pub fn new(inner: S, clock: Clock, limit: Duration) -> Self {
        Self { inner, clock, limit }
    }
}

impl<S: CallService> Service<CallContext> for TryTimeoutService<S> {
    type Response = Response;
    type Error = CallError;
    type Future = CallFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, ctx: CallContext) -> CallFuture {
        let now = self.clock.mono();
        let progress = Arc::clone(&ctx.progress);
        // The token came too late: nothing would wait for the result of a request sent now, perhaps a payment.
        if progress.is_awaiting_token() && now >= ctx.deadline {
            return std::future::ready(progress.on_deadline(now, ctx.min_provider_time)).boxed();
        }
        let (clock, limit) = (self.clock, self.limit);
        let call = self.inner.call(ctx);
        async move {
            progress.on_sent(clock.mono());
            let end = within(limit, &progress, clock, call).await;
            progress.on_try_ended();
            end
        }
        .boxed()
    }
}

/// Awaits the end of a try for at most `limit`, not counting what it waits for our own memory and threads.
async fn within(
    limit: Duration,
    progress: &CallProgress,
    clock: Clock,
    call: impl Future<Output = Result<Response, CallError>>,
) -> Result<Response, CallError> {
    let mut call = std::pin::pin!(call);
    let (sent, waited_before) = (clock.mono(), progress.capacity_wait());
    let mut waited = Duration::ZERO;
    loop {
        let timed_out = tokio::select! {
            biased;
            end = &mut call => return end,
            () = clock.sleep_until(sent + limit + waited) => progress.capacity_wait().saturating_sub(waited_before),
        };
        if progress.is_awaiting_capacity() {
            return Err(CallError::Overloaded);
        }
        if timed_out <= waited {
            return Err(CallError::Timeout);
        }
        waited = timed_out;
    }
}

/// Awaits the response head for at most `limit`.
pub(crate) async fn head<T>(limit: Duration, response: impl Future<Output = T>) -> Result<T, CallError> {
    tokio::time::timeout(limit, response).await.map_err(|_| CallError::Timeout)
}

/// Awaits the next body chunk for at most `limit`. Each chunk has that long, no matter how many there are.
pub(crate) async fn chunk<T>(limit: Duration, next: impl Future<Output = T>) -> Result<T, CallError> {
    tokio::time::timeout(limit, next).await.map_err(|_| CallError::Timeout)
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tower::ServiceExt as _;

    use super::*;
    use crate::domain::time::Mono;
    use crate::provider::call::Request;
    use crate::provider::testkit::{inner_fn, response};

    const LIMIT: Duration = Duration::from_secs(30);

    fn context() -> CallContext {
        CallContext::new(Request::get("x", "/"), Mono::MAX)
    }

    #[tokio::test(start_paused = true)]
    async fn try_ends_at_its_timeout_and_is_in_flight_until_then() {
        let clock = Clock::system();
        let (ctx, started) = (context(), clock.mono());
        let progress = Arc::clone(&ctx.progress);
        let end = TryTimeoutService::new(inner_fn(|_| pending()), clock, LIMIT).oneshot(ctx).await;
        assert!(matches!(end, Err(CallError::Timeout)));
        assert_eq!(clock.mono().since(started).as_secs(), 30);
        assert_eq!(progress.sent_at().map(|at| at.since(started).as_secs()), Some(0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_for_our_own_memory_prolongs_the_try_and_is_never_its_timeout() {
        let clock = Clock::system();
        let wait = Duration::from_secs(4);
        let path = |granted: bool| {
            let inner = inner_fn(move |ctx: CallContext| async move {
                ctx.progress.on_capacity_wait();
                clock.sleep_until(clock.mono() + if granted { wait } else { LIMIT * 2 }).await;
                ctx.progress.on_capacity_granted(wait);
                clock.sleep_until(clock.mono() + LIMIT - Duration::from_secs(1)).await;
                Ok(response(200))
            });
            TryTimeoutService::new(inner, clock, LIMIT).oneshot(context())
        };
        assert_eq!(path(true).await.unwrap().status, 200);
        assert_eq!(path(false).await.unwrap_err(), CallError::Overloaded);
    }

    #[tokio::test(start_paused = true)]
    async fn response_within_the_timeout_counts_and_ends_the_try() {
        let clock = Clock::system();
        let just = LIMIT.saturating_sub(Duration::from_millis(1));
        let path = TryTimeoutService::new(
            inner_fn(move |ctx: CallContext| async move {
                assert!(!ctx.progress.is_awaiting_token(), "it is in flight");
                clock.sleep_until(clock.mono() + just).await;
                Ok(response(200))
            }),
            clock,
            LIMIT,
        );
        let ctx = context();
        ctx.progress.on_quota_granted(true);
        let progress = Arc::clone(&ctx.progress);
        assert_eq!(path.oneshot(ctx).await.unwrap().status, 200);
        assert!(progress.is_awaiting_token(), "the next wait may be for another token");
    }

    #[tokio::test(start_paused = true)]
    async fn token_after_the_deadline_sends_nothing() {
        let clock = Clock::system();
        let path = TryTimeoutService::new(inner_fn(|_| async { panic!("sent") }), clock, LIMIT);
        let ctx = CallContext { deadline: clock.mono(), ..context() };
        ctx.progress.on_quota_granted(true);
        let end = path.oneshot(ctx).await.unwrap_err();
        assert!(matches!(end, CallError::NoToken { status: None, .. }) && !end.was_sent(), "{end:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn body_may_take_long_if_each_chunk_is_in_time() {
        let clock = Clock::system();
        let after = |time| async move { clock.sleep_until(clock.mono() + time).await };
        let stall = Duration::from_secs(10);
        let started = clock.mono();
        for _ in 0..5 {
            assert_eq!(chunk(stall, after(stall.saturating_sub(Duration::from_secs(1)))).await, Ok(()));
        }
        assert_eq!(clock.mono().since(started).as_secs(), 45);
        assert_eq!(chunk(stall, pending::<()>()).await, Err(CallError::Timeout));
        assert_eq!(clock.mono().since(started).as_secs(), 55);
        assert_eq!(head(stall, after(stall * 2)).await, Err(CallError::Timeout));
        assert_eq!(head(stall, after(stall / 2)).await, Ok(()));
    }
}
