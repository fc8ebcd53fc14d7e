//! How runs, requests and dead letters are shown. Names of partitions are masked: they may be numbers of accounts.

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::cursor::stream_name;
use crate::domain::run_failure::FailingPartition;
use crate::ledger::queries::StoredRun;
use crate::ledger::raw::JobDeadLetter;
use crate::ledger::requests::{NewRunRequest, RequestState};

/// A request for a run or a resync.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RunRequested {
    /// The ID of the request.
    #[schema(format = "uuid")]
    pub id: String,
    /// The ID of its run: the correlation ID of logs, rows and events.
    #[schema(format = "uuid")]
    pub run_id: String,
    /// `open`, `done` or `refused`.
    pub state: String,
    /// The result of the run, or why it was refused; null while it is open.
    pub outcome: Option<String>,
}

impl RunRequested {
    pub(super) fn new(request: &NewRunRequest, state: RequestState, outcome: Option<String>) -> Self {
        Self { id: request.id.to_string(), run_id: request.run.to_string(), state: state.as_str().to_owned(), outcome }
    }
}

/// A run.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RunView {
    /// Its ID.
    #[schema(format = "uuid")]
    pub id: String,
    /// What triggered it.
    pub trigger: String,
    /// The slot of the schedule that it served.
    #[schema(format = DateTime)]
    pub slot_time: Option<String>,
    /// Whether it read without writing.
    pub dry_run: bool,
    /// When it started.
    #[schema(format = DateTime)]
    pub start_time: String,
    /// When it ended; null while it is running.
    #[schema(format = DateTime)]
    pub end_time: Option<String>,
    /// Its result; null while it is running.
    pub result: Option<String>,
    /// The reason, unless it succeeded.
    pub reason: Option<String>,
    /// The provider's HTTP status that ended it, if any.
    #[schema(minimum = 100, maximum = 599)]
    pub http_status: Option<u16>,
    /// What was received, or which field is at fault.
    pub detail: Option<String>,
    /// Records read.
    #[schema(minimum = 0)]
    pub fetched: u64,
    /// New rows.
    #[schema(minimum = 0)]
    pub inserted: u64,
    /// Changed rows.
    #[schema(minimum = 0)]
    pub updated: u64,
    /// Rows that were stored already.
    #[schema(minimum = 0)]
    pub unchanged: u64,
    /// Dead letters, and invalid records of a rejected page.
    #[schema(minimum = 0)]
    pub rejected: u64,
    /// Pages committed.
    #[schema(minimum = 0)]
    pub pages: u64,
}

impl From<StoredRun> for RunView {
    fn from(stored: StoredRun) -> Self {
        let run = stored.run;
        let time = |at: Option<Timestamp>| at.map(|at| at.to_string());
        Self {
            id: run.id.to_string(),
            trigger: run.trigger.as_str().to_owned(),
            slot_time: time(run.slot),
            dry_run: run.dry_run,
            start_time: run.started.to_string(),
            end_time: time(run.ended),
            result: run.result.map(|result| result.as_str().to_owned()),
            reason: run.reason.map(|reason| reason.as_str().to_owned()),
            http_status: run.failure.http_status.filter(|status| (100..600).contains(status)),
            detail: run.failure.detail,
            fetched: run.counts.fetched,
            inserted: run.counts.inserted,
            updated: run.counts.updated,
            unchanged: run.counts.unchanged,
            rejected: run.counts.rejected,
            pages: run.counts.pages,
        }
    }
}

/// A page of runs.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RunPage {
    /// Newest first.
    pub items: Vec<RunView>,
    /// The cursor of the next page; null on the last page.
    pub next_cursor: Option<String>,
}

/// A dead letter: a record that was rejected, without its values.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct DeadLetterView {
    /// Its ID.
    #[schema(minimum = 1)]
    pub id: i64,
    /// Its stream.
    pub stream: String,
    /// Its partition, masked; null for a job without partitions.
    pub partition: Option<String>,
    /// Why it was rejected.
    pub reason: String,
    /// JSON pointer of the invalid field, or the name of the rule that rejected it; empty for the whole record.
    pub path: String,
    /// The record's field names and types.
    pub sample: String,
    /// The run that read it last.
    pub run_id: String,
    /// How often it was read.
    #[schema(minimum = 1)]
    pub seen: u64,
    /// When it was read first.
    #[schema(format = DateTime)]
    pub first_time: String,
    /// When it was read last.
    #[schema(format = DateTime)]
    pub last_time: String,
    /// When it was resolved; null while it is not.
    #[schema(format = DateTime)]
    pub resolved_time: Option<String>,
    /// The ID of its raw payload; null if none was stored.
    #[schema(format = "uuid")]
    pub raw_ref: Option<String>,
    /// Whether it can be replayed: `Replayable`, or why not: `RawNotStored`, `RawMasked`, `RawExpired`.
    pub replay: String,
}

impl DeadLetterView {
    pub(super) fn new(letter: JobDeadLetter, now: Timestamp) -> Self {
        let partition = letter.stream.partition.as_str();
        Self {
            id: letter.id,
            stream: stream_name(&letter.stream.stream).to_owned(),
            partition: (!partition.is_empty()).then(|| FailingPartition::new(partition, "").name),
            replay: letter.replayability(now).as_str().to_owned(),
            reason: letter.reason,
            path: letter.path,
            sample: letter.sample,
            run_id: letter.run_id,
            seen: letter.seen,
            first_time: letter.first.to_string(),
            last_time: letter.last.to_string(),
            resolved_time: letter.resolved.map(|at| at.to_string()),
            raw_ref: letter.raw.map(|raw| raw.id.to_string()),
        }
    }
}

/// A page of dead letters.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct DeadLetterPage {
    /// Newest first.
    pub items: Vec<DeadLetterView>,
    /// The cursor of the next page; null on the last page.
    pub next_cursor: Option<String>,
}
