//! Puts a connection's credentials on each try.
//!
//! Values go straight from the Secret into a header marked sensitive, or into the query of the URL, which no error and
//! no log ever shows. A fetched token that is refused is fetched anew once, and then the call gives up. What is refused
//! the profile knows: a 401 may be about one customer's consent, and a refusal may come with 200.
//!
//! The request that a new token is worth is a request like any other: it waits for its turn in the quota and keeps to the
//! pause that the provider asked for, and it is not made once the circuit is open. If it has no turn in the call's time,
//! the refusal is the answer.

pub(crate) mod fetch;
pub(crate) mod source;
pub mod tokens;
pub mod vault;

use std::sync::Arc;
use std::task::{Context, Poll};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::FutureExt as _;
use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use tower::{Service, ServiceExt as _};
use zeroize::Zeroizing;

use crate::domain::breaker::CallClass;
use crate::provider::auth::fetch::{Fetch, Grant};
use crate::provider::auth::source::{Rotation, Source};
use crate::provider::auth::tokens::{Token, Tokens};
use crate::provider::auth::vault::{Safe, SecretSource, Vault};
use crate::provider::call::{Answer, CallError, KeepProblem, Request};
use crate::provider::classify::{Credentials, credentials};
use crate::provider::clients::Clients;
use crate::provider::deadline::{Calling, Inner, Timed};
use crate::provider::observe::Core;
use crate::provider::quota;
use crate::provider::settings::{Auth, DEFAULT_REFRESH_BEFORE, Placement, Settings, TokenClient};

/// Authenticates each try.
#[derive(Clone)]
pub struct Authenticate<S> {
    inner: S,
    core: Arc<Core>,
    settings: Arc<Settings>,
    tokens: Option<Arc<Tokens>>,
}

impl<S> Authenticate<S> {
    /// Wraps `inner`. `tokens` is where tokens come from, if the settings want any.
    pub(crate) fn new(inner: S, core: Arc<Core>, settings: Arc<Settings>, tokens: Option<Arc<Tokens>>) -> Self {
        Self { inner, core, settings, tokens }
    }
}

impl<S: Inner + Clone + Send + 'static> Service<Timed> for Authenticate<S> {
    type Response = Answer;
    type Error = CallError;
    type Future = Calling;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut timed: Timed) -> Calling {
        if let Some(tokens) = &self.tokens {
            let (core, settings) = (Arc::clone(&self.core), Arc::clone(&self.settings));
            return with_token(self.inner.clone(), core, settings, Arc::clone(tokens), timed).boxed();
        }
        match apply(self.settings.auth(), &mut timed.request) {
            Ok(()) => self.inner.call(timed).boxed(),
            Err(error) => std::future::ready(Err(error)).boxed(),
        }
    }
}

async fn with_token<S>(
    inner: S,
    core: Arc<Core>,
    settings: Arc<Settings>,
    tokens: Arc<Tokens>,
    timed: Timed,
) -> Result<Answer, CallError>
where
    S: Inner + Clone + Send + 'static,
{
    let token = tokens.get().await?;
    let answer = inner.clone().oneshot(bearing(&token, timed.clone())?).await?;
    match said(&answer) {
        Credentials::Accepted => token.accepted(),
        Credentials::Silent => {}
        Credentials::Refused => {
            if !tokens.refused(&token) || !did_nothing(&timed.request, &answer) {
                return Ok(answer);
            }
            let token = tokens.get().await?;
            if !another_turn(&core, &settings, &timed).await {
                return Ok(answer);
            }
            let answer = inner.oneshot(bearing(&token, timed)?).await?;
            if said(&answer) == Credentials::Accepted {
                token.accepted();
            }
            return Ok(answer);
        }
    }
    Ok(answer)
}

/// What an answer says of what was sent along. A health check is a request like another here: its 403 is no reason for
/// another token.
fn said(answer: &Answer) -> Credentials {
    credentials(answer.status.as_u16(), answer.reading.class, false)
}

/// Whether the request that was refused so may be sent again. With 401 the provider did nothing, so that even money may
/// follow with another credential; a refusal in other words is believed for all but money.
fn did_nothing(request: &Request, answer: &Answer) -> bool {
    answer.status == StatusCode::UNAUTHORIZED || request.class != CallClass::Money
}

/// Waits for the turn of a second request of the same try: in the quota, in the provider's pause, and while the circuit
/// lets the call go on.
async fn another_turn(core: &Core, settings: &Settings, timed: &Timed) -> bool {
    core.still_admits(timed.permit)
        && quota::turn(core, settings, timed).await.is_ok()
        && core.still_admits(timed.permit)
}

