//! How a run behaves, what is kept, what counts as too late.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::v1alpha1::maps::ResourceList;
use crate::api::v1alpha1::rule;
use crate::api::v1alpha1::text::{DurationText, EntryName, Instant, ReasonText};

closed_enum!(
    /// What a due run does while another runs.
    ConcurrencyPolicy = Forbid {
        /// The due run is skipped.
        Forbid,
        /// The running one stops at a page boundary.
        Replace,
    }
);

closed_enum!(
    /// What is committed at once.
    CommitScope {
        /// Each page.
        Page,
        /// The whole window of a run.
        Window,
    }
);

closed_enum!(
    /// How a field is hidden.
    MaskRule {
        /// It is left out.
        Drop,
        /// Only its last four characters stay.
        Last4,
        /// A keyed token takes its place.
        Token,
    }
);

closed_enum!(
    /// How many events tell of ingested records.
    EventGranularity = Page {
        /// None.
        None,
        /// One per page.
        Page,
        /// One per record.
        Record,
    }
);

closed_enum!(
    /// Where runs happen.
    Execution = InProcess {
        /// In the operator.
        InProcess,
        /// In a Kubernetes Job each.
        Job,
    }
);

closed_enum!(
    /// What happens to rows and cursor when the object is deleted.
    DeletionPolicy = Retain {
        /// They stay.
        Retain,
        /// They are removed first.
        Delete,
    }
);

closed_enum!(
    /// How raw payloads are kept.
    RetentionMode = Encrypted {
        /// They are not.
        Off,
        /// With every value masked.
        Masked,
        /// Encrypted with the operator's key.
        Encrypted,
    }
);

/// A rule that each record must meet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Validation {
    /// Name of the rule, unique in the list; required. At most 63 characters. Example: `name: positive`.
    pub name: EntryName,
    /// CEL over `record`; money is a decimal type with its own functions; required, at most 1024 characters.
    /// Example: `rule: "record.amount > decimal('0')"`.
    #[schemars(length(min = 1, max = 1024))]
    pub rule: String,
    /// What a dead letter says; required, at most 256 characters. Example: `message: must be positive`.
    #[schemars(length(min = 1, max = 256))]
    pub message: String,
}

/// How raw payloads are kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retention {
    /// How long; from 1h to 8784h. Unset: 720h. Example: `raw: 720h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("1h", "8784h"))]
    pub raw: Option<DurationText>,
    /// `Off`, `Masked`, or `Encrypted` with the operator's key (`--key-secret`; without one nothing is fetched). Quote
    /// `"Off"`: unquoted it is a boolean. Default: `Encrypted`. Example: `mode: "Off"`.
    #[serde(default)]
    pub mode: RetentionMode,
}

/// What counts as too slow, too often failed, too long empty, too old.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sla {
    /// The longest fetch of one partition without a warning; from 1ms to 24h. Unset: 2s. Example: `fetchDuration: 2s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("1ms", "24h"))]
    pub fetch_duration: Option<DurationText>,
    /// Failed runs in a row before someone is called; from 1 to 1000. Unset: 5. Example: `failureStreak: 5`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub failure_streak: Option<i32>,
    /// Empty runs in a row before it is reported; from 1 to 1000. Unset: 3. Example: `emptyStreak: 3`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub empty_streak: Option<i32>,
    /// The oldest last success for which the data counts as fresh; from 10s to 8784h. Unset: 3 intervals, or 2 cron gaps.
    /// Example: `maxStaleness: 1h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("10s", "8784h"))]
    pub max_staleness: Option<DurationText>,
}

/// A range that is fetched again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
#[x_kube(validation = rule::instants_ordered("fromTime", "toTime"))]
pub struct Resync {
    /// Name of the request; each runs once, and the ledger remembers every one; required. At most 63 characters.
    /// Example: `id: may-refunds`.
    pub id: EntryName,
    /// Start of the range, RFC 3339 with any offset, inclusive; required. Example: `fromTime: "2029-05-01T00:00:00Z"`.
    pub from_time: Instant,
    /// End of the range, after `fromTime`; required. Example: `toTime: "2029-06-01T00:00:00Z"`.
    pub to_time: Instant,
    /// Partitions it is limited to; at most 256. Unset: all. Example: `partitions: [acc-1]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub partitions: Option<Vec<EntryName>>,
    /// Why, for the audit log; at most 256 characters. Unset: none is recorded. Example: `reason: late refunds`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<ReasonText>,
}

/// What the Jobs look like.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobTemplate {
    /// CPU and memory of the Job's container. Unset: the operator's own. Example: `resources: {limits: {memory: 256Mi}}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<JobResources>,
}

/// CPU and memory of a Job's container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobResources {
    /// What it may use at most, by resource name. Unset: not limited. Example: `limits: {memory: 256Mi}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<ResourceList>,
    /// What is set aside for it, by resource name. Unset: as `limits`. Example: `requests: {cpu: 100m}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<ResourceList>,
}
