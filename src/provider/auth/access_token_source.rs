//! Obtains access tokens for one connection: from the token endpoint, behind a circuit of its own; with a refresh token
//! also through the refresh token store and the Secret.
//!
//! The circuit is the preset `Api`: five failures in a row, 30 s, one trial. It keeps calls away from a failing token
//! endpoint, and keeps the endpoint's failures out of the provider's circuit: a bank whose login is down has not
//! failed, it cannot be called.
//!
//! A rotated refresh token is stored before the access token that came along is used. A connection runs one refresh at
//! a time, across changes of its settings and across replicas (the ledger's lease), because reuse of a spent token ends
//! the grant at a careful provider. Another replica may still have been first, or the Secret may have been rotated just
//! now: a refused token is therefore compared with both once more before the refusal counts.
//!
//! A refresh that is under way when the settings change ends as it began: its rotated token is stored for the endpoint
//! and the client that it was sent to, which is of no use to any other, and its access token is not used.

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt as _;
use secrecy::{ExposeSecret as _, SecretString};

use crate::clock::Clock;
use crate::domain::breaker::{Breaker, CallClass, CallOutcome, Policy, Preset};
use crate::domain::time::Mono;
use crate::provider::auth::credential_cache::CredentialCache;
use crate::provider::auth::credential_id::CredentialId;
use crate::provider::auth::endpoint_credential::EndpointCredential;
use crate::provider::auth::refresh_lock::{PendingRotation, RefreshLock};
use crate::provider::auth::refresh_token_store::{LoadedToken, RefreshTokenBinding, RefreshTokenEntry, RotatedToken};
use crate::provider::auth::token_endpoint::TokenEndpoint;
use crate::provider::auth::token_fault::TokenFault;
use crate::provider::auth::token_response::{TokenError, TokenResponse};
use crate::provider::call::{CallError, TokenStoreError};
use crate::provider::metrics::ResultCode;
use crate::provider::monitor::{ConnectionMonitor, outcome_label};
use crate::settings::Auth;
use crate::tasks::TaskGroup;

/// Builds the endpoint for these credentials; `None` if they are of a kind that needs no token.
pub(crate) type EndpointFactory = Box<dyn Fn(&EndpointCredential) -> Option<Arc<dyn TokenEndpoint>> + Send + Sync>;

/// An endpoint, and the credential that it sends.
type ConfiguredEndpoint = (Arc<EndpointCredential>, Arc<dyn TokenEndpoint>);

/// A new access token.
pub(crate) struct ObtainedToken {
    /// The credential that it was obtained by.
    pub(crate) credential: CredentialId,
    pub(crate) response: TokenResponse,
}

/// Requests access tokens.
pub(crate) struct AccessTokenSource {
    credentials: Arc<CredentialCache>,
    factory: EndpointFactory,
    endpoint: Mutex<ConfiguredEndpoint>,
    monitor: Arc<ConnectionMonitor>,
    clock: Clock,
    /// Where the rotated refresh token is stored, if there is a refresh token.
    entry: Option<RefreshTokenEntry>,
    breaker: Mutex<Breaker>,
}

impl AccessTokenSource {
    /// Requests tokens with `credentials`; `None` if `factory` builds no endpoint for them.
    pub(crate) fn new(
        factory: EndpointFactory,
        credentials: Arc<CredentialCache>,
        monitor: Arc<ConnectionMonitor>,
        entry: Option<RefreshTokenEntry>,
    ) -> Option<Self> {
        let clock = monitor.clock();
        let breaker = Mutex::new(Breaker::new(Policy::preset(Preset::Api), clock.mono()));
        let current = credentials.current();
        let configured = factory(&current)?;
        let endpoint = Mutex::new((current, configured));
        Some(Self { credentials, factory, endpoint, monitor, clock, entry, breaker })
    }

