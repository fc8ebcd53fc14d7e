//! The page transaction, of one page or of consecutive ones.
//!
//! Of each page lock of the stream, fence, cursor, raw payload, rows, events, dead letters, run counters: in this order, in one
//! transaction. If the answer to COMMIT is lost, the cursor is read back on a new connection, after the transaction has
//! ended on the server: this writer's version and fence mean that the page is committed. It is never sent again
//! blindly.

use std::time::Duration;

use sqlx::query;

use super::codec::{millis, text, to_i64};
use super::database::PostgresLedger;
use super::failure::{OperationName, timed_out};
use super::lease::assert_held;
use super::piece::{self, Piece};
use super::rows::{PageStamp, RawRefs};
use super::transaction::{Mode, Transaction, TransactionError, settled, transaction};
use super::{cursor, dead_letters, raw, staging};
use crate::domain::cursor::job_name;
use crate::domain::document::DocumentRecord;
use crate::domain::record::DeadLetter;
use crate::domain::row_batch::RowBatch;
use crate::domain::write_fault::WriteFault;
use crate::ledger::error::{LedgerError, ServerFailure};
use crate::ledger::page::{CommitScope, PageCommit, PageCounts, PageOutcome};

const PAGE: OperationName = OperationName("committing a page");
const PREVIEW: OperationName = OperationName("comparing a page with the stored rows");
const RESOLVE: OperationName = OperationName("reading whether a page is committed");

/// How often the cursor is read back, and the pause between: a server that restarts answers within this time.
const RESOLVE_ATTEMPTS: u32 = 20;
const RESOLVE_PAUSE: Duration = Duration::from_millis(500);

/// How often a page is committed at most while the server cannot be reached: for twenty seconds.
const COMMIT_ATTEMPTS: u32 = 40;

/// Whether nothing of the page is committed, because the server could not be reached.
fn is_worth_waiting(error: &LedgerError) -> bool {
    matches!(error, LedgerError::Storage { .. }) && error.write_fault() == Some(WriteFault::Unreachable)
}

/// A page with its rows packed once, however often its transaction is repeated.
struct PackedPage<'a> {
    page: PageCommit<'a>,
    /// The rows of each kind.
    batches: Vec<RowBatch>,
}

impl<'a> PackedPage<'a> {
    fn new(page: PageCommit<'a>) -> Self {
        let mut batches = RowBatch::of_records(page.records);
        batches.extend([RowBatch::of_transactions(page.rows), RowBatch::of_documents(page.documents)]);
        batches.retain(|batch| !batch.is_empty());
        Self { page, batches }
    }
}

impl PostgresLedger {
    pub(super) async fn pages_commit(&self, pages: Vec<PageCommit<'_>>) -> Result<Vec<PageOutcome>, LedgerError> {
        let pages: Vec<PackedPage<'_>> = pages.into_iter().map(PackedPage::new).collect();
        // A server that restarts is back within seconds: a run in progress need not fail for it.
        for attempt in 1.. {
            match self.commit_once(&pages).await {
                Err(error) if attempt < COMMIT_ATTEMPTS && is_worth_waiting(&error) => {
                    tokio::time::sleep(RESOLVE_PAUSE).await;
                }
                outcome => return outcome,
            }
        }
        Err(LedgerError::server(PAGE.0, timed_out("the server did not come back in time")))
    }

