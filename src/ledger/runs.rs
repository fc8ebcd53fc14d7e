//! Run history: what triggered a run, how it ended, what it wrote.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use uuid::Uuid;

use crate::domain::clock_skew::{happened, is_ahead};
use crate::domain::closed_list::closed_list;
use crate::domain::cursor::{CursorState, StreamKey};
use crate::domain::event::OutboxEvent;
use crate::domain::key::ObjectKey;
use crate::domain::run_failure::RunFailure;
use crate::domain::run_reason::RunReason;

/// A run's correlation id: stored with the run and the rows it changed, sent with its requests and log lines.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunId(pub Uuid);

impl RunId {
    /// The id of the run for `request` on the object with this UID. Deterministic, so a repeated request is one run.
    pub fn of_request(uid: &str, request: &str) -> Self {
        Self(Uuid::new_v5(&Uuid::parse_str(uid).unwrap_or_default(), request.as_bytes()))
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A stored enum value that this version does not know.
#[derive(Debug, thiserror::Error)]
#[error("unknown enum value in the ledger")]
pub struct UnknownValue;

/// What triggered a run.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum RunTrigger {
    /// The job's schedule or interval.
    Schedule,
    /// A retry after a failure.
    Retry,
    /// A user's request.
    Manual,
    /// A slot missed while no replica could run it.
    CatchUp,
    /// `spec.resync`, or a resync requested over HTTP.
    Resync,
    /// A webhook of the provider.
    Webhook,
}

impl RunTrigger {
    /// All values.
    pub const ALL: [Self; 6] = [Self::Schedule, Self::Retry, Self::Manual, Self::CatchUp, Self::Resync, Self::Webhook];

    /// The value in status and in the ledger.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Schedule => "Schedule",
            Self::Retry => "Retry",
            Self::Manual => "Manual",
            Self::CatchUp => "CatchUp",
            Self::Resync => "Resync",
            Self::Webhook => "Webhook",
        }
    }

    /// The value in the ledger for versions that know only the first four: they cannot read a run with another one.
    pub(super) const fn cause(self) -> &'static str {
        match self {
            Self::Resync | Self::Webhook => Self::Manual.as_str(),
            known => known.as_str(),
        }
    }
}

closed_list!(
    "run result",
    /// How a run ended, as in the ledger and in the label `result`.
    RunResult {
        Succeeded: "Every window was read to its end." => "None.",
        Incomplete: "A limit was reached, or the list of the provider ended before its end; committed pages are kept." => "See the reason of the run; the next run continues from the last committed page, or reads the window again.",
        Failed: "An error ended the run; committed pages are kept." => "See the reason of the run.",
        Cancelled: "The run was stopped on request, between two pages. In status: Canceled." => "None; the next run continues from the last committed page.",
        Skipped: "The run did not start. Not in status." => "See the reason of the run.",
        Interrupted: "The process ended during the run. In status: Incomplete." => "None; the next run continues from the last committed page.",
    }
);

impl FromStr for RunTrigger {
    type Err = UnknownValue;
    fn from_str(text: &str) -> Result<Self, UnknownValue> {
        Self::ALL.into_iter().find(|t| t.as_str() == text).ok_or(UnknownValue)
    }
}

/// The start of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunStart {
    /// Its id.
    pub id: RunId,
    /// The `SyncJob`.
    pub job: ObjectKey,
    /// What triggered it.
    pub trigger: RunTrigger,
    /// The schedule's slot that it serves, if any.
    pub slot: Option<Timestamp>,
    /// Whether it reads without writing.
    pub dry_run: bool,
    /// Events stored with the start.
    pub events: Vec<OutboxEvent>,
    /// Start time.
    pub at: Timestamp,
}

/// Record counts of a run.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub struct RunCounts {
    /// Records read.
    pub fetched: u64,
    /// New rows.
    pub inserted: u64,
    /// Changed rows.
    pub updated: u64,
    /// Rows already stored with the same content.
    pub unchanged: u64,
    /// Dead letters, and invalid records of a rejected page.
    pub rejected: u64,
    /// Records with the ID of a later one of their page and another content: the later one was stored.
    pub conflicting: u64,
    /// Pages committed.
    pub pages: u64,
}

