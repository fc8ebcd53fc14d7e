//! Puts a connection's credentials on each try.
//!
//! Values go straight from the Secret into a header marked sensitive, or into the query of the URL, which no error and
//! no log ever shows. A fetched token that is refused is fetched anew once, and then the call gives up. A key that is
//! refused is looked for in the Secret, and if another one stands there by now, the call goes on with that. What is refused
//! the profile knows: a 401 may be about one customer's consent, and a refusal may come with 200.
//!
//! The request that a new credential is worth is a request like any other: it waits for its turn in the quota and keeps to the
//! pause that the provider asked for, and it is not made once the circuit is open. If it has no turn in the call's time,
//! the refusal is the answer.

mod echo;
pub(crate) mod fetch;
pub(crate) mod keys;
pub(crate) mod source;
pub mod tokens;
pub mod vault;

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::FutureExt as _;
use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use tower::{Service, ServiceExt as _};
use zeroize::Zeroizing;

use crate::domain::breaker::CallClass;
use crate::provider::auth::fetch::{Endpoint, Fetch, Grant};
use crate::provider::auth::keys::{Keys, Lookup};
use crate::provider::auth::source::Source;
use crate::provider::auth::tokens::{Token, Tokens};
use crate::provider::auth::vault::{Safe, SecretSource, Vault};
use crate::provider::call::{Answer, CallError, ConnectProblem, KeepProblem, Request};
use crate::provider::classify::{Credentials, credentials};
use crate::provider::clients::Clients;
use crate::provider::deadline::{Calling, Inner, Timed};
use crate::provider::observe::Core;
use crate::provider::quota;
use crate::provider::settings::{Auth, DEFAULT_REFRESH_BEFORE, Placement, Settings};

/// Authenticates each try.
#[derive(Clone)]
pub struct Authenticate<S> {
    inner: S,
    core: Arc<Core>,
    settings: Arc<Settings>,
    proof: Proof,
}

/// Where a connection's proof of who it is comes from.
#[derive(Clone)]
pub(crate) struct Proof {
    /// What the Secrets hold.
    pub(crate) keys: Arc<Keys>,
    /// The tokens that are fetched with it, if the settings want any.
    pub(crate) tokens: Option<Arc<Tokens>>,
}

impl<S> Authenticate<S> {
    /// Wraps `inner`.
    pub(crate) fn new(inner: S, core: Arc<Core>, settings: Arc<Settings>, proof: Proof) -> Self {
        Self { inner, core, settings, proof }
    }
}

impl<S: Inner + Clone + Send + 'static> Service<Timed> for Authenticate<S> {
    type Response = Answer;
    type Error = CallError;
    type Future = Calling;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, timed: Timed) -> Calling {
        if self.settings.tls().client.is_none() {
            return self.authenticated(timed);
        }
        with_certificate(self.clone(), timed).boxed()
    }
}

impl<S: Inner + Clone + Send + 'static> Authenticate<S> {
    fn authenticated(&mut self, mut timed: Timed) -> Calling {
        let Proof { keys, tokens } = &self.proof;
        let around = || (Arc::clone(&self.core), Arc::clone(&self.settings));
        if let Some(tokens) = tokens {
            return with_token(self.inner.clone(), around(), Arc::clone(tokens), timed).boxed();
        }
        if keys.can_change() {
            return with_key(self.inner.clone(), around(), Arc::clone(keys), timed).boxed();
        }
        if matches!(self.settings.auth(), Auth::None) {
            return self.inner.call(timed).boxed();
        }
        let (call, settings) = match apply(self.settings.auth(), &mut timed.request) {
            Ok(()) => (self.inner.call(timed), Arc::clone(&self.settings)),
            Err(error) => return std::future::ready(Err(error)).boxed(),
        };
        async move { Ok(hidden(call.await?, &settings, None)) }.boxed()
    }
}

/// A certificate that is refused ends the handshake, so that the provider has done nothing, and the call goes on with the one
/// that stands in the Secret by now. Only if it reads: a connection that was good before is refused after the request.
async fn with_certificate<S>(mut path: Authenticate<S>, mut timed: Timed) -> Result<Answer, CallError>
where
    S: Inner + Clone + Send + 'static,
{
    let keys = Arc::clone(&path.proof.keys);
    timed.client = keys.client();
    let end = path.authenticated(timed.clone()).await;
    if !matches!(end, Err(CallError::Connect(ConnectProblem::CertificateRefused))) {
        return end;
    }
    let look = keys.client_instead_of(timed.client.as_ref());
    let found = in_time(&path.core, &timed, look).await;
    let Some(found) = found.filter(|_| matches!(timed.request.class, CallClass::Probe | CallClass::Read)) else {
        return end;
    };
    if !another_turn(&path.core, &path.settings, &timed).await {
        return end;
    }
    timed.client = Some(found);
    path.authenticated(timed).await
}

