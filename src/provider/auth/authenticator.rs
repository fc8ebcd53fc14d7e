//! Builds what authenticates the calls of one connection from its settings.

use std::sync::Arc;

use crate::provider::auth::access_token_cache::AccessTokenCache;
use crate::provider::auth::access_token_source::AccessTokenSource;
use crate::provider::auth::credential_cache::{CredentialCache, SecretLookup};
use crate::provider::auth::refresh_token_store::{RefreshTokenEntry, RefreshTokenStore};
use crate::provider::auth::secret_source::SecretSource;
use crate::provider::auth::token_endpoint::{Grant, HttpTokenEndpoint, TokenEndpoint};
use crate::provider::http_clients::HttpClients;
use crate::provider::monitor::ConnectionMonitor;
use crate::settings::{Auth, DEFAULT_REFRESH_BEFORE, Settings};

/// What authenticates the calls of one connection.
#[derive(Clone)]
pub(crate) struct Authenticator {
    /// The credentials in the Secrets.
    pub(crate) credentials: Arc<CredentialCache>,
    /// The access token, if the settings require one.
    pub(crate) tokens: Option<Arc<AccessTokenCache>>,
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
        let lookup =
            deps.secrets.map(|secrets| SecretLookup { secrets: Arc::clone(secrets), clients: deps.clients.clone() });
        let credentials = CredentialCache::new(Arc::clone(settings), Arc::clone(deps.monitor), lookup);
        let tokens = access_tokens(settings, deps, &credentials);
        Self { credentials, tokens }
    }
}

fn access_tokens(
    settings: &Settings,
    deps: &AuthDeps<'_>,
    credentials: &Arc<CredentialCache>,
) -> Option<Arc<AccessTokenCache>> {
    let clock = deps.monitor.clock();
    let url = settings.auth().token_url()?;
    let entry = match settings.auth() {
        // Without a store for rotated tokens the controllers have rejected the connection already.
        Auth::RefreshToken { .. } => Some(RefreshTokenEntry {
            store: deps.refresh_tokens?.clone(),
            clock,
            connection: deps.monitor.key().clone(),
            token_url: url.to_string(),
            secret: settings.credential_revision().to_owned(),
            request_timeout: settings.timeouts().request,
            tasks: deps.monitor.tasks().clone(),
        }),
        _ => None,
    };
    let refresh_before = match settings.auth() {
        Auth::ClientCredentials(client) | Auth::RefreshToken { client, .. } => client.refresh_before,
        _ => DEFAULT_REFRESH_BEFORE,
    };
    let (client, timeout) = (deps.clients.for_url(settings, &url), settings.timeouts().request);
    let factory = move |settings: &Settings| {
        let grant = grant(settings.auth())?;
        let endpoint = HttpTokenEndpoint { client: client.clone(), clock, url: url.clone(), grant, timeout };
        Some(Arc::new(endpoint) as Arc<dyn TokenEndpoint>)
    };
    let source = AccessTokenSource::new(Box::new(factory), Arc::clone(credentials), Arc::clone(deps.monitor), entry)?;
    Some(AccessTokenCache::new(source, clock, refresh_before))
}

/// The grant to request tokens with; `None` if these credentials need no token.
fn grant(auth: &Auth) -> Option<Grant> {
    match auth {
        Auth::ClientCredentials(client) | Auth::RefreshToken { client, .. } => Some(Grant::OAuth2 {
            scopes: client.scopes.clone(),
            audience: client.audience.clone(),
            client_id: client.client_id.clone(),
            client_secret: client.client_secret.clone(),
        }),
        Auth::ProfileToken { fields, token_pointer, lifetime_pointer, .. } => Some(Grant::Json {
            fields: fields.clone(),
            token_pointer: token_pointer.clone(),
            lifetime_pointer: lifetime_pointer.clone(),
        }),
        Auth::None | Auth::Bearer { .. } | Auth::Basic { .. } | Auth::ApiKey { .. } | Auth::Profile { .. } => None,
    }
}
