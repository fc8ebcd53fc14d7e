//! Adds the connection's credentials to each try.
//!
//! Values go straight from the Secret into a header marked sensitive or into the URL's query, which no error and no log
//! shows. After a refusal, an access token is fetched again once; a static credential is read from the Secret again,
//! and the request is sent once more if the Secret holds another one by now. The profile decides what counts as a
//! refusal: a 401 may be about one customer's consent, and a refusal may come with status 200.
//!
//! The second request obeys the same rules as any request: it takes quota, respects the provider's rate limit, and is
//! not sent while the circuit is open. If it cannot be sent within the call's time, the refusal is returned.
//!
//! Credential and destination are one value (`endpoint_credential`), taken and checked right before each request: a
//! connection that has been moved or deleted while a call waited ends the call, and a rotated credential is used by it.

pub mod access_token;
pub mod access_token_cache;
pub(crate) mod access_token_source;
pub(crate) mod authenticator;
pub(crate) mod client_authentication;
pub(crate) mod credential_cache;
pub(crate) mod credential_id;
pub(crate) mod endpoint_credential;
mod escapes;
mod redact;
pub(crate) mod refresh_lock;
pub mod refresh_token_store;
pub mod secret_source;
mod static_credentials;
mod token_body;
pub(crate) mod token_endpoint;
pub mod token_fault;
pub(crate) mod token_response;

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt as _;
use http::StatusCode;
use tower::{Service, ServiceExt as _};

use crate::domain::breaker::CallClass;
use crate::provider::assessment::{CredentialResult, assess_credentials};
use crate::provider::auth::access_token::AccessToken;
use crate::provider::auth::access_token_cache::AccessTokenCache;
use crate::provider::auth::authenticator::Authenticator;
use crate::provider::auth::endpoint_credential::EndpointCredential;
use crate::provider::call::{CallError, ConnectError, Request, Response, TokenStoreError};
use crate::provider::call_context::{CallContext, CallFuture, CallService};
use crate::provider::monitor::ConnectionMonitor;
use crate::provider::quota;
use crate::settings::{Auth, Settings};

/// How long a call waits for the Secret to be read.
const MAX_SECRET_WAIT: Duration = Duration::from_secs(5);
/// How often a call takes another credential because the one it was about to use was replaced in the same moment.
const MAX_REPLACEMENTS: usize = 4;

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

/// An access token in force, and what it is used with.
struct TokenInUse {
    tokens: Arc<AccessTokenCache>,
    credential: Arc<EndpointCredential>,
    token: Arc<AccessToken>,
}

