//! Stages the rows of a window that takes effect as a whole, and merges them.
//!
//! Staged is the newest of each key: a row, or that the provider withdrew it. A merge reads them in pieces, so that its
//! memory does not grow with the window.

use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::query;

use super::codec::get;
use super::lease::assert_held;
use super::piece::{self, Piece};
use super::rows::{PageStamp, RawRefs};
use super::transaction::Transaction;
use crate::domain::records::RemovedKey;
use crate::domain::row_batch::{Cell, RowBatch, RowView, tables};
use crate::ledger::error::LedgerError;
use crate::ledger::page::{PageCommit, PageCounts};

/// Rows that are merged at a time.
const PIECE: i64 = 1_000;

/// Drops what the cursor of a page has staged.
pub(super) async fn drop_staged(
    tx: &mut Transaction,
    stream_id: i64,
    page: &PageCommit<'_>,
) -> Result<(), LedgerError> {
    // Checked at the start of the transaction too; here, because this is what deletes.
    assert_held(tx, page.lease).await?;
    let statement = query("DELETE FROM staged_rows WHERE stream_id = $1 AND job = $2");
    tx.execute(statement.bind(stream_id).bind(&page.cursor.job)).await.map(drop)
}

/// Stages a page.
pub(super) async fn stage(
    tx: &mut Transaction,
    stream_id: i64,
    page: &PageCommit<'_>,
    batches: &[RowBatch],
) -> Result<(), LedgerError> {
    let raw_ref = page.raw.map(|raw| raw.id.to_string());
    let rows: Vec<RowView<'_>> = batches.iter().flat_map(RowBatch::rows).collect();
    if !rows.is_empty() {
        stage_rows(tx, stream_id, page, &rows, raw_ref.as_deref()).await?;
    }
    // After the rows: what a page withdraws is withdrawn, although it lists it too.
    for removed in page.removed {
        stage_mark(tx, stream_id, page, removed, raw_ref.as_deref()).await?;
    }
    Ok(())
}

async fn stage_rows(
    tx: &mut Transaction,
    stream_id: i64,
    page: &PageCommit<'_>,
    rows: &[RowView<'_>],
    raw_ref: Option<&str>,
) -> Result<(), LedgerError> {
    assert_held(tx, page.lease).await?;
    let keys: Vec<&str> = rows.iter().map(|row| row.key()).collect();
    let accounts: Vec<&str> = rows.iter().map(|row| row.account_token()).collect();
    // A row takes the place of the mark that it was withdrawn, whether or not that names its account. The mark of another
    // account stays.
    let drop_marks = query(
        "DELETE FROM staged_rows s USING unnest($3::text[], $4::text[]) AS p (key, account)
         WHERE s.stream_id = $1 AND s.job = $2 AND s.record_key = p.key AND s.cells IS NULL
             AND s.account_token IN ('', p.account)",
    );
    tx.execute(drop_marks.bind(stream_id).bind(&page.cursor.job).bind(&keys).bind(&accounts)).await?;
    let statement = query(
        "INSERT INTO staged_rows (stream_id, job, raw_ref, record_key, table_name, account_token, key_quality, cells,
             content_hash)
         SELECT $1, $2, $3, p.* FROM unnest($4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::bytea[]) p
         ON CONFLICT (stream_id, job, record_key, account_token, table_name) DO UPDATE SET
             key_quality = excluded.key_quality, cells = excluded.cells, content_hash = excluded.content_hash,
             raw_ref = excluded.raw_ref",
    );
    let statement = statement
        .bind(stream_id)
        .bind(&page.cursor.job)
        .bind(raw_ref)
        .bind(keys)
        .bind(rows.iter().map(|row| row.table().name).collect::<Vec<_>>())
        .bind(accounts)
        .bind(rows.iter().map(|row| row.key_quality()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| encoded(*row)).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.hash().as_slice()).collect::<Vec<&[u8]>>());
    tx.execute(statement).await.map(drop)
}

