//! The credentials of a connection, as values in memory.
//!
//! Values are [`SecretString`]s: zeroed when dropped, never printed. What the revisions and the logs may see is
//! [`Auth::shape`]: kinds and names.

use std::fmt;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use reqwest::Url;
use secrecy::{ExposeSecret as _, SecretString};

use super::{SettingsError, parse_url};
use crate::provider::profile::{ProfileAuth, TokenBase};

/// Where an API key goes.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Placement {
    /// A header.
    Header,
    /// A query parameter.
    Query,
}

/// Who asks a token endpoint, where, and for what.
#[derive(Clone)]
pub struct TokenClient {
    /// Where tokens are given.
    pub token_url: String,
    /// Scopes asked for.
    pub scopes: Vec<String>,
    /// The `audience` parameter, where the provider wants one.
    pub audience: Option<String>,
    /// A token is refreshed at most this long before it expires.
    pub refresh_before: Duration,
    /// The client's id.
    pub client_id: SecretString,
    /// The client's secret.
    pub client_secret: SecretString,
}

/// How requests are authenticated.
#[derive(Clone, Default)]
pub enum Auth {
    /// Not at all.
    #[default]
    None,
    /// `Authorization: Bearer …`.
    Bearer {
        /// The token.
        token: SecretString,
    },
    /// `Authorization: Basic …`.
    Basic {
        /// The user name.
        username: SecretString,
        /// The password.
        password: SecretString,
    },
    /// One key in a header or a query parameter.
    ApiKey {
        /// Header or query.
        placement: Placement,
        /// Its name.
        name: String,
        /// Text before the key, e.g. `"Token "`.
        prefix: String,
        /// The key.
        key: SecretString,
    },
    /// A token fetched with `OAuth2` client credentials.
    ClientCredentials(TokenClient),
    /// A token fetched with an `OAuth2` refresh token, which the provider may replace at each use.
    RefreshToken {
        /// Who asks, and where.
        client: TokenClient,
        /// The refresh token in the Secret.
        refresh_token: SecretString,
    },
    /// A token fetched as the profile tells: a JSON object with values of the Secret.
    ProfileToken {
        /// Where tokens are given.
        token_url: String,
        /// Fields of the request: name and value.
        fields: Vec<(String, SecretString)>,
        /// Where in the answer the token is (RFC 6901).
        token_at: String,
        /// Where in the answer its life in seconds is.
        life_at: String,
    },
    /// Headers and query parameters, as the profile tells.
    Profile {
        /// Headers: name and whole value.
        headers: Vec<(String, SecretString)>,
        /// Query parameters: name and value.
        query: Vec<(String, SecretString)>,
    },
}

impl TokenClient {
    fn shape(&self) -> String {
        let Self { token_url, scopes, audience, refresh_before, .. } = self;
        format!("{token_url:?} {scopes:?} {audience:?} {refresh_before:?}")
    }
}

impl Auth {
    /// The credentials that a profile makes of a Secret. `secret` looks a key up; `base_url` and `parameters` are the
    /// connection's.
    pub fn from_profile(
        mapping: &ProfileAuth,
        base_url: &str,
        parameters: &std::collections::BTreeMap<String, String>,
        secret: impl Fn(&str) -> Option<SecretString>,
    ) -> Result<Self, SettingsError> {
        let value = |key: &str| {
            secret(key).ok_or_else(|| {
                SettingsError::new("auth.profile.secretRef", format!("the Secret has no key {key}: add it"))
            })
        };
        if let Some(token) = &mapping.token {
            let path =
                token.path.path(parameters).map_err(|e| SettingsError::new("endpoint.parameters", e.to_string()))?;
            let mut token_url = parse_url("endpoint.baseURL", base_url)?;
            let path = match token.below {
                TokenBase::Origin => path,
                TokenBase::BaseUrl => format!("{}{path}", token_url.path().trim_end_matches('/')),
            };
            token_url.set_path(&path);
            let token_url = String::from(token_url);
            if !token.json.is_empty() {
                let fields = token.json.iter().map(|(name, key)| Ok((name.clone(), value(key)?)));
                return Ok(Self::ProfileToken {
                    token_url,
                    fields: fields.collect::<Result<_, SettingsError>>()?,
                    token_at: token.token.clone(),
                    life_at: token.expires_in.clone(),
                });
            }
            return Ok(Self::ClientCredentials(TokenClient {
                token_url,
                scopes: token.scopes.clone(),
                audience: None,
                refresh_before: DEFAULT_REFRESH_BEFORE,
                client_id: value("client-id")?,
                client_secret: value("client-secret")?,
            }));
        }
        let mut headers = Vec::new();
        for header in &mapping.headers {
            let secret = value(&header.secret_key)?;
            let whole = if header.prefix.is_empty() {
                secret
            } else {
                SecretString::from(format!("{}{}", header.prefix, secret.expose_secret()))
            };
            headers.push((header.name.clone(), whole));
        }
        let mut query = Vec::new();
        for parameter in &mapping.query {
            query.push((parameter.name.clone(), value(&parameter.secret_key)?));
        }
        Ok(Self::Profile { headers, query })
    }

