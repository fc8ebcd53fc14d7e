//! Where the tokens of one connection come from: the token endpoint, behind a circuit of its own, and for a refresh
//! token the ledger and the Secret.
//!
//! The circuit is the preset `Api`: five failures in a row, 30 s, one trial. It keeps a failing token endpoint from being
//! asked at every call, and keeps its failures from the provider's own circuit: a bank whose log-in is down has not
//! failed, it cannot be called.
//!
//! A refresh token that the provider rotates is kept before anything is done with the access token that came along. One
//! connection refreshes one at a time, also over a change of its settings and over replicas (the ledger's lease), because a
//! spent token that is sent again ends the grant with a careful provider. Another replica may have been first all the
//! same, or somebody has just put a new token into the Secret: who is refused looks once more at both before he believes it.

use std::sync::{Arc, Mutex, PoisonError};

use secrecy::{ExposeSecret as _, SecretString};

use crate::clock::Clock;
use crate::domain::breaker::{Breaker, CallClass, Outcome, Policy, Preset};
use crate::domain::time::Mono;
use crate::provider::auth::fetch::{Endpoint, Fetched, NotFetched};
use crate::provider::auth::keys::Keys;
use crate::provider::auth::vault::{Held, Safe};
use crate::provider::call::{CallError, KeepProblem};
use crate::provider::observe::{Core, outcome_label};
use crate::provider::settings::{Auth, Settings};

/// One connection's turn at its refresh token.
pub(crate) struct Refreshing {
    /// A rotated token that is not kept yet. Held while a refresh token is used.
    pub(crate) pending: tokio::sync::Mutex<Option<Pending>>,
    /// Who we are to the ledger's lock: this connection, not this process. A connection that was deleted and made anew
    /// while its refresh was under way is another holder, and waits like another replica. The same connection is let in
    /// again, because a lock that could not be given back would else keep it out until it ends by itself.
    pub(crate) holder: String,
}

impl Default for Refreshing {
    fn default() -> Self {
        Self { pending: tokio::sync::Mutex::default(), holder: uuid::Uuid::new_v4().to_string() }
    }
}

/// A token that came with a rotated refresh token which could not be kept yet. It outlives the settings it was asked
/// with, and it has no end of its own: the provider has spent the token that it came for, so whoever drops this one ends
/// the grant for good. There is one at most for each connection, it goes with the connection, and the access token beside
/// it is not used beyond its life.
pub(crate) struct Pending {
    fetched: Fetched,
    rotated: SecretString,
    /// The Secret's token that it descends from.
    origin: SecretString,
    version: i64,
}

/// Makes the way to the endpoint that these credentials are sent to; none if they are of a kind that asks for no token.
pub(crate) type Make = Box<dyn Fn(&Settings) -> Option<Arc<dyn Endpoint>> + Send + Sync>;

/// The way to the endpoint, and whose credentials go there.
type Way = (Arc<Settings>, Arc<dyn Endpoint>);

/// Asks for tokens.
pub(crate) struct Source {
    keys: Arc<Keys>,
    make: Make,
    way: Mutex<Way>,
    core: Arc<Core>,
    clock: Clock,
    /// Where the refresh token is kept, where there is one.
    safe: Option<Safe>,
    breaker: Mutex<Breaker>,
}

impl Source {
    /// Asks with the credentials of `keys`; none if `make` makes nothing of them.
    pub(crate) fn new(make: Make, keys: Arc<Keys>, core: Arc<Core>, safe: Option<Safe>) -> Option<Self> {
        let clock = core.clock();
        let breaker = Mutex::new(Breaker::new(Policy::preset(Preset::Api), clock.mono()));
        let settings = keys.current();
        let endpoint = make(&settings)?;
        Some(Self { keys, make, way: Mutex::new((settings, endpoint)), core, clock, safe, breaker })
    }