/// The end of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunEnd {
    /// Its id.
    pub id: RunId,
    /// The `SyncJob`.
    pub job: ObjectKey,
    /// Its result.
    pub result: RunResult,
    /// The reason, unless it succeeded.
    pub reason: Option<RunReason>,
    /// What it says about the cause; empty if there is nothing to say.
    pub failure: RunFailure,
    /// Its record counts.
    pub counts: RunCounts,
    /// How its partitions ended: their streaks are stored. Empty if none was read.
    pub partitions: Vec<PartitionEnd>,
    /// The resync that it served. Such a run counts for no streak, and not as a success: it reads an old range.
    pub resync: Option<ResyncEnd>,
    /// Events stored with the end.
    pub events: Vec<OutboxEvent>,
    /// End time.
    pub at: Timestamp,
}

/// The end of one partition in a run. One that was stopped or not read is not listed: it says nothing about the provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionEnd {
    /// Name of the partition; empty for a job without partitions.
    pub name: String,
    /// Whether it failed.
    pub failed: bool,
    /// Whether it succeeded without reading a record.
    pub empty: bool,
}

/// A partition with a streak.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionStreak {
    /// Name of the partition.
    pub name: String,
    /// Consecutive runs in which it failed.
    pub failure_streak: u32,
    /// Consecutive successful runs in which it had no record.
    pub empty_streak: u32,
}

impl PartitionStreak {
    /// The streaks after another run.
    #[must_use]
    pub fn after(&self, end: &PartitionEnd) -> Self {
        let next = |streak: u32, goes_on: bool| if goes_on { streak.saturating_add(1) } else { 0 };
        // A failed run says nothing about whether there are records.
        let empty_streak = if end.failed { self.empty_streak } else { next(self.empty_streak, end.empty) };
        Self { name: end.name.clone(), failure_streak: next(self.failure_streak, end.failed), empty_streak }
    }
}

/// A resync in which a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResyncEnd {
    /// Its ID.
    pub id: String,
    /// Whether its range was read to the end: it is never served again.
    pub done: bool,
}

/// Largest number of partitions whose streaks are read.
pub const MAX_STREAKS: u32 = 256;

/// A run as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunRecord {
    /// Its id.
    pub id: RunId,
    /// What triggered it.
    pub trigger: RunTrigger,
    /// The slot that it served.
    pub slot: Option<Timestamp>,
    /// Whether it read without writing.
    pub dry_run: bool,
    /// When it started.
    pub started: Timestamp,
    /// When it ended; `None` while it is running, or if its process died and no later run started.
    pub ended: Option<Timestamp>,
    /// Its result.
    pub result: Option<RunResult>,
    /// The reason, unless it succeeded; `None` for one that this version does not know.
    pub reason: Option<RunReason>,
    /// What it says about the cause; empty if it was recorded by an older version.
    pub failure: RunFailure,
    /// Its record counts.
    pub counts: RunCounts,
}

impl RunRecord {
    /// The same with every instant as of `now`: none is later.
    #[must_use]
    pub fn as_of(&self, now: Timestamp) -> Self {
        Self {
            slot: self.slot.map(|at| happened(at, now)),
            started: happened(self.started, now),
            ended: self.ended.map(|at| happened(at, now)),
            ..self.clone()
        }
    }

    fn is_ahead(&self, now: Timestamp) -> bool {
        [self.slot, Some(self.started), self.ended].into_iter().flatten().any(|at| is_ahead(at, now))
    }
}

/// A job's history as shown in status; survives restarts.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct JobHistory {
    /// Newest first.
    pub last: Vec<RunRecord>,
    /// Failed runs since the last successful one.
    pub failure_streak: u32,
    /// Consecutive successful runs that read no record.
    pub empty_streak: u32,
    /// End of the last successful run.
    pub last_success: Option<Timestamp>,
    /// The latest slot of the schedule that was served.
    pub last_slot: Option<Timestamp>,
    /// Each partition's cursor, ordered by name.
    pub cursors: Vec<(StreamKey, CursorState)>,
    /// The partitions with a streak, the longest failure streak first; at most [`MAX_STREAKS`].
    pub partitions: Vec<PartitionStreak>,
    /// ID of the resync that was completed last.
    pub last_resync: Option<String>,
}

impl JobHistory {
    /// Whether any instant is later than a correct clock could have written.
    pub(super) fn is_ahead(&self, now: Timestamp) -> bool {
        [self.last_success, self.last_slot].into_iter().flatten().any(|at| is_ahead(at, now))
            || self.last.iter().any(|run| run.is_ahead(now))
    }

    /// The same with every instant as of `now`: none is later.
    pub(super) fn corrected(self, now: Timestamp) -> Self {
        Self {
            last: self.last.iter().map(|run| run.as_of(now)).collect(),
            last_success: self.last_success.map(|at| happened(at, now)),
            last_slot: self.last_slot.map(|at| happened(at, now)),
            ..self
        }
    }
}
