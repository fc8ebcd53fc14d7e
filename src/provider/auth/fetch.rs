//! One request to a token endpoint: `OAuth2` (RFC 6749 §4.4 and §6) as a form, or what a profile says as JSON.
//!
//! The client's id and secret go into the body, the way the providers we know document it. Nothing of the answer but
//! tokens and their life is looked at; its text goes nowhere, and its bytes are wiped where nobody else holds them.

use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER};
use reqwest::header::HOST;
use reqwest::{Response, Url};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::{Map, Value};
use zeroize::Zeroize as _;

use crate::clock::Clock;
use crate::domain::time::Mono;
use crate::provider::addresses::{AddressProblem, Peer};
use crate::provider::body;
use crate::provider::call::CallError;
use crate::provider::classify::ErrorClass;
use crate::provider::clients::Client;
use crate::provider::exchange::explain;

/// A token answer is small.
const MAX_BODY: usize = 64 * 1024;
/// No silence that a token endpoint asks for is kept for longer: a wrong header must not end a connection for a day.
const MAX_WAIT: Duration = Duration::from_mins(5);

/// What a token endpoint gave.
pub(crate) struct Fetched {
    pub(crate) access_token: SecretString,
    pub(crate) expires_in: Option<Duration>,
    /// Given in place of the refresh token that was sent, which may be spent by now.
    pub(crate) refresh_token: Option<SecretString>,
    /// When it was asked for: the life counts from here.
    pub(crate) asked: Mono,
}

/// Why it gave none.
#[derive(Clone, Debug)]
pub(crate) struct NotFetched {
    pub(crate) error: CallError,
    /// How long it asked to be left alone.
    pub(crate) wait: Option<Duration>,
}

impl From<CallError> for NotFetched {
    fn from(error: CallError) -> Self {
        Self { error, wait: None }
    }
}

/// Where tokens are asked for.
pub(crate) trait Endpoint: Send + Sync {
    /// Asks once, with this refresh token where the grant wants one.
    fn ask<'a>(&'a self, refresh_token: Option<&'a SecretString>) -> BoxFuture<'a, Result<Fetched, NotFetched>>;
}

/// What the body of the request says.
pub(crate) enum Grant {
    /// RFC 6749: a form, an answer with `access_token`, `expires_in`, `refresh_token`.
    OAuth2 { scopes: Vec<String>, audience: Option<String>, client_id: SecretString, client_secret: SecretString },
    /// A JSON object of these fields, an answer with the token and its life where these pointers say.
    Json { fields: Vec<(String, SecretString)>, token_at: String, life_at: String },
}

/// How tokens are asked for over HTTP.
pub(crate) struct Fetch {
    pub(crate) client: Client,
    pub(crate) clock: Clock,
    pub(crate) url: Url,
    pub(crate) grant: Grant,
    /// Of the whole request.
    pub(crate) timeout: Duration,
}

impl Endpoint for Fetch {
    fn ask<'a>(&'a self, refresh_token: Option<&'a SecretString>) -> BoxFuture<'a, Result<Fetched, NotFetched>> {
        async move {
            let asked = self.clock.mono();
            match tokio::time::timeout(self.timeout, self.exchange(refresh_token, asked)).await {
                Ok(end) => end,
                Err(_) => Err(CallError::NoToken { status: None, class: ErrorClass::Timeout }.into()),
            }
        }
        .boxed()
    }
}

impl Fetch {
    async fn exchange(&self, refresh_token: Option<&SecretString>, asked: Mono) -> Result<Fetched, NotFetched> {
        let (url, host) = self.client.aim(self.url.clone())?;
        let http = self.client.http().map_err(at_the_endpoint)?;
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
                request.form(&form)
            }
            Grant::Json { fields, .. } => {
                let object: Map<String, Value> =
                    fields.iter().map(|(name, value)| (name.clone(), value.expose_secret().into())).collect();
                request.header(CONTENT_TYPE, "application/json").body(Value::Object(object).to_string())
            }
        };
        let response = request.send().await.map_err(|error| no_token(None, explain(&error)))?;
        let status = response.status().as_u16();
        match status {
            200..=299 => {}
            // RFC 6749 §5.2: 400 or 401 with a code of its own; a 403 or 404 is as final.
            400..=499 if !matches!(status, 408 | 425 | 429) => {
                return Err(CallError::CredentialsRefused { status }.into());
            }
            _ => {
                let error = CallError::NoToken { status: Some(status), class: ErrorClass::Connect };
                return Err(NotFetched { error, wait: wait(&response) });
            }
        }
        let body = body::read(response, MAX_BODY, self.timeout).await.map_err(|error| no_token(Some(status), error))?;
        let read = self.grant.read(&body, asked);
        wipe(body);
        read.ok_or_else(|| CallError::NoToken { status: Some(status), class: ErrorClass::Body }.into())
    }
}

