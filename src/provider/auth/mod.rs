//! Adds the connection's credentials to each try.
//!
//! Values go straight from the Secret into a header marked sensitive or into the URL's query, which no error and no log
//! shows. After a refusal, an access token is fetched again once; a static credential is read from the Secret again,
//! and the request is sent once more if the Secret holds another one by now. The profile decides what counts as a
//! refusal: a 401 may be about one customer's consent, and a refusal may come with status 200.
//!
//! The second request obeys the same rules as any request: it takes quota, respects the provider's rate limit, and is
//! not sent while the circuit is open. If it cannot be sent within the call's time, the refusal is returned.

pub mod access_token_cache;
pub(crate) mod access_token_source;
pub(crate) mod authenticator;
pub(crate) mod credential_cache;
mod escapes;
mod redact;
pub(crate) mod refresh_lock;
pub mod refresh_token_store;
pub mod secret_source;
mod static_credentials;
pub(crate) mod token_endpoint;
pub(crate) mod token_response;

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt as _;
use http::StatusCode;
use tower::{Service, ServiceExt as _};

use crate::domain::breaker::CallClass;
use crate::provider::assessment::{CredentialResult, assess_credentials};
use crate::provider::auth::access_token_cache::{AccessToken, AccessTokenCache};
use crate::provider::auth::authenticator::Authenticator;
use crate::provider::auth::credential_cache::CredentialCache;
use crate::provider::call::{CallError, ConnectError, Request, Response};
use crate::provider::call_context::{CallContext, CallFuture, CallService};
use crate::provider::monitor::ConnectionMonitor;
use crate::provider::quota;
use crate::settings::{Auth, Settings};

/// How long a call waits for the Secret to be read.
const MAX_SECRET_WAIT: Duration = Duration::from_secs(5);

/// Authenticates each try.
#[derive(Clone)]
pub struct AuthService<S> {
    inner: S,
    monitor: Arc<ConnectionMonitor>,
    settings: Arc<Settings>,
    authenticator: Authenticator,
}

impl<S> AuthService<S> {
    /// Wraps `inner`.
    pub(crate) fn new(
        inner: S,
        monitor: Arc<ConnectionMonitor>,
        settings: Arc<Settings>,
        authenticator: Authenticator,
    ) -> Self {
        Self { inner, monitor, settings, authenticator }
    }
}

impl<S: CallService + Clone + Send + 'static> Service<CallContext> for AuthService<S> {
    type Response = Response;
    type Error = CallError;
    type Future = CallFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, ctx: CallContext) -> CallFuture {
        if self.settings.tls().client.is_none() {
            return self.authenticate(ctx);
        }
        self.clone().call_with_certificate(ctx).boxed()
    }
}

