//! Stages the rows of a window that takes effect as a whole, and merges them.
//!
//! Staged is the newest of each key: a row, or that the provider withdrew it. A merge reads them in pieces, so that its
//! memory does not grow with the window.

use rusqlite::{Row, params};
use serde_json::Value;

use super::codec::get;
use super::connection::Transaction;
use super::lease::assert_held;
use super::owned_page::OwnedPage;
use super::piece::{self, Piece};
use super::rows::{PageStamp, RawRefs};
use crate::domain::records::RemovedKey;
use crate::domain::row_batch::{Cell, RowBatch, RowView, tables};
use crate::ledger::error::LedgerError;
use crate::ledger::page::PageCounts;

/// Rows that are merged at a time.
const PIECE: i64 = 1_000;

const DROP: &str = "DELETE FROM staged_rows WHERE stream_id = ?1 AND job = ?2";
/// A row takes the place of the mark that it was withdrawn, whether or not that names its account. The mark of another
/// account stays.
const DROP_MARK: &str = "DELETE FROM staged_rows WHERE stream_id = ?1 AND job = ?2 AND record_key = ?3 \
     AND cells IS NULL AND account_token IN ('', ?4)";
/// A mark takes the place of the rows of its key: of one account, or of any.
const DROP_ROWS: &str = "DELETE FROM staged_rows WHERE stream_id = ?1 AND job = ?2 AND record_key = ?3 \
     AND (?4 = '' OR account_token = ?4)";
const STAGE: &str = "INSERT OR REPLACE INTO staged_rows (stream_id, job, table_name, record_key, account_token, \
     key_quality, cells, content_hash, raw_ref) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
const NEXT: &str = "SELECT table_name, record_key, account_token, key_quality, cells, content_hash, raw_ref \
     FROM staged_rows WHERE stream_id = ?1 AND job = ?2 AND (record_key, account_token, table_name) > (?3, ?4, ?5) \
     ORDER BY record_key, account_token, table_name LIMIT ?6";

/// Drops what the cursor of a page has staged.
pub(super) fn drop_staged(tx: &Transaction<'_>, stream_id: i64, page: &OwnedPage) -> Result<(), LedgerError> {
    // Checked at the start of the transaction too; here, because this is what deletes.
    assert_held(tx, &page.lease)?;
    tx.execute(DROP, params![stream_id, page.cursor.job]).map(drop)
}

/// Stages a page.
pub(super) fn stage(tx: &Transaction<'_>, stream_id: i64, page: &OwnedPage) -> Result<(), LedgerError> {
    let job = &page.cursor.job;
    let raw_ref = page.raw.as_ref().map(|raw| raw.id.to_string());
    for row in page.batches.iter().flat_map(RowBatch::rows) {
        tx.execute(DROP_MARK, params![stream_id, job, row.key(), row.account_token()])?;
        let (table, account, quality) = (row.table().name, row.account_token(), row.key_quality());
        let (cells, hash) = (encoded(row), row.hash());
        tx.execute(STAGE, params![stream_id, job, table, row.key(), account, quality, cells, hash, raw_ref])?;
    }
    // After the rows: what a page withdraws is withdrawn, although it lists it too.
    for removed in &page.removed {
        let account = removed.account_token.as_deref().unwrap_or_default();
        tx.execute(DROP_ROWS, params![stream_id, job, removed.key, account])?;
        let nothing: Option<&str> = None;
        tx.execute(STAGE, params![stream_id, job, "", removed.key, account, "", nothing, nothing, raw_ref])?;
    }
    Ok(())
}

/// Writes what is staged, and empties the staging.
pub(super) fn merge(tx: &Transaction<'_>, page: &OwnedPage, stamp: &PageStamp) -> Result<PageCounts, LedgerError> {
    let mut counts = PageCounts::default();
    let mut after = Staged::default();
    loop {
        let job = &page.cursor.job;
        let staged = tx.query_all(
            NEXT,
            params![stamp.stream_id, job, after.key, after.account_token, after.table, PIECE],
            decode,
        )?;
        let Some(last) = staged.last() else { break };
        after = Staged { cells: None, ..last.clone() };
        counts += write_staged(tx, page, stamp, &staged)?;
    }
    if let Some(snapshot) = &page.pending {
        counts += piece::write(tx, page, stamp, &Piece { pending: Some(snapshot), ..Piece::default() })?;
    }
    drop_staged(tx, stamp.stream_id, page)?;
    Ok(counts)
}

/// A staged row. The default is before all of them.
#[derive(Clone, Default)]
struct Staged {
    table: String,
    key: String,
    account_token: String,
    key_quality: String,
    cells: Option<Vec<Value>>,
    hash: [u8; 32],
    raw_ref: Option<String>,
}

fn decode(row: &Row<'_>) -> Result<Staged, LedgerError> {
    let corrupt = |_| LedgerError::Corrupt { column: "staged_rows.cells" };
    let (cells, hash): (Option<String>, Option<Vec<u8>>) = (get(row, "cells")?, get(row, "content_hash")?);
    Ok(Staged {
        table: get(row, "table_name")?,
        key: get(row, "record_key")?,
        account_token: get(row, "account_token")?,
        key_quality: get(row, "key_quality")?,
        cells: cells.map(|cells| serde_json::from_str(&cells)).transpose().map_err(corrupt)?,
        hash: hash.unwrap_or_default().try_into().unwrap_or_default(),
        raw_ref: get(row, "raw_ref")?,
    })
}

fn write_staged(
    tx: &Transaction<'_>,
    page: &OwnedPage,
    stamp: &PageStamp,
    staged: &[Staged],
) -> Result<PageCounts, LedgerError> {
    let (mut batches, mut raw_refs, mut removed) = (Vec::<RowBatch>::new(), Vec::new(), Vec::new());
    for row in staged {
        let Some(cells) = &row.cells else {
            let account_token = Some(row.account_token.clone()).filter(|account| !account.is_empty());
            removed.push(RemovedKey { account_token, key: row.key.clone() });
            continue;
        };
        let place = batches.iter().position(|batch| batch.table().name == row.table);
        let place = if let Some(place) = place {
            place
        } else {
            let table = tables().find(|table| table.name == row.table);
            batches.push(RowBatch::new(table.ok_or(LedgerError::Corrupt { column: "staged_rows.table_name" })?));
            raw_refs.push(Vec::new());
            batches.len() - 1
        };
        if let (Some(batch), Some(refs)) = (batches.get_mut(place), raw_refs.get_mut(place)) {
            let key = [&row.account_token, &row.key, &row.key_quality].map(|text| Cell::Text(text));
            batch.push_stored(key.into_iter().chain(cells.iter().map(cell)), row.hash);
            refs.push(row.raw_ref.clone());
        }
    }
    let raw_refs = raw_refs.iter().map(|refs: &Vec<Option<String>>| RawRefs::Each(refs)).collect();
    piece::write(tx, page, stamp, &Piece { batches: &batches, raw_refs, removed: &removed, pending: None })
}

fn encoded(row: RowView<'_>) -> String {
    let values = row.cells().map(|(_, cell)| match cell {
        Cell::Null => Value::Null,
        Cell::Text(text) => Value::from(text),
        Cell::Integer(number) => Value::from(number),
    });
    Value::Array(values.collect()).to_string()
}

fn cell(value: &Value) -> Cell<'_> {
    match value {
        Value::String(text) => Cell::Text(text),
        Value::Number(number) => number.as_i64().map_or(Cell::Null, Cell::Integer),
        _ => Cell::Null,
    }
}
