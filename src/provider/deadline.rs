//! The outermost and the innermost word on time.
//!
//! [`Deadline`] fixes, at the entrance, when the call must have ended: whatever comes after (breaker, retries, quota,
//! auth) works within it. [`Cutoff`] sits just inside the breaker and enforces it, so that a call cut off in the middle
//! is an outcome the breaker records, not a call that vanished.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tower::Service;

use crate::clock::Clock;
use crate::domain::breaker::{CallClass, Permit};
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
    /// What the breaker let it in with; none above the breaker.
    pub permit: Option<Permit>,
    /// What lower layers tell upper ones about its course.
    pub course: Arc<Course>,
}

impl Timed {
    /// A request that must have ended at `deadline`.
    pub fn new(request: Request, deadline: Mono) -> Self {
        Self { request, deadline, permit: None, course: Arc::default() }
    }
}

/// The course of one call, shared by its tries.
#[derive(Debug, Default)]
pub struct Course {
    /// When its last try began, in nanoseconds of the clock; 0 before the first.
    tried_at: AtomicU64,
}

impl Course {
    /// A try begins: its turn has come.
    pub(crate) fn begin(&self, now: Mono) {
        self.tried_at.store(now.nanos(), Ordering::Relaxed);
    }

    /// When the last try began. Waiting for a turn, or between two tries, is not the provider's slowness.
    pub(crate) fn tried_at(&self) -> Option<Mono> {
        Some(self.tried_at.load(Ordering::Relaxed)).filter(|at| *at > 0).map(Mono::from_nanos)
    }
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
        // The caller's word counts, shorter or longer; how long one try may take stays the connection's own.
        let deadline = self.clock.mono() + request.within.unwrap_or(own);
        self.inner.call(Timed::new(request, deadline))
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

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::time::Duration;

    use tower::ServiceExt as _;

    use super::*;
    use crate::provider::testkit::{answer, below, settings};

    #[tokio::test(start_paused = true)]
    async fn a_call_ends_at_its_total_or_when_its_caller_says_and_a_probe_at_its_checks_timeout() {
        let settings = settings(|draft| {
            draft.timeouts.total = Duration::from_mins(1);
            draft.health_check.timeout = Duration::from_secs(5);
        });
        let clock = Clock::system();
        let path = Deadline::new(Cutoff::new(below(|_| pending()), clock), clock, settings);
        for (request, seconds) in [
            (Request::get("x", "/"), 60),
            (Request::probe("/"), 5),
            (Request { within: Some(Duration::from_secs(3)), ..Request::get("x", "/") }, 3),
            (Request { within: Some(Duration::from_mins(10)), ..Request::get("x", "/") }, 600),
        ] {
            let started = clock.mono();
            let end = path.clone().oneshot(request).await;
            assert!(matches!(end, Err(CallError::Timeout)));
            let took = clock.mono().since(started);
            assert_eq!(took.as_secs(), seconds, "{took:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_there_at_the_deadline_counts() {
        let clock = Clock::system();
        let path = Cutoff::new(below(|_| async { Ok(answer(200)) }), clock);
        let timed = Timed::new(Request::get("x", "/"), clock.mono());
        assert_eq!(path.oneshot(timed).await.unwrap().status, 200);
    }
}
