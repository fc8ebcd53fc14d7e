//! The cache layer: a fresh response instead of a call, a stale response instead of a failure.
//!
//! It is outside the breaker: a cached response costs no quota and needs no circuit. It applies to
//! reads that request it, on connections that have a cache, and stores only responses that the profile classifies as
//! ok. A stale response is returned when the circuit is open or the call failed, never instead of the provider's own
//! refusal (a 404, a 401), and is marked as stale, with its age. Concurrent calls with the same key share one flight, also
//! while it runs on without its first callers (`run_on`): a provider that hangs gets the same request
//! once, however many callers give up.
//! A response belongs to the credential it was obtained with: it is not cached once that has been replaced, and not
//! returned to a call with another one, also if a connection is changed back to what it was.
//! `Cache-Control` is ignored: the user configured the cache, and data providers send `no-store` for what their own
//! terms allow to cache.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt as _;
use http::HeaderName;
use sha2::{Digest, Sha256};
use tower::{Service, ServiceExt as _};

use crate::domain::breaker::CallClass;
use crate::profile::ResponseClass;
use crate::provider::auth::authenticator::Authenticator;
use crate::provider::auth::credential_id::CredentialId;
use crate::provider::call::{CacheMode, CallError, Request, Response, ResponseMeta};
use crate::provider::call_context::{CallContext, CallFuture, CallService};
use crate::provider::monitor::ConnectionMonitor;
use crate::provider::response_cache::CacheKey;
use crate::provider::run_on::{self, CallerPatience};
use crate::provider::trace;
use crate::settings::{CachePolicy, Settings};

/// Headers that differ between calls and do not change the response. One that is missing here costs a cache miss, never
/// a wrong response.
const PER_CALL_HEADERS: [&str; 6] =
    ["x-request-id", "x-correlation-id", "x-fapi-interaction-id", "traceparent", "tracestate", "idempotency-key"];

/// Returns cached responses and caches new ones.
#[derive(Clone)]
pub struct CacheService<S> {
    inner: S,
    monitor: Arc<ConnectionMonitor>,
    settings: Arc<Settings>,
    authenticator: Authenticator,
}

impl<S> CacheService<S> {
    /// Wraps `inner`.
    pub(crate) fn new(
        inner: S,
        monitor: Arc<ConnectionMonitor>,
        settings: Arc<Settings>,
        authenticator: Authenticator,
    ) -> Self {
        Self { inner, monitor, settings, authenticator }
    }

    /// The cache policy, if a cached response may be returned for this request. Not for a suspended connection.
    fn policy(&self, request: &Request) -> Option<CachePolicy> {
        let cacheable = request.cache == CacheMode::FreshOrStale && request.class == CallClass::Read;
        if cacheable && !self.settings.suspended() { self.settings.cache() } else { None }
    }
}

impl<S: CallService + Clone + Send + 'static> Service<CallContext> for CacheService<S> {
    type Response = Response;
    type Error = CallError;
    type Future = CallFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, ctx: CallContext) -> CallFuture {
        let inner = self.inner.clone();
        let Some((policy, credential)) = self.policy(&ctx.request).zip(self.authenticator.credential()) else {
            return run_on::start(&self.monitor, inner, ctx);
        };
        let authenticator = self.authenticator.clone();
        let (monitor, settings) = (Arc::clone(&self.monitor), Arc::clone(&self.settings));
        let key = key(&settings, credential, &ctx.request);
        if let Some(fresh) = lookup(&monitor, key, Freshness::Fresh, policy) {
            monitor.metrics().cache(settings.provider(), "hit");
            return std::future::ready(Ok(fresh)).boxed();
        }
        async move {
            let flight = flight(key, &ctx.request);
            let (patience, progress) = (CallerPatience::of(&ctx), Arc::clone(&ctx.progress));
            let (call, joined) = monitor.response_cache().join(flight, &progress, || {
                let (monitor, authenticator) = (Arc::clone(&monitor), authenticator.clone());
                // Callers that join later poll it too, but its spans belong to the first caller's trace.
                trace::with_current_span(async move {
                    let end = inner.oneshot(ctx).await;
                    if let Ok(response) = end.as_ref()
                        && authenticator.credential() == Some(credential)
                        && response.classification.class == ResponseClass::Ok
                    {
                        monitor.response_cache().put(key, response.clone(), monitor.clock().mono(), policy.retention());
                    }
                    monitor.response_cache().finish(flight);
                    end
                })
                .boxed()
            });
            let end = run_on::wait(Arc::clone(&monitor), patience, call).await;
            let may_be_stale = failed(end.as_ref()) && authenticator.credential() == Some(credential);
            let stale = if may_be_stale { lookup(&monitor, key, Freshness::StaleAllowed, policy) } else { None };
            let result = match (&stale, joined) {
                (Some(_), _) => "stale",
                (None, true) => "shared",
                (None, false) => "miss",
            };
            monitor.metrics().cache(settings.provider(), result);
            stale.map_or(end, Ok)
        }
        .boxed()
    }
}

