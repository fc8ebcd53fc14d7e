//! The breaker's layer: asks once per call, records once per call, after the last try.
//!
//! A refused call costs nothing: no request is built, no quota taken. A call whose future is dropped before it ended
//! gives its permit back, because it says nothing about the provider.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt as _;
use tower::{Service, ServiceExt as _};

use crate::domain::breaker::{CallClass, Permit};
use crate::domain::time::Mono;
use crate::provider::call::{Answer, CallError};
use crate::provider::course::Course;
use crate::provider::deadline::{Calling, Inner, Timed};
use crate::provider::observe::Core;
use crate::provider::settings::Settings;

/// Lets a call in, or not, and reports how it ended.
#[derive(Clone)]
pub struct Admission<S> {
    inner: S,
    core: Arc<Core>,
    settings: Arc<Settings>,
}

impl<S> Admission<S> {
    /// Wraps `inner`.
    pub(crate) fn new(inner: S, core: Arc<Core>, settings: Arc<Settings>) -> Self {
        Self { inner, core, settings }
    }
}

impl<S: Inner + Clone + Send + 'static> Service<Timed> for Admission<S> {
    type Response = Answer;
    type Error = CallError;
    type Future = Calling;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        // What is inside is asked after admission: a refused call must not wait for anything.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, timed: Timed) -> Calling {
        let (core, settings, inner) = (Arc::clone(&self.core), Arc::clone(&self.settings), self.inner.clone());
        let mut timed = timed;
        async move {
            if settings.suspended() {
                return Err(CallError::Suspended);
            }
            let (class, operation) = (timed.request.class, Arc::clone(&timed.request.operation));
            let started = core.clock().mono();
            let permit = match core.admit(class, started) {
                Ok(permit) => permit,
                Err(refusal) => {
                    core.refused(&settings, &operation);
                    let retry_in = refusal.retry_at.map(|at| at.since(started));
                    return Err(CallError::CircuitOpen { retry_in });
                }
            };
            timed.permit = Some(permit);
            let course = Arc::clone(&timed.course);
            let guard = Guard { core: &core, settings: &settings, permit: Some(permit), class, started };
            let end = inner.oneshot(timed).await;
            guard.finish(&operation, &course, end.as_ref());
            end
        }
        .boxed()
    }
}

/// Holds a permit while its call runs.
struct Guard<'a> {
    core: &'a Core,
    settings: &'a Settings,
    permit: Option<Permit>,
    class: CallClass,
    started: Mono,
}

impl Guard<'_> {
    fn finish(mut self, operation: &Arc<str>, course: &Course, end: Result<&Answer, &CallError>) {
        let Some(permit) = self.permit.take() else { return };
        match end {
            Err(error) if self.class == CallClass::Probe && error.is_held_back() => {
                self.core.skipped(self.settings, permit, operation, error);
            }
            _ => {
                let course = (self.started, course);
                self.core.finished(self.settings, permit, self.class, operation, course, end);
            }
        }
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            self.core.abandoned(permit);
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
    use crate::domain::breaker::Effective;
    use crate::provider::call::Request;
    use crate::provider::testkit::{answer, below, core, settings};

    fn timed(class: CallClass) -> Timed {
        Timed::new(Request { class, ..Request::get("x", "/") }, Mono::MAX)
    }

    fn strict() -> Arc<Settings> {
        settings(|draft| {
            draft.breaker.consecutive_failures = 2;
            draft.breaker.open.base = Duration::from_secs(10);
        })
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_circuit_refuses_at_once_and_sends_nothing() {
        let settings = strict();
        let core = core(&settings);
        let sent = Arc::new(AtomicUsize::new(0));
        let inner = below({
            let sent = Arc::clone(&sent);
            move |_| {
                sent.fetch_add(1, Ordering::Relaxed);
                async { Ok(answer(503)) }
            }
        });
        let path = Admission::new(inner, Arc::clone(&core), settings.clone());
        for _ in 0..2 {
            assert_eq!(path.clone().oneshot(timed(CallClass::Money)).await.unwrap().status, 503);
        }
        assert_eq!(core.observed(&settings).effective, Effective::Open);
        let refused = path.clone().oneshot(timed(CallClass::Read)).now_or_never().unwrap();
        assert_eq!(refused.unwrap_err(), CallError::CircuitOpen { retry_in: Some(Duration::from_secs(10)) });
        assert_eq!(sent.load(Ordering::Relaxed), 2);
        // A probe is never refused, and while the circuit is open it changes nothing.
        assert_eq!(path.oneshot(timed(CallClass::Probe)).await.unwrap().status, 503);
        assert_eq!(core.observed(&settings).effective, Effective::Open);
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_trial_gives_its_permit_back() {
        let settings = strict();
        let core = core(&settings);
        let failing = Admission::new(below(|_| async { Ok(answer(500)) }), Arc::clone(&core), settings.clone());
        for _ in 0..2 {
            let _ = failing.clone().oneshot(timed(CallClass::Read)).await;
        }
        tokio::time::advance(Duration::from_secs(10)).await;
        let hanging = Admission::new(below(|_| pending()), Arc::clone(&core), settings.clone());
        let mut trial = Box::pin(hanging.oneshot(timed(CallClass::Read)));
        assert!((&mut trial).now_or_never().is_none());
        assert_eq!(core.observed(&settings).effective, Effective::HalfOpen);
        let well = Admission::new(below(|_| async { Ok(answer(200)) }), Arc::clone(&core), settings.clone());
        let second = well.clone().oneshot(timed(CallClass::Read)).await;
        assert!(matches!(second, Err(CallError::CircuitOpen { .. })), "one trial at a time");
        drop(trial);
        assert_eq!(core.observed(&settings).effective, Effective::HalfOpen, "a dropped call says nothing");
        assert_eq!(well.oneshot(timed(CallClass::Read)).await.unwrap().status, 200);
        assert_eq!(core.observed(&settings).effective, Effective::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn money_is_never_the_trial() {
        let settings = strict();
        let core = core(&settings);
        let path =
            |status| Admission::new(below(move |_| async move { Ok(answer(status)) }), core.clone(), settings.clone());
        for _ in 0..2 {
            let _ = path(500).oneshot(timed(CallClass::Money)).await;
        }
        tokio::time::advance(Duration::from_secs(11)).await;
        assert!(matches!(path(200).oneshot(timed(CallClass::Money)).await, Err(CallError::CircuitOpen { .. })));
        assert_eq!(path(200).oneshot(timed(CallClass::Probe)).await.unwrap().status, 200);
        assert_eq!(path(200).oneshot(timed(CallClass::Money)).await.unwrap().status, 200);
    }

    #[tokio::test]
    async fn a_suspended_connection_sends_nothing() {
        let settings = settings(|draft| draft.suspended = true);
        let path = Admission::new(below(|_| async { Ok(answer(200)) }), core(&settings), settings);
        assert_eq!(path.oneshot(timed(CallClass::Probe)).await.unwrap_err(), CallError::Suspended);
    }
}
