//! Manners of a call: time-outs, retries, quota, health checks, cache, stand-ins.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::v1alpha1::common::LocalRef;
use crate::api::v1alpha1::rule;
use crate::api::v1alpha1::text::{DurationText, EntryName, StatusMatch, Word};

/// How long a call may take.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rule::durations_ordered("connect", "request"),
    validation = rule::durations_ordered("request", "total"),
)]
pub struct Timeout {
    /// To open a connection, TLS included; from 10ms to 1m. Unset: the profile's, else 5s. Example: `connect: 5s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("10ms", "1m"))]
    pub connect: Option<DurationText>,
    /// For one try, from the first byte sent to the last byte read; from 10ms to 10m. Unset: the profile's, else 30s.
    /// Example: `request: 30s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("10ms", "10m"))]
    pub request: Option<DurationText>,
    /// For the whole call, with its retries and waits; from 10ms to 1h. Unset: the profile's, else 2m. Example: `total: 2m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("10ms", "1h"))]
    pub total: Option<DurationText>,
}

/// How a failed try is repeated.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// Tries after the first one; from 0 (off) to 10. Unset: 3. Example: `retries: 3`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10))]
    pub retries: Option<i32>,
    /// Waits between tries, doubled each time. Unset: 1s up to 30s. Example: `backOff: {base: 1s, max: 30s}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub back_off: Option<BackOff>,
    /// Sleep added after each back-off; from 0s (off) to 10s. Unset: 50ms. Example: `minPacing: 50ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("0s", "10s"))]
    pub min_pacing: Option<DurationText>,
    /// Retries allowed per 100 calls of this connection; from 0 (no retries) to 100. Unset: 20. Example: `budgetPercent: 20`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub budget_percent: Option<i32>,
}

/// Waits between tries.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rule::durations_ordered("base", "max"))]
pub struct BackOff {
    /// Before the first retry; from 0s to 10m. Unset: 1s. Example: `base: 1s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("0s", "10m"))]
    pub base: Option<DurationText>,
    /// The longest wait; from 0s to 1h. Unset: 30s. Example: `max: 30s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("0s", "1h"))]
    pub max: Option<DurationText>,
}

/// How many requests the provider allows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RateLimit {
    /// Limits that apply together; at most 16. One with the name of a profile's limit replaces it, others are added.
    /// Unset: the profile's. Example: `limits: [{name: minute, requests: 60, unit: Minute}]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub limits: Option<Vec<Limit>>,
    /// What is kept back in each limit. Unset: nothing. Example: `reserve: {moneyPercent: 20}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reserve: Option<Reserve>,
}

closed_enum!(
    /// What a limit counts over.
    LimitScope {
        /// All requests of the connection.
        Connection,
        /// The requests of one partition, such as one account.
        Partition,
    }
);

closed_enum!(
    /// The stretch of time a limit speaks of.
    LimitUnit = Minute {
        /// A sliding second.
        Second,
        /// A sliding minute.
        Minute,
        /// A sliding hour.
        Hour,
        /// A calendar day in the profile's time zone, else UTC.
        Day,
    }
);

/// One limit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Limit {
    /// Name of the limit, unique in the list; required. At most 63 characters. Example: `name: minute`.
    pub name: EntryName,
    /// `Connection` counts all requests, `Partition` those of one partition. Unset: `Connection`. Example: `scope: Partition`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<LimitScope>,
    /// Requests allowed per `unit`; required, from 1 to 1000000. Example: `requests: 60`.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub requests: i32,
    /// `Second`, `Minute`, `Hour` or `Day` (a calendar day in the profile's zone, else UTC); required. Example: `unit: Minute`.
    pub unit: LimitUnit,
    /// Requests that may come at once; from 1 to 1000000. Unset: `requests`. Example: `burst: 10`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub burst: Option<i32>,
    /// Operations and streams the limit applies to; at most 32. Unset: all. Example: `operations: [transactions]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub operations: Option<Vec<Word>>,
}

/// What is kept back in each limit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reserve {
    /// Percent of every limit that only money calls may use; from 0 (none) to 90. Unset: 0. Example: `moneyPercent: 20`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 90))]
    pub money_percent: Option<i32>,
}

closed_enum!(
    /// Where health comes from.
    HealthCheckMode {
        /// Probes on an interval, and real calls.
        Active,
        /// Real calls only; nothing is probed.
        Passive,
    }
);

/// How health is found out. Probes count against the quota, never against the money reserve.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rule::durations_ordered("timeout", "interval"))]
pub struct HealthCheck {
    /// `Active` probes, `Passive` takes health from real calls. Unset: the profile's (`Passive` for metered data profiles,
    /// else `Active`). Example: `mode: Passive`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<HealthCheckMode>,
    /// Time between probes; from 5s to 24h. Unset: the profile's; 30s for banks. Example: `interval: 30s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("5s", "24h"))]
    pub interval: Option<DurationText>,
    /// How long one probe may take; from 10ms to 10m, at most `interval`. Unset: the profile's; 5s for banks.
    /// Example: `timeout: 5s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("10ms", "10m"))]
    pub timeout: Option<DurationText>,
    /// Path that is asked with GET, added to the base URL; at most 1024 characters. Unset: the profile's check.
    /// Example: `path: /health`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = "^/[^#\\s]*$"))]
    pub path: Option<String>,
    /// Status codes or classes that count as success; at most 16. Unset: the profile's, else 2xx.
    /// Example: `expectedStatuses: [2xx, "404"]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub expected_statuses: Option<Vec<StatusMatch>>,
    /// Good checks in a row until Healthy; from 1 to 100. Unset: 2. Example: `healthyThreshold: 2`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub healthy_threshold: Option<i32>,
    /// Bad checks in a row until Unhealthy; from 1 to 100. Unset: 3. Example: `unhealthyThreshold: 3`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub unhealthy_threshold: Option<i32>,
    /// Answers slower than this for `unhealthyThreshold` checks are Degraded; from 1ms to 10m. Unset: latency is not judged.
    /// Example: `latencyThreshold: 2s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("1ms", "10m"))]
    pub latency_threshold: Option<DurationText>,
}

/// Answers kept for later.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rule::durations_ordered("ttl", "maxStale"))]
pub struct Cache {
    /// How long an answer counts as fresh; from 0s (off) to 24h. Unset: 15s for data profiles, else 0s. Example: `ttl: 15s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("0s", "24h"))]
    pub ttl: Option<DurationText>,
    /// How old an answer may be that is served when the circuit is open or the call failed; from 0s (never) to 168h.
    /// Unset: 1h for data profiles, else 0s. Example: `maxStale: 1h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("0s", "168h"))]
    pub max_stale: Option<DurationText>,
}

/// A stand-in for some operations.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Fallback {
    /// Name of the stand-in, unique in the list; required. At most 63 characters. Example: `name: polygon`.
    pub name: EntryName,
    /// Operations it stands in for; at most 32. Unset: all that both profiles have. Example: `operations: [quote, earnings]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub operations: Option<Vec<Word>>,
    /// The connection that stands in; required. Example: `connectionRef: {name: polygon}`.
    pub connection_ref: LocalRef,
}
