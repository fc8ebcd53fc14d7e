//! `ProviderConnection`: how to reach one bank or data provider, and with which manners.
//!
//! The spec's parts live beside this file: [`auth`] (credentials and TLS), [`calls`] (time-outs, retries, quota, checks,
//! cache), [`access`] (who may call, features, webhooks, payouts). [`status`] is what the operator observed.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

pub mod access;
pub mod auth;
pub mod calls;
pub mod endpoint;
pub mod status;

pub use access::{
    Features, HmacOrStatic, Inquiry, NotFoundProof, Payouts, Recall, Rights, RightsProfile, RightsSubject, SubjectKind,
    Webhook,
};
pub use auth::{ApiKey, ApiKeyPlacement, Auth, Basic, Bearer, OAuth2, ProfileAuth, Tls, TlsVersion};
pub use calls::{
    BackOff, Cache, Fallback, HealthCheck, HealthCheckMode, Limit, LimitScope, LimitUnit, RateLimit, Reserve, Retry,
    Timeout,
};
pub use endpoint::{Endpoint, Environment};
pub use status::{
    BreakerState, CircuitState, CircuitStatus, ConnectionConsumers, CredentialStatus, HealthStatus, PolicySource,
    PolicyStatus, ProviderConnectionStatus, RiskTier,
};

use crate::api::v1alpha1::common::{Instant, LocalRef, Window};
use crate::api::v1alpha1::rule;
use crate::api::v1alpha1::text::ReasonText;

closed_enum!(
    /// How `circuitOverride` bends a circuit.
    OverrideMode {
        /// No call passes except probes.
        ForcedOpen,
        /// Every call passes, whatever the outcomes.
        ForcedClosed,
        /// Outcomes are counted and nothing is blocked.
        Shadow,
    }
);

/// What Ops wants of this one circuit for a while.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct CircuitOverride {
    /// `ForcedOpen` blocks every call but probes, `ForcedClosed` lets every call pass, `Shadow` counts without blocking;
    /// required. Example: `mode: ForcedOpen`.
    pub mode: OverrideMode,
    /// When the override loses its effect, RFC 3339 with any offset; required. Example: `untilTime: "2030-01-31T18:00:00Z"`.
    pub until_time: Instant,
    /// Why, for the event and the audit log; required, 1 to 256 characters. Example: `reason: bank announced maintenance`.
    pub reason: ReasonText,
}

