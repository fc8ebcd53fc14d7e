//! Call settings: timeouts, retries, rate limits, health check, cache, fallback.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::v1alpha1::common::LocalRef;
use crate::api::v1alpha1::rule;
use crate::api::v1alpha1::text::{DurationText, EntryName, StatusMatch, Word};

/// Timeouts of a call.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rule::durations_ordered("connect", "request"),
    validation = rule::durations_ordered("request", "total"),
)]
pub struct Timeout {
    /// Timeout to establish a connection, TLS included; from 10ms to 1m. Unset: that of the profile, else 5s.
    /// Example: `connect: 5s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("10ms", "1m"))]
    pub connect: Option<DurationText>,
    /// Timeout of one attempt, from the first byte sent to the last byte read; from 10ms to 10m. Unset: that of the
    /// profile, else 30s.
    /// Example: `request: 30s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("10ms", "10m"))]
    pub request: Option<DurationText>,
    /// Timeout of the whole call, with retries and delays; from 10ms to 1h. Unset: that of the profile, else 2m.
    /// Example: `total: 2m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("10ms", "1h"))]
    pub total: Option<DurationText>,
}

/// Retries of failed attempts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// Maximum number of retries; from 0 (off) to 10. Unset: 3. Example: `retries: 3`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10))]
    pub retries: Option<i32>,
    /// Exponential backoff between attempts. Unset: 1s up to 30s. Example: `backOff: {base: 1s, max: 30s}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub back_off: Option<BackOff>,
    /// Delay added after each backoff; from 0s (off) to 10s. Unset: 50ms. Example: `minPacing: 50ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("0s", "10s"))]
    pub min_pacing: Option<DurationText>,
    /// Retry budget: retries per 100 calls of this connection; from 0 (no retries) to 100. Unset: 20.
    /// Example: `budgetPercent: 20`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub budget_percent: Option<i32>,
}

/// Exponential backoff between attempts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rule::durations_ordered("base", "max"))]
pub struct BackOff {
    /// Delay before the first retry; from 0s to 10m. Unset: 1s. Example: `base: 1s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("0s", "10m"))]
    pub base: Option<DurationText>,
    /// Upper bound of the delay; from 0s to 1h. Unset: 30s. Example: `max: 30s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("0s", "1h"))]
    pub max: Option<DurationText>,
}

/// Client-side rate limits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RateLimit {
    /// Limits that apply together; at most 16. A limit with the name of a profile limit replaces it, others are added.
    /// Unset: those of the profile. Example: `limits: [{name: minute, requests: 60, unit: Minute}]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub limits: Option<Vec<Limit>>,
    /// Share of each limit that is reserved. Unset: none. Example: `reserve: {moneyPercent: 20}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reserve: Option<Reserve>,
}

string_enum!(
    /// Scope of a limit.
    LimitScope {
        /// All requests of the connection.
        Connection,
        /// The requests of one partition, such as one account.
        Partition,
    }
);

string_enum!(
    /// Time unit of a limit.
    LimitUnit = Minute {
        /// A sliding second.
        Second,
        /// A sliding minute.
        Minute,
        /// A sliding hour.
        Hour,
        /// A calendar day in the time zone of the profile, else UTC.
        Day,
    }
);

/// One rate limit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Limit {
    /// Name of the limit, unique in the list; required, at most 63 characters. Example: `name: minute`.
    pub name: EntryName,
    /// Scope of the limit: `Connection` counts all requests, `Partition` those of one partition. Unset: `Connection`.
    /// Example: `scope: Partition`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<LimitScope>,
    /// Requests allowed per `unit`; required, from 1 to 1000000. Example: `requests: 60`.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub requests: i32,
    /// Time unit: `Second`, `Minute`, `Hour` or `Day` (a calendar day in the time zone of the profile, else UTC);
    /// required.
    /// Example: `unit: Minute`.
    pub unit: LimitUnit,
    /// Largest burst; from 1 to 1000000. Unset: `requests`. Example: `burst: 10`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub burst: Option<i32>,
    /// Operations and streams to which the limit applies; at most 32. Unset: all.
    /// Example: `operations: [transactions]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub operations: Option<Vec<Word>>,
}

