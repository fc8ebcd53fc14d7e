//! A credential and the only endpoint that it may be sent to, as one value.
//!
//! A request gets its credential and its destination in one step and from one value
//! ([`EndpointCredential::authorize`]), and only the result of that step can be sent: the HTTP layer has neither a base
//! URL nor a client of its own. So no code outside this folder can send the credential of one connection, or of one
//! version of it, to the host of another.
//!
//! The same step checks that the credential may still be used. It ends with the settings it came from, also for calls
//! that were resolved before and waited for quota, for a token or between two tries.

use std::fmt;
use std::sync::Arc;

use reqwest::header::HOST;
use tokio_util::sync::CancellationToken;

use crate::provider::auth::access_token::AccessToken;
use crate::provider::auth::credential_id::CredentialId;
use crate::provider::auth::static_credentials;
use crate::provider::call::{CallError, Request};
use crate::provider::http_clients::{HttpClient, HttpClients};
use crate::provider::request_url::request_url;
use crate::settings::Settings;

/// Whether the credentials of one version of a connection's settings may still be used.
#[derive(Default)]
pub(crate) struct InForce {
    ended: CancellationToken,
}

impl InForce {
    /// Fails with [`CallError::Superseded`] once they may not.
    pub(crate) fn check(&self) -> Result<(), CallError> {
        if self.ended.is_cancelled() { Err(CallError::Superseded) } else { Ok(()) }
    }

    /// Ends their use, for good.
    pub(crate) fn end(&self) {
        self.ended.cancel();
    }

    /// Returns once their use has ended.
    pub(crate) async fn ended(&self) {
        self.ended.cancelled().await;
    }
}

/// A credential and its endpoint: base URL, TLS roots and client certificate come from the same settings.
pub(crate) struct EndpointCredential {
    id: CredentialId,
    settings: Arc<Settings>,
    client: HttpClient,
    in_force: Arc<InForce>,
}

impl EndpointCredential {
    /// The credential and the endpoint of `settings`.
    pub(crate) fn new(settings: Arc<Settings>, clients: &HttpClients, in_force: Arc<InForce>) -> Arc<Self> {
        let client = clients.for_provider(&settings);
        Arc::new(Self { id: CredentialId::unique(), settings, client, in_force })
    }

    /// The same credential and endpoint with other settings around them, such as time-outs; `None` unless both
    /// authenticate in the same way.
    pub(super) fn with_settings(&self, settings: &Arc<Settings>, clients: &HttpClients) -> Option<Arc<Self>> {
        self.settings.same_authentication(settings).then(|| {
            let (settings, client) = (Arc::clone(settings), clients.for_provider(settings));
            Arc::new(Self { id: self.id, settings, client, in_force: Arc::clone(&self.in_force) })
        })
    }

    /// Its identity.
    pub(crate) fn id(&self) -> CredentialId {
        self.id
    }

    /// Whether it may still be sent.
    pub(super) fn in_force(&self) -> &Arc<InForce> {
        &self.in_force
    }

    /// The settings that it consists of.
    pub(super) fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// `request` with this credential, or with the access token that was obtained by it, to this endpoint.
    ///
    /// # Errors
    /// [`CallError::Superseded`] if the credential has ended or `token` was obtained by another one; another error if
    /// the credential cannot be encoded. Nothing is sent then.
    pub(super) fn authorize(
        &self,
        request: &Request,
        token: Option<&AccessToken>,
    ) -> Result<AuthorizedRequest, CallError> {
        self.in_force.check()?;
        let mut request = request.clone();
        match token {
            Some(token) if token.is_of(self.id) => static_credentials::apply_bearer(token.header(), &mut request)?,
            Some(_) => return Err(CallError::Superseded),
            None => static_credentials::apply(self.settings.auth(), &mut request)?,
        }
        let (settings, client) = (Arc::clone(&self.settings), self.client.clone());
        Ok(AuthorizedRequest { request, settings, client, in_force: Arc::clone(&self.in_force) })
    }
}

/// A request with its credential, bound to its destination.
#[derive(Clone)]
pub(crate) struct AuthorizedRequest {
    request: Request,
    settings: Arc<Settings>,
    client: HttpClient,
    in_force: Arc<InForce>,
}

impl AuthorizedRequest {
    /// The settings of the destination.
    pub(crate) fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// The client that it must be sent with.
    pub(crate) fn client(&self) -> &HttpClient {
        &self.client
    }

    /// Whether its credential may still be sent.
    pub(crate) fn in_force(&self) -> &Arc<InForce> {
        &self.in_force
    }

    /// The request as it is sent.
    #[cfg(test)]
    pub(crate) fn request(&self) -> &Request {
        &self.request
    }

    /// The HTTP request.
    pub(crate) fn into_http(self) -> Result<reqwest::RequestBuilder, CallError> {
        let Self { request, settings, client, in_force: _ } = self;
        let url = request_url(settings.base_url(), &request.path, &request.query)?;
        let (url, host) = client.request_target(url)?;
        let constant = settings.profile().constant_headers().clone();
        let mut builder = client.http()?.request(request.method, url).headers(constant).headers(request.headers);
        if let Some(host) = host {
            builder = builder.header(HOST, host);
        }
        if let Some(body) = request.body {
            builder = builder.body(body);
        }
        Ok(builder)
    }
}

impl fmt::Debug for AuthorizedRequest {
    /// Prints neither the credential nor where it may be in the query.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorizedRequest").field("request", &self.request).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use secrecy::SecretString;

    use super::*;
    use crate::domain::time::Mono;
    use crate::provider::auth::token_response::TokenResponse;
    use crate::provider::testkit::settings;
    use crate::settings::Auth;

    fn credential(host: &str) -> (Arc<EndpointCredential>, Arc<InForce>) {
        let settings = settings(|draft| {
            draft.base_url = format!("http://{host}.test/v1");
            draft.auth = Auth::Bearer { token: SecretString::from(format!("canary-{host}")) };
        });
        let in_force = Arc::new(InForce::default());
        (EndpointCredential::new(settings, &HttpClients::default(), Arc::clone(&in_force)), in_force)
    }

    fn token(of: &EndpointCredential) -> AccessToken {
        let response = TokenResponse {
            access_token: SecretString::from("canary-token"),
            expires_in: None,
            refresh_token: None,
            requested_at: Mono::ZERO,
        };
        AccessToken::new(&response, of.id(), Duration::ZERO)
    }

    #[test]
    fn the_credential_decides_on_the_host() {
        for host in ["a", "b"] {
            let request = credential(host).0.authorize(&Request::get("x", "/accounts"), None).unwrap();
            let http = request.into_http().unwrap().build().unwrap();
            assert_eq!(http.url().as_str(), format!("http://{host}.test/v1/accounts"));
            assert_eq!(http.headers()["authorization"], format!("Bearer canary-{host}"));
        }
    }

    #[test]
    fn a_token_goes_only_where_its_own_credential_goes() {
        let (one, other) = (credential("a").0, credential("a").0);
        let request = Request::get("x", "/");
        assert!(one.authorize(&request, Some(&token(&one))).is_ok());
        let end = other.authorize(&request, Some(&token(&one)));
        assert_eq!(end.err(), Some(CallError::Superseded), "an equal credential is another one");
    }

    #[test]
    fn an_ended_credential_authorizes_nothing() {
        let (credential, in_force) = credential("a");
        in_force.end();
        for token in [None, Some(token(&credential))] {
            let end = credential.authorize(&Request::get("x", "/"), token.as_ref());
            assert_eq!(end.err(), Some(CallError::Superseded));
        }
    }
}
