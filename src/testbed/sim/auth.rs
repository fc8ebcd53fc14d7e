//! Who may ask: the credentials that a bank wants, checked on every request but the token endpoint's.
//!
//! What the bank thought of them is written into the arrival log; the credentials themselves are not.

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

/// Expired tokens are remembered up to this many, to tell "expired" from "unknown" in the log.
const TOKENS_KEPT: usize = 10_000;

/// The credentials that a bank wants to see.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Auth {
    /// Anybody may ask.
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
        /// Life of a token, also announced as `expires_in`.
        #[serde(default = "hour")]
        expires_in_seconds: u64,
    },
    /// The same for a refresh token, of which each use gives the next one and spends the one before.
    RefreshToken {
        /// Client id.
        client_id: String,
        /// Client secret.
        client_secret: String,
        /// The refresh token that is good at first.
        refresh_token: String,
        /// Life of a token, also announced as `expires_in`.
        #[serde(default = "hour")]
        expires_in_seconds: u64,
    },
}

const fn hour() -> u64 {
    3_600
}

impl Auth {
    /// Mono's way: an API key in the header `mono-sec-key`.
    pub fn mono(key: impl Into<String>) -> Self {
        Self::ApiKeyHeader { name: "mono-sec-key".to_owned(), value: key.into() }
    }

    /// The kind, without what is secret.
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

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())
    }
}

/// What a bank thinks of a request's credentials.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// None were wanted.
    Open,
    /// The right ones.
    Ok,
    /// Wanted, and there were none.
    Missing,
    /// Not the right ones.
    Wrong,
    /// A token past its life.
    Expired,
}

impl Verdict {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Ok => "ok",
            Self::Missing => "missing",
            Self::Wrong => "wrong",
            Self::Expired => "expired",
        }
    }

    pub(crate) const fn admits(self) -> bool {
        matches!(self, Self::Open | Self::Ok)
    }
}

/// [`Auth`] made ready, so that a check compares bytes and builds nothing.
#[derive(Debug)]
pub(crate) enum Guard {
    Open,
    Header { name: HeaderName, value: Vec<u8> },
    Query { name: String, value: String },
    Issued { client_id: String, client_secret: String, life: Duration, refresh_token: Option<String> },
}

/// The header that [`Auth::ApiKeyHeader`] names cannot be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("auth.apiKeyHeader.name is not a legal header name")]
pub struct BadHeaderName;

impl TryFrom<&Auth> for Guard {
    type Error = BadHeaderName;

    fn try_from(auth: &Auth) -> Result<Self, BadHeaderName> {
        let authorization = |value: String| Self::Header { name: header::AUTHORIZATION, value: value.into_bytes() };
        Ok(match auth {
            Auth::None => Self::Open,
            Auth::Bearer { token } => authorization(format!("Bearer {token}")),
            Auth::Basic { username, password } => authorization(basic(username, password)),
            Auth::ApiKeyHeader { name, value } => Self::Header {
                name: HeaderName::try_from(name.as_str()).map_err(|_| BadHeaderName)?,
                value: value.clone().into_bytes(),
            },
            Auth::ApiKeyQuery { name, value } => Self::Query { name: name.clone(), value: value.clone() },
            Auth::OAuth2 { client_id, client_secret, expires_in_seconds } => Self::Issued {
                client_id: client_id.clone(),
                client_secret: client_secret.clone(),
                life: Duration::from_secs(*expires_in_seconds),
                refresh_token: None,
            },
            Auth::RefreshToken { client_id, client_secret, refresh_token, expires_in_seconds } => Self::Issued {
                client_id: client_id.clone(),
                client_secret: client_secret.clone(),
                life: Duration::from_secs(*expires_in_seconds),
                refresh_token: Some(refresh_token.clone()),
            },
        })
    }
}

impl Guard {
    /// Checks what a request brought.
    pub(crate) fn check(&self, headers: &HeaderMap, query: Option<&str>, now: Mono, tokens: &Tokens) -> Verdict {
        match self {
            Self::Open => Verdict::Open,
            Self::Header { name, value } => judge(headers.get(name).map(|v| v.as_bytes() == value.as_slice())),
            Self::Query { name, value } => judge(param(query, name).map(|v| v == *value)),
            Self::Issued { .. } => {
                let sent = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
                sent.map_or(Verdict::Missing, |v| {
                    v.strip_prefix("Bearer ").map_or(Verdict::Wrong, |token| tokens.judge(token, now))
                })
            }
        }
    }
}

