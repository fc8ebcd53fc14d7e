//! Writes rows of any kind: inserts new ones, updates changed ones, skips equal ones.
//!
//! What is stored is compared before anything is written, so that a page read twice writes nothing: no row, no index,
//! no journal. Where the hashes differ, the values are compared, because an amount or an instant may only be spelled
//! differently.

use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Row, params};

use super::codec::{get, millis};
use super::connection::{Statement, Transaction};
use super::owned_page::OwnedPage;
use crate::domain::event::{ChangedRow, RowChange};
use crate::domain::record::RowStatus;
use crate::domain::records::Table;
use crate::domain::row_batch::{Cell, RowBatch, RowView, TRANSACTIONS};
use crate::ledger::error::LedgerError;
use crate::ledger::page::PageCounts;

/// The place of the first of a row's own parameters; those before it are the same for all rows of a page.
const HASH: usize = 5;
const KEY: usize = 6;
const VALUES: usize = 9;

/// What all rows of a page have in common.
pub(super) struct PageStamp {
    pub(super) stream_id: i64,
    pub(super) run: String,
    pub(super) now: i64,
    /// Whether the page says which transactions of its account are pending.
    pub(super) lists_pending: bool,
}

impl PageStamp {
    pub(super) fn new(stream_id: i64, page: &OwnedPage) -> Self {
        Self { stream_id, run: page.run.to_string(), now: millis(page.now), lists_pending: page.pending.is_some() }
    }
}

/// Which raw payload the rows of a batch were read from.
#[derive(Copy, Clone)]
pub(super) enum RawRefs<'a> {
    /// All of them from one, if it is stored.
    Page(Option<&'a str>),
    /// Each from its own.
    Each(&'a [Option<String>]),
}

impl<'a> RawRefs<'a> {
    fn of(self, row: usize) -> Option<&'a str> {
        match self {
            Self::Page(id) => id,
            Self::Each(ids) => ids.get(row).and_then(Option::as_deref),
        }
    }
}

/// What was written.
#[derive(Default)]
pub(super) struct Written<'b> {
    pub(super) counts: PageCounts,
    pub(super) changed: Vec<ChangedRow<'b>>,
}

/// A stored row with the key of one that arrives.
struct Stored {
    id: i64,
    revision: i64,
    is_same: bool,
    is_deleted: bool,
}

/// Writes the rows of a batch.
pub(super) fn write<'b>(
    tx: &Transaction<'_>,
    stamp: &PageStamp,
    batch: &'b RowBatch,
    raw_refs: RawRefs<'_>,
    written: &mut Written<'b>,
) -> Result<(), LedgerError> {
    let mut writer = BatchWriter::new(tx, stamp, batch.table())?;
    // Most pages are all new or all known: what the last row was decides which is tried first.
    let mut is_new = false;
    for (place, row) in batch.rows().enumerate() {
        let raw_ref = raw_refs.of(place);
        if is_new && writer.insert(row, raw_ref)? {
            written.add(row, RowChange::Inserted, 1);
            continue;
        }
        let stored = writer.find(row)?;
        is_new = stored.is_none();
        match stored {
            None => {
                writer.insert(row, raw_ref)?;
                written.add(row, RowChange::Inserted, 1);
            }
            Some(stored) if stored.is_same && !stored.is_deleted => written.counts.unchanged += 1,
            Some(stored) if is_equal(tx, stamp, &stored, row)? => written.counts.unchanged += 1,
            Some(stored) => {
                writer.update(&stored, row, raw_ref)?;
                written.add(row, RowChange::Updated, stored.revision + 1);
            }
        }
    }
    Ok(())
}

impl<'b> Written<'b> {
    fn add(&mut self, row: RowView<'b>, change: RowChange, revision: i64) {
        match change {
            RowChange::Inserted => self.counts.inserted += 1,
            _ => self.counts.updated += 1,
        }
        self.changed.push(ChangedRow { change, revision, row });
    }
}

/// Whether a row whose hash differs has the stored content all the same, or must not replace it.
fn is_equal(tx: &Transaction<'_>, stamp: &PageStamp, stored: &Stored, row: RowView<'_>) -> Result<bool, LedgerError> {
    if stored.is_deleted {
        return Ok(false);
    }
    let known = stored_row(tx, row.table(), stored.id)?;
    let Some(known) = known.row(0) else { return Ok(false) };
    // What a booked row replaced may still be listed as pending, except where being listed is what keeps it pending.
    let is_replaced = !stamp.lists_pending
        && row.table().name == TRANSACTIONS.name
        && known.get("status").as_text() == Some(RowStatus::Superseded.as_str())
        && row.get("status").as_text() == Some(RowStatus::Pending.as_str());
    Ok(is_replaced || known.has_content_of(row))
}

/// A row as it is stored; an empty batch if it is not.
pub(super) fn stored_row(tx: &Transaction<'_>, table: &'static Table, id: i64) -> Result<RowBatch, LedgerError> {
    let mut batch = RowBatch::new(table);
    let sql = format!(
        "SELECT account_token, record_key, key_quality{}, content_hash FROM {} WHERE id = ?1",
        columns(table, ""),
        table.name
    );
    tx.query_opt(&sql, params![id], |row| push_row(&mut batch, row))?;
    Ok(batch)
}

/// Appends a row that starts with the cells of its key and those of its columns, and ends with its hash.
pub(super) fn push_row(batch: &mut RowBatch, row: &Row<'_>) -> Result<(), LedgerError> {
    let width = 3 + batch.table().columns.len();
    let cells = (0..width).map(|place| cell(row, place)).collect::<Result<Vec<_>, _>>()?;
    let hash: Vec<u8> = get(row, "content_hash")?;
    batch.push_stored(cells, hash.try_into().unwrap_or_default());
    Ok(())
}