/// A mark takes the place of the rows of its key: of one account, or of any.
async fn stage_mark(
    tx: &mut Transaction,
    stream_id: i64,
    page: &PageCommit<'_>,
    removed: &RemovedKey,
    raw_ref: Option<&str>,
) -> Result<(), LedgerError> {
    assert_held(tx, page.lease).await?;
    let account = removed.account_token.as_deref().unwrap_or_default();
    let drop_rows = query(
        "DELETE FROM staged_rows WHERE stream_id = $1 AND job = $2 AND record_key = $3
         AND ($4 = '' OR account_token = $4)",
    );
    tx.execute(drop_rows.bind(stream_id).bind(&page.cursor.job).bind(&removed.key).bind(account)).await?;
    let statement = query(
        "INSERT INTO staged_rows (stream_id, job, table_name, record_key, account_token, key_quality, raw_ref)
         VALUES ($1, $2, '', $3, $4, '', $5)
         ON CONFLICT (stream_id, job, record_key, account_token, table_name) DO UPDATE SET raw_ref = excluded.raw_ref",
    );
    let statement = statement.bind(stream_id).bind(&page.cursor.job).bind(&removed.key).bind(account).bind(raw_ref);
    tx.execute(statement).await.map(drop)
}

/// Writes what is staged, and empties the staging.
pub(super) async fn merge(
    tx: &mut Transaction,
    page: &PageCommit<'_>,
    stamp: &PageStamp,
) -> Result<PageCounts, LedgerError> {
    let mut counts = PageCounts::default();
    let mut after = Staged::default();
    loop {
        let next = query(
            "SELECT table_name, record_key, account_token, key_quality, cells, content_hash, raw_ref
             FROM staged_rows WHERE stream_id = $1 AND job = $2 AND (record_key, account_token, table_name) > ($3, $4, $5)
             ORDER BY record_key, account_token, table_name LIMIT $6",
        );
        let next = next.bind(stamp.stream_id).bind(&page.cursor.job).bind(&after.key).bind(&after.account_token);
        let rows = tx.fetch_all(next.bind(&after.table).bind(PIECE)).await?;
        let staged = rows.iter().map(decode).collect::<Result<Vec<_>, _>>()?;
        let Some(last) = staged.last() else { break };
        after = Staged { cells: None, ..last.clone() };
        counts += write_staged(tx, page, stamp, &staged).await?;
    }
    if page.pending.is_some() {
        counts += piece::write(tx, page, stamp, &Piece { pending: page.pending, ..Piece::default() }).await?;
    }
    drop_staged(tx, stamp.stream_id, page).await?;
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

fn decode(row: &PgRow) -> Result<Staged, LedgerError> {
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

/// The staged rows of one table.
struct StagedBatch {
    batch: RowBatch,
    raw_refs: Vec<Option<String>>,
}

async fn write_staged(
    tx: &mut Transaction,
    page: &PageCommit<'_>,
    stamp: &PageStamp,
    staged: &[Staged],
) -> Result<PageCounts, LedgerError> {
    let (mut staged_batches, mut removed) = (Vec::<StagedBatch>::new(), Vec::new());
    for row in staged {
        let Some(cells) = &row.cells else {
            let account_token = Some(row.account_token.clone()).filter(|account| !account.is_empty());
            removed.push(RemovedKey { account_token, key: row.key.clone() });
            continue;
        };
        let into = batch_of(&mut staged_batches, &row.table)?;
        let key = [&row.account_token, &row.key, &row.key_quality].map(|text| Cell::Text(text));
        into.batch.push_stored(key.into_iter().chain(cells.iter().map(cell)), row.hash);
        into.raw_refs.push(row.raw_ref.clone());
    }
    let (batches, refs): (Vec<RowBatch>, Vec<Vec<Option<String>>>) =
        staged_batches.into_iter().map(|staged| (staged.batch, staged.raw_refs)).unzip();
    let raw_refs = refs.iter().map(|refs| RawRefs::Each(refs)).collect();
    piece::write(tx, page, stamp, &Piece { batches: &batches, raw_refs, removed: &removed, pending: None }).await
}

fn batch_of<'s>(batches: &'s mut Vec<StagedBatch>, name: &str) -> Result<&'s mut StagedBatch, LedgerError> {
    let corrupt = || LedgerError::Corrupt { column: "staged_rows.table_name" };
    let place = if let Some(place) = batches.iter().position(|staged| staged.batch.table().name == name) {
        place
    } else {
        let table = tables().find(|table| table.name == name).ok_or_else(corrupt)?;
        batches.push(StagedBatch { batch: RowBatch::new(table), raw_refs: Vec::new() });
        batches.len() - 1
    };
    batches.get_mut(place).ok_or_else(corrupt)
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