/// Share of each limit that is reserved.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reserve {
    /// Percentage of each limit that is reserved for money calls; from 0 (none) to 90. Unset: 0.
    /// Example: `moneyPercent: 20`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 90))]
    pub money_percent: Option<i32>,
}

string_enum!(
    /// Source of health.
    HealthCheckMode {
        /// Periodic probes and calls.
        Active,
        /// Calls only, without probes.
        Passive,
    }
);

/// Health check. Probes count against the quota, never against the money reserve.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rule::durations_ordered("timeout", "interval"))]
pub struct HealthCheck {
    /// `Active` sends probes, `Passive` derives health from calls. Unset: that of the profile (`Passive` for metered
    /// data profiles, else `Active`).
    /// Example: `mode: Passive`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<HealthCheckMode>,
    /// Interval between probes; from 5s to 24h. Unset: that of the profile; 30s for banks. Example: `interval: 30s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("5s", "24h"))]
    pub interval: Option<DurationText>,
    /// Timeout of one probe; from 10ms to 10m, at most `interval`. Unset: that of the profile; 5s for banks.
    /// Example: `timeout: 5s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("10ms", "10m"))]
    pub timeout: Option<DurationText>,
    /// Path of the probe (GET), appended to the base URL; at most 1024 characters. Unset: the check of the profile.
    /// Example: `path: /health`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = "^/[^#\\s]*$"))]
    pub path: Option<String>,
    /// Status codes or classes that count as success; at most 16. Unset: those of the profile, else 2xx.
    /// Example: `expectedStatuses: [2xx, "404"]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub expected_statuses: Option<Vec<StatusMatch>>,
    /// Media type of the expected response, without parameters; `application/json` includes types that end in `+json`,
    /// `*/*` is any. Unset: that of the profile, else any.
    /// Example: `expectedContentType: application/json`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 127), regex(pattern = r"^[A-Za-z0-9!#$&^_.+*-]+/[A-Za-z0-9!#$&^_.+*-]+$"))]
    pub expected_content_type: Option<String>,
    /// JSON pointer to a value that the expected response has, other than null; at most 256 characters. Empty: the body
    /// must be JSON. Unset: that of the profile, else the body is not read, and a page of HTML with an expected status
    /// passes. A profile's expectations do not apply if `expectedStatuses` is set without any 2xx.
    /// Example: `expectedJSONPointer: /data/0/id`.
    #[serde(rename = "expectedJSONPointer", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256), regex(pattern = "^(/.*)?$"))]
    pub expected_json_pointer: Option<String>,
    /// Consecutive passed checks until Healthy; from 1 to 100. Unset: 2. Example: `healthyThreshold: 2`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub healthy_threshold: Option<i32>,
    /// Consecutive failed checks until Unhealthy; from 1 to 100. Unset: 3. Example: `unhealthyThreshold: 3`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub unhealthy_threshold: Option<i32>,
    /// Latency above which a check is slow; `unhealthyThreshold` consecutive slow checks are Degraded; from 1ms to 10m.
    /// Unset: latency is not evaluated.
    /// Example: `latencyThreshold: 2s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("1ms", "10m"))]
    pub latency_threshold: Option<DurationText>,
}

/// Response cache.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rule::durations_ordered("ttl", "maxStale"))]
pub struct Cache {
    /// Time for which a cached response is fresh; from 0s (off) to 24h. Unset: 15s for data profiles, else 0s.
    /// Example: `ttl: 15s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("0s", "24h"))]
    pub ttl: Option<DurationText>,
    /// Largest age of a stale response that is served while the circuit is open or after the call failed; from 0s
    /// (never) to 168h. Unset: 1h for data profiles, else 0s.
    /// Example: `maxStale: 1h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("0s", "168h"))]
    pub max_stale: Option<DurationText>,
}

/// A fallback connection for some operations.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Fallback {
    /// Name of the fallback, unique in the list; required, at most 63 characters. Example: `name: polygon`.
    pub name: EntryName,
    /// Operations of the fallback; at most 32. Unset: all that both profiles have.
    /// Example: `operations: [quote, earnings]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub operations: Option<Vec<Word>>,
    /// Fallback connection; required. Example: `connectionRef: {name: polygon}`.
    pub connection_ref: LocalRef,
}
