//! The quota's layer: each try takes a turn in every limit that applies, or waits for one, or ends the call.
//!
//! It waits only for what fits into the call's time: a wait that does not is told at once, with how long it would be. A
//! probe never waits; while there is no turn it is skipped. A 429 pauses the whole connection, not one request, because
//! requests that go on beside a refused one are what gets keys banned; only where the profile says that the provider spoke
//! of one partition is that one closed, and the others go on.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt as _;
use tower::{Service, ServiceExt as _};

use crate::domain::breaker::CallClass;
use crate::domain::quota::Place;
use crate::domain::spread;
use crate::domain::time::Mono;
use crate::provider::call::{Answer, CallError, Request};
use crate::provider::deadline::{Calling, Inner, Timed};
use crate::provider::observe::{Core, Held};
use crate::provider::settings::Settings;

/// Callers that waited for a pause to end come back over this long, not all at once.
const SCATTER: Duration = Duration::from_millis(500);

/// Makes each try wait for its turn.
#[derive(Clone)]
pub struct Turn<S> {
    inner: S,
    core: Arc<Core>,
    settings: Arc<Settings>,
}

impl<S> Turn<S> {
    /// Wraps `inner`.
    pub(crate) fn new(inner: S, core: Arc<Core>, settings: Arc<Settings>) -> Self {
        Self { inner, core, settings }
    }
}

impl<S: Inner + Clone + Send + 'static> Service<Timed> for Turn<S> {
    type Response = Answer;
    type Error = CallError;
    type Future = Calling;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, timed: Timed) -> Calling {
        let (core, settings, inner) = (Arc::clone(&self.core), Arc::clone(&self.settings), self.inner.clone());
        async move {
            timed.course.queue();
            turn(&core, &settings, &timed).await?;
            timed.course.ready(settings.auth().token_url().is_some());
            let (operation, partition) = (Arc::clone(&timed.request.operation), timed.request.partition.clone());
            let end = inner.oneshot(timed).await;
            if let Ok(answer) = &end {
                core.heard(&settings, (&operation, partition.as_deref()), answer.reading);
            }
            end
        }
        .boxed()
    }
}

/// Waits for a turn.
pub(crate) async fn turn(core: &Core, settings: &Settings, timed: &Timed) -> Result<(), CallError> {
    let began = core.clock().mono();
    let latest = latest(&timed.request, timed.deadline, began);
    let mut place: Option<Waiting<'_>> = None;
    let end = loop {
        let held = match core.take_turn(settings, &timed.request, place.is_some(), latest) {
            Ok(()) => break Ok(()),
            Err(held) => held,
        };
        let now = core.clock().mono();
        let at = match held {
            Held::Paused(at) if at >= latest => break Err(CallError::Throttled { retry_in: at.since(now) }),
            Held::Closed(at) if at >= latest => break Err(CallError::QuotaExhausted { retry_in: at.since(now) }),
            Held::Paused(at) | Held::Closed(at) => {
                let scattered = at + scatter(at.since(now));
                if scattered < latest { scattered } else { at }
            }
            Held::Full(later) if later.at >= latest => {
                break Err(CallError::QuotaExhausted { retry_in: later.at.since(now) });
            }
            Held::Full(later) => {
                place = Some(Waiting { core, place: later.place });
                later.at
            }
        };
        core.clock().sleep_until(at).await;
        // Slept too long: a turn that is taken now is wasted, and what is sent now is not waited for.
        let now = core.clock().mono();
        if now >= timed.deadline {
            break Err(match held {
                Held::Paused(at) => CallError::Throttled { retry_in: at.since(now) },
                Held::Closed(at) => CallError::QuotaExhausted { retry_in: at.since(now) },
                Held::Full(later) => CallError::QuotaExhausted { retry_in: later.at.since(now) },
            });
        }
    };
    drop(place);
    let waited = core.clock().mono().since(began);
    if settings.quota().is_some() || !waited.is_zero() {
        core.series().quota_wait(settings.provider(), waited);
    }
    end
}

/// Until when a turn must have come.
fn latest(request: &Request, deadline: Mono, now: Mono) -> Mono {
    if request.class == CallClass::Probe || request.no_wait {
        return now;
    }
    request.max_wait.map_or(deadline, |longest| deadline.min(now + longest))
}

/// Some of a tenth of the pause, at most [`SCATTER`]: waiting grows longer by it, never shorter.
fn scatter(pause: Duration) -> Duration {
    let span = (pause / 10).min(SCATTER);
    Duration::from_nanos(spread::scale(u64::try_from(span.as_nanos()).unwrap_or(0), rand::random()))
}

/// A place among those who wait; given up however the waiting ends.
struct Waiting<'a> {
    core: &'a Core,
    place: Place,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.core.leave(self.place);
    }
}

#[cfg(test)]
mod tests;
