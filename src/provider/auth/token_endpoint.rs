//! Requests tokens over HTTP: `OAuth2` (RFC 6749 §4.4 and §6) as a form, or the JSON object that a profile defines.
//!
//! Client id and client secret go into the body or into a header (`client_authentication`). Of the response only the
//! tokens and their lifetime are read, of a refusal its error code (`token_body`); its bytes are wiped unless the HTTP
//! client still shares them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::HeaderMap;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use jiff::Timestamp;
use percent_encoding::percent_encode;
use prometheus::IntCounter;
use reqwest::Url;
use reqwest::header::HOST;
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::{Zeroize as _, Zeroizing};

use crate::clock::Clock;
use crate::domain::breaker::MAX_THROTTLE;
use crate::domain::time::Mono;
use crate::profile::retry_after;
use crate::profile::{Classification, ResponseClass};
use crate::provider::auth::client_authentication::{self, ClientMethod, FORM_ESCAPES, SentIn};
use crate::provider::auth::endpoint_credential::InForce;
use crate::provider::auth::token_body;
use crate::provider::auth::token_fault::TokenFault;
use crate::provider::auth::token_response::{TokenError, TokenResponse};
use crate::provider::body;
use crate::provider::call::CallError;
use crate::provider::http_clients::HttpClient;
use crate::provider::http_error;
use crate::provider::resend::{self, Repeatable};
use crate::settings::ErrorClass;
use crate::settings::addresses::{AddressDenied, EndpointRole};

/// A token response is small.
const MAX_BODY: usize = 64 * 1024;
/// How long the body of a refusal is waited for: without it the refusal counts all the same.
const MAX_REFUSAL_WAIT: Duration = Duration::from_secs(2);

/// Issues tokens.
pub(crate) trait TokenEndpoint: Send + Sync {
    /// Sends one request, with this refresh token if the grant needs one.
    fn request<'a>(
        &'a self,
        refresh_token: Option<&'a SecretString>,
    ) -> BoxFuture<'a, Result<TokenResponse, TokenError>>;

    /// The client was refused: changes how the next request authenticates it. Returns whether that one may follow at
    /// once.
    fn change_client_authentication(&self) -> bool {
        false
    }
}

/// The body of the request, and how to read the response.
pub(crate) enum Grant {
    /// RFC 6749: a form; the response has `access_token`, `expires_in`, `refresh_token`.
    OAuth2 {
        scopes: Vec<String>,
        audience: Option<String>,
        client_id: SecretString,
        client_secret: SecretString,
        method: ClientMethod,
    },
    /// A JSON object of these fields; the JSON pointers locate the token and its lifetime in the response.
    Json { fields: Vec<(String, SecretString)>, token_pointer: String, lifetime_pointer: String },
}

/// A token endpoint over HTTP.
pub(crate) struct HttpTokenEndpoint {
    pub(crate) client: HttpClient,
    pub(crate) clock: Clock,
    pub(crate) url: Url,
    pub(crate) grant: Grant,
    /// Timeout of the whole request.
    pub(crate) timeout: Duration,
    /// Whether the credentials may still be sent.
    pub(crate) in_force: Arc<InForce>,
    /// Counts requests that are sent again.
    pub(crate) resends: IntCounter,
}

impl TokenEndpoint for HttpTokenEndpoint {
    fn request<'a>(
        &'a self,
        refresh_token: Option<&'a SecretString>,
    ) -> BoxFuture<'a, Result<TokenResponse, TokenError>> {
        async move {
            let requested_at = self.clock.mono();
            match tokio::time::timeout(self.timeout, self.exchange(refresh_token, requested_at)).await {
                Ok(result) => result,
                Err(_) => Err(CallError::NoToken { status: None, class: ErrorClass::Timeout }.into()),
            }
        }
        .boxed()
    }

    fn change_client_authentication(&self) -> bool {
        matches!(&self.grant, Grant::OAuth2 { method, .. } if method.change())
    }
}

impl HttpTokenEndpoint {
    async fn exchange(
        &self,
        refresh_token: Option<&SecretString>,
        requested_at: Mono,
    ) -> Result<TokenResponse, TokenError> {
        let (url, host) = self.client.request_target(self.url.clone())?;
        let http = self.client.http().map_err(as_token_endpoint_error)?;
        let mut request = http.post(url).header(ACCEPT, "application/json");
        if let Some(host) = host {
            request = request.header(HOST, host);
        }
        let request = match &self.grant {
            Grant::OAuth2 { scopes, audience, client_id, client_secret, method } => {
                let scope = scopes.join(" ");
                let mut form = Vec::new();
                match method.current() {
                    SentIn::Body => form.extend([
                        ("client_id", client_id.expose_secret()),
                        ("client_secret", client_secret.expose_secret()),
                    ]),
                    SentIn::Basic => {
                        let credentials = client_authentication::basic(client_id, client_secret)
                            .ok_or(CallError::InvalidRequest("the client's credentials cannot be sent in a header"))?;
                        request = request.header(AUTHORIZATION, credentials);
                    }
                }
                match refresh_token {
                    Some(token) => {
                        form.extend([("grant_type", "refresh_token"), ("refresh_token", token.expose_secret())]);
                    }
                    None => form.push(("grant_type", "client_credentials")),
                }
                if !scope.is_empty() {
                    form.push(("scope", &scope));
                }
                if let Some(audience) = audience {
                    form.push(("audience", audience));
                }
                request
                    .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                    .body(wiped_on_drop(encode_form(&form)))
            }
            Grant::Json { fields, .. } => {
                let fields: BTreeMap<&str, &str> =
                    fields.iter().map(|(name, value)| (name.as_str(), value.expose_secret())).collect();
                let body = encode_json(&fields)
                    .ok_or(CallError::InvalidRequest("the token request cannot be encoded as JSON"))?;
                request.header(CONTENT_TYPE, "application/json").body(wiped_on_drop(body))
            }
        };
        let request = request.build().map_err(|error| no_token(None, http_error::call_error(&error)))?;
        // A refresh token may have been replaced by the first request.
        let repeatable = if refresh_token.is_some() { Repeatable::OnlyUnprocessed } else { Repeatable::Yes };
        let before_resend = || {
            self.in_force.check()?;
            self.resends.inc();
            Ok(())
        };
        let sent = resend::send(&self.client, request, repeatable, before_resend).await;
        let response = sent.map_err(|error| no_token(None, error))?;
        let status = response.status().as_u16();
        if !(200..=299).contains(&status) {
            return Err(self.refusal(status, response).await);
        }
        let body = body::read(response, MAX_BODY, self.timeout).await.map_err(|error| no_token(Some(status), error))?;
        let read = self.grant.read(&body, requested_at);
        wipe(body);
        match read {
            Ok(response) => {
                if let Grant::OAuth2 { method, .. } = &self.grant {
                    method.accept();
                }
                Ok(response)
            }
            Err(fault) => {
                let error = CallError::NoToken { status: Some(status), class: ErrorClass::Body };
                Err(TokenError { error, retry_after: None, fault: Some(fault) })
            }
        }
    }

