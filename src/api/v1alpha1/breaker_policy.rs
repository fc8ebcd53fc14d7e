//! `BreakerPolicy`: circuit-breaker settings of connections.
//!
//! A policy selects a preset and overrides parts of it. Forcing a circuit open or closed is per connection
//! (`circuitOverride`).

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::v1alpha1::common::{Condition, conditions_schema};
use crate::api::v1alpha1::rule;
use crate::api::v1alpha1::text::{DecimalText, DurationText, StatusMatch};

string_enum!(
    /// Preset of a policy's defaults.
    Preset = Bank {
        /// 5 failures, open 30s, 1 trial.
        Api,
        /// 3 failures, open 60s, 1 trial.
        Data,
        /// 5 failures, open 300s, 1 trial; opens when health is critical or down.
        Bank,
    }
);

string_enum!(
    /// Whether the breaker blocks calls.
    BreakerMode = Enforce {
        /// An open circuit rejects calls.
        Enforce,
        /// Outcomes are counted, but calls are never blocked.
        Shadow,
    }
);

string_enum!(
    /// Reaction of the circuit to critical health.
    UnhealthyAction {
        /// The circuit opens.
        Open,
        /// No reaction.
        Ignore,
    }
);

string_enum!(
    /// A failure without an HTTP status.
    FailureError {
        /// The connection could not be established.
        Connect,
        /// The TLS handshake failed.
        Tls,
        /// The attempt or the call timed out.
        Timeout,
        /// The connection was reset before the response was complete.
        Reset,
        /// The response body could not be parsed.
        Body,
    }
);

/// Spec of a `BreakerPolicy`.
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
    doc = "Circuit-breaker settings for ProviderConnections: when the circuit opens, for how long, and how it closes again.",
    validation = rule::object_name(),
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode", description = "Enforce or Shadow."),
    printcolumn(name = "Preset", type_ = "string", json_path = ".spec.preset", description = "Preset of the defaults."),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status", description = "The policy is valid."),
    printcolumn(name = "Connections", type_ = "integer", json_path = ".status.connections.total", description = "Connections that use the policy."),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[cfg_attr(feature = "test-support", kube(cel))]
#[x_kube(validation = rule::rule(
    "!has(self.window) || !has(self.window.calls) || !has(self.trip) || !has(self.trip.minimumCalls) || \
     self.trip.minimumCalls <= self.window.calls",
    "must set trip.minimumCalls no greater than window.calls"
))]
pub struct BreakerPolicySpec {
    /// Preset of the defaults: `Api` (5 failures, open 30s), `Data` (3, 60s) or `Bank` (5, 300s, opens when unhealthy);
    /// the other fields override it. Default: `Bank`.
    /// Example: `preset: Api`.
    #[serde(default)]
    pub preset: Preset,
    /// `Enforce` blocks calls while the circuit is open; `Shadow` counts outcomes and never blocks. Default: `Enforce`.
    /// Example: `mode: Shadow`.
    #[serde(default)]
    pub mode: BreakerMode,
    /// Conditions that open the circuit. Unset: those of the preset. Example: `trip: {consecutiveFailures: 3}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trip: Option<Trip>,
    /// Window over which percentages are computed; exactly one member. Unset: `duration: 60s`.
    /// Example: `window: {calls: 100}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<OutcomeWindow>,
    /// Classification of outcomes; a list that is set replaces the default. 401 and 403 affect the condition
    /// Authenticated, 429 affects the quota; neither trips the circuit. Any other health check without the expected response
    /// is a failure, whatever the lists say. Unset: 5xx and every incomplete response are failures.
    /// Example: `classify: {failureStatuses: [5xx]}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classify: Option<Classify>,
    /// Open time of the circuit. Unset: that of the preset, without growth. Example: `open: {base: 30s}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open: Option<OpenTime>,
    /// Rules of the half-open state. Unset: one trial, one success. Example: `halfOpen: {requiredSuccesses: 2}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub half_open: Option<HalfOpen>,
}

