//! Authorization of callers, profile features, webhook verification, and payout guarantees of the bank.

use std::collections::BTreeMap;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::api::v1alpha1::common::{SecretKeyRef, Switch};
use crate::api::v1alpha1::rule;
use crate::api::v1alpha1::text::{DurationText, EntryName, Word};

/// Feature switches of the profile by name.
pub type Features = BTreeMap<String, Switch>;

/// Licence profiles.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rights {
    /// The profiles; required, at most 32. A caller without a profile gets 403.
    /// Example: `profiles: [{name: desk, subjects: [{name: ann, kind: User, value: ann}], actions: [quote]}]`.
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub profiles: Vec<RightsProfile>,
}

/// One licence profile.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RightsProfile {
    /// Name of the profile, unique in the list; required, at most 63 characters. Example: `name: desk`.
    pub name: EntryName,
    /// Callers to which the profile is granted; required, at most 64.
    /// Example: `subjects: [{name: ann, kind: User, value: ann@example.com}]`.
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub subjects: Vec<RightsSubject>,
    /// Allowed operations and declared purposes such as `export_pdf`; required, at most 64.
    /// Example: `actions: [quote, export_pdf]`.
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub actions: Vec<Word>,
    /// Requests per UTC day over all subjects; from 1 to 100000000. Unset: unlimited.
    /// Example: `requestsPerDay: 10000`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000_000))]
    pub requests_per_day: Option<i32>,
}

string_enum!(
    /// Kind of a subject.
    SubjectKind = User {
        /// A user of the Kubernetes API server.
        User,
        /// A group of the Kubernetes API server.
        Group,
        /// A ServiceAccount, written `namespace:name`.
        ServiceAccount,
        /// A consumer of Busbar's own API, identified by its key.
        Consumer,
    }
);

/// One caller of a licence profile.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RightsSubject {
    /// Name of the entry, unique in the list; required, at most 63 characters. Example: `name: ann`.
    pub name: EntryName,
    /// Kind of the subject: `User`, `Group`, `ServiceAccount` or `Consumer`; required. Example: `kind: Group`.
    pub kind: SubjectKind,
    /// Identity in the API server or the consumer list; required, at most 253 characters.
    /// Example: `value: treasury`.
    #[schemars(length(min = 1, max = 253))]
    pub value: String,
}

/// Verification of incoming webhooks: exactly one member.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
#[x_kube(validation = rule::exactly_one(&["hmacSHA512", "staticSecret"]))]
pub struct WebhookVerification {
    /// HMAC-SHA512 of the raw body in a header, hexadecimal. Unset: the other member is set.
    /// Example: `hmacSHA512: {secretRef: {name: mono}}`.
    #[serde(rename = "hmacSHA512", skip_serializing_if = "Option::is_none")]
    pub hmac_sha512: Option<WebhookSecret>,
    /// Shared secret in a header. Unset: the other member is set. Example: `staticSecret: {secretRef: {name: mono}}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub static_secret: Option<WebhookSecret>,
}

/// Header and Secret of a webhook verification.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct WebhookSecret {
    /// Header with the signature or secret; at most 64 characters. Unset: that of the profile.
    /// Example: `header: mono-webhook-secret`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[A-Za-z0-9][-A-Za-z0-9_.]*$"))]
    pub header: Option<String>,
    /// Secret with the key `webhook-secret`, or with the key named by `key`; required.
    /// Example: `secretRef: {name: mono}`.
    pub secret_ref: SecretKeyRef,
}

string_enum!(
    /// Status inquiry for a payout.
    Inquiry {
        /// Not supported.
        None,
        /// HTTP GET, as defined by the profile.
        HttpGet,
    }
);

string_enum!(
    /// Recall of a payout.
    Recall {
        /// Not supported.
        None,
        /// HTTP cancel request, as defined by the profile.
        HttpCancel,
    }
);

string_enum!(
    /// Whether the response "not found" proves that a payout was not executed.
    NotFoundProof {
        /// Never.
        Never,
        /// If the response is still "not found" after `notFoundGrace`.
        AfterGrace,
    }
);

/// Guarantees of the bank about payouts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Payouts {
    /// Time for which the bank deduplicates by idempotency key; from 0s (no deduplication) to 2160h. Unset: that of the
    /// profile, else 0s.
    /// Example: `idempotencyWindow: 24h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("0s", "2160h"))]
    pub idempotency_window: Option<DurationText>,
    /// Status inquiry for a payout: `None` or `HttpGet`. Unset: that of the profile, else `None`.
    /// Example: `inquiry: HttpGet`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inquiry: Option<Inquiry>,
    /// Recall of a payout: `None` or `HttpCancel`. Unset: that of the profile, else `None`.
    /// Example: `recall: HttpCancel`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recall: Option<Recall>,
    /// Whether "not found" proves that a payout was not executed: `Never`, or `AfterGrace` after `notFoundGrace`.
    /// Unset: that of the profile, else `Never`.
    /// Example: `notFoundProof: AfterGrace`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_found_proof: Option<NotFoundProof>,
    /// Time for which the response must be "not found" to be proof; from 1m to 24h. Unset: 15m.
    /// Example: `notFoundGrace: 15m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("1m", "24h"))]
    pub not_found_grace: Option<DurationText>,
}