    /// Kind and names, without values: what may enter a revision.
    pub fn shape(&self) -> String {
        match self {
            Self::None => "none".to_owned(),
            Self::Bearer { .. } => "bearer".to_owned(),
            Self::Basic { .. } => "basic".to_owned(),
            Self::ApiKey { placement, name, prefix, .. } => format!("apiKey {placement:?} {name:?} {prefix:?}"),
            Self::ClientCredentials(client) => format!("clientCredentials {}", client.shape()),
            Self::RefreshToken { client, .. } => format!("refreshToken {}", client.shape()),
            Self::ProfileToken { token_url, fields, token_at, life_at } => {
                let names: Vec<_> = fields.iter().map(|(name, _)| name).collect();
                format!("profileToken {token_url:?} {names:?} {token_at:?} {life_at:?}")
            }
            Self::Profile { headers, query } => {
                let names = |pairs: &[(String, SecretString)]| {
                    pairs.iter().map(|(name, _)| format!("{name:?}")).collect::<Vec<_>>().join(",")
                };
                format!("profile {} {}", names(headers), names(query))
            }
        }
    }

    /// Names can be sent, values fit into a header, the token URL is a URL.
    pub(super) fn check(&self) -> Result<(), SettingsError> {
        match self {
            Self::Bearer { token } => sendable("auth.bearer.secretRef", token),
            Self::Basic { username, .. } if username.expose_secret().contains(':') => {
                Err(SettingsError::new("auth.basic.secretRef", "the user name must not hold a colon"))
            }
            Self::ApiKey { placement: Placement::Header, name, key, .. } => {
                named("auth.apiKey.name", name)?;
                sendable("auth.apiKey.secretRef", key)
            }
            Self::ApiKey { placement: Placement::Query, name, .. } if name.is_empty() => {
                Err(SettingsError::new("auth.apiKey.name", "must not be empty"))
            }
            Self::None | Self::Basic { .. } | Self::ApiKey { .. } => Ok(()),
            Self::ClientCredentials(client) => {
                parse_url("auth.oauth2ClientCredentials.tokenURL", &client.token_url).map(drop)
            }
            Self::RefreshToken { client, refresh_token } => {
                if refresh_token.expose_secret().is_empty() {
                    let problem = "the refresh-token in the Secret is empty";
                    return Err(SettingsError::new("auth.oauth2RefreshToken.secretRef", problem));
                }
                parse_url("auth.oauth2RefreshToken.tokenURL", &client.token_url).map(drop)
            }
            Self::ProfileToken { token_url, .. } => parse_url("endpoint.baseURL", token_url).map(drop),
            Self::Profile { headers, .. } => headers.iter().try_for_each(|(name, value)| {
                named("auth.profile", name)?;
                sendable("auth.profile.secretRef", value)
            }),
        }
    }

    /// The token URL, if tokens are fetched.
    pub(crate) fn token_url(&self) -> Option<Url> {
        match self {
            Self::ClientCredentials(TokenClient { token_url, .. })
            | Self::RefreshToken { client: TokenClient { token_url, .. }, .. }
            | Self::ProfileToken { token_url, .. } => Url::parse(token_url).ok(),
            Self::None | Self::Bearer { .. } | Self::Basic { .. } | Self::ApiKey { .. } | Self::Profile { .. } => None,
        }
    }
}

/// The default of `refreshBefore`.
pub const DEFAULT_REFRESH_BEFORE: Duration = Duration::from_mins(1);

fn named(field: &'static str, name: &str) -> Result<(), SettingsError> {
    HeaderName::from_bytes(name.as_bytes()).map(drop).map_err(|_| SettingsError::new(field, "is no header name"))
}

fn sendable(field: &'static str, value: &SecretString) -> Result<(), SettingsError> {
    if value.expose_secret().is_empty() {
        return Err(SettingsError::new(field, "the value in the Secret is empty"));
    }
    HeaderValue::from_str(value.expose_secret()).map(drop).map_err(|_| {
        let problem = "the value in the Secret cannot be sent in a header: check for line breaks at its end";
        SettingsError::new(field, problem)
    })
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shape())
    }
}
