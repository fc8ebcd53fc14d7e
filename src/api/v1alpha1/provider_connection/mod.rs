//! `ProviderConnection`: connection to one bank or data provider.
//!
//! The parts of the spec are in [`endpoint`] (address), [`auth`] (credentials and TLS), [`calls`] (timeouts, retries,
//! quota, health check, cache, fallback) and [`access`] (authorization, features, webhooks, payouts). [`status`] has
//! the observed status.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

pub mod access;
pub mod auth;
pub mod calls;
pub mod endpoint;
pub mod status;

pub use access::{
    Features, Inquiry, NotFoundProof, Payouts, Recall, Rights, RightsProfile, RightsSubject, SubjectKind,
    WebhookSecret, WebhookVerification,
};
pub use auth::{
    ApiKey, ApiKeyPlacement, Auth, Basic, Bearer, ClientAuthentication, OAuth2, ProfileAuth, Tls, TlsVersion,
};
pub use calls::{
    BackOff, Cache, Fallback, HealthCheck, HealthCheckMode, Limit, LimitScope, LimitUnit, RateLimit, Reserve, Retry,
    Timeout,
};
pub use endpoint::{Endpoint, Environment};
pub use status::{
    BreakerState, CircuitState, CircuitStatus, ConnectionConsumers, CredentialStatus, HealthStatus, PassedCheck,
    PolicySource, PolicyStatus, ProviderConnectionStatus, RiskTier,
};

use crate::api::v1alpha1::common::{Instant, LocalRef, TimeWindow};
use crate::api::v1alpha1::rule;
use crate::api::v1alpha1::text::ReasonText;

string_enum!(
    /// Mode of a `circuitOverride`.
    OverrideMode {
        /// Every call except probes is rejected.
        ForcedOpen,
        /// Every call is admitted, whatever the outcomes.
        ForcedClosed,
        /// Outcomes are counted, and every call is admitted.
        Shadow,
    }
);

/// Temporary override of one connection's circuit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct CircuitOverride {
    /// `ForcedOpen` rejects every call except probes, `ForcedClosed` admits every call, `Shadow` counts outcomes
    /// without blocking; required.
    /// Example: `mode: ForcedOpen`.
    pub mode: OverrideMode,
    /// Expiry of the override, RFC 3339 with any offset; required. Example: `untilTime: "2030-01-31T18:00:00Z"`.
    pub until_time: Instant,
    /// Reason for the event and the audit log; required, 1 to 256 characters.
    /// Example: `reason: bank announced maintenance`.
    pub reason: ReasonText,
}

/// Spec of a `ProviderConnection`.
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
    doc = "Connection to one bank or data provider: address, credentials, timeouts, quota, health check, circuit breaker.",
    validation = rule::object_name(),
    selectable = ".spec.provider",
    selectable = ".spec.environment",
    selectable = ".spec.breakerPolicyRef.name",
    selectable = ".spec.suspend",
    selectable = ".status.health",
    selectable = ".status.circuit",
    printcolumn(name = "Provider", type_ = "string", json_path = ".spec.provider", description = "Provider of the connection."),
    printcolumn(name = "Env", type_ = "string", json_path = ".spec.environment", description = "Sandbox or Production."),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status", description = "Spec accepted, references resolved, and one verification completed."),
    printcolumn(name = "Health", type_ = "string", json_path = ".status.health", description = "Health of the provider."),
    printcolumn(name = "Circuit", type_ = "string", json_path = ".status.circuit", description = "Effective circuit state, overrides included."),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason", description = "Reason of Ready."),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Host", type_ = "string", json_path = ".status.host", priority = 1, description = "Host of the provider's address."),
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
    /// Provider profile: `finastra`, `mono`, `fmp`, `polygon`, `fred`, `newsapi`, `open-banking-uk`, `gocardless`,
    /// `stripe`,
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
    /// Environment of the provider: `Sandbox` or `Production`; required, immutable, without a default.
    /// Example: `environment: Sandbox`.
    #[x_kube(validation = rule::immutable("environment"))]
    pub environment: Environment,
    /// Address of the provider. Unset: the address of the profile.
    /// Example: `endpoint: {baseURL: "https://api.bank-a.example"}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Endpoint>,
    /// Credentials sent with each call; exactly one member. Unset: no credential is sent.
    /// Example: `auth: {bearer: {secretRef: {name: bank-a}}}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// TLS settings for calls to the provider. Unset: public roots, TLS 1.2 or newer, no client certificate.
    /// Example: `tls: {certSecretRef: {name: bank-a-tls}}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Timeouts of a call. Unset: those of the profile, else 5s, 30s and 2m. Example: `timeout: {request: 10s}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Timeout>,
    /// Retries of failed attempts; money calls are never retried without proof that they were not executed. Unset: 3
    /// retries with a backoff of 1s to 30s.
    /// Example: `retry: {retries: 2}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Client-side rate limits. Unset: the limits of the profile.
    /// Example: `rateLimit: {limits: [{name: minute, requests: 60, unit: Minute}]}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// Health check. Unset: that of the profile; for banks every 30s with a timeout of 5s.
    /// Example: `healthCheck: {interval: 30s}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheck>,
    /// `BreakerPolicy` of this connection. Unset: the policy named `default` in the namespace, else the preset of the
    /// profile. Example: `breakerPolicyRef: {name: banks}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker_policy_ref: Option<LocalRef>,
    /// Temporarily overrides the circuit state; requires the RBAC verb `override`. Unset: the breaker decides.
    /// Example: `circuitOverride: {mode: ForcedOpen, untilTime: "2030-01-31T18:00:00Z", reason: maintenance}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub circuit_override: Option<CircuitOverride>,
    /// Response cache. Unset: 15s and 1h for data profiles, else off. Example: `cache: {ttl: 15s}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<Cache>,
    /// Fallback connections for operations of this connection, tried in order; at most 8. Unset: none.
    /// Example: `fallback: [{name: polygon, operations: [quote], connectionRef: {name: polygon}}]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub fallback: Option<Vec<Fallback>>,
    /// Licence profiles: allowed callers, actions and request rates; a caller without a profile gets 403. Unset: every
    /// authorized caller is allowed.
    /// Example: `rights: {profiles: [{name: desk, subjects: [{name: ann, kind: User, value: ann}], actions: [quote]}]}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rights: Option<Rights>,
    /// Feature switches of the profile, each `Enabled` or `Disabled`; at most 16. Unset: the defaults of the profile
    /// (`b2b-routes` on, `b2c-stubs` off). Example: `features: {b2c-stubs: Enabled}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 16))]
    #[x_kube(validation = rule::word_keys())]
    pub features: Option<Features>,
    /// Verification of incoming webhooks; exactly one member. Unset: webhooks are rejected.
    /// Example: `webhook: {staticSecret: {secretRef: {name: mono}}}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookVerification>,
    /// Maintenance windows: no probes, syncs and alerts, and routes exclude this connection; at most 16. Unset: none.
    /// Example: `maintenance: [{name: nightly, schedule: "0 2 * * *", duration: 1h}]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub maintenance: Option<Vec<TimeWindow>>,
    /// Guarantees of the bank about payouts: narrows those of the profile. Unset: those of the profile; without any, payouts
    /// with unknown outcome need a manual review.
    /// Example: `payouts: {idempotencyWindow: 24h, inquiry: HttpGet}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payouts: Option<Payouts>,
    /// Suspends probes, syncs and calls through this connection; spec and references are still validated. Default:
    /// false.
    /// Example: `suspend: true`.
    #[serde(default)]
    pub suspend: bool,
}
