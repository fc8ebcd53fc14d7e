//! One request to a token endpoint: `OAuth2` (RFC 6749 §4.4 and §6) as a form, or what a profile says as JSON.
//!
//! The client's id and secret go into the body, the way the providers we know document it. Nothing of the answer but
//! tokens and their life is looked at; its text goes nowhere, and its bytes are wiped where nobody else holds them.

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
use crate::provider::addresses::{AddressProblem, Peer};
use crate::provider::body;
use crate::provider::call::CallError;
use crate::provider::classify::{Class, ErrorClass, Reading};
use crate::provider::clients::Client;
use crate::provider::exchange::explain;
use crate::provider::json;
use crate::provider::profile::retry_after;

/// A token answer is small.
const MAX_BODY: usize = 64 * 1024;

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
                request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(written(form_of(&form)))
            }
            Grant::Json { fields, .. } => {
                let fields: BTreeMap<&str, &str> =
                    fields.iter().map(|(name, value)| (name.as_str(), value.expose_secret())).collect();
                let body = json_of(&fields).ok_or(CallError::Request("the token request cannot be put into JSON"))?;
                request.header(CONTENT_TYPE, "application/json").body(written(body))
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
                return Err(NotFetched { error, wait: wait(response.headers(), self.clock.now().wall) });
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
                let body: Body = json::read(body).ok()?;
                let refresh_token = body.refresh_token.map(|Hidden(token)| token);
                Some(Fetched {
                    access_token: body.access_token.0,
                    expires_in: body.expires_in.and_then(|life| life.as_duration()),
                    refresh_token: refresh_token.filter(|token| !token.expose_secret().is_empty()),
                    asked,
                })
            }
            Self::Json { token_at, life_at, .. } => {
                let body = Tree(json::parse(body).ok()?);
                let token = body.0.pointer(token_at)?.as_str().filter(|token| !token.is_empty())?;
                let life: Option<Life> = body.0.pointer(life_at).and_then(|life| Life::deserialize(life).ok());
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

/// How long `Retry-After` asks for, in seconds or as a date, read as for any call: never shortened but to the longest that
/// a provider can ask for.
fn wait(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let reading = Reading { class: Class::RateLimited, wait: retry_after(headers), ..Reading::default() };
    reading.asked(now).map(|asked| asked.min(MAX_THROTTLE))
}

/// Overwrites an answer that held a token. What the HTTP client still shares of it is not ours to write to.
fn wipe(body: Bytes) {
    if let Ok(mut body) = body.try_into_mut() {
        body.zeroize();
    }
}

/// A request's body that is wiped when the last who holds it lets go.
fn written(body: Zeroizing<Vec<u8>>) -> Bytes {
    Bytes::from_owner(body)
}

/// What a form writes as it is.
const AS_IT_IS: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_');

/// A form, in one piece of memory from the start: growing would leave pieces of it behind.
fn form_of(pairs: &[(&str, &str)]) -> Zeroizing<Vec<u8>> {
    let room = pairs.iter().map(|(name, value)| 2 + 3 * (name.len() + value.len())).sum();
    let mut body = Zeroizing::new(Vec::with_capacity(room));
    for (place, (name, value)) in pairs.iter().enumerate() {
        for (before, text) in [(if place == 0 { "" } else { "&" }, *name), ("=", *value)] {
            body.extend_from_slice(before.as_bytes());
            percent_encode(text.as_bytes(), AS_IT_IS).for_each(|part| body.extend_from_slice(part.as_bytes()));
        }
    }
    body
}

/// A JSON object, likewise.
fn json_of(fields: &BTreeMap<&str, &str>) -> Option<Zeroizing<Vec<u8>>> {
    // A character becomes six at most.
    let room = fields.iter().map(|(name, value)| 6 + 6 * (name.len() + value.len())).sum::<usize>();
    let mut body = Zeroizing::new(Vec::with_capacity(room + 2));
    serde_json::to_writer(&mut *body, fields).ok()?;
    Some(body)
}

/// A whole answer, whose texts are wiped.
struct Tree(Value);

impl Drop for Tree {
    fn drop(&mut self) {
        wipe_texts(&mut self.0);
    }
}

/// No deeper than the parser went.
fn wipe_texts(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(all) => all.iter_mut().for_each(wipe_texts),
        Value::Object(all) => all.values_mut().for_each(wipe_texts),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// A text of the answer that is wiped when it is dropped, whatever becomes of the rest.
struct Hidden(SecretString);

impl<'de> Deserialize<'de> for Hidden {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Hidden;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }
            // The parser lends what it read: nothing but this copy is left.
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Hidden, E> {
                Ok(Hidden(SecretString::from(text)))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// The part of the answer that counts.
#[derive(Deserialize)]
struct Body {
    access_token: Hidden,
    #[serde(default)]
    expires_in: Option<Life>,
    #[serde(default)]
    refresh_token: Option<Hidden>,
}

/// Seconds, which some endpoints write as a text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Life {
    Number(serde_json::Number),
    Text(String),
}

impl Life {
    /// Whole seconds. What is no number of them, or none that a clock can hold, is no life: the one of a token whose
    /// provider does not tell is taken.
    fn as_duration(&self) -> Option<Duration> {
        let text = match self {
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text.clone(),
        };
        let text = text.trim();
        // Rust also reads words for infinity and for what is no number.
        if !text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte)) {
            return None;
        }
        let seconds: f64 = text.parse().ok()?;
        Duration::try_from_secs_f64(seconds.trunc()).ok()
    }
}

#[cfg(test)]
mod tests;