    /// The endpoint with the latest known credentials.
    fn endpoint(&self) -> ConfiguredEndpoint {
        let current = self.credentials.current();
        let mut configured = self.endpoint.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&configured.0, &current)
            && let Some(endpoint) = (self.factory)(&current)
        {
            *configured = (current, endpoint);
        }
        configured.clone()
    }

    /// The credential in force.
    pub(crate) fn credential(&self) -> CredentialId {
        self.credentials.current().id()
    }

    /// The credentials that tokens are requested with.
    #[cfg(test)]
    pub(crate) fn credentials(&self) -> &Arc<CredentialCache> {
        &self.credentials
    }

    /// Returns once no token may be requested any more.
    pub(crate) async fn ended(&self) {
        self.credentials.ended().await;
    }

    /// Fails with [`CallError::Superseded`] once no token may be requested any more.
    pub(crate) fn check_in_force(&self) -> Result<(), CallError> {
        self.credentials.check_in_force()
    }

    /// A new access token.
    pub(crate) async fn obtain(&self) -> Result<ObtainedToken, TokenError> {
        if let Some(entry) = &self.entry {
            return self.refresh(entry).await;
        }
        let (sent, endpoint) = self.endpoint();
        let result = self.request(&*endpoint, None).await;
        let refused = matches!(result, Err(TokenError { error: CallError::CredentialsRefused { .. }, .. }));
        if refused && self.credentials.replacement_for(&sent).await.is_some() {
            let (sent, endpoint) = self.endpoint();
            let response = self.request(&*endpoint, None).await?;
            return Ok(ObtainedToken { credential: sent.id(), response });
        }
        Ok(ObtainedToken { credential: sent.id(), response: result? })
    }

    /// Requests a token. A client that is refused is sent once more if it can be authenticated in another way.
    async fn request(
        &self,
        endpoint: &dyn TokenEndpoint,
        refresh_token: Option<&SecretString>,
    ) -> Result<TokenResponse, TokenError> {
        let mut result = self.send(endpoint, refresh_token).await;
        let refused = matches!(&result, Err(TokenError { fault: Some(TokenFault::Client), .. }));
        if refused && endpoint.change_client_authentication() {
            result = self.send(endpoint, refresh_token).await;
        }
        self.monitor.set_token_fault(result.as_ref().err().and_then(|error| error.fault));
        result
    }

    /// Sends one request to the endpoint, if its circuit admits it.
    async fn send(
        &self,
        endpoint: &dyn TokenEndpoint,
        refresh_token: Option<&SecretString>,
    ) -> Result<TokenResponse, TokenError> {
        self.check_in_force()?;
        let started = self.clock.mono();
        let permit = self.update_breaker(|breaker| breaker.admit(CallClass::Read, started));
        let permit = permit.map_err(|refusal| {
            self.monitor.record_token_request(ResultCode::Reason("token_circuit_open"), "refused");
            CallError::TokenCircuitOpen { retry_in: refusal.retry_at.map(|at| at.since(started)) }
        })?;
        let result = endpoint.request(refresh_token).await;
        let (code, outcome) = match &result {
            Ok(_) => (ResultCode::Status(200), CallOutcome::Success),
            // The endpoint works; a refusal of the credentials is not its failure.
            Err(TokenError { error: CallError::CredentialsRefused { status }, .. }) => {
                (ResultCode::Status(*status), CallOutcome::Success)
            }
            Err(TokenError { error: CallError::NoToken { status: Some(429), .. }, .. }) => {
                (ResultCode::Status(429), CallOutcome::Ignored)
            }
            Err(TokenError { error: CallError::NoToken { status, class }, .. }) => {
                (status.map_or(ResultCode::Reason(class.as_str()), ResultCode::Status), CallOutcome::Failure)
            }
            Err(TokenError { error, .. }) => (ResultCode::Reason(error.code()), CallOutcome::Ignored),
        };
        let label = match &result {
            Err(TokenError { error: CallError::CredentialsRefused { .. }, .. }) => "ignored",
            _ => outcome_label(outcome),
        };
        self.monitor.record_token_request(code, label);
        let now = self.clock.mono();
        self.update_breaker(|breaker| breaker.record(permit, outcome, now.since(started), now));
        result
    }

    /// Changes the circuit and reports it if its state changed.
    fn update_breaker<T>(&self, act: impl FnOnce(&mut Breaker) -> T) -> T {
        let mut breaker = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        let before = breaker.state();
        let result = act(&mut breaker);
        // The change is reported by state, below; the transition is taken so that it is not reported twice.
        let _reported_below = breaker.take_transition();
        let after = breaker.state();
        drop(breaker);
        if before != after {
            self.monitor.token_circuit_changed(before, after);
        }
        result
    }

    async fn refresh(&self, entry: &RefreshTokenEntry) -> Result<ObtainedToken, TokenError> {
        let RefreshLock { pending, holder } = self.monitor.refresh_lock();
        let mut pending = pending.lock().await;
        let lock = entry.lock(holder).await?;
        // The lock outlives a process that ends half-way, because the token may be spent; a panic ends only this task.
        let result = AssertUnwindSafe(self.refresh_locked(entry, &mut pending)).catch_unwind().await;
        let failed =
            matches!(&result, Ok(Err(TokenError { error: CallError::TokenStore(TokenStoreError::Ledger), .. })));
        // While a rotated token waits to be stored, the one that the ledger holds is spent, and no other holder may
        // send it. This one is let in again; after its end the lock expires.
        if !(failed && pending.is_some()) {
            entry.unlock(&lock).await;
        }
        result.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Refreshes while no other task and no other replica uses the refresh token.
    async fn refresh_locked(
        &self,
        entry: &RefreshTokenEntry,
        pending: &mut Option<PendingRotation>,
    ) -> Result<ObtainedToken, TokenError> {
        let (mut sent, mut endpoint) = self.endpoint();
        let (mut origin, mut binding) = refresh_token_of(&sent)?;
        // One for another endpoint or client stays where it is: the connection may be changed back.
        if let Some(rotation) = pending.take_if(|it| it.binding == binding && same(&it.origin, &origin)) {
            let PendingRotation { response, credential, .. } = &rotation;
            let (credential, life) = (*credential, response.expires_in);
            let valid = life.is_none_or(|life| self.clock.mono() < response.requested_at + life);
            let response = self.store(entry, rotation, pending).await?;
            if let Some(response) = response.filter(|_| valid && credential == sent.id()) {
                return Ok(ObtainedToken { credential, response });
            }
        }
        let LoadedToken { mut version, mut token } = entry.load(&binding, &origin).await?;
        // Twice at most: with what is known here, and with what another replica or the Secret may hold by now.
        let mut second_try = false;
        loop {
            let used = token.as_ref().unwrap_or(&origin);
            match self.request(&*endpoint, Some(used)).await {
                Ok(response) => {
                    let rotated = response.refresh_token.clone().filter(|rotated| !same(rotated, used));
                    let credential = sent.id();
                    let Some(rotated) = rotated else { return Ok(ObtainedToken { credential, response }) };
                    let (origin_sent, secret) = (origin.clone(), sent.settings().credential_revision().to_owned());
                    let rotation = PendingRotation {
                        response,
                        credential,
                        rotated,
                        origin: origin_sent,
                        binding: binding.clone(),
                        secret,
                        version,
                    };
                    match self.store(entry, rotation, pending).await? {
                        Some(response) => return Ok(ObtainedToken { credential, response }),
                        None if second_try => return Err(CallError::TokenStore(TokenStoreError::Ledger).into()),
                        // Another replica stored one meanwhile: that one counts.
                        None => LoadedToken { version, token } = entry.load(&binding, &origin).await?,
                    }
                }
                Err(TokenError { error: CallError::CredentialsRefused { status }, retry_after, fault })
                    if !second_try =>
                {
                    let replaced = self.credentials.replacement_for(&sent).await.is_some();
                    if replaced {
                        (sent, endpoint) = self.endpoint();
                    }
                    let (origin_now, binding_now) = refresh_token_of(&sent)?;
                    let loaded = entry.load(&binding_now, &origin_now).await?;
                    // Another client secret is a reason to try as well.
                    if !replaced && same(loaded.token.as_ref().unwrap_or(&origin_now), used) {
                        let error = CallError::CredentialsRefused { status };
                        return Err(TokenError { error, retry_after, fault });
                    }
                    (origin, binding) = (origin_now, binding_now);
                    (version, token) = (loaded.version, loaded.token);
                }
                Err(error) => return Err(error),
            }
            second_try = true;
        }
    }

    /// Stores a rotated refresh token; `None` if the store holds another one by now. A rotation that cannot be stored
    /// goes to `pending`, to be tried again.
    async fn store(
        &self,
        entry: &RefreshTokenEntry,
        rotation: PendingRotation,
        pending: &mut Option<PendingRotation>,
    ) -> Result<Option<TokenResponse>, TokenError> {
        let PendingRotation { rotated, origin, binding, secret, version, .. } = &rotation;
        let stored = entry.store(RotatedToken { version: *version, token: rotated, origin, binding, secret }).await;
        match stored {
            Ok(true) => Ok(Some(rotation.response)),
            Ok(false) => Ok(None),
            Err(error) => {
                *pending = Some(rotation);
                Err(error.into())
            }
        }
    }

    /// Whether a rotated refresh token of the current credentials waits to be stored, or is being stored.
    pub(crate) fn has_unstored_rotation(&self) -> bool {
        let Ok((origin, binding)) = refresh_token_of(&self.endpoint().0) else { return false };
        match self.monitor.refresh_lock().pending.try_lock() {
            Ok(pending) => pending.as_ref().is_some_and(|it| it.binding == binding && same(&it.origin, &origin)),
            Err(_) => true,
        }
    }

    /// Where requests to the endpoint run.
    pub(crate) fn tasks(&self) -> &TaskGroup {
        self.monitor.tasks()
    }

    /// Whether the endpoint's circuit is open.
    pub(crate) fn is_open(&self, now: Mono) -> bool {
        let breaker = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        breaker.next_trial().is_some_and(|at| now < at)
    }
}

/// The refresh token in the Secret, and what its successors are bound to.
fn refresh_token_of(sent: &EndpointCredential) -> Result<(SecretString, RefreshTokenBinding), CallError> {
    match (sent.settings().auth(), RefreshTokenBinding::of(sent.settings())) {
        (Auth::RefreshToken { refresh_token, .. }, Some(binding)) => Ok((refresh_token.clone(), binding)),
        _ => Err(CallError::TokenStore(TokenStoreError::NoKey)),
    }
}

fn same(one: &SecretString, other: &SecretString) -> bool {
    one.expose_secret() == other.expose_secret()
}
