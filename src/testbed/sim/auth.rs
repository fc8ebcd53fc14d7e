//! The credentials that a bank requires, checked on every request except those to the token endpoint.
//!
//! The arrival log records the result of the check, never the credentials.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, header};
use serde::{Deserialize, Serialize};

use crate::domain::time::Mono;
use crate::testbed::sim::reply::param;

/// Number of stored tokens above which expired ones are pruned; until then the log distinguishes expired from unknown
/// tokens.
const MAX_STORED_TOKENS: usize = 10_000;

/// The credentials that a bank requires.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum RequiredAuth {
    /// No credentials.
    #[default]
    None,
    /// `Authorization: Bearer …` with this value.
    Bearer {
        /// The token.
        token: String,
    },
    /// `Authorization: Basic …`.
    Basic {
        /// User name.
        username: String,
        /// Password.
        password: String,
    },
    /// An API key in a header, such as Mono's `mono-sec-key`.
    ApiKeyHeader {
        /// Name of the header.
        name: String,
        /// The key.
        value: String,
    },
    /// An API key in the query.
    ApiKeyQuery {
        /// Name of the parameter.
        name: String,
        /// The key.
        value: String,
    },
    /// A bearer token that this bank's token endpoint issued.
    OAuth2 {
        /// Client id, sent in the form or as Basic user.
        client_id: String,
        /// Client secret, sent in the form or as Basic password.
        client_secret: String,
        /// Lifetime of a token in seconds, also returned as `expires_in`.
        #[serde(default = "hour")]
        expires_in_seconds: u64,
    },
    /// A bearer token for a rotating refresh token: each use returns the next one and invalidates the one before.
    RefreshToken {
        /// Client id.
        client_id: String,
        /// Client secret.
        client_secret: String,
        /// The initial refresh token.
        refresh_token: String,
        /// Lifetime of a token in seconds, also returned as `expires_in`.
        #[serde(default = "hour")]
        expires_in_seconds: u64,
    },
}

const fn hour() -> u64 {
    3_600
}

impl RequiredAuth {
    /// Mono's scheme: an API key in the header `mono-sec-key`.
    pub fn mono(key: impl Into<String>) -> Self {
        Self::ApiKeyHeader { name: "mono-sec-key".to_owned(), value: key.into() }
    }

    /// The kind, without secrets.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Bearer { .. } => "bearer",
            Self::Basic { .. } => "basic",
            Self::ApiKeyHeader { .. } => "apiKeyHeader",
            Self::ApiKeyQuery { .. } => "apiKeyQuery",
            Self::OAuth2 { .. } => "oAuth2",
            Self::RefreshToken { .. } => "refreshToken",
        }
    }
}

impl fmt::Debug for RequiredAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())
    }
}

/// Result of checking a request's credentials.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum CredentialResult {
    /// None required.
    Open,
    /// Correct.
    Ok,
    /// Required and missing.
    Missing,
    /// Incorrect.
    Wrong,
    /// An expired token.
    Expired,
}

impl CredentialResult {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Ok => "ok",
            Self::Missing => "missing",
            Self::Wrong => "wrong",
            Self::Expired => "expired",
        }
    }

    pub(crate) const fn is_accepted(self) -> bool {
        matches!(self, Self::Open | Self::Ok)
    }
}

/// [`RequiredAuth`] prepared for checks that compare bytes and do not allocate.
#[derive(Debug)]
pub(crate) enum CredentialCheck {
    Open,
    Header { name: HeaderName, value: Vec<u8> },
    Query { name: String, value: String },
    Issued { client_id: String, client_secret: String, lifetime: Duration, refresh_token: Option<String> },
}

/// The name in [`RequiredAuth::ApiKeyHeader`] is not a valid header name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("auth.apiKeyHeader.name is not a valid header name")]
pub struct InvalidHeaderName;

impl TryFrom<&RequiredAuth> for CredentialCheck {
    type Error = InvalidHeaderName;

    fn try_from(auth: &RequiredAuth) -> Result<Self, InvalidHeaderName> {
        let authorization = |value: String| Self::Header { name: header::AUTHORIZATION, value: value.into_bytes() };
        Ok(match auth {
            RequiredAuth::None => Self::Open,
            RequiredAuth::Bearer { token } => authorization(format!("Bearer {token}")),
            RequiredAuth::Basic { username, password } => authorization(basic(username, password)),
            RequiredAuth::ApiKeyHeader { name, value } => Self::Header {
                name: HeaderName::try_from(name.as_str()).map_err(|_| InvalidHeaderName)?,
                value: value.clone().into_bytes(),
            },
            RequiredAuth::ApiKeyQuery { name, value } => Self::Query { name: name.clone(), value: value.clone() },
            RequiredAuth::OAuth2 { client_id, client_secret, expires_in_seconds } => Self::Issued {
                client_id: client_id.clone(),
                client_secret: client_secret.clone(),
                lifetime: Duration::from_secs(*expires_in_seconds),
                refresh_token: None,
            },
            RequiredAuth::RefreshToken { client_id, client_secret, refresh_token, expires_in_seconds } => {
                Self::Issued {
                    client_id: client_id.clone(),
                    client_secret: client_secret.clone(),
                    lifetime: Duration::from_secs(*expires_in_seconds),
                    refresh_token: Some(refresh_token.clone()),
                }
            }
        })
    }
}

