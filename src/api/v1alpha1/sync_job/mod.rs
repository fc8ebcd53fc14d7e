//! `SyncJob`: what to fetch, how often, into where.
//!
//! [`source`] is what is asked for, [`manners`] how a run behaves and what is kept, [`status`] what the operator observed.
//! An inline `http` stream joins `stream` in the union with the profile format; until then `stream` is the only member.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

pub mod manners;
pub mod source;
pub mod status;

pub use manners::{
    CommitScope, ConcurrencyPolicy, DeletionPolicy, EventGranularity, Execution, JobResources, JobTemplate, MaskRule,
    Resync, Retention, RetentionMode, Sla, Validation,
};
pub use source::{Partition, PartitionsFrom};
pub use status::{ActiveRun, DeliveryGuarantee, HistoryEntry, PartitionCounts, RunResult, RunTrigger, SyncJobStatus};

use crate::api::v1alpha1::common::{DurationText, Instant, LocalRef};
use crate::api::v1alpha1::maps::Parameters;
use crate::api::v1alpha1::rule;
use crate::api::v1alpha1::text::{CronText, Word, ZoneText};

/// What a `SyncJob` should be.
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
    doc = "What to fetch from one connection, how often, and how it is kept in the ledger.",
    validation = rule::object_name(),
    selectable = ".spec.connectionRef.name",
    selectable = ".spec.suspend",
    selectable = ".status.fresh",
    selectable = ".status.lastResult",
    printcolumn(name = "Connection", type_ = "string", json_path = ".spec.connectionRef.name", description = "The connection that is asked."),
    printcolumn(name = "Stream", type_ = "string", json_path = ".spec.stream", description = "What is fetched."),
    printcolumn(name = "Schedule", type_ = "string", json_path = ".status.cadence", description = "How often."),
    printcolumn(name = "Suspend", type_ = "boolean", json_path = ".spec.suspend", description = "Stopped on purpose."),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status", description = "Spec accepted and references resolve; does not wait for a run."),
    printcolumn(name = "Fresh", type_ = "string", json_path = ".status.fresh", description = "The data is within its maximum staleness."),
    printcolumn(name = "Last-Success", type_ = "date", json_path = ".status.lastSuccessfulTime", description = "End of the last successful run."),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Next", type_ = "string", json_path = ".status.nextScheduleTime", priority = 1, description = "Start of the next run."),
    printcolumn(name = "Last-Result", type_ = "string", json_path = ".status.lastResult", priority = 1, description = "How the last run ended."),
    printcolumn(name = "Records", type_ = "string", json_path = ".status.lastRecords", priority = 1, description = "What the last run did."),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].message", priority = 1, description = "Message of Ready.")
)]
#[cfg_attr(feature = "test-support", kube(cel))]
#[x_kube(
    validation = rule::rule("has(self.stream)", "must set stream"),
    validation = rule::exactly_one(&["schedule", "interval"]),
    validation = rule::only_with("timeZone", "schedule"),
)]
pub struct SyncJobSpec {
    /// The connection that is asked; required, immutable. Example: `connectionRef: {name: mono}`.
    #[x_kube(validation = rule::immutable("connectionRef"))]
    pub connection_ref: LocalRef,
    /// The stream of the connection's profile, such as `transactions`, `accounts`, `balances`, `collaterals`, `quotes`,
    /// `observations` or `articles`; required, immutable, at most 63 characters. Example: `stream: transactions`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::immutable("stream"))]
    pub stream: Option<Word>,
    /// Values that the stream asks for; at most 16, each at most 256 characters. Unset: none.
    /// Example: `parameters: {accountId: acc-1}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::word_keys())]
    pub parameters: Option<Parameters>,
    /// Parts that are fetched apart, each with a cursor of its own; at most 256. Unset: one part.
    /// Example: `partitions: [{name: acc-1, parameters: {accountId: acc-1}}]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub partitions: Option<Vec<Partition>>,
    /// More partitions, one per record of another `SyncJob`; a cycle is Stalled. Unset: only `partitions`.
    /// Example: `partitionsFrom: {syncJobRef: {name: accounts}, field: id}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partitions_from: Option<PartitionsFrom>,
    /// When runs start: five cron fields, no `TZ=`, no `@`. Exactly one of `schedule` and `interval`.
    /// Unset: `interval` is set. Example: `schedule: "*/5 * * * *"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<CronText>,
    /// IANA time zone of `schedule`. Unset: UTC. Example: `timeZone: Africa/Lagos`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<ZoneText>,
    /// Time from one run's slot to the next; from 10s to 168h. Exactly one of `schedule` and `interval`.
    /// Unset: `schedule` is set. Example: `interval: 5m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("10s", "168h"))]
    pub interval: Option<DurationText>,
    /// Percent of the gap that a run is moved by, the same for this object every time; from 0 (none) to 100. Unset: 10.
    /// Example: `jitterPercent: 10`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub jitter_percent: Option<i32>,
    /// How late a missed run may still start; from 0s (not at all) to 168h. At most one is caught up. Unset: 1h.
    /// Example: `startingDeadline: 1h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("0s", "168h"))]
    pub starting_deadline: Option<DurationText>,
    /// What a due run does while another runs: `Forbid` skips it, `Replace` stops the other at a page boundary.
    /// Default: `Forbid`. Example: `concurrencyPolicy: Replace`.
    #[serde(default)]
    pub concurrency_policy: ConcurrencyPolicy,
    /// How long one run may take; from 1s to 24h. Unset: 1h. Example: `runTimeout: 30m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("1s", "24h"))]
    pub run_timeout: Option<DurationText>,
    /// Wait after a failed run, doubled each time up to 6h; from 1s to 6h. Unset: `interval`, at most 15m.
    /// Example: `retryInterval: 1m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("1s", "6h"))]
    pub retry_interval: Option<DurationText>,
    /// From when records are fetched, RFC 3339 with any offset; read before the first run only. Unset: the profile's.
    /// Example: `startTime: "2029-01-01T00:00:00Z"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Instant>,
    /// Overlap with what was fetched already, for late bookings; from 0s (none) to 8784h. Unset: the profile's.
    /// Example: `lookback: 48h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("0s", "8784h"))]
    pub lookback: Option<DurationText>,
    /// What is committed at once: a `Page`, or the whole `Window` of a run. Unset: the profile's. Example: `commitScope: Page`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit_scope: Option<CommitScope>,
    /// Rules that each record must meet; the failing ones become dead letters; at most 16. Unset: none.
    /// Example: `validations: [{name: positive, rule: "record.amount > decimal('0')", message: must be positive}]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub validations: Option<Vec<Validation>>,
    /// Percent of a page that may be dead letters before drift is suspected and the page is not committed; from 0 (none
    /// may) to 100 (never suspected). Unset: 10. Example: `deadLetterBudgetPercent: 10`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub dead_letter_budget_percent: Option<i32>,
    /// How fields are hidden before they are written: `Drop`, `Last4` or `Token`; at most 64. Unset: the profile's.
    /// Example: `mask: {counterpartyAccount: Last4}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 64))]
    #[x_kube(validation = rule::word_keys())]
    pub mask: Option<BTreeMap<String, MaskRule>>,
    /// How raw payloads are kept. Unset: encrypted for 720h. Example: `retention: {mode: "Off"}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    /// How many `bank.transactions.ingested` events there are: `None`, one per `Page`, or one per `Record`. Default: `Page`.
    /// Example: `events: Record`.
    #[serde(default)]
    pub events: EventGranularity,
    /// What counts as too slow, too often failed, too long empty, too old. Unset: 2s, 5, 3, and 3 intervals or 2 cron gaps.
    /// Example: `sla: {maxStaleness: 1h}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sla: Option<Sla>,
    /// Fetches a range again, once per id, without moving the cursor. Unset: nothing is fetched again.
    /// Example: `resync: {id: may, fromTime: "2029-05-01T00:00:00Z", toTime: "2029-06-01T00:00:00Z"}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::rule("self.id != oldSelf.id || self == oldSelf", "must use a new id for a changed request"))]
    pub resync: Option<Resync>,
    /// Fetches, transforms and validates one page and writes nothing; the failure streak and the metrics are kept.
    /// Default: false. Example: `dryRun: true`.
    #[serde(default)]
    pub dry_run: bool,
    /// Where runs happen: `InProcess`, or each in a Kubernetes `Job` (needs PostgreSQL). Default: `InProcess`.
    /// Example: `execution: Job`.
    #[serde(default)]
    pub execution: Execution,
    /// What the Jobs of `execution: Job` look like. Unset: the operator's own. Example: `jobTemplate: {resources: {limits: {memory: 256Mi}}}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_template: Option<JobTemplate>,
    /// What happens to rows and cursor when this object is deleted: `Retain` keeps them for the next object of the same
    /// identity, `Delete` removes them first. Default: `Retain`. Example: `deletionPolicy: Delete`.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    /// Stops runs at a page boundary; spec and references stay validated. Default: false. Example: `suspend: true`.
    #[serde(default)]
    pub suspend: bool,
}
