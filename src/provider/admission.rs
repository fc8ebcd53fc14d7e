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
            let guard = Guard { core: &core, settings: &settings, permit: Some(permit), class, started };
            let end = inner.oneshot(timed).await;
            guard.finish(&operation, end.as_ref());
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
    fn finish(mut self, operation: &Arc<str>, end: Result<&Answer, &CallError>) {
        if let Some(permit) = self.permit.take() {
            self.core.finished(self.settings, permit, self.class, operation, self.started, end);
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
