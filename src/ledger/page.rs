//! The page transaction's input and result.

use std::ops::AddAssign;
use std::sync::Arc;

use jiff::Timestamp;

use super::lease::Lease;
use super::raw::{RawPayload, ReplayedLetters};
use super::runs::RunId;
use crate::domain::cursor::{CursorKey, CursorState};
use crate::domain::document::DocumentRecord;
use crate::domain::event::PageEvents;
use crate::domain::record::{DeadLetter, TransactionRecord};
use crate::domain::records::{CanonicalRecord, PendingSnapshot, RemovedKey};

/// When what a page holds takes effect.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub enum CommitScope {
    /// With its own commit.
    #[default]
    Page,
    /// With the window's last page. The first page of a walk: what an earlier walk of the window staged is dropped.
    StageFirst,
    /// With the window's last page.
    StageNext,
    /// The window's last page: all its pages take effect.
    Merge,
    /// Nothing takes effect: what the window staged is dropped.
    Discard,
}

impl CommitScope {
    /// Whether the page's rows are staged.
    pub const fn stages(self) -> bool {
        matches!(self, Self::StageFirst | Self::StageNext | Self::Merge)
    }

    /// Whether what was staged before is dropped.
    pub const fn drops_staged(self) -> bool {
        matches!(self, Self::StageFirst | Self::Discard)
    }
}

/// Everything that one page transaction writes.
#[derive(Clone, Debug)]
pub struct PageCommit<'a> {
    /// The cursor to advance.
    pub cursor: &'a CursorKey,
    /// The writer's lease.
    pub lease: &'a Lease,
    /// The run that the page belongs to; its counters are updated with the page.
    pub run: RunId,
    /// The new state; its `version` is the one the writer loaded.
    pub state: &'a CursorState,
    /// Rows, unique by account and key.
    pub rows: &'a [TransactionRecord],
    /// Documents, unique by key.
    pub documents: &'a [DocumentRecord],
    /// Records of the other kinds, unique by kind, account and key.
    pub records: &'a [CanonicalRecord],
    /// What the provider withdrew: transactions become superseded, other records are marked as deleted.
    pub removed: &'a [RemovedKey],
    /// All pending transactions of an account: others that are stored as pending become superseded.
    pub pending: Option<&'a PendingSnapshot>,
    /// When all this takes effect. Dead letters and raw payloads are stored with their page in any case.
    pub scope: CommitScope,
    /// Rejected records.
    pub dead_letters: &'a [DeadLetter],
    /// The body that the page was read from, if it is stored: `raw_ref` of its rows and dead letters.
    pub raw: Option<&'a RawPayload>,
    /// Makes the events of the rows that the transaction changes.
    pub events: Option<&'a Arc<dyn PageEvents>>,
    /// The dead letters that the rows were replayed from.
    pub replayed: Option<&'a ReplayedLetters>,
    /// Records in the page, including duplicates and rejected ones.
    pub fetched: u64,
    /// Records of the page that were dropped for a later one with the same ID and another content.
    pub conflicting: u64,
    /// Pages committed by this transaction: 1, or 0 if it only updates the cursor.
    pub pages: u64,
    /// Wall time, written to the rows.
    pub now: Timestamp,
}

/// Rows changed by a page.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub struct PageCounts {
    /// New rows.
    pub inserted: u64,
    /// Rows whose content changed, and those that were superseded or marked as deleted.
    pub updated: u64,
    /// Rows already stored with the same content.
    pub unchanged: u64,
}

impl AddAssign for PageCounts {
    fn add_assign(&mut self, more: Self) {
        self.inserted += more.inserted;
        self.updated += more.updated;
        self.unchanged += more.unchanged;
    }
}

/// A committed page.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct PageOutcome {
    /// The cursor's new version.
    pub version: i64,
    /// Rows changed.
    pub counts: PageCounts,
}
