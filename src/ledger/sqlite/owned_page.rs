//! A page on its way to the writer's thread.

use std::sync::Arc;

use jiff::Timestamp;

use crate::domain::cursor::{CursorKey, CursorState};
use crate::domain::document::DocumentRecord;
use crate::domain::event::PageEvents;
use crate::domain::record::DeadLetter;
use crate::domain::records::{PendingSnapshot, RemovedKey};
use crate::domain::row_batch::RowBatch;
use crate::ledger::lease::Lease;
use crate::ledger::page::{CommitScope, PageCommit};
use crate::ledger::raw::{RawPayload, ReplayedLetters};
use crate::ledger::runs::RunId;

/// A page on its way to the writer's thread: it outlives the caller, who may go meanwhile. Its rows are packed and
/// their hashes computed before, on the caller's thread, because there is only one writer.
pub(super) struct OwnedPage {
    pub(super) cursor: CursorKey,
    pub(super) lease: Lease,
    pub(super) run: RunId,
    pub(super) state: CursorState,
    /// The rows of each kind.
    pub(super) batches: Vec<RowBatch>,
    pub(super) former_keys: Vec<FormerKey>,
    pub(super) removed: Vec<RemovedKey>,
    pub(super) pending: Option<PendingSnapshot>,
    pub(super) scope: CommitScope,
    pub(super) dead_letters: Vec<DeadLetter>,
    pub(super) raw: Option<RawPayload>,
    pub(super) events: Option<Arc<dyn PageEvents>>,
    pub(super) replayed: Option<ReplayedLetters>,
    pub(super) fetched: u64,
    pub(super) conflicting: u64,
    pub(super) pages: u64,
    pub(super) now: Timestamp,
}

/// The key of a document, and the one that versions before this one derived for it.
pub(super) struct FormerKey {
    pub(super) former: String,
    pub(super) key: String,
}

impl FormerKey {
    fn of(document: &DocumentRecord) -> Option<Self> {
        document.former_derived_key().map(|former| Self { former, key: document.key.clone() })
    }
}

impl OwnedPage {
    pub(super) fn new(page: &PageCommit<'_>) -> Self {
        let mut batches = RowBatch::of_records(page.records);
        batches.extend([RowBatch::of_transactions(page.rows), RowBatch::of_documents(page.documents)]);
        batches.retain(|batch| !batch.is_empty());
        Self {
            cursor: page.cursor.clone(),
            lease: page.lease.clone(),
            run: page.run,
            state: page.state.clone(),
            batches,
            former_keys: page.documents.iter().filter_map(FormerKey::of).collect(),
            removed: page.removed.to_vec(),
            pending: page.pending.cloned(),
            scope: page.scope,
            dead_letters: page.dead_letters.to_vec(),
            raw: page.raw.cloned(),
            events: page.events.cloned(),
            replayed: page.replayed.cloned(),
            fetched: page.fetched,
            conflicting: page.conflicting,
            pages: page.pages,
            now: page.now,
        }
    }
}