impl CredentialCheck {
    /// Checks the credentials of a request.
    pub(crate) fn check(
        &self,
        headers: &HeaderMap,
        query: Option<&str>,
        now: Mono,
        tokens: &IssuedTokens,
    ) -> CredentialResult {
        match self {
            Self::Open => CredentialResult::Open,
            Self::Header { name, value } => compare(headers.get(name).map(|v| v.as_bytes() == value.as_slice())),
            Self::Query { name, value } => compare(param(query, name).map(|v| v == *value)),
            Self::Issued { .. } => {
                let sent = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
                sent.map_or(CredentialResult::Missing, |v| {
                    v.strip_prefix("Bearer ").map_or(CredentialResult::Wrong, |token| tokens.check(token, now))
                })
            }
        }
    }
}

fn compare(equal: Option<bool>) -> CredentialResult {
    match equal {
        None => CredentialResult::Missing,
        Some(true) => CredentialResult::Ok,
        Some(false) => CredentialResult::Wrong,
    }
}

/// The value of an `Authorization` header for these credentials.
pub(crate) fn basic(username: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{username}:{password}")))
}

/// The tokens that one bank has issued, each with its expiry.
#[derive(Debug, Default)]
pub(crate) struct IssuedTokens {
    issued: Mutex<HashMap<String, Mono>>,
    /// The current refresh token, once the initial one was used.
    refresh: Mutex<Option<String>>,
}

impl IssuedTokens {
    /// A new token that expires after `lifetime`.
    pub(crate) fn issue(&self, now: Mono, lifetime: Duration) -> String {
        let token = format!("sim-{}", uuid::Uuid::new_v4().simple());
        let mut tokens = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.len() >= MAX_STORED_TOKENS {
            tokens.retain(|_, expiry| *expiry > now);
        }
        tokens.insert(token.clone(), now + lifetime);
        token
    }

    /// Invalidates the current refresh token and returns the next one; `None` if `sent` is not the current one.
    /// `initial` is the current one until the first rotation.
    pub(crate) fn rotate(&self, initial: &str, sent: &str) -> Option<String> {
        let mut current = self.refresh.lock().unwrap_or_else(PoisonError::into_inner);
        if current.as_deref().unwrap_or(initial) != sent {
            return None;
        }
        let next = format!("sim-refresh-{}", uuid::Uuid::new_v4().simple());
        *current = Some(next.clone());
        Some(next)
    }

    /// Makes the configured refresh token the current one again.
    pub(crate) fn reset_refresh_token(&self) {
        *self.refresh.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Revokes all access tokens: requests with one receive 401 from now on.
    pub(crate) fn revoke(&self) {
        self.issued.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn check(&self, token: &str, now: Mono) -> CredentialResult {
        match self.issued.lock().unwrap_or_else(PoisonError::into_inner).get(token) {
            None => CredentialResult::Wrong,
            Some(expiry) if *expiry <= now => CredentialResult::Expired,
            Some(_) => CredentialResult::Ok,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(auth: &RequiredAuth, name: &'static str, value: &'static str, query: Option<&str>) -> CredentialResult {
        let mut headers = HeaderMap::new();
        if !value.is_empty() {
            headers.insert(name, value.parse().unwrap());
        }
        CredentialCheck::try_from(auth).unwrap().check(&headers, query, Mono::ZERO, &IssuedTokens::default())
    }

    #[test]
    fn each_kind_distinguishes_correct_wrong_and_missing() {
        let bearer = RequiredAuth::Bearer { token: "t".into() };
        assert_eq!(check(&bearer, "authorization", "Bearer t", None), CredentialResult::Ok);
        assert_eq!(check(&bearer, "authorization", "Bearer u", None), CredentialResult::Wrong);
        assert_eq!(check(&bearer, "authorization", "", None), CredentialResult::Missing);
        let login = RequiredAuth::Basic { username: "u".into(), password: "p".into() };
        assert_eq!(check(&login, "authorization", "Basic dTpw", None), CredentialResult::Ok);
        assert_eq!(check(&RequiredAuth::mono("k"), "mono-sec-key", "k", None), CredentialResult::Ok);
        let query = RequiredAuth::ApiKeyQuery { name: "apikey".into(), value: "a b".into() };
        assert_eq!(check(&query, "x", "", Some("z=1&apikey=a%20b")), CredentialResult::Ok);
        assert_eq!(check(&query, "x", "", Some("apikey=c")), CredentialResult::Wrong);
        assert_eq!(check(&query, "x", "", None), CredentialResult::Missing);
    }

    #[test]
    fn a_token_expires_after_its_lifetime() {
        let tokens = IssuedTokens::default();
        let token = tokens.issue(Mono::ZERO, Duration::from_secs(2));
        let at = |s| Mono::ZERO + Duration::from_secs(s);
        assert_eq!(tokens.check(&token, at(1)), CredentialResult::Ok);
        assert_eq!(tokens.check(&token, at(2)), CredentialResult::Expired);
        tokens.revoke();
        assert_eq!(tokens.check(&token, at(1)), CredentialResult::Wrong);
    }
}
