//! The state of a job, for its status.

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::state::{ActiveRun, ResyncAttempts, RunOutcome};
use crate::domain::clock_skew::{happened, is_ahead};
use crate::domain::hash::short_hex;
use crate::domain::time::Now;
use crate::ledger::{CursorState, JobHistory, PartitionStreak, RunRecord};

/// Characters of the cursor preview, the width of the status column.
const PREVIEW_LEN: usize = 64;

/// A job's active run, from memory, and its history, from the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct JobView {
    /// The active run.
    pub active: Option<ActiveRun>,
    /// The last run of this process, recorded in the ledger or not.
    pub last_outcome: Option<RunOutcome>,
    /// The last runs, newest first. One that has no end and is not active was interrupted.
    pub last: Vec<RunRecord>,
    /// Failed runs since the last successful one.
    pub failure_streak: u32,
    /// Consecutive successful runs that read nothing.
    pub empty_streak: u32,
    /// End of the last successful run.
    pub last_success: Option<Timestamp>,
    /// The latest slot of the schedule that was served.
    pub last_slot: Option<Timestamp>,
    /// The cursor's position, in at most 64 characters.
    pub cursor_preview: Option<String>,
    /// Partitions with a cursor.
    pub partitions: u32,
    /// The partitions with a streak, the longest failure streak first.
    pub streaks: Vec<PartitionStreak>,
    /// ID of the resync that was completed last.
    pub last_resync: Option<String>,
    /// The attempts of a resync that is not done, as this process knows them.
    pub resync: Option<ResyncAttempts>,
}

/// What this process knows of a job's runs, from memory.
#[derive(Default)]
pub(super) struct KnownRuns {
    pub(super) active: Option<ActiveRun>,
    pub(super) last_outcome: Option<RunOutcome>,
    pub(super) resync: Option<ResyncAttempts>,
}

impl JobView {
    pub(super) fn new(known: KnownRuns, history: JobHistory) -> Self {
        let KnownRuns { active, last_outcome, resync } = known;
        Self {
            active,
            last_outcome,
            resync,
            cursor_preview: preview(&history),
            streaks: history.partitions,
            last_resync: history.last_resync,
            partitions: u32::try_from(history.cursors.len()).unwrap_or(u32::MAX),
            last: history.last,
            failure_streak: history.failure_streak,
            empty_streak: history.empty_streak,
            last_success: history.last_success,
            last_slot: history.last_slot,
        }
    }

    /// The longest failure streak of a partition. Of a job with one partition, and of one whose partitions an older version
    /// did not count, that of the job.
    pub fn worst_failure_streak(&self, partitions: usize) -> u32 {
        let worst = self.streaks.iter().map(|streak| streak.failure_streak).max();
        worst.filter(|_| partitions > 1).unwrap_or(self.failure_streak)
    }

    /// The longest empty streak of a partition, or that of the job as above.
    pub fn worst_empty_streak(&self, partitions: usize) -> u32 {
        let worst = self.streaks.iter().map(|streak| streak.empty_streak).max();
        worst.filter(|_| partitions > 1).unwrap_or(self.empty_streak)
    }

    /// The same with every instant as of `now`: none is later.
    #[must_use]
    pub fn as_of(&self, now: Now) -> Self {
        let mut view = self.clone();
        view.last_success = view.last_success.map(|at| happened(at, now.wall));
        view.last_slot = view.last_slot.map(|at| happened(at, now.wall));
        view.last.iter_mut().for_each(|run| *run = run.as_of(now.wall));
        if let Some(active) = view.active.as_mut().filter(|active| is_ahead(active.since, now.wall)) {
            active.since = now.wall_at(active.since_mono);
        }
        view
    }
}

/// The cursor that lags furthest, and the number of cursors. Cursors of one job sort as text.
fn preview(history: &JobHistory) -> Option<String> {
    let laggard = history.cursors.iter().map(|(_, state)| state).min_by_key(|state| state.committed_hwm.clone())?;
    let position = position(laggard)?;
    let text = match history.cursors.len() {
        1 => position,
        more => format!("{position} ({more} partitions)"),
    };
    Some(text.chars().take(PREVIEW_LEN).collect())
}

/// The committed high-water mark; before the first, the progress of the open window.
fn position(state: &CursorState) -> Option<String> {
    match (&state.committed_hwm, &state.window) {
        (Some(mark), _) if mark.starts_with(|c: char| c.is_ascii_digit()) && mark.contains('-') => Some(mark.clone()),
        // A token of the provider says nothing to a reader, and may hold what it likes: which one it is.
        (Some(token), _) => Some(format!("token {}", short_hex(Sha256::new().chain_update(token)))),
        (None, Some(window)) => Some(format!("{}..{} page {}", window.from, window.to, window.page_no)),
        (None, None) => None,
    }
}
