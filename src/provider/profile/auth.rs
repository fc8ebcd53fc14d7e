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
    /// A client-credentials token fetched with the keys `client-id` and `client-secret`.
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
        if self.token.is_some() {
            keys.extend(["client-id", "client-secret"]);
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
