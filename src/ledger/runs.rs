//! Runs as history: what triggered one, how it ended, what it moved.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use uuid::Uuid;

use super::state::{CursorState, StreamKey};
use crate::domain::key::ObjectKey;

/// A run's correlation id: in the run's row, in the rows it changed, in its log lines and requests.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunId(pub Uuid);

impl RunId {
    /// The id of the run that answers `request` on the object with this UID: the same each time it is asked for.
    pub fn of_request(uid: &str, request: &str) -> Self {
        Self(Uuid::new_v5(&Uuid::parse_str(uid).unwrap_or_default(), request.as_bytes()))
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A stored word that this program does not know.
#[derive(Debug, thiserror::Error)]
#[error("unknown word in the ledger")]
pub struct UnknownWord;

/// What made a run start.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum RunTrigger {
    /// The job's schedule or interval.
    Schedule,
    /// The time after a failure.
    Retry,
    /// Somebody asked for it.
    Manual,
    /// A slot that was missed while nobody could run it.
    CatchUp,
}

impl RunTrigger {
    /// All values.
    pub const ALL: [Self; 4] = [Self::Schedule, Self::Retry, Self::Manual, Self::CatchUp];

    /// The word in status and in the ledger.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Schedule => "Schedule",
            Self::Retry => "Retry",
            Self::Manual => "Manual",
            Self::CatchUp => "CatchUp",
        }
    }
}

/// How a run ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum RunResult {
    /// Every window was walked to its end.
    Succeeded,
    /// A cap was reached; the next run goes on from here.
    Incomplete,
    /// Something went wrong; what was committed stands.
    Failed,
    /// Stopped on request, between two pages.
    Cancelled,
    /// Another process is running the job.
    Skipped,
    /// The process ended before the run did.
    Interrupted,
}

impl RunResult {
    /// All values.
    pub const ALL: [Self; 6] =
        [Self::Succeeded, Self::Incomplete, Self::Failed, Self::Cancelled, Self::Skipped, Self::Interrupted];

    /// The word in status, metrics and in the ledger.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "Succeeded",
            Self::Incomplete => "Incomplete",
            Self::Failed => "Failed",
            Self::Cancelled => "Cancelled",
            Self::Skipped => "Skipped",
            Self::Interrupted => "Interrupted",
        }
    }
}

impl FromStr for RunTrigger {
    type Err = UnknownWord;
    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        Self::ALL.into_iter().find(|t| t.as_str() == word).ok_or(UnknownWord)
    }
}

impl FromStr for RunResult {
    type Err = UnknownWord;
    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        Self::ALL.into_iter().find(|r| r.as_str() == word).ok_or(UnknownWord)
    }
}

/// A run that begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunStart {
    /// Its id.
    pub id: RunId,
    /// The `SyncJob`.
    pub job: ObjectKey,
    /// What made it start.
    pub trigger: RunTrigger,
    /// The slot of the schedule that it serves, if one.
    pub slot: Option<Timestamp>,
    /// Whether it only looks.
    pub dry_run: bool,
    /// When.
    pub at: Timestamp,
}

/// What a run moved.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub struct RunCounts {
    /// Records read.
    pub fetched: u64,
    /// New rows.
    pub inserted: u64,
    /// Changed rows.
    pub updated: u64,
    /// Rows that were there already, the same.
    pub unchanged: u64,
    /// Records kept aside, or refused with their page.
    pub rejected: u64,
    /// Pages committed.
    pub pages: u64,
}

/// A run that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunEnd {
    /// Its id.
    pub id: RunId,
    /// The `SyncJob`.
    pub job: ObjectKey,
    /// How.
    pub result: RunResult,
    /// A closed word that says why, unless it succeeded.
    pub reason: Option<&'static str>,
    /// What it moved.
    pub counts: RunCounts,
    /// When.
    pub at: Timestamp,
}

/// A run as remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunRecord {
    /// Its id.
    pub id: RunId,
    /// What made it start.
    pub trigger: RunTrigger,
    /// The slot that it served.
    pub slot: Option<Timestamp>,
    /// Whether it only looked.
    pub dry_run: bool,
    /// When it started.
    pub started: Timestamp,
    /// When it ended; `None` while it goes on, or if its process died and no run came after.
    pub ended: Option<Timestamp>,
    /// How it ended.
    pub result: Option<RunResult>,
    /// Why.
    pub reason: Option<String>,
    /// What it moved.
    pub counts: RunCounts,
}

/// All that status shows of a job's past; right after a restart too.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct JobHistory {
    /// Newest first.
    pub last: Vec<RunRecord>,
    /// Failed runs since the last good one.
    pub failure_streak: u32,
    /// Good runs in a row that read nothing.
    pub empty_streak: u32,
    /// End of the last good run.
    pub last_success: Option<Timestamp>,
    /// The latest slot of the schedule that was served.
    pub last_slot: Option<Timestamp>,
    /// Each partition's cursor, by name.
    pub cursors: Vec<(StreamKey, CursorState)>,
}
