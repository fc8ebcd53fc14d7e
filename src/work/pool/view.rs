//! What a status shows of a job.

use jiff::Timestamp;

use super::{ActiveRun, Outcome};
use crate::ledger::{CursorState, JobHistory, RunRecord};

/// The status column's width.
const PREVIEW: usize = 64;

/// A job as it is: from memory what runs, from the ledger what was.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct JobView {
    /// The run under way.
    pub active: Option<ActiveRun>,
    /// The last run of this process, recorded or not.
    pub last_outcome: Option<Outcome>,
    /// The last runs, newest first. One that never ended and is not under way was interrupted.
    pub last: Vec<RunRecord>,
    /// Failed runs since the last good one.
    pub failure_streak: u32,
    /// Good runs in a row that read nothing.
    pub empty_streak: u32,
    /// End of the last good run.
    pub last_success: Option<Timestamp>,
    /// The latest slot of the schedule that was served.
    pub last_slot: Option<Timestamp>,
    /// Where the cursor stands, in at most 64 characters.
    pub cursor_preview: Option<String>,
    /// Partitions with a cursor.
    pub partitions: u32,
}

impl JobView {
    pub(super) fn new(active: Option<ActiveRun>, last_outcome: Option<Outcome>, history: JobHistory) -> Self {
        Self {
            active,
            last_outcome,
            cursor_preview: preview(&history),
            partitions: u32::try_from(history.cursors.len()).unwrap_or(u32::MAX),
            last: history.last,
            failure_streak: history.failure_streak,
            empty_streak: history.empty_streak,
            last_success: history.last_success,
            last_slot: history.last_slot,
        }
    }
}

/// The cursor that lags furthest, and how many there are. Cursors of one job sort as text.
fn preview(history: &JobHistory) -> Option<String> {
    let laggard = history.cursors.iter().map(|(_, state)| state).min_by_key(|state| state.committed_hwm.clone())?;
    let one = one(laggard)?;
    let text = match history.cursors.len() {
        1 => one,
        more => format!("{one} ({more} partitions)"),
    };
    Some(text.chars().take(PREVIEW).collect())
}

/// The mark up to which all is in; before the first, how far the open window has come.
fn one(state: &CursorState) -> Option<String> {
    match (&state.committed_hwm, &state.window) {
        (Some(mark), _) => Some(mark.clone()),
        (None, Some(window)) => Some(format!("{}..{} page {}", window.from, window.to, window.page_no)),
        (None, None) => None,
    }
}
