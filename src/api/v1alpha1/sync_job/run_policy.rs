//! Run settings, retention and service-level thresholds of a `SyncJob`.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::v1alpha1::maps::ResourceList;
use crate::api::v1alpha1::rule;
use crate::api::v1alpha1::text::{DurationText, EntryName, Instant, ReasonText};

string_enum!(
    /// Handling of a due run while another is active.
    ConcurrencyPolicy = Forbid {
        /// The due run is skipped.
        Forbid,
        /// The active run stops at a page boundary.
        Replace,
    }
);

string_enum!(
    /// Scope of a commit.
    CommitScope {
        /// Each page.
        Page,
        /// The whole window of a run.
        Window,
    }
);

string_enum!(
    /// Masking of a field.
    MaskRule {
        /// The field is removed.
        Drop,
        /// Only the last four characters are kept.
        Last4,
        /// The value is replaced by a keyed token.
        Token,
    }
);

string_enum!(
    /// Granularity of events for ingested records.
    EventGranularity = Page {
        /// None.
        None,
        /// One per page.
        Page,
        /// One per record.
        Record,
    }
);

string_enum!(
    /// Execution of runs.
    Execution = InProcess {
        /// In the operator process.
        InProcess,
        /// In a Kubernetes Job per run.
        Job,
    }
);

string_enum!(
    /// Handling of rows and cursor when the object is deleted.
    DeletionPolicy = Retain {
        /// Rows and cursor are kept.
        Retain,
        /// Rows and cursor are deleted before the object.
        Delete,
    }
);

string_enum!(
    /// Retention mode of raw payloads.
    RetentionMode {
        /// Raw payloads are not stored.
        Off,
        /// Stored with every value masked.
        Masked,
        /// Stored encrypted with the operator's key.
        Encrypted,
    }
);

/// Validation rule for records.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Validation {
    /// Name of the rule, unique in the list; required, at most 63 characters. Example: `name: positive`.
    pub name: EntryName,
    /// CEL expression over `record`; money has a decimal type with its own functions; required, at most 1024
    /// characters.
    /// Example: `rule: "record.amount > decimal('0')"`.
    #[schemars(length(min = 1, max = 1024))]
    pub rule: String,
    /// Message of the dead letter; required, at most 256 characters. Example: `message: must be positive`.
    #[schemars(length(min = 1, max = 256))]
    pub message: String,
}

/// Retention of raw payloads.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retention {
    /// Retention time; from 1h to 8784h. Unset: 720h. Example: `raw: 720h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("1h", "8784h"))]
    pub raw: Option<DurationText>,
    /// Retention mode: `Off`, `Masked`, or `Encrypted` with the operator's key (`--key-secret`; without a key no data
    /// is fetched). Quote `"Off"`: unquoted it is a boolean. Unset: `Encrypted` if the operator has a key, else `Off`.
    /// Example: `mode: "Off"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<RetentionMode>,
}

/// Service-level thresholds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sla {
    /// Largest duration of a fetch of one partition without a warning; from 1ms to 24h. Unset: 2s.
    /// Example: `fetchDuration: 2s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("1ms", "24h"))]
    pub fetch_duration: Option<DurationText>,
    /// Consecutive failed runs before an alert; from 1 to 1000. Unset: 5. Example: `failureStreak: 5`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub failure_streak: Option<i32>,
    /// Consecutive empty runs before a report; from 1 to 1000. Unset: 3. Example: `emptyStreak: 3`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub empty_streak: Option<i32>,
    /// Maximum staleness: largest age of the last success for which data is fresh; from 10s to 8784h. Unset: 3
    /// intervals, or 2 cron gaps.
    /// Example: `maxStaleness: 1h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("10s", "8784h"))]
    pub max_staleness: Option<DurationText>,
}

/// Request to fetch a range again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
#[x_kube(validation = rule::instants_ordered("fromTime", "toTime"))]
pub struct Resync {
    /// ID of the request; each runs once, and the ledger stores every ID; required, at most 63 characters.
    /// Example: `id: may-refunds`.
    pub id: EntryName,
    /// Start of the range, RFC 3339 with any offset, inclusive; required. Example: `fromTime: "2029-05-01T00:00:00Z"`.
    pub from_time: Instant,
    /// End of the range, after `fromTime`; required. Example: `toTime: "2029-06-01T00:00:00Z"`.
    pub to_time: Instant,
    /// Partitions of the resync; at most 256. Unset: all. Example: `partitions: [acc-1]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub partitions: Option<Vec<EntryName>>,
    /// Reason for the audit log; at most 256 characters. Unset: none. Example: `reason: late refunds`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<ReasonText>,
}

/// Template of the Jobs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobTemplate {
    /// CPU and memory of the Job's container. Unset: the operator's own.
    /// Example: `resources: {limits: {memory: 256Mi}}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<JobResources>,
}

/// CPU and memory of a Job's container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobResources {
    /// Resource limits by name. Unset: unlimited. Example: `limits: {memory: 256Mi}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<ResourceList>,
    /// Resource requests by name. Unset: equal to `limits`. Example: `requests: {cpu: 100m}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<ResourceList>,
}
