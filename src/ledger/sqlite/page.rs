//! The page transaction.
//!
//! Fence, cursor, rows, dead letters, run counters: in this order, in one transaction. If COMMIT's outcome is unknown,
//! the cursor is read back: this writer's version and fence mean that the page is committed.

use sqlx::sqlite::SqliteConnection;

use super::codec::{OperationName, millis, to_i64};
use super::database::SqliteLedger;
use super::{cursor, documents, lease, upsert};
use crate::domain::record::DeadLetter;
use crate::ledger::error::LedgerError;
use crate::ledger::page::{PageCommit, PageCounts, PageOutcome};

const PAGE: OperationName = OperationName("committing a page");
const DEAD: OperationName = OperationName("storing a dead letter");
const COUNT: OperationName = OperationName("updating a run's counters");

impl SqliteLedger {
    pub(super) async fn page_commit(&self, page: PageCommit<'_>) -> Result<PageOutcome, LedgerError> {
        let mut tx = self.begin(PAGE).await?;
        let outcome = match apply(&mut tx, &page).await {
            Ok(outcome) => outcome,
            Err(error) => {
                tx.rollback().await.ok();
                return Err(error);
            }
        };
        match tx.commit().await {
            Ok(()) => Ok(outcome),
            Err(source) => self.resolve_commit(&page, outcome, source).await,
        }
    }

    /// Determines the outcome of a COMMIT that was not acknowledged.
    pub(super) async fn resolve_commit(
        &self,
        page: &PageCommit<'_>,
        outcome: PageOutcome,
        source: sqlx::Error,
    ) -> Result<PageOutcome, LedgerError> {
        let Ok(mut conn) = self.writer.acquire().await else {
            return Err(LedgerError::CommitUnknown { source: source.into() });
        };
        match cursor::load(&mut conn, page.cursor).await {
            Ok(Some((now, fence))) if now.version == outcome.version && fence == page.lease.fence => Ok(outcome),
            Ok(_) => Err(PAGE.failed(source)),
            Err(_) => Err(LedgerError::CommitUnknown { source: source.into() }),
        }
    }
}

async fn apply(conn: &mut SqliteConnection, page: &PageCommit<'_>) -> Result<PageOutcome, LedgerError> {
    lease::assert_held(conn, page.lease).await?;
    let stream_id = cursor::ensure_stream(conn, &page.cursor.stream).await?;
    // Before the rows, so that a conflict costs no row writes.
    let version = cursor::advance(conn, stream_id, page).await?;
    let mut counts = upsert::rows(conn, stream_id, page).await?;
    counts += documents::rows(conn, stream_id, page).await?;
    for letter in page.dead_letters {
        store_dead_letter(conn, stream_id, page, letter).await?;
    }
    update_run_counters(conn, page, counts).await?;
    Ok(PageOutcome { version, counts })
}

async fn store_dead_letter(
    conn: &mut SqliteConnection,
    stream_id: i64,
    page: &PageCommit<'_>,
    letter: &DeadLetter,
) -> Result<(), LedgerError> {
    sqlx::query(
        "INSERT INTO dead_letters (stream_id, fingerprint, reason, path, sample, job, run_id, page_no, record_index,
             first_ms, last_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?10)
         ON CONFLICT (stream_id, fingerprint) DO UPDATE SET
             seen = seen + 1, last_ms = excluded.last_ms, run_id = excluded.run_id, page_no = excluded.page_no,
             record_index = excluded.record_index, reason = excluded.reason, path = excluded.path, resolved_ms = NULL",
    )
    .bind(stream_id)
    .bind(&letter.fingerprint)
    .bind(letter.reason.as_str())
    .bind(&letter.path)
    .bind(&letter.sample)
    .bind(&page.cursor.job)
    .bind(page.run.to_string())
    .bind(letter.page_no)
    .bind(letter.index)
    .bind(millis(page.now))
    .execute(conn)
    .await
    .map_err(|e| DEAD.failed(e))?;
    Ok(())
}

async fn update_run_counters(
    conn: &mut SqliteConnection,
    page: &PageCommit<'_>,
    counts: PageCounts,
) -> Result<(), LedgerError> {
    sqlx::query(
        "UPDATE sync_runs SET fetched = fetched + ?2, inserted = inserted + ?3, updated = updated + ?4,
             unchanged = unchanged + ?5, rejected = rejected + ?6, pages = pages + ?7
         WHERE run_id = ?1 AND ended_ms IS NULL",
    )
    .bind(page.run.to_string())
    .bind(to_i64(page.fetched))
    .bind(to_i64(counts.inserted))
    .bind(to_i64(counts.updated))
    .bind(to_i64(counts.unchanged))
    .bind(to_i64(page.dead_letters.len() as u64))
    .bind(to_i64(page.pages))
    .execute(conn)
    .await
    .map_err(|e| COUNT.failed(e))?;
    Ok(())
}