fn judge(right: Option<bool>) -> Verdict {
    match right {
        None => Verdict::Missing,
        Some(true) => Verdict::Ok,
        Some(false) => Verdict::Wrong,
    }
}

/// The value of an `Authorization` header for these credentials.
pub(crate) fn basic(username: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{username}:{password}")))
}

/// The tokens that one bank has issued, each with the end of its life.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    issued: Mutex<HashMap<String, Mono>>,
    /// The refresh token that is good now, once the first was used.
    refresh: Mutex<Option<String>>,
}

impl Tokens {
    /// A new token that lives for `life`.
    pub(crate) fn issue(&self, now: Mono, life: Duration) -> String {
        let token = format!("sim-{}", uuid::Uuid::new_v4().simple());
        let mut tokens = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.len() >= TOKENS_KEPT {
            tokens.retain(|_, end| *end > now);
        }
        tokens.insert(token.clone(), now + life);
        token
    }

    /// Spends a refresh token and gives the next one; `None` if it is not the one that is good. `first` is good at first.
    pub(crate) fn rotate(&self, first: &str, sent: &str) -> Option<String> {
        let mut good = self.refresh.lock().unwrap_or_else(PoisonError::into_inner);
        if good.as_deref().unwrap_or(first) != sent {
            return None;
        }
        let next = format!("sim-refresh-{}", uuid::Uuid::new_v4().simple());
        *good = Some(next.clone());
        Some(next)
    }

    /// Forgets what was rotated: the first refresh token of the settings is good again.
    pub(crate) fn forget_rotated(&self) {
        *self.refresh.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Forgets all of them: whoever holds one gets 401 from now on.
    pub(crate) fn revoke(&self) {
        self.issued.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn judge(&self, token: &str, now: Mono) -> Verdict {
        match self.issued.lock().unwrap_or_else(PoisonError::into_inner).get(token) {
            None => Verdict::Wrong,
            Some(end) if *end <= now => Verdict::Expired,
            Some(_) => Verdict::Ok,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(auth: &Auth, name: &'static str, value: &'static str, query: Option<&str>) -> Verdict {
        let mut headers = HeaderMap::new();
        if !value.is_empty() {
            headers.insert(name, value.parse().unwrap());
        }
        Guard::try_from(auth).unwrap().check(&headers, query, Mono::ZERO, &Tokens::default())
    }

    #[test]
    fn each_kind_tells_right_from_wrong_from_missing() {
        let bearer = Auth::Bearer { token: "t".into() };
        assert_eq!(check(&bearer, "authorization", "Bearer t", None), Verdict::Ok);
        assert_eq!(check(&bearer, "authorization", "Bearer u", None), Verdict::Wrong);
        assert_eq!(check(&bearer, "authorization", "", None), Verdict::Missing);
        let login = Auth::Basic { username: "u".into(), password: "p".into() };
        assert_eq!(check(&login, "authorization", "Basic dTpw", None), Verdict::Ok);
        assert_eq!(check(&Auth::mono("k"), "mono-sec-key", "k", None), Verdict::Ok);
        let query = Auth::ApiKeyQuery { name: "apikey".into(), value: "a b".into() };
        assert_eq!(check(&query, "x", "", Some("z=1&apikey=a%20b")), Verdict::Ok);
        assert_eq!(check(&query, "x", "", Some("apikey=c")), Verdict::Wrong);
        assert_eq!(check(&query, "x", "", None), Verdict::Missing);
    }

    #[test]
    fn a_token_lives_for_as_long_as_it_was_issued() {
        let tokens = Tokens::default();
        let token = tokens.issue(Mono::ZERO, Duration::from_secs(2));
        let at = |s| Mono::ZERO + Duration::from_secs(s);
        assert_eq!(tokens.judge(&token, at(1)), Verdict::Ok);
        assert_eq!(tokens.judge(&token, at(2)), Verdict::Expired);
        tokens.revoke();
        assert_eq!(tokens.judge(&token, at(1)), Verdict::Wrong);
    }
}
