//! Upserts transactions: inserts new rows, updates changed ones, skips equal ones.
//!
//! The comparison of content hashes makes a page read twice write nothing: no row, no index, no journal. Where the hashes
//! differ, the fields are compared, because an amount or an instant may only be spelled differently.

use rusqlite::params;

use super::codec::millis;
use super::connection::{Statement, Transaction};
use super::owned_page::OwnedPage;
use crate::ledger::error::LedgerError;
use crate::ledger::page::PageCounts;

const UPSERT: &str = "INSERT INTO transactions (stream_id, account_token, record_key, key_quality, account, booked_on, \
     booked_ms, booked_text, granularity, amount, amount_minor, currency, status, counterparty, narration, category, \
     content_hash, run_id, created_ms, updated_ms) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?19) \
     ON CONFLICT (stream_id, account_token, record_key) DO UPDATE SET \
     key_quality = excluded.key_quality, account = excluded.account, booked_on = excluded.booked_on, \
     booked_ms = excluded.booked_ms, booked_text = excluded.booked_text, granularity = excluded.granularity, \
     amount = excluded.amount, amount_minor = excluded.amount_minor, currency = excluded.currency, \
     status = excluded.status, counterparty = excluded.counterparty, narration = excluded.narration, \
     category = excluded.category, content_hash = excluded.content_hash, run_id = excluded.run_id, \
     updated_ms = excluded.updated_ms, revision = transactions.revision + 1 \
     WHERE transactions.content_hash IS NOT excluded.content_hash AND \
     (transactions.key_quality, transactions.account, transactions.booked_on, transactions.booked_ms, \
     CASE WHEN transactions.booked_ms IS NULL THEN transactions.booked_text END, transactions.granularity, \
     transactions.amount_minor, CAST(transactions.amount AS REAL), transactions.currency, transactions.status, \
     transactions.counterparty, \
     transactions.narration, transactions.category) IS NOT \
     (excluded.key_quality, excluded.account, excluded.booked_on, excluded.booked_ms, \
     CASE WHEN excluded.booked_ms IS NULL THEN excluded.booked_text END, excluded.granularity, \
     excluded.amount_minor, CAST(excluded.amount AS REAL), excluded.currency, excluded.status, \
     excluded.counterparty, \
     excluded.narration, excluded.category) RETURNING revision";

pub(super) fn rows(tx: &Transaction<'_>, stream_id: i64, page: &OwnedPage) -> Result<PageCounts, LedgerError> {
    let mut counts = PageCounts::default();
    if page.rows.is_empty() {
        return Ok(counts);
    }
    let (run, now) = (page.run.to_string(), millis(page.now));
    let mut statement = tx.prepare(UPSERT)?;
    for row in &page.rows {
        let record = &row.record;
        count(
            &mut statement,
            params![
                stream_id,
                record.account_token,
                record.key,
                record.key_quality.as_str(),
                record.account,
                record.booked.on.to_string(),
                record.booked.at.map(millis),
                record.booked.text,
                record.booked.granularity.as_str(),
                record.amount.to_string(),
                record.amount_minor.to_string(),
                record.currency,
                record.status.as_str(),
                record.counterparty,
                record.narration,
                record.category,
                row.hash,
                run,
                now,
            ],
            &mut counts,
        )?;
    }
    Ok(counts)
}

/// Executes an upsert that returns the revision of the row that it wrote, if it wrote one, and counts it.
pub(super) fn count(
    statement: &mut Statement<'_>,
    params: &[&dyn rusqlite::ToSql],
    counts: &mut PageCounts,
) -> Result<(), LedgerError> {
    let revision = statement.query_opt(params, |row| super::codec::get::<i64>(row, "revision"))?;
    match revision {
        Some(1) => counts.inserted += 1,
        Some(_) => counts.updated += 1,
        None => counts.unchanged += 1,
    }
    Ok(())
}
