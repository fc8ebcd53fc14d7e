//! Caches the access token of one connection: fetched once for all callers, refreshed early, held in memory only.
//!
//! However many callers find no valid token, one request is made; it runs in a task of its own, so that a caller that
//! gives up does not end it for the others. A token that is due for refresh but still valid is used while its successor
//! is fetched. A token is wiped when it expires, after an hour at most, even if no call asks for it.
//!
//! A token dies with the credential that it was obtained by: once that has been replaced it is not returned, and one
//! that arrives later is not kept.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use tokio::task::JoinHandle;
use tokio_util::task::AbortOnDropHandle;

use crate::clock::Clock;
use crate::domain::backoff::Backoff;
use crate::domain::breaker::MAX_THROTTLE;
use crate::domain::time::Mono;
use crate::provider::auth::access_token::AccessToken;
use crate::provider::auth::access_token_source::{AccessTokenSource, ObtainedToken};
use crate::provider::auth::credential_id::CredentialId;
use crate::provider::auth::token_response::TokenError;
use crate::provider::call::{CallError, TokenStoreError};
use crate::provider::monitor::rate_limit::MIN_OVERRIDE_INTERVAL;
use crate::provider::trace;
use crate::settings::ErrorClass;

/// Minimum delay after a failed early refresh; the valid token is used meanwhile.
const REFRESH_RETRY_DELAY: Duration = Duration::from_secs(5);
/// Credentials that the token endpoint refused are not sent again for this long: many endpoints lock out a client that
/// insists. Other credentials have another [`AccessTokenCache`] and are sent at once.
const REFUSED_DELAY: Duration = Duration::from_secs(5);
/// The delay after refused credentials, which doubles with each further refusal: up to the usual interval of health
/// checks, so that a client that the provider has just registered is found by the next one.
const REFUSED_BACKOFF: Backoff = Backoff { base: REFUSED_DELAY, max: Duration::from_secs(30) };
/// The delay after a rate limit of the endpoint, where it asks for none or a shorter one. Tokens last for minutes: five
/// of them are no longer than a token's usual time in use.
const LIMITED_BACKOFF: Backoff = Backoff { base: Duration::from_secs(1), max: Duration::from_mins(5) };

/// Delays between tries to store a rotated refresh token that the ledger did not take.
const MIN_STORE_DELAY: Duration = Duration::from_secs(1);
const MAX_STORE_DELAY: Duration = Duration::from_secs(30);
/// The same while the process is shutting down: only its grace period is left.
const LAST_STORE_DELAY: Duration = Duration::from_millis(200);

type Flight = Shared<BoxFuture<'static, Result<Arc<AccessToken>, CallError>>>;

#[derive(Default)]
struct State {
    /// The credential that token and block belong to.
    credential: Option<CredentialId>,
    token: Option<Arc<AccessToken>>,
    flight: Option<Flight>,
    /// No early refresh before this.
    next_early_refresh: Mono,
    /// No request before this; callers get the last error.
    blocked_until: Option<(Mono, CallError)>,
    /// Consecutive delays of this kind.
    delays: u32,
    /// When a call that a user requested last passed such a delay.
    overridden_at: Option<Mono>,
    /// When the provider last refused a token.
    refused_at: Option<Mono>,
    /// The task that wipes the token when it expires.
    wiper: Option<AbortOnDropHandle<()>>,
    /// The task that stores a rotated refresh token, while there is one that could not be stored.
    storing: Option<JoinHandle<()>>,
}

impl State {
    /// Whether a requested call may pass a delay.
    fn may_override(&self, now: Mono) -> bool {
        self.overridden_at.is_none_or(|at| now.since(at) >= MIN_OVERRIDE_INTERVAL)
    }

    /// Drops what belongs to another credential than the one in force.
    fn follow(&mut self, credential: CredentialId) {
        if self.credential != Some(credential) {
            (self.credential, self.token) = (Some(credential), None);
            (self.blocked_until, self.delays) = (None, 0);
        }
    }
}

/// The access token of one connection.
pub struct AccessTokenCache {
    source: AccessTokenSource,
    clock: Clock,
    refresh_before: Duration,
    state: Mutex<State>,
}

impl AccessTokenCache {
    pub(crate) fn new(source: AccessTokenSource, clock: Clock, refresh_before: Duration) -> Arc<Self> {
        Arc::new(Self { source, clock, refresh_before, state: Mutex::default() })
    }

    /// A valid token of the credential in force, fetched if there is none. [`CallError::Superseded`] if the credential
    /// was replaced while it was fetched, or none may be used any more.
    pub async fn get(self: &Arc<Self>) -> Result<Arc<AccessToken>, CallError> {
        self.get_for(false).await
    }

    /// The same for a call that a user `requested`: it does not wait until the endpoint may be asked again, once in a
    /// while.
    pub(crate) async fn get_for(self: &Arc<Self>, requested: bool) -> Result<Arc<AccessToken>, CallError> {
        self.source.check_in_force()?;
        let credential = self.source.credential();
        let flight = {
            let mut state = self.lock();
            state.follow(credential);
            let now = self.clock.mono();
            match &state.token {
                Some(token) if now < token.refresh_at => return Ok(Arc::clone(token)),
                Some(token) if now < token.expires_at => {
                    let token = Arc::clone(token);
                    if now >= state.next_early_refresh {
                        // It runs in its own task; the caller does not wait for it.
                        drop(self.fetch(&mut state));
                    }
                    return Ok(token);
                }
                _ => {
                    let blocked = state.blocked_until.clone().filter(|(until, _)| now < *until);
                    if let Some((_, error)) = blocked.filter(|_| state.flight.is_none()) {
                        if !(requested && state.may_override(now)) {
                            return Err(error);
                        }
                        state.overridden_at = Some(now);
                    }
                    self.fetch(&mut state)
                }
            }
        };
        tokio::select! {
            biased;
            end = flight => end,
            () = self.source.ended() => Err(CallError::Superseded),
        }
    }

