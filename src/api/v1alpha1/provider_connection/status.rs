//! Observed status of a `ProviderConnection`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::v1alpha1::common::{Condition, Time, conditions_schema};

string_enum!(
    /// Health of the provider.
    HealthStatus {
        /// Checks pass.
        Healthy,
        /// Checks pass, but slowly or with an elevated risk.
        Degraded,
        /// `unhealthyThreshold` consecutive checks failed.
        Unhealthy,
        /// No health check has completed yet.
        Unknown,
    }
);

string_enum!(
    /// Effective circuit state, overrides included.
    CircuitStatus {
        /// Calls are admitted.
        Closed,
        /// Only trials are admitted.
        HalfOpen,
        /// Calls fail fast.
        Open,
        /// Forced open by `circuitOverride`.
        ForcedOpen,
        /// Forced closed by `circuitOverride`.
        ForcedClosed,
        /// Outcomes are counted, and calls are never blocked.
        Shadow,
    }
);

string_enum!(
    /// Automatic state of the breaker, beneath any override.
    BreakerState {
        /// Calls are admitted.
        Closed,
        /// Only trials are admitted.
        HalfOpen,
        /// Calls fail fast.
        Open,
    }
);

string_enum!(
    /// Tier of the risk score.
    RiskTier {
        /// Below 0.25.
        Low,
        /// From 0.25.
        Elevated,
        /// From 0.5.
        High,
        /// From 0.8.
        Critical,
    }
);

string_enum!(
    /// Source of the effective breaker policy.
    PolicySource {
        /// `spec.breakerPolicyRef`.
        Ref,
        /// The policy named `default` in the namespace.
        NamespaceDefault,
        /// The preset of the profile.
        Preset,
    }
);

/// Observed status of a `ProviderConnection`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProviderConnectionStatus {
    /// The metadata.generation that this status was computed from; -1 until the operator has observed the object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions: Ready, Healthy and Authenticated always; Reconciling, Stalled, Throttled, CircuitOpen and Suspended
    /// only while True.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
    /// Last handled value of the annotation `busbar.dev/requestedAt` (or `reconcile.fluxcd.io/requestedAt`).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub last_handled_reconcile_at: Option<String>,
    /// Health of the provider: `Healthy`, `Degraded`, `Unhealthy` or `Unknown`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthStatus>,
    /// Effective circuit state: `Closed`, `HalfOpen`, `Open`, `ForcedOpen`, `ForcedClosed` or `Shadow`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub circuit: Option<CircuitStatus>,
    /// Whether a health check has ever passed at this endpoint, with this `spec.auth`. Routes exclude a connection for
    /// which none has, unless `spec.healthCheck.mode` is `Passive`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passed_check: Option<PassedCheck>,
    /// Persistent state of the breaker, restored after a restart of the operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub circuit_state: Option<CircuitState>,
    /// Tier of the risk score: `Low`, `Elevated`, `High` or `Critical`. The score itself is a metric.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub risk: Option<RiskTier>,
    /// The credential in use; never its value or a hash of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<CredentialStatus>,
    /// Start of the rate limit set by the provider, as far as it is reported; only while it applies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throttled_since_time: Option<Time>,
    /// End of the rate limit set by the provider, at most a day ahead; calls are delayed until then. The annotation
    /// `busbar.dev/requestedAt` sends one check before, and ends it if the provider accepts that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throttled_until_time: Option<Time>,
    /// Host of the provider's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub host: Option<String>,
    /// Effective breaker policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyStatus>,
    /// Objects that use this connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumers: Option<ConnectionConsumers>,
}

/// Whether an endpoint has ever passed a health check.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PassedCheck {
    /// Digest of the object's UID, the endpoint and `spec.auth`; never of a credential. Another one starts over.
    #[schemars(length(max = 64))]
    pub target: String,
    /// Whether a check of this target has ever passed.
    pub passed: bool,
}

/// Persistent state of the breaker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CircuitState {
    /// State of the breaker: `Closed`, `HalfOpen` or `Open`.
    pub state: BreakerState,
    /// Time of the last state change; kept across restarts.
    pub last_transition_time: Time,
    /// Epoch of the breaker: increases with every transition and restart, so that late results have no effect.
    #[schemars(range(min = 0))]
    pub epoch: i64,
    /// Consecutive openings without a healthy period in between; input of the growth of the open time.
    #[schemars(range(min = 0))]
    pub opens: i32,
    /// Time from which the next trial is admitted; only while open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_trial_time: Option<Time>,
    /// Reason of the last state change: one of docs/reference/reasons.md.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub reason: Option<String>,
}

/// The credential in use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CredentialStatus {
    /// The metadata.resourceVersion of the Secret that was last read.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub secret_resource_version: Option<String>,
    /// Time at which the provider first accepted this credential; changes only with the Secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified_time: Option<Time>,
    /// Expiry of the certificate or token, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expiration_time: Option<Time>,
}

/// Effective breaker policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyStatus {
    /// Name of the `BreakerPolicy`, or of the preset.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Source of the policy: `Ref`, `NamespaceDefault` or `Preset`.
    pub source: PolicySource,
}

/// Objects that use a connection.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionConsumers {
    /// Number of `SyncJobs` that use the connection.
    #[schemars(range(min = 0))]
    pub sync_jobs: i32,
    /// Number of `BankRoutes` that have the connection as a candidate.
    #[schemars(range(min = 0))]
    pub bank_routes: i32,
}