impl Grant {
    fn read(&self, body: &[u8], asked: Mono) -> Option<Fetched> {
        match self {
            Self::OAuth2 { .. } => {
                let body: Body = serde_json::from_slice(body).ok()?;
                Some(Fetched {
                    access_token: SecretString::from(body.access_token),
                    expires_in: body.expires_in.and_then(|life| life.as_duration()),
                    refresh_token: body.refresh_token.filter(|token| !token.is_empty()).map(SecretString::from),
                    asked,
                })
            }
            Self::Json { token_at, life_at, .. } => {
                let body: Value = serde_json::from_slice(body).ok()?;
                let token = body.pointer(token_at)?.as_str().filter(|token| !token.is_empty())?;
                let life: Option<Life> = body.pointer(life_at).and_then(|life| Life::deserialize(life).ok());
                Some(Fetched {
                    access_token: SecretString::from(token),
                    expires_in: life.and_then(|life| life.as_duration()),
                    refresh_token: None,
                    asked,
                })
            }
        }
    }
}

/// The client's refusals speak of the provider; here it is the token endpoint that was called.
fn at_the_endpoint(error: CallError) -> CallError {
    match error {
        CallError::Refused(AddressProblem { kind, .. }) => {
            CallError::Refused(AddressProblem { peer: Peer::TokenEndpoint, kind })
        }
        other => other,
    }
}

fn no_token(status: Option<u16>, error: CallError) -> CallError {
    match at_the_endpoint(error) {
        refused @ CallError::Refused(_) => refused,
        other => CallError::NoToken { status, class: other.class().unwrap_or(ErrorClass::Connect) },
    }
}

/// `Retry-After` in seconds. A date is not worth a clock comparison here: the circuit spaces the tries anyway.
fn wait(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(MAX_WAIT))
}

/// Overwrites an answer that held a token. What the HTTP client still shares of it is not ours to write to.
fn wipe(body: Bytes) {
    if let Ok(mut body) = body.try_into_mut() {
        body.zeroize();
    }
}

/// The part of the answer that counts.
#[derive(Deserialize)]
struct Body {
    access_token: String,
    #[serde(default)]
    expires_in: Option<Life>,
    #[serde(default)]
    refresh_token: Option<String>,
}

/// Seconds, which some endpoints write as a text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Life {
    Number(serde_json::Number),
    Text(String),
}

impl Life {
    fn as_duration(&self) -> Option<Duration> {
        let text = match self {
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text.clone(),
        };
        let whole = text.trim().split('.').next().unwrap_or_default();
        whole.parse().ok().map(Duration::from_secs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn oauth2() -> Grant {
        let secret = || SecretString::from("canary");
        Grant::OAuth2 { scopes: vec![], audience: None, client_id: secret(), client_secret: secret() }
    }

    fn life(json: &str) -> Option<Duration> {
        oauth2().read(json.as_bytes(), Mono::ZERO).unwrap().expires_in
    }

    #[test]
    fn a_life_is_read_as_number_or_text_and_may_be_missing() {
        assert_eq!(life(r#"{"access_token":"x","expires_in":3600}"#), Some(Duration::from_hours(1)));
        assert_eq!(life(r#"{"access_token":"x","expires_in":"60"}"#), Some(Duration::from_mins(1)));
        assert_eq!(life(r#"{"access_token":"x","expires_in":59.9}"#), Some(Duration::from_secs(59)));
        assert_eq!(life(r#"{"access_token":"x"}"#), None);
        assert_eq!(life(r#"{"access_token":"x","expires_in":null}"#), None);
        assert_eq!(life(r#"{"access_token":"x","expires_in":-5}"#), None);
    }

    #[test]
    fn a_rotated_refresh_token_is_taken_and_an_empty_one_is_none() {
        let read = |json: &str| oauth2().read(json.as_bytes(), Mono::ZERO).unwrap().refresh_token;
        assert_eq!(read(r#"{"access_token":"x","refresh_token":"y"}"#).unwrap().expose_secret(), "y");
        assert!(read(r#"{"access_token":"x","refresh_token":""}"#).is_none());
        assert!(read(r#"{"access_token":"x"}"#).is_none());
    }

    #[test]
    fn a_profile_says_where_in_the_answer_token_and_life_are() {
        let at = |token: &str, life: &str| Grant::Json {
            fields: vec![],
            token_at: token.to_owned(),
            life_at: life.to_owned(),
        };
        let body = br#"{"access":"abc","access_expires":86400,"refresh":"r","deep":{"t":"d"}}"#;
        let read = at("/access", "/access_expires").read(body, Mono::ZERO).unwrap();
        assert_eq!((read.access_token.expose_secret(), read.expires_in), ("abc", Some(Duration::from_hours(24))));
        assert_eq!(at("/deep/t", "/none").read(body, Mono::ZERO).unwrap().access_token.expose_secret(), "d");
        assert!(at("/nowhere", "/none").read(body, Mono::ZERO).is_none());
        assert!(at("/access", "/none").read(b"<html>", Mono::ZERO).is_none());
    }
}
