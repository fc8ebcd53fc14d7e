//! Where a provider is reached.

use kube::KubeSchema;
use kube::core::Rule;
use serde::{Deserialize, Serialize};

use crate::api::v1alpha1::maps::Parameters;
use crate::api::v1alpha1::rule;
use crate::api::v1alpha1::text::UrlText;

closed_enum!(
    /// Which world of the provider is called.
    Environment = Sandbox {
        /// Test money, test data; plain HTTP may be allowed.
        Sandbox,
        /// The real thing; always over TLS.
        Production,
    }
);

/// Where a provider is reached.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// Address that the paths of operations are added to, without query or fragment; at most 2048 characters. It must
    /// begin with `https://` unless `insecure` is true in a Sandbox. Unset: the profile's.
    /// Example: `baseURL: "https://api.bank-a.example/v2"`.
    #[serde(rename = "baseURL", skip_serializing_if = "Option::is_none")]
    pub base_url: Option<UrlText>,
    /// Allows plain HTTP, in environment `Sandbox` only. Unset: false. Example: `insecure: true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub insecure: Option<bool>,
    /// Values for the placeholders of the profile's address and paths; at most 16, each at most 256 characters.
    /// Unset: none. Example: `parameters: {tenant: sandbox}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::word_keys())]
    pub parameters: Option<Parameters>,
}

/// Plain HTTP needs two consents: a Sandbox and `insecure`.
pub(super) fn base_url_https() -> Rule {
    rule::rule(
        "!has(self.endpoint) || !has(self.endpoint.baseURL) || self.endpoint.baseURL.startsWith('https://') || \
         (self.environment == 'Sandbox' && has(self.endpoint.insecure) && self.endpoint.insecure)",
        "must use https in endpoint.baseURL, unless endpoint.insecure is true and environment is Sandbox",
    )
}