    /// The way to the endpoint with the credentials as far as they are known.
    fn way(&self) -> Way {
        let current = self.keys.current();
        let mut way = self.way.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&way.0, &current)
            && let Some(endpoint) = (self.make)(&current)
        {
            *way = (current, endpoint);
        }
        way.clone()
    }

    /// A new token.
    pub(crate) async fn obtain(&self) -> Result<Fetched, NotFetched> {
        if let Some(safe) = &self.safe {
            return self.refresh(safe).await;
        }
        let (sent, endpoint) = self.way();
        let end = self.ask(&*endpoint, None).await;
        let refused = matches!(end, Err(NotFetched { error: CallError::CredentialsRefused { .. }, .. }));
        if refused && self.keys.instead_of(&sent).await.is_some() {
            return self.ask(&*self.way().1, None).await;
        }
        end
    }

    /// Asks the endpoint, if its circuit lets us.
    async fn ask(&self, endpoint: &dyn Endpoint, refresh_token: Option<&SecretString>) -> Result<Fetched, NotFetched> {
        let started = self.clock.mono();
        let permit = self.moved(|breaker| breaker.admit(CallClass::Read, started));
        let permit = permit.map_err(|refusal| {
            self.core.token_asked(Err("token_circuit_open"), "refused");
            CallError::TokenCircuitOpen { retry_in: refusal.retry_at.map(|at| at.since(started)) }
        })?;
        let end = endpoint.ask(refresh_token).await;
        let (code, outcome) = match &end {
            Ok(_) => (Ok(200), Outcome::Success),
            // It works; what it thinks of the credentials is not its failure.
            Err(NotFetched { error: CallError::CredentialsRefused { status }, .. }) => (Ok(*status), Outcome::Success),
            Err(NotFetched { error: CallError::NoToken { status: Some(429), .. }, .. }) => (Ok(429), Outcome::Ignored),
            Err(NotFetched { error: CallError::NoToken { status, class }, .. }) => {
                (status.ok_or(class.as_str()), Outcome::Failure)
            }
            Err(NotFetched { error, .. }) => (Err(error.code()), Outcome::Ignored),
        };
        let label = match &end {
            Err(NotFetched { error: CallError::CredentialsRefused { .. }, .. }) => "ignored",
            _ => outcome_label(outcome),
        };
        self.core.token_asked(code, label);
        let now = self.clock.mono();
        self.moved(|breaker| breaker.record(permit, outcome, now.since(started), now));
        end
    }

    /// Does something to the circuit and tells if it moved.
    fn moved<T>(&self, act: impl FnOnce(&mut Breaker) -> T) -> T {
        let mut breaker = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        let before = breaker.state();
        let done = act(&mut breaker);
        // Told by state, below: what moved is taken out so that it is not told again.
        let _told_below = breaker.take_transition();
        let after = breaker.state();
        drop(breaker);
        if before != after {
            self.core.token_circuit_moved(before, after);
        }
        done
    }

    async fn refresh(&self, safe: &Safe) -> Result<Fetched, NotFetched> {
        let Refreshing { pending, holder } = self.core.refreshing();
        let mut pending = pending.lock().await;
        let lock = safe.lock(holder).await?;
        let end = self.refresh_alone(safe, &mut pending).await;
        safe.unlock(&lock).await;
        end
    }

    /// With nobody else, here or in another replica, who uses the refresh token.
    async fn refresh_alone(&self, safe: &Safe, pending: &mut Option<Pending>) -> Result<Fetched, NotFetched> {
        let (mut sent, mut endpoint) = self.way();
        let mut origin = origin_of(&sent)?;
        if let Some(left) = pending.take_if(|left| same(&left.origin, &origin)) {
            let still_good = left.fetched.expires_in.is_none_or(|life| self.clock.mono() < left.fetched.asked + life);
            let fetched = self.keep(safe, left, pending).await?;
            if let Some(fetched) = fetched.filter(|_| still_good) {
                return Ok(fetched);
            }
        }
        let Held { mut version, mut token } = safe.load(&origin).await?;
        // Twice at most: with what is known here, and with what somebody else may have put there meanwhile.
        let mut again = false;
        loop {
            let used = token.as_ref().unwrap_or(&origin);
            match self.ask(&*endpoint, Some(used)).await {
                Ok(fetched) => {
                    let rotated = fetched.refresh_token.clone().filter(|rotated| !same(rotated, used));
                    let Some(rotated) = rotated else { return Ok(fetched) };
                    let left = Pending { fetched, rotated, origin: origin.clone(), version };
                    match self.keep(safe, left, pending).await? {
                        Some(fetched) => return Ok(fetched),
                        None if again => return Err(CallError::NotKept(KeepProblem::Ledger).into()),
                        // Another replica kept one since: that one counts.
                        None => Held { version, token } = safe.load(&origin).await?,
                    }
                }
                Err(NotFetched { error: CallError::CredentialsRefused { status }, .. }) if !again => {
                    let renewed = self.keys.instead_of(&sent).await.is_some();
                    if renewed {
                        (sent, endpoint) = self.way();
                    }
                    let origin_now = origin_of(&sent)?;
                    let held = safe.load(&origin_now).await?;
                    // Another secret of the client's is a reason to try as well.
                    if !renewed && same(held.token.as_ref().unwrap_or(&origin_now), used) {
                        return Err(CallError::CredentialsRefused { status }.into());
                    }
                    (origin, version, token) = (origin_now, held.version, held.token);
                }
                Err(error) => return Err(error),
            }
            again = true;
        }
    }

    /// Keeps a rotated refresh token; `None` if another one stands there by now. What cannot be kept is left in
    /// `pending`, to be tried again.
    async fn keep(
        &self,
        safe: &Safe,
        left: Pending,
        pending: &mut Option<Pending>,
    ) -> Result<Option<Fetched>, NotFetched> {
        match safe.keep(left.version, &left.rotated, &left.origin).await {
            Ok(true) => Ok(Some(left.fetched)),
            Ok(false) => Ok(None),
            Err(error) => {
                *pending = Some(left);
                Err(error.into())
            }
        }
    }

    /// Whether the endpoint's circuit keeps calls away.
    pub(crate) fn is_open(&self, now: Mono) -> bool {
        let breaker = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        breaker.next_trial().is_some_and(|at| now < at)
    }
}

/// The refresh token that the Secret holds.
fn origin_of(settings: &Settings) -> Result<SecretString, CallError> {
    match settings.auth() {
        Auth::RefreshToken { refresh_token, .. } => Ok(refresh_token.clone()),
        _ => Err(CallError::NotKept(KeepProblem::NoKey)),
    }
}

fn same(one: &SecretString, other: &SecretString) -> bool {
    one.expose_secret() == other.expose_secret()
}