/// The request with the token on it.
fn bearing(token: &Token, mut timed: Timed) -> Result<Timed, CallError> {
    timed.request.headers.insert(AUTHORIZATION, sensitive(token.header())?);
    Ok(timed)
}

/// What tokens need beside the settings.
pub(crate) struct Means<'a> {
    pub(crate) clients: &'a Clients,
    pub(crate) core: &'a Arc<Core>,
    pub(crate) vault: Option<&'a Vault>,
    pub(crate) secrets: Option<&'a Arc<dyn SecretSource>>,
}

/// Where the tokens of a connection come from, if its settings want any.
pub(crate) fn tokens(settings: &Settings, means: &Means<'_>) -> Option<Arc<Tokens>> {
    let clock = means.core.clock();
    let url = settings.auth().token_url()?;
    let (grant, refresh_before, rotation) = match settings.auth() {
        Auth::ClientCredentials(client) => (grant(client), client.refresh_before, None),
        Auth::RefreshToken { client, refresh_token } => {
            // Without a place to keep a rotated token the controllers have refused the connection already.
            let safe = Safe {
                vault: means.vault?.clone(),
                clock,
                connection: means.core.key().clone(),
                token_url: url.to_string(),
                secret: settings.credential_revision().to_owned(),
                longest: settings.timeouts().request,
            };
            let rotation = Rotation { origin: refresh_token.clone(), safe, secrets: means.secrets.cloned() };
            (grant(client), client.refresh_before, Some(rotation))
        }
        Auth::ProfileToken { fields, token_at, life_at, .. } => {
            let (fields, token_at, life_at) = (fields.clone(), token_at.clone(), life_at.clone());
            (Grant::Json { fields, token_at, life_at }, DEFAULT_REFRESH_BEFORE, None)
        }
        Auth::None | Auth::Bearer { .. } | Auth::Basic { .. } | Auth::ApiKey { .. } | Auth::Profile { .. } => {
            return None;
        }
    };
    let client = means.clients.client(settings, &url);
    let fetch = Fetch { client, clock, url, grant, timeout: settings.timeouts().request };
    let source = Source::new(Box::new(fetch), Arc::clone(means.core), rotation);
    Some(Tokens::new(source, clock, refresh_before))
}

fn grant(client: &TokenClient) -> Grant {
    Grant::OAuth2 {
        scopes: client.scopes.clone(),
        audience: client.audience.clone(),
        client_id: client.client_id.clone(),
        client_secret: client.client_secret.clone(),
    }
}

/// Puts credentials that need no call of their own on a request.
fn apply(auth: &Auth, request: &mut Request) -> Result<(), CallError> {
    match auth {
        Auth::None => {}
        // Their tokens could not be set up: nothing may go out without a credential.
        Auth::ClientCredentials(_) | Auth::RefreshToken { .. } | Auth::ProfileToken { .. } => {
            return Err(CallError::NotKept(KeepProblem::NoKey));
        }
        Auth::Bearer { token } => {
            let value = Zeroizing::new(format!("Bearer {}", token.expose_secret()));
            request.headers.insert(AUTHORIZATION, sensitive(&value)?);
        }
        Auth::Basic { username, password } => {
            let pair = Zeroizing::new(format!("{}:{}", username.expose_secret(), password.expose_secret()));
            let encoded = Zeroizing::new(STANDARD.encode(pair.as_bytes()));
            let value = Zeroizing::new(format!("Basic {}", encoded.as_str()));
            request.headers.insert(AUTHORIZATION, sensitive(&value)?);
        }
        Auth::ApiKey { placement: Placement::Header, name, prefix, key } => {
            let value = Zeroizing::new(format!("{prefix}{}", key.expose_secret()));
            request.headers.insert(header_name(name)?, sensitive(&value)?);
        }
        Auth::ApiKey { placement: Placement::Query, name, prefix, key } => {
            request.query.push((name.clone(), format!("{prefix}{}", key.expose_secret())));
        }
        Auth::Profile { headers, query } => {
            for (name, value) in headers {
                request.headers.insert(header_name(name)?, sensitive(value.expose_secret())?);
            }
            request.query.extend(
                query
                    .iter()
                    .map(|(name, value): &(String, SecretString)| (name.clone(), value.expose_secret().to_owned())),
            );
        }
    }
    Ok(())
}

fn header_name(name: &str) -> Result<HeaderName, CallError> {
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| CallError::Request("a credential's header name is not valid"))
}

fn sensitive(value: &str) -> Result<HeaderValue, CallError> {
    let mut value =
        HeaderValue::from_str(value).map_err(|_| CallError::Request("a credential cannot be sent in a header"))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests;