/// What a look into the Secret finds. Who waits for one that cannot be read has his answer all the same.
async fn in_time<T>(core: &Core, timed: &Timed, look: impl Future<Output = Option<T>>) -> Option<T> {
    let clock = core.clock();
    let until = timed.deadline.min(clock.mono() + PATIENCE);
    tokio::select! {
        biased;
        found = look => found,
        () = clock.sleep_until(until) => None,
    }
}

async fn with_token<S>(
    inner: S,
    (core, settings): (Arc<Core>, Arc<Settings>),
    tokens: Arc<Tokens>,
    timed: Timed,
) -> Result<Answer, CallError>
where
    S: Inner + Clone + Send + 'static,
{
    let token = tokens.get().await?;
    let answer = inner.clone().oneshot(bearing(&token, timed.clone())?).await?;
    let answer = hidden(answer, &settings, Some(&token));
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
            let answer = hidden(inner.oneshot(bearing(&token, timed)?).await?, &settings, Some(&token));
            if said(&answer) == Credentials::Accepted {
                token.accepted();
            }
            return Ok(answer);
        }
    }
    Ok(answer)
}

async fn with_key<S>(
    inner: S,
    (core, settings): (Arc<Core>, Arc<Settings>),
    keys: Arc<Keys>,
    timed: Timed,
) -> Result<Answer, CallError>
where
    S: Inner + Clone + Send + 'static,
{
    let sent = keys.current();
    let mut first = timed.clone();
    apply(sent.auth(), &mut first.request)?;
    let answer = hidden(inner.clone().oneshot(first).await?, &sent, None);
    if said(&answer) != Credentials::Refused {
        return Ok(answer);
    }
    let found = in_time(&core, &timed, keys.instead_of(&sent)).await;
    let Some(found) = found.filter(|_| did_nothing(&timed.request, &answer)) else { return Ok(answer) };
    if !another_turn(&core, &settings, &timed).await {
        return Ok(answer);
    }
    let mut again = timed;
    apply(found.auth(), &mut again.request)?;
    Ok(hidden(inner.oneshot(again).await?, &found, None))
}

/// The answer without what was sent to prove who we are.
fn hidden(mut answer: Answer, settings: &Settings, token: Option<&Token>) -> Answer {
    echo::hide(&mut answer, settings, token.map(Token::bare));
    answer
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

/// How long a call waits for the Secret to be read.
const PATIENCE: Duration = Duration::from_secs(5);

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

/// Where the proof of a connection comes from.
pub(crate) fn proof(settings: &Arc<Settings>, means: &Means<'_>) -> Proof {
    let lookup = means.secrets.map(|secrets| Lookup { secrets: Arc::clone(secrets), clients: means.clients.clone() });
    let keys = Keys::new(Arc::clone(settings), Arc::clone(means.core), lookup);
    let tokens = tokens(settings, means, &keys);
    Proof { keys, tokens }
}

fn tokens(settings: &Settings, means: &Means<'_>, keys: &Arc<Keys>) -> Option<Arc<Tokens>> {
    let clock = means.core.clock();
    let url = settings.auth().token_url()?;
    let safe = match settings.auth() {
        // Without a place to keep a rotated token the controllers have refused the connection already.
        Auth::RefreshToken { .. } => Some(Safe {
            vault: means.vault?.clone(),
            clock,
            connection: means.core.key().clone(),
            token_url: url.to_string(),
            secret: settings.credential_revision().to_owned(),
            longest: settings.timeouts().request,
        }),
        _ => None,
    };
    let refresh_before = match settings.auth() {
        Auth::ClientCredentials(client) | Auth::RefreshToken { client, .. } => client.refresh_before,
        _ => DEFAULT_REFRESH_BEFORE,
    };
    let (client, timeout) = (means.clients.client(settings, &url), settings.timeouts().request);
    let make = move |settings: &Settings| {
        let grant = grant(settings.auth())?;
        let fetch = Fetch { client: client.clone(), clock, url: url.clone(), grant, timeout };
        Some(Arc::new(fetch) as Arc<dyn Endpoint>)
    };
    let source = Source::new(Box::new(make), Arc::clone(keys), Arc::clone(means.core), safe)?;
    Some(Tokens::new(source, clock, refresh_before))
}

/// What is sent to a token endpoint; none where no token is asked for.
fn grant(auth: &Auth) -> Option<Grant> {
    match auth {
        Auth::ClientCredentials(client) | Auth::RefreshToken { client, .. } => Some(Grant::OAuth2 {
            scopes: client.scopes.clone(),
            audience: client.audience.clone(),
            client_id: client.client_id.clone(),
            client_secret: client.client_secret.clone(),
        }),
        Auth::ProfileToken { fields, token_at, life_at, .. } => {
            Some(Grant::Json { fields: fields.clone(), token_at: token_at.clone(), life_at: life_at.clone() })
        }
        Auth::None | Auth::Bearer { .. } | Auth::Basic { .. } | Auth::ApiKey { .. } | Auth::Profile { .. } => None,
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
