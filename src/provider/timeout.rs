//! The time-outs of one try: to the head of the answer, between two pieces of its body, and for the whole of it.
//!
//! [`PerTry`] is the layer just above HTTP: what it lets through is with the provider, and it says so to the call's
//! [`Course`](crate::provider::course::Course). The two finer ones are asked for where heads and bodies are read. The
//! time to connect belongs to the client, which alone knows when it connects (see `clients.rs`): it ends a try as
//! `Connect`, because nothing was sent, while everything here ends it as `Timeout`, because something may have been.

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt as _;
use tower::Service;

use crate::clock::Clock;
use crate::provider::call::{Answer, CallError};
use crate::provider::deadline::{Calling, Inner, Timed};

/// Gives each try its time.
#[derive(Clone, Debug)]
pub struct PerTry<S> {
    inner: S,
    clock: Clock,
    limit: Duration,
}

impl<S> PerTry<S> {
    /// Wraps `inner`. `limit` is from the first byte sent to the last byte read.
    pub fn new(inner: S, clock: Clock, limit: Duration) -> Self {
        Self { inner, clock, limit }
    }
}

impl<S: Inner> Service<Timed> for PerTry<S> {
    type Response = Answer;
    type Error = CallError;
    type Future = Calling;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, timed: Timed) -> Calling {
        let now = self.clock.mono();
        let course = Arc::clone(&timed.course);
        // A token that came too late: what is sent now, a payment perhaps, is not waited for.
        if course.waits_for_token() && now >= timed.deadline {
            return std::future::ready(course.out_of_time(now, timed.patience)).boxed();
        }
        let (clock, limit) = (self.clock, self.limit);
        let call = self.inner.call(timed);
        async move {
            course.sent(clock.mono());
            let end = tokio::time::timeout(limit, call).await.unwrap_or(Err(CallError::Timeout));
            course.back();
            end
        }
        .boxed()
    }
}

/// The head of an answer, if it is there within `limit`.
pub(crate) async fn head<T>(limit: Duration, answer: impl Future<Output = T>) -> Result<T, CallError> {
    tokio::time::timeout(limit, answer).await.map_err(|_| CallError::Timeout)
}

/// The next piece of a body, if it comes within `limit`. Each piece has that long, however many there are.
pub(crate) async fn piece<T>(limit: Duration, next: impl Future<Output = T>) -> Result<T, CallError> {
    tokio::time::timeout(limit, next).await.map_err(|_| CallError::Timeout)
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tower::ServiceExt as _;

    use super::*;
    use crate::domain::time::Mono;
    use crate::provider::call::Request;
    use crate::provider::testkit::{answer, below};

    const LIMIT: Duration = Duration::from_secs(30);

    fn timed() -> Timed {
        Timed::new(Request::get("x", "/"), Mono::MAX)
    }

    #[tokio::test(start_paused = true)]
    async fn a_try_ends_at_its_own_time_and_is_with_the_provider_until_then() {
        let clock = Clock::system();
        let (timed, started) = (timed(), clock.mono());
        let course = Arc::clone(&timed.course);
        let end = PerTry::new(below(|_| pending()), clock, LIMIT).oneshot(timed).await;
        assert!(matches!(end, Err(CallError::Timeout)));
        assert_eq!(clock.mono().since(started).as_secs(), 30);
        assert_eq!(course.tried_at().map(|at| at.since(started).as_secs()), Some(0));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_just_in_time_counts_and_the_try_is_back() {
        let clock = Clock::system();
        let just = LIMIT.saturating_sub(Duration::from_millis(1));
        let path = PerTry::new(
            below(move |timed: Timed| async move {
                assert!(!timed.course.waits_for_token(), "it is on its way");
                clock.sleep_until(clock.mono() + just).await;
                Ok(answer(200))
            }),
            clock,
            LIMIT,
        );
        let timed = timed();
        timed.course.ready(true);
        let course = Arc::clone(&timed.course);
        assert_eq!(path.oneshot(timed).await.unwrap().status, 200);
        assert!(course.waits_for_token(), "the next thing wanted may be another token");
    }

    #[tokio::test(start_paused = true)]
    async fn with_a_token_that_came_too_late_nothing_is_sent() {
        let clock = Clock::system();
        let path = PerTry::new(below(|_| async { panic!("sent") }), clock, LIMIT);
        let timed = Timed { deadline: clock.mono(), ..timed() };
        timed.course.ready(true);
        let end = path.oneshot(timed).await.unwrap_err();
        assert!(matches!(end, CallError::NoToken { status: None, .. }) && !end.was_sent(), "{end:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_may_take_long_if_each_piece_comes_in_time() {
        let clock = Clock::system();
        let after = |time| async move { clock.sleep_until(clock.mono() + time).await };
        let stall = Duration::from_secs(10);
        let started = clock.mono();
        for _ in 0..5 {
            assert_eq!(piece(stall, after(stall.saturating_sub(Duration::from_secs(1)))).await, Ok(()));
        }
        assert_eq!(clock.mono().since(started).as_secs(), 45);
        assert_eq!(piece(stall, pending::<()>()).await, Err(CallError::Timeout));
        assert_eq!(clock.mono().since(started).as_secs(), 55);
        assert_eq!(head(stall, after(stall * 2)).await, Err(CallError::Timeout));
        assert_eq!(head(stall, after(stall / 2)).await, Ok(()));
    }
}
