//! The outermost and the innermost word on time.
//!
//! [`Deadline`] fixes, at the entrance, when the call must have ended: whatever comes after (breaker, retries, quota,
//! auth) works within it. [`Cutoff`] sits just inside the breaker and enforces it, so that a call cut off in the middle
//! is an outcome the breaker records, not a call that vanished.

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tower::Service;

use crate::clock::Clock;
use crate::domain::breaker::CallClass;
use crate::domain::time::Mono;
use crate::provider::call::{Answer, CallError, Request};
use crate::provider::settings::Settings;

/// A request that knows when it must have ended.
#[derive(Clone, Debug)]
pub struct Timed {
    /// The request.
    pub request: Request,
    /// When the call must have ended.
    pub deadline: Mono,
}

/// What every layer below the deadline is: a service over [`Timed`] requests whose futures own what they need.
pub trait Inner: Service<Timed, Response = Answer, Error = CallError, Future: Future + Send + 'static> {}
impl<S: Service<Timed, Response = Answer, Error = CallError, Future: Send + 'static>> Inner for S {}

/// The future of every layer.
pub type Calling = BoxFuture<'static, Result<Answer, CallError>>;

/// Stamps each request with its deadline.
#[derive(Clone, Debug)]
pub struct Deadline<S> {
    inner: S,
    clock: Clock,
    settings: Arc<Settings>,
}

impl<S> Deadline<S> {
    /// Wraps `inner`.
    pub fn new(inner: S, clock: Clock, settings: Arc<Settings>) -> Self {
        Self { inner, clock, settings }
    }
}

impl<S: Inner> Service<Request> for Deadline<S> {
    type Response = Answer;
    type Error = CallError;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let own = match request.class {
            CallClass::Probe => self.settings.health_check().timeout,
            CallClass::Read | CallClass::Write | CallClass::Money => self.settings.timeouts().total,
        };
        let within = request.within.map_or(own, |asked| asked.min(own));
        let deadline = self.clock.mono() + within;
        self.inner.call(Timed { request, deadline })
    }
}

/// Ends a call at its deadline.
#[derive(Clone, Debug)]
pub struct Cutoff<S> {
    inner: S,
    clock: Clock,
}

impl<S> Cutoff<S> {
    /// Wraps `inner`.
    pub fn new(inner: S, clock: Clock) -> Self {
        Self { inner, clock }
    }
}

impl<S: Inner> Service<Timed> for Cutoff<S> {
    type Response = Answer;
    type Error = CallError;
    type Future = Calling;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, timed: Timed) -> Calling {
        let (clock, deadline) = (self.clock, timed.deadline);
        let call = self.inner.call(timed);
        async move {
            tokio::select! {
                // An answer that is there counts, even if it is there just in time.
                biased;
                end = call => end,
                () = clock.sleep_until(deadline) => Err(CallError::Timeout),
            }
        }
        .boxed()
    }
}
