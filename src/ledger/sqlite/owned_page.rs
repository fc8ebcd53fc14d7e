//! A page on its way to the writer's thread.

use jiff::Timestamp;

use crate::domain::cursor::{CursorKey, CursorState};
use crate::domain::document::DocumentRecord;
use crate::domain::record::{DeadLetter, TransactionRecord};
use crate::ledger::lease::Lease;
use crate::ledger::page::PageCommit;
use crate::ledger::runs::RunId;

/// A page on its way to the writer's thread: it outlives the caller, who may go meanwhile. Hashes are computed before,
/// on the caller's thread, because there is only one writer.
pub(super) struct OwnedPage {
    pub(super) cursor: CursorKey,
    pub(super) lease: Lease,
    pub(super) run: RunId,
    pub(super) state: CursorState,
    pub(super) rows: Vec<Hashed<TransactionRecord>>,
    pub(super) documents: Vec<OwnedDocument>,
    pub(super) dead_letters: Vec<DeadLetter>,
    pub(super) fetched: u64,
    pub(super) conflicting: u64,
    pub(super) pages: u64,
    pub(super) now: Timestamp,
}

/// A record with the hash of its content.
pub(super) struct Hashed<R> {
    pub(super) record: R,
    pub(super) hash: [u8; 32],
}

/// A document with what identifies its content and itself, as this version and those before it know them.
pub(super) struct OwnedDocument {
    pub(super) record: DocumentRecord,
    pub(super) hash: [u8; 32],
    /// The hash that versions before this one stored.
    pub(super) former_hash: [u8; 32],
    /// The key that versions before this one derived, if it differs.
    pub(super) former_key: Option<String>,
}

impl OwnedDocument {
    fn new(record: &DocumentRecord) -> Self {
        Self {
            hash: record.content_hash(),
            former_hash: record.spelled_hash(),
            former_key: record.former_derived_key(),
            record: record.clone(),
        }
    }
}

impl OwnedPage {
    pub(super) fn new(page: &PageCommit<'_>) -> Self {
        Self {
            cursor: page.cursor.clone(),
            lease: page.lease.clone(),
            run: page.run,
            state: page.state.clone(),
            rows: page.rows.iter().map(|row| Hashed { record: row.clone(), hash: row.content_hash() }).collect(),
            documents: page.documents.iter().map(OwnedDocument::new).collect(),
            dead_letters: page.dead_letters.to_vec(),
            fetched: page.fetched,
            conflicting: page.conflicting,
            pages: page.pages,
            now: page.now,
        }
    }
}
