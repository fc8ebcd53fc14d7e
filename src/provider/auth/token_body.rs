//! Reads the body of a token endpoint's response: the tokens and their lifetime, or the error code. Its other text goes
//! nowhere, and what may hold a token is wiped.
//!
//! A token is used as it is sent, except for white space around it, which some endpoints add and no token has. One that
//! no header may hold is the endpoint's fault, and is said to be: sent on, it would look like a fault of the Secret.

use std::fmt;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde::de::{Deserializer, Visitor};
use serde_json::Value;
use zeroize::Zeroize as _;

use crate::domain::time::Mono;
use crate::profile::json;
use crate::provider::auth::token_fault::TokenFault;
use crate::provider::auth::token_response::TokenResponse;

/// Types of tokens that are sent as bearer tokens: that of RFC 6750, and what Apigee calls it.
const BEARER_TYPES: [&str; 2] = ["bearer", "bearertoken"];

/// Reads a response of RFC 6749 §5.1.
pub(super) fn read_oauth2(body: &[u8], requested_at: Mono) -> Result<TokenResponse, TokenFault> {
    let body: OAuth2Response = json::read(body).map_err(|_| TokenFault::NoToken)?;
    let token_type = body.token_type.as_ref().and_then(Value::as_str).map(str::trim).filter(|kind| !kind.is_empty());
    if token_type.is_some_and(|kind| !BEARER_TYPES.iter().any(|bearer| kind.eq_ignore_ascii_case(bearer))) {
        return Err(TokenFault::TokenType);
    }
    let refresh_token = body.refresh_token.map(|WipedText(token)| trimmed(token));
    Ok(TokenResponse {
        access_token: usable(trimmed(body.access_token.0))?,
        expires_in: body.expires_in.as_ref().and_then(lifetime),
        refresh_token: refresh_token.filter(|token| !token.expose_secret().is_empty()),
        requested_at,
    })
}

/// Reads the response of a profile's own token request; the JSON pointers locate the token and its lifetime.
pub(super) fn read_json(
    body: &[u8],
    token_pointer: &str,
    lifetime_pointer: &str,
    requested_at: Mono,
) -> Result<TokenResponse, TokenFault> {
    let body = WipedJson(json::parse(body).map_err(|_| TokenFault::NoToken)?);
    let token = body.0.pointer(token_pointer).and_then(Value::as_str).ok_or(TokenFault::NoToken)?;
    Ok(TokenResponse {
        access_token: usable(SecretString::from(token.trim_matches(is_space)))?,
        expires_in: body.0.pointer(lifetime_pointer).and_then(lifetime),
        refresh_token: None,
        requested_at,
    })
}

/// The error code of RFC 6749 §5.2 in the body of a refusal.
pub(super) fn error_code(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Refusal {
        error: Option<String>,
    }
    json::read::<Refusal>(body).ok()?.error.map(|code| code.trim().to_ascii_lowercase())
}

/// The token without white space around it.
fn trimmed(token: SecretString) -> SecretString {
    let text = token.expose_secret().trim_matches(is_space);
    if text.len() == token.expose_secret().len() { token } else { SecretString::from(text) }
}

const fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

/// The token if a header may hold it: visible ASCII characters, at least one.
fn usable(token: SecretString) -> Result<SecretString, TokenFault> {
    let text = token.expose_secret();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(token)
    } else {
        Err(TokenFault::TokenCharacters)
    }
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
    token_type: Option<Value>,
    #[serde(default)]
    expires_in: Option<Value>,
    #[serde(default)]
    refresh_token: Option<WipedText>,
}

/// A lifetime in whole seconds, which some endpoints send as a text. `None` if it is not a number or does not fit a
/// duration: then the default lifetime applies.
fn lifetime(value: &Value) -> Option<Duration> {
    let text = match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.trim().to_owned(),
        _ => return None,
    };
    // Rust would also parse `inf` and `NaN`.
    if !text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte)) {
        return None;
    }
    let seconds: f64 = text.parse().ok()?;
    Duration::try_from_secs_f64(seconds.trunc()).ok()
}

#[cfg(test)]
mod tests;
