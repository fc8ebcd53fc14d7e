//! Credentials and TLS. Values live in Secrets of the same namespace and are only ever named here.

use kube::KubeSchema;
use kube::core::Rule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::v1alpha1::common::{SecretKeyRef, SecretRef};
use crate::api::v1alpha1::rule;
use crate::api::v1alpha1::text::{DurationText, UrlText};

/// How calls prove who they are: exactly one member.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
#[x_kube(validation = rule::exactly_one(&["profile", "oauth2ClientCredentials", "oauth2RefreshToken", "apiKey", "bearer", "basic"]))]
pub struct Auth {
    /// The profile maps the keys of the Secret to headers or to a token call. Unset: another member is set.
    /// Example: `profile: {secretRef: {name: bank-a}}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<ProfileAuth>,
    /// OAuth 2.0 client credentials; the Secret has `client-id` and `client-secret`. Unset: another member is set.
    /// Example: `oauth2ClientCredentials: {secretRef: {name: finastra}}`.
    #[serde(rename = "oauth2ClientCredentials", skip_serializing_if = "Option::is_none")]
    pub oauth2_client_credentials: Option<OAuth2>,
    /// OAuth 2.0 refresh token; the Secret has `client-id`, `client-secret` and `refresh-token`. A rotated token is kept
    /// encrypted in the ledger, until the Secret changes. Unset: another member is set.
    /// Example: `oauth2RefreshToken: {secretRef: {name: open-banking}}`.
    #[serde(rename = "oauth2RefreshToken", skip_serializing_if = "Option::is_none")]
    pub oauth2_refresh_token: Option<OAuth2>,
    /// A key in a header or in the query; the Secret has `api-key`. Unset: another member is set.
    /// Example: `apiKey: {placement: Header, name: mono-sec-key, secretRef: {name: mono}}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key: Option<ApiKey>,
    /// A fixed bearer token; the Secret has `token`. Unset: another member is set. Example: `bearer: {secretRef: {name: bank-a}}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bearer: Option<Bearer>,
    /// HTTP basic; the Secret has `username` and `password`. Unset: another member is set.
    /// Example: `basic: {secretRef: {name: bank-b}}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basic: Option<Basic>,
}

/// Credentials whose meaning the profile knows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProfileAuth {
    /// The Secret with the keys that the profile names; required. Example: `secretRef: {name: bank-a}`.
    pub secret_ref: SecretRef,
}

/// A token from an OAuth 2.0 token endpoint. Precedence: `tokenURL`, then `authBaseURL` with the tenant, then the base URL
/// with the tenant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct OAuth2 {
    /// Full address of the token endpoint; at most 2048 characters; https unless `endpoint.insecure` in a Sandbox.
    /// Unset: made from `authBaseURL` or from the base URL. Example: `tokenURL: "https://login.bank-a.example/oauth2/token"`.
    #[serde(rename = "tokenURL", skip_serializing_if = "Option::is_none")]
    pub token_url: Option<UrlText>,
    /// Scheme and host of the token endpoint, to which the profile adds the path; at most 2048 characters.
    /// Unset: the base URL's. Example: `authBaseURL: "https://login.bank-a.example"`.
    #[serde(rename = "authBaseURL", skip_serializing_if = "Option::is_none")]
    pub auth_base_url: Option<UrlText>,
    /// Scopes to ask for; at most 32 of 256 characters. Unset: the profile's. Example: `scopes: [openid]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 256)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub scopes: Option<Vec<String>>,
    /// Audience to ask for; at most 256 characters. Unset: none is sent. Example: `audience: payments`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub audience: Option<String>,
    /// How long before its end a token is renewed, never more than a third of its life; from 0s to 10m. Unset: 60s.
    /// Example: `refreshBefore: 60s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("0s", "10m"))]
    pub refresh_before: Option<DurationText>,
    /// The Secret with `client-id`, `client-secret` and, for refresh tokens, `refresh-token`; required.
    /// Example: `secretRef: {name: finastra}`.
    pub secret_ref: SecretRef,
}

closed_enum!(
    /// Where an API key is put.
    ApiKeyPlacement = Header {
        /// Into a request header.
        Header,
        /// Into the query; it is stripped from every log, metric and error.
        Query,
    }
);

/// A key that goes with every request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rule::rule("!has(self.prefix) || self.placement == 'Header'", "must set prefix only with placement Header"))]
pub struct ApiKey {
    /// `Header` or `Query`; required. Example: `placement: Header`.
    pub placement: ApiKeyPlacement,
    /// Name of the header or of the query parameter; required, at most 64 characters. Example: `name: X-Api-Key`.
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[A-Za-z0-9][-A-Za-z0-9_.]*$"))]
    pub name: String,
    /// Text before the key, with its space; header only, at most 32 characters. Unset: none. Example: `prefix: "ApiKey "`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), regex(pattern = "^[!-~ ]+$"))]
    pub prefix: Option<String>,
    /// The Secret; `key` renames `api-key`; required. Example: `secretRef: {name: mono}`.
    pub secret_ref: SecretKeyRef,
}

/// A fixed bearer token.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Bearer {
    /// The Secret; `key` renames `token`; required. Example: `secretRef: {name: bank-a}`.
    pub secret_ref: SecretKeyRef,
}

/// HTTP basic.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Basic {
    /// The Secret with `username` and `password`; required. Example: `secretRef: {name: bank-b}`.
    pub secret_ref: SecretRef,
}

closed_enum!(
    /// The oldest TLS version that is spoken.
    TlsVersion {
        /// TLS 1.2 or newer.
        Tls12 = "TLS12",
        /// TLS 1.3 only.
        Tls13 = "TLS13",
    }
);

/// TLS towards the provider.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// A Secret with `ca.crt` (trusted instead of the public roots) and, for mTLS, `tls.crt` and `tls.key`.
    /// Unset: public roots, no client certificate. Example: `certSecretRef: {name: bank-a-tls}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_secret_ref: Option<SecretRef>,
    /// Name that the certificate is checked against; at most 253 characters. Unset: the host of the address.
    /// Example: `serverName: api.bank-a.example`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?$"))]
    pub server_name: Option<String>,
    /// `TLS12` or `TLS13`. Unset: `TLS12`. Example: `minVersion: TLS13`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_version: Option<TlsVersion>,
}

/// Token addresses follow the rule of the base URL.
pub(super) fn token_url_https() -> Rule {
    let secure = |member: &str, field: &str| {
        let path = format!("self.auth.{member}");
        format!("(!has({path}) || !has({path}.{field}) || {path}.{field}.startsWith('https://'))")
    };
    let all = [
        secure("oauth2ClientCredentials", "tokenURL"),
        secure("oauth2ClientCredentials", "authBaseURL"),
        secure("oauth2RefreshToken", "tokenURL"),
        secure("oauth2RefreshToken", "authBaseURL"),
    ];
    rule::rule(
        format!(
            "!has(self.auth) || ({}) || (self.environment == 'Sandbox' && has(self.endpoint) && \
             has(self.endpoint.insecure) && self.endpoint.insecure)",
            all.join(" && ")
        ),
        "must use https in tokenURL and authBaseURL, unless endpoint.insecure is true and environment is Sandbox",
    )
}
