//! The page transaction, of one page or of consecutive ones.
//!
//! Of each page fence, cursor, raw payload, rows, events, dead letters, run counters: in this order, in one transaction. If COMMIT's
//! outcome is unknown, the cursor is read back on a new connection: this writer's version and fence mean that the page
//! is committed.

use rusqlite::params;

use super::codec::{OperationName, millis, to_i64};
use super::connection::{Mode, Transaction, TransactionError};
use super::database::{SqliteLedger, read};
use super::owned_page::{FormerKey, OwnedPage};
use super::piece::{self, Piece};
use super::rows::{PageStamp, RawRefs};
use super::worker::Slot;
use super::{cursor, dead_letters, lease, raw, staging};
use crate::domain::cursor::job_name;
use crate::domain::record::DeadLetter;
use crate::ledger::error::LedgerError;
use crate::ledger::page::{CommitScope, PageCommit, PageCounts, PageOutcome};

const PAGE: OperationName = OperationName("committing a page");
const PREVIEW: OperationName = OperationName("comparing a page with the stored rows");

/// A document without an ID keeps its row when the version that derives its key changes.
const ADOPT_KEY: &str = "UPDATE OR IGNORE documents SET record_key = ?3 WHERE stream_id = ?1 AND record_key = ?2";

impl SqliteLedger {
    pub(super) async fn pages_commit(&self, pages: Vec<PageCommit<'_>>) -> Result<Vec<PageOutcome>, LedgerError> {
        let pages: Vec<OwnedPage> = pages.iter().map(OwnedPage::new).collect();
        self.write_with(PAGE, move |slot| commit(slot, &pages)).await
    }

    pub(super) async fn page_preview(&self, page: PageCommit<'_>) -> Result<PageCounts, LedgerError> {
        let page = OwnedPage::new(&page);
        self.write_with(PREVIEW, move |slot| preview(slot, &page)).await
    }
}

fn preview(slot: &mut Slot, page: &OwnedPage) -> Result<PageCounts, LedgerError> {
    let connection = slot.connection().map_err(|e| PREVIEW.failed(e))?;
    let mut counts = None;
    let ended = connection.transaction(Mode::Write, PREVIEW, |tx| {
        counts = Some(apply(tx, page)?.counts);
        // Any error rolls back.
        Err::<(), _>(LedgerError::VersionConflict { expected: page.state.version })
    });
    match (counts, ended) {
        (Some(counts), _) => Ok(counts),
        (None, ended) => ended.map(|()| PageCounts::default()).map_err(|error| error.into_error(PREVIEW)),
    }
}

fn commit(slot: &mut Slot, pages: &[OwnedPage]) -> Result<Vec<PageOutcome>, LedgerError> {
    let connection = slot.connection().map_err(|e| PAGE.failed(e))?;
    let mut applied = None;
    let ended = connection.transaction(Mode::Write, PAGE, |tx| {
        let outcomes: Vec<PageOutcome> = pages.iter().map(|page| apply(tx, page)).collect::<Result<_, _>>()?;
        applied = Some(outcomes.clone());
        Ok(outcomes)
    });
    match (ended, applied, pages.last()) {
        (Err(TransactionError::Commit(source)), Some(outcomes), Some(last)) => {
            resolve_commit(slot, last, outcomes, source)
        }
        (ended, ..) => ended.map_err(|error| error.into_error(PAGE)),
    }
}

/// Determines the outcome of a COMMIT that was not acknowledged; `last` is the last page of the transaction.
fn resolve_commit(
    slot: &mut Slot,
    last: &OwnedPage,
    outcomes: Vec<PageOutcome>,
    source: rusqlite::Error,
) -> Result<Vec<PageOutcome>, LedgerError> {
    let version = outcomes.last().map(|outcome| outcome.version);
    match read(slot, PAGE, |tx| cursor::load(tx, &last.cursor)) {
        Ok(Some((now, fence))) if Some(now.version) == version && fence == last.lease.fence => Ok(outcomes),
        Ok(_) => Err(PAGE.failed(source)),
        Err(_) => Err(LedgerError::CommitUnknown { source: source.into() }),
    }
}

fn apply(tx: &Transaction<'_>, page: &OwnedPage) -> Result<PageOutcome, LedgerError> {
    lease::assert_held(tx, &page.lease)?;
    let stream_id = cursor::ensure_stream(tx, &page.cursor.stream)?;
    // Before the rows, so that a conflict costs no row writes.
    let version = cursor::advance(tx, stream_id, page)?;
    raw::write(tx, stream_id, page)?;
    let counts = write_rows(tx, stream_id, page)?;
    for letter in &page.dead_letters {
        store_dead_letter(tx, stream_id, page, letter)?;
    }
    update_run_counters(tx, page, counts)?;
    dead_letters::settle_replay(tx, page)?;
    Ok(PageOutcome { version, counts })
}

/// Writes the page's rows, or stages them, and merges a window with its last page.
fn write_rows(tx: &Transaction<'_>, stream_id: i64, page: &OwnedPage) -> Result<PageCounts, LedgerError> {
    let stamp = PageStamp::new(stream_id, page);
    for FormerKey { former, key } in &page.former_keys {
        tx.execute(ADOPT_KEY, params![stream_id, former, key])?;
    }
    // A page without a window ends one, also one whose staging was given up with its profile's scope.
    let is_end = page.scope == CommitScope::Page && page.state.window.is_none();
    if page.scope.drops_staged() || is_end {
        staging::drop_staged(tx, stream_id, page)?;
    }
    if page.scope == CommitScope::Page {
        let raw_ref = page.raw.as_ref().map(|raw| raw.id.to_string());
        let raw_refs = page.batches.iter().map(|_| RawRefs::Page(raw_ref.as_deref())).collect();
        let (batches, removed, pending) = (&page.batches, &page.removed, page.pending.as_ref());
        return piece::write(tx, page, &stamp, &Piece { batches, raw_refs, removed, pending });
    }
    if page.scope.stages() {
        staging::stage(tx, stream_id, page)?;
    }
    if page.scope == CommitScope::Merge { staging::merge(tx, page, &stamp) } else { Ok(PageCounts::default()) }
}

fn store_dead_letter(
    tx: &Transaction<'_>,
    stream_id: i64,
    page: &OwnedPage,
    letter: &DeadLetter,
) -> Result<(), LedgerError> {
    tx.execute(
        "INSERT INTO dead_letters (stream_id, fingerprint, reason, path, sample, job, run_id, page_no, record_index,
             first_ms, last_ms, raw_ref)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?10, ?11)
         ON CONFLICT (stream_id, fingerprint) DO UPDATE SET
             seen = seen + 1, last_ms = excluded.last_ms, run_id = excluded.run_id, page_no = excluded.page_no,
             record_index = excluded.record_index, reason = excluded.reason, path = excluded.path, resolved_ms = NULL,
             raw_ref = coalesce(excluded.raw_ref, dead_letters.raw_ref)",
        params![
            stream_id,
            letter.fingerprint,
            letter.reason.as_str(),
            letter.path,
            letter.sample,
            job_name(&page.cursor.job),
            page.run.to_string(),
            letter.page_no,
            letter.index,
            millis(page.now),
            page.raw.as_ref().map(|raw| raw.id.to_string()),
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
