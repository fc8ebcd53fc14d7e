//! Who may call, what the profile switches on, how webhooks are checked, what the bank promises about payouts.

use std::collections::BTreeMap;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::api::v1alpha1::common::{SecretKeyRef, Switch};
use crate::api::v1alpha1::rule;
use crate::api::v1alpha1::text::{DurationText, EntryName, Word};

/// Switches of the profile by name.
pub type Features = BTreeMap<String, Switch>;

/// Licence profiles.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rights {
    /// The profiles; required, at most 32. A caller in none of them gets 403.
    /// Example: `profiles: [{name: desk, subjects: [{name: ann, kind: User, value: ann}], actions: [quote]}]`.
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub profiles: Vec<RightsProfile>,
}

/// One licence profile.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RightsProfile {
    /// Name of the profile, unique in the list; required. At most 63 characters. Example: `name: desk`.
    pub name: EntryName,
    /// Who has it; required, at most 64. Example: `subjects: [{name: ann, kind: User, value: ann@example.com}]`.
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub subjects: Vec<RightsSubject>,
    /// Operations, or declared purposes such as `export_pdf`, that it allows; required, at most 64.
    /// Example: `actions: [quote, export_pdf]`.
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub actions: Vec<Word>,
    /// Requests allowed per UTC day, over all its subjects; from 1 to 100000000. Unset: not limited.
    /// Example: `requestsPerDay: 10000`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000_000))]
    pub requests_per_day: Option<i32>,
}

closed_enum!(
    /// What kind of caller a subject is.
    SubjectKind = User {
        /// A user as the API server names it.
        User,
        /// A group as the API server names it.
        Group,
        /// A ServiceAccount, written `namespace:name`.
        ServiceAccount,
        /// A consumer of Busbar's own API, known by its key.
        Consumer,
    }
);

/// One caller of a licence profile.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RightsSubject {
    /// Name of the entry, unique in the list; required. At most 63 characters. Example: `name: ann`.
    pub name: EntryName,
    /// `User`, `Group`, `ServiceAccount` or `Consumer`; required. Example: `kind: Group`.
    pub kind: SubjectKind,
    /// The identity as the API server or the consumer list names it; required, at most 253 characters.
    /// Example: `value: treasury`.
    #[schemars(length(min = 1, max = 253))]
    pub value: String,
}

/// How incoming webhooks are checked: exactly one member.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
#[x_kube(validation = rule::exactly_one(&["hmacSHA512", "staticSecret"]))]
pub struct Webhook {
    /// HMAC-SHA512 of the raw body, in hex. Unset: the other member is set.
    /// Example: `hmacSHA512: {secretRef: {name: mono}}`.
    #[serde(rename = "hmacSHA512", skip_serializing_if = "Option::is_none")]
    pub hmac_sha512: Option<HmacOrStatic>,
    /// The secret itself in a header. Unset: the other member is set. Example: `staticSecret: {secretRef: {name: mono}}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub static_secret: Option<HmacOrStatic>,
}

/// Where the signature is and what it is checked with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct HmacOrStatic {
    /// Header with the signature; at most 64 characters. Unset: the profile's. Example: `header: mono-webhook-secret`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[A-Za-z0-9][-A-Za-z0-9_.]*$"))]
    pub header: Option<String>,
    /// The Secret; `key` renames `webhook-secret`; required. Example: `secretRef: {name: mono}`.
    pub secret_ref: SecretKeyRef,
}

closed_enum!(
    /// How the fate of a payout can be asked.
    Inquiry {
        /// It cannot.
        None,
        /// By GET, as the profile says.
        HttpGet,
    }
);

closed_enum!(
    /// How a payout can be called back.
    Recall {
        /// It cannot.
        None,
        /// By the profile's cancel request.
        HttpCancel,
    }
);

closed_enum!(
    /// When "not found" proves that a payout was not executed.
    NotFoundProof {
        /// Never.
        Never,
        /// When it is still the answer after `notFoundGrace`.
        AfterGrace,
    }
);

/// What the bank promises about payouts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Payouts {
    /// How long the bank remembers an idempotency key; from 0s (it does not) to 2160h. Unset: the profile's, else 0s.
    /// Example: `idempotencyWindow: 24h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("0s", "2160h"))]
    pub idempotency_window: Option<DurationText>,
    /// `None` or `HttpGet`. Unset: the profile's, else `None`. Example: `inquiry: HttpGet`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inquiry: Option<Inquiry>,
    /// `None` or `HttpCancel`. Unset: the profile's, else `None`. Example: `recall: HttpCancel`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recall: Option<Recall>,
    /// `Never`, or `AfterGrace` where "not found" is proof after `notFoundGrace`. Unset: the profile's, else `Never`.
    /// Example: `notFoundProof: AfterGrace`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_found_proof: Option<NotFoundProof>,
    /// How long "not found" must stay the answer to be proof; from 1m to 24h. Unset: 15m. Example: `notFoundGrace: 15m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("1m", "24h"))]
    pub not_found_grace: Option<DurationText>,
}
