//! Credentials and TLS. The values are in Secrets of the same namespace; the spec only references them.

use kube::KubeSchema;
use kube::core::Rule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::v1alpha1::common::{SecretKeyRef, SecretRef};
use crate::api::v1alpha1::rule;
use crate::api::v1alpha1::text::{DurationText, UrlText};

/// Credentials sent with each call: exactly one member.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
#[x_kube(validation = rule::exactly_one(&["profile", "oauth2ClientCredentials", "oauth2RefreshToken", "apiKey", "bearer", "basic"]))]
pub struct Auth {
    /// Credentials that the profile maps to headers or to a token request. Unset: another member is set.
    /// Example: `profile: {secretRef: {name: bank-a}}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<ProfileAuth>,
    /// OAuth 2.0 client credentials grant; Secret keys `client-id` and `client-secret`. Unset: another member is set.
    /// Example: `oauth2ClientCredentials: {secretRef: {name: finastra}}`.
    #[serde(rename = "oauth2ClientCredentials", skip_serializing_if = "Option::is_none")]
    pub oauth2_client_credentials: Option<OAuth2>,
    /// OAuth 2.0 refresh token grant; Secret keys `client-id`, `client-secret` and `refresh-token`. A rotated refresh
    /// token is stored encrypted in the ledger until the Secret changes. Unset: another member is set.
    /// Example: `oauth2RefreshToken: {secretRef: {name: open-banking}}`.
    #[serde(rename = "oauth2RefreshToken", skip_serializing_if = "Option::is_none")]
    pub oauth2_refresh_token: Option<OAuth2>,
    /// API key in a header or query parameter; Secret key `api-key`. Unset: another member is set.
    /// Example: `apiKey: {placement: Header, name: mono-sec-key, secretRef: {name: mono}}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key: Option<ApiKey>,
    /// Static bearer token; Secret key `token`. Unset: another member is set.
    /// Example: `bearer: {secretRef: {name: bank-a}}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bearer: Option<Bearer>,
    /// HTTP basic authentication; Secret keys `username` and `password`. Unset: another member is set.
    /// Example: `basic: {secretRef: {name: bank-b}}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basic: Option<Basic>,
}

/// Credentials that the profile interprets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProfileAuth {
    /// Secret with the keys that the profile requires; required. Example: `secretRef: {name: bank-a}`.
    pub secret_ref: SecretRef,
}

string_enum!(
    /// How an OAuth 2.0 client authenticates at the token endpoint.
    ClientAuthentication {
        /// In the form first; as HTTP Basic if the endpoint refuses that with `invalid_client`.
        Auto,
        /// As HTTP Basic (RFC 6749 §2.3.1).
        Basic,
        /// In the form.
        Body,
    }
);

/// OAuth 2.0 token endpoint. Precedence: `tokenURL`, then `authBaseURL` with the tenant, then the base URL with the
/// tenant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct OAuth2 {
    /// URL of the token endpoint; at most 2048 characters; https unless `endpoint.insecure` is true in a Sandbox.
    /// Unset: derived from `authBaseURL` or the base URL.
    /// Example: `tokenURL: "https://login.bank-a.example/oauth2/token"`.
    #[serde(rename = "tokenURL", skip_serializing_if = "Option::is_none")]
    pub token_url: Option<UrlText>,
    /// Scheme and host of the token endpoint, to which the profile adds the path; at most 2048 characters.
    /// Unset: those of the base URL. Example: `authBaseURL: "https://login.bank-a.example"`.
    #[serde(rename = "authBaseURL", skip_serializing_if = "Option::is_none")]
    pub auth_base_url: Option<UrlText>,
    /// Requested scopes; at most 32, each at most 256 characters. Unset: those of the profile.
    /// Example: `scopes: [openid]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 256)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub scopes: Option<Vec<String>>,
    /// Requested audience; at most 256 characters. Unset: none is sent. Example: `audience: payments`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub audience: Option<String>,
    /// Time before its expiry at which a token is renewed, at most a third of its lifetime; from 0s to 10m. Unset: 60s.
    /// Example: `refreshBefore: 60s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("0s", "10m"))]
    pub refresh_before: Option<DurationText>,
    /// How the client authenticates at the token endpoint: `Basic` (HTTP Basic), `Body` (in the form) or `Auto`, which
    /// sends the form and changes to Basic once if the endpoint answers `invalid_client`; what it accepts is remembered.
    /// Unset: `Auto`. Example: `clientAuthentication: Basic`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_authentication: Option<ClientAuthentication>,
    /// Secret with the keys `client-id`, `client-secret` and, for refresh tokens, `refresh-token`; required.
    /// Example: `secretRef: {name: finastra}`.
    pub secret_ref: SecretRef,
}

string_enum!(
    /// Placement of an API key.
    ApiKeyPlacement = Header {
        /// Request header.
        Header,
        /// Query parameter; redacted in logs, metrics and errors.
        Query,
    }
);

/// API key sent with every request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rule::rule("!has(self.prefix) || self.placement == 'Header'", "must set prefix only with placement Header"))]
pub struct ApiKey {
    /// Placement of the key: `Header` or `Query`; required. Example: `placement: Header`.
    pub placement: ApiKeyPlacement,
    /// Name of the header or query parameter; required, at most 64 characters. Example: `name: X-Api-Key`.
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[A-Za-z0-9][-A-Za-z0-9_.]*$"))]
    pub name: String,
    /// Prefix of the header value, including a trailing space; header only, at most 32 characters. Unset: none.
    /// Example: `prefix: "ApiKey "`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), regex(pattern = "^[!-~ ]+$"))]
    pub prefix: Option<String>,
    /// Secret with the key `api-key`, or with the key named by `key`; required. Example: `secretRef: {name: mono}`.
    pub secret_ref: SecretKeyRef,
}

/// Static bearer token.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Bearer {
    /// Secret with the key `token`, or with the key named by `key`; required. Example: `secretRef: {name: bank-a}`.
    pub secret_ref: SecretKeyRef,
}

/// HTTP basic authentication.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Basic {
    /// Secret with the keys `username` and `password`; required. Example: `secretRef: {name: bank-b}`.
    pub secret_ref: SecretRef,
}

string_enum!(
    /// Minimum TLS version.
    TlsVersion {
        /// TLS 1.2 or newer.
        Tls12 = "TLS12",
        /// TLS 1.3 only.
        Tls13 = "TLS13",
    }
);

/// TLS settings for calls to the provider.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// Secret with `ca.crt` (trusted instead of the public roots) and, for mTLS, `tls.crt` and `tls.key`.
    /// Unset: public roots, no client certificate. Example: `certSecretRef: {name: bank-a-tls}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_secret_ref: Option<SecretRef>,
    /// Server name against which the certificate is verified; at most 253 characters. Unset: the host of the address.
    /// Example: `serverName: api.bank-a.example`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?$"))]
    pub server_name: Option<String>,
    /// Minimum TLS version: `TLS12` or `TLS13`. Unset: `TLS12`. Example: `minVersion: TLS13`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_version: Option<TlsVersion>,
}

/// The https rule of the base URL applied to the token URLs.
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
