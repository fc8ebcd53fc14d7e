//! Upserts transactions: inserts new rows, updates changed ones, skips equal ones.
//!
//! Many rows per statement, because each statement is a round trip to SQLite's thread. The comparison of content hashes
//! makes a page read twice write nothing: no row, no index, no journal.

use sqlx::sqlite::SqliteConnection;
use sqlx::{QueryBuilder, Sqlite};

use super::codec::{OperationName, millis};
use crate::domain::record::TransactionRecord;
use crate::ledger::error::LedgerError;
use crate::ledger::page::{PageCommit, PageCounts};

const ROWS: OperationName = OperationName("writing rows");

/// Rows per statement: more would hardly reduce the cost per row, and fewer statement lengths fit the statement cache.
pub(super) const ROWS_PER_STATEMENT: usize = 50;

const INSERT: &str = "INSERT INTO transactions (stream_id, account_token, record_key, key_quality, account, booked_on, \
     booked_ms, booked_text, granularity, amount, amount_minor, currency, status, counterparty, narration, category, \
     content_hash, run_id, created_ms, updated_ms) ";

const ON_CONFLICT: &str = " ON CONFLICT (stream_id, account_token, record_key) DO UPDATE SET \
     key_quality = excluded.key_quality, account = excluded.account, booked_on = excluded.booked_on, \
     booked_ms = excluded.booked_ms, booked_text = excluded.booked_text, granularity = excluded.granularity, \
     amount = excluded.amount, amount_minor = excluded.amount_minor, currency = excluded.currency, \
     status = excluded.status, counterparty = excluded.counterparty, narration = excluded.narration, \
     category = excluded.category, content_hash = excluded.content_hash, run_id = excluded.run_id, \
     updated_ms = excluded.updated_ms, revision = transactions.revision + 1 \
     WHERE transactions.content_hash IS NOT excluded.content_hash RETURNING revision";

pub(super) async fn rows(
    conn: &mut SqliteConnection,
    stream_id: i64,
    page: &PageCommit<'_>,
) -> Result<PageCounts, LedgerError> {
    let mut counts = PageCounts::default();
    let run = page.run.to_string();
    let now = millis(page.now);
    for chunk in page.rows.chunks(ROWS_PER_STATEMENT) {
        let mut sql: QueryBuilder<Sqlite> = QueryBuilder::new(INSERT);
        sql.push_values(chunk, |mut row, record: &TransactionRecord| {
            row.push_bind(stream_id)
                .push_bind(&record.account_token)
                .push_bind(&record.key)
                .push_bind(record.key_quality.as_str())
                .push_bind(&record.account)
                .push_bind(record.booked.on.to_string())
                .push_bind(record.booked.at.map(millis))
                .push_bind(&record.booked.text)
                .push_bind(record.booked.granularity.as_str())
                .push_bind(record.amount.to_string())
                .push_bind(record.amount_minor.to_string())
                .push_bind(&record.currency)
                .push_bind(record.status.as_str())
                .push_bind(record.counterparty.as_deref())
                .push_bind(record.narration.as_deref())
                .push_bind(record.category.as_deref())
                .push_bind(record.content_hash().to_vec())
                .push_bind(&run)
                .push_bind(now)
                .push_bind(now);
        });
        sql.push(ON_CONFLICT);
        counts += execute(conn, sql, chunk.len(), ROWS).await?;
    }
    Ok(counts)
}

/// Executes an upsert of `rows` rows that returns the revision of each row it wrote, and counts them.
pub(super) async fn execute(
    conn: &mut SqliteConnection,
    mut sql: QueryBuilder<Sqlite>,
    rows: usize,
    operation: OperationName,
) -> Result<PageCounts, LedgerError> {
    let revisions: Vec<i64> = sql.build_query_scalar().fetch_all(conn).await.map_err(|e| operation.failed(e))?;
    let inserted = revisions.iter().filter(|revision| **revision == 1).count() as u64;
    let written = revisions.len() as u64;
    let unchanged = (rows as u64).saturating_sub(written);
    Ok(PageCounts { inserted, updated: written - inserted, unchanged })
}
