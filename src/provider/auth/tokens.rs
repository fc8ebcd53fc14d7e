//! Access tokens of one connection: fetched once for all callers, refreshed early, kept in memory only.
//!
//! However many callers find no valid token, one request is made; it runs to its end in a task of its own, so that a
//! caller who gives up takes nothing from the others. A token that is due for refresh but still valid is used while its
//! successor is fetched. A token is wiped at the end of its life, an hour at most, also where nobody asks any more.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::task::AbortHandle;

use crate::clock::Clock;
use crate::domain::time::Mono;
use crate::provider::auth::fetch::{Fetched, NotFetched};
use crate::provider::auth::source::Source;
use crate::provider::call::CallError;
use crate::provider::classify::ErrorClass;
use crate::provider::trace;

/// No token is kept longer than this, whatever the provider says.
const MAX_LIFE: Duration = Duration::from_hours(1);
/// The life of a token whose provider does not tell.
const UNKNOWN_LIFE: Duration = Duration::from_mins(5);
/// After a failed early refresh the valid token is used for at least this long before the next attempt.
const REFRESH_PAUSE: Duration = Duration::from_secs(5);
/// Credentials that the token endpoint refused are not sent again for this long: many lock a client out that insists.
/// Other credentials are other [`Tokens`], and are sent at once.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);

/// How a token is presented.
const SCHEME: &str = "Bearer ";

/// One access token.
pub struct Token {
    header: SecretString,
    refresh_at: Mono,
    expires_at: Mono,
    /// Whether the provider was seen to take it.
    accepted: AtomicBool,
}

impl Token {
    /// Times a token: refreshed at `exp − clamp(life / 3, 1 s, refresh_before)`.
    fn new(fetched: &Fetched, refresh_before: Duration) -> Self {
        let life = fetched.expires_in.unwrap_or(UNKNOWN_LIFE).min(MAX_LIFE);
        let least = Duration::from_secs(1);
        let early = (life / 3).clamp(least, refresh_before.max(least));
        let token = fetched.access_token.expose_secret();
        // Of its full size from the start: growing would leave pieces of it behind.
        let mut header = String::with_capacity(SCHEME.len() + token.len());
        header.push_str(SCHEME);
        header.push_str(token);
        Self {
            header: SecretString::from(header),
            refresh_at: fetched.asked + life.saturating_sub(early),
            expires_at: fetched.asked + life,
            accepted: AtomicBool::new(false),
        }
    }

    /// The value of the `Authorization` header.
    pub(crate) fn header(&self) -> &str {
        self.header.expose_secret()
    }

    /// What the provider gave.
    pub(crate) fn bare(&self) -> &str {
        self.header().strip_prefix(SCHEME).unwrap_or_default()
    }

    /// When it can no longer be used.
    pub fn expires_at(&self) -> Mono {
        self.expires_at
    }

    /// Notes that the provider took it.
    pub(crate) fn accepted(&self) {
        if !self.accepted.load(Ordering::Relaxed) {
            self.accepted.store(true, Ordering::Relaxed);
        }
    }
}

type Flight = Shared<BoxFuture<'static, Result<Arc<Token>, CallError>>>;

#[derive(Default)]
struct State {
    token: Option<Arc<Token>>,
    flight: Option<Flight>,
    /// No early refresh before this.
    pause_until: Mono,
    /// No request at all before this; callers get the last error.
    silent_until: Option<(Mono, CallError)>,
    /// When the provider last refused a token.
    refused_at: Option<Mono>,
    /// Ends the task that wipes the token at the end of its life.
    wiper: Option<AbortHandle>,
}

/// Where the tokens of one connection come from.
pub struct Tokens {
    source: Source,
    clock: Clock,
    refresh_before: Duration,
    state: Mutex<State>,
}

impl Tokens {
    pub(crate) fn new(source: Source, clock: Clock, refresh_before: Duration) -> Arc<Self> {
        Arc::new(Self { source, clock, refresh_before, state: Mutex::default() })
    }

