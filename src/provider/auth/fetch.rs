//! One request to a token endpoint (RFC 6749 §4.4, client credentials).
//!
//! The client's id and secret go into the form, the way the providers we know document it. Nothing of the answer but
//! the token and its life is looked at; its text goes nowhere.

use std::time::Duration;

use http::header::ACCEPT;
use reqwest::Url;
use reqwest::header::HOST;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use crate::provider::body;
use crate::provider::call::CallError;
use crate::provider::classify::ErrorClass;
use crate::provider::clients::Client;
use crate::provider::exchange::explain;

/// A token answer is small.
const MAX_BODY: usize = 64 * 1024;

/// What a token endpoint gave.
pub(crate) struct Fetched {
    pub(crate) access_token: SecretString,
    pub(crate) expires_in: Option<Duration>,
}

/// How tokens are asked for.
pub(crate) struct Fetch {
    pub(crate) client: Client,
    pub(crate) url: Url,
    pub(crate) scopes: Vec<String>,
    pub(crate) audience: Option<String>,
    pub(crate) client_id: SecretString,
    pub(crate) client_secret: SecretString,
    /// Of the whole request.
    pub(crate) timeout: Duration,
}

impl Fetch {
    pub(crate) async fn run(&self) -> Result<Fetched, CallError> {
        match tokio::time::timeout(self.timeout, self.exchange()).await {
            Ok(end) => end,
            Err(_) => Err(CallError::NoToken { status: None, class: ErrorClass::Timeout }),
        }
    }

    async fn exchange(&self) -> Result<Fetched, CallError> {
        let scope = self.scopes.join(" ");
        let mut form = vec![
            ("grant_type", "client_credentials"),
            ("client_id", self.client_id.expose_secret()),
            ("client_secret", self.client_secret.expose_secret()),
        ];
        if !scope.is_empty() {
            form.push(("scope", &scope));
        }
        if let Some(audience) = &self.audience {
            form.push(("audience", audience));
        }
        let (url, host) = self.client.aim(self.url.clone());
        let http = self.client.http().map_err(CallError::Client)?;
        let mut request = http.post(url).header(ACCEPT, "application/json").form(&form);
        if let Some(host) = host {
            request = request.header(HOST, host);
        }
        let response = request.send().await.map_err(|error| no_token(None, &explain(&error)))?;
        let status = response.status().as_u16();
        match status {
            200..=299 => {}
            // RFC 6749 §5.2: 400 or 401 with a code of its own; a 403 or 404 is as final.
            400..=499 if !matches!(status, 408 | 425 | 429) => return Err(CallError::CredentialsRefused { status }),
            _ => return Err(CallError::NoToken { status: Some(status), class: ErrorClass::Connect }),
        }
        let body = body::read(response, MAX_BODY, self.timeout).await.map_err(|error| no_token(Some(status), &error))?;
        let parsed: Body = serde_json::from_slice(&body)
            .map_err(|_| CallError::NoToken { status: Some(status), class: ErrorClass::Body })?;
        Ok(Fetched {
            access_token: SecretString::from(parsed.access_token),
            expires_in: parsed.expires_in.and_then(|life| life.as_duration()),
        })
    }
}

fn no_token(status: Option<u16>, error: &CallError) -> CallError {
    CallError::NoToken { status, class: error.class().unwrap_or(ErrorClass::Connect) }
}

/// The part of the answer that counts.
#[derive(Deserialize)]
struct Body {
    access_token: String,
    #[serde(default)]
    expires_in: Option<Life>,
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

    fn life(json: &str) -> Option<Duration> {
        let body: Body = serde_json::from_str(json).unwrap();
        body.expires_in.and_then(|life| life.as_duration())
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
}
