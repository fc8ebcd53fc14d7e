//! Observed status of a `SyncJob`. The ledger is authoritative for cursors; the status only has a preview.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::v1alpha1::common::{Condition, Time, TriState, conditions_schema};
use crate::api::v1alpha1::text::DurationText;

/// Largest number of entries in `status.history`.
pub const HISTORY_MAX: usize = 10;

/// Largest length of the cursor preview in bytes of JSON.
pub const CURSOR_PREVIEW_MAX: usize = 64;

string_enum!(
    /// Result of a run.
    RunResult {
        /// All records were fetched and committed.
        Succeeded,
        /// The run failed with an error; committed pages are kept.
        Failed,
        /// The run reached a limit; the next run continues from there.
        Incomplete,
        /// The run was stopped at a page boundary.
        Canceled,
    }
);

string_enum!(
    /// Trigger of a run.
    RunTrigger {
        /// The schedule or interval.
        Schedule,
        /// The annotation `busbar.dev/requestedAt`.
        Request,
        /// `spec.resync`.
        Resync,
        /// Retry after a failure.
        Retry,
        /// A webhook of the provider.
        Webhook,
    }
);

string_enum!(
    /// Effective delivery guarantee of a stream.
    DeliveryGuarantee {
        /// Each record version is written at most once: rows and cursor are in the same database.
        OncePerVersion,
        /// Rows may be written again after a crash: rows and cursor are in different databases.
        AtLeastOnce,
    }
);

/// Observed status of a `SyncJob`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SyncJobStatus {
    /// The metadata.generation that this status was computed from; -1 until the operator has observed the object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions: Ready and Fresh always; Reconciling, Stalled, SchemaDrifted, DeadLetters and Suspended only while
    /// True.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
    /// Last handled value of the annotation `busbar.dev/requestedAt` (or `reconcile.fluxcd.io/requestedAt`).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub last_handled_reconcile_at: Option<String>,
    /// Whether the data is within its maximum staleness: `True`, `False` or `Unknown`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fresh: Option<TriState>,
    /// Result of the last run: `Succeeded`, `Failed`, `Incomplete` or `Canceled`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_result: Option<RunResult>,
    /// Slot of the last started run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_schedule_time: Option<Time>,
    /// End of the last successful run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_successful_time: Option<Time>,
    /// Start of the next run, jitter included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_schedule_time: Option<Time>,
    /// Start of the next retry after a failed run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_retry_time: Option<Time>,
    /// Schedule or interval, formatted for a column.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 160))]
    pub cadence: Option<String>,
    /// Record counts of the last run, formatted for a column.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub last_records: Option<String>,
    /// Active run, if it is older than 30 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_run: Option<ActiveRun>,
    /// First characters of the committed cursor; the ledger is authoritative.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub cursor: Option<String>,
    /// Numbers of partitions and of failing partitions, and the names of failing ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partitions: Option<PartitionCounts>,
    /// Effective delivery guarantee: `OncePerVersion` or `AtLeastOnce`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery_guarantee: Option<DeliveryGuarantee>,
    /// Last runs, newest first; consecutive runs with the same outcome are one entry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), extend("x-kubernetes-list-type" = "atomic"))]
    pub history: Vec<HistoryEntry>,
    /// Consecutive failed runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub failure_streak: Option<i32>,
    /// Consecutive empty runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub empty_streak: Option<i32>,
    /// Last completed `spec.resync.id`.
    #[serde(rename = "lastHandledResyncID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub last_handled_resync_id: Option<String>,
}

/// An active run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ActiveRun {
    /// ID of the run, the same in logs and in the ledger.
    #[schemars(length(max = 64))]
    pub id: String,
    /// Start of the run.
    pub start_time: Time,
    /// Trigger of the run.
    pub trigger: RunTrigger,
}

/// Numbers of partitions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PartitionCounts {
    /// Number of partitions.
    #[schemars(range(min = 0))]
    pub total: i32,
    /// Number of partitions that failed in the last run, those included that were not read because of a common cause.
    #[schemars(range(min = 0))]
    pub failing: i32,
    /// Names of the first five of them; numbers as long as an account number are masked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5), inner(length(max = 128)), extend("x-kubernetes-list-type" = "atomic"))]
    pub failing_names: Vec<String>,
}

/// One run, or several consecutive runs with the same outcome.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HistoryEntry {
    /// ID of the newest run of the entry.
    #[schemars(length(max = 64))]
    pub id: String,
    /// Start of the newest run.
    pub start_time: Time,
    /// Duration of the newest run.
    pub duration: DurationText,
    /// Trigger of the newest run.
    pub trigger: RunTrigger,
    /// Result of the runs.
    pub result: RunResult,
    /// Records fetched by the newest run.
    #[schemars(range(min = 0))]
    pub fetched: i64,
    /// Rows inserted by the newest run.
    #[schemars(range(min = 0))]
    pub inserted: i64,
    /// Rows updated by the newest run.
    #[schemars(range(min = 0))]
    pub updated: i64,
    /// Rows found unchanged by the newest run.
    #[schemars(range(min = 0))]
    pub unchanged: i64,
    /// Records rejected as dead letters by the newest run.
    #[schemars(range(min = 0))]
    pub rejected: i64,
    /// Records of the newest run that had the ID of a later one of their page and another content: the later one was
    /// stored. Absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub conflicting: Option<i64>,
    /// Reason if the runs did not succeed: one of docs/reference/reasons.md.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub reason: Option<String>,
    /// Request that the run served: the value of the annotation `busbar.dev/requestedAt`. Only with the trigger
    /// `Request`; absent if a later request replaced it before the run was reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub requested_at: Option<String>,
    /// Number of runs in the entry.
    #[schemars(range(min = 1))]
    pub count: i32,
}