/// How old a cached response may be.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Freshness {
    /// Within the TTL: instead of a call.
    Fresh,
    /// Within `maxStale`: instead of a failure.
    StaleAllowed,
}

/// The cached response, if it is fresh enough.
fn lookup(monitor: &ConnectionMonitor, key: CacheKey, required: Freshness, policy: CachePolicy) -> Option<Response> {
    let (at, response) = monitor.response_cache().get(key)?;
    let age = monitor.clock().mono().since(at);
    let fresh = age < policy.ttl;
    let usable = match required {
        Freshness::Fresh => fresh,
        Freshness::StaleAllowed => age <= policy.max_stale,
    };
    usable.then(|| {
        let mut response = Response::clone(&response);
        response.meta = ResponseMeta { cached: true, stale: !fresh, age, tries: 0 };
        response
    })
}

/// Whether the provider, or the path to it, failed, so that a stale response may be returned. Permanent local refusals,
/// and what the provider reports about the request or the credentials, are results, not failures.
///
/// A refresh token that could not be stored and a forbidden address are failures of the path: no one refused the
/// caller. Serving stale is safe here: the cached response came from the same settings (they are part of the key),
/// nothing is sent, rights are checked in an outer layer, and the failure stays visible in the connection's conditions,
/// in the counters and in `stale`.
fn failed(end: Result<&Response, &CallError>) -> bool {
    match end {
        Ok(response) => matches!(
            response.classification.class,
            ResponseClass::Retry | ResponseClass::RateLimited | ResponseClass::Quota
        ),
        Err(error) => matches!(
            error,
            CallError::CircuitOpen { .. }
                | CallError::BulkheadFull
                | CallError::QuotaExhausted { .. }
                | CallError::Throttled { .. }
                | CallError::Timeout
                | CallError::Connect(_)
                | CallError::TooLarge { .. }
                | CallError::TooComplex
                | CallError::Overloaded
                | CallError::Malformed
                | CallError::NoToken { .. }
                | CallError::TokenCircuitOpen { .. }
                | CallError::TokenStore(_)
                | CallError::AddressRefused(_)
        ),
    }
}

/// The cache key: a digest of the connection's revision, the identity of its credential and the request. It contains no
/// credentials: they are added by an inner layer.
fn key(settings: &Settings, credential: CredentialId, request: &Request) -> CacheKey {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update(bytes.len().to_le_bytes());
        hash.update(bytes);
    };
    part(settings.verification_revision().as_bytes());
    part(&credential.number().to_le_bytes());
    part(request.operation.as_bytes());
    part(request.method.as_str().as_bytes());
    part(request.path.as_bytes());
    for (name, value) in &request.query {
        part(name.as_bytes());
        part(value.as_bytes());
    }
    let relevant = |name: &HeaderName| !PER_CALL_HEADERS.contains(&name.as_str());
    for (name, value) in request.headers.iter().filter(|(name, _)| relevant(name)) {
        part(name.as_str().as_bytes());
        part(value.as_bytes());
    }
    part(request.body.as_deref().unwrap_or_default());
    CacheKey::of(&hash.finalize())
}

/// The flight key: the cache key and the call options, because only calls with the same time-outs share a flight.
fn flight(key: CacheKey, request: &Request) -> CacheKey {
    let Request { timeout, max_body, max_tries, no_wait, max_wait, expect_json, .. } = request;
    key.with_options(&format!("{timeout:?}{max_body}{max_tries:?}{no_wait}{max_wait:?}{expect_json}"))
}

#[cfg(test)]
mod tests;