impl<S: CallService + Clone + Send + 'static> AuthService<S> {
    fn authenticate(&mut self, ctx: CallContext) -> CallFuture {
        if self.authenticator.tokens.is_some() {
            return self.clone().call_with_token(ctx).boxed();
        }
        if self.authenticator.credentials.can_change() {
            return self.clone().call_with_credential(ctx).boxed();
        }
        let (credential, ctx) = match self.authorized(ctx) {
            Ok(authorized) => authorized,
            Err(error) => return std::future::ready(Err(error)).boxed(),
        };
        let response = self.inner.call(ctx);
        if matches!(self.settings.auth(), Auth::None) {
            return response.boxed();
        }
        async move { redacted(response.await?, &credential, None).await }.boxed()
    }

    /// The call with the credential in force at this moment, and that credential. Of a call that was resolved before the
    /// credential was replaced nothing has been sent yet: it takes the new one.
    fn authorized(&self, mut ctx: CallContext) -> Result<(Arc<EndpointCredential>, CallContext), CallError> {
        for _ in 0..MAX_REPLACEMENTS {
            let credential = self.authenticator.latest()?.credentials.current();
            match credential.authorize(&ctx.request, None) {
                // Replaced between these two lines.
                Err(CallError::Superseded) => {}
                outgoing => {
                    ctx.outgoing = Some(outgoing?);
                    return Ok((credential, ctx));
                }
            }
        }
        Err(CallError::Superseded)
    }

    /// A refused certificate ends the handshake, so the provider has done nothing, and the call is sent again with the
    /// certificate that the Secret holds by now. Reads only: a reused connection may be refused after the request was
    /// sent.
    async fn call_with_certificate(mut self, ctx: CallContext) -> Result<Response, CallError> {
        let credentials = self.authenticator.latest()?.credentials;
        let sent = credentials.current();
        let result = self.authenticate(ctx.clone()).await;
        if !matches!(result, Err(CallError::Connect(ConnectError::CertificateRefused))) {
            return result;
        }
        let read = credentials.replacement_for_certificate(&sent);
        let replacement = within_secret_wait(&self.monitor, &ctx, read).await;
        if replacement.is_none() || !matches!(ctx.request.class, CallClass::Probe | CallClass::Read) {
            return result;
        }
        if !admits_another_request(&self.monitor, &self.settings, &ctx).await {
            return result;
        }
        self.authenticate(ctx).await
    }

    async fn call_with_token(self, ctx: CallContext) -> Result<Response, CallError> {
        let used = token_in_use(&self.authenticator, ctx.request.requested).await?;
        let response = send_with_token(self.inner.clone(), &used, &ctx).await?;
        if credential_result(&response) != CredentialResult::Refused
            || !used.tokens.discard_refused(&used.token)
            || !can_resend(&ctx.request, &response)
        {
            return Ok(response);
        }
        token_in_use(&self.authenticator, ctx.request.requested).await?;
        if !admits_another_request(&self.monitor, &self.settings, &ctx).await {
            return Ok(response);
        }
        // Again, because the credential may have been replaced while the request waited for its quota.
        let used = token_in_use(&self.authenticator, ctx.request.requested).await?;
        send_with_token(self.inner, &used, &ctx).await
    }

    async fn call_with_credential(self, ctx: CallContext) -> Result<Response, CallError> {
        let (sent, first) = self.authorized(ctx.clone())?;
        let response = redacted(self.inner.clone().oneshot(first).await?, &sent, None).await?;
        if credential_result(&response) != CredentialResult::Refused {
            return Ok(response);
        }
        let Ok(Authenticator { credentials, .. }) = self.authenticator.latest() else { return Ok(response) };
        let replacement = within_secret_wait(&self.monitor, &ctx, credentials.replacement_for(&sent)).await;
        if replacement.is_none() || !can_resend(&ctx.request, &response) {
            return Ok(response);
        }
        if !admits_another_request(&self.monitor, &self.settings, &ctx).await {
            return Ok(response);
        }
        match self.authorized(ctx) {
            Ok((replacement, second)) => redacted(self.inner.oneshot(second).await?, &replacement, None).await,
            // Moved meanwhile: nothing more is sent to the former endpoint.
            Err(CallError::Superseded) => Ok(response),
            Err(error) => Err(error),
        }
    }
}

/// A valid access token, obtained by the credential in force.
async fn token_in_use(authenticator: &Authenticator, requested: bool) -> Result<TokenInUse, CallError> {
    for _ in 0..MAX_REPLACEMENTS {
        let Authenticator { credentials, tokens, .. } = authenticator.latest()?;
        let tokens = tokens.ok_or(CallError::TokenStore(TokenStoreError::NoKey))?;
        match tokens.get_for(requested).await {
            Ok(token) => {
                let credential = credentials.current();
                if token.is_of(credential.id()) {
                    return Ok(TokenInUse { tokens, credential, token });
                }
            }
            Err(error) if error != CallError::Superseded && credentials.check_in_force().is_ok() => {
                return Err(error);
            }
            // Replaced while the token was fetched.
            Err(_) => {}
        }
    }
    Err(CallError::Superseded)
}

/// Sends the request with the token, and records if the provider accepted it.
async fn send_with_token<S: CallService>(
    inner: S,
    used: &TokenInUse,
    ctx: &CallContext,
) -> Result<Response, CallError> {
    let outgoing = used.credential.authorize(&ctx.request, Some(&used.token))?;
    let ctx = CallContext { outgoing: Some(outgoing), ..ctx.clone() };
    let response = redacted(inner.oneshot(ctx).await?, &used.credential, Some(&used.token)).await?;
    if credential_result(&response) == CredentialResult::Accepted {
        used.token.mark_accepted();
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

/// The response without the credentials that were sent. A large body is searched on a thread for such work.
async fn redacted(
    mut response: Response,
    sent: &Arc<EndpointCredential>,
    token: Option<&Arc<AccessToken>>,
) -> Result<Response, CallError> {
    let (bytes, memory) = (response.body.len(), response.memory.clone());
    let (sent, token) = (Arc::clone(sent), token.cloned());
    let redact = move || {
        redact::redact(&mut response, sent.settings(), token.as_deref().map(AccessToken::value));
        response
    };
    memory.run(bytes, redact).await.map_err(|_| CallError::Malformed)
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
