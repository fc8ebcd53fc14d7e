//! `BreakerPolicy`: when to keep a failing provider away, and how to let it back.
//!
//! A policy names a preset and overrides parts of it. It forces nothing: forcing is per connection (`circuitOverride`).

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::v1alpha1::common::{Condition, conditions_schema};
use crate::api::v1alpha1::rule;
use crate::api::v1alpha1::text::{DecimalText, DurationText, StatusMatch};

closed_enum!(
    /// Where the defaults of a policy come from.
    Preset = Bank {
        /// 5 failures, open 30s, 1 trial.
        Api,
        /// 3 failures, open 60s, 1 trial.
        Data,
        /// 5 failures, open 300s, 1 trial; opens when health is critical or down.
        Bank,
    }
);

closed_enum!(
    /// Whether the breaker blocks.
    BreakerMode = Enforce {
        /// An open circuit refuses calls.
        Enforce,
        /// Outcomes are counted, nothing is blocked.
        Shadow,
    }
);

closed_enum!(
    /// What bad health does to the circuit.
    UnhealthyAction {
        /// It opens.
        Open,
        /// Nothing.
        Ignore,
    }
);

closed_enum!(
    /// A failure without an HTTP status.
    FailureError {
        /// No connection could be made.
        Connect,
        /// The TLS handshake failed.
        Tls,
        /// The time-out of the try or of the call passed.
        Timeout,
        /// The connection broke while the answer was awaited or read.
        Reset,
        /// The answer could not be read as what was promised.
        Body,
    }
);

/// What a `BreakerPolicy` should be.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "busbar.dev",
    version = "v1alpha1",
    kind = "BreakerPolicy",
    plural = "breakerpolicies",
    shortname = "brkp",
    category = "busbar",
    namespaced,
    status = "BreakerPolicyStatus",
    derive = "PartialEq",
    doc = "When to keep a failing provider away, and how to let it back.",
    validation = rule::object_name(),
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode", description = "Enforce or Shadow."),
    printcolumn(name = "Preset", type_ = "string", json_path = ".spec.preset", description = "Where the defaults come from."),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status", description = "The policy is valid and in use where it is referenced."),
    printcolumn(name = "Connections", type_ = "integer", json_path = ".status.connections.total", description = "Connections that the policy guards."),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[cfg_attr(feature = "test-support", kube(cel))]
#[x_kube(validation = rule::rule(
    "!has(self.window) || !has(self.window.calls) || !has(self.trip) || !has(self.trip.minimumCalls) || \
     self.trip.minimumCalls <= self.window.calls",
    "must set trip.minimumCalls no greater than window.calls"
))]
pub struct BreakerPolicySpec {
    /// `Api` (5 failures, open 30s), `Data` (3, 60s) or `Bank` (5, 300s, opens when unhealthy); fields below override it.
    /// Default: `Bank`. Example: `preset: Api`.
    #[serde(default)]
    pub preset: Preset,
    /// `Enforce`, or `Shadow` to count without ever blocking. Default: `Enforce`. Example: `mode: Shadow`.
    #[serde(default)]
    pub mode: BreakerMode,
    /// What opens the circuit. Unset: the preset's. Example: `trip: {consecutiveFailures: 3}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trip: Option<Trip>,
    /// What percentages are counted over; exactly one member. Unset: `duration: 60s`. Example: `window: {calls: 100}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<OutcomeWindow>,
    /// Which outcomes are failures; a set list replaces the default. 401 and 403 feed Authenticated, 429 feeds the quota;
    /// neither trips. Unset: 5xx, and no complete answer for whatever reason. Example: `classify: {failureStatuses: [5xx]}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classify: Option<Classify>,
    /// How long the circuit stays open. Unset: the preset's, without growth. Example: `open: {base: 30s}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open: Option<OpenTime>,
    /// How the circuit is tried again. Unset: one trial, one success. Example: `halfOpen: {requiredSuccesses: 2}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub half_open: Option<HalfOpen>,
}

