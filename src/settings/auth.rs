//! The credentials of a connection, in memory.
//!
//! Values are [`SecretString`]s: zeroed when dropped, never printed. Revisions and logs use [`Auth::shape`] instead,
//! which holds kinds and names only.

use std::fmt;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use reqwest::Url;
use secrecy::{ExposeSecret as _, SecretString};

use super::error::SettingsError;
use crate::profile::{CredentialMapping, TokenBase, parse_base_url};

/// Where an API key is sent.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Placement {
    /// A header.
    Header,
    /// A query parameter.
    Query,
}

/// How an `OAuth2` client authenticates at its token endpoint (RFC 6749 §2.3.1).
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub enum ClientAuthentication {
    /// In the form first; as HTTP Basic if the endpoint refuses that.
    #[default]
    Auto,
    /// As HTTP Basic.
    Basic,
    /// In the form.
    Body,
}

/// An `OAuth2` client: where and how it requests tokens.
#[derive(Clone)]
pub struct TokenClient {
    /// The token endpoint.
    pub token_url: String,
    /// Requested scopes.
    pub scopes: Vec<String>,
    /// The `audience` parameter, where the provider requires one.
    pub audience: Option<String>,
    /// How long before its expiry a token is refreshed, at most.
    pub refresh_before: Duration,
    /// How the client authenticates.
    pub client_authentication: ClientAuthentication,
    /// The client ID.
    pub client_id: SecretString,
    /// The client secret.
    pub client_secret: SecretString,
}

/// How requests are authenticated.
#[derive(Clone, Default)]
pub enum Auth {
    /// No authentication.
    #[default]
    None,
    /// `Authorization: Bearer …`.
    Bearer {
        /// The token.
        token: SecretString,
    },
    /// `Authorization: Basic …`.
    Basic {
        /// The username.
        username: SecretString,
        /// The password.
        password: SecretString,
    },
    /// One key in a header or a query parameter.
    ApiKey {
        /// Header or query.
        placement: Placement,
        /// The name of the header or parameter.
        name: String,
        /// Text before the key, such as `"Token "`.
        prefix: String,
        /// The key.
        key: SecretString,
    },
    /// A token fetched with `OAuth2` client credentials.
    ClientCredentials(TokenClient),
    /// A token fetched with an `OAuth2` refresh token, which the provider may rotate on each use.
    RefreshToken {
        /// The client.
        client: TokenClient,
        /// The refresh token in the Secret.
        refresh_token: SecretString,
    },
    /// A token fetched with the JSON request that the profile describes.
    ProfileToken {
        /// The token endpoint.
        token_url: String,
        /// Fields of the request: name and value.
        fields: Vec<(String, SecretString)>,
        /// JSON pointer to the token in the response.
        token_pointer: String,
        /// JSON pointer to its lifetime in seconds.
        lifetime_pointer: String,
    },
    /// Headers and query parameters, as the profile maps them.
    Profile {
        /// Headers: name and complete value.
        headers: Vec<(String, SecretString)>,
        /// Query parameters: name and value.
        query: Vec<(String, SecretString)>,
        /// Fields of JSON bodies: pointer and value, unless the Secret lacks it.
        body: Vec<(String, Option<SecretString>)>,
    },
}

impl TokenClient {
    fn shape(&self) -> String {
        let Self { token_url, scopes, audience, refresh_before, client_authentication, .. } = self;
        // Not for the default: revisions of settings that do not use the field stay as they were without it.
        let method = match client_authentication {
            ClientAuthentication::Auto => String::new(),
            set => format!(" {set:?}"),
        };
        format!("{token_url:?} {scopes:?} {audience:?} {refresh_before:?}{method}")
    }
}

