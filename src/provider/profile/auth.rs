//! How the keys of one Secret become a connection's credentials, as the profile tells.
//!
//! The profile names Secret keys, headers and query parameters; the values pass through as secrets and are never
//! looked at.

use std::collections::BTreeMap;

use secrecy::SecretString;
use serde::Deserialize;

use super::template::Template;

/// The mapping used under `auth.profile`: headers, query parameters, or a call that fetches a token.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProfileAuth {
    /// Headers of every request.
    #[serde(default)]
    pub headers: Vec<SecretHeader>,
    /// Query parameters of every request.
    #[serde(default)]
    pub query: Vec<SecretQuery>,
    /// A token that is fetched: with `OAuth2` client credentials, or as `json` says.
    #[serde(default)]
    pub token: Option<TokenCall>,
}

/// One header whose value is in the Secret.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretHeader {
    /// The header's name.
    pub name: String,
    /// The key in the Secret.
    pub secret_key: String,
    /// Text before the value, e.g. `"Bearer "`.
    #[serde(default)]
    pub prefix: String,
}

/// One query parameter whose value is in the Secret.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretQuery {
    /// The parameter's name.
    pub name: String,
    /// The key in the Secret.
    pub secret_key: String,
}

/// Where the token comes from.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenCall {
    /// Path below the origin of the base URL, with the connection's parameters as placeholders.
    pub path: Template,
    /// Scopes asked for.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// Where the provider knows no `OAuth2`: the fields of a JSON object that is sent instead of the form, each with the
    /// key in the Secret.
    #[serde(default)]
    pub json: BTreeMap<String, String>,
    /// Where in the answer to `json` the token is, a JSON pointer.
    #[serde(default = "TokenCall::token_at")]
    pub token_at: String,
    /// Where in the answer to `json` its life in seconds is, a JSON pointer.
    #[serde(default = "TokenCall::life_at")]
    pub life_at: String,
}

impl TokenCall {
    fn token_at() -> String {
        "/access_token".to_owned()
    }

    fn life_at() -> String {
        "/expires_in".to_owned()
    }
}

/// A key that the profile needs is not in the Secret.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the Secret has no key {key}, which the profile needs")]
pub struct MissingKey {
    /// The key.
    pub key: String,
}

impl ProfileAuth {
    /// The Secret keys that this mapping reads, sorted, each once.
    pub fn secret_keys(&self) -> Vec<&str> {
        let mut keys: Vec<&str> = self
            .headers
            .iter()
            .map(|header| header.secret_key.as_str())
            .chain(self.query.iter().map(|query| query.secret_key.as_str()))
            .collect();
        match &self.token {
            Some(token) if !token.json.is_empty() => keys.extend(token.json.values().map(String::as_str)),
            Some(_) => keys.extend(["client-id", "client-secret"]),
            None => {}
        }
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// Looks every key up and returns the values by key.
    pub fn collect(
        &self,
        secret: impl Fn(&str) -> Option<SecretString>,
    ) -> Result<BTreeMap<String, SecretString>, MissingKey> {
        self.secret_keys()
            .into_iter()
            .map(|key| match secret(key) {
                Some(value) => Ok((key.to_owned(), value)),
                None => Err(MissingKey { key: key.to_owned() }),
            })
            .collect()
    }
}
