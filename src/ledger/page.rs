//! The page transaction's input and result.

use std::ops::AddAssign;

use jiff::Timestamp;

use super::lease::Lease;
use super::runs::RunId;
use crate::domain::cursor::{CursorKey, CursorState};
use crate::domain::document::DocumentRecord;
use crate::domain::record::{DeadLetter, TransactionRecord};

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
    /// Rejected records.
    pub dead_letters: &'a [DeadLetter],
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
    /// Rows whose content changed.
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