    /// Why a response with this status is none with a token.
    async fn refusal(&self, status: u16, response: reqwest::Response) -> TokenError {
        let retry_after = requested_delay(response.headers(), self.clock.now().wall);
        // RFC 6749 §5.2: 400 or 401 with an error code; a 403 or 404 is as final.
        let is_final = matches!(status, 400..=499) && !matches!(status, 408 | 425 | 429);
        let mut code = None;
        if is_final {
            let patience = MAX_REFUSAL_WAIT.min(self.timeout / 2);
            if let Ok(Ok(body)) = tokio::time::timeout(patience, body::read(response, MAX_BODY, patience)).await {
                code = token_body::error_code(&body);
                wipe(body);
            }
        }
        let error = if is_final {
            CallError::CredentialsRefused { status }
        } else {
            CallError::NoToken { status: Some(status), class: ErrorClass::Connect }
        };
        TokenError { error, retry_after, fault: TokenFault::of_refusal(status, code.as_deref()) }
    }
}

impl Grant {
    fn read(&self, body: &[u8], requested_at: Mono) -> Result<TokenResponse, TokenFault> {
        match self {
            Self::OAuth2 { .. } => token_body::read_oauth2(body, requested_at),
            Self::Json { token_pointer, lifetime_pointer, .. } => {
                token_body::read_json(body, token_pointer, lifetime_pointer, requested_at)
            }
        }
    }
}

/// Attributes a refused address to the token endpoint: the client attributes it to the provider.
fn as_token_endpoint_error(error: CallError) -> CallError {
    match error {
        CallError::AddressRefused(AddressDenied { kind, .. }) => {
            CallError::AddressRefused(AddressDenied { endpoint: EndpointRole::TokenEndpoint, kind })
        }
        other => other,
    }
}

fn no_token(status: Option<u16>, error: CallError) -> CallError {
    match as_token_endpoint_error(error) {
        refused @ CallError::AddressRefused(_) => refused,
        other => CallError::NoToken { status, class: other.class().unwrap_or(ErrorClass::Connect) },
    }
}

/// The delay in `Retry-After`, in seconds or as a date, parsed as for any call and capped at [`MAX_THROTTLE`].
fn requested_delay(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let classification = Classification {
        class: ResponseClass::RateLimited,
        retry_after: retry_after(headers, now),
        ..Classification::default()
    };
    classification.retry_delay(now).map(|delay| delay.min(MAX_THROTTLE))
}

/// Overwrites a response that held a token, unless the HTTP client still shares it: then it must not be written to.
fn wipe(body: Bytes) {
    if let Ok(mut body) = body.try_into_mut() {
        body.zeroize();
    }
}

/// A request body that is wiped when its last reference is dropped.
fn wiped_on_drop(body: Zeroizing<Vec<u8>>) -> Bytes {
    Bytes::from_owner(body)
}

/// Encodes a form in one allocation: growing would leave copies of secrets behind.
fn encode_form(pairs: &[(&str, &str)]) -> Zeroizing<Vec<u8>> {
    let capacity = pairs.iter().map(|(name, value)| 2 + 3 * (name.len() + value.len())).sum();
    let mut body = Zeroizing::new(Vec::with_capacity(capacity));
    for (index, (name, value)) in pairs.iter().enumerate() {
        for (before, text) in [(if index == 0 { "" } else { "&" }, *name), ("=", *value)] {
            body.extend_from_slice(before.as_bytes());
            percent_encode(text.as_bytes(), FORM_ESCAPES).for_each(|part| body.extend_from_slice(part.as_bytes()));
        }
    }
    body
}

/// Encodes a JSON object, likewise.
fn encode_json(fields: &BTreeMap<&str, &str>) -> Option<Zeroizing<Vec<u8>>> {
    // A character is escaped as six at most.
    let capacity = fields.iter().map(|(name, value)| 6 + 6 * (name.len() + value.len())).sum::<usize>();
    let mut body = Zeroizing::new(Vec::with_capacity(capacity + 2));
    serde_json::to_writer(&mut *body, fields).ok()?;
    Some(body)
}

#[cfg(test)]
mod tests;
