//! What the operator observed of a job. The truth about cursors is in the ledger; this is a preview of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::v1alpha1::common::{Condition, Time, Tri, conditions_schema};
use crate::api::v1alpha1::text::DurationText;

/// The most entries `status.history` holds.
pub const HISTORY_MAX: usize = 10;

/// The most characters of the cursor's preview.
pub const CURSOR_PREVIEW_MAX: usize = 64;

closed_enum!(
    /// How a run ended.
    RunResult {
        /// All was fetched and committed.
        Succeeded,
        /// It stopped on an error; what was committed stays.
        Failed,
        /// A cap was reached; the next run goes on from there.
        Incomplete,
        /// It was stopped on purpose at a page boundary.
        Canceled,
    }
);

closed_enum!(
    /// What started a run.
    RunTrigger {
        /// Its schedule or interval.
        Schedule,
        /// The annotation `busbar.dev/requestedAt`.
        Request,
        /// `spec.resync`.
        Resync,
        /// The wait after a failure was over.
        Retry,
        /// A webhook of the provider.
        Webhook,
    }
);

closed_enum!(
    /// What a stream really gets.
    DeliveryGuarantee {
        /// Each record version changes the table at most once: rows and cursor share a database.
        OncePerVersion,
        /// Rows may be written again after a crash: rows and cursor are in different databases.
        AtLeastOnce,
    }
);

/// What the operator observed of a job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SyncJobStatus {
    /// The metadata.generation this status speaks of; -1 until the operator has seen the object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready and Fresh always; Reconciling, Stalled, SchemaDrifted, DeadLetters and Suspended only while True.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
    /// The last value of the annotation `busbar.dev/requestedAt` (or Flux's) that was acted on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub last_handled_reconcile_at: Option<String>,
    /// Whether the data is within its maximum staleness: `True`, `False` or `Unknown`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fresh: Option<Tri>,
    /// How the last run ended: `Succeeded`, `Failed`, `Incomplete` or `Canceled`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_result: Option<RunResult>,
    /// Slot of the last run that was started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_schedule_time: Option<Time>,
    /// End of the last successful run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_successful_time: Option<Time>,
    /// Start of the next run, jitter included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_schedule_time: Option<Time>,
    /// When a failed run is tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_retry_time: Option<Time>,
    /// How often, as one text for a column.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 160))]
    pub cadence: Option<String>,
    /// What the last run did, as one text for a column.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub last_records: Option<String>,
    /// The run in progress, if it is older than 30 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_run: Option<ActiveRun>,
    /// The first characters of the committed cursor; the truth is in the ledger.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub cursor: Option<String>,
    /// How many partitions there are, and how many fail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partitions: Option<PartitionCounts>,
    /// What this stream really gets: `OncePerVersion` or `AtLeastOnce`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery_guarantee: Option<DeliveryGuarantee>,
    /// The last runs, newest first; equal outcomes in a row are one entry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), extend("x-kubernetes-list-type" = "atomic"))]
    pub history: Vec<HistoryEntry>,
    /// Failed runs in a row.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub failure_streak: Option<i32>,
    /// Empty runs in a row.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub empty_streak: Option<i32>,
    /// The last `spec.resync.id` that was run to its end.
    #[serde(rename = "lastHandledResyncID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub last_handled_resync_id: Option<String>,
}

/// A run in progress.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ActiveRun {
    /// Id of the run, the same in logs and in the ledger.
    #[schemars(length(max = 64))]
    pub id: String,
    /// When it started.
    pub start_time: Time,
    /// What started it.
    pub trigger: RunTrigger,
}

/// How many partitions there are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PartitionCounts {
    /// All of them.
    #[schemars(range(min = 0))]
    pub total: i32,
    /// Those whose last run failed.
    #[schemars(range(min = 0))]
    pub failing: i32,
}

/// One run, or several with the same outcome.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HistoryEntry {
    /// Id of the newest run of the entry.
    #[schemars(length(max = 64))]
    pub id: String,
    /// When the newest run started.
    pub start_time: Time,
    /// How long the newest run took.
    pub duration: DurationText,
    /// What started the newest run.
    pub trigger: RunTrigger,
    /// How the runs ended.
    pub result: RunResult,
    /// Records fetched by the newest run.
    #[schemars(range(min = 0))]
    pub fetched: i64,
    /// Rows it added.
    #[schemars(range(min = 0))]
    pub inserted: i64,
    /// Rows it changed.
    #[schemars(range(min = 0))]
    pub updated: i64,
    /// Rows it found equal.
    #[schemars(range(min = 0))]
    pub unchanged: i64,
    /// Records that became dead letters.
    #[schemars(range(min = 0))]
    pub rejected: i64,
    /// Why, if the runs did not succeed: one word of docs/reference/reasons.md.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub reason: Option<String>,
    /// How many runs the entry stands for.
    #[schemars(range(min = 1))]
    pub count: i32,
}
