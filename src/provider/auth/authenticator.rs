//! Builds what authenticates the calls of one connection from its settings, and ends it with them.

use std::sync::{Arc, OnceLock};

use crate::provider::auth::access_token_cache::AccessTokenCache;
use crate::provider::auth::access_token_source::AccessTokenSource;
use crate::provider::auth::client_authentication::{AcceptedMethod, ClientMethod};
use crate::provider::auth::credential_cache::CredentialCache;
use crate::provider::auth::credential_id::CredentialId;
use crate::provider::auth::endpoint_credential::EndpointCredential;
use crate::provider::auth::refresh_token_store::{RefreshTokenEntry, RefreshTokenStore};
use crate::provider::auth::secret_source::SecretSource;
use crate::provider::auth::token_endpoint::{Grant, HttpTokenEndpoint, TokenEndpoint};
use crate::provider::call::CallError;
use crate::provider::http_clients::HttpClients;
use crate::provider::monitor::ConnectionMonitor;
use crate::settings::{Auth, DEFAULT_REFRESH_BEFORE, Settings};

/// What authenticates the calls of one connection. Clones share it.
#[derive(Clone)]
pub(crate) struct Authenticator {
    /// The credentials in the Secrets.
    pub(crate) credentials: Arc<CredentialCache>,
    /// The access token, if the settings require one.
    pub(crate) tokens: Option<Arc<AccessTokenCache>>,
    /// Set when other settings were put in force, or the connection was removed: what authenticates calls to the same
    /// endpoint since then, if there is such a thing.
    successor: Arc<OnceLock<Option<Self>>>,
}

/// What an [`Authenticator`] depends on besides the settings.
pub(crate) struct AuthDeps<'a> {
    pub(crate) clients: &'a HttpClients,
    pub(crate) monitor: &'a Arc<ConnectionMonitor>,
    pub(crate) refresh_tokens: Option<&'a RefreshTokenStore>,
    pub(crate) secrets: Option<&'a Arc<dyn SecretSource>>,
}

impl Authenticator {
    pub(crate) fn new(settings: &Arc<Settings>, deps: &AuthDeps<'_>) -> Self {
        let (clients, monitor) = (deps.clients.clone(), Arc::clone(deps.monitor));
        let credentials = CredentialCache::new(Arc::clone(settings), clients, monitor, deps.secrets.cloned());
        let tokens = access_tokens(settings, deps, &credentials);
        Self::of(credentials, tokens)
    }

    /// Of these parts.
    pub(crate) fn of(credentials: Arc<CredentialCache>, tokens: Option<Arc<AccessTokenCache>>) -> Self {
        Self { credentials, tokens, successor: Arc::default() }
    }

    /// Whether both are the same, not only equal.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.successor, &other.successor)
    }

    /// What authenticates calls to this endpoint now: itself, or what took its place.
    ///
    /// # Errors
    /// [`CallError::Superseded`] if the connection was removed or calls another endpoint since.
    pub(crate) fn latest(&self) -> Result<Self, CallError> {
        let mut latest = self.clone();
        while let Some(successor) = latest.successor.get().cloned() {
            latest = successor.ok_or(CallError::Superseded)?;
        }
        Ok(latest)
    }

    /// The identity of the credential that calls are made with; `None` if none may be made any more.
    pub(crate) fn credential(&self) -> Option<CredentialId> {
        Some(self.latest().ok()?.credentials.current().id())
    }

    /// Ends the use of its credentials and of what they obtained. Calls that have not been sent yet go on with
    /// `successor`, which must be for the same endpoint; without one they end.
    pub(crate) fn end(&self, successor: Option<Self>) {
        // In this order: a call that finds that the credentials have ended also finds the successor.
        let _first_wins = self.successor.set(successor);
        self.credentials.end();
        if let Some(tokens) = &self.tokens {
            tokens.wipe();
        }
    }
}

fn access_tokens(
    settings: &Settings,
    deps: &AuthDeps<'_>,
    credentials: &Arc<CredentialCache>,
) -> Option<Arc<AccessTokenCache>> {
    let clock = deps.monitor.clock();
    settings.auth().token_url()?;
    let entry = match settings.auth() {
        // Without a store for rotated tokens the controllers have rejected the connection already.
        Auth::RefreshToken { .. } => Some(RefreshTokenEntry {
            store: deps.refresh_tokens?.clone(),
            clock,
            connection: deps.monitor.key().clone(),
            request_timeout: settings.timeouts().request,
            tasks: deps.monitor.tasks().clone(),
        }),
        _ => None,
    };
    let refresh_before = match settings.auth() {
        Auth::ClientCredentials(client) | Auth::RefreshToken { client, .. } => client.refresh_before,
        _ => DEFAULT_REFRESH_BEFORE,
    };
    let (clients, accepted) = (deps.clients.clone(), deps.monitor.accepted_method());
    let resends = deps.monitor.metrics().resends(settings.provider());
    // URL, client certificate and credentials from one value, like those of a call.
    let factory = move |credential: &EndpointCredential| {
        let settings = credential.settings();
        let (url, grant) = (settings.auth().token_url()?, grant(settings.auth(), &accepted)?);
        let (client, timeout) = (clients.for_url(settings, &url), settings.timeouts().request);
        let (in_force, resends) = (Arc::clone(credential.in_force()), resends.clone());
        let endpoint = HttpTokenEndpoint { client, clock, url, grant, timeout, in_force, resends };
        Some(Arc::new(endpoint) as Arc<dyn TokenEndpoint>)
    };
    let source = AccessTokenSource::new(Box::new(factory), Arc::clone(credentials), Arc::clone(deps.monitor), entry)?;
    Some(AccessTokenCache::new(source, clock, refresh_before))
}

/// The grant to request tokens with; `None` if these credentials need no token.
fn grant(auth: &Auth, accepted: &Arc<AcceptedMethod>) -> Option<Grant> {
    match auth {
        Auth::ClientCredentials(client) | Auth::RefreshToken { client, .. } => Some(Grant::OAuth2 {
            scopes: client.scopes.clone(),
            audience: client.audience.clone(),
            client_id: client.client_id.clone(),
            client_secret: client.client_secret.clone(),
            method: ClientMethod::new(
                client.client_authentication,
                &client.token_url,
                &client.client_id,
                Arc::clone(accepted),
            ),
        }),
        Auth::ProfileToken { fields, token_pointer, lifetime_pointer, .. } => Some(Grant::Json {
            fields: fields.clone(),
            token_pointer: token_pointer.clone(),
            lifetime_pointer: lifetime_pointer.clone(),
        }),
        Auth::None | Auth::Bearer { .. } | Auth::Basic { .. } | Auth::ApiKey { .. } | Auth::Profile { .. } => None,
    }
}
