//! Requests tokens over HTTP: `OAuth2` (RFC 6749 §4.4 and §6) as a form, or the JSON object that a profile defines.
//!
//! Client id and client secret go into the body, as the supported providers document it. Of the response only the
//! tokens and their lifetime are read; its text goes nowhere, and its bytes are wiped unless the HTTP client still
//! shares them.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE};
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use reqwest::Url;
use reqwest::header::HOST;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde::de::{Deserializer, Visitor};
use serde_json::Value;
use zeroize::{Zeroize as _, Zeroizing};

use crate::clock::Clock;
use crate::domain::breaker::MAX_THROTTLE;
use crate::domain::time::Mono;
use crate::profile::json;
use crate::profile::retry_after;
use crate::profile::{Classification, ResponseClass};
use crate::provider::auth::token_response::{TokenError, TokenResponse};
use crate::provider::body;
use crate::provider::call::CallError;
use crate::provider::http_clients::HttpClient;
use crate::provider::http_error;
use crate::settings::ErrorClass;
use crate::settings::addresses::{AddressDenied, EndpointRole};

/// A token response is small.
const MAX_BODY: usize = 64 * 1024;

/// Issues tokens.
pub(crate) trait TokenEndpoint: Send + Sync {
    /// Sends one request, with this refresh token if the grant needs one.
    fn request<'a>(
        &'a self,
        refresh_token: Option<&'a SecretString>,
    ) -> BoxFuture<'a, Result<TokenResponse, TokenError>>;
}

/// The body of the request, and how to read the response.
pub(crate) enum Grant {
    /// RFC 6749: a form; the response has `access_token`, `expires_in`, `refresh_token`.
    OAuth2 { scopes: Vec<String>, audience: Option<String>, client_id: SecretString, client_secret: SecretString },
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
            Grant::OAuth2 { scopes, audience, client_id, client_secret } => {
                let scope = scopes.join(" ");
                let mut form =
                    vec![("client_id", client_id.expose_secret()), ("client_secret", client_secret.expose_secret())];
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
        let response = request.send().await.map_err(|error| no_token(None, http_error::call_error(&error)))?;
        let status = response.status().as_u16();
        match status {
            200..=299 => {}
            // RFC 6749 §5.2: 400 or 401 with an error code; a 403 or 404 is as final.
            400..=499 if !matches!(status, 408 | 425 | 429) => {
                return Err(CallError::CredentialsRefused { status }.into());
            }
            _ => {
                let error = CallError::NoToken { status: Some(status), class: ErrorClass::Connect };
                return Err(TokenError {
                    error,
                    retry_after: requested_delay(response.headers(), self.clock.now().wall),
                });
            }
        }
        let body = body::read(response, MAX_BODY, self.timeout).await.map_err(|error| no_token(Some(status), error))?;
        let read = self.grant.read(&body, requested_at);
        wipe(body);
        read.ok_or_else(|| CallError::NoToken { status: Some(status), class: ErrorClass::Body }.into())
    }
}

impl Grant {
    fn read(&self, body: &[u8], requested_at: Mono) -> Option<TokenResponse> {
        match self {
            Self::OAuth2 { .. } => {
                let body: OAuth2Response = json::read(body).ok()?;
                let refresh_token = body.refresh_token.map(|WipedText(token)| token);
                Some(TokenResponse {
                    access_token: body.access_token.0,
                    expires_in: body.expires_in.and_then(|lifetime| lifetime.as_duration()),
                    refresh_token: refresh_token.filter(|token| !token.expose_secret().is_empty()),
                    requested_at,
                })
            }
            Self::Json { token_pointer, lifetime_pointer, .. } => {
                let body = WipedJson(json::parse(body).ok()?);
                let token = body.0.pointer(token_pointer)?.as_str().filter(|token| !token.is_empty())?;
                let lifetime: Option<Lifetime> =
                    body.0.pointer(lifetime_pointer).and_then(|json| Lifetime::deserialize(json).ok());
                Some(TokenResponse {
                    access_token: SecretString::from(token),
                    expires_in: lifetime.and_then(|lifetime| lifetime.as_duration()),
                    refresh_token: None,
                    requested_at,
                })
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
        retry_after: retry_after(headers),
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

/// The characters a form does not escape.
const FORM_ESCAPES: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_');

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

/// A parsed response whose strings are wiped on drop.
struct WipedJson(Value);

impl Drop for WipedJson {
    fn drop(&mut self) {
        wipe_strings(&mut self.0);
    }
}

/// Recurses no deeper than the parser did.
fn wipe_strings(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(all) => all.iter_mut().for_each(wipe_strings),
        Value::Object(all) => all.values_mut().for_each(wipe_strings),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// A string of the response that is wiped on drop, even if the rest of the response is invalid.
struct WipedText(SecretString);

impl<'de> Deserialize<'de> for WipedText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = WipedText;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            // The parser lends the string: this is the only copy.
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<WipedText, E> {
                Ok(WipedText(SecretString::from(text)))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// The fields read from an RFC 6749 response.
#[derive(Deserialize)]
struct OAuth2Response {
    access_token: WipedText,
    #[serde(default)]
    expires_in: Option<Lifetime>,
    #[serde(default)]
    refresh_token: Option<WipedText>,
}

/// Seconds, which some endpoints send as a string.
#[derive(Deserialize)]
#[serde(untagged)]
enum Lifetime {
    Number(serde_json::Number),
    Text(String),
}

impl Lifetime {
    /// Whole seconds; `None` if it is not a number or does not fit a duration: then the default lifetime applies.
    fn as_duration(&self) -> Option<Duration> {
        let text = match self {
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text.clone(),
        };
        let text = text.trim();
        // Rust would also parse `inf` and `NaN`.
        if !text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte)) {
            return None;
        }
        let seconds: f64 = text.parse().ok()?;
        Duration::try_from_secs_f64(seconds.trunc()).ok()
    }
}

#[cfg(test)]
mod tests;