impl Auth {
    /// Maps a Secret to credentials. `secret` looks up a key; `base_url` and `parameters` are the connection's.
    pub fn from_profile(
        mapping: &CredentialMapping,
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
            let mut token_url = parse_base_url(base_url).map_err(SettingsError::url("endpoint.baseURL"))?;
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
                    token_pointer: token.token.clone(),
                    lifetime_pointer: token.expires_in.clone(),
                });
            }
            return Ok(Self::ClientCredentials(TokenClient {
                token_url,
                scopes: token.scopes.clone(),
                audience: None,
                refresh_before: DEFAULT_REFRESH_BEFORE,
                client_authentication: ClientAuthentication::Auto,
                client_id: value("client-id")?,
                client_secret: value("client-secret")?,
            }));
        }
        let mut headers = Vec::new();
        for header in &mapping.headers {
            let secret = value(&header.secret_key)?;
            let value = if header.prefix.is_empty() {
                secret
            } else {
                SecretString::from(format!("{}{}", header.prefix, secret.expose_secret()))
            };
            headers.push((header.name.clone(), value));
        }
        let mut query = Vec::new();
        for parameter in &mapping.query {
            query.push((parameter.name.clone(), value(&parameter.secret_key)?));
        }
        let body = mapping.body.iter().map(|field| (field.pointer.clone(), secret(&field.secret_key))).collect();
        Ok(Self::Profile { headers, query, body })
    }

    /// Kind and names, without values: safe to print, part of the revisions.
    pub fn shape(&self) -> String {
        match self {
            Self::None => "none".to_owned(),
            Self::Bearer { .. } => "bearer".to_owned(),
            Self::Basic { .. } => "basic".to_owned(),
            Self::ApiKey { placement, name, prefix, .. } => format!("apiKey {placement:?} {name:?} {prefix:?}"),
            Self::ClientCredentials(client) => format!("clientCredentials {}", client.shape()),
            Self::RefreshToken { client, .. } => format!("refreshToken {}", client.shape()),
            Self::ProfileToken { token_url, fields, token_pointer, lifetime_pointer } => {
                let names: Vec<_> = fields.iter().map(|(name, _)| name).collect();
                format!("profileToken {token_url:?} {names:?} {token_pointer:?} {lifetime_pointer:?}")
            }
            Self::Profile { headers, query, body } => {
                let names = |pairs: &[(String, SecretString)]| {
                    pairs.iter().map(|(name, _)| format!("{name:?}")).collect::<Vec<_>>().join(",")
                };
                // Not without any: revisions of settings that have none stay as they were.
                let fields = body.iter().map(|(pointer, value)| format!(" {pointer:?}:{}", value.is_some()));
                format!("profile {} {}{}", names(headers), names(query), fields.collect::<String>())
            }
        }
    }

    /// Checks that names and values are valid in a header and that the token URL is valid.
    pub(super) fn check(&self) -> Result<(), SettingsError> {
        match self {
            Self::Bearer { token } => check_header_value("auth.bearer.secretRef", token),
            Self::Basic { username, .. } if username.expose_secret().contains(':') => {
                Err(SettingsError::new("auth.basic.secretRef", "the username must not contain a colon"))
            }
            Self::ApiKey { placement: Placement::Header, name, key, .. } => {
                check_header_name("auth.apiKey.name", name)?;
                check_header_value("auth.apiKey.secretRef", key)
            }
            Self::ApiKey { placement: Placement::Query, name, .. } if name.is_empty() => {
                Err(SettingsError::new("auth.apiKey.name", "must not be empty"))
            }
            Self::None | Self::Basic { .. } | Self::ApiKey { .. } => Ok(()),
            Self::ClientCredentials(client) => check_url("auth.oauth2ClientCredentials.tokenURL", &client.token_url),
            Self::RefreshToken { client, refresh_token } => {
                if refresh_token.expose_secret().is_empty() {
                    let problem = "the refresh-token in the Secret is empty";
                    return Err(SettingsError::new("auth.oauth2RefreshToken.secretRef", problem));
                }
                check_url("auth.oauth2RefreshToken.tokenURL", &client.token_url)
            }
            Self::ProfileToken { token_url, .. } => check_url("endpoint.baseURL", token_url),
            Self::Profile { headers, .. } => headers.iter().try_for_each(|(name, value)| {
                check_header_name("auth.profile", name)?;
                check_header_value("auth.profile.secretRef", value)
            }),
        }
    }

    /// The token endpoint, if tokens are fetched.
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

fn check_url(field: &'static str, url: &str) -> Result<(), SettingsError> {
    parse_base_url(url).map(drop).map_err(SettingsError::url(field))
}

fn check_header_name(field: &'static str, name: &str) -> Result<(), SettingsError> {
    HeaderName::from_bytes(name.as_bytes())
        .map(drop)
        .map_err(|_| SettingsError::new(field, "is not a valid header name"))
}

fn check_header_value(field: &'static str, value: &SecretString) -> Result<(), SettingsError> {
    if value.expose_secret().is_empty() {
        return Err(SettingsError::new(field, "the value in the Secret is empty"));
    }
    HeaderValue::from_str(value.expose_secret()).map(drop).map_err(|_| {
        let problem = "the value in the Secret contains characters that are not allowed in a header: check for a trailing \
                       line break";
        SettingsError::new(field, problem)
    })
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shape())
    }
}
