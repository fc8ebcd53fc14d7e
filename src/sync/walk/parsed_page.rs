//! A page after parsing: rows, documents and dead letters, ready to commit.

use crate::ledger::{DeadLetter, DocumentRecord, TransactionRecord};

/// One parsed page. The default is an empty commit that only updates the cursor.
#[derive(Default)]
pub(super) struct ParsedPage {
    pub(super) rows: Vec<TransactionRecord>,
    pub(super) documents: Vec<DocumentRecord>,
    pub(super) dead_letters: Vec<DeadLetter>,
    /// 1 for a page that was fetched.
    pub(super) pages: u64,
    pub(super) fetched: u64,
    pub(super) duplicates: u64,
    pub(super) next: Option<String>,
    pub(super) total: Option<u64>,
}
