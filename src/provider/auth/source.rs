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
use crate::provider::auth::vault::{Held, Safe, SecretSource};
use crate::provider::call::{CallError, KeepProblem};
use crate::provider::observe::{Core, outcome_label};

/// A token that came with a rotated refresh token which could not be kept yet. It outlives the settings it was asked
/// with: without it the grant would be lost.
pub(crate) struct Pending {
    fetched: Fetched,
    rotated: SecretString,
    /// The Secret's token that it descends from.
    origin: SecretString,
    version: i64,
}

/// What the refresh-token grant needs beside the endpoint.
pub(crate) struct Rotation {
    /// The refresh token of the Secret in force.
    pub(crate) origin: SecretString,
    pub(crate) safe: Safe,
    pub(crate) secrets: Option<Arc<dyn SecretSource>>,
}

/// Asks for tokens.
pub(crate) struct Source {
    endpoint: Box<dyn Endpoint>,
    core: Arc<Core>,
    clock: Clock,
    rotation: Option<Rotation>,
    breaker: Mutex<Breaker>,
}

impl Source {
    pub(crate) fn new(endpoint: Box<dyn Endpoint>, core: Arc<Core>, rotation: Option<Rotation>) -> Self {
        let clock = core.clock();
        let breaker = Mutex::new(Breaker::new(Policy::preset(Preset::Api), clock.mono()));
        Self { endpoint, core, clock, rotation, breaker }
    }

    /// A new token.
    pub(crate) async fn obtain(&self) -> Result<Fetched, NotFetched> {
        match &self.rotation {
            None => self.ask(None).await,
            Some(rotation) => self.refresh(rotation).await,
        }
    }

    /// Asks the endpoint, if its circuit lets us.
    async fn ask(&self, refresh_token: Option<&SecretString>) -> Result<Fetched, NotFetched> {
        let started = self.clock.mono();
        let permit = self.moved(|breaker| breaker.admit(CallClass::Read, started));
        let permit = permit.map_err(|refusal| {
            self.core.token_asked(Err("token_circuit_open"), "refused");
            CallError::TokenCircuitOpen { retry_in: refusal.retry_at.map(|at| at.since(started)) }
        })?;
        let end = self.endpoint.ask(refresh_token).await;
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

    async fn refresh(&self, rotation: &Rotation) -> Result<Fetched, NotFetched> {
        let mut pending = self.core.pending_refresh().lock().await;
        let lock = rotation.safe.lock().await?;
        let end = self.refresh_alone(rotation, &mut pending).await;
        rotation.safe.unlock(&lock).await;
        end
    }

    /// With nobody else, here or in another replica, who uses the refresh token.
    async fn refresh_alone(&self, rotation: &Rotation, pending: &mut Option<Pending>) -> Result<Fetched, NotFetched> {
        if let Some(left) = pending.take_if(|left| same(&left.origin, &rotation.origin)) {
            let still_good = left.fetched.expires_in.is_none_or(|life| self.clock.mono() < left.fetched.asked + life);
            let fetched = self.keep(rotation, left, pending).await?;
            if let Some(fetched) = fetched.filter(|_| still_good) {
                return Ok(fetched);
            }
        }
        let mut origin = rotation.origin.clone();
        let Held { mut version, mut token } = rotation.safe.load(&origin).await?;
        // Twice at most: with what is known here, and with what somebody else may have put there meanwhile.
        let mut again = false;
        loop {
            let used = token.as_ref().unwrap_or(&origin);
            match self.ask(Some(used)).await {
                Ok(fetched) => {
                    let rotated = fetched.refresh_token.clone().filter(|rotated| !same(rotated, used));
                    let Some(rotated) = rotated else { return Ok(fetched) };
                    let left = Pending { fetched, rotated, origin: origin.clone(), version };
                    match self.keep(rotation, left, pending).await? {
                        Some(fetched) => return Ok(fetched),
                        None if again => return Err(CallError::NotKept(KeepProblem::Ledger).into()),
                        // Another replica kept one since: that one counts.
                        None => Held { version, token } = rotation.safe.load(&origin).await?,
                    }
                }
                Err(NotFetched { error: CallError::CredentialsRefused { status }, .. }) if !again => {
                    let found = match &rotation.secrets {
                        Some(secrets) => secrets.refresh_token(&rotation.safe.connection).await,
                        None => None,
                    };
                    let origin_now = found.unwrap_or_else(|| origin.clone());
                    let held = rotation.safe.load(&origin_now).await?;
                    if same(held.token.as_ref().unwrap_or(&origin_now), used) {
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
        rotation: &Rotation,
        left: Pending,
        pending: &mut Option<Pending>,
    ) -> Result<Option<Fetched>, NotFetched> {
        match rotation.safe.keep(left.version, &left.rotated, &left.origin).await {
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

fn same(one: &SecretString, other: &SecretString) -> bool {
    one.expose_secret() == other.expose_secret()
}