    /// Discards `token` because the provider refused it. Returns whether another token is worth a try: not if this one
    /// replaced a refused one a moment ago and was never accepted; otherwise a provider that refuses every token would
    /// cost one per call. Of several callers with the same refused token, the first one counts.
    pub fn discard_refused(&self, token: &Arc<AccessToken>) -> bool {
        let mut state = self.lock();
        let now = self.clock.mono();
        let is_current = state.token.as_ref().is_some_and(|current| Arc::ptr_eq(current, token));
        if !is_current {
            return true;
        }
        let recently = state.refused_at.is_some_and(|at| now.since(at) < REFUSED_DELAY);
        if recently && !token.is_accepted() {
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

    /// Whether there is no valid token and the endpoint's circuit is open.
    pub(crate) fn unavailable(&self) -> bool {
        let now = self.clock.mono();
        let usable = self.lock().token.as_ref().is_some_and(|token| now < token.expires_at);
        !usable && self.source.is_open(now)
    }

    /// The fetch in flight; starts one if there is none.
    fn fetch(self: &Arc<Self>, state: &mut State) -> Flight {
        if let Some(flight) = &state.flight {
            return flight.clone();
        }
        let cache = Arc::clone(self);
        // Started here, so that the span belongs to the call that found no token.
        let fetch = trace::token_request({
            let cache = Arc::clone(self);
            async move { cache.source.obtain().await }
        });
        // The shutdown waits for it: a provider may answer with a refresh token that replaces the one it was sent.
        let task = self.source.tasks().spawn("token request", async move {
            let flight = FlightGuard(cache);
            let result = fetch.await;
            flight.0.finish_fetch(result)
        });
        let flight = async move {
            // The task ends early only in a panic, or when the runtime shuts down.
            task.await.unwrap_or(Err(CallError::NoToken { status: None, class: ErrorClass::Timeout }))
        };
        let flight = flight.boxed().shared();
        state.flight = Some(flight.clone());
        flight
    }

    fn finish_fetch(
        self: &Arc<Self>,
        result: Result<ObtainedToken, TokenError>,
    ) -> Result<Arc<AccessToken>, CallError> {
        let now = self.clock.mono();
        let credential = self.source.credential();
        let mut state = self.lock();
        state.follow(credential);
        match result {
            Ok(obtained) if obtained.credential != credential || self.source.check_in_force().is_err() => {
                Err(CallError::Superseded)
            }
            Ok(ObtainedToken { response, .. }) => {
                let token = Arc::new(AccessToken::new(&response, credential, self.refresh_before));
                (state.blocked_until, state.delays) = (None, 0);
                state.token = Some(Arc::clone(&token));
                let (weak, clock, expires_at) = (Arc::downgrade(self), self.clock, token.expires_at);
                let wiper = self.source.tasks().spawn_until_drain("token expiry", async move {
                    clock.sleep_until(expires_at).await;
                    if let Some(cache) = weak.upgrade() {
                        cache.wipe_expired();
                    }
                });
                state.wiper = Some(AbortOnDropHandle::new(wiper));
                Ok(token)
            }
            Err(TokenError { error, retry_after, .. }) => {
                let backoff = match error {
                    CallError::CredentialsRefused { .. } => Some(REFUSED_BACKOFF),
                    CallError::NoToken { status: Some(429), .. } => Some(LIMITED_BACKOFF),
                    // Other failures have a circuit.
                    _ => retry_after.map(|_| LIMITED_BACKOFF),
                };
                let asked = retry_after.unwrap_or_default();
                let delay = backoff.map(|backoff| backoff.ceiling(state.delays).max(asked).min(MAX_THROTTLE));
                state.delays = state.delays.saturating_add(u32::from(delay.is_some()));
                state.blocked_until = delay.map(|delay| (now + delay, error.clone()));
                state.next_early_refresh = now + delay.unwrap_or_default().max(REFRESH_RETRY_DELAY);
                if matches!(error, CallError::TokenStore(TokenStoreError::Ledger)) {
                    self.store_rotation_later(&mut state);
                }
                Err(error)
            }
        }
    }

    /// Stores a rotated refresh token once the ledger takes it, also if no call asks for a token: it is in memory only,
    /// the provider has spent its predecessor, and the process may end.
    fn store_rotation_later(self: &Arc<Self>, state: &mut State) {
        if state.storing.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        let (cache, tasks) = (Arc::clone(self), self.source.tasks().clone());
        state.storing = Some(self.source.tasks().spawn("token store", async move {
            let mut delay = MIN_STORE_DELAY;
            while cache.source.has_unstored_rotation() {
                let sleep = |delay| cache.clock.sleep_until(cache.clock.mono() + delay);
                tokio::select! {
                    () = sleep(delay) => {}
                    () = tasks.draining() => sleep(LAST_STORE_DELAY).await,
                }
                let fetch = cache.fetch(&mut cache.lock());
                drop(fetch.await);
                delay = (delay * 2).min(MAX_STORE_DELAY);
            }
        }));
    }

    /// Drops the token, because its credential has ended.
    pub(crate) fn wipe(&self) {
        let mut state = self.lock();
        (state.token, state.wiper) = (None, None);
    }

    /// Drops an expired token.
    fn wipe_expired(&self) {
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

/// Ends the flight of a fetch when it is dropped, after a panic too: the next caller starts another.
struct FlightGuard(Arc<AccessTokenCache>);

impl Drop for FlightGuard {
    fn drop(&mut self) {
        self.0.lock().flight = None;
    }
}

#[cfg(test)]
mod tests;
