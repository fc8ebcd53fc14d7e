//! How the keys of one Secret become a connection's credentials, as the profile tells.
//!
//! The profile names Secret keys, headers and query parameters; the values pass through as secrets and are never
//! looked at.

use std::collections::BTreeMap;

use http::HeaderValue;
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;

use super::operation::unknown_placeholder;
use super::parameter::Parameter;
use super::template::Template;
use super::wait::is_header;

/// The mapping used under `auth.profile`: headers, query parameters, or a call that fetches a token.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
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
#[derive(Clone, Debug, Deserialize, JsonSchema)]
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
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretQuery {
    /// The parameter's name.
    pub name: String,
    /// The key in the Secret.
    pub secret_key: String,
}

/// Where the token comes from: one POST, of client credentials as RFC 6749 has them unless the profile says otherwise.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenCall {
    /// The path, with the connection's parameters as placeholders.
    pub path: Template,
    /// What the path is below.
    #[serde(default)]
    pub below: TokenBase,
    /// Scopes asked for.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// A JSON body of these fields, each with the Secret's key that its value is under, in place of the form.
    #[serde(default)]
    pub json: BTreeMap<String, String>,
    /// Pointer to the token in the answer.
    #[serde(default = "access_token")]
    pub token: String,
    /// Pointer to the seconds that it lives.
    #[serde(default = "expires_in")]
    pub expires_in: String,
}

/// What a token's path is below.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum TokenBase {
    /// The host of the base URL.
    #[default]
    Origin,
    /// The base URL with its own path.
    BaseUrl,
}

fn access_token() -> String {
    "/access_token".to_owned()
}

fn expires_in() -> String {
    "/expires_in".to_owned()
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
            Some(token) if token.json.is_empty() => keys.extend(["client-id", "client-secret"]),
            Some(token) => keys.extend(token.json.values().map(String::as_str)),
            None => {}
        }
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// What serde cannot see. `endpoint` are the connection's parameters that placeholders may name.
    pub(super) fn check(&self, endpoint: &BTreeMap<String, Parameter>) -> Result<(), String> {
        let headers = self.headers.iter().map(|header| &header.name);
        if let Some(bad) = headers.into_iter().find(|name| !is_header(name)) {
            return Err(format!("{bad:?} is no header name"));
        }
        if self.headers.iter().any(|header| HeaderValue::from_str(&header.prefix).is_err()) {
            return Err("a prefix cannot be sent in a header".to_owned());
        }
        let Some(token) = &self.token else { return Ok(()) };
        if !self.headers.is_empty() || !self.query.is_empty() {
            return Err("token cannot stand beside headers or query: the token is the credential".to_owned());
        }
        if !token.path.as_str().starts_with('/') {
            return Err(format!("token.path {:?} must start with /", token.path.as_str()));
        }
        if let Some(unknown) = token.path.parameters().find(|name| !endpoint.contains_key(*name)) {
            return Err(format!("token.path: {}", unknown_placeholder(unknown)));
        }
        match [&token.token, &token.expires_in].into_iter().find(|pointer| !pointer.starts_with('/')) {
            Some(bad) => Err(format!("{bad:?} is no JSON pointer below the answer: it must start with /")),
            None => Ok(()),
        }
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
