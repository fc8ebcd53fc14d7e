//! Access tokens of one connection: fetched once for all callers, refreshed early, kept in memory only.
//!
//! However many callers find no valid token, one request is made; it runs to its end in a task of its own, so that a
//! caller who gives up takes nothing from the others. A token that is due for refresh but still valid is used while its
//! successor is fetched.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use secrecy::{ExposeSecret as _, SecretString};

use crate::clock::Clock;
use crate::domain::time::Mono;
use crate::provider::auth::fetch::{Fetch, Fetched};
use crate::provider::call::CallError;
use crate::provider::classify::ErrorClass;
use crate::provider::trace;

/// No token is kept longer than this, whatever the provider says.
const MAX_LIFE: Duration = Duration::from_hours(1);
/// The life of a token whose provider does not tell.
const UNKNOWN_LIFE: Duration = Duration::from_mins(5);
/// After a failed early refresh the valid token is used for at least this long before the next attempt.
const REFRESH_PAUSE: Duration = Duration::from_secs(5);

/// One access token.
pub struct Token {
    header: SecretString,
    refresh_at: Mono,
    expires_at: Mono,
}

impl Token {
    /// Times a token that was asked for at `asked`: refreshed at `exp − clamp(life / 3, 1 s, refresh_before)`.
    fn new(fetched: &Fetched, asked: Mono, refresh_before: Duration) -> Self {
        let life = fetched.expires_in.unwrap_or(UNKNOWN_LIFE).min(MAX_LIFE);
        let least = Duration::from_secs(1);
        let early = (life / 3).clamp(least, refresh_before.max(least));
        Self {
            header: SecretString::from(format!("Bearer {}", fetched.access_token.expose_secret())),
            refresh_at: asked + life.saturating_sub(early),
            expires_at: asked + life,
        }
    }

    /// The value of the `Authorization` header.
    pub(crate) fn header(&self) -> &str {
        self.header.expose_secret()
    }

    /// When it can no longer be used.
    pub fn expires_at(&self) -> Mono {
        self.expires_at
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

type Flight = Shared<BoxFuture<'static, Result<Arc<Token>, CallError>>>;

#[derive(Default)]
struct State {
    token: Option<Arc<Token>>,
    flight: Option<Flight>,
    /// No early refresh before this.
    pause_until: Mono,
}

/// Where the tokens of one connection come from.
pub struct Tokens {
    fetch: Fetch,
    clock: Clock,
    refresh_before: Duration,
    state: Mutex<State>,
}

impl Tokens {
    pub(crate) fn new(fetch: Fetch, clock: Clock, refresh_before: Duration) -> Arc<Self> {
        Arc::new(Self { fetch, clock, refresh_before, state: Mutex::default() })
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
                _ => self.fly(&mut state),
            }
        };
        flight.await
    }

    /// Tells that the provider refused `token`: it is not given again. Of many callers who saw the same token refused,
    /// the first counts.
    pub fn refused(&self, token: &Arc<Token>) {
        let mut state = self.lock();
        if state.token.as_ref().is_some_and(|current| Arc::ptr_eq(current, token)) {
            state.token = None;
        }
    }

    /// When the current token expires, if there is one.
    pub fn expires_at(&self) -> Option<Mono> {
        self.lock().token.as_ref().map(|token| token.expires_at)
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
            async move { tokens.fetch.run().await }
        });
        let task = tokio::spawn(async move {
            let asked = tokens.clock.mono();
            let end = fetch.await.map(|got| Arc::new(Token::new(&got, asked, tokens.refresh_before)));
            let mut state = tokens.lock();
            state.flight = None;
            match &end {
                Ok(token) => state.token = Some(Arc::clone(token)),
                Err(_) => state.pause_until = tokens.clock.mono() + REFRESH_PAUSE,
            }
            end
        });
        let flight = async move {
            // Only a runtime that shuts down ends the task early.
            task.await.unwrap_or(Err(CallError::NoToken { status: None, class: ErrorClass::Timeout }))
        };
        let flight = flight.boxed().shared();
        state.flight = Some(flight.clone());
        flight
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(expires_in: Option<u64>, refresh_before: u64) -> (u64, u64) {
        let fetched = Fetched {
            access_token: SecretString::from("canary-token"),
            expires_in: expires_in.map(Duration::from_secs),
        };
        let token = Token::new(&fetched, Mono::ZERO, Duration::from_secs(refresh_before));
        assert!(!format!("{token:?}").contains("canary"));
        let seconds = |at: Mono| at.since(Mono::ZERO).as_secs();
        (seconds(token.refresh_at), seconds(token.expires_at))
    }

    #[test]
    fn a_token_is_refreshed_early_but_never_all_its_life() {
        assert_eq!(token(Some(3600), 60), (3540, 3600), "refreshBefore bounds a long life");
        assert_eq!(token(Some(90), 60), (60, 90), "a third of a short one");
        assert_eq!(token(Some(2), 60), (1, 2), "at least a second");
        assert_eq!(token(Some(2), 0), (1, 2), "refreshBefore below a second is a second");
        assert_eq!(token(Some(0), 60), (0, 0));
        assert_eq!(token(None, 60), (240, 300), "an unknown life is short, not over");
        assert_eq!(token(Some(86_400), 60), (3540, 3600), "kept an hour at most");
    }
}