/// What a `ProviderConnection` should be.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "busbar.dev",
    version = "v1alpha1",
    kind = "ProviderConnection",
    plural = "providerconnections",
    shortname = "pconn",
    category = "busbar",
    namespaced,
    status = "ProviderConnectionStatus",
    derive = "PartialEq",
    doc = "How to reach one bank or data provider: address, credentials, time-outs, quota, health check, circuit breaker.",
    validation = rule::object_name(),
    selectable = ".spec.provider",
    selectable = ".spec.environment",
    selectable = ".spec.breakerPolicyRef.name",
    selectable = ".spec.suspend",
    selectable = ".status.health",
    selectable = ".status.circuit",
    printcolumn(name = "Provider", type_ = "string", json_path = ".spec.provider", description = "Who is called."),
    printcolumn(name = "Env", type_ = "string", json_path = ".spec.environment", description = "Sandbox or Production."),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status", description = "Spec accepted, references resolve, one verification has ended."),
    printcolumn(name = "Health", type_ = "string", json_path = ".status.health", description = "What the checks say."),
    printcolumn(name = "Circuit", type_ = "string", json_path = ".status.circuit", description = "The circuit in effect."),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason", description = "Reason of Ready."),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Host", type_ = "string", json_path = ".status.host", priority = 1, description = "Host that is called."),
    printcolumn(name = "Policy", type_ = "string", json_path = ".status.policy.name", priority = 1, description = "Breaker policy in effect."),
    printcolumn(name = "Risk", type_ = "string", json_path = ".status.risk", priority = 1, description = "Tier of the risk score."),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].message", priority = 1, description = "Message of Ready.")
)]
#[cfg_attr(feature = "test-support", kube(cel))]
#[x_kube(
    validation = endpoint::base_url_https(),
    validation = auth::token_url_https(),
)]
pub struct ProviderConnectionSpec {
    /// Who is called: `finastra`, `mono`, `fmp`, `polygon`, `fred`, `newsapi`, `open-banking-uk`, `gocardless`, `stripe`,
    /// `plaid`, `generic`, or `profile:<name>` for a profile that the operator loads from `--profiles-dir`; required,
    /// immutable. Example: `provider: mono`.
    #[schemars(
        length(max = 71),
        regex(
            pattern = "^(finastra|mono|fmp|polygon|fred|newsapi|open-banking-uk|gocardless|stripe|plaid|generic|profile:[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)$"
        )
    )]
    #[x_kube(validation = rule::immutable("provider"))]
    pub provider: String,
    /// `Sandbox` or `Production`; required, immutable, without a default on purpose. Example: `environment: Sandbox`.
    #[x_kube(validation = rule::immutable("environment"))]
    pub environment: Environment,
    /// Where the provider is reached. Unset: the profile's address. Example: `endpoint: {baseURL: "https://api.bank-a.example"}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Endpoint>,
    /// How calls prove who they are; exactly one member. Unset: no credential is sent.
    /// Example: `auth: {bearer: {secretRef: {name: bank-a}}}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// TLS towards the provider. Unset: public roots, TLS 1.2 or newer, no client certificate.
    /// Example: `tls: {certSecretRef: {name: bank-a-tls}}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// How long a call may take. Unset: the profile's, else 5s, 30s and 2m. Example: `timeout: {request: 10s}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Timeout>,
    /// How a failed try is repeated; money calls are never retried blindly. Unset: 3 retries after 1s to 30s.
    /// Example: `retry: {retries: 2}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// How many requests the provider allows. Unset: the profile's limits. Example: `rateLimit: {limits: [{name: minute, requests: 60, unit: Minute}]}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// How health is found out. Unset: the profile's; for banks every 30s with a time-out of 5s.
    /// Example: `healthCheck: {interval: 30s}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheck>,
    /// The `BreakerPolicy` that guards this connection. Unset: the policy named `default` in the namespace, else the
    /// profile's preset. Example: `breakerPolicyRef: {name: banks}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker_policy_ref: Option<LocalRef>,
    /// Bends this connection's circuit until a time; needs the verb `override`. Unset: the breaker decides.
    /// Example: `circuitOverride: {mode: ForcedOpen, untilTime: "2030-01-31T18:00:00Z", reason: maintenance}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub circuit_override: Option<CircuitOverride>,
    /// Answers kept for later. Unset: 15s and 1h for data profiles, else off. Example: `cache: {ttl: 15s}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<Cache>,
    /// Stand-ins for operations of this connection, tried in the order of the list; at most 8. Unset: none.
    /// Example: `fallback: [{name: polygon, operations: [quote], connectionRef: {name: polygon}}]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub fallback: Option<Vec<Fallback>>,
    /// Licence profiles: who may do what, how often. Set: a caller without a profile gets 403. Unset: open to whoever may
    /// call. Example: `rights: {profiles: [{name: desk, subjects: [{name: ann, kind: User, value: ann}], actions: [quote]}]}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rights: Option<Rights>,
    /// Switches of the profile, each `Enabled` or `Disabled`; at most 16. Unset: the profile's defaults
    /// (`b2b-routes` on, `b2c-stubs` off). Example: `features: {b2c-stubs: Enabled}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 16))]
    #[x_kube(validation = rule::word_keys())]
    pub features: Option<Features>,
    /// How incoming webhooks prove that they come from the provider; exactly one member. Unset: webhooks are refused.
    /// Example: `webhook: {staticSecret: {secretRef: {name: mono}}}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Webhook>,
    /// Windows in which nothing is probed or synced, no alert fires and routes avoid this connection; at most 16.
    /// Unset: none. Example: `maintenance: [{name: nightly, schedule: "0 2 * * *", duration: 1h}]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub maintenance: Option<Vec<Window>>,
    /// What the bank promises about payouts. Unset: nothing, so that an unclear payout goes to a person.
    /// Example: `payouts: {idempotencyWindow: 24h, inquiry: HttpGet}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payouts: Option<Payouts>,
    /// Stops probes, syncs and calls through this connection; spec and references stay validated. Default: false.
    /// Example: `suspend: true`.
    #[serde(default)]
    pub suspend: bool,
}