/// What opens the circuit. One outcome per call, after its retries; each health check is one outcome.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Trip {
    /// Failures in a row; from 0 (off) to 1000. Unset: the preset's (Api 5, Data 3, Bank 5). Example: `consecutiveFailures: 5`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub consecutive_failures: Option<i32>,
    /// Percent of failed calls in the window; from 0 (off) to 100. Unset: 0. Example: `failurePercent: 50`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub failure_percent: Option<i32>,
    /// Percent of slow calls in the window; from 0 (off) to 100. Unset: 0. Example: `slowCallPercent: 80`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub slow_call_percent: Option<i32>,
    /// From when a call counts as slow; from 1ms to 10m. Unset: 5s. Example: `slowCallDuration: 5s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("1ms", "10m"))]
    pub slow_call_duration: Option<DurationText>,
    /// Calls in the window before a percentage is judged; from 1 to 1000, at most `window.calls`. Unset: 20.
    /// Example: `minimumCalls: 20`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub minimum_calls: Option<i32>,
    /// `Open` opens the circuit when health is critical (risk above 0.8, or success below 75 % over 20 samples) or down;
    /// `Ignore` does not. Unset: the preset's (Bank `Open`, else `Ignore`). Example: `unhealthy: Open`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unhealthy: Option<UnhealthyAction>,
}

/// What percentages are counted over: exactly one member.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
#[x_kube(validation = rule::exactly_one(&["duration", "calls"]))]
pub struct OutcomeWindow {
    /// The calls of this long; from 1s to 1h. Unset: `calls` is set. Example: `duration: 60s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("1s", "1h"))]
    pub duration: Option<DurationText>,
    /// The last so many calls; from 1 to 1000. Unset: `duration` is set. Example: `calls: 100`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub calls: Option<i32>,
}

/// Which outcomes are failures.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Classify {
    /// Status codes or classes that are failures; at most 32. Unset: 5xx. Example: `failureStatuses: [5xx, "408"]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub failure_statuses: Option<Vec<StatusMatch>>,
    /// Failures without a status: `Connect`, `Tls`, `Timeout`, `Reset`, `Body`; at most 8. Unset: all but Body.
    /// Example: `failureErrors: [Connect, Timeout, Reset]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub failure_errors: Option<Vec<FailureError>>,
    /// Status codes or classes that count neither as failure nor as success; at most 32. Unset: none.
    /// Example: `ignoreStatuses: ["404"]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub ignore_statuses: Option<Vec<StatusMatch>>,
}

/// How long the circuit stays open.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rule::durations_ordered("base", "max"))]
pub struct OpenTime {
    /// After the first opening; from 1s to 24h. Unset: the preset's (Api 30s, Data 60s, Bank 300s). Example: `base: 30s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("1s", "24h"))]
    pub base: Option<DurationText>,
    /// The longest it grows to; from 1s to 168h. Unset: 1h. Example: `max: 1h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("1s", "168h"))]
    pub max: Option<DurationText>,
    /// Factor per re-opening, a decimal from 1 (no growth) to 10; it decays when healthy. Unset: 1. Example: `factor: "2"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::decimal("1", "10"))]
    pub factor: Option<DecimalText>,
    /// Percent that is added at most, deterministically; from 0 (none) to 100. Unset: 0. Example: `jitterPercent: 10`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub jitter_percent: Option<i32>,
}

/// How the circuit is tried again. Trials are health checks and `Read` calls; `Money` waits for Closed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct HalfOpen {
    /// Trials in flight at once; from 1 to 16. Unset: 1. Example: `trials: 1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 16))]
    pub trials: Option<i32>,
    /// Successes that close the circuit; from 1 to 100. Unset: 1. Example: `requiredSuccesses: 2`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub required_successes: Option<i32>,
    /// After this a trial without a result is given up; from 1s to 1h. Unset: 60s. Example: `lease: 60s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("1s", "1h"))]
    pub lease: Option<DurationText>,
    /// The longest stay in HalfOpen before the circuit opens again; from 1s to 24h. Unset: 10m. Example: `maxDwell: 10m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("1s", "24h"))]
    pub max_dwell: Option<DurationText>,
}

/// What the operator observed of a policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BreakerPolicyStatus {
    /// The metadata.generation this status speaks of; -1 until the operator has seen the object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready always; Stalled only while True.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
    /// The last value of the annotation `busbar.dev/requestedAt` (or Flux's) that was acted on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub last_handled_reconcile_at: Option<String>,
    /// The connections that the policy guards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<PolicyConnections>,
}

/// The connections that a policy guards.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyConnections {
    /// How many there are.
    #[schemars(range(min = 0))]
    pub total: i32,
}
