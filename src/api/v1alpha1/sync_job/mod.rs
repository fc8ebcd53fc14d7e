//! `SyncJob`: scheduled fetch of one stream into the ledger.
//!
//! [`source`] has the partitions, [`run_policy`] the run settings and retention, [`status`] the observed status.
//! Either `stream` names a stream of the profile, or [`inline`] describes one.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

pub mod inline;
pub mod run_policy;
pub mod source;
pub mod status;

pub use inline::HttpStream;
pub use run_policy::{
    CommitScope, ConcurrencyPolicy, DeletionPolicy, EventGranularity, Execution, JobResources, JobTemplate, MaskRule,
    Resync, Retention, RetentionMode, Sla, Validation,
};
pub use source::{Partition, PartitionsFrom};
pub use status::{ActiveRun, DeliveryGuarantee, HistoryEntry, PartitionCounts, RunResult, RunTrigger, SyncJobStatus};

use crate::api::v1alpha1::common::{DurationText, Instant, LocalRef};
use crate::api::v1alpha1::maps::Parameters;
use crate::api::v1alpha1::rule;
use crate::api::v1alpha1::text::{CronText, Word, ZoneText};

/// Spec of a `SyncJob`.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "busbar.dev",
    version = "v1alpha1",
    kind = "SyncJob",
    plural = "syncjobs",
    shortname = "sjob",
    category = "busbar",
    namespaced,
    status = "SyncJobStatus",
    derive = "PartialEq",
    doc = "Scheduled fetch of one stream of a connection into the ledger.",
    validation = rule::object_name(),
    selectable = ".spec.connectionRef.name",
    selectable = ".spec.suspend",
    selectable = ".status.fresh",
    selectable = ".status.lastResult",
    printcolumn(name = "Connection", type_ = "string", json_path = ".spec.connectionRef.name", description = "Connection of the job."),
    printcolumn(name = "Stream", type_ = "string", json_path = ".spec.stream", description = "Stream that is fetched."),
    printcolumn(name = "Schedule", type_ = "string", json_path = ".status.cadence", description = "Schedule or interval of the runs."),
    printcolumn(name = "Suspend", type_ = "boolean", json_path = ".spec.suspend", description = "Whether runs are suspended."),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status", description = "Spec accepted and references resolved; independent of runs."),
    printcolumn(name = "Fresh", type_ = "string", json_path = ".status.fresh", description = "The data is within its maximum staleness."),
    printcolumn(name = "Last-Result", type_ = "string", json_path = ".status.lastResult", description = "Result of the last run."),
    printcolumn(name = "Last-Success", type_ = "date", json_path = ".status.lastSuccessfulTime", description = "End of the last successful run."),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Next", type_ = "string", json_path = ".status.nextScheduleTime", priority = 1, description = "Start of the next run."),
    printcolumn(name = "Records", type_ = "string", json_path = ".status.lastRecords", priority = 1, description = "Record counts of the last run."),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].message", priority = 1, description = "Message of Ready.")
)]
#[cfg_attr(feature = "test-support", kube(cel))]
#[x_kube(
    validation = rule::exactly_one(&["stream", "http"]),
    validation = rule::rule("has(self.stream) == has(oldSelf.stream)", "must not change between stream and http: delete the object and create a new one"),
    validation = rule::exactly_one(&["schedule", "interval"]),
    validation = rule::only_with("timeZone", "schedule"),
)]
pub struct SyncJobSpec {
    /// Connection to fetch from; required, immutable. Example: `connectionRef: {name: mono}`.
    #[x_kube(validation = rule::immutable("connectionRef"))]
    pub connection_ref: LocalRef,
    /// Stream of the connection's profile, such as `transactions`, `accounts`, `balances`, `collaterals`, `quotes`,
    /// `observations` or `articles`; immutable, at most 63 characters. Exactly one of `stream` and `http`. Unset: `http` is
    /// set. Example: `stream: transactions`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::immutable("stream"))]
    pub stream: Option<Word>,
    /// Inline stream in the profile's stream format, for an endpoint that the profile does not describe; its name is
    /// immutable. Exactly one of `stream` and `http`. Unset: `stream` is set.
    /// Example: `http: {name: invoices, path: /v1/invoices, records: [/data], key: /id, pagination: {kind: none}}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpStream>,
    /// Parameters of the stream; at most 16, each at most 256 characters. Those in its path and query select the source:
    /// with other values the job reads other rows, from the beginning. Unset: none.
    /// Example: `parameters: {accountId: acc-1}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::word_keys())]
    pub parameters: Option<Parameters>,
    /// Partitions that are fetched separately, each with its own cursor; at most 256. Unset: a single partition.
    /// Example: `partitions: [{name: acc-1, parameters: {accountId: acc-1}}]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub partitions: Option<Vec<Partition>>,
    /// Additional partitions, one per record of another `SyncJob`; a cycle is reported as Stalled. Unset: only
    /// `partitions`.
    /// Example: `partitionsFrom: {syncJobRef: {name: accounts}, field: id}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partitions_from: Option<PartitionsFrom>,
    /// Schedule of the runs as a cron expression of five fields, without `TZ=` and `@` nicknames. Exactly one of
    /// `schedule` and `interval`. Unset: `interval` is set.
    /// Example: `schedule: "*/5 * * * *"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<CronText>,
    /// IANA time zone of `schedule`. Unset: UTC. Example: `timeZone: Africa/Lagos`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<ZoneText>,
    /// Interval between runs; from 10s to 168h. Exactly one of `schedule` and `interval`.
    /// Unset: `schedule` is set. Example: `interval: 5m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("10s", "168h"))]
    pub interval: Option<DurationText>,
    /// Jitter of the start in percent of the time between runs, stable per object; from 0 (none) to 100. Unset: 10.
    /// Example: `jitterPercent: 10`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub jitter_percent: Option<i32>,
    /// Deadline after a slot until which a missed run still starts; from 0s to 168h. At most one missed run is caught
    /// up. Unset: 1h.
    /// Example: `startingDeadline: 1h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("0s", "168h"))]
    pub starting_deadline: Option<DurationText>,
    /// Handling of a due run while another is active: `Forbid` skips it, `Replace` stops the active run at a page
    /// boundary. Default: `Forbid`.
    /// Example: `concurrencyPolicy: Replace`.
    #[serde(default)]
    pub concurrency_policy: ConcurrencyPolicy,
    /// Timeout of one run; from 1s to 24h. Unset: 1h. Example: `runTimeout: 30m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("1s", "24h"))]
    pub run_timeout: Option<DurationText>,
    /// Delay after a failed run, doubled with each failure up to 6h; from 1s to 6h. Unset: `interval`, at most 15m.
    /// Example: `retryInterval: 1m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("1s", "6h"))]
    pub retry_interval: Option<DurationText>,
    /// Start of the fetched range, RFC 3339 with any offset; used by the first run only. Unset: that of the profile.
    /// Example: `startTime: "2029-01-01T00:00:00Z"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Instant>,
    /// Overlap with the range already fetched, for late bookings; from 0s (none) to 8784h. Unset: that of the profile.
    /// Example: `lookback: 48h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("0s", "8784h"))]
    pub lookback: Option<DurationText>,
    /// Scope of a commit: a `Page`, or the whole `Window` of a run. Unset: that of the profile.
    /// Example: `commitScope: Page`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit_scope: Option<CommitScope>,
    /// Validation rules for records; records that fail become dead letters; at most 16. Unset: none.
    /// Example: `validations: [{name: positive, rule: "record.amount > decimal('0')", message: must be positive}]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub validations: Option<Vec<Validation>>,
    /// Largest percentage of dead letters in a page; above it schema drift is reported and the page is not committed;
    /// from 0 (none) to 100 (no drift detection). Up to five of a page are within any percentage but 0; three or more
    /// records none of which is valid are drift. Unset: 10.
    /// Example: `deadLetterBudgetPercent: 10`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub dead_letter_budget_percent: Option<i32>,
    /// Masking of fields before they are stored: `Drop`, `Last4` or `Token` (equal values get equal tokens); at most 64. Unset: that of the profile.
    /// Example: `mask: {counterpartyAccount: Last4}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 64))]
    #[x_kube(validation = rule::word_keys())]
    pub mask: Option<BTreeMap<String, MaskRule>>,
    /// Retention of raw payloads. Unset: encrypted for 720h if the operator has a key (`--key-secret`), else not stored.
    /// Example: `retention: {mode: "Off"}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    /// Granularity of `bank.transactions.ingested` events: `None`, one per `Page`, or one per `Record`. Default:
    /// `Page`.
    /// Example: `events: Record`.
    #[serde(default)]
    pub events: EventGranularity,
    /// Service-level thresholds for duration, failures, empty runs and staleness. Unset: 2s, 5, 3, and 3 intervals or 2
    /// cron gaps.
    /// Example: `sla: {maxStaleness: 1h}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sla: Option<Sla>,
    /// Fetches a range again, once per `id`, without moving the cursor. Unset: no resync.
    /// Example: `resync: {id: may, fromTime: "2029-05-01T00:00:00Z", toTime: "2029-06-01T00:00:00Z"}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::rule("self.id != oldSelf.id || self == oldSelf", "must set a new id: a resync runs once per id; change id together with the other fields"))]
    pub resync: Option<Resync>,
    /// Dry run: fetches, transforms and validates one page without writing records; failure streak and metrics are
    /// updated. Default: false.
    /// Example: `dryRun: true`.
    #[serde(default)]
    pub dry_run: bool,
    /// Execution of runs: `InProcess` in the operator, or `Job` as a Kubernetes Job each (requires PostgreSQL).
    /// Default: `InProcess`.
    /// Example: `execution: Job`.
    #[serde(default)]
    pub execution: Execution,
    /// Template of the Jobs for `execution: Job`. Unset: the operator's own.
    /// Example: `jobTemplate: {resources: {limits: {memory: 256Mi}}}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_template: Option<JobTemplate>,
    /// Handling of rows and cursor when this object is deleted: `Retain` keeps them for the next object of the same
    /// identity, `Delete` first deletes those of the sources that this job read, unless another job reads them too.
    /// Default: `Retain`. Example: `deletionPolicy: Delete`.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    /// Suspends runs at a page boundary; spec and references are still validated. Default: false.
    /// Example: `suspend: true`.
    #[serde(default)]
    pub suspend: bool,
}
