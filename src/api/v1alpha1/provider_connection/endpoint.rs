//! Address of a provider.

use kube::KubeSchema;
use kube::core::Rule;
use serde::{Deserialize, Serialize};

use crate::api::v1alpha1::maps::Parameters;
use crate::api::v1alpha1::rule;
use crate::api::v1alpha1::text::UrlText;

string_enum!(
    /// Environment of the provider.
    Environment = Sandbox {
        /// Test environment; plain HTTP can be allowed.
        Sandbox,
        /// Production environment; always over TLS.
        Production,
    }
);

/// Address of a provider.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// Base URL of all operations, without query and fragment; at most 2048 characters. It must begin with `https://`
    /// unless `insecure` is true and the environment is `Sandbox`. Unset: that of the profile.
    /// Example: `baseURL: "https://api.bank-a.example/v2"`.
    #[serde(rename = "baseURL", skip_serializing_if = "Option::is_none")]
    pub base_url: Option<UrlText>,
    /// Allows plain HTTP, in environment `Sandbox` only. Unset: false. Example: `insecure: true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub insecure: Option<bool>,
    /// Values of the placeholders in the profile's address and paths; at most 16, each at most 256 characters.
    /// Unset: none. Example: `parameters: {tenant: sandbox}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::word_keys())]
    pub parameters: Option<Parameters>,
}

/// Plain HTTP requires both `environment: Sandbox` and `insecure: true`.
pub(super) fn base_url_https() -> Rule {
    rule::rule(
        "!has(self.endpoint) || !has(self.endpoint.baseURL) || self.endpoint.baseURL.startsWith('https://') || \
         (self.environment == 'Sandbox' && has(self.endpoint.insecure) && self.endpoint.insecure)",
        "must use https in endpoint.baseURL, unless endpoint.insecure is true and environment is Sandbox",
    )
}