/// Conditions that open the circuit. One outcome per call, after its retries; each health check is one outcome.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Trip {
    /// Consecutive failures; from 0 (off) to 1000. Unset: that of the preset (Api 5, Data 3, Bank 5).
    /// Example: `consecutiveFailures: 5`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub consecutive_failures: Option<i32>,
    /// Percentage of failed calls in the window; from 0 (off) to 100. Unset: 0. Example: `failurePercent: 50`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub failure_percent: Option<i32>,
    /// Percentage of slow calls in the window; from 0 (off) to 100. Unset: 0. Example: `slowCallPercent: 80`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub slow_call_percent: Option<i32>,
    /// Duration from which a call counts as slow; from 1ms to 10m. Unset: 5s. Example: `slowCallDuration: 5s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("1ms", "10m"))]
    pub slow_call_duration: Option<DurationText>,
    /// Calls in the window before percentages are evaluated; from 1 to 1000, at most `window.calls`. Unset: 20.
    /// Example: `minimumCalls: 20`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub minimum_calls: Option<i32>,
    /// `Open` opens the circuit when health becomes critical (risk above 0.8, or success rate below 75 % over 20
    /// samples) or Unhealthy; `Ignore` does not. Unset: that of the preset (Bank `Open`, else `Ignore`).
    /// Example: `unhealthy: Open`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unhealthy: Option<UnhealthyAction>,
}

/// Window over which percentages are computed: exactly one member.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
#[x_kube(validation = rule::exactly_one(&["duration", "calls"]))]
pub struct OutcomeWindow {
    /// Window by time; from 1s to 1h. Unset: `calls` is set. Example: `duration: 60s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("1s", "1h"))]
    pub duration: Option<DurationText>,
    /// Window by number of calls; from 1 to 1000. Unset: `duration` is set. Example: `calls: 100`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub calls: Option<i32>,
}

/// Classification of outcomes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Classify {
    /// Status codes or classes that count as failures; at most 32. Unset: 5xx.
    /// Example: `failureStatuses: [5xx, "408"]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub failure_statuses: Option<Vec<StatusMatch>>,
    /// Errors without a status code that count as failures: `Connect`, `Tls`, `Timeout`, `Reset`, `Body`; at most 8.
    /// Unset: all but `Body`.
    /// Example: `failureErrors: [Connect, Timeout, Reset]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub failure_errors: Option<Vec<FailureError>>,
    /// Status codes or classes that are ignored, neither failure nor success; at most 32. Unset: none.
    /// Example: `ignoreStatuses: ["404"]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub ignore_statuses: Option<Vec<StatusMatch>>,
}

/// Open time of the circuit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rule::durations_ordered("base", "max"))]
pub struct OpenTime {
    /// Open time of the first opening; from 1s to 24h. Unset: that of the preset (Api 30s, Data 60s, Bank 300s).
    /// Example: `base: 30s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("1s", "24h"))]
    pub base: Option<DurationText>,
    /// Upper bound of the open time; from 1s to 168h. Unset: 1h. Example: `max: 1h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("1s", "168h"))]
    pub max: Option<DurationText>,
    /// Growth factor per re-opening, a decimal from 1 (no growth) to 10; the growth decays while healthy. Unset: 1.
    /// Example: `factor: "2"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::decimal("1", "10"))]
    pub factor: Option<DecimalText>,
    /// Jitter of the open time in percent, in both directions and deterministic; from 0 (none) to 100. Unset: 0.
    /// Example: `jitterPercent: 10`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub jitter_percent: Option<i32>,
}

/// Rules of the half-open state. Trials are health checks and `Read` calls; `Money` calls wait until the circuit is
/// Closed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct HalfOpen {
    /// Concurrent trials; from 1 to 16. Unset: 1. Example: `trials: 1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 16))]
    pub trials: Option<i32>,
    /// Successful trials that close the circuit; from 1 to 100. Unset: 1. Example: `requiredSuccesses: 2`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub required_successes: Option<i32>,
    /// Time after which a trial without a result is lost; from 1s to 1h. A connection whose spec.timeout.request is
    /// longer uses that instead. Unset: 60s. Example: `lease: 60s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("1s", "1h"))]
    pub lease: Option<DurationText>,
    /// Longest time in HalfOpen before the circuit opens again; from 1s to 24h. Unset: 10m. Example: `maxDwell: 10m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("1s", "24h"))]
    pub max_dwell: Option<DurationText>,
}

/// Observed status of a `BreakerPolicy`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BreakerPolicyStatus {
    /// The metadata.generation that this status was computed from; -1 until the operator has observed the object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions: Ready always; Stalled only while True.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
    /// Last handled value of the annotation `busbar.dev/requestedAt` (or `reconcile.fluxcd.io/requestedAt`).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub last_handled_reconcile_at: Option<String>,
    /// Connections that use the policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<PolicyConnections>,
}

/// Connections that use a policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyConnections {
    /// Number of connections.
    #[schemars(range(min = 0))]
    pub total: i32,
}
