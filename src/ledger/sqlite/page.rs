//! The page transaction.
//!
//! Fence, cursor, rows, dead letters, run counters: in this order, in one transaction. If COMMIT's outcome is unknown,
//! the cursor is read back on a new connection: this writer's version and fence mean that the page is committed.

use rusqlite::params;

use super::codec::{OperationName, millis, to_i64};
use super::connection::{Mode, Transaction, TransactionError};
use super::database::{SqliteLedger, read};
use super::owned_page::OwnedPage;
use super::worker::Slot;
use super::{cursor, documents, lease, upsert};
use crate::domain::record::DeadLetter;
use crate::ledger::error::LedgerError;
use crate::ledger::page::{PageCommit, PageCounts, PageOutcome};

const PAGE: OperationName = OperationName("committing a page");

impl SqliteLedger {
    pub(super) async fn page_commit(&self, page: PageCommit<'_>) -> Result<PageOutcome, LedgerError> {
        let page = OwnedPage::new(&page);
        self.write_with(PAGE, move |slot| commit(slot, &page)).await
    }
}

fn commit(slot: &mut Slot, page: &OwnedPage) -> Result<PageOutcome, LedgerError> {
    let connection = slot.connection().map_err(|e| PAGE.failed(e))?;
    let mut applied = None;
    let ended = connection.transaction(Mode::Write, PAGE, |tx| {
        let outcome = apply(tx, page)?;
        applied = Some(outcome);
        Ok(outcome)
    });
    match (ended, applied) {
        (Err(TransactionError::Commit(source)), Some(outcome)) => resolve_commit(slot, page, outcome, source),
        (ended, _) => ended.map_err(|error| error.into_error(PAGE)),
    }
}

/// Determines the outcome of a COMMIT that was not acknowledged.
fn resolve_commit(
    slot: &mut Slot,
    page: &OwnedPage,
    outcome: PageOutcome,
    source: rusqlite::Error,
) -> Result<PageOutcome, LedgerError> {
    match read(slot, PAGE, |tx| cursor::load(tx, &page.cursor)) {
        Ok(Some((now, fence))) if now.version == outcome.version && fence == page.lease.fence => Ok(outcome),
        Ok(_) => Err(PAGE.failed(source)),
        Err(_) => Err(LedgerError::CommitUnknown { source: source.into() }),
    }
}

fn apply(tx: &Transaction<'_>, page: &OwnedPage) -> Result<PageOutcome, LedgerError> {
    lease::assert_held(tx, &page.lease)?;
    let stream_id = cursor::ensure_stream(tx, &page.cursor.stream)?;
    // Before the rows, so that a conflict costs no row writes.
    let version = cursor::advance(tx, stream_id, page)?;
    let mut counts = upsert::rows(tx, stream_id, page)?;
    counts += documents::rows(tx, stream_id, page)?;
    for letter in &page.dead_letters {
        store_dead_letter(tx, stream_id, page, letter)?;
    }
    update_run_counters(tx, page, counts)?;
    Ok(PageOutcome { version, counts })
}

fn store_dead_letter(
    tx: &Transaction<'_>,
    stream_id: i64,
    page: &OwnedPage,
    letter: &DeadLetter,
) -> Result<(), LedgerError> {
    tx.execute(
        "INSERT INTO dead_letters (stream_id, fingerprint, reason, path, sample, job, run_id, page_no, record_index,
             first_ms, last_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?10)
         ON CONFLICT (stream_id, fingerprint) DO UPDATE SET
             seen = seen + 1, last_ms = excluded.last_ms, run_id = excluded.run_id, page_no = excluded.page_no,
             record_index = excluded.record_index, reason = excluded.reason, path = excluded.path, resolved_ms = NULL",
        params![
            stream_id,
            letter.fingerprint,
            letter.reason.as_str(),
            letter.path,
            letter.sample,
            page.cursor.job,
            page.run.to_string(),
            letter.page_no,
            letter.index,
            millis(page.now),
        ],
    )?;
    Ok(())
}

fn update_run_counters(tx: &Transaction<'_>, page: &OwnedPage, counts: PageCounts) -> Result<(), LedgerError> {
    tx.execute(
        "UPDATE sync_runs SET fetched = fetched + ?2, inserted = inserted + ?3, updated = updated + ?4,
             unchanged = unchanged + ?5, rejected = rejected + ?6, pages = pages + ?7, conflicting = conflicting + ?8
         WHERE run_id = ?1 AND ended_ms IS NULL",
        params![
            page.run.to_string(),
            to_i64(page.fetched),
            to_i64(counts.inserted),
            to_i64(counts.updated),
            to_i64(counts.unchanged),
            to_i64(page.dead_letters.len() as u64),
            to_i64(page.pages),
            to_i64(page.conflicting),
        ],
    )?;
    Ok(())
}
