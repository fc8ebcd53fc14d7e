//! How the keys of a Secret map to a connection's credentials.
//!
//! The profile names Secret keys, headers and query parameters; the values pass through as secrets and are never
//! inspected.

use std::collections::BTreeMap;

use http::HeaderValue;
use schemars::JsonSchema;
use serde::Deserialize;

use super::body::unknown_placeholder;
use super::header_name::check_header_name;
use super::parameter::Parameter;
use super::template::Template;

/// The mapping used by `auth.profile`: headers, query parameters, or a call that fetches a token.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CredentialMapping {
    /// Headers of every request.
    #[serde(default)]
    pub headers: Vec<SecretHeader>,
    /// Query parameters of every request.
    #[serde(default)]
    pub query: Vec<SecretQuery>,
    /// Fields of JSON bodies that have `null` there: for a secret that only some requests carry. The Secret may lack
    /// it; those requests then fail.
    #[serde(default)]
    pub body: Vec<SecretBody>,
    /// A fetched token: with `OAuth2` client credentials, or with the request that `json` describes.
    #[serde(default)]
    pub token: Option<TokenCall>,
}

/// A header whose value is in the Secret.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretHeader {
    /// The header's name.
    pub name: String,
    /// The key in the Secret.
    pub secret_key: String,
    /// Text before the value, such as `"Bearer "`.
    #[serde(default)]
    pub prefix: String,
}

/// A query parameter whose value is in the Secret.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretQuery {
    /// The parameter's name.
    pub name: String,
    /// The key in the Secret.
    pub secret_key: String,
}

/// A field of a JSON body whose value is in the Secret.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretBody {
    /// JSON pointer to the field.
    pub pointer: String,
    /// The key in the Secret.
    pub secret_key: String,
}

/// The request for a token: one POST with client credentials (RFC 6749), unless `json` is set.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenCall {
    /// The path, with the connection's parameters as placeholders.
    pub path: Template,
    /// What the path is relative to.
    #[serde(default)]
    pub below: TokenBase,
    /// Requested scopes.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// A JSON body instead of the form: each field with the key in the Secret that holds its value.
    #[serde(default)]
    pub json: BTreeMap<String, String>,
    /// JSON pointer to the token in the response.
    #[serde(default = "access_token")]
    pub token: String,
    /// JSON pointer to the token's lifetime in seconds.
    #[serde(default = "expires_in")]
    pub expires_in: String,
}

/// What a token's path is relative to.
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

impl CredentialMapping {
    /// The keys of the Secret that the mapping reads, sorted, without duplicates.
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

    /// Checks what serde cannot. `endpoint` holds the connection's parameters, which placeholders may use.
    pub(super) fn check(&self, endpoint: &BTreeMap<String, Parameter>) -> Result<(), String> {
        self.headers.iter().try_for_each(|header| check_header_name(&header.name))?;
        if self.headers.iter().any(|header| HeaderValue::from_str(&header.prefix).is_err()) {
            return Err("a prefix contains characters that are not allowed in a header".to_owned());
        }
        if let Some(bad) = self.body.iter().find(|field| !field.pointer.starts_with('/')) {
            return Err(format!("{:?} is not a JSON pointer: it must start with /", bad.pointer));
        }
        let Some(token) = &self.token else { return Ok(()) };
        if !self.headers.is_empty() || !self.query.is_empty() || !self.body.is_empty() {
            return Err("token excludes headers, query and body: remove them, the token is the credential".to_owned());
        }
        if !token.path.as_str().starts_with('/') {
            return Err(format!("token.path {:?} must start with /", token.path.as_str()));
        }
        if let Some(unknown) = token.path.parameters().find(|name| !endpoint.contains_key(*name)) {
            return Err(format!("token.path: {}", unknown_placeholder(unknown)));
        }
        match [&token.token, &token.expires_in].into_iter().find(|pointer| !pointer.starts_with('/')) {
            Some(bad) => Err(format!("{bad:?} is not a JSON pointer: it must start with /")),
            None => Ok(()),
        }
    }
}
