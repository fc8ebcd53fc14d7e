//! The outermost and the innermost word on time.
//!
//! [`Deadline`] fixes, at the entrance, when the call must have ended: whatever comes after (breaker, retries, quota,
//! auth) works within it. [`Cutoff`] sits just inside the breaker and enforces it, so that a call cut off in the middle
//! is an outcome the breaker records, not a call that vanished. What the outcome is depends on where the call stood: see
//! [`Course`].

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tower::Service;

use crate::clock::Clock;
use crate::domain::breaker::{CallClass, Permit};
use crate::domain::time::Mono;
use crate::provider::call::{Answer, CallError, Request};
use crate::provider::clients::Client;
use crate::provider::course::Course;
use crate::provider::settings::Settings;

/// A request that knows when it must have ended.
#[derive(Clone, Debug)]
pub struct Timed {
    /// The request.
    pub request: Request,
    /// When the call must have ended.
    pub deadline: Mono,
    /// Where the caller set the deadline, and not the connection: how long the provider must have had for the deadline to
    /// count against it.
    pub patience: Option<Duration>,
    /// What the breaker let it in with; none above the breaker.
    pub permit: Option<Permit>,
    /// What lower layers tell upper ones about its course.
    pub course: Arc<Course>,
    /// What it goes out by, where that is not the client of the settings: it shows another certificate.
    pub client: Option<Client>,
}

impl Timed {
    /// A request that must have ended at `deadline`.
    pub fn new(request: Request, deadline: Mono) -> Self {
        Self { request, deadline, patience: None, permit: None, course: Arc::default(), client: None }
    }
}

/// What every layer below the deadline is: a service over [`Timed`] requests whose futures own what they need.
pub trait Inner: Service<Timed, Response = Answer, Error = CallError, Future: Future + Send + 'static> {}
impl<S: Service<Timed, Response = Answer, Error = CallError, Future: Send + 'static>> Inner for S {}

/// The future of every layer.
pub type Calling = BoxFuture<'static, Result<Answer, CallError>>;

/// A caller may give a call as little time as it likes, and a circuit is everybody's: three callers in a hurry must not
/// close a provider of 150 ms to all others. So a caller's own deadline counts against the provider only if the last try
/// was with it for this long, or for the connection's own time of a try where that is less: a provider that has not
/// answered within a second has stalled for anyone who has another one to ask. The gateway gives the first of several
/// connections up to one and a half, so that a stall is noticed there too.
const PATIENCE: Duration = Duration::from_secs(1);

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
        let hurried = request.within.filter(|asked| *asked < own);
        // The caller's word counts, shorter or longer; how long one try may take stays the connection's own.
        let deadline = self.clock.mono() + request.within.unwrap_or(own);
        let patience = hurried.map(|_| self.settings.timeouts().request.min(PATIENCE));
        self.inner.call(Timed { patience, ..Timed::new(request, deadline) })
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
        let (clock, deadline, patience) = (self.clock, timed.deadline, timed.patience);
        let course = Arc::clone(&timed.course);
        let call = self.inner.call(timed);
        async move {
            tokio::select! {
                // An answer that is there counts, even if it is there just in time.
                biased;
                end = call => end,
                () = clock.sleep_until(deadline) => course.out_of_time(clock.mono(), patience),
            }
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests;
