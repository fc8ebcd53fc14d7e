//! Rows that take effect together: those of a page, or a piece of a merged window.

use super::closing::Closed;
use super::connection::Transaction;
use super::outbox;
use super::owned_page::OwnedPage;
use super::rows::{self, PageStamp, RawRefs, Written};
use crate::domain::records::{PendingSnapshot, RemovedKey};
use crate::domain::row_batch::RowBatch;
use crate::ledger::error::LedgerError;
use crate::ledger::page::PageCounts;

/// Rows that take effect together.
#[derive(Default)]
pub(super) struct Piece<'b> {
    pub(super) batches: &'b [RowBatch],
    /// For each batch, which raw payloads its rows were read from.
    pub(super) raw_refs: Vec<RawRefs<'b>>,
    pub(super) removed: &'b [RemovedKey],
    pub(super) pending: Option<&'b PendingSnapshot>,
}

/// Writes a piece and the events of what changed, in the page's transaction.
pub(super) fn write(
    tx: &Transaction<'_>,
    page: &OwnedPage,
    stamp: &PageStamp,
    piece: &Piece<'_>,
) -> Result<PageCounts, LedgerError> {
    let (mut written, mut closed) = (Written::default(), Closed::default());
    for (batch, raw_refs) in piece.batches.iter().zip(&piece.raw_refs) {
        rows::write(tx, stamp, batch, *raw_refs, &mut written)?;
    }
    // After the rows: what is replaced or withdrawn may be among them.
    closed.supersede(tx, stamp, piece.batches)?;
    if let Some(snapshot) = piece.pending {
        closed.keep_pending(tx, stamp, snapshot)?;
    }
    closed.withdraw(tx, stamp, piece.removed)?;
    let Written { mut counts, mut changed } = written;
    counts.updated += closed.len();
    changed.extend(closed.rows());
    outbox::write_page(tx, page, &changed)?;
    Ok(counts)
}