fn cell<'r>(row: &'r Row<'_>, place: usize) -> Result<Cell<'r>, LedgerError> {
    let corrupt = || LedgerError::Corrupt { column: "(record)" };
    Ok(match row.get_ref(place).map_err(|_| corrupt())? {
        ValueRef::Null => Cell::Null,
        ValueRef::Integer(number) => Cell::Integer(number),
        ValueRef::Text(text) => Cell::Text(std::str::from_utf8(text).map_err(|_| corrupt())?),
        ValueRef::Real(_) | ValueRef::Blob(_) => return Err(corrupt()),
    })
}

/// The names of a table's own columns, each after a comma and a prefix.
pub(super) fn columns(table: &Table, prefix: &str) -> String {
    table.columns.iter().fold(String::new(), |all, column| all + ", " + prefix + column.name)
}

/// The statements of one table, with what all rows of the page have in common.
struct BatchWriter<'t> {
    tx: &'t Transaction<'t>,
    stamp: &'t PageStamp,
    table: &'static Table,
    find: Statement<'t>,
    insert: Statement<'t>,
    /// Prepared by the first row that changed.
    update: Option<Statement<'t>>,
}

impl<'t> BatchWriter<'t> {
    fn new(tx: &'t Transaction<'t>, stamp: &'t PageStamp, table: &'static Table) -> Result<Self, LedgerError> {
        let name = table.name;
        let mut find = tx.prepare(&format!(
            "SELECT id, revision, content_hash, deleted_ms IS NOT NULL AS deleted FROM {name} \
             WHERE stream_id = ?1 AND account_token = ?2 AND record_key = ?3"
        ))?;
        find.bind(1, stamp.stream_id)?;
        let places = VALUES..VALUES + table.columns.len();
        let values = places.fold(String::new(), |all, place| all + ", ?" + &place.to_string());
        let mut insert = tx.prepare(&format!(
            "INSERT INTO {name} (stream_id, run_id, created_ms, updated_ms, raw_ref, content_hash, account_token, \
             record_key, key_quality{}) VALUES (?1, ?2, ?3, ?3, ?4, ?5, ?6, ?7, ?8{values}) ON CONFLICT DO NOTHING",
            columns(table, "")
        ))?;
        insert.bind(1, stamp.stream_id)?;
        insert.bind(2, &stamp.run)?;
        insert.bind(3, stamp.now)?;
        Ok(Self { tx, stamp, table, find, insert, update: None })
    }

    fn find(&mut self, row: RowView<'_>) -> Result<Option<Stored>, LedgerError> {
        self.find.bind(2, row.account_token())?;
        self.find.bind(3, row.key())?;
        self.find.query_bound(|stored| {
            Ok(Stored {
                id: get(stored, "id")?,
                revision: get(stored, "revision")?,
                is_same: stored.get_ref("content_hash").is_ok_and(|hash| hash == ValueRef::Blob(row.hash())),
                is_deleted: get(stored, "deleted")?,
            })
        })
    }

    /// Inserts a row; `false` if there is one with its key.
    fn insert(&mut self, row: RowView<'_>, raw_ref: Option<&str>) -> Result<bool, LedgerError> {
        bind_row(&mut self.insert, row, raw_ref)?;
        Ok(self.insert.execute_bound()? == 1)
    }

    fn update(&mut self, stored: &Stored, row: RowView<'_>, raw_ref: Option<&str>) -> Result<(), LedgerError> {
        if self.update.is_none() {
            self.update = Some(self.prepare_update()?);
        }
        let Some(update) = &mut self.update else { return Ok(()) };
        update.bind(1, stored.id)?;
        bind_row(update, row, raw_ref)?;
        update.execute_bound().map(drop)
    }

    fn prepare_update(&self) -> Result<Statement<'t>, LedgerError> {
        let columns = self.table.columns.iter().zip(VALUES..);
        let values =
            columns.fold(String::new(), |all, (column, place)| all + ", " + column.name + " = ?" + &place.to_string());
        // The key is named, so that every parameter exists.
        let mut update = self.tx.prepare(&format!(
            "UPDATE {} SET run_id = ?2, updated_ms = ?3, raw_ref = ?4, content_hash = ?5, account_token = ?6, \
             record_key = ?7, key_quality = ?8{values}, deleted_ms = NULL, revision = revision + 1 WHERE id = ?1",
            self.table.name
        ))?;
        update.bind(2, &self.stamp.run)?;
        update.bind(3, self.stamp.now)?;
        Ok(update)
    }
}

fn bind_row(statement: &mut Statement<'_>, row: RowView<'_>, raw_ref: Option<&str>) -> Result<(), LedgerError> {
    statement.bind(HASH - 1, raw_ref)?;
    statement.bind(HASH, row.hash())?;
    statement.bind(KEY, row.account_token())?;
    statement.bind(KEY + 1, row.key())?;
    statement.bind(KEY + 2, row.key_quality())?;
    for (place, (_, cell)) in (VALUES..).zip(row.cells()) {
        statement.bind(place, Bound(cell))?;
    }
    Ok(())
}

/// A cell as a parameter.
struct Bound<'a>(Cell<'a>);

impl ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self.0 {
            Cell::Null => ValueRef::Null,
            Cell::Text(text) => ValueRef::Text(text.as_bytes()),
            Cell::Integer(number) => ValueRef::Integer(number),
        }))
    }
}
