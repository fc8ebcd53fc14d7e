//! The page transaction.
//!
//! Fence, rows, dead letters, run counters, cursor: in this order, in one transaction. If COMMIT's outcome is not
//! known, the state is read again: a version and fence that are ours mean that the page is in.

use sqlx::sqlite::SqliteConnection;

use super::codec::{Step, millis, signed};
use super::{SqliteLedger, documents, lease, state, upsert};
use crate::ledger::{DeadLetter, LedgerError, PageCommit, PageCounts, PageOutcome};

const PAGE: Step = Step("committing a page");
const DEAD: Step = Step("keeping a dead letter");
const COUNT: Step = Step("counting a run's rows");

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
            Err(source) => self.find_out(&page, outcome, source).await,
        }
    }

    /// After a COMMIT that was not acknowledged.
    pub(super) async fn find_out(
        &self,
        page: &PageCommit<'_>,
        outcome: PageOutcome,
        source: sqlx::Error,
    ) -> Result<PageOutcome, LedgerError> {
        let Ok(mut conn) = self.writer.acquire().await else { return Err(LedgerError::CommitUnknown { source }) };
        match state::load(&mut conn, page.job).await {
            Ok(Some((now, fence))) if now.version == outcome.version && fence == page.lease.fence => Ok(outcome),
            Ok(_) => Err(PAGE.failed(source)),
            Err(_) => Err(LedgerError::CommitUnknown { source }),
        }
    }
}

async fn apply(conn: &mut SqliteConnection, page: &PageCommit<'_>) -> Result<PageOutcome, LedgerError> {
    lease::assert_held(conn, page.lease).await?;
    let stream_id = state::ensure_stream(conn, &page.job.stream).await?;
    // Before the rows: a writer that is too late should not work for nothing.
    let version = state::advance(conn, stream_id, page).await?;
    let (rows, documents) = (upsert::rows(conn, stream_id, page).await?, documents::rows(conn, stream_id, page).await?);
    let counts = PageCounts {
        inserted: rows.inserted + documents.inserted,
        updated: rows.updated + documents.updated,
        unchanged: rows.unchanged + documents.unchanged,
    };
    for letter in page.dead {
        keep_dead_letter(conn, stream_id, page, letter).await?;
    }
    count_run(conn, page, counts).await?;
    Ok(PageOutcome { version, counts })
}

async fn keep_dead_letter(
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
    .bind(letter.reason)
    .bind(&letter.path)
    .bind(&letter.sample)
    .bind(&page.job.job)
    .bind(page.run.to_string())
    .bind(letter.page_no)
    .bind(letter.index)
    .bind(millis(page.now))
    .execute(conn)
    .await
    .map_err(|e| DEAD.failed(e))?;
    Ok(())
}

async fn count_run(conn: &mut SqliteConnection, page: &PageCommit<'_>, counts: PageCounts) -> Result<(), LedgerError> {
    sqlx::query(
        "UPDATE sync_runs SET fetched = fetched + ?2, inserted = inserted + ?3, updated = updated + ?4,
             unchanged = unchanged + ?5, rejected = rejected + ?6, pages = pages + ?7
         WHERE run_id = ?1 AND ended_ms IS NULL",
    )
    .bind(page.run.to_string())
    .bind(signed(page.fetched))
    .bind(signed(counts.inserted))
    .bind(signed(counts.updated))
    .bind(signed(counts.unchanged))
    .bind(signed(page.dead.len() as u64))
    .bind(signed(page.pages))
    .execute(conn)
    .await
    .map_err(|e| COUNT.failed(e))?;
    Ok(())
}
