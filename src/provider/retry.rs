//! The retry's layer: another try, where that is safe, of use, within the budget and within the call's time.
//!
//! Safe: reads, writes that may be repeated, and whatever provably never left. Money is never tried again blindly, a probe
//! is one try. Of use: what the profile calls a passing trouble, and a limit that is renewed in time. A wait is the
//! back-off or the provider's own wish, whichever is longer, then jitter, which only adds, then the pacing sleep. A wait
//! that does not fit ends the call at once with what the last try said: nothing is slept for nothing.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt as _;
use http::{HeaderName, Method};
use tower::{Service, ServiceExt as _};

use crate::domain::breaker::{CallClass, MAX_THROTTLE};
use crate::domain::spread;
use crate::domain::time::Now;
use crate::provider::call::{Answer, CallError, ConnectProblem, Request};
use crate::provider::classify::Class;
use crate::provider::deadline::{Calling, Inner, Timed};
use crate::provider::observe::{Core, Denied};
use crate::provider::settings::{Retry, Settings};

/// Jitter adds at most this part of the back-off.
const JITTER: u32 = 4;

/// Makes a write repeatable: the provider promises to do it once.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Tries again.
#[derive(Clone)]
pub struct Again<S> {
    inner: S,
    core: Arc<Core>,
    settings: Arc<Settings>,
}

impl<S> Again<S> {
    /// Wraps `inner`.
    pub(crate) fn new(inner: S, core: Arc<Core>, settings: Arc<Settings>) -> Self {
        Self { inner, core, settings }
    }
}

impl<S: Inner + Clone + Send + 'static> Service<Timed> for Again<S> {
    type Response = Answer;
    type Error = CallError;
    type Future = Calling;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, timed: Timed) -> Calling {
        let tries = tries(&timed.request, &self.settings.retry());
        if tries <= 1 {
            return self.inner.call(timed).boxed();
        }
        let (core, settings, inner) = (Arc::clone(&self.core), Arc::clone(&self.settings), self.inner.clone());
        async move { again(&core, &settings, inner, timed, tries).await }.boxed()
    }
}

/// How often the call may be tried.
fn tries(request: &Request, retry: &Retry) -> u32 {
    if request.class == CallClass::Probe || retry.budget_percent == 0 {
        return 1;
    }
    let own = retry.retries.saturating_add(1);
    request.tries.map_or(own, |asked| asked.min(own))
}

async fn again<S>(core: &Core, settings: &Settings, inner: S, timed: Timed, most: u32) -> Result<Answer, CallError>
where
    S: Inner + Clone + Send + 'static,
{
    let mut tries = 0;
    loop {
        let end = inner.clone().oneshot(timed.clone()).await;
        // A try that had no turn is none: what the provider said before is the end.
        if end.as_ref().is_err_and(CallError::is_held_back)
            && let Some(said) = timed.course.take()
        {
            return said;
        }
        tries += 1;
        if tries >= most || !worth_it(&timed.request, &end) {
            return told(end, tries);
        }
        let now = core.clock().now();
        let Some(wait) = wait(&timed.request, &settings.retry(), &end, tries, now, rand::random()) else {
            core.series().no_retry(settings.provider(), "wait");
            return told(end, tries);
        };
        let at = now.mono + wait;
        if at >= timed.deadline {
            core.series().no_retry(settings.provider(), "deadline");
            return told(end, tries);
        }
        if let Err(denied) = core.retry(settings, timed.permit) {
            let why = match denied {
                Denied::Circuit => "circuit",
                Denied::Budget => "budget",
            };
            core.series().no_retry(settings.provider(), why);
            return told(end, tries);
        }
        // Whoever ends the call meanwhile ends it with this.
        timed.course.keep(told(end, tries));
        if !wait.is_zero() {
            core.clock().sleep_until(at).await;
            let late = core.clock().mono() >= timed.deadline;
            if (late || !core.still_admits(timed.permit))
                && let Some(said) = timed.course.take()
            {
                core.series().no_retry(settings.provider(), if late { "deadline" } else { "circuit" });
                return said;
            }
        }
    }
}

fn told(end: Result<Answer, CallError>, tries: u32) -> Result<Answer, CallError> {
    end.map(|mut answer| {
        answer.meta.tries = tries;
        answer
    })
}

/// Whether the same request may be sent again, and might end otherwise.
fn worth_it(request: &Request, end: &Result<Answer, CallError>) -> bool {
    match end {
        Ok(answer) => match answer.reading.class {
            Class::Retry | Class::RateLimited => repeatable(request),
            // A quota that nobody knows the end of is not over in a second.
            Class::Quota => answer.reading.wait.is_some() && repeatable(request),
            _ => false,
        },
        // Nothing went to the provider. A token endpoint's 4xx is final, and told as such.
        Err(
            CallError::Connect(
                ConnectProblem::Name | ConnectProblem::Refused | ConnectProblem::Network | ConnectProblem::TimedOut,
            )
            | CallError::NoToken { .. },
        ) => true,
        Err(
            CallError::Connect(ConnectProblem::Reset | ConnectProblem::Tls) | CallError::Timeout | CallError::Malformed,
        ) => repeatable(request),
        // A certificate does not get better within seconds, and what we refused ourselves we refuse again.
        Err(_) => false,
    }
}

/// Whether it does no harm if the provider does it twice.
fn repeatable(request: &Request) -> bool {
    match request.class {
        CallClass::Read => true,
        CallClass::Write => {
            matches!(request.method, Method::GET | Method::HEAD | Method::PUT | Method::DELETE | Method::OPTIONS)
                || request.headers.contains_key(IDEMPOTENCY_KEY)
        }
        CallClass::Money | CallClass::Probe => false,
    }
}

/// How long to wait after try number `tries`; none if the caller does not wait so long.
fn wait(
    request: &Request,
    retry: &Retry,
    end: &Result<Answer, CallError>,
    tries: u32,
    now: Now,
    random: u64,
) -> Option<Duration> {
    let reading = end.as_ref().ok().map(|answer| answer.reading);
    let asked = reading.and_then(|reading| reading.asked(now.wall)).map(|asked| asked.min(MAX_THROTTLE));
    if request.no_wait {
        let paced = reading.is_some_and(|reading| matches!(reading.class, Class::RateLimited | Class::Quota));
        return (!paced && asked.is_none()).then_some(Duration::ZERO);
    }
    let step = retry.backoff().ceiling(tries.saturating_sub(1));
    let span = u64::try_from((step / JITTER).as_nanos()).unwrap_or(u64::MAX);
    let jitter = Duration::from_nanos(spread::scale(span, random));
    let wait = step.max(asked.unwrap_or_default()) + jitter + retry.min_pacing;
    (request.max_wait.is_none_or(|longest| wait <= longest)).then_some(wait)
}

#[cfg(test)]
mod tests;