impl<S: CallService + Clone + Send + 'static> AuthService<S> {
    fn authenticate(&mut self, mut ctx: CallContext) -> CallFuture {
        let Authenticator { credentials, tokens } = &self.authenticator;
        if let Some(tokens) = tokens {
            return self.clone().call_with_token(Arc::clone(tokens), ctx).boxed();
        }
        if credentials.can_change() {
            return self.clone().call_with_credential(Arc::clone(credentials), ctx).boxed();
        }
        if matches!(self.settings.auth(), Auth::None) {
            return self.inner.call(ctx).boxed();
        }
        let (response, settings) = match static_credentials::apply(self.settings.auth(), &mut ctx.request) {
            Ok(()) => (self.inner.call(ctx), Arc::clone(&self.settings)),
            Err(error) => return std::future::ready(Err(error)).boxed(),
        };
        async move { Ok(redacted(response.await?, &settings, None)) }.boxed()
    }

    /// A refused certificate ends the handshake, so the provider has done nothing, and the call is sent again with the
    /// certificate that the Secret holds by now. Reads only: a reused connection may be refused after the request was
    /// sent.
    async fn call_with_certificate(mut self, mut ctx: CallContext) -> Result<Response, CallError> {
        let credentials = Arc::clone(&self.authenticator.credentials);
        ctx.client = credentials.client();
        let result = self.authenticate(ctx.clone()).await;
        if !matches!(result, Err(CallError::Connect(ConnectError::CertificateRefused))) {
            return result;
        }
        let read = credentials.replacement_for_client(ctx.client.as_ref());
        let replacement = within_secret_wait(&self.monitor, &ctx, read).await;
        let replacement = replacement.filter(|_| matches!(ctx.request.class, CallClass::Probe | CallClass::Read));
        let Some(replacement) = replacement else { return result };
        if !admits_another_request(&self.monitor, &self.settings, &ctx).await {
            return result;
        }
        ctx.client = Some(replacement);
        self.authenticate(ctx).await
    }

    async fn call_with_token(self, tokens: Arc<AccessTokenCache>, ctx: CallContext) -> Result<Response, CallError> {
        let token = tokens.get().await?;
        let response = send_with_token(self.inner.clone(), &self.settings, &token, ctx.clone()).await?;
        if credential_result(&response) != CredentialResult::Refused
            || !tokens.discard_refused(&token)
            || !can_resend(&ctx.request, &response)
        {
            return Ok(response);
        }
        let token = tokens.get().await?;
        if !admits_another_request(&self.monitor, &self.settings, &ctx).await {
            return Ok(response);
        }
        send_with_token(self.inner, &self.settings, &token, ctx).await
    }

    async fn call_with_credential(
        self,
        credentials: Arc<CredentialCache>,
        ctx: CallContext,
    ) -> Result<Response, CallError> {
        let sent = credentials.current();
        let mut first = ctx.clone();
        static_credentials::apply(sent.auth(), &mut first.request)?;
        let response = redacted(self.inner.clone().oneshot(first).await?, &sent, None);
        if credential_result(&response) != CredentialResult::Refused {
            return Ok(response);
        }
        let replacement = within_secret_wait(&self.monitor, &ctx, credentials.replacement_for(&sent)).await;
        let replacement = replacement.filter(|_| can_resend(&ctx.request, &response));
        let Some(replacement) = replacement else { return Ok(response) };
        if !admits_another_request(&self.monitor, &self.settings, &ctx).await {
            return Ok(response);
        }
        let mut second = ctx;
        static_credentials::apply(replacement.auth(), &mut second.request)?;
        Ok(redacted(self.inner.oneshot(second).await?, &replacement, None))
    }
}

/// Sends the request with the token, and records if the provider accepted it.
async fn send_with_token<S: CallService>(
    inner: S,
    settings: &Settings,
    token: &AccessToken,
    mut ctx: CallContext,
) -> Result<Response, CallError> {
    static_credentials::apply_bearer(token.header(), &mut ctx.request)?;
    let response = redacted(inner.oneshot(ctx).await?, settings, Some(token));
    if credential_result(&response) == CredentialResult::Accepted {
        token.mark_accepted();
    }
    Ok(response)
}

/// The result of reading the Secret, or `None` after [`MAX_SECRET_WAIT`] or at the deadline: a call must not hang on a
/// Secret that cannot be read.
async fn within_secret_wait<T>(
    monitor: &ConnectionMonitor,
    ctx: &CallContext,
    read: impl Future<Output = Option<T>>,
) -> Option<T> {
    let clock = monitor.clock();
    let until = ctx.deadline.min(clock.mono() + MAX_SECRET_WAIT);
    tokio::select! {
        biased;
        found = read => found,
        () = clock.sleep_until(until) => None,
    }
}

/// Waits until a second request of the same try may be sent: takes quota, waits out a rate limit. `false` if the
/// circuit opened or the time is up.
async fn admits_another_request(monitor: &ConnectionMonitor, settings: &Settings, ctx: &CallContext) -> bool {
    monitor.still_admits(ctx.permit)
        && quota::acquire(monitor, settings, ctx).await.is_ok()
        && monitor.still_admits(ctx.permit)
}

/// The response without the credentials that were sent.
fn redacted(mut response: Response, settings: &Settings, token: Option<&AccessToken>) -> Response {
    redact::redact(&mut response, settings, token.map(AccessToken::value));
    response
}

/// Whether the provider accepted the credentials. A health check gets no exception here: its 403 does not justify
/// another token.
fn credential_result(response: &Response) -> CredentialResult {
    assess_credentials(response.status.as_u16(), response.classification.class, false)
}

/// Whether a refused request may be sent again with another credential. A 401 means that the provider did nothing, so
/// even money calls may follow; any other refusal is trusted for all but money calls.
fn can_resend(request: &Request, response: &Response) -> bool {
    response.status == StatusCode::UNAUTHORIZED || request.class != CallClass::Money
}

#[cfg(test)]
mod tests;