    /// A token that is valid now.
    pub async fn get(self: &Arc<Self>) -> Result<Arc<Token>, CallError> {
        let flight = {
            let mut state = self.lock();
            let now = self.clock.mono();
            match &state.token {
                Some(token) if now < token.refresh_at => return Ok(Arc::clone(token)),
                Some(token) if now < token.expires_at => {
                    let token = Arc::clone(token);
                    if now >= state.pause_until {
                        // It flies by itself; nobody needs to wait for it.
                        drop(self.fly(&mut state));
                    }
                    return Ok(token);
                }
                _ => match &state.silent_until {
                    Some((until, error)) if now < *until && state.flight.is_none() => return Err(error.clone()),
                    _ => self.fly(&mut state),
                },
            }
        };
        flight.await
    }

    /// Tells that the provider refused `token`: it is not given again. Of many callers who saw the same token refused,
    /// the first counts. Whether another one is worth a try: not if this one took the place of a refused one a moment ago
    /// and was never accepted, or a provider that refuses everybody would cost a token at every call.
    pub fn refused(&self, token: &Arc<Token>) -> bool {
        let mut state = self.lock();
        let now = self.clock.mono();
        let is_current = state.token.as_ref().is_some_and(|current| Arc::ptr_eq(current, token));
        if !is_current {
            return true;
        }
        let lately = state.refused_at.is_some_and(|at| now.since(at) < REFUSED_PAUSE);
        if lately && !token.accepted.load(Ordering::Relaxed) {
            return false;
        }
        state.token = None;
        state.refused_at = Some(now);
        true
    }

    /// When the current token expires, if there is one.
    pub fn expires_at(&self) -> Option<Mono> {
        self.lock().token.as_ref().map(|token| token.expires_at)
    }

    /// Whether no token can be had because the endpoint's circuit is open, and none is left.
    pub(crate) fn unavailable(&self) -> bool {
        let now = self.clock.mono();
        let usable = self.lock().token.as_ref().is_some_and(|token| now < token.expires_at);
        !usable && self.source.is_open(now)
    }

    /// The fetch under way, started if there is none.
    fn fly(self: &Arc<Self>, state: &mut State) -> Flight {
        if let Some(flight) = &state.flight {
            return flight.clone();
        }
        let tokens = Arc::clone(self);
        // Begun here, so that the span belongs to the call that found no token.
        let fetch = trace::token({
            let tokens = Arc::clone(self);
            async move { tokens.source.obtain().await }
        });
        let task = tokio::spawn(async move {
            let end = fetch.await;
            tokens.landed(end)
        });
        let flight = async move {
            // Only a runtime that shuts down ends the task early.
            task.await.unwrap_or(Err(CallError::NoToken { status: None, class: ErrorClass::Timeout }))
        };
        let flight = flight.boxed().shared();
        state.flight = Some(flight.clone());
        flight
    }

    fn landed(self: &Arc<Self>, end: Result<Fetched, NotFetched>) -> Result<Arc<Token>, CallError> {
        let now = self.clock.mono();
        let mut state = self.lock();
        state.flight = None;
        match end {
            Ok(fetched) => {
                let token = Arc::new(Token::new(&fetched, self.refresh_before));
                state.silent_until = None;
                state.token = Some(Arc::clone(&token));
                let (weak, clock, ends) = (Arc::downgrade(self), self.clock, token.expires_at);
                let wiper = tokio::spawn(async move {
                    clock.sleep_until(ends).await;
                    if let Some(tokens) = weak.upgrade() {
                        tokens.wipe();
                    }
                });
                if let Some(before) = state.wiper.replace(wiper.abort_handle()) {
                    before.abort();
                }
                Ok(token)
            }
            Err(NotFetched { error, wait }) => {
                let refused = matches!(error, CallError::CredentialsRefused { .. });
                let wait = wait.or(refused.then_some(REFUSED_PAUSE));
                state.silent_until = wait.map(|wait| (now + wait, error.clone()));
                state.pause_until = now + wait.unwrap_or_default().max(REFRESH_PAUSE);
                Err(error)
            }
        }
    }

    /// Lets go of a token whose life is over.
    fn wipe(&self) {
        let now = self.clock.mono();
        let mut state = self.lock();
        if state.token.as_ref().is_some_and(|token| token.expires_at <= now) {
            state.token = None;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Tokens {
    fn drop(&mut self) {
        if let Some(wiper) = self.lock().wiper.take() {
            wiper.abort();
        }
    }
}

#[cfg(test)]
mod tests;