    async fn commit_once(&self, pages: &[PackedPage<'_>]) -> Result<Vec<PageOutcome>, LedgerError> {
        let ended = transaction!(self, Mode::Write, PAGE, |tx| {
            let mut outcomes = Vec::with_capacity(pages.len());
            for PackedPage { page, batches } in pages {
                outcomes.push(apply(tx, page, batches).await?);
            }
            Ok(outcomes)
        });
        match (ended, pages.last()) {
            (Ok(outcomes), _) => Ok(outcomes),
            (Err(TransactionError::CommitLost { value, failure }), Some(last)) => {
                self.resolve(&last.page, value, failure).await
            }
            (Err(error), _) => Err(error.into_error(PAGE)),
        }
    }

    pub(super) async fn page_preview(&self, page: PageCommit<'_>) -> Result<PageCounts, LedgerError> {
        let PackedPage { page, batches } = PackedPage::new(page);
        let mut counts = None;
        let ended = transaction!(self, Mode::Write, PREVIEW, |tx| {
            counts = Some(apply(tx, &page, &batches).await?.counts);
            // Any error rolls back.
            Err::<(), _>(LedgerError::VersionConflict { expected: page.state.version })
        });
        match (counts, ended) {
            (Some(counts), _) => Ok(counts),
            (None, ended) => settled(self.server(), PREVIEW, ended).map(|()| PageCounts::default()),
        }
    }

    /// Determines the outcome of a COMMIT that was not acknowledged; `last` is the last page of the transaction.
    async fn resolve(
        &self,
        last: &PageCommit<'_>,
        outcomes: Vec<PageOutcome>,
        failure: ServerFailure,
    ) -> Result<Vec<PageOutcome>, LedgerError> {
        let version = outcomes.last().map(|outcome| outcome.version);
        for attempt in 1..=RESOLVE_ATTEMPTS {
            let read = transaction!(self, Mode::Latest, RESOLVE, |tx| cursor::load(tx, last.cursor).await);
            match settled(self.server(), RESOLVE, read) {
                Ok(Some((now, fence))) if Some(now.version) == version && fence == last.lease.fence => {
                    return Ok(outcomes);
                }
                Ok(_) => return Err(LedgerError::server(PAGE.0, failure)),
                Err(_) if attempt < RESOLVE_ATTEMPTS => tokio::time::sleep(RESOLVE_PAUSE).await,
                Err(_) => {}
            }
        }
        Err(LedgerError::CommitUnknown { source: failure.into() })
    }
}

async fn apply(tx: &mut Transaction, page: &PageCommit<'_>, batches: &[RowBatch]) -> Result<PageOutcome, LedgerError> {
    // First of all, so that a reader of the cursor waits for this transaction from its first effect on.
    cursor::lock_stream(tx, &page.cursor.stream).await?;
    assert_held(tx, page.lease).await?;
    let stream_id = cursor::ensure_stream(tx, &page.cursor.stream).await?;
    // Before the rows, so that a conflict costs no row writes.
    let version = cursor::advance(tx, stream_id, page).await?;
    raw::write(tx, stream_id, page).await?;
    let counts = write_rows(tx, stream_id, page, batches).await?;
    if !page.dead_letters.is_empty() {
        for letter in page.dead_letters {
            store_dead_letter(tx, stream_id, page, letter).await?;
        }
    }
    update_run_counters(tx, page, counts).await?;
    dead_letters::settle_replay(tx, page).await?;
    Ok(PageOutcome { version, counts })
}

/// Writes the page's rows, or stages them, and merges a window with its last page.
async fn write_rows(
    tx: &mut Transaction,
    stream_id: i64,
    page: &PageCommit<'_>,
    batches: &[RowBatch],
) -> Result<PageCounts, LedgerError> {
    let stamp = PageStamp::new(stream_id, page);
    for document in page.documents {
        adopt_key(tx, stream_id, document).await?;
    }
    // A page without a window ends one, also one whose staging was given up with its profile's scope.
    let is_end = page.scope == CommitScope::Page && page.state.window.is_none();
    if page.scope.drops_staged() || is_end {
        staging::drop_staged(tx, stream_id, page).await?;
    }
    if page.scope == CommitScope::Page {
        let raw_ref = page.raw.map(|raw| raw.id.to_string());
        let raw_refs = batches.iter().map(|_| RawRefs::Page(raw_ref.as_deref())).collect();
        let piece = Piece { batches, raw_refs, removed: page.removed, pending: page.pending };
        return piece::write(tx, page, &stamp, &piece).await;
    }
    if page.scope.stages() {
        staging::stage(tx, stream_id, page, batches).await?;
    }
    if page.scope == CommitScope::Merge { staging::merge(tx, page, &stamp).await } else { Ok(PageCounts::default()) }
}

/// A document without an ID keeps its row when the version that derives its key changes.
async fn adopt_key(tx: &mut Transaction, stream_id: i64, document: &DocumentRecord) -> Result<(), LedgerError> {
    let Some(former) = document.former_derived_key() else { return Ok(()) };
    let statement = query(
        "UPDATE documents SET record_key = $3 WHERE stream_id = $1 AND record_key = $2
         AND NOT EXISTS (SELECT 1 FROM documents WHERE stream_id = $1 AND record_key = $3)",
    );
    tx.execute(statement.bind(stream_id).bind(former).bind(&document.key)).await.map(drop)
}

async fn store_dead_letter(
    tx: &mut Transaction,
    stream_id: i64,
    page: &PageCommit<'_>,
    letter: &DeadLetter,
) -> Result<(), LedgerError> {
    let statement = query(
        "INSERT INTO dead_letters (stream_id, fingerprint, reason, path, sample, job, run_id, page_no, record_index,
             first_ms, last_ms, raw_ref)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10, $11)
         ON CONFLICT (stream_id, fingerprint) DO UPDATE SET
             seen = dead_letters.seen + 1, last_ms = excluded.last_ms, run_id = excluded.run_id,
             page_no = excluded.page_no, record_index = excluded.record_index, reason = excluded.reason,
             path = excluded.path, resolved_ms = NULL, raw_ref = coalesce(excluded.raw_ref, dead_letters.raw_ref)",
    )
    .bind(stream_id)
    .bind(&letter.fingerprint)
    .bind(letter.reason.as_str())
    .bind(text(&letter.path))
    .bind(text(&letter.sample))
    .bind(job_name(&page.cursor.job))
    .bind(page.run.to_string())
    .bind(i64::from(letter.page_no))
    .bind(i64::from(letter.index))
    .bind(millis(page.now))
    .bind(page.raw.map(|raw| raw.id.to_string()));
    tx.execute(statement).await.map(drop)
}

async fn update_run_counters(
    tx: &mut Transaction,
    page: &PageCommit<'_>,
    counts: PageCounts,
) -> Result<(), LedgerError> {
    let statement = query(
        "UPDATE sync_runs SET fetched = fetched + $2, inserted = inserted + $3, updated = updated + $4,
             unchanged = unchanged + $5, rejected = rejected + $6, pages = pages + $7, conflicting = conflicting + $8
         WHERE run_id = $1 AND ended_ms IS NULL",
    )
    .bind(page.run.to_string())
    .bind(to_i64(page.fetched))
    .bind(to_i64(counts.inserted))
    .bind(to_i64(counts.updated))
    .bind(to_i64(counts.unchanged))
    .bind(to_i64(page.dead_letters.len() as u64))
    .bind(to_i64(page.pages))
    .bind(to_i64(page.conflicting));
    tx.execute(statement).await.map(drop)
}
