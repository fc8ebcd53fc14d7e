//! The cache's layer: a fresh answer instead of a call, a stale one instead of a failure.
//!
//! It sits above the deadline and the breaker: a kept answer costs no quota and needs no circuit. Only reads that ask for
//! it, on connections that have a cache, only answers that the profile calls good. A stale answer is given when the
//! circuit is open or the call failed, never instead of the provider's own no (a 404, a 401), and says that it is stale
//! and how old. Callers of one question share one call. `Cache-Control` is not looked at: whoever configures a cache
//! wants it, and data providers forbid what their own terms allow.

mod kept;

use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt as _;
use http::HeaderName;
use sha2::{Digest, Sha256};
use tower::{Service, ServiceExt as _};

use crate::domain::breaker::CallClass;
use crate::provider::call::{Answer, CacheUse, CallError, Meta, Request};
use crate::provider::classify::Class;
use crate::provider::deadline::Calling;
use crate::provider::observe::Core;
use crate::provider::settings::{CachePolicy, Settings};
use crate::provider::trace;

pub(crate) use kept::{Kept, Key};

/// Headers that are another one for each call and change nothing in the answer. One that is missing here costs a miss,
/// never a wrong answer.
const PER_CALL: [&str; 6] =
    ["x-request-id", "x-correlation-id", "x-fapi-interaction-id", "traceparent", "tracestate", "idempotency-key"];

/// Keeps answers.
#[derive(Clone)]
pub struct Cached<S> {
    inner: S,
    core: Arc<Core>,
    settings: Arc<Settings>,
}

impl<S> Cached<S> {
    /// Wraps `inner`.
    pub(crate) fn new(inner: S, core: Arc<Core>, settings: Arc<Settings>) -> Self {
        Self { inner, core, settings }
    }

    /// The policy, if a kept answer will do for this request. A suspended connection answers `suspended`.
    fn policy(&self, request: &Request) -> Option<CachePolicy> {
        let wanted = request.cache == CacheUse::FreshOrStale && request.class == CallClass::Read;
        if wanted && !self.settings.suspended() { self.settings.cache() } else { None }
    }
}

impl<S> Service<Request> for Cached<S>
where
    S: Service<Request, Response = Answer, Error = CallError, Future: Send + 'static> + Clone + Send + 'static,
{
    type Response = Answer;
    type Error = CallError;
    type Future = Calling;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Calling {
        let inner = self.inner.clone();
        let Some(policy) = self.policy(&request) else { return inner.oneshot(request).boxed() };
        let (core, settings) = (Arc::clone(&self.core), Arc::clone(&self.settings));
        let key = key(&settings, &request);
        if let Some(fresh) = look(&core, key, Use::Fresh, policy) {
            core.series().cache(settings.provider(), "hit");
            return std::future::ready(Ok(fresh)).boxed();
        }
        async move {
            let flight = flight(key, &request);
            let (call, joined) = core.kept().join(flight, || {
                let core = Arc::clone(&core);
                // Whoever joins later polls it too: its tries stay the first caller's.
                trace::carried(async move {
                    let end = inner.oneshot(request).await;
                    if let Ok(answer) = end.as_ref()
                        && answer.reading.class == Class::Ok
                    {
                        core.kept().put(key, answer.clone(), core.clock().mono(), policy.keep());
                    }
                    core.kept().landed(flight);
                    end
                })
                .boxed()
            });
            let end = call.await;
            let stale = if failed(end.as_ref()) { look(&core, key, Use::Stale, policy) } else { None };
            let result = match (&stale, joined) {
                (Some(_), _) => "stale",
                (None, true) => "shared",
                (None, false) => "miss",
            };
            core.series().cache(settings.provider(), result);
            stale.map_or(end, Ok)
        }
        .boxed()
    }
}

/// What a kept answer is wanted for.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Use {
    /// Instead of a call.
    Fresh,
    /// Instead of a failure.
    Stale,
}

/// The kept answer, if it is young enough.
fn look(core: &Core, key: Key, wanted: Use, policy: CachePolicy) -> Option<Answer> {
    let (at, answer) = core.kept().get(key)?;
    let age = core.clock().mono().since(at);
    let fresh = age < policy.ttl;
    let usable = match wanted {
        Use::Fresh => fresh,
        Use::Stale => age <= policy.max_stale,
    };
    usable.then(|| {
        let mut answer = Answer::clone(&answer);
        answer.meta = Meta { cached: true, stale: !fresh, age, tries: 0 };
        answer
    })
}

/// Whether the provider, or the way to it, failed. What we refuse ourselves for good, and what the provider says of the
/// request or the credentials, is an answer.
///
/// A refresh token that cannot be kept, and an address that we do not connect to, are failures on the way: nobody has said
/// no to the caller. It is safe: the kept answer came from these very settings (the key names them) while all was well,
/// giving it sends nothing to anybody, the rights were asked above, and the failure itself stays in sight: in the
/// connection's conditions, in the counters, in `stale`.
fn failed(end: Result<&Answer, &CallError>) -> bool {
    match end {
        Ok(answer) => matches!(answer.reading.class, Class::Retry | Class::RateLimited | Class::Quota),
        Err(error) => matches!(
            error,
            CallError::CircuitOpen { .. }
                | CallError::QuotaExhausted { .. }
                | CallError::Throttled { .. }
                | CallError::Timeout
                | CallError::Connect(_)
                | CallError::TooLarge { .. }
                | CallError::Malformed
                | CallError::NoToken { .. }
                | CallError::TokenCircuitOpen { .. }
                | CallError::NotKept(_)
                | CallError::Refused(_)
        ),
    }
}

/// Names the question: whom is asked, and what. No credential is in it, they are put on below; and a digest of it is
/// all that is kept.
fn key(settings: &Settings, request: &Request) -> Key {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update(bytes.len().to_le_bytes());
        hash.update(bytes);
    };
    part(settings.verdict_revision().as_bytes());
    part(request.operation.as_bytes());
    part(request.method.as_str().as_bytes());
    part(request.path.as_bytes());
    for (name, value) in &request.query {
        part(name.as_bytes());
        part(value.as_bytes());
    }
    let tells = |name: &HeaderName| !PER_CALL.contains(&name.as_str());
    for (name, value) in request.headers.iter().filter(|(name, _)| tells(name)) {
        part(name.as_str().as_bytes());
        part(value.as_bytes());
    }
    part(request.body.as_deref().unwrap_or_default());
    Key::of(&hash.finalize())
}

/// Names the manner as well: only callers with the same patience share a call.
fn flight(key: Key, request: &Request) -> Key {
    let Request { within, max_body, tries, no_wait, max_wait, json, .. } = request;
    key.and(&format!("{within:?}{max_body}{tries:?}{no_wait}{max_wait:?}{json}"))
}

#[cfg(test)]
mod tests;
