//! What the operator observed of a connection.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::v1alpha1::common::{Condition, Time, conditions_schema};

closed_enum!(
    /// What the checks say.
    HealthStatus {
        /// Checks pass.
        Healthy,
        /// Checks pass, but slowly, or the risk is raised.
        Degraded,
        /// `unhealthyThreshold` checks failed in a row.
        Unhealthy,
        /// No check has spoken yet.
        Unknown,
    }
);

closed_enum!(
    /// The circuit in effect, overlays included.
    CircuitStatus {
        /// Calls pass.
        Closed,
        /// Trials pass.
        HalfOpen,
        /// Calls fail at once.
        Open,
        /// Open by `circuitOverride`.
        ForcedOpen,
        /// Closed by `circuitOverride`.
        ForcedClosed,
        /// Counting without blocking.
        Shadow,
    }
);

closed_enum!(
    /// The breaker's own state, below any overlay.
    BreakerState {
        /// Calls pass.
        Closed,
        /// Trials pass.
        HalfOpen,
        /// Calls fail at once.
        Open,
    }
);

closed_enum!(
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

closed_enum!(
    /// Where the breaker policy in effect comes from.
    PolicySource {
        /// `spec.breakerPolicyRef`.
        Ref,
        /// The policy named `default` in the namespace.
        NamespaceDefault,
        /// The profile's preset.
        Preset,
    }
);

/// What the operator observed of a connection.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProviderConnectionStatus {
    /// The metadata.generation this status speaks of; -1 until the operator has seen the object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Healthy and Authenticated always; Reconciling, Stalled, Throttled, CircuitOpen and Suspended only while True.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
    /// The last value of the annotation `busbar.dev/requestedAt` (or Flux's) that was acted on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub last_handled_reconcile_at: Option<String>,
    /// What the checks say: `Healthy`, `Degraded`, `Unhealthy` or `Unknown`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthStatus>,
    /// The circuit in effect: `Closed`, `HalfOpen`, `Open`, `ForcedOpen`, `ForcedClosed` or `Shadow`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub circuit: Option<CircuitStatus>,
    /// The breaker's own state, kept so that it survives a restart of the operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub circuit_state: Option<CircuitState>,
    /// Tier of the risk score: `Low`, `Elevated`, `High` or `Critical`. The number itself is a metric.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub risk: Option<RiskTier>,
    /// Which credential is in use; never a value, never a hash of one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<CredentialStatus>,
    /// Until when the provider asked for silence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throttled_until_time: Option<Time>,
    /// Host that is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub host: Option<String>,
    /// The breaker policy in effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyStatus>,
    /// Who uses this connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumers: Option<ConnectionConsumers>,
}

/// The breaker's own state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CircuitState {
    /// `Closed`, `HalfOpen` or `Open`.
    pub state: BreakerState,
    /// When the state last changed; kept over a restart.
    pub last_transition_time: Time,
    /// Generation of the breaker: rises with every transition and with every restart, so that late results change nothing.
    #[schemars(range(min = 0))]
    pub epoch: i64,
    /// Openings in a row without a healthy stretch between; feeds the growth of the open time.
    #[schemars(range(min = 0))]
    pub opens: i32,
    /// From when the next trial may pass; only while open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_trial_time: Option<Time>,
    /// Why the circuit last changed: one word of docs/reference/reasons.md.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub reason: Option<String>,
}

/// Which credential is in use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CredentialStatus {
    /// metadata.resourceVersion of the Secret that was read last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub secret_resource_version: Option<String>,
    /// When the provider first accepted this credential; changes only with the Secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified_time: Option<Time>,
    /// When the certificate or the token ends, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expiration_time: Option<Time>,
}

/// The breaker policy in effect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyStatus {
    /// Name of the `BreakerPolicy`, or of the preset.
    #[schemars(length(max = 253))]
    pub name: String,
    /// `Ref`, `NamespaceDefault` or `Preset`.
    pub source: PolicySource,
}

/// Who uses this connection.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionConsumers {
    /// `SyncJobs` that fetch through it.
    #[schemars(range(min = 0))]
    pub sync_jobs: i32,
    /// `BankRoutes` that may choose it.
    #[schemars(range(min = 0))]
    pub bank_routes: i32,
}
